//! Streams.

use std::collections::BTreeMap;
use std::sync::Arc;

use watchfire_engine::Version;
use watchfire_model::Invalid;
use watchfire_model::watch::{Cause, Target, WatchEvent};

use super::scribe::{Scribe, all, altered, delete, more_than, path, set, top};
use super::{accept, reject};
use crate::history::{ResumedFrom, StreamEnd, StreamEvent, StreamNumber};
use crate::oracle::timeline::time_of;

/// A stream on all of `c`, with one document told and a snapshot.
fn opened() -> (Scribe, usize) {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1)]);
    let stream = scribe.listen(Target::Query(all()), ResumedFrom::Nothing);
    scribe.changed(stream, "c/1");
    scribe.current(stream);
    scribe.snapshot(stream);
    (scribe, stream)
}

#[test]
fn a_stream_as_it_should_be() {
    let (mut scribe, stream) = opened();
    scribe.commit(vec![set("c/2", 2), set("d/1", 0)]);
    scribe.commit(vec![set("c/1", 3)]);
    scribe.changed(stream, "c/1");
    scribe.changed(stream, "c/2");
    scribe.snapshot(stream);
    scribe.snapshot(stream);
    scribe.commit(vec![delete("c/1")]);
    scribe.deleted(stream, "c/1");
    scribe.snapshot(stream);
    // A heartbeat, and then all of it again.
    scribe.head += 100;
    scribe.snapshot(stream);
    scribe.tell(stream, WatchEvent::Reset { targets: vec![1] });
    scribe.changed(stream, "c/2");
    scribe.current(stream);
    scribe.snapshot(stream);
    accept(&scribe.end());
}

#[test]
fn documents_by_name() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1), set("c/3", 1)]);
    let named = Target::Documents(vec![path("c/1"), path("c/2"), path("c/1")]);
    let stream = scribe.listen(named, ResumedFrom::Nothing);
    scribe.changed(stream, "c/1");
    scribe.current(stream);
    scribe.snapshot(stream);
    accept(&scribe.history_so_far());
    scribe.changed(stream, "c/3");
    scribe.snapshot(stream);
    reject(&scribe.end(), &["filtered"]);
}

#[test]
fn filtered() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1), set("c/2", 5)]);
    let stream = scribe.listen(Target::Query(more_than(2)), ResumedFrom::Nothing);
    scribe.changed(stream, "c/2");
    scribe.current(stream);
    scribe.snapshot(stream);
    accept(&scribe.history_so_far());
    scribe.changed(stream, "c/1");
    reject(&scribe.history_so_far(), &["filtered"]);
    // What never was.
    let (mut scribe, stream) = opened();
    scribe.commit(vec![set("c/1", 2)]);
    scribe.tell(
        stream,
        WatchEvent::Changed {
            document: altered(&scribe.state[&path("c/1")], 3),
            targets: vec![1],
            removed_targets: Vec::new(),
        },
    );
    reject(&scribe.end(), &["filtered"]);
}

#[test]
fn ordered() {
    let (mut scribe, stream) = opened();
    let before = scribe.head;
    scribe.commit(vec![set("c/1", 2)]);
    scribe.changed(stream, "c/1");
    scribe.snapshot(stream);
    accept(&scribe.history_so_far());
    scribe.snapshot_at(stream, before);
    reject(&scribe.history_so_far(), &["ordered"]);
    // Of a target that is not there.
    let (mut scribe, stream) = opened();
    scribe.tell(stream, WatchEvent::Reset { targets: vec![2] });
    reject(&scribe.end(), &["ordered"]);
    let (mut scribe, stream) = opened();
    scribe.tell(
        stream,
        WatchEvent::Removed {
            target: 1,
            cause: None,
        },
    );
    reject(&scribe.end(), &["ordered"]);
}

