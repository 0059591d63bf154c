//! Strictly serializable, by versions: every answer is the state at its version, and versions rise in real time.
//!
//! # What is checked
//!
//! - A read tells exactly what the entries up to its read time made of the documents; queries and aggregations by
//!   brute force.
//! - All reads of one transaction fit together, whether it commits or not.
//! - When a transaction commits, nothing has happened that would have answered one of its reads otherwise:
//!   phantoms too.
//! - A commit was told the outcome that its writes come to on the state just before it.
//! - Whatever began after something was answered comes after it; a commit strictly.
//! - What was refused by a precondition had a moment at which the precondition did not hold.

use std::collections::BTreeMap;

use watchfire_engine::Version;
use watchfire_model::Timestamp;
use watchfire_model::apply::Refused;

use crate::history::{
    Answer, Asked, Found, History, Operation, OperationKind, Outcome, ReadAt, Receipt, Refusal,
    TransactionNumber, TransactionReads,
};
use crate::oracle::effect::effect;
use crate::oracle::moments::{Moments, version};
use crate::oracle::same::{same_document, same_found, same_outcomes};
use crate::oracle::timeline::{Timeline, time_of, version_of};
use crate::oracle::writers::{Fate, Writers, states_between, writes_of};
use crate::oracle::{Violation, telling};

/// Judges reads and commits.
pub fn judge(
    history: &History,
    timeline: &Timeline<'_>,
    writers: &Writers,
    moments: &Moments,
) -> Vec<Violation> {
    let mut judge = Judge {
        history,
        timeline,
        writers,
        moments,
        violations: Vec::new(),
    };
    let mut transactions: BTreeMap<TransactionNumber, Vec<(usize, &Asked, &Answer)>> =
        BTreeMap::new();
    for (number, operation) in history.operations.iter().enumerate() {
        match &operation.kind {
            OperationKind::Read {
                transaction,
                at,
                asked,
                outcome: Outcome::Acknowledged(answer),
            } => {
                judge.check_read(number, asked, answer);
                judge.check_read_time(number, *transaction, *at, answer);
                if let Some(transaction) = transaction {
                    let reads = transactions.entry(*transaction).or_default();
                    reads.push((number, asked, answer));
                }
            }
            OperationKind::Commit {
                transaction,
                outcome,
                ..
            } => {
                if let Some(reads) = transaction {
                    judge.check_reads_hold(number, reads);
                }
                match outcome {
                    Outcome::Acknowledged(receipt) => judge.check_outcomes(number, receipt),
                    Outcome::Refused(refusal) => judge.check_refusal(number, operation, refusal),
                    Outcome::Unknown(_) => {}
                }
            }
            OperationKind::Read {
                outcome: Outcome::Refused(_) | Outcome::Unknown(_),
                ..
            }
            | OperationKind::Begin { .. }
            | OperationKind::Rollback { .. }
            | OperationKind::Alter { .. } => {}
        }
        judge.check_real_time(number, operation);
    }
    for reads in transactions.values() {
        judge.check_snapshot(reads);
    }
    judge.violations
}

struct Judge<'a> {
    history: &'a History,
    timeline: &'a Timeline<'a>,
    writers: &'a Writers,
    moments: &'a Moments,
    violations: Vec<Violation>,
}

