//! Indexes through the engine: built while commits go on, across restarts and other servers; and what is stored in
//! the format before.

use std::collections::BTreeMap;

use watchfire_storage::range::successor;
use watchfire_storage::{Batch, Range};

use super::*;
use crate::definition::{IndexField, Mode, Scope};
use crate::index::catalog::{IndexState, OperationState};
use crate::index::entries::{Entries, entries};
use crate::keyspace::document_key;
use crate::missing::MissingIndex;
use crate::record::{decode_record, encode_record};
use crate::stamp::{contents, stamped};

fn definition(fields: &[(&str, Mode)]) -> Definition {
    let fields = fields.iter().map(|(field, mode)| IndexField {
        path: FieldPath::parse(field).unwrap(),
        mode: *mode,
    });
    Definition::new("c".to_owned(), Scope::Group, fields.collect()).unwrap()
}

fn two() -> Definition {
    definition(&[("n", Mode::Descending), ("k", Mode::Ascending)])
}

fn full(at: &str, n: i64) -> Write {
    let fields = Fields::from([
        ("n".to_owned(), Value::Integer(n)),
        ("k".to_owned(), Value::Double(n as f64)),
    ]);
    write(at, WriteOperation::Set(fields))
}

async fn fill(engine: &Engine, documents: i64) {
    for first in (0..documents).step_by(400) {
        let last = (first + 400).min(documents);
        let writes = (first..last).map(|n| full(&format!("c/{n}"), n)).collect();
        commit(engine, writes).await.unwrap();
    }
}

async fn page(store: &dyn Store, part: Keyspace) -> BTreeMap<Bytes, Bytes> {
    let snapshot = store.snapshot().await.unwrap();
    let mut found = BTreeMap::new();
    let mut range = part.range();
    loop {
        let page = snapshot
            .page(&range, Direction::Forward, 10_000)
            .await
            .unwrap();
        let more = page.more;
        found.extend(page.entries);
        if !more {
            return found;
        }
        let (last, _) = found.last_key_value().unwrap();
        range.start = Bytes::from([last.as_ref(), &[0]].concat());
    }
}

/// Every entry that is stored is one that the documents have, and the other way round.
async fn assert_entries(store: &dyn Store, catalog: &Catalog) {
    let mut stored = Entries::new();
    for part in [
        Keyspace::Index,
        Keyspace::Group,
        Keyspace::GroupIndex,
        Keyspace::Defined,
    ] {
        let page = page(store, part).await.into_iter();
        stored.extend(page.map(|(key, value)| (key, contents(&value))));
    }
    let mut expected = Entries::new();
    for (key, record) in page(store, Keyspace::Document).await {
        let (path, _) = watchfire_model::order::decode_path(&key[1..]).unwrap();
        expected.extend(entries(&decode_record(&path, &record).unwrap(), catalog));
    }
    assert_eq!(stored.len(), expected.len());
    assert!(stored == expected, "same number, other entries");
}

/// Waits until the catalogue is as wanted; every change of it moves the tail.
async fn until(engine: &Engine, wanted: impl Fn(&Catalog) -> bool) -> Arc<Catalog> {
    let mut tail = engine.tail();
    loop {
        let catalog = engine.catalog().await.unwrap();
        if wanted(&catalog) {
            return catalog;
        }
        tail.changed().await.unwrap();
    }
}

fn idle(catalog: &Catalog) -> bool {
    catalog.next_work().is_none()
}

#[tokio::test]
async fn an_index_is_built_while_commits_go_on_and_deleted_again() {
    let (store, clock) = (MemoryStore::new(), HandClock::new());
    let engine = open(&store, &clock).await;
    fill(&engine, 1_000).await;
    let operation = engine.create_index(two()).await.unwrap();
    let error = engine.create_index(two()).await.unwrap_err();
    assert!(matches!(error, Error::IndexExists(_)));
    let busy = {
        let engine = engine.clone();
        tokio::spawn(async move {
            for n in 0..200 {
                let moved = format!("c/{}", n * 7 % 1_100);
                let writes = vec![full(&moved, -n), delete(&format!("c/{}", n * 13 % 1_000))];
                commit(&engine, writes).await.unwrap();
            }
        })
    };
    let catalog = until(&engine, idle).await;
    let index = catalog.indexes().next().unwrap();
    assert_eq!(index.state, IndexState::Ready);
    busy.await.unwrap();
    assert_entries(store.as_ref(), &catalog).await;
    let done = catalog.operations().next().unwrap();
    assert_eq!(done.id, operation);
    assert_eq!(done.state, OperationState::Successful);
    assert_eq!(done.documents_estimated, 1_000);
    assert!(done.documents_done > 0);

    engine.delete_index(index.id).await.unwrap();
    assert!(matches!(
        engine.delete_index(index.id).await.unwrap_err(),
        Error::NoSuch(_)
    ));
    let catalog = until(&engine, idle).await;
    assert!(page(store.as_ref(), Keyspace::Defined).await.is_empty());
    assert_entries(store.as_ref(), &catalog).await;
    engine.delete_operation(operation).await.unwrap();
    assert_eq!(engine.catalog().await.unwrap().operations().count(), 0);
}

