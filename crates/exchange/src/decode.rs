//! A record as a document.
//!
//! Decoding says what the bytes are, or why they are none of Firestore's. Whether the document may be stored (reserved
//! names, sizes) is for the model to say.

use std::collections::BTreeMap;

use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use watchfire_model::limits::NESTING_DEPTH_MAX;
use watchfire_model::{
    DatabaseName, DocumentName, DocumentPath, Fields, GeoPoint, Timestamp, Value,
};

use crate::encode::{DEFAULT_DATABASE, TYPE_FIELD, VECTOR_FIELD, VECTOR_TYPE};
use crate::entity::{
    EntityProto, PointValue, Property, PropertyValue, Reference, ReferenceValue, meaning,
};

/// Properties of one record, those within its maps not counted. A document within its limits has fewer values.
const PROPERTIES_MAX: usize = 1 << 20;

/// A document, and the database that it comes from.
#[derive(Clone, Debug)]
pub struct Entity {
    pub database: DatabaseName,
    pub path: DocumentPath,
    pub fields: Fields,
}

impl Entity {
    /// Makes references to documents of its own database those to documents of `database`. Others stay as they are.
    pub fn move_to(&mut self, database: &DatabaseName) {
        for value in self.fields.values_mut() {
            move_references(value, &self.database, database);
        }
        self.database = database.clone();
    }
}

/// As deep as the value is, which decoding has bounded.
fn move_references(value: &mut Value, from: &DatabaseName, to: &DatabaseName) {
    match value {
        Value::Reference(name) if name.database == *from => name.database = to.clone(),
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| move_references(value, from, to)),
        Value::Map(fields) => fields
            .values_mut()
            .for_each(|value| move_references(value, from, to)),
        Value::Null
        | Value::Boolean(_)
        | Value::Integer(_)
        | Value::Double(_)
        | Value::Timestamp(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Reference(_)
        | Value::GeoPoint(_)
        | Value::Vector(_) => {}
    }
}

/// Reads a record. The complaint is a sentence about the record, without its place.
pub fn decode_entity(bytes: &[u8]) -> Result<Entity, String> {
    let EntityProto {
        key,
        property,
        raw_property,
        // The key says it all.
        entity_group: _,
    } = decode_message(bytes)?;
    let Reference {
        app,
        path,
        name_space,
        database_id,
    } = key.ok_or("the record has no key, so it is no document")?;
    let database = decode_database(app, name_space, database_id)?;
    let elements = path.unwrap_or_default().element.into_iter();
    let path = decode_path(elements.map(|element| (element.kind, element.id, element.name)))?;
    let fields = decode_properties(property, raw_property, 0)
        .map_err(|complaint| format!("document {path}: {complaint}"))?;
    Ok(Entity {
        database,
        path,
        fields,
    })
}

fn decode_message(bytes: &[u8]) -> Result<EntityProto, String> {
    let broken = |error| format!("the record is no entity of Firestore: {error}");
    // A property takes a hundred times the memory of the shortest bytes that make one.
    let (mut rest, mut count) = (bytes, 0);
    while !rest.is_empty() {
        let (number, wire_type) = decode_key(&mut rest).map_err(broken)?;
        if wire_type == WireType::EndGroup {
            return Err(
                "the record is no entity of Firestore: a group ends that has not begun".to_owned(),
            );
        }
        skip_field(wire_type, number, &mut rest, DecodeContext::default()).map_err(broken)?;
        count += 1;
        if count > PROPERTIES_MAX {
            return Err(format!(
                "the record has more than {PROPERTIES_MAX} properties"
            ));
        }
    }
    EntityProto::decode(bytes).map_err(broken)
}

fn decode_database(
    app: Option<String>,
    name_space: Option<String>,
    database_id: Option<String>,
) -> Result<DatabaseName, String> {
    if let Some(name_space) = name_space.filter(|name| !name.is_empty()) {
        return Err(format!(
            "it is in the namespace \"{name_space}\", which only Datastore has"
        ));
    }
    let app = app.unwrap_or_default();
    // A mark of where it ran stands before the project.
    let project = app
        .rsplit_once('~')
        .map_or(app.as_str(), |(_, after)| after);
    let id = database_id.filter(|id| !id.is_empty());
    let id = id.as_deref().unwrap_or(DEFAULT_DATABASE);
    DatabaseName::new(project, id).map_err(|invalid| invalid.to_string())
}

