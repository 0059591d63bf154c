//! A client that stood at one version stands at another after catching up, whatever happened in between; and what it
//! costs when many come at once.

use std::sync::Mutex;

use proptest::prelude::*;
use watchfire_engine::{EntriesSince, Start};
use watchfire_model::watch::Target;
use watchfire_model::{
    Clock, Cursor, Direction, FieldMask, FieldOperator, FieldPath, Fields, Filter, Operation,
    Order, Parent, Precondition, Query, QueryParts, Selector, Timestamp, Value, Write,
};
use watchfire_storage::Store;
use watchfire_storage::faulty::{Faults, FaultyStore};
use watchfire_storage::memory::MemoryStore;

use super::*;

const SECOND: i64 = 1_000_000;

static TURNS: Semaphore = Semaphore::const_new(1);

struct HandClock(Mutex<i64>);

impl HandClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(1_700_000_000 * SECOND)))
    }
    fn advance(&self, micros: i64) {
        *self.0.lock().unwrap() += micros;
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(*self.0.lock().unwrap()).unwrap()
    }
}

fn database() -> DatabaseName {
    DatabaseName::new("p", "d").unwrap()
}

fn path(text: &str) -> DocumentPath {
    DocumentPath::parse(text).unwrap()
}

fn field(name: &str) -> FieldPath {
    FieldPath::parse(name).unwrap()
}

async fn open(store: Arc<dyn Store>, clock: &Arc<HandClock>) -> Engine {
    Engine::open(database(), store, Arc::<HandClock>::clone(clock))
        .await
        .unwrap()
}

/// A commit: documents by number, with their value, or deleted.
type Step = Vec<(usize, Option<i64>)>;

const PATHS: [&str; 9] = [
    "c/1", "c/2", "c/3", "c/4", "c/5", "d/1", "d/1/c/1", "d/2/c/2", "z/z",
];
/// Left alone by steps.
const OTHER: usize = 8;

async fn commit(engine: &Engine, step: &Step) -> Version {
    let writes = step
        .iter()
        .map(|(number, value)| Write {
            path: path(PATHS[*number]),
            operation: match value {
                Some(value) => {
                    let tags = vec![Value::Integer(value % 2), Value::Integer(value % 3)];
                    Operation::Set(Fields::from([
                        ("a".to_owned(), Value::Integer(*value)),
                        ("tags".to_owned(), Value::Array(tags)),
                    ]))
                }
                None => Operation::Delete,
            },
            precondition: Precondition::None,
            transforms: Vec::new(),
        })
        .collect();
    let staged = engine.stage(writes, Start::Now).await.unwrap();
    engine.commit(staged).await.unwrap().version
}

/// Forgets what is older than an hour, in the store and in memory.
async fn trimmed(store: &Arc<MemoryStore>, clock: &Arc<HandClock>, from: Version) -> Engine {
    let engine = open(Arc::<MemoryStore>::clone(store), clock).await;
    for _ in 0..100 {
        clock.advance(3_700 * SECOND);
        engine.settled_version().await;
        let again = open(Arc::<MemoryStore>::clone(store), clock).await;
        if let EntriesSince::TooOld = again.entries_since(from, 1).await.unwrap() {
            return again;
        }
    }
    panic!("the changelog is not trimmed");
}

