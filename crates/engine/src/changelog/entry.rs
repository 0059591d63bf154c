//! One commit as it is kept: every document that it changed, before and after.
//!
//! Stored form: a format byte, the number of changes, and for each change its path and the two records, each with
//! its length; a record's length is stored plus one, and zero is "did not exist". Numbers are 4 bytes big-endian.

use std::sync::Arc;

use bytes::Bytes;
use watchfire_model::{Change, Document, DocumentPath};
use watchfire_storage::Version;

use crate::error::Error;
use crate::record::decode_record;

/// The format that is written. Older formats stay readable.
pub const ENTRY_FORMAT: u8 = 1;

/// One commit as it is kept in the changelog.
#[derive(Clone, Debug)]
pub struct CommitEntry {
    /// Where it stands in the order; its commit time.
    pub version: Version,
    /// One for each document that changed, in the order of the first write to it. Never empty.
    pub changes: Vec<Change>,
}

/// One change with its two sides already encoded as records.
#[derive(Clone, Debug)]
pub struct EncodedChange {
    /// The document.
    pub path: DocumentPath,
    /// Its record before the commit.
    pub before: Option<Bytes>,
    /// Its record after the commit.
    pub after: Option<Bytes>,
}

/// The stored bytes of a commit. A side of 4 GiB or more cannot be written; documents are far smaller.
pub fn encode_entry(changes: &[EncodedChange]) -> Bytes {
    let side = |record: &Option<Bytes>| record.as_ref().map_or(0, Bytes::len);
    let len = changes
        .iter()
        .map(|change| 12 + change.path.as_str().len() + side(&change.before) + side(&change.after))
        .sum::<usize>();
    let mut out = Vec::with_capacity(5 + len);
    out.push(ENTRY_FORMAT);
    put_number(changes.len(), &mut out);
    for change in changes {
        put_number(change.path.as_str().len(), &mut out);
        out.extend_from_slice(change.path.as_str().as_bytes());
        put_record(change.before.as_ref(), &mut out);
        put_record(change.after.as_ref(), &mut out);
    }
    Bytes::from(out)
}

/// Reads a commit back. Fails with `Corrupt` on anything that `encode_entry` does not write.
pub fn decode_entry(version: Version, bytes: &[u8]) -> Result<CommitEntry, Error> {
    let corrupt = || {
        Error::Corrupt(format!(
            "the changelog entry at version {} is not of format {ENTRY_FORMAT}",
            version.0
        ))
    };
    let (format, mut rest) = bytes.split_first().ok_or_else(corrupt)?;
    if *format != ENTRY_FORMAT {
        return Err(corrupt());
    }
    let count = take_number(&mut rest).ok_or_else(corrupt)?;
    let mut changes = Vec::new();
    for _ in 0..count {
        let path = take_path(&mut rest).ok_or_else(corrupt)?;
        let before = take_record(&mut rest).ok_or_else(corrupt)?;
        let after = take_record(&mut rest).ok_or_else(corrupt)?;
        let document = |record: Option<&[u8]>| -> Result<Option<Arc<Document>>, Error> {
            record
                .map(|record| decode_record(&path, record).map(Arc::new))
                .transpose()
        };
        let (before, after) = (document(before)?, document(after)?);
        changes.push(Change {
            path,
            before,
            after,
        });
    }
    if rest.is_empty() {
        Ok(CommitEntry { version, changes })
    } else {
        Err(corrupt())
    }
}

/// The record that a document had before a commit, from the commit's stored bytes, of which nothing else is looked at.
/// `None` if there was none, or the bytes are no entry.
pub fn before_of(path: &DocumentPath, bytes: &Bytes) -> Option<Bytes> {
    let (format, mut rest) = bytes.split_first()?;
    if *format != ENTRY_FORMAT {
        return None;
    }
    for _ in 0..take_number(&mut rest)? {
        let len = take_number(&mut rest)?;
        let found = take_bytes(len, &mut rest)? == path.as_str().as_bytes();
        let before = take_record(&mut rest)?;
        take_record(&mut rest)?;
        if found {
            return before.map(|before| bytes.slice_ref(before));
        }
    }
    None
}

fn put_number(value: usize, out: &mut Vec<u8>) {
    let value = u32::try_from(value).expect("documents and commits are far smaller than 4 GiB");
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_record(record: Option<&Bytes>, out: &mut Vec<u8>) {
    match record {
        Some(record) => {
            put_number(record.len() + 1, out);
            out.extend_from_slice(record);
        }
        None => put_number(0, out),
    }
}

fn take_number(rest: &mut &[u8]) -> Option<usize> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    usize::try_from(u32::from_be_bytes(*number)).ok()
}

fn take_bytes<'a>(len: usize, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (bytes, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(bytes)
}

fn take_path(rest: &mut &[u8]) -> Option<DocumentPath> {
    let len = take_number(rest)?;
    DocumentPath::parse(std::str::from_utf8(take_bytes(len, rest)?).ok()?).ok()
}

/// The outer `None` is malformed, the inner one "did not exist".
fn take_record<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match take_number(rest)?.checked_sub(1) {
        Some(len) => Some(Some(take_bytes(len, rest)?)),
        None => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::encode_record;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), good_start in any::<bool>()) {
            let mut bytes = bytes;
            if good_start {
                bytes.splice(0..0, [ENTRY_FORMAT, 0, 0, 0, 1, 0, 0, 0, 3, b'a', b'/', b'b']);
            }
            let _ = decode_entry(Version(1), &bytes);
        }
    }

    #[test]
    fn a_commit_reads_back() {
        let path = DocumentPath::parse("a/b").unwrap();
        let time = watchfire_model::Timestamp::from_micros(5).unwrap();
        let document = Document {
            path: path.clone(),
            create_time: time,
            update_time: time,
            fields: Default::default(),
        };
        let change = EncodedChange {
            path: path.clone(),
            before: None,
            after: Some(encode_record(&document)),
        };
        let bytes = encode_entry(&[change]);
        // The stored form of format 1; it must stay readable.
        assert_eq!(
            &bytes[..],
            [
                &[
                    1, 0, 0, 0, 1, 0, 0, 0, 3, b'a', b'/', b'b', 0, 0, 0, 0, 0, 0, 0, 18, 1
                ][..],
                &[0, 0, 0, 0, 0, 0, 0, 5],
                &[0, 0, 0, 0, 0, 0, 0, 5]
            ]
            .concat()
        );
        let entry = decode_entry(Version(9), &bytes).unwrap();
        assert_eq!((entry.version, entry.changes.len()), (Version(9), 1));
        assert!(entry.changes[0].before.is_none());
        assert_eq!(entry.changes[0].after.as_ref().unwrap().update_time, time);
        assert_eq!(before_of(&path, &bytes), None);
        for end in 0..bytes.len() {
            assert!(decode_entry(Version(9), &bytes[..end]).is_err());
        }
    }
}
