//! What has a budget, each measured beside it.
//!
//! What queries, writes and builds of indexes cost is measured with the engine on the embedded store, in this process;
//! what users wait for, with a server process and clients that speak gRPC.
//! Every figure is a count or a ratio within one run, printed beside its budget. The million documents are kept in
//! the folder, and used again when the same folder is named; filling it takes some minutes.

mod channel;
mod data;
mod log;
mod matching;
mod past;
mod reads;
mod rest;
mod served;
mod size;
mod writer;
mod writes;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use data::Database;
use served::Setting;
use writer::By;

/// Of so many documents one is backed up.
const BACKED_UP: usize = 5;

#[derive(Args)]
pub struct Arguments {
    /// Where the data lies; on a disk, not in memory.
    #[arg(long, default_value = "/tmp/watchfire-budgets")]
    folder: PathBuf,
    /// Documents of the large collection; the small one has a hundredth.
    #[arg(long, default_value_t = 1_000_000)]
    documents: usize,
    /// Seconds of each measurement of commits.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The server binary, for what is measured with a server.
    #[arg(long, env = "WATCHFIRE_BIN")]
    server: Option<PathBuf>,
    /// Connections over which the clients of a server spread.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// How the clients commit that are held beside the bare store; both, one after the other, when it is not said.
    #[arg(long)]
    by: Option<By>,
    /// What is measured; everything when nothing is named.
    which: Vec<Which>,
}

#[derive(Copy, Clone, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Equality, order and limit over a small and a large collection.
    Limit,
    /// Three filters that match a tenth each and together next to nothing.
    Join,
    /// Counting everything.
    Count,
    /// Commits beside the same bytes put straight into the store.
    Write,
    /// A build of an index beside commits.
    Build,
    /// Bytes on disk.
    Size,
    /// A server's durable commits beside the bare store with the same batches.
    Commits,
    /// Increments of one document beside increments of many.
    Hot,
    /// One client's commits beside the disk's own flushes.
    Single,
    /// A query half an hour and a hundred thousand commits ago beside the same query now.
    Past,
    /// Reads while a backup runs beside reads without.
    Backup,
    /// Reads of one document over plain HTTP beside those over gRPC.
    Rest,
    /// Listeners over WebChannel beside those over gRPC.
    Channel,
    /// A change among a thousand and among a million targets, and changes among many mixed ones.
    Matching,
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let wanted = |which| arguments.which.is_empty() || arguments.which.contains(&which);
    if wanted(Which::Write) {
        writes::cost(&arguments.folder, Duration::from_secs(arguments.seconds)).await?;
    }
    if wanted(Which::Matching) {
        matching::growth().await?;
        matching::rate()?;
    }
    let with_server = [
        Which::Commits,
        Which::Hot,
        Which::Single,
        Which::Past,
        Which::Backup,
        Which::Rest,
        Which::Channel,
    ];
    if with_server.into_iter().any(wanted) {
        let setting = Setting {
            binary: arguments.server.as_deref().context("--server is needed")?,
            folder: &arguments.folder.join("with-server"),
            length: Duration::from_secs(arguments.seconds),
            connections: arguments.connections,
        };
        if wanted(Which::Commits) {
            for by in [By::Unary, By::Stream] {
                if arguments.by.is_none_or(|only| only == by) {
                    served::commits_beside_store(&setting, by).await?;
                }
            }
        }
        if wanted(Which::Hot) {
            served::hot(&setting).await?;
        }
        if wanted(Which::Single) {
            served::single(&setting).await?;
        }
        if wanted(Which::Past) {
            past::past(&setting).await?;
        }
        if wanted(Which::Backup) {
            past::backup(&setting, arguments.documents / BACKED_UP).await?;
        }
        if wanted(Which::Rest) {
            rest::reads(&setting).await?;
        }
        if wanted(Which::Channel) {
            channel::delivery(&setting).await?;
        }
        std::fs::remove_dir_all(setting.folder)?;
    }
    let reads = [
        Which::Limit,
        Which::Join,
        Which::Count,
        Which::Build,
        Which::Size,
    ];
    if !reads.into_iter().any(wanted) {
        return Ok(());
    }
    let folder = arguments.folder.join("million");
    let database = Database::open(&folder).await?;
    database.fill(arguments.documents).await?;
    if wanted(Which::Limit) {
        reads::limit(&database).await?;
    }
    if wanted(Which::Join) {
        reads::join(&database).await?;
    }
    if wanted(Which::Count) {
        reads::count(&database, arguments.documents).await?;
    }
    if wanted(Which::Build) {
        writes::build(
            &database,
            arguments.documents,
            Duration::from_secs(arguments.seconds),
        )
        .await?;
    }
    database.close().await?;
    if wanted(Which::Size) {
        size::print(
            &folder,
            arguments.documents + arguments.documents / data::SMALLER,
        )?;
    }
    Ok(())
}

/// Prints a figure with what it may be at most (or at least).
pub fn at_most(name: &str, figure: f64, budget: f64) {
    let verdict = if figure <= budget { "within" } else { "MISSES" };
    println!("  {verdict} the budget: {name} {figure:.2}, at most {budget}");
}

pub fn at_least(name: &str, figure: f64, budget: f64) {
    let verdict = if figure >= budget { "within" } else { "MISSES" };
    println!("  {verdict} the budget: {name} {figure:.2}, at least {budget}");
}

fn median(taken: &mut [Duration]) -> Result<Duration> {
    taken.sort_unstable();
    taken
        .get(taken.len() / 2)
        .copied()
        .context("something was measured")
}

fn middle(figures: &mut [f64]) -> Result<f64> {
    figures.sort_unstable_by(f64::total_cmp);
    figures
        .get(figures.len() / 2)
        .copied()
        .context("something was measured")
}

async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let answer = work.await?;
    Ok((answer, start.elapsed()))
}
