//! What the tests of whole streams share: an engine whose store can fail, requests, and a client that holds every
//! event against what a stream promises.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test takes what it needs, and may panic"
)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use watchfire_engine::{Engine, Start};
use watchfire_model::watch::{Cause, Target, WatchEvent};
use watchfire_model::{
    Clock, DatabaseName, Document, DocumentPath, FieldOperator, FieldPath, Filter, Operation,
    Parent, Precondition, Query, QueryParts, Selector, Timestamp, Value, Write,
};
use watchfire_realtime::{AddTarget, Outbox, Resume, StreamEnd};
use watchfire_storage::faulty::{Faults, FaultyStore};
use watchfire_storage::memory::MemoryStore;

/// When the tests begin, in microseconds.
pub const NOW: i64 = 1_700_000_000_000_000;

/// Moves by itself a little with each look, so that versions differ.
pub struct Ticking(AtomicI64);

impl Ticking {
    /// Begins with a moment in microseconds.
    pub fn from(micros: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(micros)))
    }
}

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.fetch_add(1_000, Ordering::Relaxed)).unwrap()
    }
}

pub fn database() -> DatabaseName {
    DatabaseName::new("p", "d").unwrap()
}

/// A database in memory, and how to make its store fail.
pub async fn engine() -> (Engine, Arc<FaultyStore>) {
    let store = FaultyStore::new(MemoryStore::new(), Faults::default());
    let store_of_engine = Arc::clone(&store) as Arc<_>;
    let engine = Engine::open(database(), store_of_engine, Ticking::from(NOW))
        .await
        .unwrap();
    (engine, store)
}

pub fn path(text: &str) -> DocumentPath {
    DocumentPath::parse(text).unwrap()
}

pub fn set(text: &str, value: Value) -> Write {
    Write {
        path: path(text),
        operation: Operation::Set([("a".to_owned(), value)].into_iter().collect()),
        precondition: Precondition::None,
        transforms: Vec::new(),
    }
}

pub fn delete(text: &str) -> Write {
    Write {
        operation: Operation::Delete,
        ..set(text, Value::Null)
    }
}

/// Commits; again when the store failed.
pub async fn commit(engine: &Engine, writes: Vec<Write>) -> u64 {
    for _ in 0..10 {
        if let Ok(staged) = engine.stage(writes.clone(), Start::Now).await
            && let Ok(committed) = engine.commit(staged).await
        {
            return committed.version.0;
        }
    }
    panic!("the store fails once at a time");
}

pub fn parts(selector: Selector) -> QueryParts {
    QueryParts {
        database: database(),
        parent: Parent::Root,
        selector,
        filter: None,
        order: Vec::new(),
        start: None,
        end: None,
        offset: 0,
        limit: None,
        projection: None,
    }
}

pub fn collection(id: &str) -> QueryParts {
    parts(Selector::Collection(id.to_owned()))
}

pub fn target(parts: QueryParts) -> Target {
    Target::Query(Arc::new(Query::new(parts).unwrap()))
}

/// Everything there is.
pub fn everything() -> Target {
    target(parts(Selector::Everything))
}

/// Few targets, so that streams have the same.
pub const KINDS: u8 = 5;

pub fn target_of(kind: u8) -> Target {
    match kind {
        0 => target(collection("c")),
        1 => Target::Documents(vec![path("c/1"), path("d/1")]),
        2 => target(QueryParts {
            limit: Some(2),
            ..collection("c")
        }),
        3 => target(QueryParts {
            filter: Some(Filter::Field {
                field: FieldPath::parse("a").unwrap(),
                operator: FieldOperator::GreaterThan,
                value: Value::Integer(0),
            }),
            ..collection("c")
        }),
        _ => everything(),
    }
}

pub fn add(target_id: i32, target: Target) -> AddTarget {
    AddTarget {
        target_id,
        target,
        resume: Resume::None,
        once: false,
        expected_count: None,
    }
}

/// Paths and update times in microseconds.
pub type Held = BTreeMap<String, i64>;

/// All documents at each version.
#[derive(Default)]
pub struct History {
    states: BTreeMap<u64, BTreeMap<String, Arc<Document>>>,
    /// What was asked for before, by the version of the state.
    found: RefCell<BTreeMap<(u64, u8), Arc<Held>>>,
}