#[test]
fn unique() {
    let (mut scribe, stream) = opened();
    scribe.commit(vec![set("c/1", 2)]);
    scribe.changed(stream, "c/1");
    let once = scribe.history_so_far();
    scribe.changed(stream, "c/1");
    scribe.snapshot(stream);
    reject(&scribe.history_so_far(), &["unique"]);
    assert!(
        crate::oracle::judge(&once)
            .iter()
            .all(|one| one.law != "unique")
    );
    // In a later snapshot, though nothing has changed.
    let (mut scribe, stream) = opened();
    scribe.changed(stream, "c/1");
    scribe.snapshot(stream);
    reject(&scribe.end(), &["unique"]);
}

#[test]
fn what_came_back_into_a_limited_result_may_be_told_again() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 5)]);
    let stream = scribe.listen(Target::Query(top(1)), ResumedFrom::Nothing);
    scribe.changed(stream, "c/1");
    scribe.current(stream);
    scribe.snapshot(stream);
    scribe.commit(vec![set("c/2", 6)]);
    scribe.commit(vec![delete("c/2")]);
    scribe.changed(stream, "c/1");
    scribe.snapshot(stream);
    accept(&scribe.end());
}

#[test]
fn atomic() {
    let (mut scribe, stream) = opened();
    scribe.commit(vec![set("c/1", 2), set("c/2", 2)]);
    scribe.changed(stream, "c/1");
    let half = scribe.history_so_far();
    scribe.snapshot(stream);
    // Half a commit, told later as well.
    reject(&scribe.history_so_far(), &["atomic"]);
    scribe.changed(stream, "c/2");
    scribe.snapshot_at(stream, scribe.head + 1);
    reject(&scribe.history_so_far(), &["atomic"]);
    // Without a snapshot nothing is shown yet; only that it never comes is wrong.
    reject(&half, &["reliable"]);
    assert!(
        crate::oracle::judge(&half)
            .iter()
            .all(|one| one.law != "atomic")
    );
}

#[test]
fn a_change_that_is_missing() {
    let (mut scribe, stream) = opened();
    scribe.commit(vec![set("c/2", 2)]);
    scribe.snapshot(stream);
    reject(&scribe.end(), &["atomic", "reliable"]);
    // One that leaves a limited result has another come in.
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1), set("c/2", 5)]);
    let stream = scribe.listen(Target::Query(top(1)), ResumedFrom::Nothing);
    scribe.changed(stream, "c/2");
    scribe.current(stream);
    scribe.snapshot(stream);
    scribe.commit(vec![delete("c/2")]);
    scribe.deleted(stream, "c/2");
    let before = scribe.history_so_far();
    scribe.snapshot(stream);
    reject(&scribe.end(), &["atomic"]);
    let mut scribe = Scribe::new();
    scribe.head = before.stored.head.0;
    scribe.state = before.stored.documents.clone();
    scribe.history = before;
    for _ in 0..100 {
        scribe.now();
    }
    scribe.changed(stream, "c/1");
    scribe.snapshot(stream);
    accept(&scribe.end());
}

#[test]
fn bookmarkable() {
    let mut scribe = Scribe::new();
    scribe.commit(vec![set("c/1", 1)]);
    let stream = scribe.listen(Target::Query(all()), ResumedFrom::Nothing);
    scribe.snapshot(stream);
    reject(&scribe.end(), &["bookmarkable"]);
}

/// A stream that goes on from what another one held before the last commits.
fn resumed(scribe: &mut Scribe, by_time: bool, since: impl FnOnce(&mut Scribe)) -> usize {
    let (held, read_time) = (scribe.view(), Version(scribe.head));
    let now = scribe.now();
    scribe.history.streams[0].ended = Some((now, StreamEnd::Cut));
    since(scribe);
    let stream = StreamNumber(0);
    let resume = match by_time {
        true => ResumedFrom::ReadTime {
            stream,
            read_time,
            held,
        },
        false => ResumedFrom::Token {
            token: b"t".to_vec(),
            stream,
            read_time,
            viewed: read_time,
            held,
        },
    };
    scribe.listen(Target::Query(all()), resume)
}

