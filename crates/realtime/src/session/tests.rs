//! Exact sequences of one session, with results that are set by hand.

use std::collections::HashMap;

use watchfire_model::{Fields, Timestamp, Value};

use super::*;
use crate::result::Standing;

const ORIGIN: u64 = 9;

#[derive(Default)]
struct Fake {
    standing: HashMap<u64, Vec<Arc<Document>>>,
}

impl Results for Fake {
    fn stands(&self, target: SharedId) -> bool {
        self.standing.contains_key(&target.0)
    }
    fn documents(&self, target: SharedId) -> Vec<Arc<Document>> {
        self.standing.get(&target.0).cloned().unwrap_or_default()
    }
    fn count(&self, target: SharedId) -> usize {
        self.documents(target).len()
    }
    fn standing(&self, target: SharedId) -> Arc<Standing> {
        Arc::new(Standing::new(self.documents(target)))
    }
}

fn path(text: &str) -> DocumentPath {
    DocumentPath::parse(text).unwrap()
}

fn document(text: &str, time: i64) -> Arc<Document> {
    let time = Timestamp::from_micros(time).unwrap();
    Arc::new(Document {
        path: path(text),
        create_time: time,
        update_time: time,
        fields: Fields::from([("a".to_owned(), Value::Integer(1))]),
    })
}

fn watch(shared: u64) -> Watch {
    Watch {
        shared: SharedId(shared),
        watch: shared,
        hash: shared * 10,
        projected: false,
        once: false,
        replay_from: None,
        by_time: false,
        reset: false,
        expected_count: None,
        not_before: Version::default(),
    }
}

fn new_session() -> Session {
    Session::new(ORIGIN, Arc::new(DatabaseName::new("p", "d").unwrap()))
}

/// A session in which target 1 is to go on from 4, with this replay.
fn resumed(target: Watch, parts: &[CaughtUp]) -> (Session, Fake) {
    let mut session = new_session();
    let results = Fake {
        standing: [(1, vec![document("a/1", 1)])].into(),
    };
    session.admit(1).unwrap();
    let replay_from = Some(Version(4));
    session.watch(
        1,
        Watch {
            replay_from,
            ..target
        },
    );
    session.filled(1);
    session.replayed(1, 1, Some(parts));
    answers(&mut session);
    (session, results)
}

fn caught_up(shown: Shown, certain: bool) -> CaughtUp {
    CaughtUp {
        shown,
        certain,
        by_times: false,
    }
}

fn upserted(documents: &[Arc<Document>]) -> Arc<Shown> {
    Arc::new(Shown {
        as_of: Version(8),
        upserted: documents.to_vec(),
        removed: Vec::new(),
    })
}

fn removed(text: &str, now: Option<Arc<Document>>) -> Arc<Shown> {
    Arc::new(Shown {
        as_of: Version(8),
        upserted: Vec::new(),
        removed: vec![(path(text), now)],
    })
}

/// Events in short: what a reader of a protocol trace would note.
fn short(events: &[WatchEvent]) -> Vec<String> {
    events
        .iter()
        .map(|event| match event {
            WatchEvent::Added { target } => format!("added {target}"),
            WatchEvent::Removed {
                target,
                cause: None,
            } => format!("removed {target}"),
            WatchEvent::Removed {
                target,
                cause: Some(cause),
            } => format!("removed {target} {cause:?}"),
            WatchEvent::Current {
                targets,
                token,
                read_time,
            } => {
                assert!(!token.is_empty());
                format!("current {targets:?} at {}", read_time.micros())
            }
            WatchEvent::Reset { targets } => format!("reset {targets:?}"),
            WatchEvent::Snapshot { token, read_time } => {
                let token = if token.is_empty() {
                    " without token"
                } else {
                    ""
                };
                format!("snapshot at {}{token}", read_time.micros())
            }
            WatchEvent::Changed {
                document,
                targets,
                removed_targets,
            } => format!(
                "changed {}@{} {targets:?} -{removed_targets:?}",
                document.path,
                document.update_time.micros()
            ),
            WatchEvent::Deleted {
                path,
                removed_targets,
                read_time,
            } => format!("deleted {path}@{} -{removed_targets:?}", read_time.micros()),
            WatchEvent::Left {
                path,
                removed_targets,
                ..
            } => format!("left {path} -{removed_targets:?}"),
            WatchEvent::Filter {
                target,
                count,
                unchanged_names,
            } => {
                let named = unchanged_names.as_ref().map_or("", |_| " with names");
                format!("filter {target} {count}{named}")
            }
        })
        .collect()
}

fn answers(session: &mut Session) -> Vec<String> {
    short(&session.take_answers())
}

fn flush(session: &mut Session, at: u64, results: &Fake) -> Vec<String> {
    assert!(session.is_dirty() && !session.held(results));
    short(&session.flush(Version(at), results).0)
}

