//! Forgetting what is older than the changelog is kept, piece by piece.
//!
//! Makes operations only; they take effect in a batch of the committer.

use bytes::Bytes;
use watchfire_storage::{Direction, Operation, Range, Snapshot, Version};

use crate::changelog::reader::trimmed_to;
use crate::error::Error;
use crate::keyspace::{Catalogue, Keyspace, catalogue_key, changelog_key, changelog_range_after};

/// How long a commit stays in the changelog, in microseconds: one hour. Listeners that were away for longer start anew.
pub const KEPT_MICROS: u64 = 3_600_000_000;
/// How many entries one piece deletes at most; fewer when a page of the store is full of bytes before.
pub const PIECE_ENTRIES_MAX: usize = 1024;

/// One piece of trimming.
#[derive(Debug, Default)]
pub struct Piece {
    /// Deletes the entries and notes how far trimming has come. Empty when nothing is old enough.
    pub operations: Vec<Operation>,
    /// Whether there may be more to trim.
    pub more: bool,
}

/// The oldest entries that stand more than `KEPT_MICROS` before `now`, at most `PIECE_ENTRIES_MAX` of them.
pub async fn piece(snapshot: &dyn Snapshot, now: Version) -> Result<Piece, Error> {
    let horizon = Version(now.0.saturating_sub(KEPT_MICROS));
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
    let Some((last, _)) = page.entries.last() else {
        return Ok(Piece::default());
    };
    let mark = Operation::Put {
        key: catalogue_key(Catalogue::TrimmedTo),
        value: Bytes::copy_from_slice(last.get(1..).unwrap_or_default()),
    };
    debug_assert_eq!(
        last.first(),
        Some(&Keyspace::Changelog.byte()),
        "the range holds changelog keys only"
    );
    let mut operations = vec![mark];
    operations.extend(
        page.entries
            .iter()
            .map(|(key, _)| Operation::Delete { key: key.clone() }),
    );
    Ok(Piece {
        operations,
        more: page.more,
    })
}
