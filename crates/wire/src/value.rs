//! Values and moments in time: protocol ↔ model. Never judges whether a value may be stored (the
//! model does, when a write is applied), only whether it is a value at all.

use std::collections::BTreeMap;

use watchfire_model::{DocumentName, Fields, GeoPoint, Timestamp, Value};

use crate::pb;
use crate::pb::value::ValueType;
use crate::refusal::Refusal;

/// The map key by which a vector is told from a map, and what stands there.
const TYPE_KEY: &str = "__type__";
const VECTOR_TYPE: &str = "__vector__";
/// The map key under which a vector has its numbers.
const VECTOR_KEY: &str = "value";

/// Reads a moment; digits below a microsecond are dropped (rounded down).
/// Refused outside the years 1 to 9999.
pub fn decode_timestamp(timestamp: prost_types::Timestamp) -> Result<Timestamp, Refusal> {
    let prost_types::Timestamp { seconds, nanos } = timestamp;
    Ok(Timestamp::from_parts(seconds, nanos)?)
}

/// Writes a moment.
pub fn encode_timestamp(timestamp: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: timestamp.seconds(),
        nanos: timestamp.nanos(),
    }
}

/// Reads one value. Every NaN becomes the same NaN; a map marked as a vector becomes a vector.
/// Refused: an unset value, places off the globe, references that are no full document name, vectors
/// of anything but doubles, moments out of range; and, as unsupported, the values of pipelines.
pub fn decode_value(value: pb::Value) -> Result<Value, Refusal> {
    let pb::Value { value_type } = value;
    let value_type = value_type.ok_or_else(|| Refusal::invalid("Value.value_type must be set."))?;
    Ok(match value_type {
        // The enumeration has one member; the number says nothing more.
        ValueType::NullValue(_) => Value::Null,
        ValueType::BooleanValue(boolean) => Value::Boolean(boolean),
        ValueType::IntegerValue(integer) => Value::Integer(integer),
        ValueType::DoubleValue(double) => Value::Double(one_nan(double)),
        ValueType::TimestampValue(timestamp) => Value::Timestamp(decode_timestamp(timestamp)?),
        ValueType::StringValue(text) => Value::String(text),
        ValueType::BytesValue(bytes) => Value::Bytes(bytes),
        ValueType::ReferenceValue(name) => Value::Reference(DocumentName::parse(&name)?),
        ValueType::GeoPointValue(place) => Value::GeoPoint(decode_geo_point(place)?),
        ValueType::ArrayValue(array) => Value::Array(decode_array(array)?),
        ValueType::MapValue(map) => decode_map(map)?,
        ValueType::FieldReferenceValue(_) => {
            return Err(Refusal::unimplemented("Value.field_reference_value"));
        }
        ValueType::VariableReferenceValue(_) => {
            return Err(Refusal::unimplemented("Value.variable_reference_value"));
        }
        ValueType::FunctionValue(_) => {
            return Err(Refusal::unimplemented("Value.function_value"));
        }
        ValueType::PipelineValue(_) => {
            return Err(Refusal::unimplemented("Value.pipeline_value"));
        }
    })
}

/// Reads the fields of a document.
pub fn decode_fields(fields: BTreeMap<String, pb::Value>) -> Result<Fields, Refusal> {
    fields
        .into_iter()
        .map(|(name, value)| Ok((name, decode_value(value)?)))
        .collect()
}

/// Reads the elements of an array.
pub fn decode_array(array: pb::ArrayValue) -> Result<Vec<Value>, Refusal> {
    let pb::ArrayValue { values } = array;
    values.into_iter().map(decode_value).collect()
}

fn decode_geo_point(place: pb::LatLng) -> Result<GeoPoint, Refusal> {
    let pb::LatLng {
        latitude,
        longitude,
    } = place;
    let place = GeoPoint {
        latitude,
        longitude,
    };
    place.check()?;
    Ok(place)
}

