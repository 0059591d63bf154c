//! The total order as bytes: comparing encodings as bytes equals comparing values.
//!
//! # Shape
//!
//! A value is a tag (its place among the types) and a body that ends by itself, so that values, paths and more
//! values can be written one after another and still compare part by part: no encoding begins another one.
//! Between two tags there is room for types to come; `0x00` and `0x01` are below every tag and mean
//! "no more elements" and "another pair".
//!
//! | part | bytes |
//! |---|---|
//! | null | nothing after the tag |
//! | boolean | `0` or `1` |
//! | double | its 64 bits, big endian, turned so that they order as unsigned; NaN is all zeros, −0 is 0 |
//! | number | the nearest double, then the exact remainder as a biased 16-bit number |
//! | timestamp | microseconds, 64 bits, sign turned |
//! | string, bytes | escaped, then `00` |
//! | reference | project, database (both as strings), path |
//! | geo point | two doubles |
//! | array | each element, then `00` |
//! | vector | dimensions as 32 bits, then doubles |
//! | map | for each pair `01`, key as a string, value; then `00` |
//! | path | for each segment a tag (`01` numeric, `02` string) and the id; then `00` |
//!
//! # Why it is right
//!
//! *Escaping.* `00` becomes `01 01` and `01` becomes `01 02`; all else stands as it is. The end, `00`, is below
//! everything that can stand in its place, so that the shorter string comes first, and nothing depends on the
//! bytes that follow.
//!
//! *Numbers.* Rounding to the nearest double never swaps two numbers, it can only make them equal. So the
//! rounded number decides first, and where it is equal the remainder does, which is exact: doubles have none,
//! and an integer is at most 512 away from its double. So 2^53 + 1 sorts between its neighbours, and 3 equals 3.0.
//!
//! *Paths.* The end is below the tag of any segment: a document stands directly before its descendants, and the
//! encoding without the end (`encode_path_prefix`) begins exactly the keys at or below a path. What lies in
//! a collection, directly or deeper, is therefore one contiguous range.
//!
//! # At rest
//!
//! These bytes are keys on disk. A change to them is a new format of the keyspace; a test holds samples.
//!
//! # What is not done here
//!
//! Descending order (scans run both ways), the cut of long values in indexes, and decoding of values but for
//! numbers, which sums are made of, and paths.
//! Equal values have equal bytes, so that 3 and 3.0 cannot be told apart afterwards.

use crate::compare::rank;
use crate::path::{CollectionPath, DocumentPath, numeric_id};
use crate::value::Value;

/// Ends a sequence; below every tag.
const END: u8 = 0x00;

/// Goes before each pair of a map; above `END`.
const PAIR: u8 = 0x01;

/// The first byte of an escape, and a byte that must be escaped itself.
const ESCAPE: u8 = 0x01;

/// Goes before a numeric id; below `STRING_ID`.
const NUMERIC_ID: u8 = 0x01;

/// Goes before an id that is text.
const STRING_ID: u8 = 0x02;

/// The tag of the lowest type, and the distance from one type to the next.
const TAG_FIRST: u8 = 0x10;
const TAG_STEP: u8 = 0x08;

/// Added to the remainder of a number, so that it orders as unsigned.
const REMAINDER_BIAS: i128 = 0x8000;

/// Appends the encoding; no encoding is a prefix of another value's, so that encodings can be concatenated.
pub fn encode_value(value: &Value, out: &mut Vec<u8>) {
    encode_type(value.type_rank(), out);
    match value {
        Value::Null => {}
        Value::Boolean(boolean) => out.push(u8::from(*boolean)),
        Value::Integer(integer) => {
            let nearest = *integer as f64;
            let remainder = i128::from(*integer) - nearest as i128;
            encode_number(nearest, remainder, out);
        }
        Value::Double(double) => encode_number(*double, 0, out),
        Value::Timestamp(timestamp) => encode_integer(timestamp.micros(), out),
        Value::String(text) => encode_bytes(text.as_bytes(), out),
        Value::Bytes(bytes) => encode_bytes(bytes, out),
        Value::Reference(name) => {
            encode_bytes(name.database.project().as_bytes(), out);
            encode_bytes(name.database.database().as_bytes(), out);
            encode_path(&name.path, out);
        }
        Value::GeoPoint(point) => {
            encode_double(point.latitude, out);
            encode_double(point.longitude, out);
        }
        Value::Array(values) => {
            for value in values {
                encode_value(value, out);
            }
            out.push(END);
        }
        Value::Vector(numbers) => {
            let dimensions =
                u32::try_from(numbers.len()).expect("a vector of four billion numbers has no room");
            out.extend_from_slice(&dimensions.to_be_bytes());
            for number in numbers {
                encode_double(*number, out);
            }
        }
        Value::Map(fields) => {
            for (name, value) in fields {
                out.push(PAIR);
                encode_bytes(name.as_bytes(), out);
                encode_value(value, out);
            }
            out.push(END);
        }
    }
}