#[test]
fn resumable() {
    for by_time in [false, true] {
        let resumed_with = |told: &[&str], count: Option<i32>| {
            let (mut scribe, stream) = opened();
            scribe.commit(vec![set("c/2", 2)]);
            scribe.changed(stream, "c/2");
            scribe.snapshot(stream);
            let stream = resumed(&mut scribe, by_time, |scribe| {
                scribe.commit(vec![set("c/3", 3), set("c/1", 4)]);
                scribe.commit(vec![delete("c/2")]);
            });
            for text in told {
                match *text {
                    "c/2" => scribe.deleted(stream, text),
                    text => scribe.changed(stream, text),
                }
            }
            if let Some(count) = count {
                scribe.tell(
                    stream,
                    WatchEvent::Filter {
                        target: 1,
                        count,
                        unchanged_names: None,
                    },
                );
            }
            scribe.current(stream);
            scribe.snapshot(stream);
            scribe.end()
        };
        accept(&resumed_with(&["c/1", "c/3", "c/2"], None));
        accept(&resumed_with(&["c/1", "c/3", "c/2"], Some(2)));
        // It skips something: a change, a new document, a deletion.
        reject(
            &resumed_with(&["c/1", "c/2"], None),
            &["resumable", "reliable"],
        );
        reject(&resumed_with(&["c/3", "c/2"], None), &["resumable"]);
        reject(&resumed_with(&["c/1", "c/3"], None), &["resumable"]);
        reject(
            &resumed_with(&["c/1", "c/3", "c/2"], Some(3)),
            &["resumable"],
        );
        reject(
            &resumed_with(&["c/1", "c/3", "c/2", "c/1"], None),
            &["unique"],
        );
    }
}

#[test]
fn resuming_tells_nothing_again_and_honours_its_token() {
    let (mut scribe, _) = opened();
    let stream = resumed(&mut scribe, false, |_| {});
    scribe.current(stream);
    scribe.snapshot(stream);
    accept(&scribe.history_so_far());
    let (mut scribe, _) = opened();
    let stream = resumed(&mut scribe, false, |_| {});
    scribe.changed(stream, "c/1");
    scribe.current(stream);
    scribe.snapshot(stream);
    reject(&scribe.end(), &["unique"]);
    let (mut scribe, _) = opened();
    let stream = resumed(&mut scribe, false, |_| {});
    scribe.tell(stream, WatchEvent::Reset { targets: vec![1] });
    scribe.changed(stream, "c/1");
    scribe.current(stream);
    scribe.snapshot(stream);
    accept(&scribe.history_so_far());
    let (mut scribe, _) = opened();
    let stream = resumed(&mut scribe, false, |_| {});
    scribe.tell(
        stream,
        WatchEvent::Removed {
            target: 1,
            cause: Some(Cause::Invalid(Invalid::new("bad resume token"))),
        },
    );
    reject(&scribe.end(), &["resumable"]);
}

#[test]
fn what_was_held_with_a_token_was_right() {
    let (mut scribe, _) = opened();
    scribe.commit(vec![set("c/2", 2)]);
    let mut held = scribe.view();
    held.remove(&path("c/2"));
    let resume = ResumedFrom::Token {
        token: b"t".to_vec(),
        stream: StreamNumber(0),
        read_time: Version(scribe.head),
        viewed: Version(scribe.head),
        held,
    };
    scribe.listen(Target::Query(all()), resume);
    reject(&scribe.end(), &["bookmarkable"]);
}

#[test]
fn reliable() {
    // It stands still.
    let (mut scribe, stream) = opened();
    scribe.commit(vec![set("c/2", 2)]);
    reject(&scribe.history_so_far(), &["reliable"]);
    // Where the connection was cut, that is no wonder.
    let now = scribe.now();
    scribe.history.streams[stream].ended = Some((now, StreamEnd::Cut));
    accept(&scribe.end());
    // What it does not watch need not be told.
    let (mut scribe, _) = opened();
    scribe.commit(vec![set("d/2", 2)]);
    accept(&scribe.end());
    // It was never answered.
    let mut scribe = Scribe::new();
    let stream = scribe.listen(Target::Query(all()), ResumedFrom::Nothing);
    reject(&scribe.history_so_far(), &["reliable"]);
    scribe.history.streams[stream].events.clear();
    reject(&scribe.history_so_far(), &["reliable"]);
    let now = scribe.now();
    scribe.history.streams[stream].targets[0].removed = Some(now);
    accept(&scribe.end());
}

