//! From documents that match to the answer: order, offset, limit, in bounded memory.
//!
//! Documents come in runs. Runs follow each other in the order of the query; inside a run there is no order. A run
//! of one is a document in its place; a source without any order is one single run. With a limit, a run never keeps
//! much more than the answer can still take.

use std::sync::Arc;

use bytes::Bytes;
use watchfire_model::{Document, Query};

use crate::error::Error;

/// A run may be longer than what is needed of it by this before it is sorted and cut.
const RUN_SLACK: usize = 64;

/// Gathers the answer of one query.
pub struct Answer<'q> {
    query: &'q Query,
    skip: usize,
    /// How many more the answer takes.
    room: usize,
    taken: Vec<Arc<Document>>,
    run: Vec<Arc<Document>>,
    run_key: Option<Bytes>,
    bytes: usize,
    bytes_max: usize,
}

impl<'q> Answer<'q> {
    /// Fails with `ResourceExhausted` when more than `bytes_max` have to be kept at once.
    pub fn new(query: &'q Query, bytes_max: usize) -> Self {
        Self {
            query,
            skip: query.offset() as usize,
            room: query.limit().map_or(usize::MAX, |limit| limit as usize),
            taken: Vec::new(),
            run: Vec::new(),
            run_key: None,
            bytes: 0,
            bytes_max,
        }
    }

    /// Whether nothing can be added any more.
    pub fn is_full(&self) -> bool {
        self.room == 0 && self.skip == 0
    }

    /// The next document of the source; `run` as in `Candidate`.
    pub fn add(&mut self, document: Arc<Document>, run: Option<Bytes>) -> Result<(), Error> {
        if self.run_key != run {
            self.close_run();
            self.run_key = run;
        }
        self.bytes += cost(&document);
        if self.run_key.is_none() {
            self.take(document);
        } else {
            self.run.push(document);
            let needed = self.skip.saturating_add(self.room);
            if self.run.len() > needed.saturating_mul(2).saturating_add(RUN_SLACK) {
                self.sort_run();
                let dropped = self.run.split_off(needed);
                self.bytes -= dropped.iter().map(|document| cost(document)).sum::<usize>();
            }
        }
        if self.bytes > self.bytes_max {
            return Err(Error::ResourceExhausted(format!(
                "the query has to keep more than {} bytes of documents at once; use a limit, or an order that an index serves",
                self.bytes_max
            )));
        }
        Ok(())
    }

    /// The answer, in order, and how many documents the offset passed over.
    pub fn finish(mut self) -> (Vec<Arc<Document>>, usize) {
        self.close_run();
        let skipped = self.query.offset() as usize - self.skip;
        (self.taken, skipped)
    }

    fn sort_run(&mut self) {
        let query = self.query;
        self.run.sort_unstable_by(|a, b| query.compare(a, b));
    }

    fn close_run(&mut self) {
        self.sort_run();
        for document in std::mem::take(&mut self.run) {
            self.take(document);
        }
    }

    fn take(&mut self, document: Arc<Document>) {
        if self.skip > 0 || self.room == 0 {
            self.skip = self.skip.saturating_sub(1);
            self.bytes -= cost(&document);
        } else {
            self.room -= 1;
            self.taken.push(document);
        }
    }
}

fn cost(document: &Document) -> usize {
    document.memory()
}