impl History {
    /// Notes what is stored now, after a commit at `version`.
    pub async fn note(&mut self, engine: &Engine, version: u64) {
        let Target::Query(query) = everything() else {
            unreachable!()
        };
        for _ in 0..10 {
            if let Ok(view) = engine.view().await
                && let Ok((documents, _)) = view.query(&query).await
            {
                let documents = documents
                    .iter()
                    .map(|document| (document.path.to_string(), Arc::clone(document)));
                self.states.insert(version, documents.collect());
                return;
            }
        }
        panic!("the store fails once at a time");
    }

    pub fn last(&self) -> i64 {
        self.states.keys().next_back().copied().unwrap_or(0) as i64
    }

    /// The result of a target at a version, found by looking at everything.
    pub fn expected(&self, kind: u8, version: i64) -> Arc<Held> {
        let Some((at, state)) = self.states.range(..=version as u64).next_back() else {
            return Arc::default();
        };
        let mut found = self.found.borrow_mut();
        let held = found.entry((*at, kind)).or_insert_with(|| {
            let documents: Vec<&Document> = match target_of(kind) {
                Target::Query(query) => query.evaluate(state.values().map(Arc::as_ref)),
                Target::Documents(paths) => state
                    .values()
                    .map(Arc::as_ref)
                    .filter(|document| paths.contains(&document.path))
                    .collect(),
            };
            let held = documents
                .into_iter()
                .map(|document| (document.path.to_string(), document.update_time.micros()));
            Arc::new(held.collect())
        });
        Arc::clone(held)
    }
}

/// What is ready at once, if anything.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// What a client has asked for, in order; for one target id.
#[derive(Clone, Debug)]
pub enum Asked {
    Add {
        kind: u8,
        once: bool,
        /// What is held of it, when it goes on from a token of ours.
        held: Option<Held>,
        /// Its token is for something else.
        bad: bool,
    },
    Remove,
    Fail(Cause),
}

/// What was told of a target id and answers a request, or ends the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Added,
    Removed(Option<Cause>),
}

#[derive(Clone, Debug)]
struct Active {
    kind: u8,
    once: bool,
    current: bool,
    /// It was current at a snapshot.
    shown: bool,
    held: Held,
    token: Vec<u8>,
    /// The token is of this target alone.
    own: bool,
}

/// A result that a client held at a snapshot, with the token that it had then.
#[derive(Clone, Debug)]
pub struct Kept {
    pub kind: u8,
    pub held: Held,
    pub token: Vec<u8>,
    /// The token is of this target alone, so that it is refused for others.
    pub own: bool,
}

/// A client that folds what it is told, and complains.
#[derive(Default)]
pub struct Reader {
    asked: BTreeMap<i32, Vec<Asked>>,
    told: BTreeMap<i32, Vec<Told>>,
    active: BTreeMap<i32, Active>,
    pub read_time: i64,
    pub snapshots: usize,
    pub events: usize,
    pub resets: usize,
    /// At the snapshots, for going on elsewhere.
    pub kept: Vec<Kept>,
}

impl Reader {
    pub fn ask(&mut self, id: i32, asked: Asked) {
        self.asked.entry(id).or_default().push(asked);
    }

    pub fn active(&self) -> usize {
        self.active.len()
    }

    pub fn held(&self, id: i32) -> Option<&Held> {
        self.active.get(&id).map(|active| &active.held)
    }

    /// Whether everything was answered and what is active is current, at that version or later.
    pub fn stands_at(&self, version: i64) -> bool {
        self.read_time >= version
            && !self.active.is_empty()
            && self.active.values().all(|active| active.current)
            && self.asked.keys().all(|id| self.is_answered(*id, true))
    }

    /// Whether every request of that stream was answered as it must be, or, unless `all`, those up to somewhere.
    pub fn check_answers(&self, all: bool) {
        for id in self.asked.keys() {
            assert!(
                self.is_answered(*id, all),
                "target {id}: asked {:?}, told {:?}",
                self.asked.get(id),
                self.told.get(id)
            );
        }
    }

