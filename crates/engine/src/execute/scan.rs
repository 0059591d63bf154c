//! Pulls what a plan names out of a snapshot, page by page.
//!
//! Pages begin as small as the caller expects to need, grow while more is asked for, and shrink when documents turn
//! out to be large, so that a short answer touches little and a batch never holds much more than `BATCH_BYTES`.
//!
//! Stores may read on the thread of the caller. So a scan lets other tasks run after every batch: however long it
//! is, it holds up nobody, and it ends when its caller stops waiting.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use watchfire_model::{CollectionPath, Document, DocumentPath};
use watchfire_storage::{Direction, Page, Range, Snapshot};

use super::seek::{child_of, document_path, just_after, malformed, subtree_end};
use crate::error::Error;
use crate::index::entries::{read_field_entry, read_group_entry};
use crate::keyspace::document_key;
use crate::plan::{Grouping, Plan, Source};
use crate::record::decode_record;

/// Documents in one batch.
const BATCH_MAX: usize = 256;

/// Documents in the first batch when nobody knows how many are needed.
const BATCH_FIRST: usize = 32;

/// A batch with more stored bytes than this halves the next one.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Entries in one page of an index.
const ENTRIES_MAX: usize = 1_024;

/// Bytes that remembering the documents already seen may take, when a source can repeat them.
const SEEN_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What remembering one path costs besides its text.
const SEEN_OVERHEAD: usize = 64;

/// A document of the source, matching or not.
pub struct Candidate {
    pub document: Arc<Document>,
    /// Neighbours with the same bytes are in no order among each other. `None`: in order.
    pub run: Option<Bytes>,
}

/// What was read so far.
#[derive(Copy, Clone, Debug, Default)]
pub struct Cost {
    pub entries: u64,
    pub documents: u64,
}

/// A running scan.
pub struct Scan<'a> {
    snapshot: &'a dyn Snapshot,
    source: Source,
    direction: Direction,
    grouping: Grouping,
    /// Still to be read, in the direction of the scan.
    ranges: VecDeque<Range>,
    /// Read from an index but not loaded.
    named: VecDeque<(DocumentPath, Option<Bytes>)>,
    seen: HashSet<DocumentPath>,
    seen_bytes: usize,
    batch: usize,
    begun: bool,
    pub cost: Cost,
}

impl<'a> Scan<'a> {
    /// `expected`: how many documents the caller hopes to be enough.
    pub fn new(snapshot: &'a dyn Snapshot, plan: Plan, expected: Option<usize>) -> Self {
        let backward = plan.direction == Direction::Backward;
        let mut source = plan.source;
        let mut ranges = VecDeque::new();
        let mut named = VecDeque::new();
        match &mut source {
            Source::Documents(paths) => {
                named.extend(std::mem::take(paths).into_iter().map(|path| (path, None)));
                if backward {
                    named.make_contiguous().reverse();
                }
            }
            Source::Stored { range, .. } | Source::Group { range, .. } => {
                ranges.push_back(range.clone())
            }
            Source::Index { ranges: all, .. } => {
                ranges.extend(std::mem::take(all));
                if backward {
                    ranges.make_contiguous().reverse();
                }
            }
        }
        ranges.retain(|range| range.end.as_ref().is_none_or(|end| range.start < *end));
        Self {
            snapshot,
            source,
            direction: plan.direction,
            grouping: plan.grouping,
            ranges,
            named,
            seen: HashSet::new(),
            seen_bytes: 0,
            batch: expected.unwrap_or(BATCH_FIRST).clamp(1, BATCH_MAX),
            begun: false,
            cost: Cost::default(),
        }
    }

