//! A document's index entries as keys, and a key's document.
//!
//! | part of a field entry's key | bytes |
//! |---|---|
//! | keyspace | 0x02 |
//! | collection | its path as text, then `//`, which no path contains |
//! | kind | 0x01 ascending, 0x02 contains |
//! | field | each segment with 0x00 escaped as 0x00 0xFF and closed by 0x00 0x01; then 0x00 0x02 |
//! | value | `model::order`, cut after `INDEXED_VALUE_BYTES_MAX` bytes and then marked with 0xFF |
//! | document | what `model::order::encode_path` writes after the collection |
//! | length of the part before | 2 bytes, big-endian, so that a key can be read from its end |
//!
//! A collection-group entry is 0x03, the group's id, and the document's path, both by `model::order`.
//!
//! No encoded value is a prefix of another one, so cutting keeps the order between all values that differ within
//! the bytes kept; those that do not differ there fall together, and whoever needs their order sorts them.

use std::collections::BTreeSet;

use bytes::Bytes;
use watchfire_model::limits::{
    INDEX_ENTRIES_BYTES_MAX, INDEX_ENTRIES_MAX, INDEX_ENTRY_BYTES_MAX, INDEXED_VALUE_BYTES_MAX,
};
use watchfire_model::order::{decode_path, encode_path, encode_path_prefix, encode_value};
use watchfire_model::{
    CollectionPath, Document, DocumentPath, FieldPath, Fields, Invalid, Parent, Value,
};

use crate::error::Error;
use crate::keyspace;

const CUT_MARK: u8 = 0xFF;
const COLLECTION_END: &[u8] = b"//";
const DOCUMENT_LEN_BYTES: usize = 2;

/// What one key counts for in the limits: the service keeps an ascending and a descending entry where here one key
/// serves both directions, and two for each element of an array.
const ENTRIES_PER_KEY: usize = 2;

/// What an entry says of its field.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The field has this value.
    Ascending = 0x01,
    /// The field is an array with this element.
    Contains = 0x02,
}

/// Every entry of the document, without looking at limits: for documents that are stored already.
pub fn entries(document: &Document) -> BTreeSet<Bytes> {
    collect(document, None).expect("nothing is refused without limits")
}

/// Every entry of the document. Fails when there are more than `INDEX_ENTRIES_MAX`, one is longer than `INDEX_ENTRY_BYTES_MAX`,
/// or all together are longer than `INDEX_ENTRIES_BYTES_MAX`. The entry of the collection group is not counted.
pub fn checked_entries(document: &Document) -> Result<BTreeSet<Bytes>, Error> {
    Ok(collect(document, Some(&document.path))?)
}

fn collect(
    document: &Document,
    limited: Option<&DocumentPath>,
) -> Result<BTreeSet<Bytes>, Invalid> {
    let collection = document.path.collection();
    let mut collector = Collector {
        start: collection_start(&collection),
        document: document_part(&collection, &document.path),
        field: Vec::new(),
        limited,
        entries: BTreeSet::new(),
        bytes: 0,
    };
    collector.add_fields(&document.fields)?;
    let mut entries = collector.entries;
    entries.insert(group_entry(&collection, &document.path));
    Ok(entries)
}

/// Gathers entries and gives up at the first one that passes a limit: a document of one mebibyte may be so deep that
/// all its entries would have gigabytes.
struct Collector<'a> {
    start: Vec<u8>,
    document: Vec<u8>,
    /// The segments that lead to the fields at hand, without the end mark.
    field: Vec<u8>,
    /// Whom a complaint names; without it there are no limits.
    limited: Option<&'a DocumentPath>,
    entries: BTreeSet<Bytes>,
    /// Of all entries, as the limit counts them.
    bytes: usize,
}

