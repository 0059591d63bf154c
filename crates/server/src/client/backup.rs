//! `watchfire backup`: asks a running server for a backup of all that it keeps.

use std::io::{self, Write};

use watchfire_wire::pb::watchfire;
use watchfire_wire::pb::watchfire::admin_client::AdminClient;

use crate::client::connect::{RemoteError, connect};
use crate::config::Backup;

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The server could not be asked, or refused.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The path or the output is out of reach.
    #[error("cannot name the folder, or write the output: {0}")]
    Output(#[from] io::Error),
}

/// Waits until the backup is complete, however long that takes, and says what is in it.
pub async fn run(settings: Backup, out: &mut impl Write) -> Result<(), CommandError> {
    let Backup { directory, asked } = settings;
    // Server and command share the disk, but not the folder in which they were started.
    let directory = std::path::absolute(directory)?;
    // The protocol carries texts: a path that is none would become another one.
    let Some(named) = directory.to_str() else {
        let text = format!("{} is no text in UTF-8", directory.display());
        return Err(io::Error::new(io::ErrorKind::InvalidFilename, text).into());
    };
    let request = watchfire::BackupRequest {
        directory: named.to_owned(),
    };
    let mut admin = AdminClient::new(connect(&asked).await?);
    let backup = admin.backup(request).await.map_err(RemoteError::from)?;
    let watchfire::BackupResponse {
        databases,
        files,
        bytes,
    } = backup.into_inner();
    writeln!(
        out,
        "Backed up {files} files, {bytes} bytes, to {}",
        directory.display()
    )?;
    for watchfire::BackupDatabase { name, version } in databases {
        writeln!(out, "  {name} at version {version}")?;
    }
    Ok(())
}
