//! Documents and indexes change in any order between the pieces; what may be read is always whole, and in the end
//! nothing is missing and nothing left over.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use watchfire_model::{FieldPath, Timestamp, Value};
use watchfire_storage::memory::MemoryStore;
use watchfire_storage::{Batch, Store, Version};

use super::*;
use crate::definition::{Definition, IndexField, Mode, Scope};
use crate::index::catalog::alter::Alteration;
use crate::index::catalog::{FieldIndex, FieldKey, IndexState, OperationId, stored};
use crate::index::diff;
use crate::index::entries::Entries;
use crate::record::encode_record;
use crate::stamp::contents;

#[derive(Clone, Debug)]
enum Step {
    Write(usize, Option<Document>),
    Create(Definition),
    /// The index or operation at this place, of those that there are.
    Delete(usize),
    Cancel(usize),
    Field(FieldKey, Option<Vec<FieldIndex>>),
    Work(Bounds),
    Reopen,
}

struct World {
    store: Arc<MemoryStore>,
    head: Version,
    catalog: Catalog,
    documents: BTreeMap<DocumentPath, Document>,
}

const PATHS: [&str; 8] = [
    "c/1",
    "c/2",
    "c/3",
    "c/__id4__",
    "d/1/c/1",
    "d/1/c/5",
    "d/1",
    "d/2",
];

fn time(version: Version) -> Timestamp {
    Timestamp::from_micros(version.0 as i64).unwrap()
}

impl World {
    fn new() -> Self {
        Self {
            store: MemoryStore::new(),
            head: Version(0),
            catalog: Catalog::default(),
            documents: BTreeMap::new(),
        }
    }

    async fn apply(&mut self, operations: Vec<Change>) {
        let version = Version(self.head.0 + 1);
        let batch = Batch {
            version,
            operations,
        };
        self.store.apply(self.head, batch).await.unwrap();
        self.head = version;
    }

    async fn alter(&mut self, alteration: Alteration) {
        let Ok((catalog, _)) = self.catalog.altered(alteration, time(self.head), 1) else {
            return;
        };
        self.apply(stored::changes(&self.catalog, &catalog)).await;
        self.catalog = catalog;
    }

    async fn write(&mut self, path: &str, document: Option<Document>) {
        let path = DocumentPath::parse(path).unwrap();
        let after = document.map(|document| Document {
            path: path.clone(),
            ..document
        });
        let before = self.documents.get(&path);
        let mut operations = diff::operations(before, after.as_ref(), &self.catalog).unwrap();
        let key = document_key(&path);
        match after {
            Some(after) => {
                operations.push(Change::Put {
                    key,
                    value: encode_record(&after),
                });
                self.documents.insert(path, after);
            }
            None => {
                operations.push(Change::Delete { key });
                self.documents.remove(&path);
            }
        }
        self.apply(operations).await;
    }

    /// Whether there was anything to do.
    async fn work(&mut self, bounds: Bounds) -> bool {
        let Some(operation) = self.catalog.next_work().cloned() else {
            return false;
        };
        let snapshot = self.store.snapshot().await.unwrap();
        let piece = piece(snapshot.as_ref(), &self.catalog, &operation, bounds)
            .await
            .unwrap();
        assert!(piece.documents <= bounds.documents as u64);
        let mut operations = piece.operations;
        if piece.finished {
            let catalog =
                self.catalog
                    .finished(operation.id, piece.documents, time(self.head), Version(0));
            operations.extend(stored::changes(&self.catalog, &catalog));
            self.catalog = catalog;
        } else {
            assert!(piece.position > operation.position, "it gets further");
            self.catalog
                .note_progress(operation.id, piece.position, piece.documents);
            let operation = &self.catalog.operations[&operation.id];
            operations.push(stored::operation_change(operation));
        }
        self.apply(operations).await;
        true
    }

    async fn stored(&self, part: Keyspace) -> Entries {
        let snapshot = self.store.snapshot().await.unwrap();
        let page = snapshot
            .page(&part.range(), Direction::Forward, 100_000)
            .await
            .unwrap();
        assert!(!page.more);
        page.entries
            .into_iter()
            .map(|(key, value)| (key, contents(&value)))
            .collect()
    }

    async fn stored_everywhere(&self) -> Entries {
        let mut found = Entries::new();
        for part in [
            Keyspace::Index,
            Keyspace::Group,
            Keyspace::GroupIndex,
            Keyspace::Defined,
        ] {
            found.extend(self.stored(part).await);
        }
        found
    }