    /// The next documents, in the order of the source; `None` at the end. May be empty before the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Candidate>>, Error> {
        if std::mem::replace(&mut self.begun, true) {
            tokio::task::yield_now().await;
        }
        if let Source::Stored { children_of, .. } = &self.source {
            let children_of = children_of.clone();
            return self.next_stored(children_of.as_ref()).await;
        }
        if self.named.is_empty() && !self.read_entries().await? {
            return Ok(None);
        }
        self.load().await.map(Some)
    }

    /// One page of the first range, which is then shortened by it.
    async fn page(&mut self, limit: usize) -> Result<Option<Page>, Error> {
        let Some(range) = self.ranges.pop_front() else {
            return Ok(None);
        };
        let page = self.snapshot.page(&range, self.direction, limit).await?;
        if page.more
            && let Some((last, _)) = page.entries.last()
        {
            let rest = match self.direction {
                Direction::Forward => Range {
                    start: just_after(last),
                    end: range.end,
                },
                Direction::Backward => Range {
                    start: range.start,
                    end: Some(last.clone()),
                },
            };
            self.ranges.push_front(rest);
        }
        Ok(Some(page))
    }

    /// Reads a page of entries into `named`; false when there are none left.
    async fn read_entries(&mut self) -> Result<bool, Error> {
        while self.named.is_empty() {
            let limit = if self.batch >= BATCH_MAX {
                ENTRIES_MAX
            } else {
                self.batch
            };
            let Some(page) = self.page(limit).await? else {
                return Ok(false);
            };
            self.cost.entries += page.entries.len() as u64;
            for (key, _) in &page.entries {
                self.read_entry(key)?;
            }
        }
        Ok(true)
    }

    fn read_entry(&mut self, key: &Bytes) -> Result<(), Error> {
        let (path, run) = match &self.source {
            Source::Index {
                collection,
                start_len,
                repeats,
                ..
            } => {
                let entry =
                    read_field_entry(collection, *start_len, key).ok_or_else(|| malformed(key))?;
                if *repeats {
                    if self.seen.contains(&entry.document) {
                        return Ok(());
                    }
                    self.seen_bytes += entry.document.as_str().len() + SEEN_OVERHEAD;
                    if self.seen_bytes > SEEN_BYTES_MAX {
                        return Err(Error::ResourceExhausted(format!(
                            "the query meets too many documents by several array elements: remembering them takes more than {SEEN_BYTES_MAX} bytes"
                        )));
                    }
                    self.seen.insert(entry.document.clone());
                }
                let run = entry.cut || self.grouping == Grouping::Runs;
                (entry.document, run.then_some(entry.value))
            }
            Source::Group { start_len, .. } => (
                read_group_entry(*start_len, key).ok_or_else(|| malformed(key))?,
                None,
            ),
            // These have no entries.
            Source::Documents(_) | Source::Stored { .. } => return Ok(()),
        };
        self.named.push_back((path, run));
        Ok(())
    }

    /// Loads the next named documents.
    async fn load(&mut self) -> Result<Vec<Candidate>, Error> {
        let count = self.batch.min(self.named.len());
        let named: Vec<_> = self.named.drain(..count).collect();
        let keys: Vec<Bytes> = named.iter().map(|(path, _)| document_key(path)).collect();
        let records = self.snapshot.get_many(&keys).await?;
        self.cost.documents += count as u64;
        self.adapt(records.iter().flatten().map(Bytes::len).sum());
        let must_exist = !matches!(self.source, Source::Documents(_));
        let mut candidates = Vec::with_capacity(count);
        for ((path, run), record) in named.into_iter().zip(records) {
            match record {
                Some(record) => candidates.push(Candidate {
                    document: Arc::new(decode_record(&path, &record)?),
                    run,
                }),
                None if must_exist => {
                    return Err(Error::Corrupt(format!(
                        "the index names document {path}, which is not stored"
                    )));
                }
                None => {}
            }
        }
        Ok(candidates)
    }

    async fn next_stored(
        &mut self,
        children_of: Option<&CollectionPath>,
    ) -> Result<Option<Vec<Candidate>>, Error> {
        let Some(page) = self.page(self.batch).await? else {
            return Ok(None);
        };
        let mut candidates = Vec::with_capacity(page.entries.len());
        let mut last_child = None;
        for (key, record) in &page.entries {
            let path = document_path(key)?;
            last_child = children_of.and_then(|collection| child_above(collection, &path));
            if last_child.is_none() {
                candidates.push(Candidate {
                    document: Arc::new(decode_record(&path, record)?),
                    run: None,
                });
            }
        }
        self.cost.documents += page.entries.len() as u64;
        let wasted = page.entries.len() - candidates.len();
        self.adapt(page.entries.iter().map(|(_, record)| record.len()).sum());
        if wasted > candidates.len() {
            // Most of what lies here is below the collection's documents: small pages, long jumps.
            self.batch = (self.batch / 4).max(2);
        }
        if let Some(child) = last_child
            && let Some(rest) = self.ranges.pop_front()
        {
            let rest = match self.direction {
                Direction::Forward => Range {
                    start: subtree_end(child.as_str()),
                    end: rest.end,
                },
                Direction::Backward => Range {
                    start: rest.start,
                    end: Some(just_after(&document_key(&child))),
                },
            };
            if rest.end.as_ref().is_none_or(|end| rest.start < *end) {
                self.ranges.push_front(rest);
            }
        }
        Ok(Some(candidates))
    }

    fn adapt(&mut self, bytes: usize) {
        self.batch = if bytes > BATCH_BYTES {
            (self.batch / 2).max(1)
        } else {
            (self.batch * 2).min(BATCH_MAX)
        };
    }
}

/// The child of the collection below which the path lies; `None` if the path is itself a child.
fn child_above(collection: &CollectionPath, path: &DocumentPath) -> Option<DocumentPath> {
    child_of(collection, path).filter(|child| child != path)
}
