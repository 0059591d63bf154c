//! Writes and their results: protocol ↔ model.
//!
//! An update without a mask replaces the document, one with a mask patches it. The older stand-alone
//! transform is a patch of nothing followed by its transforms: so it creates a missing document, as
//! the protocol wants.

use std::collections::HashSet;

use watchfire_model::{
    DatabaseName, DocumentName, DocumentPath, FieldMask, FieldPath, Fields, Operation,
    Precondition, Transform, TransformKind, Value, Write, WriteOutcome,
};

use crate::document::decode_mask;
use crate::pb;
use crate::pb::document_transform::FieldTransform;
use crate::pb::document_transform::field_transform::{ServerValue, TransformType};
use crate::pb::precondition::ConditionType;
use crate::refusal::Refusal;
use crate::value::{
    decode_array, decode_fields, decode_timestamp, decode_value, encode_timestamp, encode_value,
};

/// Nanoseconds in a microsecond, the finest step of an update time.
const NANOS_PER_MICRO: i32 = 1_000;

/// Reads one write of a commit to `database`.
/// Refused: no operation, a name outside the database, a mask or transforms with anything but an
/// update, `__name__` as a field, a field that is transformed twice, operands of the wrong kind.
pub fn decode_write(write: pb::Write, database: &DatabaseName) -> Result<Write, Refusal> {
    let pb::Write {
        operation,
        update_mask,
        update_transforms,
        current_document,
    } = write;
    let operation = operation.ok_or_else(|| Refusal::invalid("Write.operation must be set."))?;
    let precondition = match current_document {
        None => Precondition::None,
        Some(condition) => decode_precondition(condition)?,
    };
    if !matches!(operation, pb::write::Operation::Update(_)) {
        if update_mask.is_some() {
            return Err(Refusal::invalid(
                "Write.update_mask can be set only together with Write.update.",
            ));
        }
        if !update_transforms.is_empty() {
            return Err(Refusal::invalid(
                "Write.update_transforms can be set only together with Write.update.",
            ));
        }
    }
    let (name, operation, transforms) = match operation {
        pb::write::Operation::Update(document) => {
            // The times are output only: callers may send back a document as they got it.
            let pb::Document {
                name,
                fields,
                create_time: _,
                update_time: _,
            } = document;
            let fields = decode_fields(fields)?;
            let operation = match update_mask {
                None => Operation::Set(fields),
                Some(mask) => Operation::Patch {
                    fields,
                    mask: decode_update_mask(mask)?,
                },
            };
            (name, operation, decode_transforms(update_transforms)?)
        }
        pb::write::Operation::Delete(name) => (name, Operation::Delete, Vec::new()),
        pb::write::Operation::Verify(name) => (name, Operation::Verify, Vec::new()),
        pb::write::Operation::Transform(transform) => {
            let pb::DocumentTransform {
                document,
                field_transforms,
            } = transform;
            if field_transforms.is_empty() {
                return Err(Refusal::invalid(
                    "DocumentTransform.field_transforms must not be empty.",
                ));
            }
            let nothing = Operation::Patch {
                fields: Fields::new(),
                mask: FieldMask::new(Vec::new()),
            };
            (document, nothing, decode_transforms(field_transforms)?)
        }
    };
    Ok(Write {
        path: decode_name(&name, database)?,
        operation,
        precondition,
        transforms,
    })
}

/// Reads a full document name that must lie in `database`.
pub fn decode_name(name: &str, database: &DatabaseName) -> Result<DocumentPath, Refusal> {
    let DocumentName {
        database: named,
        path,
    } = DocumentName::parse(name)?;
    if named != *database {
        return Err(Refusal::invalid(format!(
            "The document name \"{name}\" does not belong to the database \"{database}\" of the request."
        )));
    }
    Ok(path)
}