    /// Follows every way in which the requests may have led to what was told: a way is the number of requests that are
    /// done and the active target, if it is watched once.
    fn is_answered(&self, id: i32, all: bool) -> bool {
        let asked = self.asked.get(&id).map_or(&[][..], Vec::as_slice);
        let told = self.told.get(&id).map_or(&[][..], Vec::as_slice);
        let mut ways: BTreeSet<(usize, Option<bool>)> = [(0, None)].into();
        let unanswered = |ways: &mut BTreeSet<(usize, Option<bool>)>| {
            // What is not active is not removed, and nothing is said.
            for (mut done, active) in ways.clone() {
                while active.is_none()
                    && matches!(asked.get(done), Some(Asked::Remove | Asked::Fail(_)))
                {
                    done += 1;
                    ways.insert((done, None));
                }
            }
        };
        unanswered(&mut ways);
        for event in told {
            let mut next = BTreeSet::new();
            for (done, active) in ways {
                let answered = match (event, asked.get(done), active) {
                    (
                        Told::Added,
                        Some(Asked::Add {
                            once, bad: false, ..
                        }),
                        None,
                    ) => Some(Some(*once)),
                    (
                        Told::Removed(Some(Cause::Invalid(_))),
                        Some(Asked::Add { bad: true, .. }),
                        None,
                    ) => Some(None),
                    (
                        Told::Removed(Some(Cause::AlreadyExists(_))),
                        Some(Asked::Add { .. }),
                        Some(_),
                    ) => Some(active),
                    (Told::Removed(None), Some(Asked::Remove), Some(_)) => Some(None),
                    (Told::Removed(Some(cause)), Some(Asked::Fail(why)), Some(_))
                        if cause == why =>
                    {
                        Some(None)
                    }
                    _ => None,
                };
                if let Some(active) = answered {
                    next.insert((done + 1, active));
                }
                // It ended by itself.
                match (event, active) {
                    (Told::Removed(None), Some(true))
                    | (Told::Removed(Some(Cause::Unavailable(_))), Some(_)) => {
                        next.insert((done, None));
                    }
                    _ => {}
                }
            }
            ways = next;
            unanswered(&mut ways);
        }
        ways.iter().any(|(done, _)| !all || *done == asked.len())
    }

    fn of(&mut self, id: i32, event: &'static str) -> &mut Active {
        self.active
            .get_mut(&id)
            .unwrap_or_else(|| panic!("{event} of target {id}, which is not active"))
    }

    /// The request that the next answer to one of adding answers.
    fn answered_add(&self, id: i32) -> Asked {
        let answers = self.told.get(&id).into_iter().flatten().filter(|told| {
            matches!(
                told,
                Told::Added | Told::Removed(Some(Cause::Invalid(_) | Cause::AlreadyExists(_)))
            )
        });
        self.asked
            .get(&id)
            .into_iter()
            .flatten()
            .filter(|asked| matches!(asked, Asked::Add { .. }))
            .nth(answers.count())
            .unwrap_or_else(|| panic!("target {id} was not asked for"))
            .clone()
    }

