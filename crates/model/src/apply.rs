//! What a write makes of a document.
//!
//! # Order of things
//!
//! First the precondition, against the document as it was before this write; then the operation; then the
//! transforms, in the order of the request, each seeing what the one before left; then the limits of the
//! result. A write that is refused leaves nothing behind, because the document is built aside.
//!
//! # No-ops
//!
//! When the fields come out identical (same types and values, so that −0 replaces 0 and 3.0 replaces 3) the
//! write changes nothing: the document keeps its update time and nobody is told.
//! An empty patch of a missing document does change something: the document exists afterwards.
//!
//! # What is not done here
//!
//! No storage and no clock: the document before and the commit time are arguments. Names are not checked
//! against the database, since a path is already relative to one.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};

use crate::compare::identical_fields;
use crate::document::{Document, Fields};
use crate::invalid::Invalid;
use crate::limits::{DOCUMENT_BYTES_MAX, TRANSFORMS_PER_DOCUMENT_MAX};
use crate::time::Timestamp;
use crate::value::Value;
use crate::write::{Operation, Precondition, Transform, TransformKind, Write};

#[cfg(test)]
mod tests;

/// Why a write cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `exists: true` and there is no document.
    NotFound,
    /// `exists: false` and there is one.
    AlreadyExists,
    /// The update time differs, or there is no document that could have it: whoever read one read what is outdated.
    VersionMismatch {
        /// When the document was last changed; the epoch when there is none.
        stored: Timestamp,
        /// What the precondition asked for.
        required: Timestamp,
    },
    /// The document would be larger than `DOCUMENT_BYTES_MAX`; `document::too_large` has the words.
    TooLarge {
        /// What its size would be.
        size: usize,
    },
    /// The write, or what it would make, breaks another rule or limit.
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
    /// One for each transform: the value that was stored, or null for the array transforms.
    pub transform_results: Vec<Value>,
}

/// Whether the document, as it is before the write, satisfies the precondition.
pub fn check_precondition(
    precondition: &Precondition,
    before: Option<&Document>,
) -> Result<(), Refused> {
    match (precondition, before) {
        (Precondition::None, _)
        | (Precondition::Exists(true), Some(_))
        | (Precondition::Exists(false), None) => Ok(()),
        (Precondition::Exists(true), None) => Err(Refused::NotFound),
        (Precondition::Exists(false), Some(_)) => Err(Refused::AlreadyExists),
        (Precondition::UpdateTime(required), before) => match before {
            Some(document) if document.update_time == *required => Ok(()),
            Some(_) | None => Err(Refused::VersionMismatch {
                stored: before.map_or(Timestamp::EPOCH, |document| document.update_time),
                required: *required,
            }),
        },
    }
}

/// Applies one write at `commit_time` (microseconds; request-time transforms get its millisecond).
/// A no-op (identical fields) keeps the update time. Checks the precondition and the limits of documents.
pub fn apply(
    write: &Write,
    before: Option<&Document>,
    commit_time: Timestamp,
) -> Result<Applied, Refused> {
    check_precondition(&write.precondition, before)?;
    check_transforms(write)?;
    let mut fields = match &write.operation {
        Operation::Set(fields) => fields.clone(),
        Operation::Patch { fields, mask } => {
            let mut patched = before
                .map(|document| document.fields.clone())
                .unwrap_or_default();
            for path in mask.paths() {
                if path.is_document_name() {
                    return Err(reserved_name().into());
                }
                match path.get(fields) {
                    Some(value) => path.set(&mut patched, value.clone()),
                    None => path.remove(&mut patched),
                }
            }
            patched
        }
        Operation::Delete => {
            return Ok(Applied {
                after: None,
                changed: before.is_some(),
                transform_results: Vec::new(),
            });
        }
        Operation::Verify => {
            return Ok(Applied {
                after: before.cloned(),
                changed: false,
                transform_results: Vec::new(),
            });
        }
    };
    let transform_results = write
        .transforms
        .iter()
        .map(|transform| apply_transform(transform, &mut fields, commit_time))
        .collect();
    if let Some(document) = before
        && identical_fields(&document.fields, &fields)
    {
        return Ok(Applied {
            after: Some(document.clone()),
            changed: false,
            transform_results,
        });
    }
    let after = Document {
        path: write.path.clone(),
        create_time: before.map_or(commit_time, |document| document.create_time),
        update_time: commit_time,
        fields,
    };
    after.check_storable()?;
    let size = after.size();
    if size > DOCUMENT_BYTES_MAX {
        return Err(Refused::TooLarge { size });
    }
    Ok(Applied {
        after: Some(after),
        changed: true,
        transform_results,
    })
}

/// The complaint about `__name__` where a field is to be written.
fn reserved_name() -> Invalid {
    Invalid::new("the name __key__ is reserved")
}

