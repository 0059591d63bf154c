//! What can go wrong, by what the caller must do.

use watchfire_model::{DocumentName, Invalid, Timestamp};

use crate::definition::IndexId;
use crate::missing::MissingIndex;

/// Errors of the engine.
#[derive(Debug, thiserror::Error, Clone)]
pub enum Error {
    /// The request is wrong and will stay wrong.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// `exists: true` (or an update time) and there is no document. Nothing was written.
    #[error("No document to update: {0}")]
    NotFound(DocumentName),
    /// `exists: false` and there is a document. Nothing was written.
    #[error("Document already exists: {0}")]
    AlreadyExists(DocumentName),
    /// The update time that the write requires is not the document's. Nothing was written.
    #[error("the stored version ({}) does not match the required base version ({})", stored.micros(), required.micros())]
    VersionMismatch {
        /// The document that the write names.
        document: DocumentName,
        /// Its update time.
        stored: Timestamp,
        /// The update time that was asked for.
        required: Timestamp,
    },
    /// A transaction lost a race: begin again.
    #[error(
        "Aborted due to cross-transaction contention. This occurs when multiple transactions attempt to access the same data, requiring Firestore to abort at least one in order to enforce serializability."
    )]
    Aborted,
    /// Others held what was needed for too long, or took away what a transaction held: begin again.
    #[error("Too much contention on these documents. Please try again.")]
    Contention,
    /// The transaction ended, or was open or idle for too long: begin again.
    #[error("The referenced transaction has expired or is no longer valid.")]
    TransactionExpired,
    /// No such id was ever given out for this database.
    #[error("Invalid transaction.")]
    TransactionUnknown,
    /// A read time outside what is kept.
    #[error("{0}")]
    FailedPrecondition(String),
    /// The query needs an index that is not there, and the database serves no query without.
    #[error("{0}")]
    IndexMissing(Box<MissingIndex>),
    /// There is an index like this one already: nothing was done. Holds the id of the existing one.
    #[error("index already exists")]
    IndexExists(IndexId),
    /// No such index, field configuration or operation; holds the sentence that names it.
    #[error("{0}")]
    NoSuch(String),
    /// A named bound was reached (too many waiting commits, a query's memory): try again later, or ask for less.
    #[error("{0}")]
    ResourceExhausted(String),
    /// It took too long: ask for less.
    #[error("{0}")]
    DeadlineExceeded(String),
    /// The store cannot answer now; for a commit it is unknown whether it was written. Try again later.
    #[error("{0}")]
    Unavailable(String),
    /// Stored bytes cannot be read: stop and repair.
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
