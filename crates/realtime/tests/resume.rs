//! Streams that come back: what they are told, through the hub, within the changelog and beyond, and what it costs
//! when thousands come at once; and that nobody is told less than what could be read when they asked.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use watchfire_engine::{Engine, EntriesSince, Start};
use watchfire_model::watch::{Target, WatchEvent};
use watchfire_model::{
    Clock, DatabaseName, Direction, DocumentPath, Fields, Operation, Order, Parent, Precondition,
    Query, QueryParts, Selector, Timestamp, Value, Write,
};
use watchfire_realtime::{AddTarget, Hub, Outbox, Resume, SessionHandle};
use watchfire_storage::faulty::{Faults, FaultyStore, Flushed};
use watchfire_storage::memory::MemoryStore;
use watchfire_storage::{Store, Version};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;

/// Moves by itself a little with each look, so that versions differ, and by hand.
struct HandClock(AtomicI64);

impl HandClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(1_700_000_000 * SECOND)))
    }
    fn advance(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.fetch_add(1_000, Ordering::Relaxed)).unwrap()
    }
}

fn database() -> DatabaseName {
    DatabaseName::new("p", "d").unwrap()
}

async fn open(store: Arc<dyn Store>, clock: &Arc<HandClock>) -> Engine {
    let clock = Arc::<HandClock>::clone(clock);
    Engine::open(database(), store, clock).await.unwrap()
}

fn write(text: &str, value: Option<i64>) -> Write {
    Write {
        path: DocumentPath::parse(text).unwrap(),
        operation: match value {
            Some(value) => Operation::Set(Fields::from([("a".to_owned(), Value::Integer(value))])),
            None => Operation::Delete,
        },
        precondition: Precondition::None,
        transforms: Vec::new(),
    }
}

async fn commit(engine: &Engine, writes: &[(&str, Option<i64>)]) {
    let writes = writes.iter().map(|(text, value)| write(text, *value));
    let staged = engine.stage(writes.collect(), Start::Now).await.unwrap();
    engine.commit(staged).await.unwrap();
}

fn target(collection: &str, limit: Option<u32>) -> Target {
    let parts = QueryParts {
        database: database(),
        parent: Parent::Root,
        selector: Selector::Collection(collection.to_owned()),
        filter: None,
        order: vec![Order {
            field: watchfire_model::FieldPath::parse("a").unwrap(),
            direction: Direction::Ascending,
        }],
        start: None,
        end: None,
        offset: 0,
        limit,
        projection: None,
    };
    Target::Query(Arc::new(Query::new(parts).unwrap()))
}

fn add(target_id: i32, target: &Target, token: &[u8], expected_count: Option<i32>) -> AddTarget {
    AddTarget {
        target_id,
        target: target.clone(),
        resume: Resume::Token(token.to_vec()),
        once: false,
        expected_count,
    }
}

/// Events in short up to and with the next snapshot, and its token.
async fn told(outbox: &mut Outbox) -> (Vec<String>, Vec<u8>) {
    let mut events = Vec::new();
    loop {
        let event = tokio::time::timeout(Duration::from_secs(60), outbox.next());
        match event.await.unwrap().unwrap().unwrap() {
            WatchEvent::Snapshot { token, .. } => return (events, token),
            WatchEvent::Added { target } => events.push(format!("added {target}")),
            WatchEvent::Current { targets, .. } => events.push(format!("current {targets:?}")),
            WatchEvent::Reset { targets } => events.push(format!("reset {targets:?}")),
            WatchEvent::Changed {
                document, targets, ..
            } if targets.is_empty() => events.push(format!("{} left", document.path)),
            WatchEvent::Changed { document, .. } => {
                events.push(format!("{} is {:?}", document.path, document.fields["a"]))
            }
            WatchEvent::Deleted { path, .. } => events.push(format!("{path} deleted")),
            WatchEvent::Filter {
                count,
                unchanged_names,
                ..
            } => {
                let named = unchanged_names.map_or("", |names| {
                    let name = |text| format!("projects/p/databases/d/documents/c/{text}");
                    assert!(names.might_contain(&name("1")) && !names.might_contain(&name("x")));
                    " with names"
                });
                events.push(format!("filter {count}{named}"));
            }
            other @ (WatchEvent::Removed { .. } | WatchEvent::Left { .. }) => panic!("{other:?}"),
        }
    }
}

/// What a stream is told first that comes back with a token.
async fn told_back(engine: &Engine, target: &Target, token: &[u8]) -> Vec<String> {
    let hub = Hub::start(engine.clone());
    let (handle, mut outbox) = hub.connect();
    handle.add(add(1, target, token, Some(2))).await.unwrap();
    told(&mut outbox).await.0
}

