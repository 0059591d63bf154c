//! One database with its history: what it must answer, and what its index must hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use watchfire_engine::definition::{Definition, IndexId};
use watchfire_engine::index::catalog::{
    Catalog, FieldConfig, FieldKey, IndexState, OperationState,
};
use watchfire_engine::keyspace::Keyspace;
use watchfire_engine::stamp::contents;
use watchfire_engine::{Engine, Receipt, Settings, Start, Version};
use watchfire_model::{
    Clock, Document, DocumentPath, Operation, Precondition, Timestamp, Value, Write,
};
use watchfire_storage::memory::MemoryStore;
use watchfire_storage::{Applied, Batch, Direction, Error, Snapshot, Store};

use crate::data::database;

/// How often the committer is given a turn before work on indexes counts as stuck.
const TURNS_MAX: usize = 200_000;

/// Moves by itself a little with each look, so that versions differ.
pub struct Ticking(AtomicI64);

impl Ticking {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(1_700_000_000_000_000)))
    }
}

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.fetch_add(100, Ordering::Relaxed)).unwrap()
    }
}

/// A memory store that outlives the database that is open on it.
pub struct Kept(Arc<MemoryStore>);

impl Kept {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(MemoryStore::new()))
    }
}

#[async_trait]
impl Store for Kept {
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, Error> {
        self.0.snapshot().await
    }
    async fn apply(&self, expected_head: Version, batch: Batch) -> Result<Applied, Error> {
        self.0.apply(expected_head, batch).await
    }
    async fn checkpoint(&self, directory: &Path) -> Result<(), Error> {
        self.0.checkpoint(directory).await
    }
    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

pub type State = BTreeMap<DocumentPath, Arc<Document>>;

/// Every state that was committed, by version.
pub struct History {
    states: BTreeMap<Version, Arc<State>>,
}

impl History {
    pub fn new() -> Self {
        Self {
            states: BTreeMap::from([(Version(0), Arc::default())]),
        }
    }

    pub fn newest(&self) -> Arc<State> {
        Arc::clone(self.states.values().next_back().unwrap())
    }

    pub fn at(&self, version: Version) -> Arc<State> {
        Arc::clone(self.states.range(..=version).next_back().unwrap().1)
    }

    /// Every version with a state of its own, but for the empty beginning.
    pub fn versions(&self) -> Vec<Version> {
        self.states.keys().copied().skip(1).collect()
    }

