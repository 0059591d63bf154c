//! Documents as stored bytes.
//!
//! A record is one format byte, the create time and the update time (microseconds since 1970, 8 bytes
//! big-endian each), and then the document's fields exactly as the wire carries them in a `Document`
//! message: repeated field 2, a map entry for each field. The small codec is written by hand, so that this
//! crate needs no protobuf and what is on disk cannot change by upgrading a library.
//!
//! Decoding never panics, whatever the bytes: everything that is not what `encode_record` writes is
//! `Error::Corrupt`. Nesting is bounded by `DEPTH_MAX`.

use std::collections::BTreeMap;

use bytes::Bytes;
use watchfire_model::{Document, DocumentName, DocumentPath, Fields, GeoPoint, Timestamp, Value};
use watchfire_storage::Version;

use crate::error::Error;

/// The format that is written. Older formats stay readable.
pub const RECORD_FORMAT: u8 = 1;

/// How deep maps and arrays may nest in stored bytes. Well above what a document may have.
pub const DEPTH_MAX: usize = 64;

const HEADER_LEN: usize = 17;

const WIRE_VARINT: u8 = 0;
const WIRE_FIXED64: u8 = 1;
const WIRE_LEN: u8 = 2;

/// The map keys by which the wire tells a vector from a map.
const VECTOR_TYPE_KEY: &str = "__type__";
const VECTOR_TYPE: &str = "__vector__";
const VECTOR_VALUE_KEY: &str = "value";

/// The stored bytes of a document. The path is not in them: it is the key.
pub fn encode_record(document: &Document) -> Bytes {
    let mut out = Vec::with_capacity(HEADER_LEN + 64 * document.fields.len());
    out.push(RECORD_FORMAT);
    out.extend_from_slice(&document.create_time.micros().to_be_bytes());
    out.extend_from_slice(&document.update_time.micros().to_be_bytes());
    encode_map(&document.fields, 2, &mut out);
    Bytes::from(out)
}

/// Reads a document back. Fails with `Corrupt` on anything that `encode_record` does not write.
pub fn decode_record(path: &DocumentPath, bytes: &[u8]) -> Result<Document, Error> {
    let read = || -> Option<Document> {
        let mut input = Input { rest: bytes };
        if input.byte()? != RECORD_FORMAT {
            return None;
        }
        let create_time = Timestamp::from_micros(i64::from_be_bytes(input.array()?)).ok()?;
        let update_time = Timestamp::from_micros(i64::from_be_bytes(input.array()?)).ok()?;
        let fields = decode_map(input.rest, 2, 0)?;
        Some(Document {
            path: path.clone(),
            create_time,
            update_time,
            fields,
        })
    };
    read().ok_or_else(|| {
        Error::Corrupt(format!(
            "the stored bytes of document {path} are not a record of format {RECORD_FORMAT}"
        ))
    })
}

/// A document without its fields, which are not looked at: for those who ask for its name and times alone.
pub fn decode_times(path: &DocumentPath, bytes: &[u8]) -> Result<Document, Error> {
    decode_record(path, bytes.get(..HEADER_LEN).unwrap_or(bytes))
}