/// The token of a stream that is told a target as it is.
async fn token(engine: &Engine, target: &Target) -> Vec<u8> {
    let hub = Hub::start(engine.clone());
    let (handle, mut outbox) = hub.connect();
    handle.add(add(1, target, &[], None)).await.unwrap();
    told(&mut outbox).await.1
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_is_told_what_has_changed() {
    let (store, clock) = (MemoryStore::new(), HandClock::new());
    let engine = open(Arc::<MemoryStore>::clone(&store), &clock).await;
    let start = [
        ("c/1", Some(1)),
        ("c/2", Some(2)),
        ("c/3", Some(3)),
        ("c/4", Some(4)),
    ];
    commit(&engine, &start).await;
    let (all, two) = (target("c", None), target("c", Some(2)));
    let (all_token, two_token) = (token(&engine, &all).await, token(&engine, &two).await);
    let began = Version(u64::try_from(clock.now().micros()).unwrap());
    clock.advance(SECOND);
    commit(&engine, &[("c/2", None), ("c/4", Some(9))]).await;
    assert_eq!(
        told_back(&engine, &all, &all_token).await,
        [
            "added 1",
            "c/2 deleted",
            "c/4 is Integer(9)",
            "filter 3",
            "current [1]"
        ]
    );
    // The third came in without being touched.
    assert_eq!(
        told_back(&engine, &two, &two_token).await,
        [
            "added 1",
            "c/2 deleted",
            "c/3 is Integer(3)",
            // It was touched: a client that is ahead of its token may hold it.
            "c/4 left",
            "filter 2 with names",
            "current [1]"
        ]
    );

    // What was then is forgotten.
    let mut engine = engine;
    for _ in 0..100 {
        clock.advance(HOUR + SECOND);
        engine.settled_version().await;
        engine = open(Arc::<MemoryStore>::clone(&store), &clock).await;
        if let EntriesSince::TooOld = engine.entries_since(began, 1).await.unwrap() {
            break;
        }
    }
    assert_eq!(
        told_back(&engine, &all, &all_token).await,
        [
            "added 1",
            "c/4 is Integer(9)",
            "filter 3 with names",
            "current [1]"
        ]
    );
    assert_eq!(
        told_back(&engine, &two, &two_token).await,
        [
            "added 1",
            "reset [1]",
            "c/1 is Integer(1)",
            "c/3 is Integer(3)",
            "current [1]"
        ]
    );
}

/// Targets of one page that is looked at again: each begins where the last snapshot stood, and not at its own CURRENT.
#[tokio::test(start_paused = true)]
async fn many_targets_of_one_stream_go_on_from_its_last_snapshot() {
    const TARGETS: i32 = 300;
    let engine = open(MemoryStore::new(), &HandClock::new()).await;
    let hub = Hub::start(engine.clone());
    let (handle, mut outbox) = hub.connect();
    let targets: Vec<Target> = (0..TARGETS)
        .map(|n| target(&format!("c{n}"), None))
        .collect();
    for (id, target) in (1..).zip(&targets) {
        commit(&engine, &[(&format!("c{}/old", id - 1), Some(1))]).await;
        handle.add(add(id, target, &[], None)).await.unwrap();
    }
    let mut current = 0;
    let mut token = Vec::new();
    while current < TARGETS || token.is_empty() {
        let (events, of_snapshot) = told(&mut outbox).await;
        current += count(&events);
        token = of_snapshot;
    }
    // What all have been told is not told again.
    commit(&engine, &[("c7/new", Some(2))]).await;
    let (_, token) = told(&mut outbox).await;
    assert!(!token.is_empty() && token.len() < 32);
    drop((handle, outbox));

    commit(&engine, &[("c8/new", Some(3)), ("c9/old", None)]).await;
    let (handle, mut outbox) = hub.connect();
    for (id, target) in (1..).zip(&targets) {
        handle.add(add(id, target, &token, None)).await.unwrap();
    }
    let mut news = Vec::new();
    let mut current = 0;
    while current < TARGETS {
        let (events, _) = told(&mut outbox).await;
        current += count(&events);
        let is_news = |event: &String| !event.starts_with("added") && !event.starts_with("current");
        news.extend(events.into_iter().filter(is_news));
    }
    news.sort();
    assert_eq!(news, ["c8/new is Integer(3)", "c9/old deleted"]);
}

/// A client that comes back soon takes all that it shows for current all the while, so that what one target brings of a
/// document shows in the others too: there must be no snapshot at which some have caught up and others have not.
#[tokio::test(start_paused = true)]
async fn targets_that_come_back_together_are_told_together() {
    let engine = open(MemoryStore::new(), &HandClock::new()).await;
    let hub = Hub::start(engine.clone());
    commit(&engine, &[("c/1", Some(1)), ("d/1", Some(1))]).await;
    let targets = [target("c", None), target("d", None), target("c", Some(2))];
    let (handle, mut outbox) = hub.connect();
    for (id, target) in (1..).zip(&targets) {
        handle.add(add(id, target, &[], None)).await.unwrap();
    }
    let mut current = 0;
    let mut token = Vec::new();
    while current < 3 {
        let (events, newest) = told(&mut outbox).await;
        current += count(&events);
        token = newest;
    }
    drop((handle, outbox));

    commit(&engine, &[("c/1", Some(2)), ("d/1", Some(2))]).await;
    let (handle, mut outbox) = hub.connect();
    for (id, target) in (1..).zip(&targets) {
        handle.add(add(id, target, &token, None)).await.unwrap();
        // On their way they need not be together.
        tokio::time::advance(Duration::from_millis(2)).await;
        tokio::task::yield_now().await;
    }
    let (mut events, _) = told(&mut outbox).await;
    events.retain(|event| !event.starts_with("added"));
    assert_eq!(
        events,
        [
            "c/1 is Integer(2)",
            "d/1 is Integer(2)",
            "current [1]",
            "current [2]",
            "filter 1",
            "current [3]"
        ]
    );
    // Who is current is told at once, whoever else comes with a token.
    let began = tokio::time::Instant::now();
    handle.add(add(4, &targets[1], &token, None)).await.unwrap();
    assert_eq!(told(&mut outbox).await.0[0], "added 4");
    assert_eq!(began.elapsed(), Duration::ZERO);
}

/// Targets that have become current.
fn count(events: &[String]) -> i32 {
    let current = events.iter().filter(|event| event.starts_with("current"));
    i32::try_from(current.count()).unwrap()
}

/// Streams that come back at once.
const STORM: usize = 2_000;
/// For one first result, for one reading of what has changed, and for what the engine does by itself.
const STORM_SNAPSHOTS_MAX: usize = 8;

#[tokio::test(start_paused = true)]
async fn two_thousand_who_come_back_cost_a_handful_of_readings() {
    let clock = HandClock::new();
    let store = FaultyStore::new(MemoryStore::new(), Faults::default());
    let mut engine = open(Arc::clone(&store) as Arc<_>, &clock).await;
    for number in 0..50 {
        commit(&engine, &[(&format!("c/{number}"), Some(number))]).await;
    }
    for (value, limit) in [(-1, None), (-2, Some(10))] {
        let target = target("c", limit);
        let token = token(&engine, &target).await;
        commit(&engine, &[("c/0", Some(value)), ("c/5", Some(100 + value))]).await;
        // As after a restart: nothing is in memory.
        engine = open(Arc::clone(&store) as Arc<_>, &clock).await;
        let hub = Hub::start(engine.clone());
        let snapshots_before = store.snapshots();
        let mut streams: Vec<(SessionHandle, Outbox)> = (0..STORM).map(|_| hub.connect()).collect();
        for (handle, _) in &streams {
            handle.add(add(1, &target, &token, None)).await.unwrap();
        }
        let mut first: Option<Vec<String>> = None;
        for (_, outbox) in &mut streams {
            let (events, _) = told(outbox).await;
            assert!(events.contains(&format!("c/0 is Integer({value})")) && events.len() <= 5);
            assert_eq!(first.get_or_insert_with(|| events.clone()), &events);
        }
        let snapshots = store.snapshots() - snapshots_before;
        assert!(snapshots <= STORM_SNAPSHOTS_MAX, "{snapshots}");
    }
}

/// A batch whose answer was lost can be read before the tail has come to it, here for long, since the store takes no
/// more.
#[tokio::test(start_paused = true)]
async fn nobody_is_told_less_than_could_be_read_and_nobody_else_waits() {
    let store = FaultyStore::new(MemoryStore::new(), Faults::default());
    let engine = open(Arc::clone(&store) as Arc<_>, &HandClock::new()).await;
    commit(&engine, &[("c/1", Some(1)), ("d/1", Some(1))]).await;
    let hub = Hub::start(engine.clone());
    let (other, mut other_outbox) = hub.connect();
    other
        .add(add(1, &target("c", None), &[], None))
        .await
        .unwrap();
    let (stream, mut outbox) = hub.connect();
    stream
        .add(add(1, &target("d", None), &[], None))
        .await
        .unwrap();
    for outbox in [&mut other_outbox, &mut outbox] {
        told(outbox).await;
    }
    store.hold();
    let lost = {
        let engine = engine.clone();
        let staged = engine.stage(vec![write("c/1", Some(2))], Start::Now).await;
        tokio::spawn(async move { engine.commit(staged.unwrap()).await })
    };
    store.held(1).await;
    store.crash(1).await;
    store.restart();
    store.fill(Flushed::Lost);
    assert!(lost.await.unwrap().is_err());
    engine.view().await.unwrap();
    assert!(engine.seen_version() > *engine.tail().borrow());

    stream
        .add(add(2, &target("c", None), &[], None))
        .await
        .unwrap();
    // Heartbeats go on, for the first target alone, so without a token.
    for first in [true, false] {
        let (events, token) = told(&mut outbox).await;
        let expected: &[&str] = if first { &["added 2"] } else { &[] };
        assert_eq!(events, expected);
        assert!(token.is_empty());
    }
    store.free().await;
    let (events, token) = loop {
        let told = told(&mut outbox).await;
        if !told.0.is_empty() {
            break told;
        }
    };
    assert_eq!(events, ["c/1 is Integer(2)", "current [2]"]);
    assert!(!token.is_empty());
}
