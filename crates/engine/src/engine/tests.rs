//! The engine on the memory store, with a clock that is moved by hand.

use std::sync::Mutex;

use watchfire_model::{
    Document, DocumentName, DocumentPath, FieldPath, Fields, Operation as WriteOperation, Parent,
    Precondition, Query, QueryParts, Selector, Timestamp, Transform, TransformKind, Value,
};
use watchfire_storage::Direction;
use watchfire_storage::faulty::{Faults, FaultyStore};
use watchfire_storage::memory::MemoryStore;

use super::*;
use crate::changelog::entry::CommitEntry;
use crate::changelog::reader::trimmed_to;
use crate::changelog::tail::RING_BYTES_MAX;
use crate::changelog::trim::PIECE_ENTRIES_MAX;
use crate::commit::group::COPIED_BYTES_MAX;
use crate::commit::{GROUP_COMMITS_MAX, LOADED_BYTES_MAX, TRIM_INTERVAL};
use crate::keyspace::Keyspace;
use crate::settings::ConcurrencyMode;
use crate::settings::HISTORY_MIN;
use crate::transaction::{OPEN_TRANSACTIONS_MAX, RECORDED_QUERIES_MAX};

mod check;
mod indexes;
mod isolation;
mod locks;
mod nearest;
mod past;
mod pipeline;
mod serial;

const START: i64 = 1_700_000_000_000_000;
const SECOND: i64 = 1_000_000;

struct HandClock(Mutex<i64>);

impl HandClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(START)))
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
    DatabaseName::new("p", "(default)").unwrap()
}

fn path(text: &str) -> DocumentPath {
    DocumentPath::parse(text).unwrap()
}

fn write(at: &str, operation: WriteOperation) -> Write {
    Write {
        path: path(at),
        operation,
        precondition: Precondition::None,
        transforms: Vec::new(),
    }
}

fn set(at: &str, n: i64) -> Write {
    write(
        at,
        WriteOperation::Set(Fields::from([("n".to_owned(), Value::Integer(n))])),
    )
}

fn delete(at: &str) -> Write {
    write(at, WriteOperation::Delete)
}

fn increment(at: &str) -> Write {
    let kind = TransformKind::Increment(Value::Integer(1));
    let transforms = vec![Transform {
        field: FieldPath::parse("n").unwrap(),
        kind,
    }];
    let operation = WriteOperation::Patch {
        fields: Fields::new(),
        mask: Default::default(),
    };
    Write {
        transforms,
        ..write(at, operation)
    }
}

fn require(precondition: Precondition, write: Write) -> Write {
    Write {
        precondition,
        ..write
    }
}

async fn commit(engine: &Engine, writes: Vec<Write>) -> Result<Receipt, Error> {
    engine.commit(engine.stage(writes, Start::Now).await?).await
}

async fn commit_in(
    engine: &Engine,
    id: &TransactionId,
    writes: Vec<Write>,
) -> Result<Receipt, Error> {
    engine
        .commit(engine.stage(writes, Start::Transaction(id.clone())).await?)
        .await
}

async fn begin(engine: &Engine) -> TransactionId {
    engine
        .begin(TransactionOptions::ReadWrite {
            retry: None,
            mode: Some(ConcurrencyMode::Optimistic),
        })
        .await
        .unwrap()
}

async fn read(engine: &Engine, at: &str) -> Option<Arc<Document>> {
    engine
        .view()
        .await
        .unwrap()
        .document(&path(at))
        .await
        .unwrap()
}

async fn n(engine: &Engine, at: &str) -> Option<i64> {
    match read(engine, at).await?.fields.get("n") {
        Some(Value::Integer(n)) => Some(*n),
        other => panic!("{other:?}"),
    }
}

async fn since(
    engine: &Engine,
    version: Version,
    limit: usize,
) -> (Vec<Arc<CommitEntry>>, Version) {
    match engine.entries_since(version, limit).await.unwrap() {
        EntriesSince::Entries {
            entries,
            complete_to,
        } => (entries, complete_to),
        EntriesSince::TooOld => panic!("too old"),
    }
}

fn versions(entries: &[Arc<CommitEntry>]) -> Vec<Version> {
    entries.iter().map(|entry| entry.version).collect()
}

fn all_of(collection: &str) -> Query {
    Query::new(parts(collection)).unwrap()
}

fn parts(collection: &str) -> QueryParts {
    QueryParts {
        database: database(),
        parent: Parent::Root,
        selector: Selector::Collection(collection.to_owned()),
        filter: None,
        order: Vec::new(),
        start: None,
        end: None,
        offset: 0,
        limit: None,
        projection: None,
    }
}

async fn open(store: &Arc<MemoryStore>, clock: &Arc<HandClock>) -> Engine {
    let store: Arc<dyn Store> = Arc::<MemoryStore>::clone(store);
    Engine::open(database(), store, Arc::<HandClock>::clone(clock))
        .await
        .unwrap()
}

