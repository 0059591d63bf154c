//! What was complete before what began: real time, by steps.
//!
//! Whoever was answered with a version has proved that everything up to it is complete: a commit that begins later
//! comes after it, a read that begins later sees at least that much.

use std::collections::HashMap;

use watchfire_engine::Version;
use watchfire_model::watch::WatchEvent;

use crate::history::{
    Begun, History, Operation, OperationKind, Outcome, ReadAt, StreamEvent, TransactionNumber,
};
use crate::oracle::timeline::version_of;

/// Who stands at a version.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// By its place in the history.
    Operation(usize),
    /// A stream, at the step of one of its snapshots.
    Stream(usize, u64),
}

/// All that was answered, by step.
#[derive(Debug)]
pub struct Moments {
    /// When an answer came, and the highest version of it and all before, with its source; rising.
    answered: Vec<(u64, Version, Source)>,
    /// When a call began that was answered, and the lowest version of it and all that began later; rising.
    begun: Vec<(u64, Version)>,
    /// When each transaction began.
    transactions: HashMap<TransactionNumber, u64>,
    /// Those that read in the past, as asked.
    past: HashMap<TransactionNumber, Version>,
}

impl Moments {
    /// Looks at every answer that came with a version.
    pub fn of_answers(history: &History) -> Self {
        let mut transactions: HashMap<TransactionNumber, u64> = HashMap::new();
        let mut past = HashMap::new();
        let mut begins = |number: TransactionNumber, step: u64| {
            let first = transactions.entry(number).or_insert(step);
            *first = step.min(*first);
        };
        for operation in &history.operations {
            let started = operation.started.step;
            match &operation.kind {
                OperationKind::Begin {
                    transaction,
                    options,
                    ..
                } => {
                    begins(*transaction, started);
                    if let Begun::ReadOnly {
                        read_time: Some(version),
                    } = options
                    {
                        past.insert(*transaction, *version);
                    }
                }
                OperationKind::Read {
                    transaction: Some(number),
                    at,
                    ..
                } => {
                    begins(*number, started);
                    // One that is begun by its first read says only there that it reads in the past.
                    if let ReadAt::Past(version) = at {
                        past.insert(*number, *version);
                    }
                }
                OperationKind::Commit {
                    transaction: Some(reads),
                    ..
                } => begins(reads.number, reads.begun.step),
                OperationKind::Read { .. }
                | OperationKind::Commit { .. }
                | OperationKind::Rollback { .. }
                | OperationKind::Alter { .. } => {}
            }
        }
        let mut moments = Self {
            answered: Vec::new(),
            begun: Vec::new(),
            transactions,
            past,
        };
        for (number, operation) in history.operations.iter().enumerate() {
            if let Some(version) = version(operation) {
                let source = Source::Operation(number);
                moments
                    .answered
                    .push((operation.ended.step, version, source));
                if let Some(began) = moments.saw_present_since(operation) {
                    moments.begun.push((began, version));
                }
            }
        }
        for (number, stream) in history.streams.iter().enumerate() {
            for (moment, event) in &stream.events {
                if let StreamEvent::Watch(WatchEvent::Snapshot { read_time, .. }) = event {
                    let source = Source::Stream(number, moment.step);
                    let version = version_of(*read_time);
                    moments.answered.push((moment.step, version, source));
                }
            }
        }
        moments.answered.sort_by_key(|(step, _, _)| *step);
        let mut highest = None;
        for (_, version, source) in &mut moments.answered {
            match highest {
                Some((higher, its)) if higher >= *version => (*version, *source) = (higher, its),
                Some(_) | None => highest = Some((*version, *source)),
            }
        }
        moments.begun.sort_by_key(|(step, _)| *step);
        let mut lowest = Version(u64::MAX);
        for (_, version) in moments.begun.iter_mut().rev() {
            lowest = lowest.min(*version);
            *version = lowest;
        }
        moments
    }

    /// What had been proved complete before the step, and by whom.
    pub fn complete_before(&self, step: u64) -> (Version, Option<Source>) {
        let place = self.answered.partition_point(|(at, _, _)| *at < step);
        let last = place
            .checked_sub(1)
            .and_then(|last| self.answered.get(last));
        last.map_or((Version::default(), None), |(_, version, source)| {
            (*version, Some(*source))
        })
    }

    /// The lowest version that anybody saw who began after the step.
    pub fn seen_after(&self, step: u64) -> Version {
        let place = self.begun.partition_point(|(at, _)| *at <= step);
        self.begun
            .get(place)
            .map_or(Version(u64::MAX), |(_, version)| *version)
    }

    /// When the transaction began; the last moment of all for one that is not known.
    pub fn began(&self, transaction: TransactionNumber) -> u64 {
        self.transactions
            .get(&transaction)
            .copied()
            .unwrap_or(u64::MAX)
    }

    /// The version that the transaction asked for, if it reads in the past.
    pub fn reads_past(&self, transaction: TransactionNumber) -> Option<Version> {
        self.past.get(&transaction).copied()
    }

    /// The step at which, or after which, the operation looked at the present; `None` for one that looked at the
    /// past.
    pub fn saw_present_since(&self, operation: &Operation) -> Option<u64> {
        let started = operation.started.step;
        match &operation.kind {
            OperationKind::Read {
                transaction: Some(number),
                ..
            } => match self.reads_past(*number) {
                Some(_) => None,
                None => Some(self.began(*number).min(started)),
            },
            OperationKind::Read {
                at: ReadAt::Past(_),
                ..
            } => None,
            OperationKind::Read {
                at: ReadAt::Latest, ..
            } => Some(started),
            OperationKind::Commit {
                writes,
                transaction: Some(reads),
                ..
            } if writes.is_empty() => match self.reads_past(reads.number) {
                Some(_) => None,
                None => Some(reads.begun.step.min(started)),
            },
            OperationKind::Begin { .. }
            | OperationKind::Commit { .. }
            | OperationKind::Rollback { .. }
            | OperationKind::Alter { .. } => Some(started),
        }
    }
}

/// The version that came with the answer.
pub fn version(operation: &Operation) -> Option<Version> {
    match &operation.kind {
        OperationKind::Read {
            outcome: Outcome::Acknowledged(answer),
            ..
        } => Some(answer.read_time),
        OperationKind::Commit {
            outcome: Outcome::Acknowledged(receipt),
            ..
        } => receipt.version,
        OperationKind::Read { .. }
        | OperationKind::Commit { .. }
        | OperationKind::Begin { .. }
        | OperationKind::Rollback { .. }
        | OperationKind::Alter { .. } => None,
    }
}
