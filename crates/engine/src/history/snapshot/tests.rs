//! Every version that was ever committed reads as it was, by any key, range, direction and limit.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use watchfire_model::{Document, DocumentPath, Timestamp, Value};
use watchfire_storage::memory::MemoryStore;
use watchfire_storage::{Batch, Operation, Store};

use super::*;
use crate::changelog::entry::{EncodedChange, encode_entry};
use crate::history::{Unknown, complete};
use crate::keyspace::{document_key, history_key};
use crate::record::encode_record;
use crate::stamp::stamped;

type Map = BTreeMap<Bytes, Bytes>;

/// A store that keeps history by the rules, and beside it what it held at every version.
struct World {
    store: Arc<MemoryStore>,
    now: Map,
    kept: Vec<(Version, Map)>,
}

#[derive(Clone, Debug)]
enum Change {
    /// A key like those of indexes gets or loses something.
    Entry(Bytes, Option<u8>),
    /// A document gets a text of this length, or is deleted.
    Document(usize, Option<usize>),
}

const PATHS: [&str; 4] = ["c/a", "c/a/d/x", "c/b", "e/a"];

fn entry_key() -> impl Strategy<Value = Bytes> {
    let first = prop::sample::select(vec![2_u8, 3, 6, 7]);
    let rest = prop::collection::vec(prop::sample::select(vec![0_u8, 1, 255]), 0..3);
    (first, rest).prop_map(|(first, rest)| Bytes::from([vec![first], rest].concat()))
}

