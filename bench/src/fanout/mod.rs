//! From one write to very many listeners, over real gRPC, beside other servers that are measured in the same way.
//!
//! # What is measured
//!
//! Every listener has a Listen stream of its own; a connection carries many of them. What is written says when its
//! write began and has a number that rises. Delivered is what was really sent: a server may leave out a version of a
//! document that a newer one has replaced, and what is left out does not count. The latency of a message goes from the
//! start of its write to the return of the read that brought it.
//!
//! *As fast as it goes* means the same for every server: `--writers`, each with a document of its own that all
//! listeners listen to and with numbers of its own, whose next write begins when its last one was acknowledged and no
//! listener is more than its share of `--behind` writes behind. One writer alone waits most of the time, for the disk or
//! for the way there and back, and says how soon a server answers rather than how much it delivers; with as many writers
//! as writes may be behind, every server has the same number of writes to work on all the time.
//! With `--behind 0` writers do not look at the listeners, and what is measured is how a server sheds what it cannot
//! send. The rate is all messages from the first write to the receipt of the last one by the slowest listener. A run
//! fails if the numbers of a writer do not rise for a listener, or if the last write of one does not reach everybody.
//!
//! # The generator
//!
//! It computes on the server's cores, so it is as light as it can be: one task for a connection, no decoding, one
//! report for each read. Each row says what server and generator computed for a message. Windows of HTTP/2 are the
//! same for all: 1 MiB for a stream, 16 MiB for a connection.
//!
//! # What is not done
//!
//! Several writers of one document: the order of their commits would not be the order of their numbers.
//! Several machines. Redis is told what it publishes and stores nothing; emulators store in memory; Watchfire
//! acknowledges what is on the disk.

mod listeners;
mod message;
mod modes;
mod peer;
mod receipts;
mod redis;
mod report;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};

use peer::{Peer, Programs};

/// Files that must be open beside those of the listeners.
const FILES_BESIDE: u64 = 1_000;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    programs: Programs,
    /// Who is measured, one after the other.
    #[arg(long = "peer", default_values = ["watchfire"], value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Listeners, or documents with a listener each; what the mode says if nothing is given.
    #[arg(long, value_delimiter = ',')]
    listeners: Vec<usize>,
    /// Listen streams of one connection.
    #[arg(long, default_value_t = 100)]
    streams_per_connection: usize,
    /// Bytes of the document's text.
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Writers where it is written as fast as it goes, each of a document that everybody listens to.
    #[arg(long, default_value_t = 16)]
    writers: usize,
    /// Writes of all writers that a listener may be behind before the next one begins; 0: no matter how many.
    #[arg(long, default_value_t = 16)]
    behind: u64,
    /// Writes per second, where they are paced.
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How often everything is measured, the servers in turns.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// What is measured; everything when nothing is named.
    modes: Vec<Mode>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// What everybody listens to, as fast as it goes.
    Hot,
    /// One document, so many writes per second.
    Paced,
    /// A listener on each of many documents, one of them written.
    Distinct,
    /// Memory of idle streams, and of further targets on them.
    Memory,
    /// From commit to receipt at low load.
    Quiet,
    /// Commits of sixteen writers beside idle listeners and without.
    Commits,
    /// All listeners lose their connections and come back with their tokens.
    Storm,
}

const MODES: [Mode; 7] = [
    Mode::Hot,
    Mode::Paced,
    Mode::Distinct,
    Mode::Memory,
    Mode::Quiet,
    Mode::Commits,
    Mode::Storm,
];

impl Mode {
    fn listeners(self) -> &'static [usize] {
        match self {
            Self::Hot => &[100, 1_000, 5_000],
            Self::Paced => &[1_000],
            Self::Distinct => &[100, 10_000],
            Self::Memory | Self::Commits => &[10_000],
            Self::Quiet => &[1],
            Self::Storm => &[5_000],
        }
    }
}

pub async fn run(arguments: Arguments) -> Result<()> {
    allow_files(&arguments)?;
    let modes = if arguments.modes.is_empty() {
        &MODES
    } else {
        arguments.modes.as_slice()
    };
    for &mode in modes {
        let counts = if arguments.listeners.is_empty() {
            mode.listeners()
        } else {
            &arguments.listeners
        };
        let mut report = report::Report::new(mode);
        for _ in 0..arguments.rounds {
            for &count in counts {
                for &peer in &arguments.peers {
                    modes::measure(&arguments, mode, peer, count, &mut report).await?;
                }
            }
        }
        report.print();
    }
    Ok(())
}

impl Arguments {
    fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// Raises the limit of open files of this process, which the servers that it starts inherit.
#[cfg(unix)]
fn allow_files(arguments: &Arguments) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    let most = arguments.listeners.iter().copied().max().unwrap_or(10_000) as u64;
    if limit
        .maximum
        .is_some_and(|maximum| maximum < most + FILES_BESIDE)
    {
        eprintln!(
            "at most {:?} files may be open: subscribers of Redis need one each",
            limit.maximum
        );
    }
    Ok(())
}

#[cfg(not(unix))]
fn allow_files(_: &Arguments) -> Result<()> {
    Ok(())
}
