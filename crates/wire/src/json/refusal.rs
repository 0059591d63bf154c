//! What a caller is told about a text that is not the message it should be.

use std::fmt;

use prost::Message;

use crate::pb::google::rpc::bad_request::FieldViolation;
use crate::pb::google::rpc::{BadRequest, Status};
use crate::status::{Code, encode_status};

/// Every such refusal begins with it.
pub const INVALID_PAYLOAD_TEXT: &str = "Invalid JSON payload received.";

/// Why a text was not taken. Its `Display` is the whole complaint, one line for each violation.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonRefusal {
    violations: Vec<FieldViolation>,
}

impl JsonRefusal {
    /// A text that is no JSON at all.
    pub(super) fn syntax(complaint: &str) -> Self {
        Self::of(vec![FieldViolation {
            field: String::new(),
            description: format!("{INVALID_PAYLOAD_TEXT} {complaint}"),
        }])
    }

    pub(super) fn of(violations: Vec<FieldViolation>) -> Self {
        Self { violations }
    }

    /// The same as the bytes of the metadata `grpc-status-details-bin`, with the place of each violation.
    pub fn encode_details(&self) -> Vec<u8> {
        let details = BadRequest {
            field_violations: self.violations.clone(),
        };
        Status {
            details: vec![prost_types::Any {
                type_url: "type.googleapis.com/google.rpc.BadRequest".to_owned(),
                value: details.encode_to_vec(),
            }],
            ..encode_status(Code::InvalidArgument, self.to_string())
        }
        .encode_to_vec()
    }
}

impl fmt::Display for JsonRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.violations.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&violation.description)?;
        }
        Ok(())
    }
}

impl std::error::Error for JsonRefusal {}