async fn fresh() -> (Engine, Arc<MemoryStore>, Arc<HandClock>) {
    let (store, clock) = (MemoryStore::new(), HandClock::new());
    (open(&store, &clock).await, store, clock)
}

async fn fresh_faulty() -> (Engine, Arc<FaultyStore>, Arc<HandClock>) {
    let (store, clock) = (
        FaultyStore::new(MemoryStore::new(), Faults::default()),
        HandClock::new(),
    );
    let engine = Engine::open(
        database(),
        Arc::<FaultyStore>::clone(&store),
        Arc::<HandClock>::clone(&clock),
    )
    .await
    .unwrap();
    (engine, store, clock)
}

#[tokio::test]
async fn concurrent_increments_all_count_and_share_flushes() {
    let (engine, store, _clock) = fresh_faulty().await;
    store.hold();
    let first = {
        let engine = engine.clone();
        tokio::spawn(async move { commit(&engine, vec![increment("c/d")]).await })
    };
    store.held(1).await;
    let others: Vec<_> = (0..99)
        .map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move { commit(&engine, vec![increment("c/d")]).await })
        })
        .collect();
    tokio::task::yield_now().await;
    store.release().await;
    let mut seen = vec![first.await.unwrap().unwrap().version];
    for other in others {
        seen.push(other.await.unwrap().unwrap().version);
    }
    assert_eq!(n(&engine, "c/d").await, Some(100));
    let (entries, complete_to) =
        since(&engine, Version(0).max(Version(START as u64)), usize::MAX).await;
    seen.sort();
    assert_eq!(versions(&entries), seen);
    assert_eq!(complete_to, *engine.tail().borrow());
}

#[tokio::test]
async fn write_skew_aborts_one_of_two() {
    let (engine, _, _) = fresh().await;
    commit(&engine, vec![set("c/a", 1), set("c/b", 1)])
        .await
        .unwrap();
    let (first, second) = (begin(&engine).await, begin(&engine).await);
    for id in [&first, &second] {
        let view = engine.transaction_view(id).await.unwrap();
        view.documents(&[path("c/a"), path("c/b")]).await.unwrap();
    }
    commit_in(&engine, &first, vec![set("c/a", 0)])
        .await
        .unwrap();
    assert!(matches!(
        commit_in(&engine, &second, vec![set("c/b", 0)]).await,
        Err(Error::Aborted)
    ));
    assert_eq!(
        (n(&engine, "c/a").await, n(&engine, "c/b").await),
        (Some(0), Some(1))
    );
}

#[tokio::test]
async fn write_skew_is_seen_inside_one_group() {
    let (engine, store, _) = fresh_faulty().await;
    commit(&engine, vec![set("c/a", 1), set("c/b", 1)])
        .await
        .unwrap();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let id = begin(&engine).await;
        engine
            .transaction_view(&id)
            .await
            .unwrap()
            .documents(&[path("c/a"), path("c/b")])
            .await
            .unwrap();
        ids.push(id);
    }
    store.hold();
    let blocker = {
        let engine = engine.clone();
        tokio::spawn(async move { commit(&engine, vec![set("other/x", 1)]).await })
    };
    store.held(1).await;
    let tasks: Vec<_> = ids
        .into_iter()
        .zip(["c/a", "c/b"])
        .map(|(id, at)| {
            let engine = engine.clone();
            tokio::spawn(async move { commit_in(&engine, &id, vec![set(at, 0)]).await })
        })
        .collect();
    tokio::task::yield_now().await;
    store.release().await;
    blocker.await.unwrap().unwrap();
    let mut aborted = 0;
    for task in tasks {
        aborted += usize::from(matches!(task.await.unwrap(), Err(Error::Aborted)));
    }
    assert_eq!(aborted, 1);
}

