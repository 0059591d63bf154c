//! One query, piece by piece: what the plan names is found, loaded, judged, put in order.
//!
//! `Query::matches` decides about every document that is loaded, whatever the plan says. Documents that the offset
//! passes over are not loaded where their entries say enough.

use std::collections::VecDeque;
use std::sync::Arc;

use watchfire_model::{Document, FieldPath, Query};

use super::answer::Answer;
use super::branch::Found;
use super::load::{BATCH_FIRST, BATCH_MAX, Judge, load};
use super::pace::Reading;
use super::union::{Union, Wishes};
use crate::error::Error;
use crate::planner::{IndexUsed, Plan};

/// Bytes of memory that the documents of one query may take at once.
pub const QUERY_BYTES_MAX: usize = 128 * 1024 * 1024;

/// What a query cost.
#[derive(Clone, Debug, Default)]
pub struct ExecutionStats {
    pub results_returned: u64,
    /// Results that the offset passed over: all of it, or as many as there were.
    pub results_skipped: u64,
    pub index_entries_scanned: u64,
    /// Documents that were loaded, matching or not.
    pub documents_scanned: u64,
    /// In the order of the plan's branches, each once.
    pub indexes_used: Vec<IndexUsed>,
}

/// What a caller does with the documents.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Takes them one after the other and shows what the query projects. Where that is the name alone, they may come
    /// without their fields.
    Shown,
    /// Takes them one after the other.
    Whole,
    /// Keeps all of them, so that all count against the bound on memory.
    Kept,
}

/// A query that is running.
pub struct Run {
    reading: Reading,
    union: Union,
    judge: Judge,
    answer: Answer,
    /// Found but not loaded, in order.
    found: VecDeque<Found>,
    batch: usize,
    times_only: bool,
    ended: bool,
    /// Documents that were loaded here.
    loaded: u64,
    stats: ExecutionStats,
}

impl Run {
    /// Nothing is read yet. `bytes_max`: see `QUERY_BYTES_MAX`.
    pub fn new(
        reading: Reading,
        query: Arc<Query>,
        mut plan: Plan,
        delivery: Delivery,
        bytes_max: usize,
    ) -> Self {
        let full = plan.ordered >= query.order().len();
        let expected = expected(&query, full, plan.ordered > 0);
        let judge = Judge::new(Arc::clone(&query), &mut plan);
        let stats = ExecutionStats {
            indexes_used: std::mem::take(&mut plan.indexes_used),
            ..ExecutionStats::default()
        };
        let wishes = Wishes {
            expected,
            ..Wishes::default()
        };
        let names_alone = query
            .projection()
            .is_some_and(|mask| mask.paths().iter().all(FieldPath::is_document_name));
        Self {
            union: Union::new(plan, query.order().len(), wishes, &reading),
            reading,
            judge,
            answer: Answer::new(query, bytes_max, delivery == Delivery::Kept),
            found: VecDeque::new(),
            batch: expected.unwrap_or(BATCH_FIRST).clamp(1, BATCH_MAX),
            times_only: names_alone && delivery == Delivery::Shown,
            ended: false,
            loaded: 0,
            stats,
        }
    }

    /// What it cost so far.
    pub fn stats(&self) -> &ExecutionStats {
        &self.stats
    }

    /// Bytes of the documents that wait to be handed out, or were and are kept by the caller.
    pub fn memory(&self) -> usize {
        self.answer.memory()
    }

    /// The next documents in order, at least one; `None` at the end. Fails with `DeadlineExceeded` after
    /// `QUERY_TIME_MAX`, with `ResourceExhausted` when too much has to be kept.
    pub async fn next(&mut self) -> Result<Option<Vec<Arc<Document>>>, Error> {
        let next = self.advance().await;
        self.stats.index_entries_scanned = self.union.entries();
        self.stats.documents_scanned = self.union.documents() + self.loaded;
        self.stats.results_skipped = self.answer.skipped() as u64;
        if let Ok(Some(documents)) = &next {
            self.stats.results_returned += documents.len() as u64;
        }
        next
    }

    async fn advance(&mut self) -> Result<Option<Vec<Arc<Document>>>, Error> {
        self.reading.check()?;
        loop {
            let piece = self.answer.hand_out();
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
            if self.answer.is_full() {
                return Ok(None);
            }
            self.find().await?;
            if self.found.is_empty() {
                self.answer.close_run();
                let piece = self.answer.hand_out();
                return Ok((!piece.is_empty()).then_some(piece));
            }
            self.load().await?;
        }
    }

    /// Gathers what the next batch loads; nothing at the end.
    async fn find(&mut self) -> Result<(), Error> {
        while !self.ended && self.found.len() < self.batch {
            let Some(found) = self.union.next().await? else {
                self.ended = true;
                break;
            };
            let certain = found.sure && found.placed;
            if certain && self.found.is_empty() && self.answer.pass() {
                continue;
            }
            if self.answer.is_full() {
                break;
            }
            self.found.push_back(found);
            // If all of them match, more are not needed.
            if certain && self.found.len() >= self.answer.needed() {
                break;
            }
        }
        Ok(())
    }

    async fn load(&mut self) -> Result<(), Error> {
        let times_only = self.times_only;
        let loaded = load(&self.reading, self.found.make_contiguous(), |found| {
            times_only && found.sure && found.placed
        })
        .await?;
        self.loaded += loaded.read;
        self.batch = if loaded.large {
            (self.batch / 2).max(1)
        } else {
            (self.batch * 2).min(BATCH_MAX)
        };
        for document in loaded.documents {
            let Some(found) = self.found.pop_front() else {
                break;
            };
            let Some(document) = document else { continue };
            let certain = found.sure && found.placed && times_only;
            if !certain && !self.judge.accepts(&found, &document) {
                continue;
            }
            let run = (!found.placed).then_some(found.order);
            self.answer.add(document, run)?;
            if self.answer.is_full() {
                self.found.clear();
                break;
            }
        }
        Ok(())
    }
}

/// The whole result.
pub async fn collect(mut run: Run) -> Result<(Vec<Arc<Document>>, ExecutionStats), Error> {
    let mut documents = Vec::new();
    while let Some(piece) = run.next().await? {
        documents.extend(piece);
    }
    Ok((documents, run.stats))
}

/// How many documents are enough if all of them match.
fn expected(query: &Query, full: bool, in_part: bool) -> Option<usize> {
    let needed = (query.offset() as usize).saturating_add(query.limit()? as usize);
    match (full, in_part) {
        (true, _) => Some(needed),
        // One more shows that the last run has ended.
        (false, true) => Some(needed.saturating_add(1)),
        (false, false) => None,
    }
}