type ElementParts = (Option<String>, Option<i64>, Option<String>);

fn decode_path(elements: impl Iterator<Item = ElementParts>) -> Result<DocumentPath, String> {
    let mut text = String::new();
    for (kind, id, name) in elements {
        let id = match (id, name) {
            (Some(number), None) => format!("__id{number}__"),
            (None, Some(name)) => name,
            (Some(_), Some(name)) => return Err(format!("the id \"{name}\" is a number too")),
            (None, None) => return Err("a document has no id".to_owned()),
        };
        let kind = kind.ok_or("a collection has no id")?;
        for segment in [&kind, &id] {
            if segment.contains('/') {
                return Err(format!("the id \"{segment}\" has a slash"));
            }
            if !text.is_empty() {
                text.push('/');
            }
            text.push_str(segment);
        }
    }
    DocumentPath::parse(&text).map_err(|invalid| invalid.to_string())
}

/// What the properties of one name come to.
enum Slot {
    Single(Value),
    Elements(Vec<Value>),
    Numbers(Vec<f64>),
}

/// `depth` is the number of maps and arrays around these fields.
fn decode_properties(
    indexed: Vec<Property>,
    others: Vec<Property>,
    depth: usize,
) -> Result<Fields, String> {
    let mut slots: BTreeMap<String, Slot> = BTreeMap::new();
    for property in indexed.into_iter().chain(others) {
        let Property {
            meaning,
            name,
            multiple,
            value,
        } = property;
        let name = name.ok_or("a field has no name")?;
        let meaning = meaning.unwrap_or(0);
        let value = value.unwrap_or_default();
        let multiple = multiple.unwrap_or(false);
        let at_name = |complaint| format!("field \"{name}\": {complaint}");
        if meaning == meaning::VECTOR {
            let number = decode_number(&value).map_err(at_name)?;
            match slots.entry(name).or_insert(Slot::Numbers(Vec::new())) {
                Slot::Numbers(numbers) => numbers.push(number),
                Slot::Single(_) | Slot::Elements(_) => {
                    return Err("a vector has other values among its numbers".to_owned());
                }
            }
        } else if multiple {
            let value = decode_value(value, meaning, depth + 1).map_err(at_name)?;
            match slots.entry(name).or_insert(Slot::Elements(Vec::new())) {
                Slot::Elements(values) => values.push(value),
                Slot::Single(_) | Slot::Numbers(_) => {
                    return Err("an array has the name of another value".to_owned());
                }
            }
        } else {
            let value = decode_value(value, meaning, depth).map_err(at_name)?;
            if slots.insert(name.clone(), Slot::Single(value)).is_some() {
                return Err(format!("field \"{name}\" is there twice"));
            }
        }
    }
    let fields = slots.into_iter().map(|(name, slot)| {
        let value = match slot {
            Slot::Single(value) => value,
            Slot::Elements(values) => Value::Array(values),
            Slot::Numbers(numbers) => Value::Vector(numbers),
        };
        (name, value)
    });
    Ok(fields.collect())
}

fn decode_number(value: &PropertyValue) -> Result<f64, String> {
    match value {
        PropertyValue {
            int64: None,
            boolean: None,
            string: None,
            double: Some(double),
            point: None,
            user: None,
            reference: None,
        } => Ok(one_nan(*double)),
        _ => Err("a vector must hold doubles only".to_owned()),
    }
}

