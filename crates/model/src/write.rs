//! Writes: set, patch, delete, verify, with preconditions and transforms.
//!
//! Only the words; `apply` says what a write makes of a document.

use crate::document::Fields;
use crate::field::{FieldMask, FieldPath};
use crate::path::DocumentPath;
use crate::time::Timestamp;
use crate::value::Value;

/// What must hold before a write is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    None,
    /// The document exists, or it does not.
    Exists(bool),
    /// The document exists and was last changed at exactly this moment.
    UpdateTime(Timestamp),
}

/// One write of a commit.
#[derive(Clone, Debug)]
pub struct Write {
    /// The document that is written.
    pub path: DocumentPath,
    /// What becomes of it.
    pub operation: Operation,
    /// Checked against the document as it was before this write.
    pub precondition: Precondition,
    /// Applied after the operation, in order. Empty for delete and verify.
    pub transforms: Vec<Transform>,
}

/// What a write does before its transforms.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Replace the whole document.
    Set(Fields),
    /// Write only what the mask names; a named field absent from `fields` is deleted.
    /// An empty mask writes nothing and yet makes the document exist.
    Patch {
        /// Where the written values come from.
        fields: Fields,
        /// What is written.
        mask: FieldMask,
    },
    /// Remove the document; removing one that does not exist is no error.
    Delete,
    /// The document must satisfy the precondition; nothing is written.
    Verify,
}

/// A change of one field that depends on what is stored or on when the commit happens.
#[derive(Clone, Debug)]
pub struct Transform {
    /// The field; once in each write.
    pub field: FieldPath,
    /// What becomes of it.
    pub kind: TransformKind,
}

/// The kinds of transform. Wherever the stored value has another type, it counts as missing.
#[derive(Clone, Debug)]
pub enum TransformKind {
    /// The moment of the commit, in whole milliseconds.
    RequestTime,
    /// Adds a number. Integers saturate; a double on either side gives a double.
    Increment(Value),
    /// The larger of the stored number and this one, with its own type; the stored one when equal.
    Maximum(Value),
    /// The smaller of the stored number and this one, with its own type; the stored one when equal.
    Minimum(Value),
    /// Appends those elements that the array does not have yet.
    AppendMissing(Vec<Value>),
    /// Removes every element that equals one of these.
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
