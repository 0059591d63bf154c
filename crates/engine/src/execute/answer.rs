//! From documents that match to the answer: order, offset, limit, in bounded memory.
//!
//! Documents come in runs. Runs follow each other in the order of the query; inside a run there is no order. A
//! document that comes in its place is in no run; a source without any order is one single run. With a limit, a run
//! never keeps much more than the answer can still take.

use std::collections::VecDeque;
use std::sync::Arc;

use watchfire_model::{Document, Query};

use crate::error::Error;

/// A run may be longer than what is needed of it by this before it is sorted and cut.
const RUN_SLACK: usize = 64;

/// Documents that are handed out at once.
const PIECE_MAX: usize = 256;

/// Gathers the answer of one query.
pub struct Answer {
    query: Arc<Query>,
    skip: usize,
    /// How many more the answer takes.
    room: usize,
    ready: VecDeque<Arc<Document>>,
    run: Vec<Arc<Document>>,
    run_order: Option<Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
    /// What is handed out still counts.
    kept: bool,
}

impl Answer {
    /// Fails with `ResourceExhausted` when more than `bytes_max` have to be kept at once; what was handed out counts
    /// too when the caller keeps it.
    pub fn new(query: Arc<Query>, bytes_max: usize, kept: bool) -> Self {
        Self {
            skip: query.offset() as usize,
            room: query.limit().map_or(usize::MAX, |limit| limit as usize),
            query,
            ready: VecDeque::new(),
            run: Vec::new(),
            run_order: None,
            bytes: 0,
            bytes_max,
            kept,
        }
    }

    /// Whether nothing can be added any more.
    pub fn is_full(&self) -> bool {
        self.room == 0 && self.skip == 0
    }

    /// How many more documents the answer takes, those that the offset passes over included.
    pub fn needed(&self) -> usize {
        self.skip.saturating_add(self.room)
    }

    /// Bytes of the documents that are kept now.
    pub fn memory(&self) -> usize {
        self.bytes
    }

    /// How many documents the offset passed over so far.
    pub fn skipped(&self) -> usize {
        (self.query.offset() as usize).saturating_sub(self.skip)
    }

    /// Passes over a document that comes in its place and matches, if the offset does; false if it is wanted.
    pub fn pass(&mut self) -> bool {
        self.close_run();
        let passes = self.skip > 0;
        self.skip -= usize::from(passes);
        passes
    }

    /// The next document of the source. `run`: what it has in common with its neighbours that are in no order with
    /// it; `None` for one that comes in its place.
    pub fn add(&mut self, document: Arc<Document>, run: Option<Vec<u8>>) -> Result<(), Error> {
        if self.run_order != run {
            self.close_run();
            self.run_order = run;
        }
        self.bytes += document.memory();
        if self.run_order.is_none() {
            self.take(document);
        } else {
            self.run.push(document);
            let needed = self.needed();
            if self.run.len() > needed.saturating_mul(2).saturating_add(RUN_SLACK) {
                self.sort_run();
                let dropped = self.run.split_off(needed);
                self.bytes -= dropped
                    .iter()
                    .map(|document| document.memory())
                    .sum::<usize>();
            }
        }
        if self.bytes > self.bytes_max {
            return Err(Error::ResourceExhausted(format!(
                "the query has to keep more than {} MiB of documents in memory; ask for less with a limit, or in an order that an index serves",
                self.bytes_max >> 20
            )));
        }
        Ok(())
    }

    /// The next documents of the answer that are certain; empty if there are none yet.
    pub fn hand_out(&mut self) -> Vec<Arc<Document>> {
        let count = self.ready.len().min(PIECE_MAX);
        let piece: Vec<_> = self.ready.drain(..count).collect();
        if !self.kept {
            self.bytes -= piece
                .iter()
                .map(|document| document.memory())
                .sum::<usize>();
        }
        piece
    }

    /// Nothing with the same place in the order follows.
    pub fn close_run(&mut self) {
        self.run_order = None;
        self.sort_run();
        for document in std::mem::take(&mut self.run) {
            self.take(document);
        }
    }

    fn sort_run(&mut self) {
        let query = &self.query;
        self.run.sort_unstable_by(|a, b| query.compare(a, b));
    }

    fn take(&mut self, document: Arc<Document>) {
        if self.skip > 0 || self.room == 0 {
            self.skip = self.skip.saturating_sub(1);
            self.bytes -= document.memory();
        } else {
            self.room -= 1;
            self.ready.push_back(document);
        }
    }
}
