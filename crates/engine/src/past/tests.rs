//! Reads of an overlay against a plain map.

use proptest::prelude::*;
use watchfire_storage::memory::MemoryStore;
use watchfire_storage::{Batch, Operation, Store};

use super::*;
use crate::changelog::entry::{EncodedChange, encode_entry};
use crate::keyspace::changelog_key;

type Map = BTreeMap<Bytes, Bytes>;

fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(prop::sample::select(vec![0_u8, 1, 255]), 0..4).prop_map(Bytes::from)
}

fn map<V: std::fmt::Debug>(
    value: impl Strategy<Value = V>,
) -> impl Strategy<Value = BTreeMap<Bytes, V>> {
    prop::collection::btree_map(key(), value, 0..12)
}

async fn seen_through(base: &Map, overlay: BTreeMap<Bytes, Option<Bytes>>) -> PastSnapshot {
    let store = MemoryStore::new();
    let operations = base.iter().map(|(key, value)| Operation::Put {
        key: key.clone(),
        value: value.clone(),
    });
    let batch = Batch {
        version: Version(2),
        operations: operations.collect(),
    };
    store.apply(Version(0), batch).await.unwrap();
    PastSnapshot {
        present: store.snapshot().await.unwrap(),
        version: Version(1),
        overlay,
        _taken: None,
    }
}

fn value() -> impl Strategy<Value = Bytes> {
    // Some are as large as a page, so that pages end early.
    prop_oneof![
        8 => Just(Bytes::from_static(b"v")),
        1 => Just(Bytes::from(vec![7; PAGE_BYTES_MAX - 2])),
    ]
}

async fn check(
    base: Map,
    overlay: BTreeMap<Bytes, Option<Bytes>>,
    range: Range,
    direction: Direction,
    limit: usize,
) {
    let mut expected = base.clone();
    for (key, value) in &overlay {
        match value {
            Some(value) => expected.insert(key.clone(), value.clone()),
            None => expected.remove(key),
        };
    }
    let keys: Vec<Bytes> = base.keys().chain(overlay.keys()).cloned().collect();
    let past = seen_through(&base, overlay).await;
    assert_eq!(past.version(), Version(1));
    let wanted: Vec<Option<Bytes>> = keys.iter().map(|key| expected.get(key).cloned()).collect();
    assert_eq!(past.get_many(&keys).await.unwrap(), wanted);
    for (key, value) in keys.iter().zip(&wanted) {
        assert_eq!(&past.get(key).await.unwrap(), value);
    }

    let store = MemoryStore::new();
    let operations = expected
        .into_iter()
        .map(|(key, value)| Operation::Put { key, value })
        .collect();
    let version = Version(1);
    store
        .apply(
            Version(0),
            Batch {
                version,
                operations,
            },
        )
        .await
        .unwrap();
    let plain = store.snapshot().await.unwrap();
    assert_eq!(
        past.page(&range, direction, limit).await.unwrap(),
        plain.page(&range, direction, limit).await.unwrap()
    );
    assert_eq!(
        past.count(&range, limit).await.unwrap(),
        plain.count(&range, limit).await.unwrap()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn an_overlaid_snapshot_reads_as_if_it_had_been_stored(
        base in map(value()),
        overlay in map(prop::option::of(value())),
        start in key(),
        end in prop::option::of(key()),
        backward in any::<bool>(),
        limit in 1..8_usize,
    ) {
        let direction = if backward { Direction::Backward } else { Direction::Forward };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(base, overlay, Range { start, end }, direction, limit));
    }
}

fn document(bytes: usize) -> Option<Arc<Document>> {
    let time = watchfire_model::Timestamp::EPOCH;
    let text = watchfire_model::Value::String("x".repeat(bytes));
    Some(Arc::new(Document {
        path: DocumentPath::parse("c/d").unwrap(),
        create_time: time,
        update_time: time,
        fields: [("f".to_owned(), text)].into(),
    }))
}