/// Refuses transforms that are too many, meet a field twice, or have an operand of the wrong type.
fn check_transforms(write: &Write) -> Result<(), Invalid> {
    if write.transforms.is_empty() {
        return Ok(());
    }
    if matches!(write.operation, Operation::Delete | Operation::Verify) {
        return Err(Invalid::new(
            "Transforms are only allowed together with an update of the document.",
        ));
    }
    if write.transforms.len() > TRANSFORMS_PER_DOCUMENT_MAX {
        return Err(Invalid::new(format!(
            "The write has {} transforms. A write may not have more than {TRANSFORMS_PER_DOCUMENT_MAX}.",
            write.transforms.len()
        )));
    }
    let mut seen = HashSet::new();
    for transform in &write.transforms {
        if transform.field.is_document_name() {
            return Err(reserved_name());
        }
        if !seen.insert(&transform.field) {
            return Err(Invalid::new(format!(
                "Only one transform per field is allowed. Found several for \"{}\".",
                transform.field
            )));
        }
        let (operand, name) = match &transform.kind {
            TransformKind::Increment(operand) => (operand, "increment"),
            TransformKind::Maximum(operand) => (operand, "maximum"),
            TransformKind::Minimum(operand) => (operand, "minimum"),
            TransformKind::RequestTime
            | TransformKind::AppendMissing(_)
            | TransformKind::RemoveAll(_) => continue,
        };
        if !is_number(operand) {
            return Err(Invalid::new(format!(
                "The {name} of \"{}\" requires an integer or double operand.",
                transform.field
            )));
        }
    }
    Ok(())
}

/// Applies one transform and returns its result.
fn apply_transform(transform: &Transform, fields: &mut Fields, commit_time: Timestamp) -> Value {
    let stored = transform.field.get(fields);
    let (value, result) = match &transform.kind {
        TransformKind::RequestTime => same(Value::Timestamp(commit_time.truncated_to_millis())),
        TransformKind::Increment(operand) => same(increment(stored, operand)),
        TransformKind::Maximum(operand) => same(extreme(stored, operand, Ordering::Greater)),
        TransformKind::Minimum(operand) => same(extreme(stored, operand, Ordering::Less)),
        TransformKind::AppendMissing(elements) => (append_missing(stored, elements), Value::Null),
        TransformKind::RemoveAll(elements) => (remove_all(stored, elements), Value::Null),
    };
    transform.field.set(fields, value);
    result
}

/// The value both as what is stored and as what is answered.
fn same(value: Value) -> (Value, Value) {
    (value.clone(), value)
}

fn is_number(value: &Value) -> bool {
    matches!(value, Value::Integer(_) | Value::Double(_))
}

fn is_nan(value: &Value) -> bool {
    matches!(value, Value::Double(double) if double.is_nan())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "an integer added to a double is rounded to a double, as the protocol says"
)]
fn increment(stored: Option<&Value>, operand: &Value) -> Value {
    match (stored, operand) {
        (Some(Value::Integer(a)), Value::Integer(b)) => Value::Integer(a.saturating_add(*b)),
        (Some(Value::Integer(a)), Value::Double(b)) => Value::Double(*a as f64 + b),
        (Some(Value::Double(a)), Value::Integer(b)) => Value::Double(a + *b as f64),
        (Some(Value::Double(a)), Value::Double(b)) => Value::Double(a + b),
        _ => operand.clone(),
    }
}

/// Whichever number lies further towards `wanted`; NaN wins over every number.
fn extreme(stored: Option<&Value>, operand: &Value, wanted: Ordering) -> Value {
    match stored.filter(|stored| is_number(stored)) {
        None => operand.clone(),
        Some(stored) if is_nan(stored) => stored.clone(),
        Some(_) if is_nan(operand) => operand.clone(),
        Some(stored) if operand.compare(stored) == wanted => operand.clone(),
        Some(stored) => stored.clone(),
    }
}

/// A value in the total order, so that long arrays are not searched element by element.
struct Ordered<'a>(&'a Value);

impl Ord for Ordered<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.compare(other.0)
    }
}
impl PartialOrd for Ordered<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Ordered<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Ordered<'_> {}

fn elements_of(stored: Option<&Value>) -> &[Value] {
    match stored {
        Some(Value::Array(elements)) => elements,
        _ => &[],
    }
}

fn append_missing(stored: Option<&Value>, elements: &[Value]) -> Value {
    let kept = elements_of(stored);
    let mut present: BTreeSet<Ordered<'_>> = kept.iter().map(Ordered).collect();
    let mut result = kept.to_vec();
    result.extend(
        elements
            .iter()
            .filter(|element| present.insert(Ordered(element)))
            .cloned(),
    );
    Value::Array(result)
}

fn remove_all(stored: Option<&Value>, elements: &[Value]) -> Value {
    let unwanted: BTreeSet<Ordered<'_>> = elements.iter().map(Ordered).collect();
    Value::Array(
        elements_of(stored)
            .iter()
            .filter(|element| !unwanted.contains(&Ordered(element)))
            .cloned()
            .collect(),
    )
}
