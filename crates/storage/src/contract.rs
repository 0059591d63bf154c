//! The tests that every store passes: one function per promise of `lib.rs`.
//!
//! A store's tests say `crate::store_contract!(open)` (or `watchfire_storage::store_contract!`), where `open` is an async function that gives a guard, which is kept while the test runs, and an empty store.
//! The functions panic where a promise is broken. They never look at how a store works.
//! What a store does after a failed flush stands in `trouble`, for stores that can be made to fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::{Batch, Operation};
use crate::error::Error;
use crate::page::{PAGE_BYTES_MAX, Page};
use crate::range::Range;
use crate::store::{Applied, Counted, Direction, Snapshot, Store};
use crate::version::Version;

/// Makes a test of every promise.
#[macro_export]
macro_rules! store_contract {
    ($open:ident) => {
        $crate::store_contract!($open;
            starts_empty_at_zero,
            shows_what_was_applied,
            later_operation_on_a_key_wins,
            an_empty_batch_moves_the_head,
            a_moved_head_writes_nothing,
            a_batch_must_raise_the_head,
            snapshots_are_isolated,
            pages_stop_at_the_edges,
            pages_follow_one_another,
            pages_are_bounded_in_bytes,
            counting_goes_on_where_it_stopped,
            keys_are_ordered_by_unsigned_bytes,
            concurrent_appliers_take_turns,
            snapshots_are_whole_under_writes,
            a_closed_store_refuses,
            follows_a_long_model,
        );
    };
    ($open:ident; $($name:ident,)*) => {
        mod store_contract {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let (_guard, store) = super::$open().await;
                    $crate::contract::$name(store).await;
                }
            )*
        }
    };
}

pub mod trouble;

fn bytes(text: &[u8]) -> Bytes {
    Bytes::copy_from_slice(text)
}

fn put(key: &[u8], value: &[u8]) -> Operation {
    Operation::Put {
        key: bytes(key),
        value: bytes(value),
    }
}

fn delete(key: &[u8]) -> Operation {
    Operation::Delete { key: bytes(key) }
}

fn range(start: &[u8], end: Option<&[u8]>) -> Range {
    Range {
        start: bytes(start),
        end: end.map(bytes),
    }
}

fn everything() -> Range {
    range(b"", None)
}

async fn snapshot(store: &Arc<dyn Store>) -> Arc<dyn Snapshot> {
    store.snapshot().await.expect("a snapshot")
}

async fn apply(
    store: &Arc<dyn Store>,
    expected: u64,
    version: u64,
    operations: Vec<Operation>,
) -> Applied {
    let batch = Batch {
        version: Version(version),
        operations,
    };
    store
        .apply(Version(expected), batch)
        .await
        .expect("an answer")
}

async fn applied(store: &Arc<dyn Store>, expected: u64, version: u64, operations: Vec<Operation>) {
    assert_eq!(
        apply(store, expected, version, operations).await,
        Applied::Applied
    );
}

async fn get(snapshot: &Arc<dyn Snapshot>, key: &[u8]) -> Option<Bytes> {
    snapshot.get(key).await.expect("a value")
}

async fn page(
    snapshot: &Arc<dyn Snapshot>,
    range: &Range,
    direction: Direction,
    limit: usize,
) -> Page {
    snapshot
        .page(range, direction, limit)
        .await
        .expect("a page")
}

async fn count(snapshot: &Arc<dyn Snapshot>, range: &Range, limit: usize) -> Counted {
    snapshot.count(range, limit).await.expect("counting failed")
}

fn keys(page: &Page) -> Vec<&[u8]> {
    page.entries.iter().map(|(key, _)| key.as_ref()).collect()
}

/// Nothing is there, and the head is zero.
pub async fn starts_empty_at_zero(store: Arc<dyn Store>) {
    let snapshot = snapshot(&store).await;
    assert_eq!(snapshot.version(), Version(0));
    assert_eq!(get(&snapshot, b"").await, None);
    for direction in [Direction::Forward, Direction::Backward] {
        assert_eq!(
            page(&snapshot, &everything(), direction, 10).await,
            Page::default()
        );
    }
    assert_eq!(snapshot.get_many(&[]).await.expect("an answer"), Vec::new());
}

