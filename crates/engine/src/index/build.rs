//! Bringing stored documents up to date with the catalogue, in bounded pieces.
//!
//! Makes operations only; they take effect in a batch of the committer, together with how far the work has come. The
//! snapshot must be the head's, so that no commit comes between what is read and what is written.
//!
//! Limits of entries are checked when a document is written, not here: a document that has more entries with the new
//! index than it may have gets them all the same, and is refused when it is written the next time.

use bytes::Bytes;
use watchfire_model::order::decode_path;
use watchfire_model::{Document, DocumentPath};
use watchfire_storage::range::just_after;
use watchfire_storage::{Direction, Operation as Change, Range, Snapshot, Version};

use super::catalog::{Catalog, Operation, OperationTarget};
use super::entries::{entries, field_changes, group_start, index_entries, read_group_entry};
use super::key::defined_start;
use crate::error::Error;
use crate::keyspace::{Keyspace, document_key, document_range, history_range};
use crate::record::decode_record;
use crate::stamp::stamped;

/// How large a piece may become.
#[derive(Copy, Clone, Debug)]
pub struct Bounds {
    /// Documents that it looks at, at least 1.
    pub documents: usize,
    /// It ends behind the document with which it has read this many bytes.
    pub bytes: usize,
    /// It ends behind the document with which it has this many operations; at least 1.
    pub operations: usize,
}

impl Bounds {
    /// What commits can wait for.
    pub const PIECE: Bounds = Bounds {
        documents: 256,
        bytes: 4 << 20,
        operations: 20_000,
    };
}

/// Documents that are read at once, so that the bytes of a piece are not passed by much.
const LOAD_DOCUMENTS: usize = 16;

/// Documents that are counted for an estimate; past it the estimate is this.
pub const ESTIMATE_MAX: u64 = 1_000_000;

/// Keys that are counted before other tasks get their turn.
const COUNT_STEP: usize = 10_000;

/// One piece of work.
#[derive(Debug, Default)]
pub struct Piece {
    /// Entries to be put and deleted.
    pub operations: Vec<Change>,
    /// Where the work goes on: the last key that is done.
    pub position: Vec<u8>,
    /// Documents that were looked at.
    pub documents: u64,
    /// Whether this is the last piece.
    pub finished: bool,
}

/// The next piece of an operation's work, behind its position.
pub async fn piece(
    snapshot: &dyn Snapshot,
    catalog: &Catalog,
    operation: &Operation,
    bounds: Bounds,
) -> Result<Piece, Error> {
    match &operation.target {
        OperationTarget::Delete { index } => {
            let entries = Range::prefix(&defined_start(*index));
            let history = history_range(&entries);
            // The history is deleted behind the entries.
            let (range, last) = if operation.position < history.start.as_ref().to_vec() {
                (behind(entries, &operation.position), false)
            } else {
                (behind(history.clone(), &operation.position), true)
            };
            let page = snapshot
                .page(&range, Direction::Forward, bounds.operations)
                .await?;
            let done = page.entries.last().map(|(key, _)| key.to_vec());
            Ok(Piece {
                position: match done {
                    Some(done) if page.more || last => done,
                    _ => history.start.to_vec(),
                },
                finished: last && !page.more,
                operations: page
                    .entries
                    .into_iter()
                    .map(|(key, _)| Change::Delete { key })
                    .collect(),
                documents: 0,
            })
        }
        OperationTarget::Create { index, .. } => match catalog.index(*index) {
            Some(index) => {
                let prefix = group_start(index.definition.group());
                let mut walk = Walk::of_group(prefix, &operation.position);
                walk.run(snapshot, bounds, |document, operations| {
                    let entries = index_entries(document, index).into_iter();
                    operations.extend(entries.map(|entry| put(document, entry)));
                })
                .await
            }
            None => Ok(Piece {
                finished: true,
                ..Piece::default()
            }),
        },
        OperationTarget::Field { key, .. } => {
            let mut walk = match &key.group {
                Some(group) => Walk::of_group(group_start(group), &operation.position),
                None => Walk::of_all(&operation.position),
            };
            walk.run(snapshot, bounds, |document, operations| {
                let (added, removed) = field_changes(document, catalog, key);
                operations.extend(removed.into_keys().map(|key| Change::Delete { key }));
                operations.extend(added.into_iter().map(|entry| put(document, entry)));
            })
            .await
        }
    }
}

