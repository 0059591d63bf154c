//! Whole streams over a real engine: what was told up to each snapshot equals the query at its version.
//!
//! Every case commits random changes while sessions come, go, resume and watch random targets; the
//! expectation is the brute-force answer over the history of states.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod streams;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use proptest::prelude::*;
use watchfire_engine::{Engine, Start};
use watchfire_model::watch::{Cause, Target, WatchEvent};
use watchfire_model::{
    Cursor, Direction, Document, FieldOperator, FieldPath, Fields, Filter, Operation, Order,
    Precondition, QueryParts, Selector, Timestamp, Value, Write,
};
use watchfire_realtime::dispatcher::{JOBS_MAX, READ_ALONE_MAX};
use watchfire_realtime::{AddTarget, Hub, Outbox, Resume, SessionError, SessionHandle, StreamEnd};
use watchfire_storage::memory::MemoryStore;
use watchfire_storage::{Applied, Batch, Page, Range, Snapshot, Store, Version};

use streams::{NOW, Ticking, add, collection, database, parts, path, target};

async fn engine() -> Engine {
    Engine::open(database(), MemoryStore::new(), Ticking::from(NOW))
        .await
        .unwrap()
}

/// Short, so that tests need not wait; a heartbeat is the proof that everything before it was told.
const HEARTBEAT: Duration = Duration::from_millis(5);

fn set(text: &str, value: i64) -> Write {
    Write {
        path: path(text),
        operation: Operation::Set(Fields::from([("a".to_owned(), Value::Integer(value))])),
        precondition: Precondition::None,
        transforms: Vec::new(),
    }
}

fn delete(text: &str) -> Write {
    Write {
        operation: Operation::Delete,
        ..set(text, 0)
    }
}

async fn commit(engine: &Engine, writes: Vec<Write>) -> u64 {
    let staged = engine.stage(writes, Start::Now).await.unwrap();
    engine.commit(staged).await.unwrap().version.0
}

async fn next(outbox: &mut Outbox) -> WatchEvent {
    tokio::time::timeout(Duration::from_secs(20), outbox.next())
        .await
        .expect("an event comes in time")
        .expect("the stream is open")
        .expect("the stream is well")
}

/// A client as small as can be: the documents of each target, as they stand at each snapshot.
#[derive(Default)]
struct Reader {
    targets: BTreeMap<i32, Watched>,
    read_time: i64,
    ended: Vec<(i32, Option<Cause>)>,
    /// Targets that must be asked for anew: an existence filter said that what is held is wrong.
    wrong: Vec<i32>,
}

#[derive(Clone, Default)]
struct Watched {
    documents: BTreeMap<String, i64>,
    /// Its request was answered.
    added: bool,
    current: bool,
    token: Vec<u8>,
    /// Is asked for anew: what still comes says nothing.
    given_up: bool,
}

impl Reader {
    /// Takes an event; true at a snapshot.
    fn take(&mut self, event: WatchEvent) -> bool {
        match event {
            WatchEvent::Added { target } => {
                // Resumed targets were put here with what they knew.
                self.targets.entry(target).or_default().added = true;
            }
            WatchEvent::Removed { target, cause } => {
                self.targets.remove(&target);
                self.ended.push((target, cause));
            }
            WatchEvent::Current { targets, token, .. } => {
                for id in targets {
                    let watched = self.targets.get_mut(&id).unwrap();
                    watched.current = true;
                    watched.token = token.clone();
                }
            }
            WatchEvent::Reset { targets } => {
                for id in targets {
                    let watched = self.targets.get_mut(&id).unwrap();
                    watched.documents.clear();
                    watched.current = false;
                }
            }
            WatchEvent::Changed {
                document,
                targets,
                removed_targets,
            } => {
                for id in targets {
                    let watched = self.targets.get_mut(&id).unwrap();
                    watched
                        .documents
                        .insert(document.path.to_string(), document.update_time.micros());
                }
                for id in removed_targets {
                    self.targets
                        .get_mut(&id)
                        .unwrap()
                        .documents
                        .remove(document.path.as_str());
                }
            }
            WatchEvent::Deleted {
                path,
                removed_targets,
                ..
            }
            | WatchEvent::Left {
                path,
                removed_targets,
                ..
            } => {
                assert!(!removed_targets.is_empty());
                for id in removed_targets {
                    self.targets
                        .get_mut(&id)
                        .unwrap()
                        .documents
                        .remove(path.as_str());
                }
            }
            WatchEvent::Filter {
                target,
                count,
                unchanged_names,
            } => {
                // As the published SDKs do it.
                let watched = self.targets.get_mut(&target).unwrap();
                let count = count as usize;
                if watched.documents.len() != count
                    && let Some(names) = unchanged_names
                {
                    let named = |path: &String, _: &mut i64| {
                        names.might_contain(&format!("projects/p/databases/d/documents/{path}"))
                    };
                    watched.documents.retain(named);
                }
                if watched.documents.len() != count {
                    watched.given_up = true;
                    self.wrong.push(target);
                }
            }
            WatchEvent::Snapshot { token, read_time } => {
                assert!(
                    read_time.micros() >= self.read_time,
                    "read times go forward"
                );
                self.read_time = read_time.micros();
                // As the published SDKs do it, whether or not the target is current.
                if !token.is_empty() {
                    for watched in self.targets.values_mut().filter(|watched| watched.added) {
                        watched.token = token.clone();
                    }
                }
                return true;
            }
        }
        false
    }
}