/// Point reads find what was put, and answers line up with the keys.
pub async fn shows_what_was_applied(store: Arc<dyn Store>) {
    applied(
        &store,
        0,
        5,
        vec![put(b"a", b"1"), put(b"b", b""), put(b"", b"empty")],
    )
    .await;
    applied(
        &store,
        5,
        9,
        vec![delete(b"a"), delete(b"missing"), put(b"c", b"3")],
    )
    .await;
    let snapshot = snapshot(&store).await;
    assert_eq!(snapshot.version(), Version(9));
    assert_eq!(get(&snapshot, b"a").await, None);
    assert_eq!(get(&snapshot, b"b").await, Some(Bytes::new()));
    let asked = [
        bytes(b"c"),
        bytes(b"a"),
        bytes(b""),
        bytes(b"c"),
        bytes(b"cc"),
    ];
    let expected = vec![
        Some(bytes(b"3")),
        None,
        Some(bytes(b"empty")),
        Some(bytes(b"3")),
        None,
    ];
    assert_eq!(
        snapshot.get_many(&asked).await.expect("an answer"),
        expected
    );
}

/// Within a batch, order counts.
pub async fn later_operation_on_a_key_wins(store: Arc<dyn Store>) {
    let operations = vec![
        put(b"a", b"1"),
        put(b"a", b"2"),
        delete(b"b"),
        put(b"b", b"3"),
        put(b"c", b"4"),
        delete(b"c"),
    ];
    applied(&store, 0, 1, operations).await;
    let snapshot = snapshot(&store).await;
    assert_eq!(get(&snapshot, b"a").await, Some(bytes(b"2")));
    assert_eq!(get(&snapshot, b"b").await, Some(bytes(b"3")));
    assert_eq!(get(&snapshot, b"c").await, None);
    assert_eq!(
        keys(&page(&snapshot, &everything(), Direction::Forward, 10).await),
        [b"a", b"b"]
    );
}

/// A batch without operations is a batch.
pub async fn an_empty_batch_moves_the_head(store: Arc<dyn Store>) {
    applied(&store, 0, 1_700_000_000_000_000, Vec::new()).await;
    assert_eq!(
        snapshot(&store).await.version(),
        Version(1_700_000_000_000_000)
    );
}

/// Who expected another head learns the true one, and left nothing behind.
pub async fn a_moved_head_writes_nothing(store: Arc<dyn Store>) {
    applied(&store, 0, 5, vec![put(b"a", b"1")]).await;
    for expected in [0, 4, 6] {
        let answer = apply(&store, expected, 10, vec![put(b"a", b"2"), put(b"b", b"2")]).await;
        assert_eq!(answer, Applied::HeadMoved(Version(5)));
    }
    let snapshot = snapshot(&store).await;
    assert_eq!(snapshot.version(), Version(5));
    assert_eq!(get(&snapshot, b"a").await, Some(bytes(b"1")));
    assert_eq!(get(&snapshot, b"b").await, None);
}

/// A version that does not rise is a bug, and panics.
pub async fn a_batch_must_raise_the_head(store: Arc<dyn Store>) {
    let task = tokio::spawn(async move {
        let batch = Batch {
            version: Version(3),
            operations: Vec::new(),
        };
        store.apply(Version(3), batch).await
    });
    assert!(task.await.expect_err("a panic").is_panic());
}

/// A snapshot does not see what is applied later.
pub async fn snapshots_are_isolated(store: Arc<dyn Store>) {
    let empty = snapshot(&store).await;
    applied(&store, 0, 1, vec![put(b"a", b"1"), put(b"b", b"1")]).await;
    let first = snapshot(&store).await;
    applied(
        &store,
        1,
        2,
        vec![put(b"a", b"2"), delete(b"b"), put(b"c", b"2")],
    )
    .await;
    let second = snapshot(&store).await;
    for version in 3..50 {
        applied(
            &store,
            version - 1,
            version,
            vec![put(b"a", b"x"), put(b"b", b"x"), delete(b"c")],
        )
        .await;
    }
    assert_eq!(
        page(&empty, &everything(), Direction::Forward, 9).await,
        Page::default()
    );
    assert_eq!(get(&empty, b"a").await, None);
    assert_eq!(
        keys(&page(&first, &everything(), Direction::Backward, 9).await),
        [b"b", b"a"]
    );
    assert_eq!(get(&first, b"a").await, Some(bytes(b"1")));
    assert_eq!(
        keys(&page(&second, &everything(), Direction::Forward, 9).await),
        [b"a", b"c"]
    );
    assert_eq!(get(&second, b"b").await, None);
    assert_eq!(
        (empty.version(), first.version(), second.version()),
        (Version(0), Version(1), Version(2))
    );
}