/// The next piece of writing all entries of all documents anew, behind `position`.
pub async fn rewrite_piece(
    snapshot: &dyn Snapshot,
    catalog: &Catalog,
    position: &[u8],
) -> Result<Piece, Error> {
    Walk::of_all(position)
        .run(snapshot, Bounds::PIECE, |document, operations| {
            let entries = entries(document, catalog).into_iter();
            operations.extend(entries.map(|entry| put(document, entry)));
        })
        .await
}

/// About how many documents an operation will look at, no more than `max`. Without a group all documents.
pub async fn estimate(
    snapshot: &dyn Snapshot,
    group: Option<&str>,
    max: u64,
) -> Result<u64, Error> {
    let range = match group {
        Some(group) => Range::prefix(&group_start(group)),
        None => document_range(&[]),
    };
    count(snapshot, range, max).await
}

/// How many keys the range has, no more than `max`. Lets other tasks run in between.
pub async fn count(snapshot: &dyn Snapshot, mut range: Range, max: u64) -> Result<u64, Error> {
    let mut counted = 0_u64;
    while counted < max {
        let step = snapshot.count(&range, COUNT_STEP).await?;
        counted += step.keys as u64;
        match step.next {
            Some(next) => range.start = next,
            None => break,
        }
        tokio::task::yield_now().await;
    }
    Ok(counted.min(max))
}

/// An entry that the document has had since its last change, at least.
pub fn put(document: &Document, (key, contents): (Bytes, Bytes)) -> Change {
    let since = Version(u64::try_from(document.update_time.micros()).unwrap_or(0));
    Change::Put {
        key,
        value: stamped(since, &contents),
    }
}

fn behind(mut range: Range, position: &[u8]) -> Range {
    if !position.is_empty() {
        range.start = just_after(position);
    }
    range
}

/// Which documents a piece goes through.
struct Walk {
    range: Range,
    source: Source,
}

enum Source {
    /// Keys that name documents, behind so many bytes.
    Group(usize),
    /// The documents themselves.
    All,
}

impl Walk {
    fn of_group(prefix: Vec<u8>, position: &[u8]) -> Self {
        Self {
            range: behind(Range::prefix(&prefix), position),
            source: Source::Group(prefix.len()),
        }
    }

    fn of_all(position: &[u8]) -> Self {
        Self {
            range: behind(document_range(&[]), position),
            source: Source::All,
        }
    }

    async fn run(
        &mut self,
        snapshot: &dyn Snapshot,
        bounds: Bounds,
        mut each: impl FnMut(&Document, &mut Vec<Change>) + Send,
    ) -> Result<Piece, Error> {
        let page = snapshot
            .page(&self.range, Direction::Forward, bounds.documents)
            .await?;
        let mut piece = Piece {
            finished: !page.more,
            ..Piece::default()
        };
        let mut bytes = 0;
        for entries in page.entries.chunks(LOAD_DOCUMENTS) {
            let loaded = self.load(snapshot, entries).await?;
            for ((key, _), (path, record)) in entries.iter().zip(loaded) {
                if bytes >= bounds.bytes || piece.operations.len() >= bounds.operations {
                    piece.finished = false;
                    return Ok(piece);
                }
                bytes += key.len() + record.len();
                each(&decode_record(&path, &record)?, &mut piece.operations);
                piece.documents += 1;
                piece.position = key.to_vec();
            }
        }
        Ok(piece)
    }

    /// The documents that the entries name, as stored; in order, one for each.
    async fn load(
        &self,
        snapshot: &dyn Snapshot,
        entries: &[(Bytes, Bytes)],
    ) -> Result<Vec<(DocumentPath, Bytes)>, Error> {
        let malformed = |key: &Bytes| Error::Corrupt(format!("no document has the key {key:02x?}"));
        match self.source {
            Source::All => entries
                .iter()
                .map(|(key, record)| {
                    let path = key
                        .strip_prefix(&[Keyspace::Document.byte()])
                        .and_then(decode_path);
                    let (path, _) = path.ok_or_else(|| malformed(key))?;
                    Ok((path, record.clone()))
                })
                .collect(),
            Source::Group(start_len) => {
                let paths = entries
                    .iter()
                    .map(|(key, _)| read_group_entry(start_len, key).ok_or_else(|| malformed(key)))
                    .collect::<Result<Vec<_>, _>>()?;
                let keys: Vec<Bytes> = paths.iter().map(document_key).collect();
                let records = snapshot.get_many(&keys).await?;
                paths
                    .into_iter()
                    .zip(records)
                    .map(|(path, record)| match record {
                        Some(record) => Ok((path, record)),
                        None => Err(Error::Corrupt(format!(
                            "an index entry names document {path}, which does not exist"
                        ))),
                    })
                    .collect()
            }
        }
    }
}

#[cfg(test)]
mod tests;
