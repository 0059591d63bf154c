//! The floor plan of a database's bytes: every key prefix, in one enum.
//!
//! | first byte | keyspace | rest of the key | value |
//! |---|---|---|---|
//! | 0x01 | documents | path in document-name order | `record` |
//! | 0x02 | automatic index entries of one collection | written by `index` | see `index::key` |
//! | 0x03 | documents of a collection group | written by `index` | nothing |
//! | 0x04 | changelog | version, 8 bytes big-endian | `changelog::entry` |
//! | 0x05 | catalogue | ASCII name, for some with an id | depends on the name |
//! | 0x06 | automatic index entries of a collection group | written by `index` | see `index::key` |
//! | 0x07 | entries of defined indexes | written by `index` | see `index::key` |

use bytes::Bytes;
use watchfire_model::DocumentPath;
use watchfire_model::order::encode_path;
use watchfire_storage::{Range, Version};

/// The format of the key space that this version reads and writes. Format 1 had no payloads in index entries; a
/// database that is stored so is converted when it is opened.
pub const FORMAT: u8 = 2;

/// The parts of the key space, by the first byte of their keys.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Keyspace {
    /// Documents that exist, as stored records.
    Document = 0x01,
    /// Index entries whose scope is one collection.
    Index = 0x02,
    /// Index entries whose scope is every collection of one id.
    Group = 0x03,
    /// Commits, by version.
    Changelog = 0x04,
    /// Small facts about the database itself.
    Catalogue = 0x05,
    /// Automatic index entries whose scope is every collection of one id.
    GroupIndex = 0x06,
    /// Entries of indexes that somebody defined.
    Defined = 0x07,
}

/// What the catalogue knows.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Catalogue {
    /// One byte: the format of the key space. Absent in an empty store. A zero follows while the database is being
    /// converted to the format, in which state nothing else may open it.
    Format,
    /// 8 bytes big-endian: the newest version whose changelog entry has been trimmed, at first the version
    /// with which the database began.
    TrimmedTo,
    /// 8 bytes big-endian: grows with every change of the indexes, but not with how far work on them has come.
    /// Absent as long as there was no change.
    IndexVersion,
    /// 8 bytes big-endian: the number that the next index or operation gets. Absent before the first.
    NextId,
}

/// The parts of the catalogue with a row for each thing. Rows are written by `index::catalog`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CatalogueRows {
    /// Defined indexes, by id, 8 bytes big-endian.
    Indexes,
    /// Field configurations, by the fields.
    Fields,
    /// Work on indexes, by id, 8 bytes big-endian.
    Operations,
}

impl Keyspace {
    /// The first byte of every key in this part.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// Every key of this part.
    pub fn range(self) -> Range {
        Range::prefix(&[self.byte()])
    }
}

/// Where a document is stored.
pub fn document_key(path: &DocumentPath) -> Bytes {
    let mut key = Vec::with_capacity(path.as_str().len() + 8);
    key.push(Keyspace::Document.byte());
    encode_path(path, &mut key);
    Bytes::from(key)
}

/// Every document whose encoded path starts with `prefix` (see `model::order::encode_path_prefix`);
/// with an empty prefix every document.
pub fn document_range(prefix: &[u8]) -> Range {
    let mut key = Vec::with_capacity(prefix.len() + 1);
    key.push(Keyspace::Document.byte());
    key.extend_from_slice(prefix);
    Range::prefix(&key)
}

/// The start of every index entry of a collection group.
pub fn group_prefix() -> Vec<u8> {
    vec![Keyspace::Group.byte()]
}

/// Where the commit at `version` is stored.
pub fn changelog_key(version: Version) -> Bytes {
    let mut key = Vec::with_capacity(9);
    key.push(Keyspace::Changelog.byte());
    key.extend_from_slice(&version.0.to_be_bytes());
    Bytes::from(key)
}

/// The version in a changelog key; `None` if it is no such key.
pub fn changelog_version(key: &[u8]) -> Option<Version> {
    let (first, rest) = key.split_first()?;
    let bytes: [u8; 8] = rest.try_into().ok()?;
    (*first == Keyspace::Changelog.byte()).then(|| Version(u64::from_be_bytes(bytes)))
}

/// Every commit with a version above `after`.
pub fn changelog_range_after(after: Version) -> Range {
    let all = Keyspace::Changelog.range();
    match after.0.checked_add(1) {
        Some(first) => Range {
            start: changelog_key(Version(first)),
            end: all.end,
        },
        None => Range {
            start: all.end.clone().unwrap_or_default(),
            end: all.end,
        },
    }
}

/// Where a fact of the catalogue is stored.
pub fn catalogue_key(entry: Catalogue) -> Bytes {
    let name: &[u8] = match entry {
        Catalogue::Format => b"format",
        Catalogue::TrimmedTo => b"trimmed-to",
        Catalogue::IndexVersion => b"index-version",
        Catalogue::NextId => b"next-id",
    };
    let mut key = Vec::with_capacity(name.len() + 1);
    key.push(Keyspace::Catalogue.byte());
    key.extend_from_slice(name);
    Bytes::from(key)
}

/// What stands before the id in the keys of such rows.
pub fn catalogue_rows(rows: CatalogueRows) -> Vec<u8> {
    let name: &[u8] = match rows {
        CatalogueRows::Indexes => b"index/",
        CatalogueRows::Fields => b"field/",
        CatalogueRows::Operations => b"operation/",
    };
    let mut key = Vec::with_capacity(name.len() + 9);
    key.push(Keyspace::Catalogue.byte());
    key.extend_from_slice(name);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changelog_keys_order_as_versions_and_read_back() {
        let versions = [0, 1, 255, 256, u64::MAX - 1, u64::MAX].map(Version);
        for pair in versions.windows(2) {
            assert!(changelog_key(pair[0]) < changelog_key(pair[1]));
        }
        for version in versions {
            assert_eq!(changelog_version(&changelog_key(version)), Some(version));
        }
        assert_eq!(changelog_version(&catalogue_key(Catalogue::Format)), None);
    }

    #[test]
    fn the_parts_do_not_overlap() {
        let parts = [
            Keyspace::Document,
            Keyspace::Index,
            Keyspace::Group,
            Keyspace::Changelog,
            Keyspace::Catalogue,
            Keyspace::GroupIndex,
            Keyspace::Defined,
        ];
        for pair in parts.windows(2) {
            assert!(pair[0].range().end.unwrap() <= pair[1].range().start);
        }
        assert_eq!(
            changelog_range_after(Version(7)).start,
            changelog_key(Version(8))
        );
    }
}