/// The version of the commit that wrote a record: its update time. `None` if the bytes are no record.
pub fn record_since(bytes: &[u8]) -> Option<Version> {
    let mut input = Input { rest: bytes };
    if input.byte()? != RECORD_FORMAT {
        return None;
    }
    let _create_time = input.array::<8>()?;
    let update_time = i64::from_be_bytes(input.array()?);
    Some(Version(u64::try_from(update_time).unwrap_or(0)))
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_tag(field: u8, wire: u8, out: &mut Vec<u8>) {
    put_varint(u64::from(field) << 3 | u64::from(wire), out);
}

fn put_bytes(field: u8, bytes: &[u8], out: &mut Vec<u8>) {
    put_tag(field, WIRE_LEN, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_double(field: u8, value: f64, out: &mut Vec<u8>) {
    put_tag(field, WIRE_FIXED64, out);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// A map as repeated entries under `field`: key 1, value 2.
fn encode_map(map: &BTreeMap<String, Value>, field: u8, out: &mut Vec<u8>) {
    let mut entry = Vec::new();
    for (key, value) in map {
        entry.clear();
        encode_map_entry(key, value, &mut entry);
        put_bytes(field, &entry, out);
    }
}

fn encode_map_entry(key: &str, value: &Value, out: &mut Vec<u8>) {
    put_bytes(1, key.as_bytes(), out);
    let mut inner = Vec::new();
    encode_value(value, &mut inner);
    put_bytes(2, &inner, out);
}

/// The body of a `Value` message. Depth is bounded by what a document may hold.
fn encode_value(value: &Value, out: &mut Vec<u8>) {
    let mut inner = Vec::new();
    match value {
        Value::Boolean(value) => {
            put_tag(1, WIRE_VARINT, out);
            put_varint(u64::from(*value), out);
        }
        Value::Integer(value) => {
            put_tag(2, WIRE_VARINT, out);
            put_varint(*value as u64, out);
        }
        Value::Double(value) => put_double(3, *value, out),
        Value::Reference(name) => put_bytes(5, name.to_string().as_bytes(), out),
        Value::Map(map) => {
            encode_map(map, 1, &mut inner);
            put_bytes(6, &inner, out);
        }
        Value::GeoPoint(point) => {
            put_double(1, point.latitude, &mut inner);
            put_double(2, point.longitude, &mut inner);
            put_bytes(8, &inner, out);
        }
        Value::Array(values) => {
            encode_array(values.iter(), &mut inner);
            put_bytes(9, &inner, out);
        }
        Value::Timestamp(timestamp) => {
            put_tag(1, WIRE_VARINT, &mut inner);
            put_varint(timestamp.seconds() as u64, &mut inner);
            put_tag(2, WIRE_VARINT, &mut inner);
            put_varint(timestamp.nanos() as u64, &mut inner);
            put_bytes(10, &inner, out);
        }
        Value::Null => {
            put_tag(11, WIRE_VARINT, out);
            put_varint(0, out);
        }
        Value::String(text) => put_bytes(17, text.as_bytes(), out),
        Value::Bytes(bytes) => put_bytes(18, bytes, out),
        Value::Vector(doubles) => {
            let mut entry = Vec::new();
            encode_map_entry(
                VECTOR_TYPE_KEY,
                &Value::String(VECTOR_TYPE.to_owned()),
                &mut entry,
            );
            put_bytes(1, &entry, &mut inner);
            let doubles: Vec<Value> = doubles
                .iter()
                .map(|double| Value::Double(*double))
                .collect();
            entry.clear();
            encode_map_entry(VECTOR_VALUE_KEY, &Value::Array(doubles), &mut entry);
            put_bytes(1, &entry, &mut inner);
            put_bytes(6, &inner, out);
        }
    }
}

fn encode_array<'a>(values: impl Iterator<Item = &'a Value>, out: &mut Vec<u8>) {
    let mut inner = Vec::new();
    for value in values {
        inner.clear();
        encode_value(value, &mut inner);
        put_bytes(1, &inner, out);
    }
}

/// Bytes that are still to be read. Every read answers `None` at the end.
struct Input<'a> {
    rest: &'a [u8],
}

/// One field of a message.
enum Part<'a> {
    Varint(u64),
    Fixed64(u64),
    Len(&'a [u8]),
}

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*first)
    }

    fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let (first, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        Some(first)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// The next field's number and content. The outer `None` is malformed, the inner one the end.
    fn part(&mut self) -> Option<Option<(u64, Part<'a>)>> {
        if self.rest.is_empty() {
            return Some(None);
        }
        let tag = self.varint()?;
        let part = match (tag & 7) as u8 {
            WIRE_VARINT => Part::Varint(self.varint()?),
            WIRE_FIXED64 => Part::Fixed64(u64::from_le_bytes(self.array()?)),
            WIRE_LEN => {
                let len = self.varint()?;
                Part::Len(self.take(len)?)
            }
            _ => return None,
        };
        Some(Some((tag >> 3, part)))
    }
}

