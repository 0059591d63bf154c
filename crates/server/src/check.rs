//! `watchfire check`: whether index entries agree with their documents, and making them agree.
//!
//! For a folder that no server has open, or a copy of one: a folder is held by one process at a time. A running
//! server is asked to look at one of its databases itself. Without `--repair` no database is written to.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use watchfire_engine::Engine;
use watchfire_engine::check::{Repaired, Report, check};
use watchfire_model::DatabaseName;
use watchfire_storage::Store;
use watchfire_storage::embedded::Embedded;

use crate::assemble::SystemClock;
use crate::client;
use crate::client::connect::RemoteError;
use crate::config::{Asked, Check};
use crate::service::check::Checked;

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is nothing to check.
    #[error("there is no data in {}", .0.display())]
    NoData(PathBuf),
    /// The folder could not be opened or read.
    #[error("{error}{}", hint(.error))]
    Store {
        #[from]
        error: watchfire_storage::Error,
    },
    /// A database could not be checked or repaired.
    #[error("{database}: {error}")]
    Engine {
        database: String,
        error: watchfire_engine::Error,
    },
    /// The server could not be asked, or refused.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Something is wrong.
    #[error("{damaged} of {databases} databases damaged{}", .advice)]
    Damaged {
        damaged: usize,
        databases: usize,
        advice: &'static str,
    },
    /// The output could not be written.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
    /// The runtime ended in between.
    #[error("the check was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

fn hint(error: &watchfire_storage::Error) -> &'static str {
    match error {
        watchfire_storage::Error::Locked(_) => "; stop it, or check a copy of the folder",
        watchfire_storage::Error::Unavailable(_)
        | watchfire_storage::Error::Corrupt(_)
        | watchfire_storage::Error::Poisoned(_)
        | watchfire_storage::Error::Closed => "",
    }
}

/// Checks every database of the folder, one after the other, or one of a running server, and prints what it finds.
/// Fails with `Damaged` when something is wrong that was not repaired.
pub async fn run(settings: Check, out: &mut impl Write) -> Result<(), CheckError> {
    let Check {
        data,
        repair: repairs,
        server,
        tls_ca,
        database,
    } = settings;
    // The command line takes both or none.
    if let (Some(server), Some(name)) = (server, database) {
        let asked = Asked { server, tls_ca };
        let Checked { found, repaired } = client::check::check(&asked, &name, repairs).await?;
        let name = name.to_string();
        print(&name, &found, out)?;
        let mut left = found;
        if let Some((repaired, report)) = repaired {
            print_repaired(&repaired, out)?;
            print(&name, &report, out)?;
            left = report;
        }
        return judge(usize::from(!left.is_sound()), 1, repairs);
    }
    if !Embedded::is_folder(&data) {
        return Err(CheckError::NoData(data));
    }
    let embedded = tokio::task::spawn_blocking(move || Embedded::open(&data)).await??;
    let checked = all(&embedded, repairs, out).await;
    let closed = embedded.close().await;
    checked?;
    Ok(closed?)
}

async fn all(embedded: &Embedded, repairs: bool, out: &mut impl Write) -> Result<(), CheckError> {
    let names = embedded.names()?;
    let (databases, mut damaged) = (names.len(), 0);
    for name in names {
        let failed = |error| CheckError::Engine {
            database: name.clone(),
            error,
        };
        let store = embedded.database(&name)?;
        let mut report = check(store.snapshot().await?.as_ref())
            .await
            .map_err(failed)?;
        print(&name, &report, out)?;
        if repairs && !report.is_sound() {
            let repaired;
            (repaired, report) = repair(&name, store).await.map_err(failed)?;
            print_repaired(&repaired, out)?;
            print(&name, &report, out)?;
        }
        damaged += usize::from(!report.is_sound());
    }
    judge(damaged, databases, repairs)
}

/// What was done, and how it looks then. Only an open database writes.
async fn repair(
    name: &str,
    store: Arc<dyn Store>,
) -> Result<(Repaired, Report), watchfire_engine::Error> {
    let name = DatabaseName::parse(name)?;
    let engine = Engine::open(name, store, Arc::new(SystemClock)).await?;
    let repaired = engine.repair().await?;
    let report = engine.check().await?;
    engine.close().await?;
    Ok((repaired, report))
}

fn judge(damaged: usize, databases: usize, repairs: bool) -> Result<(), CheckError> {
    if damaged == 0 {
        return Ok(());
    }
    Err(CheckError::Damaged {
        damaged,
        databases,
        advice: if repairs {
            "; documents that cannot be read are not repaired, write or delete them"
        } else {
            "; --repair makes index entries agree with the documents"
        },
    })
}

fn print_repaired(repaired: &Repaired, out: &mut impl Write) -> io::Result<()> {
    let Repaired { put, deleted } = repaired;
    writeln!(out, "  repaired: {put} entries written, {deleted} deleted")
}

fn print(name: &str, report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Report {
        documents,
        entries,
        missing,
        wrong,
        surplus,
        unreadable,
        examples,
    } = report;
    write!(
        out,
        "{name}: {documents} documents, {entries} index entries: "
    )?;
    if report.is_sound() {
        return writeln!(out, "sound");
    }
    writeln!(
        out,
        "{missing} entries missing, {wrong} wrong, {surplus} surplus, {unreadable} documents unreadable"
    )?;
    for example in examples {
        writeln!(out, "  {example}")?;
    }
    let faults = [missing, wrong, surplus, unreadable]
        .into_iter()
        .sum::<u64>();
    let more = faults.saturating_sub(examples.len() as u64);
    if more > 0 {
        writeln!(out, "  and {more} more")?;
    }
    Ok(())
}
