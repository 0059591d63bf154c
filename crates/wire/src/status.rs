//! Status codes by their numbers, and errors that travel inside a message.
//!
//! Which of our errors gets which code is the server's business; only the causes of ended targets,
//! which are words of the model, are settled here.

use std::collections::BTreeMap;

use prost::Message;
use watchfire_model::watch::Cause;

use crate::pb;
use crate::refusal::Refusal;

/// The protocol's text for everything that is not permitted; clients look for it.
pub const PERMISSION_DENIED_TEXT: &str = "Missing or insufficient permissions.";

/// Whose reasons they are; clients compare the pair.
const ERROR_DOMAIN: &str = "firestore.googleapis.com";

/// The gRPC status codes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// The number on the wire.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The name in capitals, as JSON errors write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

/// The code of a refusal; its text is its `Display`.
pub fn refusal_code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::Invalid(_) | Refusal::Reasoned { .. } => Code::InvalidArgument,
        Refusal::Unimplemented(_) => Code::Unimplemented,
    }
}

/// An error as a message, without details.
pub fn encode_status(code: Code, message: impl Into<String>) -> pb::Status {
    pb::Status {
        code: code.number(),
        message: message.into(),
        details: Vec::new(),
    }
}

/// `google.rpc.ErrorInfo`: a reason that programs can compare.
#[derive(Clone, PartialEq, prost::Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

/// An error with a reason that programs can compare and what belongs to it, as the bytes of the
/// metadata `grpc-status-details-bin`.
pub fn encode_status_details(
    code: Code,
    message: impl Into<String>,
    reason: &str,
    metadata: &[(&str, String)],
) -> Vec<u8> {
    let info = ErrorInfo {
        reason: reason.to_owned(),
        domain: ERROR_DOMAIN.to_owned(),
        metadata: metadata
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
    };
    let detail = prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
        value: info.encode_to_vec(),
    };
    pb::Status {
        details: vec![detail],
        ..encode_status(code, message)
    }
    .encode_to_vec()
}

/// Why a target ended, as a message.
pub fn encode_cause(cause: &Cause) -> pb::Status {
    match cause {
        Cause::Invalid(invalid) => encode_status(Code::InvalidArgument, invalid.to_string()),
        Cause::AlreadyExists(text) => encode_status(Code::AlreadyExists, text),
        Cause::FailedPrecondition(text) => encode_status(Code::FailedPrecondition, text),
        Cause::PermissionDenied => encode_status(Code::PermissionDenied, PERMISSION_DENIED_TEXT),
        Cause::ResourceExhausted(text) => encode_status(Code::ResourceExhausted, text),
        Cause::Unimplemented(text) => encode_status(Code::Unimplemented, text),
        Cause::Unavailable(text) => encode_status(Code::Unavailable, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_a_status_with_a_reason() {
        let bytes = encode_status_details(
            Code::FailedPrecondition,
            "no",
            "WHY",
            &[("n", "6".to_owned())],
        );
        let status = pb::Status::decode(bytes.as_slice()).unwrap();
        assert_eq!((status.code, status.message.as_str()), (9, "no"));
        let info = ErrorInfo::decode(status.details[0].value.as_slice()).unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("WHY", ERROR_DOMAIN)
        );
        assert_eq!(info.metadata.get("n").map(String::as_str), Some("6"));
    }
}