/// Bounds, limits and `more` at the first and last key, both ways.
pub async fn pages_stop_at_the_edges(store: Arc<dyn Store>) {
    // Start, end, limit; the keys forward and backward, and whether there is more.
    type Case<'a> = (&'a [u8], Option<&'a [u8]>, usize, &'a str, &'a str, bool);

    let operations = [b"b" as &[u8], b"d", b"f", b"h"]
        .iter()
        .map(|key| put(key, b"v"))
        .collect();
    applied(&store, 0, 1, operations).await;
    let snapshot = snapshot(&store).await;
    let cases: [Case<'_>; 15] = [
        (b"", None, 4, "bdfh", "hfdb", false),
        (b"", None, 5, "bdfh", "hfdb", false),
        (b"", None, 3, "bdf", "hfd", true),
        (b"", None, 1, "b", "h", true),
        (b"b", Some(b"h"), 9, "bdf", "fdb", false),
        (b"b", Some(b"h"), 3, "bdf", "fdb", false),
        (b"b", Some(b"h"), 2, "bd", "fd", true),
        (b"b\x00", Some(b"h\x00"), 9, "dfh", "hfd", false),
        (b"c", Some(b"e"), 1, "d", "d", false),
        (b"d", Some(b"d"), 9, "", "", false),
        (b"f", Some(b"b"), 9, "", "", false),
        (b"i", None, 9, "", "", false),
        (b"", Some(b"b"), 9, "", "", false),
        (b"h", None, 9, "h", "h", false),
        (b"", Some(b""), 9, "", "", false),
    ];
    for (start, end, limit, forward, backward, more) in cases {
        let range = range(start, end);
        for (direction, expected) in [
            (Direction::Forward, forward),
            (Direction::Backward, backward),
        ] {
            let page = page(&snapshot, &range, direction, limit).await;
            assert_eq!(
                (keys(&page).concat(), page.more),
                (expected.as_bytes().to_vec(), more),
                "{range:?} {direction:?} {limit}"
            );
        }
    }
}

/// A range read page by page gives every key once, in order, both ways.
pub async fn pages_follow_one_another(store: Arc<dyn Store>) {
    let operations = (0..1000u32)
        .map(|number| put(&number.to_be_bytes(), b"v"))
        .collect();
    applied(&store, 0, 1, operations).await;
    let snapshot = snapshot(&store).await;
    let mut expected: Vec<Bytes> = (0..1000u32)
        .map(|number| bytes(&number.to_be_bytes()))
        .collect();
    for direction in [Direction::Forward, Direction::Backward] {
        let mut range = everything();
        let mut seen = Vec::new();
        loop {
            let page = page(&snapshot, &range, direction, 7).await;
            seen.extend(page.entries.iter().map(|(key, _)| key.clone()));
            let Some(last) = seen.last().filter(|_| page.more) else {
                break;
            };
            match direction {
                Direction::Forward => range.start = [last.as_ref(), &[0]].concat().into(),
                Direction::Backward => range.end = Some(last.clone()),
            }
        }
        assert_eq!(seen, expected);
        expected.reverse();
    }
}

/// A page of large values ends early and says so; one value larger than a page comes alone.
pub async fn pages_are_bounded_in_bytes(store: Arc<dyn Store>) {
    let half = vec![7u8; PAGE_BYTES_MAX / 2];
    let whole = vec![7u8; PAGE_BYTES_MAX + 1];
    applied(
        &store,
        0,
        1,
        vec![
            put(b"a", &half),
            put(b"b", &half),
            put(b"c", &whole),
            put(b"d", b""),
        ],
    )
    .await;
    let snapshot = snapshot(&store).await;
    let first = page(&snapshot, &everything(), Direction::Forward, 9).await;
    assert_eq!((keys(&first), first.more), (vec![b"a" as &[u8]], true));
    let third = page(&snapshot, &range(b"c", None), Direction::Forward, 9).await;
    assert_eq!((keys(&third), third.more), (vec![b"c" as &[u8]], true));
    let last = page(&snapshot, &everything(), Direction::Backward, 9).await;
    assert_eq!((keys(&last), last.more), (vec![b"d" as &[u8]], true));
}