impl Judge<'_> {
    fn violate(&mut self, law: &'static str, text: String) {
        self.violations.push(Violation { law, text });
    }

    fn check_read(&mut self, operation: usize, asked: &Asked, answer: &Answer) {
        let expected = self.timeline.answer(asked, answer.read_time);
        if same_found(&expected, &answer.found) {
            return;
        }
        let (law, expected, seen) = self.difference(&expected, &answer.found);
        self.violate(
            law,
            format!(
                "{}: {}\nexpected at version {}: {expected}\nfound {seen}",
                telling::operation(self.history, operation),
                telling::asked(asked),
                answer.read_time.0,
            ),
        );
    }

    /// What is different, in words; a document that never was is another law.
    fn difference(&self, expected: &Found, seen: &Found) -> (&'static str, String, String) {
        let documents = |found: &Found| match found {
            Found::Documents(documents) => documents.iter().flatten().cloned().collect(),
            Found::Query(documents) => documents.clone(),
            Found::Aggregate(_) => Vec::new(),
        };
        let (wanted, found) = (documents(expected), documents(seen));
        // Only whole documents can be told from others; a projected one has fewer fields than any state.
        let never = found.iter().find(|document| {
            let chain = self.timeline.chain(&document.path);
            chain.is_none_or(|chain| {
                let time = version_of(document.update_time);
                chain
                    .states
                    .binary_search_by_key(&time, |(version, _)| *version)
                    .is_err()
            })
        });
        if let Some(never) = never {
            return (
                "dirty read",
                "only what was stored".to_owned(),
                format!("{}, which never was", telling::document(Some(never))),
            );
        }
        let lists = |among: &[std::sync::Arc<watchfire_model::Document>], document| {
            among
                .iter()
                .any(|other| same_document(Some(other), Some(document)))
        };
        let missing: Vec<_> = wanted.iter().filter(|one| !lists(&found, one)).collect();
        let surplus: Vec<_> = found.iter().filter(|one| !lists(&wanted, one)).collect();
        if missing.is_empty() && surplus.is_empty() {
            return (
                "snapshot read",
                telling::found(expected),
                telling::found(seen),
            );
        }
        (
            "snapshot read",
            telling::documents_words(missing),
            telling::documents_words(surplus),
        )
    }

    /// A read that names its time is answered as of that time.
    fn check_read_time(
        &mut self,
        operation: usize,
        transaction: Option<TransactionNumber>,
        at: ReadAt,
        answer: &Answer,
    ) {
        let wanted = match (transaction, at) {
            (Some(number), ReadAt::Latest) => self.moments.reads_past(number),
            (Some(_) | None, ReadAt::Past(version)) => Some(version),
            (None, ReadAt::Latest) => None,
        };
        if let Some(wanted) = wanted
            && wanted != answer.read_time
        {
            self.violate(
                "read time",
                format!(
                    "{}\nexpected to be answered as of {}, which it asked for, found {}",
                    telling::operation(self.history, operation),
                    wanted.0,
                    answer.read_time.0,
                ),
            );
        }
    }

    /// All reads of one transaction are of one state.
    fn check_snapshot(&mut self, reads: &[(usize, &Asked, &Answer)]) {
        let Some((last, _, latest)) = reads.iter().max_by_key(|(_, _, answer)| answer.read_time)
        else {
            return;
        };
        for (number, asked, answer) in reads {
            if !self.changed(asked, answer.read_time, latest.read_time) {
                continue;
            }
            let text = format!(
                "{}: {}\nexpected what it found at {} to hold at {}, where the same transaction read ({})\nfound {}, \
                 and there {}",
                telling::operation(self.history, *number),
                telling::asked(asked),
                answer.read_time.0,
                latest.read_time.0,
                telling::operation(self.history, *last),
                telling::found(&answer.found),
                telling::found(&self.timeline.answer(asked, latest.read_time)),
            );
            self.violate("one state for a transaction", text);
            return;
        }
    }

    /// What a transaction has read is still so when it commits.
    fn check_reads_hold(&mut self, operation: usize, reads: &TransactionReads) {
        let stands_at = match self.writers.fates.get(&operation) {
            Some(Fate::Entry(entry)) => self
                .history
                .stored
                .entries
                .get(*entry)
                .map(|entry| Timeline::before(entry.version)),
            // One that writes nothing stands where it has read.
            Some(Fate::Nothing) if !writes_of(self.history, operation).is_empty() => {
                self.history.operations.get(operation).and_then(version)
            }
            Some(Fate::Nothing | Fate::Lost) | None => None,
        };
        let Some(stands_at) = stands_at else {
            return;
        };
        for (asked, answer) in &reads.reads {
            if answer.read_time > stands_at {
                let text = format!(
                    "{}: {}\nexpected it to come after what it read at {}, found it just after {}",
                    telling::operation(self.history, operation),
                    telling::asked(asked),
                    answer.read_time.0,
                    stands_at.0,
                );
                self.violate("transaction reads hold", text);
                return;
            }
            if self.changed(asked, answer.read_time, stands_at) {
                let text = format!(
                    "{} wrote {}, having read {} at {}\nexpected that to hold until it committed: {}\nfound just \
                     before it, at {}: {}{}",
                    telling::operation(self.history, operation),
                    telling::writes(writes_of(self.history, operation)),
                    telling::asked(asked),
                    answer.read_time.0,
                    telling::found(&answer.found),
                    stands_at.0,
                    telling::found(&self.timeline.answer(asked, stands_at)),
                    self.between(asked, answer.read_time, stands_at),
                );
                self.violate("transaction reads hold", text);
                return;
            }
        }
    }

    /// Whether the question has another answer at the later version.
    fn changed(&self, asked: &Asked, from: Version, to: Version) -> bool {
        !self.timeline.quiet_between(asked, from, to)
            && !same_found(
                &self.timeline.answer(asked, from),
                &self.timeline.answer(asked, to),
            )
    }

    /// Who changed the answer.
    fn between(&self, asked: &Asked, from: Version, to: Version) -> String {
        let entries = self
            .history
            .stored
            .entries
            .iter()
            .zip(&self.writers.of_entry);
        for (entry, writer) in entries {
            if entry.version > from
                && entry.version <= to
                && self.changed(asked, Timeline::before(entry.version), entry.version)
            {
                let who = writer.map_or("somebody".to_owned(), |writer| {
                    telling::operation(self.history, writer)
                });
                return format!("\nby {who}, which wrote at {}", entry.version.0);
            }
        }
        String::new()
    }

    /// An acknowledged commit was told what its writes came to.
    fn check_outcomes(&mut self, operation: usize, receipt: &Receipt) {
        let writes = writes_of(self.history, operation);
        let expected = match self.writers.fates.get(&operation) {
            Some(Fate::Entry(entry)) => {
                let Some(entry) = self.history.stored.entries.get(*entry) else {
                    return;
                };
                let before = Timeline::before(entry.version);
                effect(
                    writes,
                    |path| self.timeline.document(path, before),
                    time_of(entry.version),
                )
            }
            Some(Fate::Nothing) => {
                let Some(version) = receipt.version else {
                    return;
                };
                effect(
                    writes,
                    |path| self.timeline.document(path, version),
                    time_of(version),
                )
            }
            // `durable` has said what there is to say.
            Some(Fate::Lost) | None => return,
        };
        let Ok(mut expected) = expected else {
            return;
        };
        if let (Some(Fate::Nothing), Some(version)) =
            (self.writers.fates.get(&operation), receipt.version)
        {
            // A document that came and went within a commit that was never made: nobody knows when that was, and so
            // not what a transform made of the time.
            let outcomes = expected.outcomes.iter_mut().zip(&receipt.outcomes);
            for ((expected, found), write) in outcomes.zip(writes) {
                if self.timeline.document(&write.path, version).is_none() {
                    found.clone_into(expected);
                }
            }
        }
        if !same_outcomes(&expected, &receipt.outcomes) {
            let text = format!(
                "{}: {}\nexpected {}\nfound {}",
                telling::operation(self.history, operation),
                telling::writes(writes),
                telling::short(format!("{:?}", expected.outcomes)),
                telling::short(format!("{:?}", receipt.outcomes)),
            );
            self.violate("outcome", text);
        }
    }

    /// A precondition that refused a commit did not hold at some moment while the commit was under way.
    fn check_refusal(&mut self, number: usize, operation: &Operation, refusal: &Refusal) {
        let refuses = |refused: &Refused| match (refusal, refused) {
            (Refusal::AlreadyExists, Refused::AlreadyExists)
            | (Refusal::NotFound, Refused::NotFound)
            | (Refusal::VersionMismatch, Refused::VersionMismatch { .. }) => true,
            (
                Refusal::AlreadyExists
                | Refusal::NotFound
                | Refusal::VersionMismatch
                | Refusal::Aborted
                | Refusal::TransactionGone
                | Refusal::FailedPrecondition(_)
                | Refusal::Other(_),
                _,
            ) => false,
        };
        match refusal {
            Refusal::AlreadyExists | Refusal::NotFound | Refusal::VersionMismatch => {}
            Refusal::Aborted
            | Refusal::TransactionGone
            | Refusal::FailedPrecondition(_)
            | Refusal::Other(_) => return,
        }
        let writes = writes_of(self.history, number);
        let (from, _) = self.moments.complete_before(operation.started.step);
        let to = self.moments.seen_after(operation.ended.step);
        let holds_always = !states_between(self.timeline, writes, from, to).any(|version| {
            let come_to = effect(
                writes,
                |path| self.timeline.document(path, version),
                // A time that no document has: its own is not known.
                Timestamp::MAX,
            );
            come_to.is_err_and(|refused| refuses(&refused))
        });
        if holds_always {
            let text = format!(
                "{}: {}\nexpected a state after {} and up to {} that refuses it by {refusal:?}, found none",
                telling::operation(self.history, number),
                telling::writes(writes),
                from.0,
                to.0,
            );
            self.violate("refusal", text);
        }
    }

    /// Whatever began after something was complete comes after it.
    fn check_real_time(&mut self, number: usize, operation: &Operation) {
        let entry = self
            .writers
            .entry_of(number)
            .and_then(|entry| self.history.stored.entries.get(entry));
        let (began, at) = match entry {
            Some(entry) => (Some(operation.started.step), Some(entry.version)),
            None => (
                self.moments.saw_present_since(operation),
                version(operation),
            ),
        };
        let (Some(began), Some(at)) = (began, at) else {
            return;
        };
        let (complete, source) = self.moments.complete_before(began);
        let wrong = match entry {
            Some(_) => at <= complete,
            None => at < complete,
        };
        if let (true, Some(source)) = (wrong, source) {
            let text = format!(
                "{}\nexpected a version after {}, where {} stood before it began, found {}",
                telling::operation(self.history, number),
                complete.0,
                telling::source(self.history, source),
                at.0,
            );
            self.violate("real time", text);
        }
    }
}
