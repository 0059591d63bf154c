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
//! | 0x08 | history | a key of 0x01, 0x02, 0x03, 0x06 or 0x07, escaped; the version that took it away | `stamp` |

use bytes::Bytes;
use watchfire_model::DocumentPath;
use watchfire_model::order::encode_path;
use watchfire_storage::{Range, Version};

/// The format of the key space that this version reads and writes. Format 1 had no payloads in index entries, format 2
/// no history; a database that is stored so is converted when it is opened.
pub const FORMAT: u8 = 3;

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
    /// What stood under keys of documents and indexes before some version.
    History = 0x08,
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
    /// 8 bytes big-endian: the version since which history is kept, in a database that is older than its history.
    HistoryFrom,
    /// 8 bytes big-endian: which history this is, see `epoch`. Absent in a database that was not opened since there are
    /// epochs.
    Epoch,
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
    /// Since when defined indexes can be read, by id, 8 bytes big-endian.
    IndexesReady,
    /// Since when automatic indexes can be read, by the fields.
    FieldsReady,
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

/// Ends an escaped key in the history; below every byte that may go on there.
const HISTORY_KEY_END: [u8; 2] = [0x00, 0x01];

/// Stands behind everything that the history has of one key.
const HISTORY_KEY_PAST: [u8; 2] = [0x00, 0x02];

/// Whether the history has what keys with this first byte held.
pub const fn has_history(first: u8) -> bool {
    first == Keyspace::Document.byte()
        || first == Keyspace::Index.byte()
        || first == Keyspace::Group.byte()
        || first == Keyspace::GroupIndex.byte()
        || first == Keyspace::Defined.byte()
}

/// In which order the history has keys: as they are, with each 0x00 followed by 0xFF, so that no key goes on where
/// another one ends.
fn history_start(key: &[u8], more: usize) -> Vec<u8> {
    let zeros = key.iter().filter(|byte| **byte == 0).count();
    let mut start = Vec::with_capacity(1 + key.len() + zeros + more);
    start.push(Keyspace::History.byte());
    for byte in key {
        start.push(*byte);
        if *byte == 0 {
            start.push(0xFF);
        }
    }
    start
}

/// Where it is kept what stood under `key` until `version` took it away.
pub fn history_key(key: &[u8], version: Version) -> Bytes {
    let mut history = history_start(key, 10);
    history.extend_from_slice(&HISTORY_KEY_END);
    history.extend_from_slice(&version.0.to_be_bytes());
    Bytes::from(history)
}

/// The key and the version in a key of the history; `None` if it is no such key.
pub fn read_history_key(history: &[u8]) -> Option<(Bytes, Version)> {
    let (first, rest) = history.split_first()?;
    let (rest, version) = rest.split_last_chunk::<8>()?;
    let escaped = rest.strip_suffix(&HISTORY_KEY_END)?;
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(byte) = bytes.next() {
        key.push(*byte);
        if *byte == 0 && bytes.next() != Some(&0xFF) {
            return None;
        }
    }
    let known = key.first().is_some_and(|first| has_history(*first));
    (*first == Keyspace::History.byte() && known)
        .then(|| (Bytes::from(key), Version(u64::from_be_bytes(*version))))
}

/// What the history has of the keys in a range.
pub fn history_range(range: &Range) -> Range {
    let end = match &range.end {
        Some(end) => Some(Bytes::from(history_start(end, 0))),
        None => Keyspace::History.range().end,
    };
    Range {
        start: Bytes::from(history_start(&range.start, 0)),
        end,
    }
}

/// What the history has of one key, from the first version above `after` on.
pub fn history_of(key: &[u8], after: Version) -> Range {
    Range {
        start: history_key(key, Version(after.0.saturating_add(1))),
        end: Some(history_past(key)),
    }
}

/// The end of everything that the history has of one key.
pub fn history_past(key: &[u8]) -> Bytes {
    let mut past = history_start(key, 2);
    past.extend_from_slice(&HISTORY_KEY_PAST);
    Bytes::from(past)
}

/// Where a fact of the catalogue is stored.
pub fn catalogue_key(entry: Catalogue) -> Bytes {
    let name: &[u8] = match entry {
        Catalogue::Format => b"format",
        Catalogue::TrimmedTo => b"trimmed-to",
        Catalogue::HistoryFrom => b"history-from",
        Catalogue::Epoch => b"epoch",
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
        CatalogueRows::IndexesReady => b"ready-index/",
        CatalogueRows::FieldsReady => b"ready-field/",
    };
    let mut key = Vec::with_capacity(name.len() + 9);
    key.push(Keyspace::Catalogue.byte());
    key.extend_from_slice(name);
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_024))]

        #[test]
        fn the_history_is_in_the_order_of_keys_and_within_one_in_that_of_versions(
            one in key(), other in key(), old in any::<u64>(), new in any::<u64>(), bound in key()
        ) {
            let [left, right] = [history_key(&one, Version(old)), history_key(&other, Version(new))];
            prop_assert_eq!(read_history_key(&left), Some((Bytes::from(one.clone()), Version(old))));
            prop_assert_eq!(left.cmp(&right), (&one, old).cmp(&(&other, new)));
            let from = Range { start: Bytes::from(bound.clone()), end: None };
            let to = Range { start: Bytes::new(), end: Some(Bytes::from(bound)) };
            prop_assert_eq!(history_range(&from).contains(&left), from.contains(&one));
            prop_assert_eq!(history_range(&to).contains(&left), to.contains(&one));
            prop_assert_eq!(history_of(&other, Version(new)).contains(&left), one == other && old > new);
        }

        #[test]
        fn any_bytes_are_a_key_of_the_history_or_not(bytes in prop::collection::vec(prop::sample::select(vec![0_u8, 1, 8, 255]), 0..14)) {
            if let Some((key, version)) = read_history_key(&bytes) {
                prop_assert_eq!(history_key(&key, version), bytes);
            }
        }
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        let rest = prop::collection::vec(prop::sample::select(vec![0_u8, 1, 2, 255]), 0..4);
        (prop::sample::select(vec![1_u8, 2, 7]), rest)
            .prop_map(|(first, rest)| [vec![first], rest].concat())
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
            Keyspace::History,
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
