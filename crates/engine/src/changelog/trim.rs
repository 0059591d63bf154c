//! Forgetting what is older than the past is kept, piece by piece: entries of the changelog, each with what the
//! history keeps because of it.
//!
//! Which keys those are follows from the documents before and after. Where indexes of fields were ever changed, all
//! automatic entries are looked for that there could have been. What the history has of a deleted index goes with that.
//!
//! Makes operations only; they take effect in a batch of the committer.

use bytes::Bytes;
use watchfire_model::Change;
use watchfire_storage::{Direction, Operation, Range, Snapshot, Version};

use crate::changelog::entry::decode_entry;
use crate::changelog::reader::trimmed_to;
use crate::error::Error;
use crate::index::catalog::Catalog;
use crate::index::entries::{Entries, possible_entries};
use crate::keyspace::{
    Catalogue, catalogue_key, changelog_key, changelog_range_after, changelog_version,
    document_key, history_key,
};

/// How many entries one piece deletes at most; fewer when a page of the store is full of bytes before, or past
/// `PIECE_OPERATIONS_MAX`.
pub const PIECE_ENTRIES_MAX: usize = 256;

/// A piece ends behind the entry with which it has this many operations.
const PIECE_OPERATIONS_MAX: usize = 20_000;

/// One piece of trimming.
#[derive(Debug, Default)]
pub struct Piece {
    /// Deletes the entries and their history, and notes how far trimming has come. Empty when nothing is old enough.
    pub operations: Vec<Operation>,
    /// Stored bytes of the entries that it deletes.
    pub bytes: usize,
    /// Whether there may be more to trim.
    pub more: bool,
}

/// The oldest entries that stand more than `kept` microseconds before `now`, at most `PIECE_ENTRIES_MAX` of them.
pub async fn piece(
    snapshot: &dyn Snapshot,
    catalog: &Catalog,
    now: Version,
    kept: u64,
) -> Result<Piece, Error> {
    let horizon = Version(now.0.saturating_sub(kept));
    // A store may need long to pass over what was deleted, so the scan begins behind it.
    let trimmed = trimmed_to(snapshot).await?.unwrap_or(Version(0));
    if horizon <= trimmed {
        return Ok(Piece::default());
    }
    let range = Range {
        start: changelog_range_after(trimmed).start,
        end: Some(changelog_key(horizon)),
    };
    let page = snapshot
        .page(&range, Direction::Forward, PIECE_ENTRIES_MAX)
        .await?;
    let mut piece = Piece {
        operations: Vec::new(),
        bytes: 0,
        more: page.more,
    };
    let mut last = None;
    for (key, stored) in page.entries {
        if piece.operations.len() >= PIECE_OPERATIONS_MAX {
            piece.more = true;
            break;
        }
        let version = changelog_version(&key).ok_or_else(|| {
            Error::Corrupt("a changelog key does not end with a version".to_owned())
        })?;
        let entry = decode_entry(version, &stored)?;
        let changes = entry.changes.iter();
        let history = changes.flat_map(|change| history_of_change(change, version, catalog));
        piece
            .operations
            .extend(history.map(|key| Operation::Delete { key }));
        piece.operations.push(Operation::Delete { key });
        piece.bytes = piece.bytes.saturating_add(stored.len());
        last = Some(version);
    }
    if let Some(last) = last {
        piece.operations.push(Operation::Put {
            key: catalogue_key(Catalogue::TrimmedTo),
            value: Bytes::copy_from_slice(&last.0.to_be_bytes()),
        });
    }
    Ok(piece)
}

/// Every key of the history that the change of a document at a version has put, and perhaps some that are not there.
fn history_of_change(change: &Change, version: Version, catalog: &Catalog) -> Vec<Bytes> {
    let Some(before) = &change.before else {
        return Vec::new();
    };
    let old = possible_entries(before, catalog);
    let new = match &change.after {
        Some(after) if after.create_time == before.create_time => possible_entries(after, catalog),
        Some(_) | None => Entries::new(),
    };
    let gone = old
        .into_iter()
        .filter(|(key, contents)| new.get(key) != Some(contents))
        .map(|(key, _)| key);
    gone.chain([document_key(&change.path)])
        .map(|key| history_key(&key, version))
        .collect()
}