#[tokio::test]
async fn a_phantom_aborts() {
    let (engine, _, _) = fresh().await;
    let id = begin(&engine).await;
    let (documents, _) = engine
        .transaction_view(&id)
        .await
        .unwrap()
        .query(&all_of("c"))
        .await
        .unwrap();
    assert!(documents.is_empty());
    commit(&engine, vec![set("c/new", 1)]).await.unwrap();
    assert!(matches!(
        commit_in(&engine, &id, vec![set("sums/c", 0)]).await,
        Err(Error::Aborted)
    ));

    let id = begin(&engine).await;
    engine
        .transaction_view(&id)
        .await
        .unwrap()
        .query(&all_of("c"))
        .await
        .unwrap();
    commit(&engine, vec![set("elsewhere/new", 1)])
        .await
        .unwrap();
    commit_in(&engine, &id, vec![set("sums/c", 1)])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_transaction_keeps_reading_at_its_version() {
    let (engine, _, _) = fresh().await;
    commit(&engine, vec![set("c/a", 1)]).await.unwrap();
    let id = begin(&engine).await;
    commit(&engine, vec![set("c/a", 2)]).await.unwrap();
    let view = engine.transaction_view(&id).await.unwrap();
    let document = view.document(&path("c/a")).await.unwrap().unwrap();
    assert!(document.fields["n"].identical(&Value::Integer(1)));
    assert!(matches!(
        commit_in(&engine, &id, vec![set("c/b", 2)]).await,
        Err(Error::Aborted)
    ));
}

#[tokio::test]
async fn a_transaction_that_read_nothing_overwrites() {
    let (engine, _, _) = fresh().await;
    let id = begin(&engine).await;
    commit(&engine, vec![set("c/a", 1)]).await.unwrap();
    commit_in(&engine, &id, vec![set("c/a", 2)]).await.unwrap();
    assert_eq!(n(&engine, "c/a").await, Some(2));
}

#[tokio::test]
async fn a_no_op_keeps_the_update_time_and_makes_no_entry() {
    let (engine, _, clock) = fresh().await;
    let first = commit(&engine, vec![set("c/a", 1)]).await.unwrap();
    clock.advance(SECOND);
    let again = commit(&engine, vec![set("c/a", 1)]).await.unwrap();
    assert_eq!(again.version, first.version);
    assert_eq!(again.outcomes[0].update_time, Some(first.commit_time));
    assert_eq!(*engine.tail().borrow(), first.version);
    assert!(since(&engine, first.version, 10).await.0.is_empty());
    assert_eq!(
        read(&engine, "c/a").await.unwrap().update_time,
        first.commit_time
    );
    let deleted = commit(&engine, vec![delete("c/none")]).await.unwrap();
    assert_eq!(deleted.version, first.version);
    assert!(deleted.outcomes[0].update_time.is_none());
    assert!(
        commit(&engine, Vec::new())
            .await
            .unwrap()
            .outcomes
            .is_empty()
    );
}

#[tokio::test]
async fn a_receipt_has_each_document_as_the_commit_left_it() {
    let (engine, _, _) = fresh().await;
    commit(&engine, vec![set("c/kept", 1)]).await.unwrap();
    let receipt = commit(
        &engine,
        vec![
            set("c/a", 1),
            increment("c/a"),
            set("c/kept", 1),
            set("c/gone", 3),
            delete("c/gone"),
        ],
    )
    .await
    .unwrap();
    // The next commit changes what is stored, not what the first one answered.
    commit(&engine, vec![set("c/a", 9), delete("c/kept")])
        .await
        .unwrap();
    let numbers: Vec<_> = receipt
        .documents
        .iter()
        .map(|document| match document.as_ref()?.fields.get("n")? {
            Value::Integer(n) => Some(*n),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(numbers, [Some(2), Some(2), Some(1), None, None]);
}

#[tokio::test]
async fn writes_to_one_document_fold_into_one_change() {
    let (engine, _, _) = fresh().await;
    let first = commit(
        &engine,
        vec![
            set("c/a", 1),
            increment("c/a"),
            set("c/b", 7),
            increment("c/a"),
        ],
    )
    .await
    .unwrap();
    assert_eq!(first.outcomes.len(), 4);
    let (entries, _) = since(&engine, Version(START as u64), 10).await;
    assert_eq!(entries.len(), 1);
    let changes = &entries[0].changes;
    assert_eq!(
        changes
            .iter()
            .map(|change| change.path.as_str())
            .collect::<Vec<_>>(),
        ["c/a", "c/b"]
    );
    assert!(changes[0].before.is_none());
    assert!(changes[0].after.as_ref().unwrap().fields["n"].identical(&Value::Integer(3)));

    let cancelled = commit(
        &engine,
        vec![set("c/a", 9), set("c/a", 3), set("c/x", 1), delete("c/x")],
    )
    .await
    .unwrap();
    assert_eq!(cancelled.version, first.version);
    assert_eq!(cancelled.outcomes[0].update_time, Some(first.commit_time));
    assert_eq!(
        read(&engine, "c/a").await.unwrap().update_time,
        first.commit_time
    );

    let recreated = commit(&engine, vec![delete("c/a"), set("c/a", 3)])
        .await
        .unwrap();
    assert!(recreated.version > first.version);
    assert_eq!(
        read(&engine, "c/a").await.unwrap().create_time,
        recreated.commit_time
    );
}

#[tokio::test]
async fn a_refused_write_leaves_nothing_of_its_commit() {
    let (engine, _, _) = fresh().await;
    let name = |at: &str| DocumentName {
        database: database(),
        path: path(at),
    };
    let refused = commit(
        &engine,
        vec![
            set("c/a", 1),
            require(Precondition::Exists(true), set("c/b", 1)),
        ],
    )
    .await
    .unwrap_err();
    assert!(matches!(&refused, Error::NotFound(found) if *found == name("c/b")));
    assert_eq!(
        refused.to_string(),
        "No document to update: projects/p/databases/(default)/documents/c/b"
    );
    assert!(read(&engine, "c/a").await.is_none());

    let receipt = commit(
        &engine,
        vec![require(Precondition::Exists(false), set("c/a", 1))],
    )
    .await
    .unwrap();
    let refused = commit(
        &engine,
        vec![require(Precondition::Exists(false), set("c/a", 2))],
    )
    .await
    .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Document already exists: projects/p/databases/(default)/documents/c/a"
    );

    let right = Precondition::UpdateTime(receipt.commit_time);
    commit(
        &engine,
        vec![
            require(right.clone(), write("c/a", WriteOperation::Verify)),
            set("c/v", 1),
        ],
    )
    .await
    .unwrap();
    commit(&engine, vec![require(right.clone(), set("c/a", 2))])
        .await
        .unwrap();
    let refused = commit(&engine, vec![require(right, set("c/a", 3))])
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::VersionMismatch { document, .. } if document == name("c/a")));
    assert_eq!(n(&engine, "c/a").await, Some(2));

    let large = write(
        "c/large",
        WriteOperation::Set(Fields::from([
            ("a".to_owned(), Value::Bytes(vec![0; 600_000])),
            ("b".to_owned(), Value::Bytes(vec![0; 600_000])),
        ])),
    );
    assert_eq!(
        commit(&engine, vec![large]).await.unwrap_err().to_string(),
        "Document 'projects/p/databases/(default)/documents/c/large' cannot be written because its size \
         (1,200,060 bytes) exceeds the maximum allowed size of 1,048,576 bytes."
    );
}

