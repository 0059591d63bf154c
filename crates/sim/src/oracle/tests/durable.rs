//! What is stored in the end.

use std::sync::Arc;

use watchfire_engine::{CommitEntry, Version};

use super::scribe::{Scribe, altered, delete, increment, path, receipt, set};
use super::{accept, reject};
use crate::history::{History, OperationKind, Outcome, Receipt, Refusal};

fn unknown() -> Outcome<Receipt> {
    Outcome::Unknown("the server is gone".to_owned())
}

/// The history with its last commit's outcome.
fn outcome_of_last(mut history: History, outcome: Outcome<Receipt>) -> History {
    let last = history.operations.last_mut().unwrap();
    if let OperationKind::Commit {
        outcome: before, ..
    } = &mut last.kind
    {
        *before = outcome;
    }
    history
}

#[test]
fn an_acknowledged_commit_is_lost_by_a_crash() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1)]);
    let lost = scribe.head + 10;
    scribe.commit_in_vain(vec![set("c/1", 2)], Outcome::Acknowledged(receipt(lost)));
    scribe.head = lost;
    reject(&scribe.end(), &["acknowledged is durable"]);
}

#[test]
fn a_commit_that_nobody_heard_of_may_be_there_or_not() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1)]);
    scribe.commit_in_vain(vec![set("c/1", 2), set("c/2", 2)], unknown());
    accept(&scribe.end());
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1)]);
    scribe.commit(vec![set("c/1", 2), set("c/2", 2)]);
    accept(&outcome_of_last(scribe.end(), unknown()));
}

#[test]
fn part_of_a_commit() {
    let mut scribe = Scribe::new();
    scribe.store(&[set("c/1", 2)]);
    scribe.commit_in_vain(vec![set("c/1", 2), set("c/2", 2)], unknown());
    reject(&scribe.end(), &["all or nothing"]);
}

#[test]
fn refused_but_there() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1)]);
    let history = outcome_of_last(scribe.end(), Outcome::Refused(Refusal::Aborted));
    reject(&history, &["refused is absent"]);
}

#[test]
fn a_retry_that_is_there_twice() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![increment("c/1")]);
    scribe.store(&[increment("c/1")]);
    reject(&scribe.end(), &["exactly once"]);
    // Two calls of unknown outcome are two.
    let mut scribe = Scribe::new();
    scribe.commit_in_vain(vec![increment("c/1")], unknown());
    scribe.store(&[increment("c/1")]);
    scribe.commit_in_vain(vec![increment("c/1")], unknown());
    scribe.commit_in_vain(vec![increment("c/1")], unknown());
    accept(&scribe.history_so_far());
    scribe.store(&[increment("c/1")]);
    scribe.store(&[increment("c/1")]);
    accept(&scribe.history_so_far());
    scribe.store(&[increment("c/1")]);
    reject(&scribe.end(), &["exactly once"]);
}

#[test]
fn an_entry_of_nobody() {
    let mut scribe = Scribe::new();
    scribe.store(&[set("c/1", 1)]);
    reject(&scribe.end(), &["written by somebody"]);
}

#[test]
fn a_write_of_a_batch_that_names_no_version() {
    let batch = |stored: bool, write: watchfire_model::Write, before: i64| {
        let mut scribe = Scribe::new();
        scribe.commit(vec![set("c/1", before)]);
        let started = scribe.now();
        let mut told = Scribe::new();
        told.state = scribe.state.clone();
        told.head = scribe.head;
        let mut receipt = told.store(std::slice::from_ref(&write));
        receipt.version = None;
        if stored {
            scribe.store(std::slice::from_ref(&write));
        }
        scribe.note(
            started,
            OperationKind::Commit {
                writes: vec![write],
                transaction: None,
                outcome: Outcome::Acknowledged(receipt),
            },
        );
        scribe.end()
    };
    accept(&batch(true, set("c/1", 2), 1));
    accept(&batch(true, delete("c/1"), 1));
    accept(&batch(true, set("c/1", 1), 1));
    accept(&batch(false, delete("c/2"), 1));
    reject(
        &batch(false, set("c/1", 2), 1),
        &["acknowledged is durable"],
    );
    reject(
        &batch(false, delete("c/1"), 1),
        &["acknowledged is durable"],
    );
}

#[test]
fn an_answer_that_was_lost_is_not_taken_for_one_that_came() {
    // Both deleted the document, once it was there; only one was answered.
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1)]);
    let (first, second) = (scribe.now(), scribe.now());
    scribe.store(&[delete("c/1")]);
    scribe.note(
        first,
        OperationKind::Commit {
            writes: vec![delete("c/1")],
            transaction: None,
            outcome: unknown(),
        },
    );
    scribe.note(
        second,
        OperationKind::Commit {
            writes: vec![delete("c/1")],
            transaction: None,
            outcome: Outcome::Acknowledged(Receipt {
                version: None,
                outcomes: vec![watchfire_model::WriteOutcome {
                    update_time: None,
                    transform_results: Vec::new(),
                }],
            }),
        },
    );
    accept(&scribe.end());
}

#[test]
fn a_retry_that_finds_its_writes_done() {
    let mut scribe = Scribe::new();
    let started = scribe.now();
    scribe.store(&[set("c/1", 1)]);
    scribe.note(
        started,
        OperationKind::Commit {
            writes: vec![set("c/1", 1)],
            transaction: None,
            outcome: unknown(),
        },
    );
    scribe.read(super::scribe::documents(&["c/1"]));
    scribe.commit(vec![set("c/1", 1)]);
    accept(&scribe.end());
}

#[test]
fn what_is_stored_is_what_the_entries_say() {
    let good = || {
        let mut scribe = Scribe::new();
        scribe.commit(vec![set("c/1", 1)]);
        scribe.commit(vec![set("c/2", 1)]);
        scribe.commit(vec![set("c/1", 2)]);
        scribe.end()
    };
    accept(&good());
    let mut history = good();
    let document = history.stored.documents.get_mut(&path("c/2")).unwrap();
    *document = altered(document, 3);
    reject(&history, &["stored documents"]);
    let mut history = good();
    history.stored.documents.remove(&path("c/1"));
    reject(&history, &["stored documents"]);
    let mut history = good();
    let document = history.stored.documents[&path("c/1")].clone();
    history.stored.documents.insert(path("c/9"), document);
    reject(&history, &["stored documents"]);
    let mut history = good();
    history.stored.kept.remove(1);
    reject(&history, &["changelog"]);
    history.stored.trimmed_to = history.stored.entries[1].version;
    history.stored.kept.remove(0);
    accept(&history);
    let mut history = good();
    history.stored.head = Version(5);
    reject(&history, &["changelog"]);
}

#[test]
fn entries_follow_from_each_other() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1)]);
    scribe.commit(vec![set("c/1", 2)]);
    let mut history = scribe.end();
    let entry = &history.stored.entries[1];
    let mut changes = entry.changes.clone();
    changes[0].before = None;
    history.stored.entries[1] = Arc::new(CommitEntry {
        version: entry.version,
        changes,
    });
    reject(&history, &["changelog"]);
}