#[test]
fn what_is_taken_is_bounded_and_given_back() {
    let room = Room::default();
    let mut taken = Taken::new(Arc::clone(&room.kib));
    let mut changed = BTreeMap::new();
    // The same document again and again: only its two ends are kept.
    for _ in 0..500 {
        let change = Change {
            path: DocumentPath::parse("c/d").unwrap(),
            before: document(1 << 20),
            after: document(1 << 20),
        };
        add_change(&mut changed, &change, &mut taken).unwrap();
    }
    assert_eq!(changed.len(), 1);
    assert!(taken.bytes < 3 << 20);
    assert!(matches!(
        taken.add(OVERLAY_BYTES_MAX),
        Err(Error::ResourceExhausted(_))
    ));
    let overlay = undo(
        changed,
        &Catalog::default(),
        &mut Taken::new(Arc::clone(&room.kib)),
    )
    .unwrap();
    assert!(overlay.len() >= 2);

    // Together they have a bound of their own.
    let mut others = Vec::new();
    for _ in 0..OVERLAYS_KIB_MAX / (OVERLAY_BYTES_MAX >> 10) {
        let mut other = Taken::new(Arc::clone(&room.kib));
        let _ = other.add(OVERLAY_BYTES_MAX);
        others.push(other);
    }
    let mut late = Taken::new(Arc::clone(&room.kib));
    assert!(late.add(OVERLAY_BYTES_MAX).is_err());
    drop(others);
    drop(taken);
    let mut late = Taken::new(Arc::clone(&room.kib));
    late.add(OVERLAY_BYTES_MAX).unwrap();

    // What was only needed on the way is free again.
    late.give_back(OVERLAY_BYTES_MAX - (5 << 10));
    let held = late.finish().unwrap();
    assert_eq!(held.num_permits(), 5);
    assert_eq!(room.kib.available_permits(), OVERLAYS_KIB_MAX - 5);
    drop(held);
    assert_eq!(room.kib.available_permits(), OVERLAYS_KIB_MAX);
}

#[tokio::test]
async fn commits_that_are_looked_back_over_are_bounded() {
    let store = MemoryStore::new();
    for version in 1..=5 {
        let stored = encode_entry(&[EncodedChange {
            path: DocumentPath::parse("c/d").unwrap(),
            before: None,
            after: None,
        }]);
        let batch = Batch {
            version: Version(version),
            operations: vec![Operation::Put {
                key: changelog_key(Version(version)),
                value: stored,
            }],
        };
        store.apply(Version(version - 1), batch).await.unwrap();
    }
    let snapshot = store.snapshot().await.unwrap();
    let room = Room::default();
    for (since, max, passes) in [(0, 5, true), (0, 4, false), (2, 3, true), (2, 2, false)] {
        let mut taken = Taken::new(Arc::clone(&room.kib));
        let changed = changed_since(snapshot.as_ref(), Version(since), max, &mut taken).await;
        match changed {
            Ok(changed) => assert!(passes && changed.len() == 1),
            Err(error) => assert!(!passes && matches!(error, Error::ResourceExhausted(_))),
        }
    }
}

#[test]
fn a_page_looks_at_no_more_of_the_overlay_than_it_shows() {
    let overlay: Vec<(Bytes, Option<Bytes>)> = (0_u32..1_000)
        .map(|key| (Bytes::from(key.to_be_bytes().to_vec()), Some(Bytes::new())))
        .collect();
    for direction in [Direction::Forward, Direction::Backward] {
        let mut looked_at = 0;
        let over = overlay.iter().inspect(|_| looked_at += 1);
        let shown = merge(Vec::new(), over.map(|(key, value)| (key, value)), direction).take(3);
        assert_eq!(shown.count(), 3);
        assert!(looked_at <= 4, "{looked_at} keys for three");
    }
}