    fn expected(&self, catalog: &Catalog) -> Entries {
        let documents = self.documents.values();
        documents
            .flat_map(|document| entries(document, catalog))
            .collect()
    }

    /// What may be read is whole; what is stored is known to somebody.
    async fn check(&self) {
        let stored = self.stored_everywhere().await;
        let mut readable = self.catalog.clone();
        for config in readable.fields.values_mut() {
            assert!(config.kept.contains(config.usable));
            assert!(config.kept.intersection(config.removing).is_empty());
            config.kept = config.usable;
            config.removing = Default::default();
        }
        readable
            .indexes
            .retain(|_, index| index.state == IndexState::Ready);
        for (key, value) in self.expected(&readable) {
            assert_eq!(stored.get(&key), Some(&value), "{key:02x?} is missing");
        }
        let mut known = self.catalog.clone();
        for config in known.fields.values_mut() {
            config.kept = config.kept.union(config.removing);
        }
        let known = self.expected(&known);
        for (key, value) in &stored {
            let deleting = key.first() == Some(&Keyspace::Defined.byte())
                && self.catalog.indexes.values().any(|index| {
                    index.state == IndexState::Deleting && key.starts_with(&defined_start(index.id))
                });
            if !deleting {
                assert_eq!(known.get(key), Some(value), "{key:02x?} is left over");
            }
        }
    }
}

fn field() -> impl Strategy<Value = FieldPath> {
    prop::sample::select(vec!["a", "b", "m", "m.a"])
        .prop_map(|text| FieldPath::parse(text).unwrap())
}

fn value() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        Value::Integer(1),
        Value::Double(1.0),
        Value::Array(vec![
            Value::Integer(1),
            Value::Double(2.0),
            Value::Integer(2),
        ]),
        Value::Array(vec![Value::Double(1.0)]),
        Value::Vector(vec![1.0, 2.0]),
    ])
}

fn document() -> impl Strategy<Value = Document> {
    prop::collection::vec((field(), value()), 0..4).prop_map(|values| {
        let mut fields = watchfire_model::Fields::new();
        for (path, value) in values {
            path.set(&mut fields, value);
        }
        Document {
            path: DocumentPath::parse("c/1").unwrap(),
            create_time: Timestamp::from_micros(1).unwrap(),
            update_time: Timestamp::from_micros(1).unwrap(),
            fields,
        }
    })
}

fn definition() -> impl Strategy<Value = Definition> {
    let mode = prop::sample::select(vec![
        Mode::Ascending,
        Mode::Descending,
        Mode::Contains,
        Mode::Vector { dimension: 2 },
    ]);
    let scope = prop::sample::select(vec![Scope::Collection, Scope::Group]);
    let group = prop::sample::select(vec!["c", "d"]);
    let fields = prop::collection::vec((field(), mode), 1..3);
    (group, scope, fields).prop_filter_map("no such index", |(group, scope, fields)| {
        let fields = fields
            .into_iter()
            .map(|(path, mode)| IndexField { path, mode });
        Definition::new(group.to_owned(), scope, fields.collect()).ok()
    })
}

fn field_indexes() -> impl Strategy<Value = Option<Vec<FieldIndex>>> {
    let index = (
        prop::sample::select(vec![Scope::Collection, Scope::Group]),
        prop::sample::select(vec![Mode::Ascending, Mode::Contains]),
    )
        .prop_map(|(scope, mode)| FieldIndex { scope, mode });
    prop::option::of(prop::collection::vec(index, 0..4))
}

fn field_key() -> impl Strategy<Value = FieldKey> {
    let whole = prop::sample::select(vec![None, Some("c"), Some("d")]).prop_map(|group| FieldKey {
        group: group.map(str::to_owned),
        path: None,
    });
    let one = field().prop_map(|path| FieldKey {
        group: Some("c".to_owned()),
        path: Some(path),
    });
    prop_oneof![1 => whole, 2 => one]
}

fn step() -> impl Strategy<Value = Step> {
    let bounds =
        (1_usize..4, 1_usize..300, 1_usize..6).prop_map(|(documents, bytes, operations)| Bounds {
            documents,
            bytes,
            operations,
        });
    prop_oneof![
        8 => (0..PATHS.len(), prop::option::weighted(0.8, document())).prop_map(|(n, document)| Step::Write(n, document)),
        2 => definition().prop_map(Step::Create),
        1 => any::<usize>().prop_map(Step::Delete),
        1 => any::<usize>().prop_map(Step::Cancel),
        3 => (field_key(), field_indexes()).prop_map(|(key, indexes)| Step::Field(key, indexes)),
        12 => bounds.prop_map(Step::Work),
        1 => Just(Step::Reopen),
    ]
}