/// Counting sees the keys of the range and of the snapshot, and says where it goes on.
pub async fn counting_goes_on_where_it_stopped(store: Arc<dyn Store>) {
    let key = |n: u32| n.to_be_bytes().to_vec();
    let operations = (0..3_000).map(|n| put(&key(n), b"v")).collect();
    applied(&store, 0, 1, operations).await;
    let before = snapshot(&store).await;
    applied(&store, 1, 2, vec![delete(&key(7)), put(&key(9_000), b"v")]).await;
    let after = snapshot(&store).await;
    for (snapshot, of_all, below_ten) in [(&before, 3_000, 10), (&after, 3_000, 9)] {
        for limit in [1, 7, 1_024, 2_999, 3_000, usize::MAX] {
            let mut range = everything();
            let mut keys = 0;
            loop {
                let counted = count(snapshot, &range, limit).await;
                assert!(counted.keys <= limit);
                keys += counted.keys;
                let Some(next) = counted.next else { break };
                assert_eq!(counted.keys, limit);
                assert!(get(snapshot, &next).await.is_some());
                range.start = next;
            }
            assert_eq!(keys, of_all, "in steps of {limit}");
        }
        let few = range(&key(0), Some(&key(10)));
        let counted = count(snapshot, &few, 100).await;
        assert_eq!((counted.keys, counted.next), (below_ten, None));
        let exactly = count(snapshot, &few, below_ten).await;
        assert_eq!((exactly.keys, exactly.next), (below_ten, None));
        let none = range(&key(10), Some(&key(3)));
        assert_eq!(count(snapshot, &none, 1).await.keys, 0);
    }
}

/// No byte is special in a key.
pub async fn keys_are_ordered_by_unsigned_bytes(store: Arc<dyn Store>) {
    let sorted: [&[u8]; 9] = [
        b"",
        b"\x00",
        b"\x00\x00",
        b"\x00\xff",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\xff\xff",
        b"\xff\xff\xff\xff\xff",
    ];
    applied(
        &store,
        0,
        1,
        sorted.iter().rev().map(|key| put(key, key)).collect(),
    )
    .await;
    let snapshot = snapshot(&store).await;
    assert_eq!(
        keys(&page(&snapshot, &everything(), Direction::Forward, 99).await),
        sorted
    );
    let mut backward = sorted;
    backward.reverse();
    assert_eq!(
        keys(&page(&snapshot, &everything(), Direction::Backward, 99).await),
        backward
    );
    let inside = page(&snapshot, &Range::prefix(b"\xff"), Direction::Backward, 99).await;
    assert_eq!(inside.entries.len(), 3);
}

/// Many tasks add to one counter; the head lets none of them lose an addition.
pub async fn concurrent_appliers_take_turns(store: Arc<dyn Store>) {
    const TASKS: u64 = 8;
    const ADDITIONS: u64 = 25;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut added = 0;
            while added < ADDITIONS {
                let snapshot = snapshot(&store).await;
                let head = snapshot.version().0;
                let count = get(&snapshot, b"count")
                    .await
                    .map_or(0, |value| number(&value));
                let operations = vec![put(b"count", &(count + 1).to_be_bytes())];
                match apply(&store, head, head + 1, operations).await {
                    Applied::Applied => added += 1,
                    Applied::HeadMoved(moved) => assert!(moved.0 > head),
                }
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("no panic");
    }
    let snapshot = snapshot(&store).await;
    assert_eq!(snapshot.version(), Version(TASKS * ADDITIONS));
    assert_eq!(
        get(&snapshot, b"count").await.map(|value| number(&value)),
        Some(TASKS * ADDITIONS)
    );
}

fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(value.try_into().expect("eight bytes"))
}

/// While batches are written, every snapshot shows exactly the batch whose version it carries.
pub async fn snapshots_are_whole_under_writes(store: Arc<dyn Store>) {
    const BATCHES: u64 = 200;
    let writing = Arc::clone(&store);
    let writer = tokio::spawn(async move {
        for version in 1..=BATCHES {
            let value = version.to_be_bytes();
            applied(
                &writing,
                version - 1,
                version,
                vec![put(b"a", &value), put(b"z", &value)],
            )
            .await;
        }
    });
    let mut last = Version(0);
    while last < Version(BATCHES) {
        let snapshot = snapshot(&store).await;
        assert!(snapshot.version() >= last);
        last = snapshot.version();
        let expected = (last > Version(0)).then_some(last.0);
        for key in [b"a", b"z"] {
            assert_eq!(
                get(&snapshot, key).await.map(|value| number(&value)),
                expected
            );
        }
        tokio::task::yield_now().await;
    }
    writer.await.expect("no panic");
}

/// After `close` everything is refused; what was taken before stays.
pub async fn a_closed_store_refuses(store: Arc<dyn Store>) {
    applied(&store, 0, 1, vec![put(b"a", b"1")]).await;
    let before = snapshot(&store).await;
    store.close().await.expect("closed");
    store.close().await.expect("closing twice is no error");
    assert!(matches!(store.snapshot().await, Err(Error::Closed)));
    let batch = Batch {
        version: Version(2),
        operations: Vec::new(),
    };
    assert!(matches!(
        store.apply(Version(1), batch).await,
        Err(Error::Closed)
    ));
    assert_eq!(get(&before, b"a").await, Some(bytes(b"1")));
}

