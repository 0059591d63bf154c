//! What can go wrong: for a whole stream, or for one target.

use watchfire_engine::Error;
use watchfire_model::Invalid;
use watchfire_model::watch::Cause;

/// A request that ends its whole stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The request is wrong: INVALID_ARGUMENT.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// The stream has ended already, or the hub is closed; the outbox says why. Retryable.
    #[error("the listen stream has ended")]
    Ended,
}

/// Why a stream ends without being asked to. The client may connect again and resume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamEnd {
    /// The caller goes on sending requests and does not read the answers.
    #[error("the listen stream is read too slowly")]
    SlowReader,
    /// The engine cannot be read.
    #[error("{0}")]
    Unavailable(String),
    /// The caller's token has expired: it must bring a new one.
    #[error("the token of the listen stream's caller has expired")]
    TokenExpired,
}

/// What a target that cannot be read ends with.
pub fn cause(error: &Error) -> Cause {
    match error {
        Error::Invalid(invalid) => Cause::Invalid(invalid.clone()),
        Error::FailedPrecondition(text) => Cause::FailedPrecondition(text.clone()),
        Error::IndexMissing(missing) => Cause::FailedPrecondition(missing.to_string()),
        Error::ResourceExhausted(text) => Cause::ResourceExhausted(text.clone()),
        // What else a read may meet passes, or is for the operator to repair: the client tries again.
        Error::DeadlineExceeded(_)
        | Error::Unavailable(_)
        | Error::Corrupt(_)
        | Error::NotFound(_)
        | Error::IndexExists(_)
        | Error::NoSuch(_)
        | Error::AlreadyExists(_)
        | Error::VersionMismatch { .. }
        | Error::Aborted
        | Error::Contention
        | Error::TransactionExpired
        | Error::TransactionUnknown => Cause::Unavailable(error.to_string()),
    }
}