async fn run(steps: Vec<Step>) {
    let mut world = World::new();
    for step in steps {
        match step {
            Step::Write(n, document) => world.write(PATHS[n], document).await,
            Step::Create(definition) => world.alter(Alteration::Create(definition)).await,
            Step::Delete(n) => {
                let ids: Vec<_> = world.catalog.indexes().map(|index| index.id).collect();
                if let Some(id) = ids.get(n % ids.len().max(1)) {
                    world.alter(Alteration::Delete(*id)).await;
                }
            }
            Step::Cancel(n) => {
                let ids: Vec<OperationId> = world.catalog.operations().map(|it| it.id).collect();
                if let Some(id) = ids.get(n % ids.len().max(1)) {
                    world.alter(Alteration::Cancel(*id)).await;
                }
            }
            Step::Field(key, indexes) => world.alter(Alteration::Field { key, indexes }).await,
            Step::Work(bounds) => drop(world.work(bounds).await),
            Step::Reopen => {
                let snapshot = world.store.snapshot().await.unwrap();
                let loaded = stored::load(snapshot.as_ref()).await.unwrap();
                assert_eq!(loaded, world.catalog);
                world.catalog = loaded;
            }
        }
        world.check().await;
    }
    while world.work(Bounds::PIECE).await {
        world.check().await;
    }
    assert_eq!(
        world.stored_everywhere().await,
        world.expected(&world.catalog)
    );
    let mut configs = world.catalog.fields();
    assert!(configs.all(|(_, config)| {
        config.usable == config.kept && config.removing.is_empty() && !config.reverting
    }));
    assert!(
        world
            .catalog
            .indexes
            .values()
            .all(|index| index.state == IndexState::Ready)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn indexes_are_whole_whenever_they_may_be_read(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(steps));
    }
}

#[tokio::test]
async fn an_estimate_is_bounded() {
    let mut world = World::new();
    for (n, path) in PATHS.iter().enumerate() {
        let fields = watchfire_model::Fields::from([("a".to_owned(), Value::Integer(n as i64))]);
        let document = Document {
            path: DocumentPath::parse(path).unwrap(),
            create_time: time(Version(1)),
            update_time: time(Version(1)),
            fields,
        };
        world.write(path, Some(document)).await;
    }
    let snapshot = world.store.snapshot().await.unwrap();
    let about = async |group, max| estimate(snapshot.as_ref(), group, max).await.unwrap();
    assert_eq!(about(Some("c"), 100).await, 6);
    assert_eq!(about(Some("d"), 100).await, 2);
    assert_eq!(about(None, 100).await, 8);
    assert_eq!(about(None, 5).await, 5);
}

/// A configuration is taken back to one that is itself being taken back, to one that changes meanwhile.
#[tokio::test]
async fn what_is_taken_back_follows_what_changed_meanwhile() {
    let key = |group: Option<&str>, path: Option<&str>| FieldKey {
        group: group.map(str::to_owned),
        path: path.map(|path| FieldPath::parse(path).unwrap()),
    };
    let b = key(Some("c"), Some("b"));
    let group = key(Some("c"), None);
    let everywhere = key(None, None);
    let mut world = World::new();
    for path in &PATHS[..4] {
        let fields = watchfire_model::Fields::from([
            ("b".to_owned(), Value::Integer(1)),
            ("a".to_owned(), Value::Integer(2)),
        ]);
        let document = Document {
            path: DocumentPath::parse(path).unwrap(),
            create_time: time(Version(1)),
            update_time: time(Version(1)),
            fields,
        };
        world.write(path, Some(document)).await;
    }
    let changes = [
        (b.clone(), Some(Vec::new())),
        (group.clone(), Some(Vec::new())),
        (group, None),
        (everywhere, Some(Vec::new())),
        (b.clone(), None),
    ];
    for (key, indexes) in changes {
        world.alter(Alteration::Field { key, indexes }).await;
    }
    let bounds = Bounds {
        documents: 1,
        ..Bounds::PIECE
    };
    let mut rounds = 0;
    while world.work(bounds).await {
        rounds += 1;
        world.check().await;
    }
    // Four documents for each of the three operations that were not superseded, and once more for the last.
    assert_eq!(rounds, 4 * 4);
    assert_eq!(world.catalog.fields().count(), 1);
    assert_eq!(
        world.stored_everywhere().await,
        world.expected(&world.catalog)
    );
}