#[tokio::test]
async fn reopening_keeps_the_documents_and_moves_the_tail_forward() {
    let (engine, store, clock) = fresh().await;
    let mut expected = Vec::new();
    for number in 0..5 {
        expected.push(
            commit(&engine, vec![set("c/a", number)])
                .await
                .unwrap()
                .version,
        );
    }
    drop(engine);
    let engine = open(&store, &clock).await;
    let tail = *engine.tail().borrow();
    assert!(tail > expected[4]);
    assert_eq!(engine.view().await.unwrap().version(), tail);
    assert_eq!(n(&engine, "c/a").await, Some(4));
    // The ring is empty: these come from the store.
    for (position, version) in expected.iter().enumerate() {
        let (entries, complete_to) = since(&engine, *version, 100).await;
        assert_eq!(versions(&entries), expected[position + 1..]);
        assert_eq!(complete_to, tail);
    }
    let next = commit(&engine, vec![increment("c/a")]).await.unwrap();
    assert!(next.version > tail);
}

#[tokio::test]
async fn entries_since_is_exact_at_every_version_and_limit() {
    let (engine, store, clock) = fresh().await;
    let start = *engine.tail().borrow();
    let mut expected = Vec::new();
    for number in 0..7 {
        clock.advance(number);
        expected.push(
            commit(&engine, vec![set("c/a", number)])
                .await
                .unwrap()
                .version,
        );
    }
    let reopened = open(&store, &clock).await;
    for engine in [&engine, &reopened] {
        for version in start.0..=expected[6].0 {
            for limit in [1, 2, 100] {
                let (entries, complete_to) = since(engine, Version(version), limit).await;
                let after: Vec<_> = expected
                    .iter()
                    .copied()
                    .filter(|other| other.0 > version)
                    .collect();
                let wanted: Vec<_> = after.iter().copied().take(limit).collect();
                assert_eq!(versions(&entries), wanted);
                if wanted.len() < after.len() {
                    assert_eq!(Some(&complete_to), wanted.last());
                } else {
                    assert_eq!(complete_to, *engine.tail().borrow());
                }
            }
        }
    }
}

#[tokio::test]
async fn versions_rise_though_the_clock_goes_back() {
    let (engine, store, clock) = fresh().await;
    let mut last = *engine.tail().borrow();
    for step in [0, -SECOND, -SECOND * 100, 5, SECOND] {
        clock.advance(step);
        let receipt = commit(&engine, vec![increment("c/a")]).await.unwrap();
        assert!(receipt.version > last);
        assert_eq!(receipt.commit_time.micros(), receipt.version.0 as i64);
        last = receipt.version;
    }
    assert_eq!(engine.settled_version().await, last);
    clock.advance(-SECOND);
    drop(engine);
    assert_eq!(open(&store, &clock).await.tail().borrow().0, last.0 + 1);
}

#[tokio::test]
async fn an_idle_database_settles_at_the_present() {
    let (engine, _, clock) = fresh().await;
    let receipt = commit(&engine, vec![set("c/a", 1)]).await.unwrap();
    let mut tail = engine.tail();
    tail.mark_unchanged();
    clock.advance(30 * SECOND);
    let settled = engine.settled_version().await;
    assert_eq!(settled.0 as i64, START + 30 * SECOND);
    assert!(tail.has_changed().unwrap());
    assert_eq!(engine.view().await.unwrap().version(), settled);
    let (entries, complete_to) = since(&engine, receipt.version, 10).await;
    assert!(entries.is_empty());
    assert_eq!(complete_to, settled);
    assert!(
        commit(&engine, vec![increment("c/a")])
            .await
            .unwrap()
            .version
            > settled
    );
}