fn decode_value(value: PropertyValue, meaning: i32, depth: usize) -> Result<Value, String> {
    let PropertyValue {
        int64,
        boolean,
        string,
        double,
        point,
        user,
        reference,
    } = value;
    if user.is_some() {
        return Err("a user is a value that only Datastore has".to_owned());
    }
    let foreign =
        |what: &str| format!("{what} with the meaning {meaning} is none of Firestore's values");
    match (int64, boolean, string, double, point, reference) {
        (None, None, None, None, None, None) => match meaning {
            0 => Ok(Value::Null),
            meaning::EMPTY_LIST => Ok(Value::Array(Vec::new())),
            _ => Err(foreign("nothing")),
        },
        (Some(integer), None, None, None, None, None) => match meaning {
            0 => Ok(Value::Integer(integer)),
            meaning::TIMESTAMP => Timestamp::from_micros(integer)
                .map(Value::Timestamp)
                .map_err(|invalid| invalid.to_string()),
            _ => Err(foreign("an integer")),
        },
        (None, Some(boolean), None, None, None, None) => match meaning {
            0 => Ok(Value::Boolean(boolean)),
            _ => Err(foreign("a boolean")),
        },
        (None, None, Some(bytes), None, None, None) => match meaning {
            0 | meaning::TEXT => String::from_utf8(bytes)
                .map(Value::String)
                .map_err(|_| "a text is not UTF-8".to_owned()),
            meaning::BLOB | meaning::BYTE_STRING => Ok(Value::Bytes(bytes)),
            meaning::ENTITY => decode_map(&bytes, depth),
            _ => Err(foreign("a string")),
        },
        (None, None, None, Some(double), None, None) => match meaning {
            0 => Ok(Value::Double(one_nan(double))),
            _ => Err(foreign("a double")),
        },
        (None, None, None, None, Some(point), None) => match meaning {
            0 | meaning::GEO_POINT => decode_point(point),
            _ => Err(foreign("a point")),
        },
        (None, None, None, None, None, Some(reference)) => match meaning {
            0 => decode_reference(reference).map(Value::Reference),
            _ => Err(foreign("a reference")),
        },
        _ => Err("one value is of several types".to_owned()),
    }
}

/// Calls itself by way of its values, at most `NESTING_DEPTH_MAX` deep.
fn decode_map(bytes: &[u8], depth: usize) -> Result<Value, String> {
    if depth >= NESTING_DEPTH_MAX {
        return Err(format!(
            "maps and arrays are nested more than {NESTING_DEPTH_MAX} levels deep"
        ));
    }
    let EntityProto {
        // Maps have none, whatever stands there.
        key: _,
        property,
        raw_property,
        entity_group: _,
    } = decode_message(bytes)?;
    let fields = decode_properties(property, raw_property, depth + 1)?;
    let is_vector =
        matches!(fields.get(TYPE_FIELD), Some(Value::String(text)) if text == VECTOR_TYPE);
    if is_vector {
        decode_vector(fields)
    } else {
        Ok(Value::Map(fields))
    }
}

/// A vector that is written as a map.
fn decode_vector(mut fields: Fields) -> Result<Value, String> {
    fields.remove(TYPE_FIELD);
    let numbers = fields.remove(VECTOR_FIELD);
    let (Some(Value::Array(values)), true) = (numbers, fields.is_empty()) else {
        return Err(format!(
            "a vector must have the field \"{VECTOR_FIELD}\" with an array, and no other"
        ));
    };
    let numbers = values.into_iter().map(|value| match value {
        Value::Double(number) => Ok(number),
        _ => Err("a vector must hold doubles only".to_owned()),
    });
    Ok(Value::Vector(numbers.collect::<Result<_, _>>()?))
}

fn decode_point(point: PointValue) -> Result<Value, String> {
    let PointValue { x, y } = point;
    let point = GeoPoint {
        latitude: x.unwrap_or(0.0),
        longitude: y.unwrap_or(0.0),
    };
    point.check().map_err(|invalid| invalid.to_string())?;
    Ok(Value::GeoPoint(point))
}

fn decode_reference(reference: ReferenceValue) -> Result<DocumentName, String> {
    let ReferenceValue {
        app,
        path_element,
        name_space,
        database_id,
    } = reference;
    let elements = path_element.into_iter();
    Ok(DocumentName {
        database: decode_database(app, name_space, database_id)?,
        path: decode_path(elements.map(|element| (element.kind, element.id, element.name)))?,
    })
}

fn one_nan(double: f64) -> f64 {
    if double.is_nan() { f64::NAN } else { double }
}

#[cfg(test)]
mod tests;