#[test]
fn fresh() {
    let first_at = |back: u64| {
        let mut scribe = Scribe::new();
        scribe.commit(vec![set("c/1", 1)]);
        scribe.commit(vec![set("d/1", 1)]);
        let stream = scribe.listen(Target::Query(all()), ResumedFrom::Nothing);
        scribe.changed(stream, "c/1");
        scribe.current(stream);
        scribe.snapshot_at(stream, scribe.head - back);
        scribe.end()
    };
    accept(&first_at(0));
    reject(&first_at(5), &["fresh"]);
}

#[test]
fn a_snapshot_is_complete() {
    let (mut scribe, stream) = opened();
    scribe.snapshot_at(stream, scribe.head + 50);
    scribe.commit(vec![set("d/1", 1)]);
    reject(&scribe.end(), &["real time"]);
}

#[test]
fn views_are_what_was_told() {
    let (mut scribe, stream) = opened();
    let read_time = Version(scribe.head);
    for (views, right) in [
        (BTreeMap::from([(1, scribe.view())]), true),
        (BTreeMap::new(), true),
        (BTreeMap::from([(1, BTreeMap::new())]), false),
    ] {
        let now = scribe.now();
        let mut history = scribe.history_so_far();
        let event = StreamEvent::Views { read_time, views };
        history.streams[stream].events.push((now, event));
        if right {
            accept(&history);
        } else {
            reject(&history, &["views"]);
        }
    }
}

#[test]
fn what_was_forgotten_is_asked_for_anew() {
    let (mut scribe, stream) = opened();
    scribe.tell(
        stream,
        WatchEvent::Filter {
            target: 1,
            count: 1,
            unchanged_names: None,
        },
    );
    accept(&scribe.history_so_far());
    scribe.tell(
        stream,
        WatchEvent::Filter {
            target: 1,
            count: 2,
            unchanged_names: None,
        },
    );
    let now = scribe.now();
    let events = &mut scribe.history.streams[stream].events;
    let mismatch = StreamEvent::FilterMismatch {
        target_id: 1,
        held: 1,
    };
    events.push((now, mismatch));
    scribe.commit(vec![set("c/2", 2)]);
    scribe.snapshot(stream);
    let laws: Vec<&str> = crate::oracle::judge(&scribe.end())
        .iter()
        .map(|violation| violation.law)
        .collect();
    assert_eq!(laws, ["resumable"]);
}

#[test]
fn several_targets_stand_at_one_version() {
    let two = |together: bool| {
        let (mut scribe, stream) = opened();
        let now = scribe.now();
        let mut second = scribe.history.streams[stream].targets[0].clone();
        second.asked = now;
        second.target_id = 2;
        second.target = Target::Query(more_than(0));
        scribe.history.streams[stream].targets.push(second);
        scribe.tell(stream, WatchEvent::Added { target: 2 });
        scribe.commit(vec![set("c/2", 2)]);
        let document = Arc::clone(&scribe.state[&path("c/2")]);
        let targets = if together { vec![1, 2] } else { vec![2] };
        scribe.tell(
            stream,
            WatchEvent::Changed {
                document,
                targets,
                removed_targets: Vec::new(),
            },
        );
        scribe.tell(
            stream,
            WatchEvent::Changed {
                document: Arc::clone(&scribe.state[&path("c/1")]),
                targets: vec![2],
                removed_targets: Vec::new(),
            },
        );
        scribe.tell(
            stream,
            WatchEvent::Current {
                targets: vec![2],
                token: b"t".to_vec(),
                read_time: time_of(Version(scribe.head)),
            },
        );
        scribe.snapshot(stream);
        scribe.end()
    };
    accept(&two(true));
    reject(&two(false), &["atomic"]);
}