#[tokio::test]
async fn old_entries_are_trimmed_and_then_too_old() {
    let (engine, store, clock) = fresh().await;
    let old = commit(&engine, vec![set("c/a", 1)]).await.unwrap();
    let older = commit(&engine, vec![set("c/a", 2)]).await.unwrap();
    clock.advance(HISTORY_MIN.as_micros() as i64 + SECOND);
    let recent = commit(&engine, vec![set("c/a", 3)]).await.unwrap();
    clock.advance(TRIM_INTERVAL.as_micros() as i64);
    // The committer trims after serving; a second command waits for it.
    engine.settled_version().await;
    engine.settled_version().await;
    let snapshot = store.snapshot().await.unwrap();
    let kept = snapshot
        .page(&Keyspace::Changelog.range(), Direction::Forward, 10)
        .await
        .unwrap();
    assert_eq!(kept.entries.len(), 1);
    let reopened = open(&store, &clock).await;
    assert!(matches!(
        reopened.entries_since(old.version, 10).await.unwrap(),
        EntriesSince::TooOld
    ));
    assert_eq!(
        versions(&since(&reopened, older.version, 10).await.0),
        [recent.version]
    );
    // The engine that made them still has them in its ring.
    assert_eq!(
        versions(&since(&engine, old.version, 10).await.0),
        [older.version, recent.version]
    );
}

#[tokio::test]
async fn a_new_database_knows_nothing_of_another_before_it() {
    let (engine, _, clock) = fresh().await;
    let told = commit(&engine, vec![set("c/a", 1)]).await.unwrap().version;
    clock.advance(SECOND);
    let second = open(&MemoryStore::new(), &clock).await;
    assert!(matches!(
        second.entries_since(told, 10).await.unwrap(),
        EntriesSince::TooOld
    ));
    let begun = *second.tail().borrow();
    assert!(since(&second, begun, 10).await.0.is_empty());
}