/// Appends the common prefix of all values of one type, given by [`Value::type_rank`].
pub fn encode_type(rank: u8, out: &mut Vec<u8>) {
    out.push(TAG_FIRST + TAG_STEP * rank);
}

/// Appends the path so that bytes order as `DocumentPath` does; self-terminated.
/// The encoding of a document is a byte prefix of nothing but itself, but a descendant's encoding
/// without its terminator starts with `encode_path_prefix` of the ancestor.
pub fn encode_path(path: &DocumentPath, out: &mut Vec<u8>) {
    encode_path_prefix(path.as_str(), out);
    out.push(END);
}

/// Appends the segments of any slash-separated path without the terminator:
/// the common prefix of all documents at or below it. The empty path is the root and appends nothing.
pub fn encode_path_prefix(path: &str, out: &mut Vec<u8>) {
    if path.is_empty() {
        return;
    }
    for segment in path.split('/') {
        match numeric_id(segment) {
            Some(number) => {
                out.push(NUMERIC_ID);
                encode_integer(number, out);
            }
            None => {
                out.push(STRING_ID);
                encode_bytes(segment.as_bytes(), out);
            }
        }
    }
}

/// Appends the common prefix of all documents in the collection: its direct children, each followed by its
/// own descendants. A direct child is a key in which exactly one segment and the end follow.
pub fn encode_collection_prefix(collection: &CollectionPath, out: &mut Vec<u8>) {
    encode_path_prefix(collection.as_str(), out);
}

/// Reads a path back from the start of `bytes`; returns it and the number of bytes used. `None` if malformed.
pub fn decode_path(bytes: &[u8]) -> Option<(DocumentPath, usize)> {
    let mut text: Vec<u8> = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        let (&tag, body) = rest.split_first()?;
        if tag == END {
            let path = DocumentPath::parse(std::str::from_utf8(&text).ok()?).ok()?;
            return Some((path, bytes.len() - body.len()));
        }
        if !text.is_empty() {
            text.push(b'/');
        }
        match tag {
            NUMERIC_ID => {
                let (number, after) = body.split_first_chunk::<8>()?;
                let number = u64::from_be_bytes(*number) ^ (1 << 63);
                text.extend_from_slice(format!("__id{}__", number as i64).as_bytes());
                rest = after;
            }
            STRING_ID => {
                let start = text.len();
                rest = decode_bytes(body, &mut text)?;
                // What `encode_path` would not have written is no encoding: a separator inside a segment,
                // an empty segment, or a number as text.
                let segment = std::str::from_utf8(text.get(start..)?).ok()?;
                if segment.is_empty() || segment.contains('/') || numeric_id(segment).is_some() {
                    return None;
                }
            }
            _ => return None,
        }
    }
}

/// The length of the encoded value at the start of `bytes`. `None` if it does not end within them, or is none.
///
/// Nesting is followed without recursion, so that any bytes may be asked about.
pub fn encoded_len(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    // For each open array or map: what may follow a value there.
    let mut open: Vec<Container> = Vec::new();
    loop {
        let (&tag, body) = rest.split_first()?;
        rest = match open.last() {
            Some(Container::Array | Container::Map) if tag == END => {
                open.pop();
                body
            }
            Some(Container::Map) if tag == PAIR => {
                let (&tag, body) = skip_bytes(body)?.split_first()?;
                skip_value(tag, body, &mut open)?
            }
            Some(Container::Map) => return None,
            Some(Container::Array) | None => skip_value(tag, body, &mut open)?,
        };
        if open.is_empty() {
            return Some(bytes.len() - rest.len());
        }
    }
}

