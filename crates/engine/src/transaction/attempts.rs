//! Attempts that lost against others, for their retries: how old they were, and what they had read.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;

use watchfire_model::Timestamp;

use super::{Transaction, TransactionId};
use crate::lock::asked::AskedSet;
use crate::lock::table::Age;

/// How many attempts are remembered; past it the oldest are forgotten, and another attempt is as young as it looks.
pub const REMEMBERED_ATTEMPTS_MAX: usize = 10_000;
/// How many bytes of what they had asked for are remembered; past it the oldest are forgotten.
pub const REMEMBERED_BYTES_MAX: usize = 32 << 20;
/// For how long they are, in microseconds.
const REMEMBERED_MICROS: i64 = 600_000_000;
/// How much of what an attempt asked for is remembered, about; the rest is locked when it is asked for again.
pub const FORESEEN_READS_MAX: usize = 50;

/// Another attempt of what.
#[derive(Clone, Debug)]
pub struct Retried {
    pub(super) age: Age,
    /// Whether it ended because others were in its way.
    pub(super) lost: bool,
    /// What it had asked for, which will be asked for again.
    pub(super) foreseen: AskedSet,
}

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    by_id: HashMap<TransactionId, Retried>,
    /// In the order in which they ended, with when that was.
    ended: VecDeque<(Timestamp, TransactionId)>,
    bytes: usize,
}

impl Attempts {
    /// What is known of the attempt.
    pub(super) fn get(&mut self, id: &TransactionId, now: Timestamp) -> Option<Retried> {
        self.forget(now);
        self.by_id.get(id).cloned()
    }

    /// Remembers it if it was somebody's competitor.
    pub(super) fn remember(&mut self, transaction: &Transaction, now: Timestamp) {
        let lost = transaction.lost.load(Ordering::Relaxed);
        if !lost && transaction.age.is_first_attempt() {
            return;
        }
        // Whatever it could not lock, or what it read without locks.
        let mut foreseen = transaction.foresee(&AskedSet::default());
        let read: AskedSet = transaction
            .reads()
            .asked()
            .take(FORESEEN_READS_MAX)
            .collect();
        foreseen.extend(read.iter());
        let attempt = Retried {
            age: transaction.age,
            lost,
            foreseen,
        };
        let id = &transaction.id;
        self.bytes = self.bytes.saturating_add(attempt.foreseen.memory());
        match self.by_id.insert(id.clone(), attempt) {
            Some(before) => self.bytes -= before.foreseen.memory(),
            None => self.ended.push_back((now, id.clone())),
        }
        while self.ended.len() > REMEMBERED_ATTEMPTS_MAX || self.bytes > REMEMBERED_BYTES_MAX {
            self.forget_oldest();
        }
    }

    /// Forgets those that ended long ago.
    pub(super) fn forget(&mut self, now: Timestamp) {
        let over = |ended: &(Timestamp, TransactionId)| {
            now.micros().saturating_sub(ended.0.micros()) > REMEMBERED_MICROS
        };
        while self.ended.front().is_some_and(over) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.ended.pop_front() {
            let attempt = self.by_id.remove(&id);
            self.bytes -= attempt.map_or(0, |attempt| attempt.foreseen.memory());
        }
    }
}
