//! A backup of everything that the server keeps.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use watchfire_model::Timestamp;
use watchfire_storage::embedded::Embedded;

use crate::backup::BackupError;
use crate::backup::manifest::Manifest;
use crate::backup::take::take;
use crate::error::Error;

/// Writes a backup to `directory`, while others go on. It is finished even when nobody waits for it any more; when
/// the server ends before, nothing is left of it.
pub async fn run(
    embedded: Option<Arc<Embedded>>,
    directory: PathBuf,
    now: Timestamp,
    shutdown: CancellationToken,
) -> Result<Manifest, Error> {
    let embedded = embedded.ok_or(BackupError::NothingKept(
        "the server keeps its data in memory, so there is nothing to back up; start it without --memory",
    ))?;
    let shown = directory.display().to_string();
    let stopped = move || shutdown.is_cancelled();
    let manifest = take(embedded, directory, now, stopped).await?;
    tracing::info!(
        directory = %shown,
        files = manifest.files.len(),
        bytes = manifest.bytes(),
        "backup complete"
    );
    Ok(manifest)
}

/// The complaint when there are as many backups as one server makes.
pub fn busy() -> Error {
    let text = "the server is making a backup already; try again later";
    Error::Engine(watchfire_engine::Error::ResourceExhausted(text.to_owned()))
}

/// The complaint about callers on other machines.
pub fn from_elsewhere() -> Error {
    Error::PeerElsewhere {
        operation: "a backup",
    }
}
