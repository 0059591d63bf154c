//! Reads and transactions.

use std::sync::Arc;

use watchfire_engine::Version;
use watchfire_model::Precondition;

use super::scribe::{
    Scribe, all, altered, count, delete, documents, increment, more_than, path, receipt, set, top,
};
use super::{accept, reject};
use crate::history::{
    Answer, Asked, Begun, Found, OperationKind, Outcome, ReadAt, Refusal, TransactionNumber,
};

#[test]
fn one_after_the_other() {
    let mut scribe = Scribe::new();
    scribe.read(documents(&["c/1"]));
    scribe.commit(vec![set("c/1", 1), set("c/2", 2)]);
    scribe.read(documents(&["c/1", "c/3"]));
    scribe.commit(vec![set("c/1", 1)]);
    scribe.commit(vec![delete("c/2"), set("c/3", 5)]);
    scribe.commit(vec![increment("c/3")]);
    scribe.commit(vec![increment("c/3")]);
    for query in [all(), top(1), more_than(2)] {
        scribe.read(Asked::Query(Arc::clone(&query)));
        scribe.read(count(query));
    }
    let transaction = scribe.transaction(vec![documents(&["c/1"]), Asked::Query(all())]);
    let now = scribe.now();
    scribe.commit_since(now, vec![set("c/4", 7)], Some(transaction));
    accept(&scribe.end());
}

#[test]
fn side_by_side_in_any_order() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1)]);
    // Began first, committed last; a reader of the old state ends last of all.
    let reader = scribe.now();
    let answer = scribe.answer(&documents(&["c/1"]), scribe.head);
    let slow = scribe.now();
    scribe.commit(vec![set("c/1", 2)]);
    scribe.commit_since(slow, vec![set("c/1", 3)], None);
    scribe.note_read(reader, documents(&["c/1"]), answer);
    accept(&scribe.end());
}

#[test]
fn a_lost_update() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1)]);
    let first = scribe.transaction(vec![documents(&["c/1"])]);
    let second = scribe.transaction(vec![documents(&["c/1"])]);
    let (begun, later) = (scribe.now(), scribe.now());
    scribe.commit_since(begun, vec![set("c/1", 2)], Some(first));
    scribe.commit_since(later, vec![set("c/1", 3)], Some(second));
    reject(&scribe.end(), &["transaction reads hold", "no circle"]);
}

#[test]
fn a_lost_race_that_was_refused() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1)]);
    let first = scribe.transaction(vec![documents(&["c/1"])]);
    let second = scribe.transaction(vec![documents(&["c/1"])]);
    let (begun, later) = (scribe.now(), scribe.now());
    scribe.commit_since(begun, vec![set("c/1", 2)], Some(first));
    scribe.note(
        later,
        OperationKind::Commit {
            writes: vec![set("c/1", 3)],
            transaction: Some(second),
            outcome: Outcome::Refused(Refusal::Aborted),
        },
    );
    accept(&scribe.end());
}

#[test]
fn write_skew() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1), set("c/2", 2)]);
    let first = scribe.transaction(vec![documents(&["c/1", "c/2"])]);
    let second = scribe.transaction(vec![documents(&["c/1", "c/2"])]);
    let (begun, later) = (scribe.now(), scribe.now());
    scribe.commit_since(begun, vec![set("c/1", 3)], Some(first));
    scribe.commit_since(later, vec![set("c/2", 4)], Some(second));
    reject(&scribe.end(), &["transaction reads hold", "no circle"]);
}

#[test]
fn a_phantom() {
    let phantom = |asked: Asked, write, laws: &[&str]| {
        let mut scribe = Scribe::new();
        scribe.commit(vec![set("c/1", 1), set("c/2", 5), set("d/1", 0)]);
        let transaction = scribe.transaction(vec![asked.clone()]);
        let mut other = scribe.transaction(Vec::new());
        scribe.read_in(&mut other, documents(&["d/1"]), scribe.head);
        let (begun, later) = (scribe.now(), scribe.now());
        // It did not see what the other brings into sight, which did not see what it writes.
        scribe.commit_since(begun, vec![write], Some(other));
        scribe.commit_since(later, vec![set("d/1", 9)], Some(transaction));
        let history = scribe.end();
        if laws.is_empty() {
            accept(&history);
        } else {
            reject(&history, laws);
        }
    };
    let both = ["transaction reads hold", "no circle"];
    phantom(Asked::Query(more_than(2)), set("c/3", 8), &both);
    phantom(Asked::Query(more_than(2)), set("c/1", 8), &both);
    phantom(Asked::Query(more_than(2)), delete("c/2"), &both);
    phantom(documents(&["c/3"]), set("c/3", 8), &both);
    phantom(
        count(more_than(2)),
        set("c/3", 8),
        &["transaction reads hold"],
    );
    phantom(
        Asked::Query(top(1)),
        set("c/3", 8),
        &["transaction reads hold"],
    );
    // Out of its sight.
    phantom(Asked::Query(more_than(2)), set("c/3", 2), &[]);
    phantom(Asked::Query(top(1)), set("c/3", 4), &[]);
    phantom(count(more_than(2)), set("c/1", 2), &[]);
}

