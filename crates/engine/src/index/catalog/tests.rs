//! Rows read back, alterations and their refusals, and readers that get the catalogue of their snapshot.

use proptest::prelude::*;
use watchfire_storage::memory::MemoryStore;
use watchfire_storage::{Batch, Store, Version};

use super::alter::{Alteration, built_in_indexes};
use super::stored::{
    changes, decode_field, decode_index, decode_operation, encode_field, encode_index,
    encode_operation, load,
};
use super::*;
use crate::definition::IndexField;

fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn path(text: &str) -> FieldPath {
    FieldPath::parse(text).unwrap()
}

fn definition(group: &str, fields: &[(&str, Mode)]) -> Definition {
    let fields = fields.iter().map(|(field, mode)| IndexField {
        path: path(field),
        mode: *mode,
    });
    Definition::new(group.to_owned(), Scope::Collection, fields.collect()).unwrap()
}

fn key(group: &str, field: &str) -> FieldKey {
    FieldKey {
        group: Some(group.to_owned()),
        path: Some(path(field)),
    }
}

fn any_path() -> impl Strategy<Value = FieldPath> {
    let segment = prop::sample::select(vec!["a", "b c", "\u{0}", "日本", "`"]);
    prop::collection::vec(segment.prop_map(str::to_owned), 1..4)
        .prop_map(|segments| FieldPath::from_segments(segments).unwrap())
}

fn any_scope() -> impl Strategy<Value = Scope> {
    prop::sample::select(vec![Scope::Collection, Scope::Group])
}

fn any_definition() -> impl Strategy<Value = Definition> {
    let order = prop::sample::select(vec![Mode::Ascending, Mode::Descending]);
    (
        prop::sample::select(vec!["c", "d\u{0}", "日本"]),
        any_scope(),
        prop::collection::btree_map(any_path(), order, 1..5),
        prop::option::of(1_u32..=2_048),
        any::<bool>(),
    )
        .prop_map(|(group, scope, fields, vector, contains)| {
            let last = fields.len() - 1;
            let fields = fields.into_iter().enumerate().map(|(n, (path, mode))| {
                let mode = match vector {
                    Some(dimension) if n == last => Mode::Vector { dimension },
                    _ if n == 0 && contains => Mode::Contains,
                    _ => mode,
                };
                IndexField { path, mode }
            });
            Definition::new(group.to_owned(), scope, fields.collect()).unwrap()
        })
}

fn any_field_indexes() -> impl Strategy<Value = Vec<FieldIndex>> {
    let mode = prop::sample::select(vec![Mode::Ascending, Mode::Descending, Mode::Contains]);
    let index = (any_scope(), mode).prop_map(|(scope, mode)| FieldIndex { scope, mode });
    prop::collection::btree_set(index, 0..6).prop_map(|set| set.into_iter().collect())
}

fn any_key() -> impl Strategy<Value = FieldKey> {
    prop::option::of((
        prop::sample::select(vec!["c", "d"]),
        prop::option::of(any_path()),
    ))
    .prop_map(|parts| match parts {
        None => FieldKey {
            group: None,
            path: None,
        },
        Some((group, path)) => FieldKey {
            group: Some(group.to_owned()),
            path,
        },
    })
}

fn any_index() -> impl Strategy<Value = Index> {
    let states = vec![
        IndexState::Creating,
        IndexState::Ready,
        IndexState::Deleting,
    ];
    (any::<u64>(), any_definition(), prop::sample::select(states)).prop_map(
        |(id, definition, state)| Index {
            id: IndexId(id),
            definition,
            state,
        },
    )
}

fn any_modes() -> impl Strategy<Value = Modes> {
    (0_u8..16).prop_map(|bits| Modes::from_bits(bits).unwrap())
}

