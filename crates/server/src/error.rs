//! What an operation of the server can fail with, whatever the front.
//!
//! Only `status` turns these into codes of a protocol.

use watchfire_model::{DocumentName, Invalid};
use watchfire_realtime::{SessionError, StreamEnd};
use watchfire_wire::Refusal;
use watchfire_wire::json::JsonRefusal;

use crate::auth::TokenError;
use crate::backup::BackupError;

/// Failures of operations.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request could not be understood, or asks for what is not supported.
    #[error("{0}")]
    Refused(Refusal),
    /// The JSON of a request is not what it should be.
    #[error("{0}")]
    Json(JsonRefusal),
    /// The engine said no.
    #[error("{0}")]
    Engine(watchfire_engine::Error),
    /// The database could not be opened or closed.
    #[error("{0}")]
    Store(watchfire_storage::Error),
    /// A listen request that ends the whole stream.
    #[error("{0}")]
    Session(SessionError),
    /// The listening side ended the stream.
    #[error("{0}")]
    Stream(StreamEnd),
    /// A document was asked for by name and does not exist.
    #[error("Document \"{0}\" not found.")]
    DocumentMissing(DocumentName),
    /// An index like this one is there already.
    #[error("index already exists: {name}")]
    IndexExists { name: String },
    /// Pipelines are not offered by this kind of database.
    #[error(
        "Pipeline Operations are only available for Firestore databases in Enterprise edition. Use structured queries instead."
    )]
    PipelinesUnavailable,
    /// More databases than one process keeps open.
    #[error(
        "at most {max} databases can be open at the same time; retry after a restart or use an open one"
    )]
    TooManyDatabases { max: usize },
    /// The credentials of the caller cannot be understood.
    #[error("{0}")]
    Token(TokenError),
    /// What users of an emulator may not ask for, as users of the real service may not.
    #[error("Metadata operations require admin authentication.")]
    OwnersOnly,
    /// A backup was not made.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// What only callers on the same machine may ask for, as long as there is no access control.
    #[error(
        "{operation} can be asked for on the machine of the server only, through its loopback address"
    )]
    PeerElsewhere { operation: &'static str },
    /// The server is about to end: connect again.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// What the transport said about a stream that it could not read.
    #[error("{}", .0.message())]
    Transport(tonic::Status),
}

impl Error {
    /// Bad input, with the sentence that the caller reads.
    pub fn invalid(text: impl Into<String>) -> Self {
        Error::Refused(Refusal::Invalid(Invalid::new(text)))
    }

    /// A field or feature that is refused by name.
    pub fn unsupported(name: &str) -> Self {
        Error::Refused(Refusal::Unimplemented(name.to_owned()))
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Error::Refused(Refusal::Invalid(invalid))
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Error::Refused(refusal)
    }
}

impl From<watchfire_engine::Error> for Error {
    fn from(error: watchfire_engine::Error) -> Self {
        Error::Engine(error)
    }
}
