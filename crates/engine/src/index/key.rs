//! How index entries are written as keys, and read back.
//!
//! | part | automatic entry | entry of a defined index |
//! |---|---|---|
//! | keyspace | 0x02 of one collection, 0x06 of a group | 0x07 |
//! | index | | its id, 8 bytes big-endian |
//! | place | collection path or group id as text, then `//`, which neither contains | the same |
//! | kind and field | 0x01 ascending or 0x02 contains; each segment with 0x00 escaped as 0x00 0xFF and closed by 0x00 0x01; then 0x00 0x02 | |
//! | columns | one value | a value for each field but a vector's |
//! | document | its path within the place by `model::order` | the same, inverted when names descend |
//! | length of the part before | 2 bytes big-endian, so that a key can be read from its end | the same |
//!
//! A value is written by `model::order`, cut after `INDEXED_VALUE_BYTES_MAX` bytes and then marked with 0xFF. Where a
//! column descends, all its bytes are inverted. No encoded value is a prefix of another one, so cutting keeps the
//! order between all values that differ within the bytes kept, and inverting turns it round; those that do not
//! differ there fall together, and whoever needs their order sorts them.
//!
//! What stands behind the place, or behind values that a query fixes, is the same bytes in every index that goes on
//! with the same columns: that is what joins compare.
//!
//! An entry's value is empty but for what the order loses. For each column whose number is a double equal to an
//! integer, the column's position is one byte of it: 3.0 and 3 have the same bytes in the key. An entry of a vector
//! index holds the vector, 8 bytes big-endian for each number.

use bytes::Bytes;
use watchfire_model::limits::INDEXED_VALUE_BYTES_MAX;
use watchfire_model::order::{
    decode_path, encode_collection_prefix, encode_path, encode_value, encoded_len,
};
use watchfire_model::{CollectionPath, DocumentPath, FieldPath, Value};

use crate::definition::{IndexId, Scope};
use crate::keyspace::Keyspace;

const CUT_MARK: u8 = 0xFF;
const PLACE_END: &[u8] = b"//";
const DOCUMENT_LEN_BYTES: usize = 2;

/// What an automatic entry says of its field.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The field has this value.
    Ascending = 0x01,
    /// The field is an array with this element.
    Contains = 0x02,
}

/// Whose entries stand together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Those of one collection.
    Collection(CollectionPath),
    /// Those of every collection with this id.
    Group(String),
}

impl Place {
    /// Where the entries of a document in `collection` stand.
    pub fn of(scope: Scope, collection: &CollectionPath) -> Self {
        match scope {
            Scope::Collection => Place::Collection(collection.clone()),
            Scope::Group => Place::Group(collection.id().to_owned()),
        }
    }

    /// Which scope this is.
    pub fn scope(&self) -> Scope {
        match self {
            Place::Collection(_) => Scope::Collection,
            Place::Group(_) => Scope::Group,
        }
    }

    /// The id of the collections.
    pub fn group(&self) -> &str {
        match self {
            Place::Collection(collection) => collection.id(),
            Place::Group(group) => group,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let text = match self {
            Place::Collection(collection) => collection.as_str(),
            Place::Group(group) => group,
        };
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(PLACE_END);
    }

    /// What stands before a document's path within the place, as `model::order` writes it.
    pub fn base(&self) -> Vec<u8> {
        let mut base = Vec::new();
        match self {
            Place::Collection(collection) => encode_collection_prefix(collection, &mut base),
            Place::Group(_) => {}
        }
        base
    }
}

/// The start of every automatic entry of one kind and field; one column follows.
pub fn field_start(place: &Place, kind: Kind, field: &FieldPath) -> Vec<u8> {
    let mut start = automatic_start(place);
    start.push(kind as u8);
    for segment in field.segments() {
        encode_field_segment(segment, &mut start);
    }
    encode_field_end(&mut start);
    start
}

/// The start of every automatic entry of a place; kind and field follow.
pub fn automatic_start(place: &Place) -> Vec<u8> {
    let mut start = vec![match place {
        Place::Collection(_) => Keyspace::Index.byte(),
        Place::Group(_) => Keyspace::GroupIndex.byte(),
    }];
    place.encode(&mut start);
    start
}

/// The start of every entry of a defined index, in all places.
pub fn defined_start(id: IndexId) -> Vec<u8> {
    let mut start = vec![Keyspace::Defined.byte()];
    start.extend_from_slice(&id.0.to_be_bytes());
    start
}

/// The start of every entry of a defined index in one place; its columns follow.
pub fn defined_start_in(id: IndexId, place: &Place) -> Vec<u8> {
    let mut start = defined_start(id);
    place.encode(&mut start);
    start
}

/// Appends one segment of a field's path.
pub fn encode_field_segment(segment: &str, out: &mut Vec<u8>) {
    for byte in segment.bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend_from_slice(&[0x00, 0x01]);
}

/// Appends what ends a field's path.
pub fn encode_field_end(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x00, 0x02]);
}

