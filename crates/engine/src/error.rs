//! What can go wrong, by what the caller must do.

use watchfire_model::{DocumentPath, Invalid, Timestamp};

#[derive(Debug, thiserror::Error, Clone)]
pub enum Error {
    /// The request is wrong and will stay wrong.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// `exists: true` (or an update time) and there is no document.
    #[error("No document to update: {0}")]
    NotFound(DocumentPath),
    #[error("Document already exists: {0}")]
    AlreadyExists(DocumentPath),
    #[error("the stored version ({}) does not match the required base version ({})", stored.micros(), required.micros())]
    VersionMismatch { path: DocumentPath, stored: Timestamp, required: Timestamp },
    /// A transaction lost a race: begin again.
    #[error("Aborted due to cross-transaction contention. This occurs when multiple transactions attempt to access the same data, requiring Firestore to abort at least one in order to enforce serializability.")]
    Aborted,
    #[error("The referenced transaction has expired or is no longer valid.")]
    TransactionExpired,
    #[error("Invalid transaction.")]
    TransactionUnknown,
    /// A read time outside what is kept.
    #[error("{0}")]
    FailedPrecondition(String),
    /// A named bound was reached: too many waiting commits, or a query's memory.
    #[error("{0}")]
    ResourceExhausted(String),
    #[error("{0}")]
    DeadlineExceeded(String),
    #[error("{0}")]
    Unavailable(String),
    /// Stored bytes cannot be read.
    #[error("{0}")]
    Corrupt(String),
}

impl From<watchfire_storage::Error> for Error {
    fn from(error: watchfire_storage::Error) -> Self {
        match error {
            watchfire_storage::Error::Corrupt(text) => Error::Corrupt(text),
            other @ (watchfire_storage::Error::Unavailable(_)
            | watchfire_storage::Error::Poisoned(_)
            | watchfire_storage::Error::Locked(_)
            | watchfire_storage::Error::Closed) => Error::Unavailable(other.to_string()),
        }
    }
}
