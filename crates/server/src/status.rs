//! Every failure into one status of the protocol, exhaustively, in this one place.

use std::io::ErrorKind;

use http::StatusCode;
use tonic::{Code, Status};
use watchfire_engine::Error as EngineError;
use watchfire_realtime::{SessionError, StreamEnd};
use watchfire_storage::Error as StoreError;
use watchfire_wire::Refusal;
use watchfire_wire::status::encode_status_details;

use crate::backup::BackupError;
use crate::error::Error;

/// The largest request, in bytes: 10 MiB, and room for what surrounds the documents.
pub const REQUEST_SIZE_MAX: usize = 11_534_336;

/// Length of a status text, in bytes. It travels in a header, and clients bound those at 8 to 16 KiB,
/// so that a longer text would lose the code with it.
const TEXT_LEN_MAX: usize = 2_048;

/// The same for a text with a link that names many fields: half of one would lead nowhere.
const LINK_TEXT_LEN_MAX: usize = 6_144;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) => refused(&refusal),
            Error::Json(refusal) => {
                let text = cut(refusal.to_string(), TEXT_LEN_MAX);
                let details = refusal.encode_details();
                Status::with_details(Code::InvalidArgument, text, details.into())
            }
            Error::Engine(error) => engine(error),
            Error::Store(error) => store(&error),
            Error::Session(SessionError::Invalid(invalid)) => {
                status(Code::InvalidArgument, invalid.to_string())
            }
            Error::Session(error @ SessionError::Ended) => {
                status(Code::Unavailable, error.to_string())
            }
            Error::Stream(error @ (StreamEnd::SlowReader | StreamEnd::Unavailable(_))) => {
                status(Code::Unavailable, error.to_string())
            }
            Error::Stream(error @ StreamEnd::TokenExpired) => {
                status(Code::Unauthenticated, error.to_string())
            }
            Error::DocumentMissing(_) => status(Code::NotFound, error.to_string()),
            Error::IndexExists { name: _ } => status(Code::AlreadyExists, error.to_string()),
            Error::PipelinesUnavailable => {
                let text = error.to_string();
                let reason = "PIPELINE_REQUIRES_ENTERPRISE_EDITION";
                let details = encode_status_details(
                    watchfire_wire::Code::FailedPrecondition,
                    text.clone(),
                    reason,
                    &[],
                );
                Status::with_details(Code::FailedPrecondition, text, details.into())
            }
            Error::TooManyDatabases { max: _ } => {
                status(Code::ResourceExhausted, error.to_string())
            }
            Error::Backup(error) => backup(&error),
            Error::Token(_) => status(Code::Unauthenticated, error.to_string()),
            Error::OwnersOnly => status(Code::PermissionDenied, error.to_string()),
            Error::PeerElsewhere { operation: _ } => {
                status(Code::PermissionDenied, error.to_string())
            }
            Error::ShuttingDown => status(Code::Unavailable, error.to_string()),
            Error::Transport(transport) => match rephrase(transport.message()) {
                Some((code, text)) => status(code, text),
                None => transport,
            },
        }
    }
}

/// What the transport says about requests that are too large, in the protocol's words; `None` when
/// it says anything else.
pub fn rephrase(message: &str) -> Option<(Code, String)> {
    if message.starts_with("Error, decoded message length too large") {
        let text = format!("Request payload size exceeds the limit: {REQUEST_SIZE_MAX} bytes.");
        Some((Code::InvalidArgument, text))
    } else {
        None
    }
}

/// The status of an answer over plain HTTP.
pub fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // The number that proxies have for a caller who has gone; it has no name.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The name of a code, in capitals.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn refused(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Invalid(invalid) => status(Code::InvalidArgument, invalid.to_string()),
        Refusal::Reasoned {
            invalid,
            reason,
            metadata,
        } => {
            let text = invalid.to_string();
            let code = watchfire_wire::Code::InvalidArgument;
            let details = encode_status_details(code, text.clone(), reason, metadata);
            Status::with_details(Code::InvalidArgument, text, details.into())
        }
        Refusal::Unimplemented(_) => status(Code::Unimplemented, refusal.to_string()),
    }
}

fn engine(error: EngineError) -> Status {
    let text = error.to_string();
    let len_max = match error {
        EngineError::IndexMissing(_) => LINK_TEXT_LEN_MAX,
        _ => TEXT_LEN_MAX,
    };
    let code = match error {
        EngineError::Invalid(_)
        | EngineError::TransactionExpired
        | EngineError::TransactionUnknown => Code::InvalidArgument,
        EngineError::NotFound(_) => Code::NotFound,
        EngineError::AlreadyExists(_) => Code::AlreadyExists,
        EngineError::VersionMismatch {
            document: _,
            stored: _,
            required: _,
        }
        | EngineError::FailedPrecondition(_)
        | EngineError::IndexMissing(_) => Code::FailedPrecondition,
        EngineError::IndexExists(_) => Code::AlreadyExists,
        EngineError::NoSuch(_) => Code::NotFound,
        EngineError::Aborted | EngineError::Contention => Code::Aborted,
        EngineError::ResourceExhausted(_) => Code::ResourceExhausted,
        EngineError::DeadlineExceeded(_) => Code::DeadlineExceeded,
        EngineError::Unavailable(_) => Code::Unavailable,
        EngineError::Corrupt(_) => {
            tracing::error!(%text, "damaged data");
            Code::DataLoss
        }
    };
    Status::new(code, cut(text, len_max))
}