#[tokio::test]
async fn a_build_goes_on_after_a_restart() {
    let (store, clock) = (MemoryStore::new(), HandClock::new());
    let engine = open(&store, &clock).await;
    fill(&engine, 2_000).await;
    engine.create_index(two()).await.unwrap();
    let begun = |catalog: &Catalog| catalog.next_work().is_some_and(|it| it.documents_done > 0);
    until(&engine, begun).await;
    drop(engine);
    let engine = open(&store, &clock).await;
    let catalog = engine.catalog().await.unwrap();
    let left = catalog.next_work().unwrap();
    assert!(!left.position.is_empty() && left.documents_done < 2_000);
    let catalog = until(&engine, idle).await;
    let done = catalog.operations().next().unwrap();
    // No document was looked at twice.
    assert_eq!(done.documents_done, 2_000);
    assert_entries(store.as_ref(), &catalog).await;
}

#[tokio::test]
async fn a_build_can_be_cancelled() {
    let (store, clock) = (MemoryStore::new(), HandClock::new());
    let engine = open(&store, &clock).await;
    fill(&engine, 2_000).await;
    let operation = engine.create_index(two()).await.unwrap();
    assert!(matches!(
        engine.delete_operation(operation).await.unwrap_err(),
        Error::FailedPrecondition(_)
    ));
    let begun = |catalog: &Catalog| catalog.next_work().is_some_and(|it| it.documents_done > 0);
    until(&engine, begun).await;
    engine.cancel_operation(operation).await.unwrap();
    let catalog = until(&engine, idle).await;
    assert_eq!(catalog.indexes().count(), 0);
    let state = catalog.operations().next().unwrap().state;
    assert_eq!(state, OperationState::Cancelled);
    assert!(page(store.as_ref(), Keyspace::Defined).await.is_empty());
}

#[tokio::test]
async fn fields_change_for_all_documents() {
    let (store, clock) = (MemoryStore::new(), HandClock::new());
    let engine = open(&store, &clock).await;
    fill(&engine, 600).await;
    commit(&engine, vec![full("d/1", 1)]).await.unwrap();
    let everywhere = FieldKey {
        group: None,
        path: None,
    };
    let n = FieldKey {
        group: Some("c".to_owned()),
        path: Some(FieldPath::parse("n").unwrap()),
    };
    let group = FieldIndex {
        scope: Scope::Group,
        mode: Mode::Ascending,
    };
    let changes = [
        (everywhere.clone(), Some(Vec::new()), 0, 0),
        (n.clone(), Some(vec![group]), 0, 600),
        (everywhere, None, 602, 600),
        (n, None, 1_202, 0),
    ];
    for (key, indexes, in_collections, in_groups) in changes {
        engine.update_field(key, indexes).await.unwrap();
        let catalog = until(&engine, idle).await;
        assert_entries(store.as_ref(), &catalog).await;
        let count = page(store.as_ref(), Keyspace::Index).await.len();
        assert_eq!(count, in_collections);
        let count = page(store.as_ref(), Keyspace::GroupIndex).await.len();
        assert_eq!(count, in_groups);
    }
}

#[tokio::test]
async fn another_server_knows_of_an_index_before_it_writes() {
    let (store, clock) = (MemoryStore::new(), HandClock::new());
    let ours = open(&store, &clock).await;
    fill(&ours, 10).await;
    let theirs = open(&store, &clock).await;
    ours.create_index(two()).await.unwrap();
    commit(&theirs, vec![full("c/3", -3), delete("c/4")])
        .await
        .unwrap();
    until(&ours, idle).await;
    commit(&theirs, vec![full("c/5", -5), full("c/new", 1)])
        .await
        .unwrap();
    let catalog = theirs.catalog().await.unwrap();
    assert_eq!(catalog.indexes().next().unwrap().state, IndexState::Ready);
    assert_entries(store.as_ref(), &catalog).await;
}

#[tokio::test]
async fn a_failed_alteration_leaves_everything_as_it_was() {
    let (engine, store, _clock) = fresh_faulty().await;
    fill(&engine, 10).await;
    let failure = || watchfire_storage::Error::Unavailable("on purpose".to_owned());
    store.fail_next_apply(failure());
    let error = engine.create_index(two()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)));
    commit(&engine, vec![full("c/1", 7)]).await.unwrap();
    let catalog = engine.catalog().await.unwrap();
    assert_eq!(*catalog, Catalog::default());
    assert_entries(store.as_ref(), &catalog).await;
    engine.create_index(two()).await.unwrap();
    let catalog = until(&engine, idle).await;
    assert_entries(store.as_ref(), &catalog).await;
}

