//! A document as a record.
//!
//! The order of fields is that of the model, so that the same document has the same bytes every time.

use prost::Message;
use watchfire_model::{DatabaseName, DocumentName, DocumentPath, Fields, Value, path::numeric_id};

use crate::entity::{
    Element, EntityProto, Path, PathElement, PointValue, Property, PropertyValue, Reference,
    ReferenceValue, meaning,
};
use crate::error::Error;
use crate::log::RECORD_BYTES_MAX;

/// What stands before the project in names. The real service writes where it ran; the official emulator writes this,
/// and everybody reads over it.
const APP_MARK: &str = "dev~";
/// The database that has no id in this format.
pub(crate) const DEFAULT_DATABASE: &str = "(default)";
/// The names by which a vector is written where the format has no place for one: as a map, as it travels.
pub(crate) const TYPE_FIELD: &str = "__type__";
pub(crate) const VECTOR_TYPE: &str = "__vector__";
pub(crate) const VECTOR_FIELD: &str = "value";

/// The record of a document. Fails with `Document` where its fields cannot be said: an array directly within an array,
/// or more than `RECORD_BYTES_MAX` in these words.
pub fn encode_entity(
    database: &DatabaseName,
    path: &DocumentPath,
    fields: &Fields,
) -> Result<Vec<u8>, Error> {
    let failed = |complaint| Error::Document {
        document: path.to_string(),
        complaint,
    };
    let elements: Vec<Element> = pairs(path)
        .map(|(kind, id)| match numeric_id(id) {
            Some(number) => Element {
                kind: Some(kind.to_owned()),
                id: Some(number),
                name: None,
            },
            None => Element {
                kind: Some(kind.to_owned()),
                id: None,
                name: Some(id.to_owned()),
            },
        })
        .collect();
    let key = Reference {
        app: Some(app(database)),
        path: Some(Path {
            element: elements.clone(),
        }),
        name_space: None,
        database_id: database_id(database),
    };
    let group = Path {
        element: elements.into_iter().take(1).collect(),
    };
    let entity = encode_fields(key, group, fields).map_err(failed)?;
    let len = entity.encoded_len();
    if len > RECORD_BYTES_MAX {
        return Err(failed(format!(
            "it takes {len} bytes in this format, at most {RECORD_BYTES_MAX} are written"
        )));
    }
    Ok(entity.encode_to_vec())
}

fn encode_fields(key: Reference, group: Path, fields: &Fields) -> Result<EntityProto, String> {
    let mut entity = EntityProto {
        key: Some(key),
        property: Vec::new(),
        raw_property: Vec::new(),
        entity_group: Some(group),
    };
    for (name, value) in fields {
        match value {
            // By a property that is indexed, as everybody does.
            Value::Array(values) if values.is_empty() => entity.property.push(property(
                name,
                Some(meaning::EMPTY_LIST),
                false,
                PropertyValue::default(),
            )),
            Value::Array(values) => {
                for value in values {
                    let (meaning, value) = encode_value(value)?;
                    entity
                        .raw_property
                        .push(property(name, meaning, true, value));
                }
            }
            Value::Vector(numbers) if !numbers.is_empty() => {
                for number in numbers {
                    let value = PropertyValue {
                        double: Some(*number),
                        ..PropertyValue::default()
                    };
                    let meaning = Some(meaning::VECTOR);
                    entity
                        .raw_property
                        .push(property(name, meaning, true, value));
                }
            }
            single => {
                let (meaning, value) = encode_value(single)?;
                entity
                    .raw_property
                    .push(property(name, meaning, false, value));
            }
        }
    }
    Ok(entity)
}

fn property(name: &str, meaning: Option<i32>, multiple: bool, value: PropertyValue) -> Property {
    Property {
        meaning,
        name: Some(name.to_owned()),
        multiple: Some(multiple),
        value: Some(value),
    }
}

/// A value that is one property, with its meaning.
fn encode_value(value: &Value) -> Result<(Option<i32>, PropertyValue), String> {
    let mut encoded = PropertyValue::default();
    let meaning = match value {
        Value::Null => None,
        Value::Boolean(boolean) => {
            encoded.boolean = Some(*boolean);
            None
        }
        Value::Integer(integer) => {
            encoded.int64 = Some(*integer);
            None
        }
        Value::Double(double) => {
            encoded.double = Some(*double);
            None
        }
        Value::Timestamp(timestamp) => {
            encoded.int64 = Some(timestamp.micros());
            Some(meaning::TIMESTAMP)
        }
        Value::String(text) => {
            encoded.string = Some(text.clone().into_bytes());
            None
        }
        Value::Bytes(bytes) => {
            encoded.string = Some(bytes.clone());
            Some(meaning::BLOB)
        }
        Value::Reference(name) => {
            encoded.reference = Some(encode_reference(name));
            None
        }
        Value::GeoPoint(point) => {
            encoded.point = Some(PointValue {
                x: Some(point.latitude),
                y: Some(point.longitude),
            });
            Some(meaning::GEO_POINT)
        }
        Value::Map(fields) => {
            encoded.string = Some(encode_map(fields)?);
            Some(meaning::ENTITY)
        }
        // Empty, or in an array, where its numbers would be taken for elements.
        Value::Vector(numbers) => {
            let numbers = numbers.iter().map(|number| Value::Double(*number));
            let fields = Fields::from([
                (TYPE_FIELD.to_owned(), Value::String(VECTOR_TYPE.to_owned())),
                (VECTOR_FIELD.to_owned(), Value::Array(numbers.collect())),
            ]);
            encoded.string = Some(encode_map(&fields)?);
            Some(meaning::ENTITY)
        }
        Value::Array(_) => return Err("an array holds another one".to_owned()),
    };
    Ok((meaning, encoded))
}

/// Maps within maps go down as deep as the model lets values be.
fn encode_map(fields: &Fields) -> Result<Vec<u8>, String> {
    let key = Reference {
        app: Some(String::new()),
        path: Some(Path::default()),
        name_space: None,
        database_id: None,
    };
    Ok(encode_fields(key, Path::default(), fields)?.encode_to_vec())
}

fn encode_reference(name: &DocumentName) -> ReferenceValue {
    let DocumentName { database, path } = name;
    let path_element = pairs(path).map(|(kind, id)| match numeric_id(id) {
        Some(number) => PathElement {
            kind: Some(kind.to_owned()),
            id: Some(number),
            name: None,
        },
        None => PathElement {
            kind: Some(kind.to_owned()),
            id: None,
            name: Some(id.to_owned()),
        },
    });
    ReferenceValue {
        app: Some(app(database)),
        path_element: path_element.collect(),
        name_space: None,
        database_id: database_id(database),
    }
}

fn app(database: &DatabaseName) -> String {
    format!("{APP_MARK}{}", database.project())
}

fn database_id(database: &DatabaseName) -> Option<String> {
    let id = database.database();
    (id != DEFAULT_DATABASE).then(|| id.to_owned())
}

/// Collection and document ids, two by two.
fn pairs(path: &DocumentPath) -> impl Iterator<Item = (&str, &str)> {
    let kinds = path.segments().step_by(2);
    let ids = path.segments().skip(1).step_by(2);
    kinds.zip(ids)
}