/// A session with target 1 on shared target 1, current at 5 with a/1 and a/2.
fn current() -> (Session, Fake) {
    let mut session = new_session();
    let results = Fake {
        standing: [(1, vec![document("a/1", 1), document("a/2", 2)])].into(),
    };
    assert_eq!(session.admit(1), Ok(Some(1)));
    session.watch(1, watch(1));
    session.filled(1);
    answers(&mut session);
    flush(&mut session, 5, &results);
    (session, results)
}

#[test]
fn fresh_listen() {
    let mut session = new_session();
    let mut results = Fake::default();
    assert_eq!(session.admit(1), Ok(Some(1)));
    session.watch(1, watch(1));
    assert_eq!(answers(&mut session), ["added 1"]);
    assert!(!session.is_dirty());
    results
        .standing
        .insert(1, vec![document("a/2", 2), document("a/1", 1)]);
    assert_eq!(session.filled(1), None);
    assert_eq!(
        flush(&mut session, 5, &results),
        [
            "changed a/2@2 [1] -[]",
            "changed a/1@1 [1] -[]",
            "current [1] at 5",
            "snapshot at 5"
        ]
    );
    assert!(!session.is_dirty());
}

#[test]
fn resume_without_changes() {
    let mut session = new_session();
    let results = Fake {
        standing: [(1, vec![document("a/1", 1)])].into(),
    };
    session.admit(1).unwrap();
    session.watch(
        1,
        Watch {
            replay_from: Some(Version(4)),
            expected_count: Some(1),
            ..watch(1)
        },
    );
    assert_eq!(session.filled(1), Some(Version(4)));
    assert!(!session.is_dirty());
    session.replayed(1, 1, Some(&[caught_up(Shown::default(), true)]));
    assert_eq!(
        flush(&mut session, 6, &results),
        ["filter 1 1", "current [1] at 6", "snapshot at 6"]
    );
}

#[test]
fn resume_with_changes_keeps_what_comes_meanwhile() {
    let mut session = new_session();
    let results = Fake {
        standing: [(1, vec![document("a/1", 1)])].into(),
    };
    session.admit(1).unwrap();
    session.watch(
        1,
        Watch {
            replay_from: Some(Version(4)),
            ..watch(1)
        },
    );
    session.filled(1);
    session.absorb(1, &upserted(&[document("a/1", 8)]));
    session.replayed(1, 99, None);
    session.replayed(
        1,
        1,
        Some(&[caught_up(
            Shown {
                as_of: Version(7),
                upserted: vec![document("a/1", 7)],
                removed: vec![(path("a/3"), None)],
            },
            true,
        )]),
    );
    assert_eq!(
        flush(&mut session, 8, &results),
        [
            "changed a/1@8 [1] -[]",
            "deleted a/3@7 -[1]",
            "current [1] at 8",
            "snapshot at 8"
        ]
    );
}

#[test]
fn resume_that_cannot_be_told_is_reset() {
    let mut session = new_session();
    let results = Fake {
        standing: [(1, vec![document("a/1", 1)])].into(),
    };
    session.admit(1).unwrap();
    session.watch(
        1,
        Watch {
            replay_from: Some(Version(4)),
            ..watch(1)
        },
    );
    session.filled(1);
    session.replayed(1, 1, None);
    assert_eq!(answers(&mut session), ["added 1"]);
    assert_eq!(
        flush(&mut session, 6, &results),
        [
            "reset [1]",
            "changed a/1@1 [1] -[]",
            "current [1] at 6",
            "snapshot at 6"
        ]
    );
}

#[test]
fn who_may_hold_more_is_told_what_there_is() {
    for (expected_count, filter) in [
        (None, "filter 1 1"),
        (Some(0), "filter 1 1"),
        (Some(2), "filter 1 1 with names"),
    ] {
        let target = Watch {
            expected_count,
            ..watch(1)
        };
        let parts = [
            caught_up(Shown::clone(&upserted(&[document("a/1", 1)])), true),
            caught_up(Shown::clone(&removed("a/2", None)), false),
        ];
        let (mut session, results) = resumed(target, &parts);
        assert_eq!(
            flush(&mut session, 8, &results),
            [
                "changed a/1@1 [1] -[]",
                "deleted a/2@8 -[1]",
                filter,
                "current [1] at 8",
                "snapshot at 8"
            ]
        );
        session.beat(Version(9));
        assert_eq!(flush(&mut session, 9, &results), ["snapshot at 9"]);
    }
}