fn store(error: &StoreError) -> Status {
    tracing::error!(%error, "a store could not be opened");
    status(store_code(error), error.to_string())
}

fn store_code(error: &StoreError) -> Code {
    match error {
        StoreError::Unavailable(_)
        | StoreError::Poisoned(_)
        | StoreError::Locked(_)
        | StoreError::Closed => Code::Unavailable,
        StoreError::Corrupt(_) => Code::DataLoss,
    }
}

fn backup(error: &BackupError) -> Status {
    let code = match error {
        BackupError::Place {
            path: _,
            complaint: _,
        }
        | BackupError::NothingKept(_) => Code::FailedPrecondition,
        BackupError::File {
            what: _,
            path: _,
            error,
        } if error.kind() == ErrorKind::StorageFull => Code::ResourceExhausted,
        // Trying again does not help: another place does.
        BackupError::File {
            what: _,
            path: _,
            error,
        } if matches!(
            error.kind(),
            ErrorKind::PermissionDenied
                | ErrorKind::NotFound
                | ErrorKind::NotADirectory
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::InvalidFilename
                | ErrorKind::InvalidInput
        ) =>
        {
            Code::FailedPrecondition
        }
        BackupError::File {
            what: _,
            path: _,
            error: _,
        }
        | BackupError::Stopped => Code::Unavailable,
        BackupError::Damaged {
            path: _,
            complaint: _,
        }
        | BackupError::Newer {
            path: _,
            found: _,
            known: _,
        } => Code::DataLoss,
        BackupError::Store(error) => store_code(error),
        BackupError::Engine { database: _, error } => return engine(error.clone()),
    };
    tracing::warn!(%error, "a backup was not made");
    status(code, error.to_string())
}

fn status(code: Code, text: String) -> Status {
    Status::new(code, cut(text, TEXT_LEN_MAX))
}

/// The text, or its beginning when it is longer than `len_max` bytes.
fn cut(mut text: String, len_max: usize) -> String {
    if text.len() > len_max {
        let end = (0..=len_max)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use watchfire_model::{DocumentName, Timestamp};

    use super::*;

    fn check(error: Error, code: Code, text: &str) {
        let status = Status::from(error);
        assert_eq!((status.code(), status.message()), (code, text));
    }

    #[test]
    fn texts_that_clients_match_on() {
        let text = "projects/p/databases/(default)/documents/c/d";
        let name = DocumentName::parse(text).unwrap();
        check(
            EngineError::NotFound(name.clone()).into(),
            Code::NotFound,
            &format!("No document to update: {text}"),
        );
        check(
            EngineError::AlreadyExists(name.clone()).into(),
            Code::AlreadyExists,
            &format!("Document already exists: {text}"),
        );
        check(
            Error::DocumentMissing(name.clone()),
            Code::NotFound,
            &format!("Document \"{text}\" not found."),
        );
        let mismatch = EngineError::VersionMismatch {
            document: name,
            stored: Timestamp::from_micros(7).unwrap(),
            required: Timestamp::from_micros(5).unwrap(),
        };
        check(
            mismatch.into(),
            Code::FailedPrecondition,
            "the stored version (7) does not match the required base version (5)",
        );
        check(
            EngineError::Contention.into(),
            Code::Aborted,
            "Too much contention on these documents. Please try again.",
        );
        check(
            EngineError::TransactionUnknown.into(),
            Code::InvalidArgument,
            "Invalid transaction.",
        );
        check(
            Error::unsupported("read_time"),
            Code::Unimplemented,
            "read_time is not supported by this server",
        );
        check(
            Error::ShuttingDown,
            Code::Unavailable,
            "the server is shutting down",
        );
    }

    #[test]
    fn too_large_requests_are_the_callers_fault() {
        let large = Status::out_of_range(
            "Error, decoded message length too large: found 9 bytes, the limit is: 8 bytes",
        );
        check(
            Error::Transport(large),
            Code::InvalidArgument,
            "Request payload size exceeds the limit: 11534336 bytes.",
        );
        assert_eq!(
            Status::from(Error::Transport(Status::cancelled("gone"))).code(),
            Code::Cancelled
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let status = Status::from(Error::invalid("é".repeat(2_000)));
        assert!(status.message().len() <= TEXT_LEN_MAX + 3);
        assert!(status.message().ends_with("é..."));
    }
}