fn any_config() -> impl Strategy<Value = FieldConfig> {
    (
        any_field_indexes(),
        any_modes(),
        any_modes(),
        any_modes(),
        any::<bool>(),
    )
        .prop_map(|(indexes, usable, kept, removing, reverting)| FieldConfig {
            indexes,
            usable,
            kept,
            removing,
            reverting,
        })
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let target = prop_oneof![
        (any::<u64>(), any_definition()).prop_map(|(id, definition)| OperationTarget::Create {
            index: IndexId(id),
            definition
        }),
        any::<u64>().prop_map(|id| OperationTarget::Delete { index: IndexId(id) }),
        (any_key(), any_field_indexes(), any_field_indexes()).prop_map(|(key, added, removed)| {
            OperationTarget::Field {
                key,
                added,
                removed,
            }
        }),
    ];
    let states = vec![
        OperationState::Processing,
        OperationState::Successful,
        OperationState::Cancelled,
    ];
    (
        any::<u64>(),
        target,
        prop::sample::select(states),
        prop::option::of(0_i64..1_000_000),
        any::<u64>(),
        any::<u64>(),
        prop::collection::vec(any::<u8>(), 0..20),
    )
        .prop_map(
            |(id, target, state, ended, documents_done, documents_estimated, position)| Operation {
                id: OperationId(id),
                target,
                state,
                started: time(7),
                ended: ended.map(time),
                documents_done,
                documents_estimated,
                position,
            },
        )
}

/// Where a field's row says whose it is.
fn field_id(key: &FieldKey, config: &FieldConfig) -> Vec<u8> {
    let new = Catalog {
        fields: BTreeMap::from([(key.clone(), config.clone())]),
        ..Catalog::default()
    };
    match changes(&Catalog::default(), &new).remove(0) {
        watchfire_storage::Operation::Put { key, .. } => key[b"\x05field/".len()..].to_vec(),
        watchfire_storage::Operation::Delete { .. } => panic!("a new row is put"),
    }
}