#[test]
fn what_a_slow_replay_knows_to_be_gone_does_not_take_away_what_another_target_has_told_since() {
    let parts = [caught_up(Shown::clone(&removed("b/1", None)), true)];
    let mut session = new_session();
    let results = Fake {
        standing: [(1, Vec::new()), (2, vec![document("b/1", 9)])].into(),
    };
    session.admit(1).unwrap();
    let replay_from = Some(Version(4));
    session.watch(
        1,
        Watch {
            replay_from,
            ..watch(1)
        },
    );
    session.filled(1);
    session.admit(2).unwrap();
    session.watch(2, watch(2));
    session.filled(2);
    answers(&mut session);
    // It came back at 9, where the first target does not have it.
    assert_eq!(
        flush(&mut session, 10, &results),
        [
            "changed b/1@9 [2] -[]",
            "current [2] at 10",
            "snapshot at 10 without token"
        ]
    );
    session.replayed(1, 1, Some(&parts));
    assert_eq!(
        flush(&mut session, 11, &results),
        ["deleted b/1@8 -[1]", "current [1] at 11", "snapshot at 11"]
    );
}

#[test]
fn a_time_says_less_than_a_token() {
    let by_time = || Watch {
        by_time: true,
        ..watch(1)
    };
    let part = |by_times| CaughtUp {
        by_times,
        ..caught_up(Shown::default(), !by_times)
    };
    let (mut session, results) = resumed(by_time(), &[part(false)]);
    assert_eq!(
        flush(&mut session, 8, &results),
        ["filter 1 1", "current [1] at 8", "snapshot at 8"]
    );
    let (mut session, results) = resumed(by_time(), &[part(true)]);
    assert_eq!(flush(&mut session, 8, &results)[0], "reset [1]");
    let (mut session, results) = resumed(watch(1), &[part(true)]);
    assert_eq!(flush(&mut session, 8, &results)[0], "filter 1 1");
}

#[test]
fn one_commit_of_two_documents_is_one_snapshot() {
    let (mut session, results) = current();
    session.absorb(1, &upserted(&[document("a/1", 7), document("a/2", 7)]));
    assert_eq!(
        flush(&mut session, 7, &results),
        [
            "changed a/1@7 [1] -[]",
            "changed a/2@7 [1] -[]",
            "snapshot at 7"
        ]
    );
}

#[test]
fn leaving_and_deletion_differ() {
    let (mut session, results) = current();
    session.absorb(1, &removed("a/1", Some(document("a/1", 7))));
    session.absorb(1, &removed("a/2", None));
    assert_eq!(
        flush(&mut session, 7, &results),
        [
            "changed a/1@7 [] -[1]",
            "deleted a/2@8 -[1]",
            "snapshot at 7"
        ]
    );
}

#[test]
fn one_document_of_two_targets_is_one_event() {
    let (mut session, mut results) = current();
    session.admit(2).unwrap();
    session.watch(2, watch(2));
    answers(&mut session);
    session.absorb(1, &upserted(&[document("a/2", 6)]));
    assert_eq!(
        flush(&mut session, 6, &results),
        ["changed a/2@6 [1] -[]", "snapshot at 6 without token"]
    );
    results
        .standing
        .insert(2, vec![document("a/1", 7), document("a/3", 3)]);
    session.absorb(1, &upserted(&[document("a/1", 7)]));
    session.filled(2);
    assert_eq!(
        flush(&mut session, 7, &results),
        [
            "changed a/1@7 [1, 2] -[]",
            "changed a/3@3 [2] -[]",
            "current [2] at 7",
            "snapshot at 7"
        ]
    );
    session.absorb(1, &removed("a/1", Some(document("a/1", 8))));
    session.absorb(2, &upserted(&[document("a/1", 8)]));
    assert_eq!(
        flush(&mut session, 8, &results),
        ["changed a/1@8 [2] -[1]", "snapshot at 8"]
    );
}

#[test]
fn once_ends_after_its_snapshot() {
    let mut session = new_session();
    let results = Fake {
        standing: [(1, Vec::new())].into(),
    };
    session.admit(1).unwrap();
    session.watch(
        1,
        Watch {
            once: true,
            ..watch(1)
        },
    );
    session.filled(1);
    assert_eq!(
        flush(&mut session, 5, &results),
        ["current [1] at 5", "snapshot at 5", "removed 1"]
    );
    assert_eq!(session.targets().count(), 0);
    assert_eq!(session.remove(1), None);
    assert_eq!(answers(&mut session), ["added 1"]);
}

#[test]
fn removal_is_answered_once_and_drops_what_is_pending() {
    let (mut session, _) = current();
    session.absorb(1, &upserted(&[document("a/1", 7)]));
    assert_eq!(session.remove(1), Some(SharedId(1)));
    assert_eq!(session.remove(1), None);
    assert_eq!(answers(&mut session), ["removed 1"]);
    assert!(session.pending.is_empty());
}

