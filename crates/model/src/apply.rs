//! What a write makes of a document.

use crate::{Document, Invalid, Precondition, Timestamp, Value, Write};

/// Why a write cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `exists: true`, or an update time, and there is no document.
    NotFound,
    /// `exists: false` and there is one.
    AlreadyExists,
    /// The update time differs.
    VersionMismatch { stored: Timestamp, required: Timestamp },
    Invalid(Invalid),
}

impl From<Invalid> for Refused {
    fn from(invalid: Invalid) -> Self {
        Refused::Invalid(invalid)
    }
}

/// The document after a write.
#[derive(Clone, Debug)]
pub struct Applied {
    /// `None` when the document does not exist afterwards.
    pub after: Option<Document>,
    /// False for a no-op: `after` is then the document as it was, with its old update time.
    pub changed: bool,
    pub transform_results: Vec<Value>,
}

pub fn check_precondition(precondition: &Precondition, before: Option<&Document>) -> Result<(), Refused> {
    let _ = (precondition, before);
    unimplemented!()
}

/// Applies one write at `commit_time` (microseconds; request-time transforms get its millisecond).
/// A no-op (identical fields) keeps the update time. Checks the precondition and the limits of documents.
pub fn apply(write: &Write, before: Option<&Document>, commit_time: Timestamp) -> Result<Applied, Refused> {
    let _ = (write, before, commit_time);
    unimplemented!()
}
