//! Writes: set, patch, delete, verify, with preconditions and transforms.

use crate::{DocumentPath, FieldMask, FieldPath, Fields, Timestamp, Value};

/// What must hold before a write is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    None,
    Exists(bool),
    UpdateTime(Timestamp),
}

/// One write of a commit.
#[derive(Clone, Debug)]
pub struct Write {
    pub path: DocumentPath,
    pub operation: Operation,
    pub precondition: Precondition,
    /// Applied after the operation, in order. Empty for delete and verify.
    pub transforms: Vec<Transform>,
}

#[derive(Clone, Debug)]
pub enum Operation {
    /// Replace the whole document.
    Set(Fields),
    /// Write only what the mask names; a named field absent from `fields` is deleted.
    Patch { fields: Fields, mask: FieldMask },
    Delete,
    /// The document must satisfy the precondition; nothing is written.
    Verify,
}

#[derive(Clone, Debug)]
pub struct Transform {
    pub field: FieldPath,
    pub kind: TransformKind,
}

#[derive(Clone, Debug)]
pub enum TransformKind {
    RequestTime,
    Increment(Value),
    Maximum(Value),
    Minimum(Value),
    AppendMissing(Vec<Value>),
    RemoveAll(Vec<Value>),
}

/// What one write came to.
#[derive(Clone, Debug)]
pub struct WriteOutcome {
    /// Absent after a delete or verify.
    pub update_time: Option<Timestamp>,
    /// One for each transform.
    pub transform_results: Vec<Value>,
}
