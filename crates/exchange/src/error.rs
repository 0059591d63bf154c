//! What can go wrong with an export, by what the caller should do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why an export could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk said no: make room, or name another place.
    #[error("cannot {what} {}: {error}", .path.display())]
    File {
        /// What was to be done, as a verb.
        what: &'static str,
        path: PathBuf,
        /// In the text already.
        error: io::Error,
    },
    /// The place is not as it must be: name another one.
    #[error("{} {complaint}", .path.display())]
    Place { path: PathBuf, complaint: String },
    /// The file is damaged, or was never an export of Firestore: nothing of the export should be used.
    #[error("{} at byte {offset}: {complaint}", .path.display())]
    Damaged {
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
        complaint: String,
    },
    /// The document has no form in this format.
    #[error("document {document} cannot be exported: {complaint}")]
    Document { document: String, complaint: String },
}

impl Error {
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
}
