//! A backup of everything that the server keeps.

use std::path::PathBuf;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use watchfire_model::Timestamp;

use crate::backup::BackupError;
use crate::backup::manifest::Manifest;
use crate::error::Error;

/// Makes a backup of the server's store in a folder. Gives up when the token is cancelled.
pub type TakeBackup = Box<
    dyn Fn(
            PathBuf,
            Timestamp,
            CancellationToken,
        ) -> BoxFuture<'static, Result<Manifest, BackupError>>
        + Send
        + Sync,
>;

/// Writes a backup to `directory`, while others go on. It is finished even when nobody waits for it any more; when
/// the server ends before, nothing is left of it. `take_backup` is absent when nothing is kept.
pub async fn run(
    take_backup: Option<&TakeBackup>,
    directory: PathBuf,
    now: Timestamp,
    shutdown: CancellationToken,
) -> Result<Manifest, Error> {
    let take_backup = take_backup.ok_or(BackupError::NothingKept(
        "the server keeps its data in memory, so there is nothing to back up; start it without --memory",
    ))?;
    let shown = directory.display().to_string();
    let manifest = take_backup(directory, now, shutdown).await?;
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