fn parts(selector: Selector) -> QueryParts {
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

fn target() -> impl Strategy<Value = Target> {
    use FieldOperator as Is;
    let number = || (0..6_i64).prop_map(Value::Integer);
    let compared = prop::sample::select(vec![
        Is::LessThan,
        Is::GreaterThanOrEqual,
        Is::Equal,
        Is::NotEqual,
    ]);
    let compare = (compared, number()).prop_map(|(operator, value)| Filter::Field {
        field: field("a"),
        operator,
        value,
    });
    let contains = number().prop_map(|value| Filter::Field {
        field: field("tags"),
        operator: Is::ArrayContains,
        value,
    });
    let among = prop::collection::vec(number(), 1..4).prop_map(|values| Filter::Field {
        field: field("a"),
        operator: Is::In,
        value: Value::Array(values),
    });
    let one = prop_oneof![compare, contains, among].boxed();
    let either = prop::collection::vec(one.clone(), 2..4).prop_map(Filter::Or);
    let filter = proptest::option::of(prop_oneof![2 => one, 1 => either]);
    let direction = prop::sample::select(vec![Direction::Ascending, Direction::Descending]);
    let selector = prop_oneof![
        4 => Just(Selector::Collection("c".to_owned())),
        2 => Just(Selector::Group("c".to_owned())),
        1 => Just(Selector::Everything),
    ];
    let query = (
        selector,
        filter,
        proptest::option::of(direction),
        proptest::option::weighted(0.2, (number(), any::<bool>())),
        prop_oneof![2 => Just(0), 1 => 1..3_u32],
        proptest::option::of(1..4_u32),
        prop::bool::weighted(0.2),
    )
        .prop_filter_map(
            "no query",
            |(selector, filter, direction, start, offset, limit, projected)| {
                let order = direction.map(|direction| Order {
                    field: field("a"),
                    direction,
                });
                let start = start.filter(|_| order.is_some());
                let parts = QueryParts {
                    filter,
                    order: order.into_iter().collect(),
                    start: start.map(|(value, before)| Cursor {
                        values: vec![value],
                        before,
                    }),
                    offset,
                    limit,
                    projection: projected.then(|| FieldMask::new(vec![field("tags")])),
                    ..parts(selector)
                };
                Some(Target::Query(Arc::new(Query::new(parts).ok()?)))
            },
        );
    let documents = prop::sample::subsequence(PATHS.to_vec(), 1..4)
        .prop_map(|names| Target::Documents(names.into_iter().map(path).collect()));
    prop_oneof![6 => query, 1 => documents]
}

fn steps(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let change = (0..OTHER, proptest::option::weighted(0.7, 0..6_i64));
    prop::collection::vec(prop::collection::vec(change, 1..4), len)
}

/// What a client holds: the update times of documents.
type Held = BTreeMap<DocumentPath, Timestamp>;

/// The answer by brute force.
fn expected(target: &Target, state: &[Arc<Document>]) -> Held {
    let held = |document: &Document| (document.path.clone(), document.update_time);
    match target {
        Target::Query(query) => {
            let state = state.iter().map(Arc::as_ref);
            query.evaluate(state).into_iter().map(held).collect()
        }
        Target::Documents(paths) => state
            .iter()
            .filter(|document| paths.contains(&document.path))
            .map(|document| held(document))
            .collect(),
    }
}

fn apply(held: &mut Held, shown: &Shown) {
    for document in &shown.upserted {
        held.insert(document.path.clone(), document.update_time);
    }
    for (path, _) in &shown.removed {
        held.remove(path);
    }
}

/// What the published SDKs do with an existence filter; false when they ask for everything anew.
fn filtered(held: &mut Held, filter: &WatchEvent) -> bool {
    let WatchEvent::Filter {
        count,
        unchanged_names,
        ..
    } = filter
    else {
        panic!("no filter: {filter:?}");
    };
    let matches = |held: &Held| held.len() == *count as usize;
    if let Some(names) = unchanged_names
        && !matches(held)
    {
        held.retain(|path, _| {
            names.might_contain(&format!("projects/p/databases/d/documents/{path}"))
        });
    }
    matches(held)
}

async fn state(engine: &Engine) -> Vec<Arc<Document>> {
    let everything = Query::new(parts(Selector::Everything)).unwrap();
    let view = engine.view().await.unwrap();
    view.query(&everything).await.unwrap().0
}

#[derive(Clone, Debug)]
struct Case {
    target: Target,
    before: Vec<Step>,
    /// What the client was told after its token.
    seen: Vec<Step>,
    missed: Vec<Step>,
    /// The past is not kept any more.
    forgotten: bool,
    expected_count: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let behind = prop_oneof![Just(Vec::new()).boxed(), steps(1..4).boxed()];
    (
        target(),
        steps(1..8),
        behind,
        steps(0..8),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(target, before, seen, missed, forgotten, expected_count)| Case {
                target,
                before,
                seen,
                missed,
                forgotten,
                expected_count,
            },
        )
}

async fn check(case: Case) -> Result<(), TestCaseError> {
    let (store, clock) = (MemoryStore::new(), HandClock::new());
    let mut engine = open(Arc::<MemoryStore>::clone(&store), &clock).await;
    for step in &case.before {
        clock.advance(SECOND);
        commit(&engine, step).await;
    }
    let from = engine.view().await.unwrap().version();
    for step in &case.seen {
        clock.advance(SECOND);
        commit(&engine, step).await;
    }
    let mut held = expected(&case.target, &state(&engine).await);
    if case.forgotten {
        // What is forgotten is a commit.
        clock.advance(SECOND);
        commit(&engine, &vec![(OTHER, Some(1))]).await;
    }
    for step in &case.missed {
        clock.advance(SECOND);
        commit(&engine, step).await;
    }
    if case.forgotten {
        engine = trimmed(&store, &clock, from).await;
    }
    let view = engine.view().await.unwrap();
    let to = view.version();
    let interest = Interest::new(&case.target);
    let result = result::read(&view, &interest).await.unwrap();
    let wanted = expected(&case.target, &state(&engine).await);
    let caught_up = catch_up(&engine, &interest, from, to, &result)
        .await
        .unwrap();
    let Some(CaughtUp {
        shown,
        certain,
        by_times,
    }) = caught_up
    else {
        prop_assert!(
            interest.limited() && case.forgotten,
            "only what nobody knows any more is reset"
        );
        return Ok(());
    };
    prop_assert_eq!(certain, !interest.limited() && !case.forgotten);
    prop_assert_eq!(by_times, case.forgotten);
    apply(&mut held, &shown);
    if certain {
        prop_assert_eq!(&held, &wanted);
    }
    if case.seen.is_empty() && !case.forgotten {
        prop_assert_eq!(&held, &wanted, "exact for who stood exactly there");
    }
    let expected_count = case.expected_count.then_some(1);
    let filter = existence_filter(&database(), 1, expected_count, &Standing::new(result));
    if filtered(&mut held, &filter) {
        prop_assert_eq!(&held, &wanted);
    } else {
        // A full query follows. It is spared who is told names and lacks none.
        let lacks = wanted.keys().any(|path| !held.contains_key(path));
        prop_assert!(!case.expected_count || lacks);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whoever_catches_up_stands_where_the_others_do(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(case))?;
    }
}

/// Clients that stood at versions and come back at later ones, one after the other, and share what they can.
async fn check_shared(target: Target, steps: Vec<Step>, clients: Vec<(usize, usize)>) {
    let clock = HandClock::new();
    let engine = open(MemoryStore::new(), &clock).await;
    let mut states = vec![(*engine.tail().borrow(), Vec::new())];
    for step in &steps {
        clock.advance(SECOND);
        let version = commit(&engine, step).await;
        states.push((version, state(&engine).await));
    }
    let interest = Interest::new(&target);
    let (mut shared, mut joint) = (Shared::default(), Vec::new());
    for (one, other) in clients {
        let (one, other) = (one % states.len(), other % states.len());
        let (from, to) = (&states[one.min(other)], &states[one.max(other)]);
        joint.push((shared.join(SharedId(1), &interest, from.0, to.0), from, to));
    }
    // Who joined last may read first.
    for (joint, from, to) in joint.iter().rev().chain(&joint) {
        let view = engine.view_at(read_time(to.0)).await.unwrap();
        let result = result::read(&view, &interest).await.unwrap();
        let told = joint.catch_up(&engine, &interest, to.0, &result, &TURNS);
        let mut held = expected(&target, &from.1);
        for part in told.await.unwrap().unwrap() {
            let known = |document: &Arc<Document>| document.update_time <= read_time(from.0);
            assert!(interest.limited() || !part.shown.upserted.iter().any(known));
            apply(&mut held, &part.shown);
        }
        // What it was told beyond that its stream keeps, and tells again.
        let later = states
            .iter()
            .filter(|(version, _)| *version >= to.0)
            .map(|(_, state)| expected(&target, state));
        assert!(later.into_iter().any(|expected| expected == held));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn those_who_share_stand_where_the_others_do(
        target in target(),
        steps in steps(1..8),
        clients in prop::collection::vec((0..8_usize, 0..8_usize), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check_shared(target, steps, clients));
    }
}

fn limited(limit: u32) -> Interest {
    let parts = QueryParts {
        limit: Some(limit),
        order: vec![Order {
            field: field("a"),
            direction: Direction::Ascending,
        }],
        ..parts(Selector::Collection("c".to_owned()))
    };
    Interest::new(&Target::Query(Arc::new(Query::new(parts).unwrap())))
}

fn collection() -> Interest {
    let parts = parts(Selector::Collection("c".to_owned()));
    Interest::new(&Target::Query(Arc::new(Query::new(parts).unwrap())))
}

#[tokio::test]
async fn a_storm_of_streams_reads_once() {
    let clock = HandClock::new();
    let store = FaultyStore::new(MemoryStore::new(), Faults::default());
    let engine = open(Arc::clone(&store) as Arc<_>, &clock).await;
    let mut versions = Vec::new();
    for value in 0..6 {
        clock.advance(SECOND);
        versions.push(commit(&engine, &vec![(value as usize % 5, Some(value))]).await);
    }
    // As after a restart: nothing is in memory.
    let engine = open(Arc::clone(&store) as Arc<_>, &clock).await;
    for (interest, reads_max) in [(collection(), 3), (limited(3), 6 * 4)] {
        let view = engine.view().await.unwrap();
        let to = view.version();
        let result = result::read(&view, &interest).await.unwrap();
        let mut shared = Shared::default();
        let turns = Arc::new(Semaphore::new(2));
        let snapshots_before = store.snapshots();
        let mut streams = tokio::task::JoinSet::new();
        for stream in 0..5_000 {
            let from = versions[stream % versions.len()];
            let joint = shared.join(SharedId(1), &interest, from, to);
            let (engine, interest, result) = (engine.clone(), interest.clone(), result.clone());
            let turns = Arc::clone(&turns);
            streams.spawn(async move {
                joint
                    .catch_up(&engine, &interest, to, &result, &turns)
                    .await
                    .unwrap()
                    .unwrap()
                    .len()
            });
        }
        while let Some(told) = streams.join_next().await {
            assert_eq!(told.unwrap(), 1);
        }
        let reads = store.snapshots() - snapshots_before;
        assert!(reads <= reads_max, "{reads} reads");
    }
}

#[tokio::test]
async fn who_comes_later_reads_only_the_rest_and_from_memory() {
    let clock = HandClock::new();
    let store = FaultyStore::new(MemoryStore::new(), Faults::default());
    let engine = open(Arc::clone(&store) as Arc<_>, &clock).await;
    let from = commit(&engine, &vec![(0, Some(1)), (1, Some(1))]).await;
    let between = commit(&engine, &vec![(0, None), (2, Some(1))]).await;
    let engine = open(Arc::clone(&store) as Arc<_>, &clock).await;
    let (interest, mut shared) = (collection(), Shared::default());
    let to = *engine.tail().borrow();
    let first = shared.join(SharedId(1), &interest, from, to);
    let told = first
        .catch_up(&engine, &interest, to, &[], &TURNS)
        .await
        .unwrap();
    assert_eq!(told.unwrap().len(), 1);
    clock.advance(SECOND);
    let later = commit(&engine, &vec![(1, None), (3, Some(1))]).await;
    let snapshots_before = store.snapshots();
    let second = shared.join(SharedId(1), &interest, from, later);
    let told = second
        .catch_up(&engine, &interest, later, &[], &TURNS)
        .await;
    assert_eq!(store.snapshots() - snapshots_before, 0);
    let mut held: Held = [path(PATHS[0]), path(PATHS[1])]
        .map(|path| (path, Timestamp::EPOCH))
        .into();
    for part in told.unwrap().unwrap() {
        assert!(part.certain);
        apply(&mut held, &part.shown);
    }
    let left: Vec<&str> = held.keys().map(DocumentPath::as_str).collect();
    assert_eq!(left, ["c/3", "c/4"]);
    // Who stood a little later holds part of it.
    let third = shared.join(SharedId(1), &interest, between, later);
    let told = third.catch_up(&engine, &interest, later, &[], &TURNS).await;
    let told = told.unwrap().unwrap();
    let names = |parts: &[CaughtUp]| -> Vec<String> {
        let upserted = parts.iter().flat_map(|part| &part.shown.upserted);
        upserted.map(|document| document.path.to_string()).collect()
    };
    assert_eq!(names(&told), ["c/4"]);
    // Neither another target nor who stood earlier or much later takes part.
    let apart = [
        shared.join(SharedId(2), &interest, from, later),
        shared.join(SharedId(1), &interest, Version(from.0 - 1), later),
        shared.join(
            SharedId(1),
            &interest,
            Version(from.0 + NEAR_MICROS + 1),
            later,
        ),
    ];
    assert!(apart.iter().all(|joint| !joint.outcome.initialized()));
    for target in 10..100 {
        shared.join(SharedId(target), &interest, from, later);
    }
    assert_eq!(shared.joint.len(), SHARED_MAX);
}

#[tokio::test]
async fn who_stops_waiting_leaves_the_reading_to_the_next() {
    let clock = HandClock::new();
    let engine = open(MemoryStore::new(), &clock).await;
    let from = commit(&engine, &vec![(0, Some(1))]).await;
    let to = commit(&engine, &vec![(1, Some(1))]).await;
    let (interest, mut shared) = (collection(), Shared::default());
    let joint = shared.join(SharedId(1), &interest, from, to);
    tokio::select! {
        biased;
        _ = joint.catch_up(&engine, &interest, to, &[], &TURNS) => panic!("it yields to the others"),
        () = std::future::ready(()) => {}
    }
    assert!(!joint.outcome.initialized());
    let told = joint
        .catch_up(&engine, &interest, to, &[], &TURNS)
        .await
        .unwrap();
    assert_eq!(told.unwrap()[0].shown.upserted.len(), 1);
}

#[test]
fn names_are_told_to_who_expects_documents() {
    let result = Standing::new(vec![Arc::new(Document {
        path: path("c/1"),
        create_time: Timestamp::EPOCH,
        update_time: Timestamp::EPOCH,
        fields: Fields::default(),
    })]);
    for (expected, named) in [(None, false), (Some(0), false), (Some(3), true)] {
        let filter = existence_filter(&database(), 2, expected, &result);
        let WatchEvent::Filter {
            target: 2,
            count: 1,
            unchanged_names,
        } = filter
        else {
            panic!("{filter:?}");
        };
        assert_eq!(unchanged_names.is_some(), named);
    }
}