fn bound() -> impl Strategy<Value = Bytes> {
    let first = prop::sample::select(vec![0_u8, 1, 2, 3, 6, 7, 8]);
    let rest = prop::collection::vec(prop::sample::select(vec![0_u8, 1, 255]), 0..4);
    prop_oneof![
        3 => (first, rest).prop_map(|(first, rest)| Bytes::from([vec![first], rest].concat())),
        1 => prop::sample::select(PATHS.to_vec()).prop_map(|path| document_key(&DocumentPath::parse(path).unwrap())),
        1 => Just(Bytes::new()),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let large = prop_oneof![20 => 0..3_usize, 1 => Just(PAGE_BYTES_MAX - 100)];
    prop_oneof![
        3 => (entry_key(), prop::option::of(0..9_u8)).prop_map(|(key, to)| Change::Entry(key, to)),
        2 => (0..PATHS.len(), prop::option::of(large)).prop_map(|(at, to)| Change::Document(at, to)),
    ]
}

impl World {
    fn new() -> Self {
        Self {
            store: MemoryStore::new(),
            now: Map::new(),
            kept: vec![(Version(0), Map::new())],
        }
    }

    async fn commit(&mut self, changes: Vec<Change>) {
        let (head, _) = self.kept[self.kept.len() - 1];
        let version = Version(head.0 + 3);
        let mut touched = BTreeSet::new();
        let (mut operations, mut unknown) = (Vec::new(), Vec::new());
        let mut encoded = Vec::new();
        for change in changes {
            let (key, value) = match change {
                Change::Entry(key, to) => {
                    // One more byte than fills a vector's number, now and then.
                    let value = to.map(|to| stamped(version, &vec![to; usize::from(to)]));
                    (key, value)
                }
                Change::Document(at, to) => {
                    let path = DocumentPath::parse(PATHS[at]).unwrap();
                    (
                        document_key(&path),
                        to.map(|len| record(&path, version, len)),
                    )
                }
            };
            if !touched.insert(key.clone()) {
                continue;
            }
            let old = self.now.get(&key).cloned();
            let history = history_key(&key, version);
            if key[0] == 1 {
                let (path, _) = decode_path(&key[1..]).unwrap();
                if let Some(old) = &old {
                    let value = stamped(since(&key, old).unwrap(), &[]);
                    operations.push(Operation::Put {
                        key: history,
                        value,
                    });
                }
                encoded.push(EncodedChange {
                    path,
                    before: old,
                    after: value.clone(),
                });
            } else if old.is_some() || key.len() == 1 {
                unknown.push(Unknown {
                    key: key.clone(),
                    history,
                });
            }
            match value {
                Some(value) => {
                    self.now.insert(key.clone(), value.clone());
                    operations.push(Operation::Put { key, value });
                }
                None => {
                    self.now.remove(&key);
                    operations.push(Operation::Delete { key });
                }
            }
        }
        operations.push(Operation::Put {
            key: changelog_key(version),
            value: encode_entry(&encoded),
        });
        let batch = Batch {
            version,
            operations,
        };
        let batch = complete(self.store.as_ref(), head, batch, unknown)
            .await
            .unwrap();
        self.store.apply(head, batch).await.unwrap();
        self.kept.push((version, self.now.clone()));
    }

    async fn past(&self, version: Version) -> PastSnapshot {
        PastSnapshot::new(self.store.snapshot().await.unwrap(), version)
    }
}

fn record(path: &DocumentPath, version: Version, len: usize) -> Bytes {
    encode_record(&Document {
        path: path.clone(),
        create_time: Timestamp::EPOCH,
        update_time: Timestamp::from_micros(i64::try_from(version.0).unwrap()).unwrap(),
        fields: [("f".to_owned(), Value::String("x".repeat(len)))].into(),
    })
}

async fn plain(map: &Map) -> Arc<dyn Snapshot> {
    let store = MemoryStore::new();
    let operations = map.iter().map(|(key, value)| Operation::Put {
        key: key.clone(),
        value: value.clone(),
    });
    let batch = Batch {
        version: Version(1),
        operations: operations.collect(),
    };
    store.apply(Version(0), batch).await.unwrap();
    store.snapshot().await.unwrap()
}

/// Parts of which there is history.
fn parts(range: &Range) -> Vec<Range> {
    let parts = [
        Keyspace::Document,
        Keyspace::Index,
        Keyspace::Group,
        Keyspace::GroupIndex,
        Keyspace::Defined,
    ];
    let parts = parts.map(|part| {
        let part = part.range();
        Range {
            start: part.start.max(range.start.clone()),
            end: match &range.end {
                Some(end) => part.end.map(|part| part.min(end.clone())),
                None => part.end,
            },
        }
    });
    parts.into()
}

async fn check(
    commits: Vec<Vec<Change>>,
    ranges: Vec<(Bytes, Option<Bytes>)>,
    limit: usize,
    between: u64,
) {
    let mut world = World::new();
    for changes in commits {
        world.commit(changes).await;
    }
    let keys: BTreeSet<Bytes> = world
        .kept
        .iter()
        .flat_map(|(_, map)| map.keys())
        .cloned()
        .collect();
    let keys: Vec<Bytes> = keys.into_iter().collect();
    for (version, map) in &world.kept {
        // Between two commits everything is as the first one left it.
        let past = world.past(Version(version.0 + between)).await;
        let plain = plain(map).await;
        let wanted: Vec<Option<Bytes>> = keys.iter().map(|key| map.get(key).cloned()).collect();
        assert!(past.get_many(&keys).await.unwrap() == wanted);
        for (key, value) in keys.iter().zip(&wanted) {
            assert!(&past.get(key).await.unwrap() == value);
        }
        for (start, end) in &ranges {
            let range = Range {
                start: start.clone(),
                end: end.clone(),
            };
            for range in parts(&range) {
                for direction in [Direction::Forward, Direction::Backward] {
                    assert!(
                        past.page(&range, direction, limit).await.unwrap()
                            == plain.page(&range, direction, limit).await.unwrap(),
                        "{range:?} {direction:?} {limit} at {version:?}"
                    );
                }
                assert_eq!(
                    past.count(&range, limit).await.unwrap(),
                    plain.count(&range, limit).await.unwrap()
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_version_reads_as_it_was(
        commits in prop::collection::vec(prop::collection::vec(change(), 0..5), 1..30),
        ranges in prop::collection::vec((bound(), prop::option::of(bound())), 1..6),
        limit in prop_oneof![4 => 1..6_usize, 1 => Just(1_000)],
        between in 0..3_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(commits, ranges, limit, between));
    }
}

/// A snapshot that counts what it is asked.
struct Counting {
    inner: Arc<dyn Snapshot>,
    pages: std::sync::atomic::AtomicUsize,
    entries: std::sync::atomic::AtomicUsize,
    commits: std::sync::atomic::AtomicUsize,
}

#[async_trait]
impl Snapshot for Counting {
    fn version(&self) -> Version {
        self.inner.version()
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        if key.first() == Some(&Keyspace::Changelog.byte()) {
            self.commits
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Error> {
        self.inner.get_many(keys).await
    }

    async fn page(&self, range: &Range, direction: Direction, limit: usize) -> Result<Page, Error> {
        let page = self.inner.page(range, direction, limit).await?;
        self.pages
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.entries
            .fetch_add(page.entries.len(), std::sync::atomic::Ordering::Relaxed);
        Ok(page)
    }
}

/// However often keys were changed, they cost a few pages each.
#[tokio::test]
async fn what_was_changed_often_is_not_walked() {
    let mut world = World::new();
    let hot: Vec<Bytes> = (0..3_u8).map(|key| Bytes::from(vec![2, key])).collect();
    for round in 0..2_000_usize {
        let entry = |key: &Bytes| Change::Entry(key.clone(), (round % 2 == 0).then_some(1));
        let mut changes: Vec<Change> = hot.iter().map(entry).collect();
        changes.push(Change::Document(0, Some(round % 3)));
        world.commit(changes).await;
    }
    for (version, map) in world.kept.iter().step_by(97) {
        for part in [Keyspace::Document, Keyspace::Index] {
            for direction in [Direction::Forward, Direction::Backward] {
                let counting = Arc::new(Counting {
                    inner: world.store.snapshot().await.unwrap(),
                    pages: 0.into(),
                    entries: 0.into(),
                    commits: 0.into(),
                });
                let past = PastSnapshot::new(Arc::clone(&counting) as Arc<dyn Snapshot>, *version);
                let page = past.page(&part.range(), direction, 10).await.unwrap();
                let expected = map.keys().filter(|key| part.range().contains(key)).count();
                assert_eq!(page.entries.len(), expected);
                let pages = counting.pages.load(std::sync::atomic::Ordering::Relaxed);
                let entries = counting.entries.load(std::sync::atomic::Ordering::Relaxed);
                assert!(
                    pages <= 20 && entries <= 200,
                    "{pages} pages, {entries} entries"
                );
            }
        }
    }
}

/// A commit may be a thousand times as large as one of its documents.
#[tokio::test]
async fn commits_of_many_documents_are_read_once() {
    let mut world = World::new();
    let changes = |documents: [usize; 2], len| {
        let change = |at| Change::Document(at, Some(len));
        documents.map(change).to_vec()
    };
    world.commit(changes([0, 2], 1)).await;
    world.commit(changes([1, 3], 1)).await;
    let (version, before) = world.kept[2].clone();
    world.commit(changes([0, 2], 2)).await;
    world.commit(changes([1, 3], 2)).await;
    let counting = Arc::new(Counting {
        inner: world.store.snapshot().await.unwrap(),
        pages: 0.into(),
        entries: 0.into(),
        commits: 0.into(),
    });
    let past = PastSnapshot::new(Arc::clone(&counting) as Arc<dyn Snapshot>, version);
    let read = || counting.commits.load(std::sync::atomic::Ordering::Relaxed);
    let all = Keyspace::Document.range();
    let page = past.page(&all, Direction::Forward, 10).await.unwrap();
    assert_eq!(Map::from_iter(page.entries), before);
    assert_eq!(read(), 2);
    let keys: Vec<Bytes> = before.keys().cloned().collect();
    let values = past.get_many(&keys).await.unwrap();
    assert!(values.into_iter().flatten().eq(before.into_values()));
    assert_eq!(read(), 4);
}

#[tokio::test]
async fn a_history_that_cannot_be_read_says_so() {
    let mut world = World::new();
    world.commit(vec![Change::Document(0, Some(1))]).await;
    let (at, _) = world.kept[1];
    world.commit(vec![Change::Document(0, Some(2))]).await;
    let (head, _) = world.kept[2];
    let batch = Batch {
        version: Version(head.0 + 1),
        operations: vec![
            Operation::Delete {
                key: changelog_key(head),
            },
            Operation::Put {
                key: Bytes::from_static(b"\x08\x02x"),
                value: Bytes::new(),
            },
        ],
    };
    world.store.apply(head, batch).await.unwrap();
    let past = world.past(at).await;
    let key = document_key(&DocumentPath::parse(PATHS[0]).unwrap());
    assert!(matches!(past.get(&key).await, Err(Error::Corrupt(_))));
    let page = past
        .page(&Keyspace::Index.range(), Direction::Forward, 1)
        .await;
    assert!(matches!(page, Err(Error::Corrupt(_))));
}