#[tokio::test]
async fn what_queries_want_is_defined() {
    let (store, clock) = (MemoryStore::new(), HandClock::new());
    let settings = Settings {
        index_mode: crate::settings::IndexMode::Create,
        ..Settings::default()
    };
    let engine = Engine::open_with(
        database(),
        Arc::<MemoryStore>::clone(&store),
        Arc::<HandClock>::clone(&clock),
        settings,
    )
    .await
    .unwrap();
    fill(&engine, 10).await;
    let query = all_of("c");
    let one = definition(&[("k", Mode::Ascending)]);
    for definition in [two(), one] {
        let missing = MissingIndex {
            database: database(),
            definition,
            building: None,
            several_inequalities: false,
        };
        engine
            .inner
            .context
            .advisor
            .decide(&query, &missing)
            .unwrap();
    }
    let done = |catalog: &Catalog| catalog.operations().count() == 2 && idle(catalog);
    let catalog = until(&engine, done).await;
    assert_eq!(catalog.indexes().next().unwrap().definition, two());
    let (key, config) = catalog.fields().next().unwrap();
    assert_eq!(key.path, Some(FieldPath::parse("k").unwrap()));
    // It keeps what it had: ascending, descending and contains in one collection.
    assert_eq!(config.indexes.len(), 4);
    assert_entries(store.as_ref(), &catalog).await;
}

const OLD_ENTRY: &[u8] = b"\x02c//\x01n\0\x01\0\x02\x20\xc0\x08\0\0\0\0\0\0\x80\0\x021\0\0\0\x04";
const OLD_GROUP_ENTRY: &[u8] = b"\x03\x02c\0\x02c\0\x021\0\0";
const FORMAT_KEY: &[u8] = b"\x05format";

async fn apply(store: &MemoryStore, operations: Vec<Operation>) {
    let head = store.snapshot().await.unwrap().version();
    let version = Version(head.0 + 1);
    let batch = Batch {
        version,
        operations,
    };
    store.apply(head, batch).await.unwrap();
}

fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Operation {
    Operation::Put {
        key: Bytes::copy_from_slice(key.as_ref()),
        value: Bytes::copy_from_slice(value.as_ref()),
    }
}

/// A database as the format before had it: nothing in the entries.
async fn old_database() -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    let time = Timestamp::from_micros(1).unwrap();
    let document = |at: &str, value| Document {
        path: path(at),
        create_time: time,
        update_time: time,
        fields: Fields::from([("n".to_owned(), value)]),
    };
    let mut operations = vec![
        put(FORMAT_KEY, [1]),
        put(b"\x05trimmed-to", 1_u64.to_be_bytes()),
        put(OLD_ENTRY, b""),
        put(OLD_GROUP_ENTRY, b""),
        // Left by a defect, say.
        put(b"\x02nobody's", b""),
    ];
    let first = document("c/1", Value::Double(3.0));
    operations.push(put(document_key(&first.path), encode_record(&first)));
    for n in 0..700 {
        let document = document(&format!("many/{n}"), Value::Double(f64::from(n)));
        for (key, _) in entries(&document, &Catalog::default()) {
            operations.push(put(key, b""));
        }
        operations.push(put(document_key(&document.path), encode_record(&document)));
    }
    apply(&store, operations).await;
    store
}

async fn assert_converted(store: &MemoryStore) {
    assert_entries(store, &Catalog::default()).await;
    let snapshot = store.snapshot().await.unwrap();
    let get = async |key: &[u8]| snapshot.get(key).await.unwrap();
    // Its document was written at version 1.
    assert_eq!(get(OLD_ENTRY).await, Some(stamped(Version(1), &[0])));
    assert_eq!(get(OLD_GROUP_ENTRY).await, Some(stamped(Version(1), b"")));
    assert_eq!(get(FORMAT_KEY).await.as_deref(), Some(&[3_u8][..]));
}

#[tokio::test]
async fn the_format_before_is_converted() {
    let store = old_database().await;
    let clock = HandClock::new();
    let engine = open(&store, &clock).await;
    assert_converted(&store).await;
    let head = engine.tail();
    assert!(head.borrow().0 >= START as u64);
    drop(engine);
    open(&store, &clock).await;
    assert_converted(&store).await;
}