async fn until(outbox: &mut Outbox, reader: &mut Reader, version: u64) {
    while reader.read_time < version as i64 {
        reader.take(next(outbox).await);
        assert!(reader.wrong.is_empty());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, Option<i64>)>),
    Watch {
        session: usize,
        target_id: i32,
        kind: u8,
    },
    Unwatch {
        session: usize,
        target_id: i32,
    },
    /// Read all there is up to the last commit, so that the stream is not always behind.
    Read {
        session: usize,
    },
    Reconnect {
        session: usize,
        by_time: bool,
        counted: bool,
    },
}

const PATHS: [&str; 8] = [
    "c/1", "c/2", "c/3", "c/4", "d/1", "d/1/c/1", "d/2/c/2", "d/1/c/3",
];
const KINDS: u8 = 9;
const SESSIONS: usize = 3;

fn target_of(kind: u8) -> Target {
    let field = || FieldPath::parse("a").unwrap();
    let order = |direction| {
        vec![Order {
            field: FieldPath::parse("a").unwrap(),
            direction,
        }]
    };
    let more_than_two = || Filter::Field {
        field: field(),
        operator: FieldOperator::GreaterThan,
        value: Value::Integer(2),
    };
    match kind {
        0 => Target::Documents(vec![path("c/1"), path("d/1/c/1")]),
        1 => target(collection("c")),
        2 => target(QueryParts {
            filter: Some(more_than_two()),
            ..collection("c")
        }),
        3 => target(QueryParts {
            order: order(Direction::Descending),
            limit: Some(2),
            ..collection("c")
        }),
        4 => target(parts(Selector::Group("c".to_owned()))),
        5 => target(QueryParts {
            order: order(Direction::Ascending),
            limit: Some(3),
            ..parts(Selector::Group("c".to_owned()))
        }),
        6 => target(QueryParts {
            offset: 1,
            limit: Some(2),
            ..collection("c")
        }),
        7 => target(parts(Selector::Everything)),
        _ => target(QueryParts {
            order: order(Direction::Ascending),
            start: Some(Cursor {
                values: vec![Value::Integer(1)],
                before: false,
            }),
            ..collection("c")
        }),
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (
        0..PATHS.len() as u8,
        proptest::option::weighted(0.75, 0..5_i64),
    );
    let step = prop_oneof![
        6 => proptest::collection::vec(change, 1..4).prop_map(Step::Commit),
        4 => (0..SESSIONS, 1..4_i32, 0..KINDS)
            .prop_map(|(session, target_id, kind)| Step::Watch { session, target_id, kind }),
        1 => (0..SESSIONS, 1..4_i32).prop_map(|(session, target_id)| Step::Unwatch { session, target_id }),
        2 => (0..SESSIONS).prop_map(|session| Step::Read { session }),
        1 => (0..SESSIONS, any::<bool>(), any::<bool>())
            .prop_map(|(session, by_time, counted)| Step::Reconnect { session, by_time, counted }),
    ];
    proptest::collection::vec(step, 1..40)
}

type State = BTreeMap<String, Document>;

struct Client {
    handle: SessionHandle,
    outbox: Outbox,
    reader: Reader,
    /// Kinds by target id, as last asked for.
    kinds: BTreeMap<i32, u8>,
}

struct World {
    engine: Engine,
    hub: Hub,
    history: BTreeMap<u64, State>,
    clients: Vec<Client>,
}

impl World {
    async fn new() -> Self {
        let engine = engine().await;
        let hub = Hub::start_with(engine.clone(), HEARTBEAT);
        let clients = (0..SESSIONS)
            .map(|_| {
                let (handle, outbox) = hub.connect();
                Client {
                    handle,
                    outbox,
                    reader: Reader::default(),
                    kinds: BTreeMap::new(),
                }
            })
            .collect();
        Self {
            engine,
            hub,
            history: [(0, State::new())].into(),
            clients,
        }
    }

    async fn commit(&mut self, changes: &[(u8, Option<i64>)]) {
        let writes: BTreeMap<&str, Write> = changes
            .iter()
            .map(|(index, value)| {
                let text = PATHS[usize::from(*index)];
                (
                    text,
                    value.map_or_else(|| delete(text), |value| set(text, value)),
                )
            })
            .collect();
        let version = commit(&self.engine, writes.into_values().collect()).await;
        let view = self.engine.view().await.unwrap();
        let Target::Query(everything) = target_of(7) else {
            unreachable!()
        };
        let state = view.query(&everything).await.unwrap().0;
        let state = state
            .iter()
            .map(|document| (document.path.to_string(), Document::clone(document)))
            .collect();
        self.history.insert(version, state);
    }

    fn expected(&self, kind: u8, read_time: i64) -> BTreeMap<String, i64> {
        let (_, state) = self.history.range(..=read_time as u64).next_back().unwrap();
        let documents: Vec<&Document> = match target_of(kind) {
            Target::Query(query) => query.evaluate(state.values()),
            Target::Documents(paths) => state
                .values()
                .filter(|document| paths.contains(&document.path))
                .collect(),
        };
        documents
            .into_iter()
            .map(|document| (document.path.to_string(), document.update_time.micros()))
            .collect()
    }

    /// Reads until the stream stands at or after the last commit and all targets are current; checks each
    /// snapshot on the way.
    async fn read(&mut self, session: usize) {
        let last = *self.history.keys().next_back().unwrap();
        loop {
            let client = &mut self.clients[session];
            let open: Vec<i32> = client.kinds.keys().copied().collect();
            let done = client.reader.read_time >= last as i64
                && open.iter().all(|id| {
                    client
                        .reader
                        .targets
                        .get(id)
                        .is_some_and(|watched| watched.current && !watched.given_up)
                });
            if open.is_empty() || done {
                return;
            }
            let shown = client.reader.take(next(&mut client.outbox).await);
            for target_id in std::mem::take(&mut client.reader.wrong) {
                let again = add(target_id, target_of(client.kinds[&target_id]));
                client.handle.remove(target_id).await;
                client.handle.add(again).await.unwrap();
            }
            if shown {
                let client = &self.clients[session];
                for (id, watched) in client
                    .reader
                    .targets
                    .iter()
                    .filter(|(_, watched)| watched.current && !watched.given_up)
                {
                    let Some(kind) = client.kinds.get(id) else {
                        continue;
                    };
                    let expected = self.expected(*kind, client.reader.read_time);
                    assert_eq!(watched.documents, expected, "target {id} of kind {kind}");
                }
            }
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Commit(changes) => self.commit(&changes).await,
            Step::Watch {
                session,
                target_id,
                kind,
            } => {
                let client = &mut self.clients[session];
                // A number in use is refused; that has its own test.
                if let Entry::Vacant(vacant) = client.kinds.entry(target_id) {
                    vacant.insert(kind);
                    client
                        .handle
                        .add(add(target_id, target_of(kind)))
                        .await
                        .unwrap();
                }
            }
            Step::Unwatch { session, target_id } => {
                if self.clients[session].kinds.contains_key(&target_id) {
                    // What is on its way is checked before it is forgotten which target it was for.
                    self.read(session).await;
                    let client = &mut self.clients[session];
                    client.kinds.remove(&target_id);
                    client.handle.remove(target_id).await;
                    while client.reader.targets.contains_key(&target_id) {
                        client.reader.take(next(&mut client.outbox).await);
                    }
                }
            }
            Step::Read { session } => self.read(session).await,
            Step::Reconnect {
                session,
                by_time,
                counted,
            } => {
                let client = &mut self.clients[session];
                (client.handle, client.outbox) = self.hub.connect();
                let known = std::mem::take(&mut client.reader.targets);
                for (&target_id, &kind) in &client.kinds {
                    let mut request = add(target_id, target_of(kind));
                    if let Some(watched) = known
                        .get(&target_id)
                        .filter(|watched| !watched.token.is_empty() && !watched.given_up)
                    {
                        request.resume = if by_time && watched.current {
                            Resume::ReadTime(
                                Timestamp::from_micros(client.reader.read_time).unwrap(),
                            )
                        } else {
                            Resume::Token(watched.token.clone())
                        };
                        request.expected_count = counted.then_some(watched.documents.len() as i32);
                        let watched = Watched {
                            added: false,
                            current: false,
                            ..watched.clone()
                        };
                        client.reader.targets.insert(target_id, watched);
                    }
                    client.handle.add(request).await.unwrap();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn the_fold_of_a_stream_is_the_query_at_its_version(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let mut world = World::new().await;
            for step in steps {
                world.step(step).await;
            }
            for session in 0..SESSIONS {
                world.read(session).await;
            }
            world.hub.close().await;
            world.engine.close().await.unwrap();
        });
    }
}

#[tokio::test]
async fn fresh_listen_then_changes() {
    let engine = engine().await;
    commit(&engine, vec![set("c/1", 1), set("c/2", 2)]).await;
    let hub = Hub::start(engine.clone());
    let (handle, mut outbox) = hub.connect();
    handle.add(add(1, target(collection("c")))).await.unwrap();
    assert!(matches!(
        next(&mut outbox).await,
        WatchEvent::Added { target: 1 }
    ));
    for _ in 0..2 {
        assert!(matches!(
            next(&mut outbox).await,
            WatchEvent::Changed { .. }
        ));
    }
    assert!(matches!(
        next(&mut outbox).await,
        WatchEvent::Current { .. }
    ));
    assert!(matches!(
        next(&mut outbox).await,
        WatchEvent::Snapshot { .. }
    ));
    // Identical, elsewhere, then one that matters: only that is told.
    commit(&engine, vec![set("c/1", 1)]).await;
    commit(&engine, vec![set("d/1", 1)]).await;
    let version = commit(&engine, vec![set("c/1", 5), delete("c/2")]).await;
    assert!(
        matches!(next(&mut outbox).await, WatchEvent::Changed { document, .. }
        if document.update_time.micros() == version as i64)
    );
    assert!(matches!(
        next(&mut outbox).await,
        WatchEvent::Deleted { .. }
    ));
    assert!(
        matches!(next(&mut outbox).await, WatchEvent::Snapshot { read_time, .. }
        if read_time.micros() >= version as i64)
    );
}

#[tokio::test]
async fn idle_streams_get_heartbeats() {
    let hub = Hub::start_with(engine().await, HEARTBEAT);
    let (handle, mut outbox) = hub.connect();
    handle.add(add(1, target(collection("c")))).await.unwrap();
    let mut reader = Reader::default();
    let mut times = Vec::new();
    while times.len() < 3 {
        if reader.take(next(&mut outbox).await) {
            times.push(reader.read_time);
        }
    }
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
}

#[tokio::test]
async fn a_large_first_result_passes_and_a_slow_reader_hears_all() {
    let engine = engine().await;
    for piece in 0..20 {
        commit(
            &engine,
            (0..500)
                .map(|n| set(&format!("c/{piece}x{n}"), 1))
                .collect(),
        )
        .await;
    }
    let hub = Hub::start_with(engine.clone(), HEARTBEAT);
    let (handle, mut outbox) = hub.connect();
    handle.add(add(1, target(collection("c")))).await.unwrap();
    // Nothing is read while much happens.
    let mut last = 0;
    for round in 0..3 {
        for piece in 0..20 {
            last = commit(
                &engine,
                (0..500)
                    .map(|n| set(&format!("c/{piece}x{n}"), round + 2))
                    .collect(),
            )
            .await;
        }
    }
    let mut reader = Reader::default();
    until(&mut outbox, &mut reader, last).await;
    let documents = &reader.targets.get(&1).unwrap().documents;
    assert_eq!(documents.len(), 10_000);
    assert!(reader.targets.get(&1).unwrap().current);
    let view = engine.view().await.unwrap();
    let Target::Query(query) = target(collection("c")) else {
        unreachable!()
    };
    for document in view.query(&query).await.unwrap().0 {
        assert_eq!(
            documents.get(document.path.as_str()),
            Some(&document.update_time.micros())
        );
    }
}

#[tokio::test]
async fn once_ends_by_itself() {
    let hub = Hub::start(engine().await);
    let (handle, mut outbox) = hub.connect();
    handle
        .add(AddTarget {
            once: true,
            ..add(1, target(collection("c")))
        })
        .await
        .unwrap();
    assert!(matches!(next(&mut outbox).await, WatchEvent::Added { .. }));
    assert!(matches!(
        next(&mut outbox).await,
        WatchEvent::Current { .. }
    ));
    assert!(matches!(
        next(&mut outbox).await,
        WatchEvent::Snapshot { .. }
    ));
    assert!(matches!(
        next(&mut outbox).await,
        WatchEvent::Removed {
            target: 1,
            cause: None
        }
    ));
}

#[tokio::test]
async fn bad_tokens_and_times_are_refused_for_their_target_alone() {
    let hub = Hub::start(engine().await);
    let (handle, mut outbox) = hub.connect();
    handle
        .add(AddTarget {
            once: true,
            ..add(1, target(collection("c")))
        })
        .await
        .unwrap();
    let mut token = Vec::new();
    loop {
        match next(&mut outbox).await {
            WatchEvent::Current { token: current, .. } => token = current,
            WatchEvent::Removed { .. } => break,
            _ => {}
        }
    }
    let future = Timestamp::from_micros(9_000_000_000_000_000).unwrap();
    for (target_id, resume) in [
        (2, Resume::Token(token)),
        (3, Resume::Token(b"x".to_vec())),
        (4, Resume::ReadTime(future)),
    ] {
        handle
            .add(AddTarget {
                resume,
                ..add(target_id, target(collection("d")))
            })
            .await
            .unwrap();
        let event = next(&mut outbox).await;
        let WatchEvent::Removed {
            target,
            cause: Some(Cause::Invalid(invalid)),
        } = event
        else {
            panic!("{event:?}")
        };
        assert_eq!(target, target_id);
        assert!(invalid.to_string().starts_with("bad resume"), "{invalid}");
    }
    handle.add(add(5, target(collection("c")))).await.unwrap();
    assert!(matches!(
        next(&mut outbox).await,
        WatchEvent::Added { target: 5 }
    ));
}

#[tokio::test]
async fn bad_ids_end_the_stream() {
    let hub = Hub::start(engine().await);
    let (handle, _outbox) = hub.connect();
    handle.add(add(1, target(collection("c")))).await.unwrap();
    for target_id in [0, -1] {
        let answer = handle.add(add(target_id, target(collection("c")))).await;
        assert!(matches!(answer, Err(SessionError::Invalid(_))));
    }
}

#[tokio::test]
async fn closing_ends_streams_cleanly() {
    let hub = Hub::start(engine().await);
    let (handle, mut outbox) = hub.connect();
    handle.add(add(1, target(collection("c")))).await.unwrap();
    hub.close().await;
    while let Some(event) = outbox.next().await {
        event.unwrap();
    }
    assert_eq!(
        handle.add(add(2, target(collection("c")))).await,
        Err(SessionError::Ended)
    );
    // A stream without a request yet ends with its first one.
    let (handle, mut outbox) = hub.connect();
    handle.remove(1).await;
    assert!(outbox.next().await.is_none());
}

#[tokio::test]
async fn a_closed_engine_ends_streams_with_a_retryable_status() {
    let engine = engine().await;
    let hub = Hub::start_with(engine.clone(), HEARTBEAT);
    let (handle, mut outbox) = hub.connect();
    handle.add(add(1, target(collection("c")))).await.unwrap();
    let mut reader = Reader::default();
    while !reader.take(next(&mut outbox).await) {}
    engine.close().await.unwrap();
    handle.add(add(2, target(collection("d")))).await.unwrap();
    loop {
        match outbox.next().await {
            Some(Ok(WatchEvent::Removed {
                target: 2,
                cause: Some(Cause::Unavailable(_)),
            }))
            | Some(Err(StreamEnd::Unavailable(_))) => break,
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A store whose pages take their time.
struct Slow {
    inner: Arc<MemoryStore>,
    page_ms: Arc<AtomicU64>,
}

struct SlowSnapshot {
    inner: Arc<dyn Snapshot>,
    page_ms: Arc<AtomicU64>,
}

#[async_trait]
impl Store for Slow {
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, watchfire_storage::Error> {
        Ok(Arc::new(SlowSnapshot {
            inner: self.inner.snapshot().await?,
            page_ms: Arc::clone(&self.page_ms),
        }))
    }
    async fn apply(
        &self,
        expected_head: Version,
        batch: Batch,
    ) -> Result<Applied, watchfire_storage::Error> {
        self.inner.apply(expected_head, batch).await
    }
    async fn checkpoint(&self, directory: &Path) -> Result<(), watchfire_storage::Error> {
        self.inner.checkpoint(directory).await
    }
    async fn close(&self) -> Result<(), watchfire_storage::Error> {
        self.inner.close().await
    }
}

#[async_trait]
impl Snapshot for SlowSnapshot {
    fn version(&self) -> Version {
        self.inner.version()
    }
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, watchfire_storage::Error> {
        self.inner.get(key).await
    }
    async fn get_many(
        &self,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, watchfire_storage::Error> {
        self.inner.get_many(keys).await
    }
    async fn page(
        &self,
        range: &Range,
        direction: watchfire_storage::Direction,
        limit: usize,
    ) -> Result<Page, watchfire_storage::Error> {
        let page_ms = self.page_ms.load(Ordering::Relaxed);
        if page_ms > 0 {
            tokio::time::sleep(Duration::from_millis(page_ms)).await;
        }
        self.inner.page(range, direction, limit).await
    }
}

async fn slow_engine() -> (Engine, Arc<AtomicU64>) {
    let page_ms = Arc::new(AtomicU64::new(0));
    let store = Slow {
        inner: MemoryStore::new(),
        page_ms: Arc::clone(&page_ms),
    };
    let engine = Engine::open(database(), Arc::new(store), Ticking::from(NOW))
        .await
        .unwrap();
    (engine, page_ms)
}

/// A limited query that is slow to read and breaks all the time is read again and again, and does not
/// hold up the listeners of anything else.
#[tokio::test(start_paused = true)]
async fn a_slow_query_that_keeps_breaking_holds_up_nobody_else() {
    let (engine, page_ms) = slow_engine().await;
    let documents = (10..80).map(|n| set(&format!("c/{n}"), 1)).collect();
    commit(&engine, documents).await;
    let hub = Hub::start(engine.clone());
    let (slow, _slow_outbox) = hub.connect();
    let (quick, mut outbox) = hub.connect();
    let limited = QueryParts {
        limit: Some(1),
        ..collection("c")
    };
    slow.add(add(1, target(limited))).await.unwrap();
    quick.add(add(1, target(collection("d")))).await.unwrap();
    let mut reader = Reader::default();
    while !reader.take(next(&mut outbox).await) {}
    page_ms.store(10_000, Ordering::Relaxed);
    for n in 10..79 {
        let last = commit(&engine, vec![delete(&format!("c/{n}")), set("d/a", n)]).await;
        let began = tokio::time::Instant::now();
        until(&mut outbox, &mut reader, last).await;
        assert!(
            began.elapsed() <= READ_ALONE_MAX,
            "{n}: {:?}",
            began.elapsed()
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_by_name_waits_for_no_query() {
    let (engine, page_ms) = slow_engine().await;
    commit(&engine, vec![set("c/a", 1)]).await;
    let hub = Hub::start(engine);
    page_ms.store(u64::MAX >> 30, Ordering::Relaxed);
    let (queries, _outbox) = hub.connect();
    for target_id in 1..=2 * JOBS_MAX as i32 {
        let collection = target(collection(&format!("c{target_id}")));
        queries.add(add(target_id, collection)).await.unwrap();
    }
    let (handle, mut outbox) = hub.connect();
    let document = Target::Documents(vec![path("c/a")]);
    handle.add(add(1, document)).await.unwrap();
    let mut reader = Reader::default();
    while !reader.take(next(&mut outbox).await) {}
    assert_eq!(reader.targets.get(&1).unwrap().documents.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn reading_for_those_who_have_gone_holds_up_nobody() {
    let (engine, page_ms) = slow_engine().await;
    let hub = Hub::start_with(engine.clone(), HEARTBEAT);
    page_ms.store(u64::MAX >> 30, Ordering::Relaxed);
    let (impatient, outbox) = hub.connect();
    let (other, _other_outbox) = hub.connect();
    for target_id in 1..=JOBS_MAX as i32 {
        let collection = target(collection(&format!("c{target_id}")));
        if target_id % 2 == 0 {
            impatient.add(add(target_id, collection)).await.unwrap();
        } else {
            other.add(add(target_id, collection)).await.unwrap();
        }
    }
    // Let them begin.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    page_ms.store(0, Ordering::Relaxed);
    for target_id in (1..=JOBS_MAX as i32).step_by(2) {
        other.remove(target_id).await;
    }
    drop((impatient, outbox));
    let (handle, mut outbox) = hub.connect();
    handle.add(add(1, target(collection("d")))).await.unwrap();
    let mut reader = Reader::default();
    while !reader.take(next(&mut outbox).await) {}
    assert!(reader.targets.get(&1).unwrap().current);
}

#[tokio::test]
async fn a_token_of_a_database_that_was_lost_is_answered_by_a_reset() {
    let lost = engine().await;
    commit(&lost, vec![set("c/a", 1)]).await;
    let hub = Hub::start(lost);
    let (handle, mut outbox) = hub.connect();
    handle.add(add(1, target(collection("c")))).await.unwrap();
    let mut reader = Reader::default();
    while !reader.take(next(&mut outbox).await) {}
    let token = reader.targets.get(&1).unwrap().token.clone();

    let later = Ticking::from(1_800_000_000_000_000);
    let new = Engine::open(database(), MemoryStore::new(), later)
        .await
        .unwrap();
    let hub = Hub::start(new);
    let (handle, mut outbox) = hub.connect();
    handle
        .add(AddTarget {
            resume: Resume::Token(token),
            ..add(1, target(collection("c")))
        })
        .await
        .unwrap();
    while !reader.take(next(&mut outbox).await) {}
    assert!(reader.targets.get(&1).unwrap().documents.is_empty());
}

/// Writers and listeners at full speed on several threads: limited queries break and are read again all the
/// time, and still nothing is missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limited_queries_stand_under_load() {
    let engine = engine().await;
    let hub = Hub::start_with(engine.clone(), HEARTBEAT);
    let targets: Vec<Target> = (0..KINDS).map(target_of).collect();
    let mut listeners = Vec::new();
    for _ in 0..4 {
        let (handle, outbox) = hub.connect();
        for (target_id, target) in (1..).zip(&targets) {
            handle.add(add(target_id, target.clone())).await.unwrap();
        }
        listeners.push((handle, outbox));
    }
    let writers: Vec<_> = (0..4_usize)
        .map(|writer| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let mut last = 0;
                for round in 0..100_usize {
                    let text = PATHS[(writer * 3 + round * 5) % PATHS.len()];
                    let write = if round % 3 == writer % 3 {
                        delete(text)
                    } else {
                        set(text, (round % 5) as i64)
                    };
                    last = commit(&engine, vec![write]).await;
                }
                last
            })
        })
        .collect();
    let mut last = 0;
    for writer in writers {
        last = last.max(writer.await.unwrap());
    }
    let view = engine.view().await.unwrap();
    for (_handle, outbox) in &mut listeners {
        let mut reader = Reader::default();
        until(outbox, &mut reader, last).await;
        for (target_id, target) in (1..).zip(&targets) {
            let documents = match target {
                Target::Query(query) => view.query(query).await.unwrap().0,
                Target::Documents(paths) => {
                    let documents = view.documents(paths).await.unwrap();
                    documents.into_iter().flatten().collect()
                }
            };
            let expected: BTreeMap<String, i64> = documents
                .iter()
                .map(|document| (document.path.to_string(), document.update_time.micros()))
                .collect();
            assert_eq!(
                reader.targets.get(&target_id).unwrap().documents,
                expected,
                "{target_id}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_go_on_after_streams_that_watch_nothing() {
    let engine = engine().await;
    let hub = Hub::start_with(engine.clone(), HEARTBEAT);
    let (handle, mut outbox) = hub.connect();
    let mut reader = Reader::default();
    for value in 0..3 {
        handle.add(add(1, target(collection("c")))).await.unwrap();
        while !reader.take(next(&mut outbox).await) {}
        let last = commit(&engine, vec![set("d/1", value)]).await;
        // Nothing changes for the stream: only a heartbeat brings it here.
        until(&mut outbox, &mut reader, last).await;
        handle.remove(1).await;
        while reader.targets.contains_key(&1) {
            reader.take(next(&mut outbox).await);
        }
        // Time that is moved, not waited for: its heartbeat is due while nobody watches anything.
        tokio::time::sleep(3 * HEARTBEAT).await;
    }
}