/// Appends a value as entries hold it; true if it was cut.
pub fn encode_column(value: &Value, inverted: bool, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    encode_value(value, out);
    let cut = out.len() - start > INDEXED_VALUE_BYTES_MAX;
    if cut {
        out.truncate(start + INDEXED_VALUE_BYTES_MAX);
        out.push(CUT_MARK);
    }
    if inverted {
        invert(out.iter_mut().skip(start));
    }
    cut
}

/// Turns the order of bytes round.
pub fn invert<'a>(bytes: impl IntoIterator<Item = &'a mut u8>) {
    bytes.into_iter().for_each(|byte| *byte = !*byte);
}

/// The bytes with their order turned round.
pub fn inverted(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}

/// The document's path within the place, as it stands behind the columns, without its length.
pub fn document_part(place: &Place, document: &DocumentPath, inverted: bool) -> Vec<u8> {
    let mut whole = Vec::new();
    encode_path(document, &mut whole);
    let mut part = whole.split_off(place.base().len().min(whole.len()));
    if inverted {
        invert(&mut part);
    }
    part
}

/// A whole key: a start with its columns, and the document.
pub fn entry_key(start: &[u8], document_part: &[u8]) -> Bytes {
    let mut key = Vec::with_capacity(start.len() + document_part.len() + DOCUMENT_LEN_BYTES);
    key.extend_from_slice(start);
    key.extend_from_slice(document_part);
    // A document's path is far shorter than 64 KiB; were it not, the entry's length would refuse it.
    let len = u16::try_from(document_part.len()).unwrap_or(u16::MAX);
    key.extend_from_slice(&len.to_be_bytes());
    Bytes::from(key)
}

/// What an entry's key says behind the bytes that the reader knows.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The columns that follow those bytes, one after the other; `next_column` takes them apart.
    pub columns: Bytes,
    /// Whose entry it is.
    pub document: DocumentPath,
}

/// Reads a key of which the first `start_len` bytes are known. `None` if malformed.
pub fn read_entry(place: &Place, start_len: usize, inverted: bool, key: &Bytes) -> Option<Entry> {
    let (columns, part) = split_entry(start_len, key)?;
    let mut path = place.base();
    let base_len = path.len();
    path.extend_from_slice(part);
    if inverted {
        invert(path.iter_mut().skip(base_len));
    }
    let (document, used) = decode_path(&path)?;
    (used == path.len()).then(|| Entry {
        columns: key.slice_ref(columns),
        document,
    })
}

/// The columns and the document's part of a key, as they stand there.
pub fn split_entry(start_len: usize, key: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, len) = key.split_last_chunk::<DOCUMENT_LEN_BYTES>()?;
    let columns_end = rest
        .len()
        .checked_sub(usize::from(u16::from_be_bytes(*len)))?;
    Some((rest.get(start_len..columns_end)?, rest.get(columns_end..)?))
}

/// One column and what follows it. `None` if malformed.
pub fn next_column(bytes: &[u8], inverted: bool) -> Option<(&[u8], &[u8])> {
    let kept = bytes.get(..bytes.len().min(INDEXED_VALUE_BYTES_MAX))?;
    let len = if inverted {
        encoded_len(&self::inverted(kept))
    } else {
        encoded_len(kept)
    };
    // A value that does not end within the bytes kept was cut there, and a mark follows.
    bytes.split_at_checked(len.unwrap_or(INDEXED_VALUE_BYTES_MAX + 1))
}

/// Whether a column, inverted or not, stands for more than one value.
pub fn is_cut(column: &[u8]) -> bool {
    column.len() > INDEXED_VALUE_BYTES_MAX
}