/// The number at the start of an encoding. 3.0 and 3 have the same bytes and are read as 3. `None` if it is no number. −0 was written as 0.
pub fn decode_number(bytes: &[u8]) -> Option<Value> {
    let (&tag, body) = bytes.split_first()?;
    if tag != TAG_FIRST + TAG_STEP * rank::NUMBER {
        return None;
    }
    let (ordered, rest) = body.split_first_chunk::<8>()?;
    let remainder = rest.first_chunk::<2>()?;
    let ordered = u64::from_be_bytes(*ordered);
    let remainder = i128::from(u16::from_be_bytes(*remainder)) - REMAINDER_BIAS;
    let nearest = match ordered {
        0 => f64::NAN,
        _ if ordered >> 63 == 1 => f64::from_bits(ordered & !(1 << 63)),
        _ => f64::from_bits(!ordered),
    };
    // Saturates: what no integer reaches is not equal to the integer below.
    let whole = nearest as i128;
    let integer = whole
        .checked_add(remainder)
        .and_then(|sum| i64::try_from(sum).ok());
    match integer {
        Some(integer) if whole as f64 == nearest => Some(Value::Integer(integer)),
        Some(_) | None => Some(Value::Double(nearest)),
    }
}

/// The length of a path's first segment, as `encode_path_prefix` writes it. `None` at the end of the path, or if
/// the bytes are none.
pub fn encoded_segment_len(bytes: &[u8]) -> Option<usize> {
    let (&tag, body) = bytes.split_first()?;
    let rest = match tag {
        NUMERIC_ID => body.get(8..)?,
        STRING_ID => skip_bytes(body)?,
        _ => return None,
    };
    Some(bytes.len() - rest.len())
}

/// What ends a path that `encode_path` has written.
pub const PATH_END: u8 = END;

enum Container {
    Array,
    Map,
}

/// What follows the value whose tag was read; of an array or a map, its contents.
fn skip_value<'a>(tag: u8, body: &'a [u8], open: &mut Vec<Container>) -> Option<&'a [u8]> {
    let rank = tag
        .checked_sub(TAG_FIRST)
        .filter(|above| above % TAG_STEP == 0)
        .map(|above| above / TAG_STEP)?;
    match rank {
        rank::NULL => Some(body),
        rank::BOOLEAN => body.get(1..),
        rank::NUMBER => body.get(10..),
        rank::TIMESTAMP => body.get(8..),
        rank::STRING | rank::BYTES => skip_bytes(body),
        rank::REFERENCE => skip_path(skip_bytes(skip_bytes(body)?)?),
        rank::GEO_POINT => body.get(16..),
        rank::ARRAY => {
            open.push(Container::Array);
            Some(body)
        }
        rank::VECTOR => {
            let (dimensions, numbers) = body.split_first_chunk::<4>()?;
            let len = usize::try_from(u32::from_be_bytes(*dimensions)).ok()?;
            numbers.get(len.checked_mul(8)?..)
        }
        rank::MAP => {
            open.push(Container::Map);
            Some(body)
        }
        _ => None,
    }
}

fn skip_bytes(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == END)?;
    bytes.get(end + 1..)
}

fn skip_path(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (&tag, body) = bytes.split_first()?;
        bytes = match tag {
            END => return Some(body),
            NUMERIC_ID => body.get(8..)?,
            STRING_ID => skip_bytes(body)?,
            _ => return None,
        };
    }
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 1);
    // Most bytes stand as they are: runs of them are copied at once.
    for run in bytes.split_inclusive(|byte| *byte <= ESCAPE) {
        match run.split_last() {
            Some((&escaped, plain)) if escaped <= ESCAPE => {
                out.extend_from_slice(plain);
                out.extend_from_slice(&[ESCAPE, escaped + 1]);
            }
            Some(_) | None => out.extend_from_slice(run),
        }
    }
    out.push(END);
}

/// Appends what was encoded to `out`; returns what follows the end.
fn decode_bytes<'a>(bytes: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut rest = bytes.iter();
    loop {
        match *rest.next()? {
            END => return Some(rest.as_slice()),
            ESCAPE => match *rest.next()? {
                escaped @ (1 | 2) => out.push(escaped - 1),
                _ => return None,
            },
            byte => out.push(byte),
        }
    }
}

fn encode_integer(integer: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&((integer as u64) ^ (1 << 63)).to_be_bytes());
}

fn encode_double(double: f64, out: &mut Vec<u8>) {
    let ordered = if double.is_nan() {
        0
    } else {
        // Adding 0 turns −0 into 0.
        let bits = (double + 0.0).to_bits();
        if bits >> 63 == 0 {
            bits | (1 << 63)
        } else {
            !bits
        }
    };
    out.extend_from_slice(&ordered.to_be_bytes());
}

fn encode_number(nearest: f64, remainder: i128, out: &mut Vec<u8>) {
    encode_double(nearest, out);
    let biased = u16::try_from(remainder + REMAINDER_BIAS)
        .expect("doubles near 64-bit integers are at most 1024 apart");
    out.extend_from_slice(&biased.to_be_bytes());
}

#[cfg(test)]
mod tests;