    /// Takes note of commits, whose versions are above all noted before.
    pub fn note(&mut self, mut commits: Vec<(Vec<DocumentPath>, Receipt)>) {
        commits.sort_by_key(|(_, receipt)| receipt.version);
        for (paths, receipt) in commits {
            let mut state = State::clone(&self.newest());
            for (path, document) in paths.into_iter().zip(receipt.documents) {
                match document {
                    Some(document) => state.insert(path, document),
                    None => state.remove(&path),
                };
            }
            self.states.insert(receipt.version, Arc::new(state));
        }
    }
}

pub async fn commit(
    engine: &Engine,
    writes: Vec<Write>,
) -> Result<(Vec<DocumentPath>, Receipt), watchfire_engine::Error> {
    let paths = writes.iter().map(|write| write.path.clone()).collect();
    let staged = engine.stage(writes, Start::Now).await?;
    Ok((paths, engine.commit(staged).await?))
}

/// Gives everything else a turn.
pub async fn turn(engine: &Engine) {
    engine.settled_version().await;
    tokio::task::yield_now().await;
}

fn busy(catalog: &Catalog) -> bool {
    catalog
        .operations()
        .any(|operation| operation.state == OperationState::Processing)
}

/// Waits until no operation is under way.
pub async fn settle(engine: &Engine) -> Arc<Catalog> {
    for _ in 0..TURNS_MAX {
        let catalog = engine.catalog().await.unwrap();
        if !busy(&catalog) {
            return catalog;
        }
        turn(engine).await;
    }
    panic!("work on indexes never ended: {:?}", engine.catalog().await);
}

/// The parts of the key space that follow from documents and indexes.
const DERIVED: [Keyspace; 4] = [
    Keyspace::Index,
    Keyspace::Group,
    Keyspace::GroupIndex,
    Keyspace::Defined,
];

/// Everything that is stored of the index, with the ids of indexes exchanged for their definitions' places in `ids`.
async fn derived(store: &dyn Store, ids: &BTreeMap<IndexId, usize>) -> BTreeMap<Vec<u8>, Bytes> {
    let snapshot = store.snapshot().await.unwrap();
    let mut found = BTreeMap::new();
    for keyspace in DERIVED {
        let mut range = keyspace.range();
        loop {
            let page = snapshot
                .page(&range, Direction::Forward, 1_000)
                .await
                .unwrap();
            for (key, value) in &page.entries {
                let mut key = key.to_vec();
                if keyspace == Keyspace::Defined {
                    let id = IndexId(u64::from_be_bytes(key[1..9].try_into().unwrap()));
                    let place = ids.get(&id).map_or(u64::MAX - id.0, |place| *place as u64);
                    key[1..9].copy_from_slice(&place.to_be_bytes());
                }
                // Since when it stands there depends on how it came there.
                found.insert(key, contents(value));
            }
            match page.entries.last() {
                Some((last, _)) if page.more => {
                    range.start = Bytes::from([last.as_ref(), &[0]].concat());
                }
                _ => break,
            }
        }
    }
    found
}

fn places(catalog: &Catalog, definitions: &[Definition]) -> BTreeMap<IndexId, usize> {
    let place = |definition: &Definition| definitions.iter().position(|other| other == definition);
    catalog
        .indexes()
        .filter_map(|index| Some((index.id, place(&index.definition)?)))
        .collect()
}

/// What a database stores that had the indexes from the beginning, and then got the documents. `None` if it refuses
/// one of them, whose entries would be too long.
async fn twin(
    catalog: &Catalog,
    definitions: &[Definition],
    state: &State,
) -> Option<BTreeMap<Vec<u8>, Bytes>> {
    let store = Kept::new();
    let engine = Engine::open_with(
        database(),
        Arc::clone(&store) as Arc<dyn Store>,
        Ticking::new(),
        Settings::default(),
    )
    .await
    .unwrap();
    for definition in definitions {
        engine.create_index(definition.clone()).await.unwrap();
    }
    for (key, config) in catalog.fields().filter(|(_, config)| !config.reverting) {
        let indexes = Some(config.indexes.clone());
        engine.update_field(key.clone(), indexes).await.unwrap();
        settle(&engine).await;
    }
    let own = settle(&engine).await;
    let documents: Vec<_> = state.values().collect();
    for piece in documents.chunks(100) {
        let writes = piece
            .iter()
            .map(|document| Write {
                path: document.path.clone(),
                operation: Operation::Set(document.fields.clone()),
                precondition: Precondition::None,
                transforms: Vec::new(),
            })
            .collect();
        match commit(&engine, writes).await {
            Ok(_) => {}
            Err(watchfire_engine::Error::Invalid(_)) => return None,
            Err(error) => panic!("a commit failed: {error:?}"),
        }
    }
    Some(derived(store.as_ref(), &places(&own, definitions)).await)
}

/// What decides which entries there are.
type Known = (Vec<Definition>, Vec<(FieldKey, FieldConfig)>);

/// Waits until all work has ended, and compares what is stored with what the documents say.
pub async fn check_index(seed: u64, engine: &Engine, store: &dyn Store, state: &State) {
    /// Entries of a deleted index go after its operation has ended, and without one that is shown.
    const ROUNDS_MAX: usize = 400;
    // With what it belongs to: more may be asked for by queries of before.
    let mut expected: Option<(Known, BTreeMap<Vec<u8>, Bytes>)> = None;
    for round in 0..=ROUNDS_MAX {
        let catalog = settle(engine).await;
        let definitions: Vec<Definition> = catalog
            .indexes()
            .map(|index| index.definition.clone())
            .collect();
        for index in catalog.indexes() {
            assert_eq!(index.state, IndexState::Ready, "{}", index.definition);
        }
        let fields = catalog.fields();
        let known = (
            definitions.clone(),
            fields
                .map(|(key, config)| (key.clone(), config.clone()))
                .collect(),
        );
        if expected.as_ref().is_none_or(|(old, _)| *old != known) {
            let Some(keys) = twin(&catalog, &definitions, state).await else {
                return;
            };
            expected = Some((known, keys));
        }
        let (_, expected) = expected.as_ref().unwrap();
        let found = derived(store, &places(&catalog, &definitions)).await;
        if found == *expected {
            return;
        }
        if round == ROUNDS_MAX {
            panic!(
                "seed {seed}: stored entries are not what the documents say; {} are stored and {} should be\n{}\nindexes: {}\nfields: {:#?}",
                found.len(),
                expected.len(),
                difference(&found, expected),
                definitions
                    .iter()
                    .map(|definition| format!(
                        "{} {:?} {definition}",
                        definition.group(),
                        definition.scope()
                    ))
                    .collect::<Vec<_>>()
                    .join("; "),
                catalog.fields().collect::<Vec<_>>(),
            );
        }
        for _ in 0..20 {
            turn(engine).await;
        }
    }
}

fn difference(found: &BTreeMap<Vec<u8>, Bytes>, expected: &BTreeMap<Vec<u8>, Bytes>) -> String {
    const SHOWN: usize = 6;
    let mut text = String::new();
    let missing = expected
        .iter()
        .filter(|(key, value)| found.get(*key) != Some(value));
    for (key, value) in missing.take(SHOWN) {
        let stored = found.get(key);
        writeln!(
            text,
            "should be: {} = {value:?}, is {stored:?}",
            key.escape_ascii()
        )
        .unwrap();
    }
    let surplus = found.iter().filter(|(key, _)| !expected.contains_key(*key));
    for (key, value) in surplus.take(SHOWN) {
        writeln!(text, "should not be: {} = {value:?}", key.escape_ascii()).unwrap();
    }
    text
}

/// Alike to the last bit.
pub fn same_document(a: &Document, b: &Document) -> bool {
    a.path == b.path
        && a.create_time == b.create_time
        && a.update_time == b.update_time
        && watchfire_model::compare::identical_fields(&a.fields, &b.fields)
}

/// Results of aggregations: sums of doubles may differ in their last digits, as they were added in another order.
pub fn same_result(a: &Value, b: &Value, magnitude: f64) -> bool {
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => {
            (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= magnitude * 1e-9
        }
        (a, b) => a.identical(b),
    }
}