/// Reads a precondition. Refused: one without a condition, and an update time with digits below a
/// microsecond, which no document can have.
pub fn decode_precondition(precondition: pb::Precondition) -> Result<Precondition, Refusal> {
    let pb::Precondition { condition_type } = precondition;
    match condition_type {
        None => Err(Refusal::invalid("Precondition.condition_type must be set.")),
        Some(ConditionType::Exists(exists)) => Ok(Precondition::Exists(exists)),
        Some(ConditionType::UpdateTime(time)) => {
            if time.nanos % NANOS_PER_MICRO != 0 {
                return Err(Refusal::invalid(
                    "Precondition.update_time must be aligned to whole microseconds.",
                ));
            }
            Ok(Precondition::UpdateTime(decode_timestamp(time)?))
        }
    }
}

fn decode_update_mask(mask: pb::DocumentMask) -> Result<FieldMask, Refusal> {
    let mask = decode_mask(mask)?;
    for path in mask.paths() {
        refuse_document_name(path, "Write.update_mask")?;
    }
    Ok(mask)
}

fn decode_transforms(transforms: Vec<FieldTransform>) -> Result<Vec<Transform>, Refusal> {
    let mut seen = HashSet::with_capacity(transforms.len());
    let mut decoded = Vec::with_capacity(transforms.len());
    for FieldTransform {
        field_path,
        transform_type,
    } in transforms
    {
        let field = FieldPath::parse(&field_path)?;
        refuse_document_name(&field, "a field transform")?;
        if !seen.insert(field.clone()) {
            return Err(Refusal::invalid(format!(
                "The field '{field_path}' can be transformed only once in a write."
            )));
        }
        let kind = decode_transform_type(transform_type, &field_path)?;
        decoded.push(Transform { field, kind });
    }
    Ok(decoded)
}

fn decode_transform_type(
    transform_type: Option<TransformType>,
    field: &str,
) -> Result<TransformKind, Refusal> {
    let transform_type = transform_type.ok_or_else(|| {
        Refusal::invalid(format!(
            "FieldTransform.transform_type must be set for '{field}'."
        ))
    })?;
    Ok(match transform_type {
        TransformType::SetToServerValue(number) => match ServerValue::try_from(number) {
            Ok(ServerValue::RequestTime) => TransformKind::RequestTime,
            Ok(ServerValue::Unspecified) | Err(_) => {
                return Err(Refusal::invalid(format!(
                    "FieldTransform.set_to_server_value must be REQUEST_TIME for '{field}'."
                )));
            }
        },
        TransformType::Increment(value) => {
            TransformKind::Increment(decode_number(value, "increment", field)?)
        }
        TransformType::Maximum(value) => {
            TransformKind::Maximum(decode_number(value, "maximum", field)?)
        }
        TransformType::Minimum(value) => {
            TransformKind::Minimum(decode_number(value, "minimum", field)?)
        }
        TransformType::AppendMissingElements(array) => {
            TransformKind::AppendMissing(decode_array(array)?)
        }
        TransformType::RemoveAllFromArray(array) => TransformKind::RemoveAll(decode_array(array)?),
    })
}

fn decode_number(value: pb::Value, transform: &str, field: &str) -> Result<Value, Refusal> {
    match decode_value(value)? {
        number @ (Value::Integer(_) | Value::Double(_)) => Ok(number),
        _ => Err(Refusal::invalid(format!(
            "FieldTransform.{transform} must be an integer or a double for '{field}'."
        ))),
    }
}

fn refuse_document_name(path: &FieldPath, place: &str) -> Result<(), Refusal> {
    if path
        .segments()
        .first()
        .is_some_and(|segment| segment == "__name__")
    {
        return Err(Refusal::invalid(format!(
            "The document name '__name__' cannot be written and must not be in {place}."
        )));
    }
    Ok(())
}

/// Writes what one write came to.
pub fn encode_write_result(outcome: &WriteOutcome) -> pb::WriteResult {
    let WriteOutcome {
        update_time,
        transform_results,
    } = outcome;
    pb::WriteResult {
        update_time: update_time.map(encode_timestamp),
        transform_results: transform_results.iter().map(encode_value).collect(),
    }
}

#[cfg(test)]
mod tests;
