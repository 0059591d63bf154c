//! Why a backup could not be made or restored, by what the caller should do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Failures of making and restoring backups. Whatever it is, nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The place is not as it must be: name another one.
    #[error("{} {complaint}", .path.display())]
    Place { path: PathBuf, complaint: String },
    /// The disk said no: make room, or name another place.
    #[error("cannot {what} {}: {error}", .path.display())]
    File {
        /// What was to be done, as a verb.
        what: &'static str,
        path: PathBuf,
        /// In the text already.
        error: io::Error,
    },
    /// The backup is damaged, or none: use another one.
    #[error("the backup is not used: {} {complaint}", .path.display())]
    Damaged { path: PathBuf, complaint: String },
    /// Another version of this program made it: use that one, or a newer one.
    #[error(
        "the backup {} has format {found}, this program knows formats up to {known}",
        .path.display()
    )]
    Newer {
        path: PathBuf,
        found: u64,
        known: u64,
    },
    /// The server keeps nothing that could be copied.
    #[error("{0}")]
    NothingKept(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] watchfire_storage::Error),
    /// A database of a restored folder could not be prepared.
    #[error("{database}: {error}")]
    Engine {
        database: String,
        error: watchfire_engine::Error,
    },
    /// The server is about to end.
    #[error("the server is shutting down")]
    Stopped,
}

impl BackupError {
    /// For `map_err` on operations with a file.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { what, path, error }
    }

    pub(crate) fn place(path: &Path, complaint: impl Into<String>) -> Self {
        Self::Place {
            path: path.to_owned(),
            complaint: complaint.into(),
        }
    }

    pub(crate) fn damaged(path: &Path, complaint: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            complaint: complaint.into(),
        }
    }
}