fn decode_map(map: pb::MapValue) -> Result<Value, Refusal> {
    let pb::MapValue { fields } = map;
    if is_vector(&fields) {
        return decode_vector(fields);
    }
    Ok(Value::Map(decode_fields(fields)?))
}

fn is_vector(fields: &BTreeMap<String, pb::Value>) -> bool {
    fields.get(TYPE_KEY).is_some_and(|value| {
        matches!(&value.value_type, Some(ValueType::StringValue(text)) if text == VECTOR_TYPE)
    })
}

fn decode_vector(mut fields: BTreeMap<String, pb::Value>) -> Result<Value, Refusal> {
    let numbers = fields.remove(VECTOR_KEY).and_then(|value| value.value_type);
    let Some(ValueType::ArrayValue(pb::ArrayValue { values })) = numbers else {
        return Err(Refusal::invalid(
            "A vector must have an array of doubles in the field 'value'.",
        ));
    };
    fields.remove(TYPE_KEY);
    if let Some((name, _)) = fields.first_key_value() {
        return Err(Refusal::invalid(format!(
            "A vector must have the fields '__type__' and 'value' only, but has '{name}'."
        )));
    }
    let mut vector = Vec::with_capacity(values.len());
    for pb::Value { value_type } in values {
        let Some(ValueType::DoubleValue(double)) = value_type else {
            return Err(Refusal::invalid("A vector must hold doubles only."));
        };
        vector.push(one_nan(double));
    }
    Ok(Value::Vector(vector))
}

fn one_nan(double: f64) -> f64 {
    if double.is_nan() { f64::NAN } else { double }
}

/// Writes one value.
pub fn encode_value(value: &Value) -> pb::Value {
    let value_type = match value {
        Value::Null => ValueType::NullValue(prost_types::NullValue::NullValue.into()),
        Value::Boolean(boolean) => ValueType::BooleanValue(*boolean),
        Value::Integer(integer) => ValueType::IntegerValue(*integer),
        Value::Double(double) => ValueType::DoubleValue(*double),
        Value::Timestamp(timestamp) => ValueType::TimestampValue(encode_timestamp(*timestamp)),
        Value::String(text) => ValueType::StringValue(text.clone()),
        Value::Bytes(bytes) => ValueType::BytesValue(bytes.clone()),
        Value::Reference(name) => ValueType::ReferenceValue(name.to_string()),
        Value::GeoPoint(GeoPoint {
            latitude,
            longitude,
        }) => ValueType::GeoPointValue(pb::LatLng {
            latitude: *latitude,
            longitude: *longitude,
        }),
        Value::Array(values) => {
            ValueType::ArrayValue(encode_array(values.iter().map(encode_value)))
        }
        Value::Vector(numbers) => {
            let numbers = numbers.iter().map(|number| pb::Value {
                value_type: Some(ValueType::DoubleValue(*number)),
            });
            let marker = ValueType::StringValue(VECTOR_TYPE.to_owned());
            let numbers = ValueType::ArrayValue(encode_array(numbers));
            let fields = [(TYPE_KEY, marker), (VECTOR_KEY, numbers)]
                .into_iter()
                .map(|(key, value)| {
                    (
                        key.to_owned(),
                        pb::Value {
                            value_type: Some(value),
                        },
                    )
                })
                .collect();
            ValueType::MapValue(pb::MapValue { fields })
        }
        Value::Map(fields) => ValueType::MapValue(pb::MapValue {
            fields: encode_fields(fields),
        }),
    };
    pb::Value {
        value_type: Some(value_type),
    }
}

/// Writes the fields of a document.
pub fn encode_fields(fields: &Fields) -> BTreeMap<String, pb::Value> {
    fields
        .iter()
        .map(|(name, value)| (name.clone(), encode_value(value)))
        .collect()
}

fn encode_array(values: impl Iterator<Item = pb::Value>) -> pb::ArrayValue {
    pb::ArrayValue {
        values: values.collect(),
    }
}

#[cfg(test)]
mod tests;