proptest! {
    #[test]
    fn rows_read_back(index in any_index(), key in any_key(), config in any_config(), operation in any_operation()) {
        let row = encode_index(&index);
        prop_assert_eq!(decode_index(&index.id.0.to_be_bytes(), &row), Some(index));
        let row = encode_operation(&operation);
        prop_assert_eq!(decode_operation(&operation.id.0.to_be_bytes(), &row), Some(operation));
        let id = field_id(&key, &config);
        prop_assert_eq!(decode_field(&id, &encode_field(&config)), Some((key, config)));
    }

    #[test]
    fn a_row_that_was_cut_or_goes_on_is_refused(index in any_index(), config in any_config(), operation in any_operation()) {
        let id = [0; 8];
        let no_key = field_id(&FieldKey { group: None, path: None }, &config);
        type Reads<'a> = &'a dyn Fn(&[u8]) -> bool;
        let rows: [(Vec<u8>, Reads<'_>); 3] = [
            (encode_index(&index), &|row| decode_index(&id, row).is_some()),
            (encode_operation(&operation), &|row| decode_operation(&id, row).is_some()),
            (encode_field(&config), &|row| decode_field(&no_key, row).is_some()),
        ];
        for (mut row, reads) in rows {
            for len in 0..row.len() {
                prop_assert!(!reads(&row[..len]));
            }
            row[0] = 2;
            prop_assert!(!reads(&row), "another format");
            row[0] = 1;
            row.push(0);
            prop_assert!(!reads(&row));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = decode_index(&[0; 8], &bytes);
        let _ = decode_operation(&[0; 8], &bytes);
        let _ = decode_field(&bytes, &bytes);
    }

    /// The tree that writing a document goes down says the same as looking each field up.
    #[test]
    fn the_layout_decides_as_the_rows_do(
        fields in prop::collection::btree_map(any_key(), any_config(), 0..6),
        asked in any_path(),
    ) {
        let catalog = Catalog { fields, ..Catalog::default() };
        for group in ["c", "d", "e"] {
            let expected = catalog.field(group, &asked).map(|(key, config)| layout::Rule::of(key, config));
            let found = match catalog.layout(group) {
                None => layout::Rule::BUILT_IN,
                Some(layout) => {
                    let mut rule = &layout.rule;
                    let mut children = Some(&layout.children);
                    for segment in asked.segments() {
                        let branch = children.and_then(|children| children.get(segment));
                        children = branch.map(|branch| &branch.children);
                        rule = branch.and_then(|branch| branch.rule.as_ref()).unwrap_or(rule);
                    }
                    rule.clone()
                }
            };
            prop_assert_eq!(found, expected.unwrap_or(layout::Rule::BUILT_IN));
        }
    }
}

/// Bytes that were stored by format 1 stay readable.
#[test]
fn rows_of_format_1() {
    let row = b"\x01\x02\0\0\0\x01c\x01\0\0\0\x02\0\0\0\x01\0\0\0\x01a\x01\0\0\0\x02\0\0\0\x01m\0\0\0\x01v\x04\0\0\0\x03";
    let expected = Index {
        id: IndexId(258),
        definition: definition(
            "c",
            &[
                ("a", Mode::Ascending),
                ("m.v", Mode::Vector { dimension: 3 }),
            ],
        ),
        state: IndexState::Ready,
    };
    assert_eq!(
        decode_index(&[0, 0, 0, 0, 0, 0, 1, 2], row).as_ref(),
        Some(&expected)
    );
    assert_eq!(encode_index(&expected), row);

    let id = b"\x01\0\0\0\x01c\x01\0\0\0\x01\0\0\0\x01a";
    let row = b"\x01\x01\x05\x02\0\0\0\0\x02\x01\x02\x02\x01";
    let config = FieldConfig {
        indexes: vec![
            FieldIndex {
                scope: Scope::Collection,
                mode: Mode::Descending,
            },
            FieldIndex {
                scope: Scope::Group,
                mode: Mode::Ascending,
            },
        ],
        usable: Modes::COLLECTION_ORDER,
        kept: Modes::COLLECTION_ORDER.union(Modes::GROUP_ORDER),
        removing: Modes::COLLECTION_CONTAINS,
        reverting: false,
    };
    assert_eq!(decode_field(id, row), Some((key("c", "a"), config.clone())));
    assert_eq!(field_id(&key("c", "a"), &config), id);
    assert_eq!(encode_field(&config), row);

    let row = b"\x01\x01\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x09\0\0\0\x02\x03\xff\x02\0\0\0\0\0\0\0\x04";
    let operation = Operation {
        id: OperationId(3),
        target: OperationTarget::Delete { index: IndexId(4) },
        state: OperationState::Processing,
        started: time(7),
        ended: None,
        documents_done: 5,
        documents_estimated: 9,
        position: vec![3, 255],
    };
    assert_eq!(
        decode_operation(&[0, 0, 0, 0, 0, 0, 0, 3], row).as_ref(),
        Some(&operation)
    );
    assert_eq!(encode_operation(&operation), row);
}

fn altered(catalog: &Catalog, alteration: Alteration) -> (Catalog, OperationId) {
    catalog.altered(alteration, time(10), 5).unwrap()
}

fn refused(catalog: &Catalog, alteration: Alteration) -> Error {
    catalog.altered(alteration, time(10), 5).unwrap_err()
}

#[test]
fn an_index_lives_and_dies() {
    let new = Catalog::default();
    let two = definition("c", &[("a", Mode::Ascending), ("b", Mode::Descending)]);
    let (catalog, create) = altered(&new, Alteration::Create(two.clone()));
    assert!(catalog.version > new.version);
    let index = catalog.indexes_of("c").next().unwrap().clone();
    assert_eq!(
        (index.state, &index.definition),
        (IndexState::Creating, &two)
    );
    assert_eq!(catalog.indexes_of("d").count(), 0);
    assert!(matches!(
        refused(&catalog, Alteration::Create(two.clone())),
        Error::IndexExists(id) if id == index.id
    ));
    assert_eq!(catalog.wanted(two.clone()), None);
    assert!(matches!(
        refused(&catalog, Alteration::Forget(create)),
        Error::FailedPrecondition(_)
    ));

    let ready = catalog.finished(create, 5, time(20), Version(20));
    assert_eq!(ready.index(index.id).unwrap().state, IndexState::Ready);
    let operation = ready.operations().next().unwrap();
    assert_eq!(operation.state, OperationState::Successful);
    assert_eq!(operation.documents_done, 5);
    assert_eq!(operation.ended, Some(time(20)));
    assert_eq!(ready.next_work(), None);
    // Nothing is left to cancel.
    assert_eq!(altered(&ready, Alteration::Cancel(create)).0, ready);

    let (dying, delete) = altered(&ready, Alteration::Delete(index.id));
    assert_eq!(dying.index(index.id), None);
    assert_eq!(dying.indexes_of("c").count(), 0);
    assert_eq!(dying.operations().count(), 1);
    assert_eq!(dying.next_work().unwrap().id, delete);
    for gone in [
        Alteration::Delete(index.id),
        Alteration::Cancel(delete),
        Alteration::Forget(delete),
    ] {
        assert!(matches!(refused(&dying, gone), Error::NoSuch(_)));
    }
    // One like it may come while the old one goes.
    let (both, _) = altered(&dying, Alteration::Create(two));
    assert_eq!(both.indexes.len(), 2);
    assert_eq!(both.next_work().unwrap().id, delete);
    let one = both.finished(delete, 0, time(30), Version(30));
    assert_eq!(one.indexes.len(), 1);
    let (forgotten, _) = altered(&one, Alteration::Forget(create));
    assert_eq!(forgotten.operations().count(), 1);
}

#[test]
fn deleting_cancels_and_cancelling_deletes() {
    let two = definition("c", &[("a", Mode::Ascending), ("b", Mode::Descending)]);
    let (catalog, create) = altered(&Catalog::default(), Alteration::Create(two));
    let id = *catalog.indexes.keys().next().unwrap();
    for alteration in [Alteration::Delete(id), Alteration::Cancel(create)] {
        let (catalog, _) = altered(&catalog, alteration);
        assert_eq!(catalog.indexes[&id].state, IndexState::Deleting);
        let operation = &catalog.operations[&create];
        assert_eq!(operation.state, OperationState::Cancelled);
        assert!(matches!(
            catalog.next_work().unwrap().target,
            OperationTarget::Delete { index } if index == id
        ));
    }
}

#[test]
fn a_field_changes_in_steps() {
    let a = key("c", "a");
    let group = FieldIndex {
        scope: Scope::Group,
        mode: Mode::Descending,
    };
    let change = |indexes: Option<Vec<FieldIndex>>| Alteration::Field {
        key: a.clone(),
        indexes,
    };
    let (catalog, first) = altered(&Catalog::default(), change(Some(vec![group, group])));
    let config = &catalog.fields[&a];
    assert_eq!(config.indexes, [group]);
    assert_eq!(config.usable, Modes::NONE);
    assert_eq!(config.kept, Modes::GROUP_ORDER);
    assert_eq!(config.removing, Modes::BUILT_IN);
    assert_eq!(catalog.usable("c", &path("a.b")), Modes::NONE);
    assert!(matches!(
        &catalog.operations[&first].target,
        OperationTarget::Field { added, removed, .. } if *added == [group] && *removed == built_in_indexes()
    ));
    assert!(matches!(
        refused(&catalog, Alteration::Cancel(first)),
        Error::FailedPrecondition(_)
    ));
    // Taken back half way: nothing that was being removed may be read before it is whole again.
    let (back, second) = altered(&catalog, change(None));
    assert_eq!(back.operations[&first].state, OperationState::Cancelled);
    let config = &back.fields[&a];
    assert!(config.reverting);
    assert_eq!(config.usable, Modes::NONE);
    assert_eq!(config.kept, Modes::BUILT_IN);
    assert_eq!(config.removing, Modes::GROUP_ORDER);
    let done = back.finished(second, 1, time(20), Version(20));
    assert!(done.fields.is_empty());
    assert_eq!(done.usable("c", &path("a")), Modes::BUILT_IN);

    let (same, third) = altered(&done, change(Some(built_in_indexes())));
    assert_eq!(same.operations[&third].state, OperationState::Successful);
    assert_eq!(same.fields[&a].usable, Modes::BUILT_IN);
    let (none, fourth) = altered(&same, change(None));
    assert_eq!(none.operations[&fourth].state, OperationState::Successful);
    assert!(none.fields.is_empty());
    // There is nothing to take back any more.
    let (still, fifth) = altered(&none, change(None));
    assert_eq!(still.operations[&fifth].state, OperationState::Successful);
    assert!(still.fields.is_empty());
}

#[test]
fn what_a_query_wants_becomes_the_smallest_change() {
    let catalog = Catalog::default();
    let one = |scope, mode| {
        let path = path("a");
        Definition::new("c".to_owned(), scope, vec![IndexField { path, mode }]).unwrap()
    };
    assert_eq!(
        catalog.wanted(one(Scope::Collection, Mode::Descending)),
        None
    );
    let wanted = catalog.wanted(one(Scope::Group, Mode::Contains)).unwrap();
    let (catalog, _) = altered(&catalog, wanted);
    let kept = Modes::BUILT_IN.union(Modes::GROUP_CONTAINS);
    assert_eq!(catalog.fields[&key("c", "a")].kept, kept);
    assert_eq!(catalog.fields[&key("c", "a")].usable, Modes::BUILT_IN);
    assert_eq!(catalog.wanted(one(Scope::Group, Mode::Contains)), None);
    let vector = one(Scope::Collection, Mode::Vector { dimension: 2 });
    assert_eq!(
        catalog.wanted(vector.clone()),
        Some(Alteration::Create(vector))
    );
}

#[test]
fn what_cannot_be_is_refused() {
    let catalog = Catalog::default();
    let keys = [
        FieldKey {
            group: None,
            path: Some(path("a")),
        },
        FieldKey {
            group: Some("c".to_owned()),
            path: Some(FieldPath::document_name()),
        },
        FieldKey {
            group: Some("a/b".to_owned()),
            path: None,
        },
    ];
    for key in keys {
        let indexes = Some(Vec::new());
        let alteration = Alteration::Field { key, indexes };
        assert!(matches!(refused(&catalog, alteration), Error::Invalid(_)));
    }
    let vector = FieldIndex {
        scope: Scope::Collection,
        mode: Mode::Vector { dimension: 1 },
    };
    let alteration = Alteration::Field {
        key: key("c", "a"),
        indexes: Some(vec![vector]),
    };
    assert!(matches!(refused(&catalog, alteration), Error::Invalid(_)));
}

#[test]
fn everything_is_bounded() {
    let mut catalog = Catalog::default();
    let two = |n: u64| {
        let (a, b) = (format!("a{n}"), format!("b{n}"));
        definition("c", &[(&a, Mode::Ascending), (&b, Mode::Ascending)])
    };
    let off = |n: usize| Alteration::Field {
        key: key("c", &format!("f{n}")),
        indexes: Some(Vec::new()),
    };
    for n in 1..INDEXES_MAX as u64 {
        let (id, definition) = (IndexId(n), two(n));
        let state = IndexState::Deleting;
        catalog.indexes.insert(
            id,
            Index {
                id,
                definition,
                state,
            },
        );
    }
    catalog.next_id = INDEXES_MAX as u64;
    let (full, _) = altered(&catalog, Alteration::Create(two(5_000)));
    assert!(matches!(
        refused(&full, Alteration::Create(two(6_000))),
        Error::ResourceExhausted(_)
    ));
    let config = altered(&catalog, off(0)).0.fields[&key("c", "f0")].clone();
    for n in 1..FIELD_CONFIGS_MAX {
        catalog
            .fields
            .insert(key("c", &format!("f{n}")), config.clone());
    }
    let (mut full, _) = altered(&catalog, off(0));
    assert!(matches!(
        refused(&full, off(FIELD_CONFIGS_MAX)),
        Error::ResourceExhausted(_)
    ));
    // One that is there can still change.
    for n in 0..5 {
        full = altered(&full, off(n)).0;
    }
    let template = full.operations.values().next().unwrap().clone();
    for n in 10_000..10_000 + ENDED_OPERATIONS_MAX as u64 {
        let id = OperationId(n);
        let state = OperationState::Successful;
        let operation = Operation {
            id,
            state,
            ..template.clone()
        };
        full.operations.insert(id, operation);
    }
    full.next_id = 20_000;
    while let Some(work) = full.next_work() {
        full = full.finished(work.id, 1, time(20), Version(20));
    }
    assert_eq!(full.operations.len(), ENDED_OPERATIONS_MAX);
    assert!(
        full.operations
            .contains_key(&OperationId(10_000 + ENDED_OPERATIONS_MAX as u64 - 1))
    );
}

#[tokio::test]
async fn readers_get_the_catalogue_of_their_snapshot() {
    let store = MemoryStore::new();
    let catalogs = Catalogs::default();
    let mut catalog = Catalog::default();
    let mut snapshots = vec![(store.snapshot().await.unwrap(), catalog.clone())];
    for n in 1..10_u64 {
        let name = format!("f{n}");
        let create = Alteration::Create(definition(
            "c",
            &[(&name, Mode::Ascending), ("z", Mode::Ascending)],
        ));
        let (new, _) = altered(&catalog, create);
        let batch = Batch {
            version: Version(n),
            operations: changes(&catalog, &new),
        };
        store.apply(Version(n - 1), batch).await.unwrap();
        catalog = new;
        snapshots.push((store.snapshot().await.unwrap(), catalog.clone()));
    }
    for order in [true, false, true] {
        let mut snapshots: Vec<_> = snapshots.iter().collect();
        if order {
            snapshots.reverse();
        }
        for (snapshot, expected) in snapshots {
            assert_eq!(*catalogs.at(snapshot.as_ref()).await.unwrap(), *expected);
            assert_eq!(load(snapshot.as_ref()).await.unwrap(), *expected);
        }
    }
    let newest = catalogs.at(snapshots[9].0.as_ref()).await.unwrap();
    let again = catalogs.at(snapshots[9].0.as_ref()).await.unwrap();
    assert!(Arc::ptr_eq(&newest, &again));
}