/// One step of a run that is compared with the model.
#[derive(Clone, Debug)]
pub enum Step {
    /// Puts (or deletes, where there is no value) each key.
    Apply(Vec<(Vec<u8>, Option<u8>)>),
    /// Takes a snapshot and keeps it.
    Snapshot,
    /// Lets go of one of the kept snapshots.
    Release(usize),
    /// Reads a page of one of the kept snapshots, or of a new one.
    Page {
        /// Chooses the snapshot.
        snapshot: usize,
        /// The first key of the range.
        start: Vec<u8>,
        /// The end of the range.
        end: Option<Vec<u8>>,
        /// Whether to scan from the end.
        backward: bool,
        /// At least one.
        limit: usize,
    },
}

type Model = BTreeMap<Bytes, Bytes>;

/// Does the steps on the store and on plain copies of a map, and compares.
pub async fn follows_model(store: Arc<dyn Store>, steps: Vec<Step>) {
    let mut model = Model::new();
    let mut head = 0;
    let mut kept: Vec<(Arc<dyn Snapshot>, Model)> = Vec::new();
    for step in steps {
        match step {
            Step::Apply(changes) => {
                let operations = changes
                    .iter()
                    .map(|(key, value)| {
                        value.map_or_else(|| delete(key), |value| put(key, &[value]))
                    })
                    .collect();
                applied(&store, head, head + 1, operations).await;
                head += 1;
                for (key, value) in changes {
                    match value {
                        Some(value) => model.insert(Bytes::from(key), bytes(&[value])),
                        None => model.remove(key.as_slice()),
                    };
                }
            }
            Step::Snapshot => kept.push((snapshot(&store).await, model.clone())),
            Step::Release(chosen) => {
                if !kept.is_empty() {
                    kept.swap_remove(chosen % kept.len());
                }
            }
            Step::Page {
                snapshot: chosen,
                start,
                end,
                backward,
                limit,
            } => {
                let (snapshot, model) = match kept.get(chosen % (kept.len() + 1)) {
                    Some((snapshot, model)) => (Arc::clone(snapshot), model),
                    None => (snapshot(&store).await, &model),
                };
                let range = range(&start, end.as_deref());
                compare(&snapshot, model, &range, backward, limit).await;
            }
        }
    }
    for (snapshot, model) in &kept {
        compare(snapshot, model, &everything(), false, usize::MAX).await;
    }
    compare(
        &snapshot(&store).await,
        &model,
        &everything(),
        true,
        usize::MAX,
    )
    .await;
}

async fn compare(
    snapshot: &Arc<dyn Snapshot>,
    model: &Model,
    range: &Range,
    backward: bool,
    limit: usize,
) {
    let mut expected: Vec<(Bytes, Bytes)> = model
        .iter()
        .filter(|(key, _)| range.contains(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if backward {
        expected.reverse();
    }
    let more = expected.len() > limit;
    expected.truncate(limit);
    let direction = if backward {
        Direction::Backward
    } else {
        Direction::Forward
    };
    assert_eq!(
        page(snapshot, range, direction, limit).await,
        Page {
            entries: expected,
            more
        }
    );
    let value = get(snapshot, &range.start).await;
    assert_eq!(value.as_ref(), model.get(&range.start));
}

/// A long run of steps that always are the same.
pub async fn follows_a_long_model(store: Arc<dyn Store>) {
    let mut seed = 1u64;
    let mut next = move |bound: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    let mut steps = Vec::new();
    for _ in 0..600 {
        let key = |next: &mut dyn FnMut(u64) -> u64| next(64).to_be_bytes().to_vec();
        steps.push(match next(8) {
            0..3 => Step::Apply(
                (0..next(6))
                    .map(|_| {
                        (
                            key(&mut next),
                            Some(next(9) as u8).filter(|value| *value > 2),
                        )
                    })
                    .collect(),
            ),
            3 => Step::Snapshot,
            4 => Step::Release(next(100) as usize),
            _ => Step::Page {
                snapshot: next(100) as usize,
                start: key(&mut next),
                end: Some(key(&mut next)).filter(|_| next(4) > 0),
                backward: next(2) == 0,
                limit: 1 + next(9) as usize,
            },
        });
    }
    follows_model(store, steps).await;
}