#[tokio::test]
async fn a_long_query_lets_others_run() {
    let (engine, _, _) = fresh().await;
    let writes = (0..1_000).map(|n| set(&format!("c/{n}"), n)).collect();
    commit(&engine, writes).await.unwrap();
    let (view, query) = (engine.view().await.unwrap(), all_of("c"));
    tokio::select! {
        biased;
        _ = view.query(&query) => panic!("it ran to its end in one go"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(view.query(&query).await.unwrap().0.len(), 1_000);
}

#[tokio::test]
async fn a_long_changelog_is_trimmed_in_pieces() {
    let (engine, store, clock) = fresh().await;
    for _ in 0..PIECE_ENTRIES_MAX + 5 {
        commit(&engine, vec![increment("c/a")]).await.unwrap();
    }
    clock.advance(HISTORY_MIN.as_micros() as i64 + SECOND);
    for pieces in 1..=3 {
        engine.settled_version().await;
        clock.advance(1);
        engine.settled_version().await;
        let snapshot = store.snapshot().await.unwrap();
        let kept = snapshot
            .page(&Keyspace::Changelog.range(), Direction::Forward, 10_000)
            .await
            .unwrap();
        let trimmed_at_least = (pieces * PIECE_ENTRIES_MAX).min(PIECE_ENTRIES_MAX + 5);
        assert!(kept.entries.len() <= PIECE_ENTRIES_MAX + 5 - trimmed_at_least);
    }
    assert_eq!(n(&engine, "c/a").await, Some(PIECE_ENTRIES_MAX as i64 + 5));
}

#[tokio::test]
async fn trimming_keeps_up_with_many_who_commit() {
    let (engine, store, clock) = fresh_faulty().await;
    // Two groups, the second of which is large.
    let commit_many = async || {
        store.hold();
        let one = |n: usize| {
            let engine = engine.clone();
            tokio::spawn(async move { commit(&engine, vec![increment(&format!("c/{n}"))]).await })
        };
        let tasks: Vec<_> = (0..900).map(one).collect();
        store.held(1).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        store.release().await;
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    };
    for _ in 0..4 {
        commit_many().await;
    }
    let told = *engine.tail().borrow();
    clock.advance(HISTORY_MIN.as_micros() as i64 + SECOND);
    for _ in 0..4 {
        commit_many().await;
    }
    let snapshot = store.snapshot().await.unwrap();
    let trimmed = trimmed_to(snapshot.as_ref()).await.unwrap();
    assert!(trimmed >= Some(told), "{trimmed:?} is before {told:?}");
}

#[tokio::test]
async fn transactions_end_expire_and_are_told_apart() {
    let (engine, store, clock) = fresh().await;
    let unknown = |result: Result<View, Error>| matches!(result, Err(Error::TransactionUnknown));
    let expired = |result: Result<View, Error>| matches!(result, Err(Error::TransactionExpired));
    for bytes in [Vec::new(), b"abc".to_vec(), vec![7; 24]] {
        assert!(unknown(
            engine.transaction_view(&TransactionId(bytes)).await
        ));
    }
    let id = begin(&engine).await;
    engine.rollback(&id);
    engine.rollback(&id);
    assert!(expired(engine.transaction_view(&id).await));

    let id = begin(&engine).await;
    commit_in(&engine, &id, vec![set("c/a", 1)]).await.unwrap();
    assert!(matches!(
        commit_in(&engine, &id, vec![set("c/a", 1)]).await,
        Err(Error::TransactionExpired)
    ));

    // Idle for more than a minute.
    let id = begin(&engine).await;
    clock.advance(61 * SECOND);
    assert!(expired(engine.transaction_view(&id).await));
    // In use, but older than 270 seconds.
    let id = begin(&engine).await;
    for _ in 0..5 {
        clock.advance(50 * SECOND);
        assert!(engine.transaction_view(&id).await.is_ok());
    }
    clock.advance(50 * SECOND);
    assert!(expired(engine.transaction_view(&id).await));

    // Given by an earlier life of the database, and by another database.
    let id = begin(&engine).await;
    let reopened = open(&store, &clock).await;
    assert!(expired(reopened.transaction_view(&id).await));
    let other = Engine::open(
        DatabaseName::new("p", "other").unwrap(),
        MemoryStore::new(),
        HandClock::new(),
    )
    .await
    .unwrap();
    assert!(unknown(other.transaction_view(&id).await));
}

#[tokio::test]
async fn the_queries_of_a_transaction_are_bounded_and_refused_ones_cost_nothing() {
    let (engine, _, clock) = fresh().await;
    let id = begin(&engine).await;
    let view = engine.transaction_view(&id).await.unwrap();
    let mut refused = 0;
    for number in 0..RECORDED_QUERIES_MAX + 10 {
        // The same again is one query.
        view.query(&all_of("c0")).await.ok();
        match view.query(&all_of(&format!("c{number}"))).await {
            Ok(_) => {}
            Err(Error::ResourceExhausted(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, 10);
    let recorded = engine.transactions().get(&id, clock.now()).unwrap();
    assert_eq!(recorded.reads().wide.len(), RECORDED_QUERIES_MAX + 1);
    assert!(view.document(&path("c/a")).await.is_err());
}

#[tokio::test]
async fn read_only_transactions_read_and_cannot_write() {
    let (engine, _, _) = fresh().await;
    commit(&engine, vec![set("c/a", 1)]).await.unwrap();
    let id = engine
        .begin(TransactionOptions::ReadOnly { read_time: None })
        .await
        .unwrap();
    let view = engine.transaction_view(&id).await.unwrap();
    assert!(view.document(&path("c/a")).await.unwrap().is_some());
    let refused = commit_in(&engine, &id, vec![set("c/a", 2)])
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Cannot modify entities in a read-only transaction."
    );
    commit(&engine, vec![set("c/a", 3)]).await.unwrap();
    commit_in(&engine, &id, Vec::new()).await.unwrap();
    assert!(engine.transaction_view(&id).await.is_err());
    let past = TransactionOptions::ReadOnly {
        read_time: Some(Timestamp::from_micros(START - 1).unwrap()),
    };
    assert!(matches!(
        engine.begin(past).await,
        Err(Error::FailedPrecondition(_))
    ));
}

#[tokio::test]
async fn a_retry_names_a_transaction_and_open_ones_are_bounded() {
    let (engine, _, clock) = fresh().await;
    let first = begin(&engine).await;
    let retry = |id: &TransactionId| TransactionOptions::ReadWrite {
        retry: Some(id.clone()),
        mode: Some(ConcurrencyMode::Pessimistic),
    };
    engine.begin(retry(&first)).await.unwrap();
    assert!(matches!(
        engine.begin(retry(&TransactionId(vec![1]))).await,
        Err(Error::TransactionUnknown)
    ));
    for _ in 2..OPEN_TRANSACTIONS_MAX {
        begin(&engine).await;
    }
    let full = engine
        .begin(TransactionOptions::ReadOnly { read_time: None })
        .await;
    assert!(matches!(full, Err(Error::ResourceExhausted(_))));
    clock.advance(61 * SECOND);
    begin(&engine).await;
}

#[tokio::test]
async fn the_head_moved_by_another_is_caught_up_with() {
    let (store, clock) = (MemoryStore::new(), HandClock::new());
    let (one, two) = (open(&store, &clock).await, open(&store, &clock).await);
    let mut tail = Version(0);
    for _ in 0..10 {
        for engine in [&one, &two] {
            let receipt = commit(engine, vec![increment("c/a"), increment("c/b")])
                .await
                .unwrap();
            assert!(receipt.version > tail);
            tail = receipt.version;
        }
    }
    assert_eq!(n(&one, "c/a").await, Some(20));
    let (entries, _) = since(&two, Version(START as u64 + 1), usize::MAX).await;
    assert_eq!(entries.len(), 20);

    let id = begin(&one).await;
    one.transaction_view(&id)
        .await
        .unwrap()
        .document(&path("c/a"))
        .await
        .unwrap();
    commit(&two, vec![increment("c/a")]).await.unwrap();
    assert!(matches!(
        commit_in(&one, &id, vec![set("c/x", 1)]).await,
        Err(Error::Aborted)
    ));
}

#[tokio::test]
async fn a_caller_who_goes_away_changes_nothing() {
    let (engine, store, _) = fresh_faulty().await;
    store.hold();
    let task = {
        let engine = engine.clone();
        tokio::spawn(async move { commit(&engine, vec![set("c/a", 1), set("c/b", 1)]).await })
    };
    store.held(1).await;
    task.abort();
    assert!(task.await.is_err());
    store.release().await;
    commit(&engine, vec![increment("c/a")]).await.unwrap();
    assert_eq!(
        (n(&engine, "c/a").await, n(&engine, "c/b").await),
        (Some(2), Some(1))
    );
}

#[tokio::test]
async fn a_failed_group_is_unavailable_and_the_next_one_works() {
    let (engine, store, _) = fresh_faulty().await;
    commit(&engine, vec![set("c/a", 1)]).await.unwrap();
    store.fail_next_apply(watchfire_storage::Error::Unavailable("busy".to_owned()));
    assert!(matches!(
        commit(&engine, vec![increment("c/a")]).await,
        Err(Error::Unavailable(_))
    ));
    commit(&engine, vec![increment("c/a")]).await.unwrap();
    assert_eq!(n(&engine, "c/a").await, Some(2));

    // Written, but the answer was lost: the next commit finds the newer head and its entry.
    let before = *engine.tail().borrow();
    store.hold();
    let lost = {
        let engine = engine.clone();
        tokio::spawn(async move { commit(&engine, vec![increment("c/a")]).await })
    };
    store.held(1).await;
    store.crash(1).await;
    store.restart();
    assert!(matches!(lost.await.unwrap(), Err(Error::Unavailable(_))));
    commit(&engine, vec![increment("c/a")]).await.unwrap();
    assert_eq!(n(&engine, "c/a").await, Some(4));
    assert_eq!(since(&engine, before, 10).await.0.len(), 2);
}

#[tokio::test]
async fn a_store_that_was_poisoned_is_asked_again() {
    let (engine, store, _) = fresh_faulty().await;
    commit(&engine, vec![set("c/a", 1)]).await.unwrap();
    for _ in 0..2 {
        store.fail_next_apply(watchfire_storage::Error::Poisoned(
            "flush failed".to_owned(),
        ));
        assert!(matches!(
            commit(&engine, vec![increment("c/a")]).await,
            Err(Error::Unavailable(_))
        ));
        assert_eq!(n(&engine, "c/a").await, Some(1));
    }
    commit(&engine, vec![increment("c/a")]).await.unwrap();
    assert_eq!(n(&engine, "c/a").await, Some(2));
}

#[tokio::test]
async fn a_damaged_store_makes_the_database_read_only() {
    let (engine, store, _) = fresh_faulty().await;
    commit(&engine, vec![set("c/a", 1)]).await.unwrap();
    store.fail_next_apply(watchfire_storage::Error::Corrupt("damaged".to_owned()));
    for _ in 0..2 {
        assert!(matches!(
            commit(&engine, vec![increment("c/a")]).await,
            Err(Error::Unavailable(_))
        ));
    }
    assert_eq!(n(&engine, "c/a").await, Some(1));
    assert_eq!(engine.settled_version().await, *engine.tail().borrow());
}

#[tokio::test]
async fn documents_of_one_commit_and_of_one_group_are_bounded() {
    let (engine, store, clock) = fresh_faulty().await;
    let large = |at: &str| {
        write(
            at,
            WriteOperation::Set(Fields::from([(
                "a".to_owned(),
                Value::Bytes(vec![0; 1_000_000]),
            )])),
        )
    };
    let names: Vec<String> = (0..LOADED_BYTES_MAX / 1_000_000 + 4)
        .map(|n| format!("c/{n}"))
        .collect();
    for name in &names {
        commit(&engine, vec![large(name)]).await.unwrap();
    }
    drop(engine);
    let engine = Engine::open(database(), store.clone(), clock)
        .await
        .unwrap();
    let all = names.iter().map(|name| delete(name)).collect();
    assert_eq!(
        commit(&engine, all).await.unwrap_err().to_string(),
        "Transaction too big. Decrease transaction size."
    );
    let first = names.iter().take(40).map(|name| delete(name)).collect();
    commit(&engine, first).await.unwrap();
    for name in &names {
        commit(&engine, vec![large(name)]).await.unwrap();
    }

    // Held back, all of them wait for one group; it takes as many as fit, and the next one the others.
    store.hold();
    let held = tokio::spawn({
        let engine = engine.clone();
        async move { commit(&engine, vec![set("d/first", 1)]).await }
    });
    store.held(1).await;
    let tasks: Vec<_> = names
        .iter()
        .map(|name| {
            let (engine, name) = (engine.clone(), name.clone());
            tokio::spawn(async move { commit(&engine, vec![delete(&name)]).await })
        })
        .collect();
    tokio::task::yield_now().await;
    store.release().await;
    held.await.unwrap().unwrap();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for name in &names {
        assert!(read(&engine, name).await.is_none());
    }
}

#[tokio::test]
async fn thousands_of_writes_to_one_large_document_are_refused() {
    let (engine, _, _) = fresh().await;
    let fields = Fields::from([("a".to_owned(), Value::Bytes(vec![0; 1_000_000]))]);
    commit(&engine, vec![write("c/a", WriteOperation::Set(fields))])
        .await
        .unwrap();
    let touch = |_| {
        write(
            "c/a",
            WriteOperation::Patch {
                fields: Fields::new(),
                mask: Default::default(),
            },
        )
    };
    let writes = (0..COPIED_BYTES_MAX / 1_000_000 + 1).map(touch).collect();
    assert_eq!(
        commit(&engine, writes).await.unwrap_err().to_string(),
        "Transaction too big. Decrease transaction size."
    );
}

#[tokio::test]
async fn a_full_queue_refuses_by_name() {
    let (engine, store, _) = fresh_faulty().await;
    store.hold();
    let first = {
        let engine = engine.clone();
        tokio::spawn(async move { commit(&engine, vec![set("c/a", 1)]).await })
    };
    store.held(1).await;
    // While the first is on its way, the next group is filled and then the queue.
    let mut waiting = Vec::new();
    for (count, left) in [
        (GROUP_COMMITS_MAX, QUEUE_COMMANDS_MAX),
        (QUEUE_COMMANDS_MAX, 0),
    ] {
        for _ in 0..count {
            let engine = engine.clone();
            let task = async move { commit(&engine, vec![increment("c/a")]).await };
            waiting.push(tokio::spawn(task));
        }
        tokio::task::yield_now().await;
        while engine.inner.commands.capacity() != left {
            tokio::task::yield_now().await;
        }
    }
    let waiting_count = waiting.len();
    assert!(matches!(
        commit(&engine, vec![increment("c/a")]).await,
        Err(Error::ResourceExhausted(_))
    ));
    store.release().await;
    first.await.unwrap().unwrap();
    for task in waiting {
        task.await.unwrap().unwrap();
    }
    assert_eq!(n(&engine, "c/a").await, Some(waiting_count as i64 + 1));
}

#[tokio::test]
async fn closing_finishes_what_waits_and_refuses_the_rest() {
    let (engine, _, _) = fresh().await;
    let task = {
        let engine = engine.clone();
        tokio::spawn(async move { commit(&engine, vec![set("c/a", 1)]).await })
    };
    tokio::task::yield_now().await;
    engine.close().await.unwrap();
    task.await.unwrap().unwrap();
    assert!(matches!(
        commit(&engine, vec![set("c/a", 2)]).await,
        Err(Error::Unavailable(_))
    ));
    assert!(engine.view().await.is_err());
    assert_eq!(engine.settled_version().await, *engine.tail().borrow());
    engine.close().await.unwrap();
}

#[tokio::test]
async fn a_ring_that_overflows_is_read_from_the_store() {
    let (engine, _, _) = fresh().await;
    let start = *engine.tail().borrow();
    let big = |text: String| {
        write(
            "c/big",
            WriteOperation::Set(Fields::from([("text".to_owned(), Value::String(text))])),
        )
    };
    let id = begin(&engine).await;
    engine
        .transaction_view(&id)
        .await
        .unwrap()
        .document(&path("c/read"))
        .await
        .unwrap();
    let clean = begin(&engine).await;
    engine
        .transaction_view(&clean)
        .await
        .unwrap()
        .document(&path("c/other"))
        .await
        .unwrap();
    commit(&engine, vec![set("c/read", 1)]).await.unwrap();
    let mut expected = 1;
    while engine.inner.tail.since(start, 1).is_some() {
        commit(
            &engine,
            vec![big(
                format!("{expected}").repeat(900_000 / format!("{expected}").len())
            )],
        )
        .await
        .unwrap();
        expected += 1;
        assert!(
            expected < RING_BYTES_MAX / 100_000,
            "the ring must overflow"
        );
    }
    let mut found = 0;
    let mut at = start;
    while at < *engine.tail().borrow() {
        let (entries, complete_to) = since(&engine, at, usize::MAX).await;
        found += entries.len();
        at = complete_to;
    }
    assert_eq!(found, expected);
    assert!(matches!(
        commit_in(&engine, &id, vec![set("c/x", 1)]).await,
        Err(Error::Aborted)
    ));
    commit_in(&engine, &clean, vec![set("c/x", 1)])
        .await
        .unwrap();
}