fn decode_map(bytes: &[u8], field: u64, depth: usize) -> Option<Fields> {
    let mut input = Input { rest: bytes };
    let mut map = BTreeMap::new();
    while let Some((number, part)) = input.part()? {
        let Part::Len(entry) = part else { return None };
        if number != field {
            return None;
        }
        let (key, value) = decode_map_entry(entry, depth)?;
        map.insert(key, value);
    }
    Some(map)
}

fn decode_map_entry(bytes: &[u8], depth: usize) -> Option<(String, Value)> {
    let mut input = Input { rest: bytes };
    let (1, Part::Len(key)) = input.part()?? else {
        return None;
    };
    let (2, Part::Len(value)) = input.part()?? else {
        return None;
    };
    if !input.rest.is_empty() {
        return None;
    }
    Some((text(key)?, decode_value(value, depth)?))
}

fn text(bytes: &[u8]) -> Option<String> {
    Some(std::str::from_utf8(bytes).ok()?.to_owned())
}

fn decode_value(bytes: &[u8], depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    let mut input = Input { rest: bytes };
    let value = match input.part()?? {
        (1, Part::Varint(value @ 0..=1)) => Value::Boolean(value == 1),
        (2, Part::Varint(value)) => Value::Integer(value as i64),
        (3, Part::Fixed64(bits)) => Value::Double(f64::from_bits(bits)),
        (5, Part::Len(name)) => Value::Reference(DocumentName::parse(&text(name)?).ok()?),
        (6, Part::Len(map)) => vector_or_map(decode_map(map, 1, depth + 1)?),
        (8, Part::Len(point)) => decode_geo_point(point)?,
        (9, Part::Len(array)) => Value::Array(decode_array(array, depth + 1)?),
        (10, Part::Len(timestamp)) => decode_timestamp(timestamp)?,
        (11, Part::Varint(0)) => Value::Null,
        (17, Part::Len(string)) => Value::String(text(string)?),
        (18, Part::Len(bytes)) => Value::Bytes(bytes.to_vec()),
        _ => return None,
    };
    input.rest.is_empty().then_some(value)
}

fn decode_geo_point(bytes: &[u8]) -> Option<Value> {
    let mut input = Input { rest: bytes };
    let (1, Part::Fixed64(latitude)) = input.part()?? else {
        return None;
    };
    let (2, Part::Fixed64(longitude)) = input.part()?? else {
        return None;
    };
    let point = GeoPoint {
        latitude: f64::from_bits(latitude),
        longitude: f64::from_bits(longitude),
    };
    input.rest.is_empty().then_some(Value::GeoPoint(point))
}

fn decode_timestamp(bytes: &[u8]) -> Option<Value> {
    let mut input = Input { rest: bytes };
    let (1, Part::Varint(seconds)) = input.part()?? else {
        return None;
    };
    let (2, Part::Varint(nanos)) = input.part()?? else {
        return None;
    };
    let timestamp = Timestamp::from_parts(seconds as i64, i32::try_from(nanos).ok()?).ok()?;
    input.rest.is_empty().then_some(Value::Timestamp(timestamp))
}

fn decode_array(bytes: &[u8], depth: usize) -> Option<Vec<Value>> {
    let mut input = Input { rest: bytes };
    let mut values = Vec::new();
    while let Some((number, part)) = input.part()? {
        let Part::Len(value) = part else { return None };
        if number != 1 {
            return None;
        }
        values.push(decode_value(value, depth)?);
    }
    Some(values)
}

/// A map in the shape of a vector is one: the wire knows no other way to say it.
fn vector_or_map(map: BTreeMap<String, Value>) -> Value {
    let doubles = match (
        map.len(),
        map.get(VECTOR_TYPE_KEY),
        map.get(VECTOR_VALUE_KEY),
    ) {
        (2, Some(Value::String(kind)), Some(Value::Array(values))) if kind == VECTOR_TYPE => values
            .iter()
            .map(|value| {
                if let Value::Double(double) = value {
                    Some(*double)
                } else {
                    None
                }
            })
            .collect::<Option<Vec<f64>>>(),
        _ => None,
    };
    doubles.map_or(Value::Map(map), Value::Vector)
}

#[cfg(test)]
mod tests;