impl Collector<'_> {
    /// Recursion is bounded by the depth that a stored document may have.
    fn add_fields(&mut self, fields: &Fields) -> Result<(), Invalid> {
        let parent_len = self.field.len();
        for (name, value) in fields {
            encode_field_segment(name, &mut self.field);
            self.add_entry(Kind::Ascending, value)?;
            match value {
                Value::Map(fields) => self.add_fields(fields)?,
                Value::Array(elements) => elements
                    .iter()
                    .try_for_each(|element| self.add_entry(Kind::Contains, element))?,
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
            self.field.truncate(parent_len);
        }
        Ok(())
    }

    fn add_entry(&mut self, kind: Kind, value: &Value) -> Result<(), Invalid> {
        let mut key = self.start.clone();
        key.push(kind as u8);
        key.extend_from_slice(&self.field);
        encode_field_end(&mut key);
        encode_cut_value(value, &mut key);
        key.extend_from_slice(&self.document);
        // A document's id is far shorter than 64 KiB; were it not, the entry's length would refuse it.
        let len = u16::try_from(self.document.len()).unwrap_or(u16::MAX);
        key.extend_from_slice(&len.to_be_bytes());
        let key_len = key.len();
        if self.entries.insert(Bytes::from(key)) {
            self.bytes += key_len * ENTRIES_PER_KEY;
            self.check_limits(key_len)?;
        }
        Ok(())
    }

    fn check_limits(&self, key_len: usize) -> Result<(), Invalid> {
        let Some(path) = self.limited else {
            return Ok(());
        };
        if self.entries.len() * ENTRIES_PER_KEY > INDEX_ENTRIES_MAX {
            return Err(Invalid::new(format!(
                "too many index entries for entity /{path}"
            )));
        }
        if key_len > INDEX_ENTRY_BYTES_MAX || self.bytes > INDEX_ENTRIES_BYTES_MAX {
            return Err(Invalid::new("Index entry is too large."));
        }
        Ok(())
    }
}

fn encode_field_segment(segment: &str, out: &mut Vec<u8>) {
    for byte in segment.bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend_from_slice(&[0x00, 0x01]);
}

fn encode_field_end(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x00, 0x02]);
}

fn collection_start(collection: &CollectionPath) -> Vec<u8> {
    let mut start = keyspace::index_prefix();
    start.extend_from_slice(collection.as_str().as_bytes());
    start.extend_from_slice(COLLECTION_END);
    start
}

/// The start of every entry of one kind and field in a collection; the value follows.
pub fn field_start(collection: &CollectionPath, kind: Kind, field: &FieldPath) -> Vec<u8> {
    let mut start = collection_start(collection);
    start.push(kind as u8);
    for segment in field.segments() {
        encode_field_segment(segment, &mut start);
    }
    encode_field_end(&mut start);
    start
}

/// Appends the value as entries hold it; true if it was cut.
pub fn encode_cut_value(value: &Value, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    encode_value(value, out);
    let cut = out.len() - start > INDEXED_VALUE_BYTES_MAX;
    if cut {
        out.truncate(start + INDEXED_VALUE_BYTES_MAX);
        out.push(CUT_MARK);
    }
    cut
}

/// What follows the value: the document within its collection.
pub fn document_part(collection: &CollectionPath, document: &DocumentPath) -> Vec<u8> {
    let (mut prefix, mut whole) = (Vec::new(), Vec::new());
    encode_path_prefix(collection.as_str(), &mut prefix);
    encode_path(document, &mut whole);
    whole.split_off(prefix.len().min(whole.len()))
}

/// What a field entry's key says.
pub struct FieldEntry {
    pub document: DocumentPath,
    /// The key's value.
    pub value: Bytes,
    /// Whether other values may have the same bytes.
    pub cut: bool,
}

/// Reads a field entry whose key starts with `start_len` bytes of `field_start`. `None` if malformed.
pub fn read_field_entry(
    collection: &CollectionPath,
    start_len: usize,
    key: &Bytes,
) -> Option<FieldEntry> {
    let (rest, len) = key.split_last_chunk::<DOCUMENT_LEN_BYTES>()?;
    let value_end = rest
        .len()
        .checked_sub(usize::from(u16::from_be_bytes(*len)))?;
    let value = rest.get(start_len..value_end)?;
    let mut path = Vec::new();
    encode_path_prefix(collection.as_str(), &mut path);
    path.extend_from_slice(rest.get(value_end..)?);
    let (document, used) = decode_path(&path)?;
    (used == path.len()).then(|| FieldEntry {
        document,
        value: key.slice_ref(value),
        cut: value.len() > INDEXED_VALUE_BYTES_MAX,
    })
}

/// The start of every entry of a collection group; the document's path follows.
pub fn group_start(id: &str) -> Vec<u8> {
    let mut start = keyspace::group_prefix();
    encode_path_prefix(id, &mut start);
    start
}

/// The start of every entry of a collection group below a parent.
pub fn group_start_below(id: &str, parent: &Parent) -> Vec<u8> {
    let mut start = group_start(id);
    match parent {
        Parent::Root => {}
        Parent::Document(path) => encode_path_prefix(path.as_str(), &mut start),
    }
    start
}

/// The document of a collection-group entry whose key starts with `start_len` bytes of `group_start`.
pub fn read_group_entry(start_len: usize, key: &[u8]) -> Option<DocumentPath> {
    decode_path(key.get(start_len..)?).map(|(path, _)| path)
}

fn group_entry(collection: &CollectionPath, document: &DocumentPath) -> Bytes {
    let mut key = group_start(collection.id());
    encode_path(document, &mut key);
    Bytes::from(key)
}