#[tokio::test]
async fn a_conversion_that_was_cut_short_starts_again() {
    // However far it came: the mark alone, some entries deleted, all deleted, some written again.
    let whole = page(old_database().await.as_ref(), Keyspace::Index).await;
    for left in [whole.len(), whole.len() / 2, 0] {
        let store = old_database().await;
        let gone = whole.keys().skip(left);
        let mut operations: Vec<_> = gone
            .map(|key| Operation::Delete { key: key.clone() })
            .collect();
        let unfinished = if left % 2 == 0 { [2, 0] } else { [3, 0] };
        operations.push(put(FORMAT_KEY, unfinished));
        apply(&store, operations).await;
        open(&store, &HandClock::new()).await;
        assert_converted(&store).await;
    }
    // One batch after the other fails.
    let inner = old_database().await;
    let store = FaultyStore::new(
        Arc::<MemoryStore>::clone(&inner),
        Faults {
            seed: 7,
            refused_applies_per_mille: 200,
            lost_answers_per_mille: 100,
            failed_reads_per_mille: 0,
        },
    );
    let mut failures = 0;
    loop {
        let store = Arc::<FaultyStore>::clone(&store);
        match Engine::open(database(), store, HandClock::new()).await {
            Ok(_) => break,
            Err(Error::Unavailable(_)) => failures += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(failures > 0);
    assert_converted(&inner).await;
}

/// What the format before has: no history, and nothing in entries of since when they are there.
#[tokio::test]
async fn the_format_without_history_is_read_on_from_where_it_was() {
    let (store, clock) = (MemoryStore::new(), HandClock::new());
    let time = Timestamp::from_micros(1).unwrap();
    let document = |at: &str| Document {
        path: path(at),
        create_time: Timestamp::EPOCH,
        update_time: time,
        fields: Fields::from([("n".to_owned(), Value::Double(3.0))]),
    };
    let (kept, changed) = (document("c/1"), document("c/2"));
    let other_entry = OLD_ENTRY.to_vec();
    let other_entry = [&other_entry[..other_entry.len() - 5], b"2\0\0\0\x04"].concat();
    let mut operations = vec![
        put(FORMAT_KEY, [2]),
        put(b"\x05trimmed-to", 1_u64.to_be_bytes()),
        put(OLD_ENTRY, b"\0"),
        put(OLD_GROUP_ENTRY, b""),
        put(&other_entry, b"\0"),
        put(b"\x03\x02c\0\x02c\0\x022\0\0", b""),
    ];
    for document in [&kept, &changed] {
        operations.push(put(document_key(&document.path), encode_record(document)));
    }
    apply(&store, operations).await;
    clock.advance(1);
    let before = clock.now();
    clock.advance(1);
    let engine = open(&store, &clock).await;
    assert!(engine.check().await.unwrap().is_sound());
    let refused = engine.view_at(before).await.err().unwrap();
    assert!(matches!(refused, Error::FailedPrecondition(_)));
    let converted = engine.view().await.unwrap().read_time();
    clock.advance(SECOND);
    commit(&engine, vec![full("c/2", 9), full("c/3", 3)])
        .await
        .unwrap();
    for (view, wanted) in [
        (
            engine.view_at(converted).await.unwrap(),
            &["c/1", "c/2"][..],
        ),
        (engine.view().await.unwrap(), &["c/1", "c/3"][..]),
    ] {
        let mut query = parts("c");
        query.filter = Some(watchfire_model::Filter::Field {
            field: FieldPath::parse("n").unwrap(),
            operator: watchfire_model::FieldOperator::Equal,
            value: Value::Integer(3),
        });
        let (found, _) = view.query(&Query::new(query).unwrap()).await.unwrap();
        let found: Vec<&str> = found.iter().map(|found| found.path.as_str()).collect();
        assert_eq!(found, wanted);
    }
    let snapshot = store.snapshot().await.unwrap();
    let format = snapshot.get(FORMAT_KEY).await.unwrap();
    assert_eq!(format.as_deref(), Some(&[3_u8][..]));
    // What stood there in the old form is in the history as it was.
    let history = page(store.as_ref(), Keyspace::History).await;
    assert!(history.values().any(|value| value.as_ref() == [0]));
}

#[tokio::test]
async fn a_format_from_the_future_is_refused() {
    let store = old_database().await;
    apply(&store, vec![put(FORMAT_KEY, [4])]).await;
    let opened = Engine::open(database(), store, HandClock::new()).await;
    assert!(matches!(
        opened.map(drop),
        Err(Error::FailedPrecondition(_))
    ));
}

#[tokio::test]
async fn a_database_without_indexes_has_no_rows_for_them() {
    let (store, clock) = (MemoryStore::new(), HandClock::new());
    let engine = open(&store, &clock).await;
    fill(&engine, 3).await;
    let snapshot = store.snapshot().await.unwrap();
    let start = Bytes::from_static(b"\x05index");
    let range = Range {
        end: successor(&start),
        start,
    };
    let rows = snapshot.page(&range, Direction::Forward, 10).await.unwrap();
    assert!(rows.entries.is_empty());
}