#[test]
fn a_stale_read() {
    let mut scribe = Scribe::new();
    let old = scribe.commit(vec![set("c/1", 1)]);
    scribe.commit(vec![set("c/1", 2)]);
    let begun = scribe.now();
    let answer = scribe.answer(&documents(&["c/1"]), old);
    scribe.note_read(begun, documents(&["c/1"]), answer.clone());
    reject(&scribe.history_so_far(), &["real time", "no circle"]);
    // The same with a lie about its version.
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1)]);
    scribe.commit(vec![set("c/1", 2)]);
    let begun = scribe.now();
    let read_time = Version(scribe.head);
    scribe.note_read(
        begun,
        documents(&["c/1"]),
        Answer {
            read_time,
            ..answer
        },
    );
    reject(&scribe.end(), &["snapshot read", "no circle"]);
}

#[test]
fn a_read_of_the_past_may_be_stale() {
    let mut scribe = Scribe::new();
    let old = scribe.commit(vec![set("c/1", 1)]);
    let next = scribe.commit(vec![set("c/1", 2)]);
    for read_time in [old, next] {
        let begun = scribe.now();
        let answer = scribe.answer(&documents(&["c/1"]), read_time);
        scribe.note(
            begun,
            OperationKind::Read {
                transaction: None,
                at: ReadAt::Past(Version(old)),
                asked: documents(&["c/1"]),
                outcome: Outcome::Acknowledged(answer),
            },
        );
        match read_time == old {
            true => accept(&scribe.history_so_far()),
            false => reject(&scribe.history_so_far(), &["read time"]),
        }
    }
}

#[test]
fn a_transaction_of_the_past() {
    let mut scribe = Scribe::new();
    let old = scribe.commit(vec![set("c/1", 1)]);
    scribe.commit(vec![set("c/1", 2)]);
    let begun = scribe.now();
    scribe.note(
        begun,
        OperationKind::Begin {
            transaction: TransactionNumber(77),
            options: Begun::ReadOnly {
                read_time: Some(Version(old)),
            },
            outcome: Outcome::Acknowledged(()),
        },
    );
    let mut transaction = scribe.transaction(Vec::new());
    transaction.number = TransactionNumber(77);
    scribe.read_in(&mut transaction, documents(&["c/1"]), old);
    accept(&scribe.history_so_far());
    scribe.read_in(&mut transaction, documents(&["c/1"]), scribe.head);
    reject(&scribe.end(), &["read time", "one state for a transaction"]);
}

#[test]
fn a_read_from_the_future() {
    let mut scribe = Scribe::new();
    let old = scribe.commit(vec![set("c/1", 1)]);
    let begun = scribe.now();
    scribe.commit(vec![set("c/1", 2)]);
    let mut answer = scribe.answer(&documents(&["c/1"]), scribe.head);
    answer.read_time = Version(old);
    scribe.note_read(begun, documents(&["c/1"]), answer);
    reject(&scribe.end(), &["snapshot read"]);
    // Before it was even asked for.
    let mut scribe = Scribe::new();
    let begun = scribe.now();
    let version = scribe.head + 10;
    let answer = Answer {
        read_time: Version(version),
        found: Found::Documents(vec![None]),
    };
    scribe.note_read(begun, documents(&["c/1"]), answer);
    scribe.commit(vec![set("c/1", 1)]);
    reject(&scribe.end(), &["real time", "snapshot read"]);
}

#[test]
fn a_dirty_read() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1)]);
    scribe.commit_in_vain(
        vec![set("c/1", 2)],
        Outcome::Unknown("the server is gone".to_owned()),
    );
    accept(&scribe.history_so_far());
    let begun = scribe.now();
    let mut document = altered(&scribe.state[&path("c/1")], 2);
    Arc::get_mut(&mut document).unwrap().update_time =
        crate::oracle::timeline::time_of(Version(scribe.head + 5));
    let answer = Answer {
        read_time: Version(scribe.head + 5),
        found: Found::Documents(vec![Some(document)]),
    };
    scribe.note_read(begun, documents(&["c/1"]), answer);
    reject(&scribe.end(), &["dirty read"]);
}