#[test]
fn failure_is_told_instead_of_a_later_removal() {
    let (mut session, _) = current();
    session.fail(1, Cause::PermissionDenied);
    assert_eq!(session.remove(1), None);
    session.fail(1, Cause::PermissionDenied);
    assert_eq!(answers(&mut session), ["removed 1 PermissionDenied"]);
}

#[test]
fn target_ids_are_checked() {
    let (mut session, _) = current();
    assert_eq!(session.admit(1), Ok(None));
    assert_eq!(
        answers(&mut session),
        ["removed 1 AlreadyExists(\"Target ID already exists: 1\")"]
    );
    assert!(session.targets.contains_key(&1));
    assert!(session.admit(0).is_err());
    assert!(session.admit(-1).is_err());
    let mut session = new_session();
    assert_eq!(session.admit(0), Ok(Some(1)));
    assert_eq!(session.admit(0), Ok(Some(2)));
    assert!(session.admit(3).is_err());
}

#[test]
fn too_many_targets_are_refused_one_by_one() {
    let mut session = new_session();
    for id in 1..=TARGETS_PER_SESSION_MAX as i32 {
        session.admit(id).unwrap().unwrap();
        session.watch(id, watch(1));
    }
    session.take_answers();
    assert_eq!(session.admit(2_000), Ok(None));
    assert!(answers(&mut session)[0].contains("ResourceExhausted"));
}

#[test]
fn a_target_that_is_read_again_holds_the_others() {
    let (session, mut results) = current();
    let documents = results.standing.remove(&1).unwrap();
    assert!(session.held(&results));
    results.standing.insert(1, documents);
    assert!(!session.held(&results));
}

#[test]
fn what_cannot_be_told_is_bounded_by_a_reset() {
    let (mut session, results) = current();
    let many: Vec<Arc<Document>> = (0..=PENDING_DOCUMENTS_MAX)
        .map(|n| document(&format!("a/x{n}"), 7))
        .collect();
    session.absorb(1, &upserted(&many));
    session.defer();
    assert!(session.pending.is_empty());
    assert_eq!(
        flush(&mut session, 7, &results),
        [
            "reset [1]",
            "changed a/1@1 [1] -[]",
            "changed a/2@2 [1] -[]",
            "current [1] at 7",
            "snapshot at 7"
        ]
    );
}

#[test]
fn a_lost_result_is_sent_whole() {
    let (mut session, results) = current();
    session.absorb(1, &removed("a/9", None));
    session.lost(1);
    assert_eq!(session.filled(1), None);
    let told = flush(&mut session, 9, &results);
    assert_eq!(told.first().unwrap(), "reset [1]");
    assert!(!told.iter().any(|event| event.contains("a/9")));
}

#[test]
fn heartbeats_go_to_those_who_have_heard_nothing_later() {
    let (mut session, results) = current();
    session.beat(Version(4));
    assert!(!session.is_dirty());
    session.beat(Version(6));
    assert_eq!(flush(&mut session, 6, &results), ["snapshot at 6"]);
}

#[test]
fn heartbeats_go_on_while_the_version_stands_still() {
    let (mut session, results) = current();
    for _ in 0..2 {
        session.beat(Version(5));
        assert_eq!(flush(&mut session, 5, &results), ["snapshot at 5"]);
        assert!(!session.is_dirty());
    }
}

#[test]
fn views_of_a_document_are_told_apart() {
    let (mut session, mut results) = current();
    session.admit(2).unwrap();
    session.watch(
        2,
        Watch {
            projected: true,
            ..watch(2)
        },
    );
    results.standing.insert(2, vec![document("a/1", 1)]);
    session.filled(2);
    session.absorb(1, &upserted(&[document("a/1", 7)]));
    assert_eq!(
        flush(&mut session, 7, &results),
        [
            "changed a/1@7 [1] -[]",
            "changed a/1@1 [2] -[]",
            "current [2] at 7",
            "snapshot at 7"
        ]
    );
}

#[test]
fn older_knowledge_of_one_target_does_not_replace_newer_of_another() {
    let (mut session, mut results) = current();
    session.admit(2).unwrap();
    session.watch(
        2,
        Watch {
            replay_from: Some(Version(4)),
            ..watch(2)
        },
    );
    results.standing.insert(2, Vec::new());
    session.filled(2);
    // Deleted at 8 for target 1; the replay of target 2 still knows it as it was at 7.
    session.absorb(1, &removed("a/1", None));
    let shown = Shown {
        as_of: Version(7),
        upserted: Vec::new(),
        removed: vec![(path("a/1"), Some(document("a/1", 7)))],
    };
    session.replayed(2, 2, Some(&[caught_up(shown, true)]));
    assert_eq!(
        flush(&mut session, 8, &results),
        ["deleted a/1@8 -[1, 2]", "current [2] at 8", "snapshot at 8"]
    );
}
