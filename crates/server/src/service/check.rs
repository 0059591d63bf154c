//! Whether the index entries of an open database agree with its documents, and making them agree.

use tokio_util::sync::CancellationToken;
use watchfire_engine::check::{Repaired, Report};

use crate::databases::Database;
use crate::error::Error;

/// What a check has come to.
pub struct Checked {
    pub found: Report,
    /// What a repair has done and how it looks then, when one was needed and asked for.
    pub repaired: Option<(Repaired, Report)>,
}

/// Reads everything, while others go on. A repair that is stopped in between leaves whole pieces behind.
pub async fn run(
    database: &Database,
    repairs: bool,
    shutdown: &CancellationToken,
) -> Result<Checked, Error> {
    tokio::select! {
        biased;
        checked = check(database, repairs) => checked,
        () = shutdown.cancelled() => Err(Error::ShuttingDown),
    }
}

async fn check(database: &Database, repairs: bool) -> Result<Checked, Error> {
    let engine = &database.engine;
    let found = engine.check().await?;
    let repaired = if repairs && !found.is_sound() {
        let repaired = engine.repair().await?;
        tracing::warn!(
            database = %database.name,
            put = repaired.put,
            deleted = repaired.deleted,
            "index entries repaired"
        );
        Some((repaired, engine.check().await?))
    } else {
        None
    };
    Ok(Checked { found, repaired })
}

/// The complaint when there are as many checks as one server does.
pub fn busy() -> Error {
    let text = "the server is checking a database already; try again later";
    Error::Engine(watchfire_engine::Error::ResourceExhausted(text.to_owned()))
}