#[test]
fn a_query_with_one_too_few_and_out_of_order() {
    let spoil = |spoil: &dyn Fn(&mut Vec<Arc<watchfire_model::Document>>)| {
        let mut scribe = Scribe::new();
        scribe.commit(vec![set("c/1", 1), set("c/2", 5)]);
        let begun = scribe.now();
        let mut answer = scribe.answer(&Asked::Query(all()), scribe.head);
        if let Found::Query(documents) = &mut answer.found {
            spoil(documents);
        }
        scribe.note_read(begun, Asked::Query(all()), answer);
        scribe.end()
    };
    accept(&spoil(&|_| {}));
    reject(
        &spoil(&|documents| documents.truncate(1)),
        &["snapshot read", "no circle"],
    );
    reject(&spoil(&|documents| documents.reverse()), &["snapshot read"]);
}

#[test]
fn a_wrong_count() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1), set("c/2", 5)]);
    let begun = scribe.now();
    let mut answer = scribe.answer(&count(all()), scribe.head);
    answer.found = Found::Aggregate(vec![(
        "count".to_owned(),
        watchfire_model::Value::Integer(1),
    )]);
    scribe.note_read(begun, count(all()), answer);
    reject(&scribe.end(), &["snapshot read"]);
}

#[test]
fn two_reads_of_two_states_in_one_transaction() {
    let mut scribe = Scribe::new();
    let old = scribe.commit(vec![set("c/1", 1), set("c/2", 1)]);
    let mut transaction = scribe.transaction(vec![documents(&["c/1"])]);
    scribe.commit(vec![set("c/1", 2), set("c/2", 2)]);
    scribe.read_in(&mut transaction, documents(&["c/2"]), old);
    accept(&scribe.history_so_far());
    scribe.read_in(&mut transaction, documents(&["c/2"]), scribe.head);
    reject(&scribe.end(), &["one state for a transaction", "no circle"]);
}

#[test]
fn a_version_before_what_was_acknowledged() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1)]);
    let begun = scribe.now();
    let version = scribe.commit_since(begun, vec![set("c/2", 2)], None);
    // A read at a version is complete, so nothing may come at or below it later.
    let begun = scribe.now();
    let mut answer = scribe.answer(&documents(&["c/1"]), version);
    answer.read_time = Version(version + 10);
    scribe.note_read(begun, documents(&["c/1"]), answer);
    accept(&scribe.history_so_far());
    let begun = scribe.now();
    scribe.commit_since(begun, vec![set("c/2", 3)], None);
    reject(&scribe.end(), &["real time"]);
}

#[test]
fn outcomes() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1), increment("c/2")]);
    let mut history = scribe.end();
    accept(&history);
    if let OperationKind::Commit {
        outcome: Outcome::Acknowledged(receipt),
        ..
    } = &mut history.operations[0].kind
    {
        receipt.outcomes[1].transform_results = vec![watchfire_model::Value::Integer(2)];
    }
    reject(&history, &["outcome"]);
}

#[test]
fn what_a_commit_makes_and_takes_away_has_no_time() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1)]);
    let head = scribe.head;
    let mut told = receipt(head);
    told.outcomes[0].update_time = Some(crate::oracle::timeline::time_of(Version(head + 3)));
    told.outcomes.push(watchfire_model::WriteOutcome {
        update_time: None,
        transform_results: Vec::new(),
    });
    let writes = vec![set("c/2", 2), delete("c/2")];
    scribe.commit_in_vain(writes, Outcome::Acknowledged(told));
    accept(&scribe.end());
}

#[test]
fn refusals_need_a_reason() {
    let refused = |existing: bool| {
        let mut scribe = Scribe::new();
        if existing {
            scribe.commit(vec![set("c/1", 1)]);
        }
        let write = watchfire_model::Write {
            precondition: Precondition::Exists(false),
            ..set("c/1", 2)
        };
        scribe.commit_in_vain(vec![write], Outcome::Refused(Refusal::AlreadyExists));
        scribe.end()
    };
    accept(&refused(true));
    reject(&refused(false), &["refusal"]);
}

#[test]
fn a_commit_that_is_refused_by_what_it_writes_itself() {
    let mut scribe = Scribe::new();
    let version = scribe.commit(vec![set("c/2", 1)]);
    let verify = watchfire_model::Write {
        operation: watchfire_model::Operation::Verify,
        precondition: Precondition::UpdateTime(crate::oracle::timeline::time_of(Version(version))),
        ..set("c/1", 0)
    };
    scribe.commit_in_vain(
        vec![set("c/1", 2), verify],
        Outcome::Refused(Refusal::VersionMismatch),
    );
    accept(&scribe.end());
}

#[test]
fn a_commit_that_changes_nothing_is_right_about_that() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1)]);
    scribe.commit(vec![set("c/1", 1)]);
    accept(&scribe.history_so_far());
    let head = scribe.head;
    scribe.commit_in_vain(vec![set("c/1", 2)], Outcome::Acknowledged(receipt(head)));
    reject(&scribe.end(), &["commit effect"]);
}