    pub fn take(&mut self, event: WatchEvent, history: &History) {
        self.events += 1;
        match event {
            WatchEvent::Added { target } => {
                let Asked::Add {
                    kind, once, held, ..
                } = self.answered_add(target)
                else {
                    unreachable!()
                };
                let active = Active {
                    kind,
                    once,
                    current: false,
                    shown: false,
                    held: held.unwrap_or_default(),
                    token: Vec::new(),
                    own: false,
                };
                let before = self.active.insert(target, active);
                assert!(before.is_none(), "target {target} was added twice");
                self.told.entry(target).or_default().push(Told::Added);
                self.check_answers(false);
            }
            WatchEvent::Removed { target, cause } => {
                match &cause {
                    Some(Cause::AlreadyExists(_)) => {
                        self.of(target, "a refusal");
                    }
                    Some(Cause::Invalid(_)) => {
                        assert!(!self.active.contains_key(&target));
                    }
                    _ => {
                        let shown = self.of(target, "a removal").shown;
                        let active = self.active.remove(&target).unwrap();
                        let asked = self.asked.get(&target).into_iter().flatten();
                        let removals = asked.filter(|asked| matches!(asked, Asked::Remove)).count();
                        assert!(
                            cause.is_some() || removals > 0 || (active.once && shown),
                            "target {target} ended before it was shown"
                        );
                    }
                }
                let told = self.told.entry(target).or_default();
                told.push(Told::Removed(cause));
                self.check_answers(false);
            }
            WatchEvent::Current { targets, token, .. } => {
                assert!(!targets.is_empty());
                for id in targets {
                    let active = self.of(id, "currency");
                    assert!(!active.current, "target {id} is called current twice");
                    active.current = true;
                    active.token.clone_from(&token);
                    active.own = true;
                }
            }
            WatchEvent::Reset { targets } => {
                self.resets += 1;
                for id in targets {
                    let active = self.of(id, "a reset");
                    active.held.clear();
                    active.current = false;
                }
            }
            WatchEvent::Changed {
                document,
                targets,
                removed_targets,
            } => {
                for id in targets {
                    let active = self.of(id, "a change");
                    active
                        .held
                        .insert(document.path.to_string(), document.update_time.micros());
                }
                for id in removed_targets {
                    let active = self.of(id, "a change");
                    active.held.remove(document.path.as_str());
                }
            }
            WatchEvent::Deleted {
                path,
                removed_targets,
                read_time,
            } => {
                // Clients keep that it was gone then, for all of their targets.
                let all = history.expected(KINDS - 1, read_time.micros());
                assert!(!all.contains_key(path.as_str()), "{path} was there");
                self.left(&path, removed_targets);
            }
            WatchEvent::Left {
                path,
                removed_targets,
                ..
            } => self.left(&path, removed_targets),
            WatchEvent::Filter { target, count, .. } => {
                let held = self.of(target, "a count").held.len();
                assert_eq!(held, count as usize, "target {target}");
            }
            WatchEvent::Snapshot { token, read_time } => self.snapshot(token, read_time, history),
        }
    }

    fn left(&mut self, path: &DocumentPath, targets: Vec<i32>) {
        assert!(!targets.is_empty());
        for id in targets {
            self.of(id, "a removal of a document")
                .held
                .remove(path.as_str());
        }
    }

    fn snapshot(&mut self, token: Vec<u8>, read_time: Timestamp, history: &History) {
        let read_time = read_time.micros();
        assert!(read_time >= self.read_time, "read times go forward");
        self.read_time = read_time;
        self.snapshots += 1;
        for (id, active) in &mut self.active {
            if !active.current {
                assert!(token.is_empty(), "a token for target {id}, not current");
                continue;
            }
            active.shown = true;
            if !token.is_empty() {
                active.token.clone_from(&token);
                active.own = false;
            }
            let expected = history.expected(active.kind, read_time);
            assert_eq!(
                active.held, *expected,
                "target {id} of kind {} at {read_time}",
                active.kind
            );
            self.kept.push(Kept {
                kind: active.kind,
                held: active.held.clone(),
                token: active.token.clone(),
                own: active.own,
            });
        }
        // Bounded: a few old ones and the newest.
        if self.kept.len() > 40 {
            self.kept.drain(4..20);
        }
    }

    /// Reads what waits, at most so many events; the end, if there is one.
    pub fn read_waiting(
        &mut self,
        outbox: &mut Outbox,
        max: usize,
        history: &History,
    ) -> Option<Option<StreamEnd>> {
        for _ in 0..max {
            match now(outbox.next())? {
                Some(Ok(event)) => self.take(event, history),
                Some(Err(end)) => return Some(Some(end)),
                None => return Some(None),
            }
        }
        None
    }

    /// Reads until everything is as it must be in the end.
    pub async fn read_to(&mut self, outbox: &mut Outbox, version: i64, history: &History) {
        while !self.stands_at(version) {
            // Heartbeats come all the time while anything is current.
            match tokio::time::timeout(Duration::from_secs(5), outbox.next()).await {
                Ok(Some(Ok(event))) => self.take(event, history),
                Ok(end) => panic!("the stream ended: {end:?}"),
                Err(_) => {
                    assert!(
                        self.active.is_empty(),
                        "silent at {} before {version}: {:?}, asked {:?}, told {:?}",
                        self.read_time,
                        self.active,
                        self.asked,
                        self.told
                    );
                    break;
                }
            }
        }
        self.check_answers(true);
    }
}
