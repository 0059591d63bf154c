//! What a document has, against a model that looks up each field by itself.

use proptest::prelude::*;
use watchfire_model::{FieldPath, GeoPoint, Timestamp};

use super::*;
use crate::definition::{Definition, IndexField, IndexId, Scope};
use crate::index::catalog::{FieldConfig, IndexState};
use crate::index::diff;

const FIELDS: [&str; 4] = ["a", "b", "m", "x y"];

fn scalar() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        Value::Null,
        Value::Boolean(true),
        Value::Integer(3),
        Value::Double(3.0),
        Value::Double(3.5),
        Value::Double(-0.0),
        Value::Double(f64::NAN),
        Value::Double(f64::INFINITY),
        Value::Double(9_223_372_036_854_775_808.0),
        Value::Double(-9_223_372_036_854_775_808.0),
        Value::String("s".to_owned()),
        Value::String("x".repeat(1_600)),
        Value::Bytes(vec![0, 255]),
        Value::Vector(vec![1.0, 2.0]),
        Value::Vector(vec![1.0]),
        Value::GeoPoint(GeoPoint {
            latitude: 1.0,
            longitude: 2.0,
        }),
    ])
}

fn value() -> impl Strategy<Value = Value> {
    let inner = prop_oneof![
        4 => scalar(),
        2 => prop::collection::vec(scalar(), 0..4).prop_map(Value::Array),
    ];
    inner.prop_recursive(3, 12, 3, |inner| {
        prop::collection::btree_map(
            prop::sample::select(FIELDS.to_vec()).prop_map(str::to_owned),
            inner,
            0..3,
        )
        .prop_map(Value::Map)
    })
}

fn document() -> impl Strategy<Value = Document> {
    let fields = prop::collection::btree_map(
        prop::sample::select(FIELDS.to_vec()).prop_map(str::to_owned),
        value(),
        0..4,
    );
    let path = prop::sample::select(vec!["c/1", "c/__id5__", "c/1/d/2", "p/q/c/1"]);
    (path, fields).prop_map(|(path, fields)| Document {
        path: DocumentPath::parse(path).unwrap(),
        create_time: Timestamp::from_micros(1).unwrap(),
        update_time: Timestamp::from_micros(1).unwrap(),
        fields,
    })
}

fn field_path() -> impl Strategy<Value = FieldPath> {
    prop::collection::vec(
        prop::sample::select(FIELDS.to_vec()).prop_map(str::to_owned),
        1..3,
    )
    .prop_map(|segments| FieldPath::from_segments(segments).unwrap())
}

fn scope() -> impl Strategy<Value = Scope> {
    prop::sample::select(vec![Scope::Collection, Scope::Group])
}

fn modes() -> impl Strategy<Value = Modes> {
    (0_u8..16).prop_map(|bits| Modes::from_bits(bits).unwrap())
}

fn catalog() -> impl Strategy<Value = Catalog> {
    let group = || prop::sample::select(vec!["c", "d"]).prop_map(str::to_owned);
    let key = prop::option::of((group(), prop::option::of(field_path()))).prop_map(|parts| {
        let (group, path) = parts.map_or((None, None), |(group, path)| (Some(group), path));
        FieldKey { group, path }
    });
    let config = (modes(), modes(), modes()).prop_map(|(usable, kept, removing)| FieldConfig {
        indexes: Vec::new(),
        usable: usable.intersection(kept),
        kept,
        removing: removing.without(kept),
        reverting: false,
    });
    let column = (
        field_path(),
        prop::sample::select(vec![Mode::Ascending, Mode::Descending, Mode::Contains]),
    );
    let vector = prop::option::of((field_path(), 1_u32..3));
    let definition = (
        group(),
        scope(),
        prop::collection::vec(column, 0..4),
        vector,
    )
        .prop_filter_map(
            "an index like this cannot be",
            |(group, scope, columns, vector)| {
                let vector = vector.map(|(path, dimension)| (path, Mode::Vector { dimension }));
                let fields = columns.into_iter().chain(vector);
                let fields = fields.map(|(path, mode)| IndexField { path, mode });
                Definition::new(group, scope, fields.collect()).ok()
            },
        );
    let states = vec![
        IndexState::Creating,
        IndexState::Ready,
        IndexState::Deleting,
    ];
    let index = (definition, prop::sample::select(states));
    (
        prop::collection::btree_map(key, config, 0..5),
        prop::collection::vec(index, 0..4),
    )
        .prop_map(|(fields, indexes)| {
            let indexes = (1..).zip(indexes).map(|(id, (definition, state))| {
                let id = IndexId(id);
                let index = Index {
                    id,
                    definition,
                    state,
                };
                (id, index)
            });
            Catalog {
                fields,
                indexes: indexes.collect(),
                ..Catalog::default()
            }
        })
}

/// Every field at any depth.
fn all_fields(fields: &Fields, parents: &[String], found: &mut Vec<(FieldPath, Value)>) {
    for (name, value) in fields {
        let path = [parents, std::slice::from_ref(name)].concat();
        found.push((
            FieldPath::from_segments(path.clone()).unwrap(),
            value.clone(),
        ));
        if let Value::Map(fields) = value {
            all_fields(fields, &path, found);
        }
    }
}

fn flag(position: usize, value: &Value) -> Option<u8> {
    match value {
        Value::Double(double)
            if Value::Integer(*double as i64).equals(value)
                && (*double as i64 as f64) == *double =>
        {
            Some(position as u8)
        }
        _ => None,
    }
}

fn model(
    document: &Document,
    catalog: &Catalog,
    choose: impl Fn(Option<(&FieldKey, &FieldConfig)>) -> Modes,
) -> Entries {
    let collection = document.path.collection();
    let group = collection.id().to_owned();
    let mut expected = Entries::new();
    let mut fields = Vec::new();
    all_fields(&document.fields, &[], &mut fields);
    for (path, value) in fields {
        let modes = choose(catalog.field(&group, &path));
        for (place, order, contains) in [
            (
                Place::Collection(collection.clone()),
                Modes::COLLECTION_ORDER,
                Modes::COLLECTION_CONTAINS,
            ),
            (
                Place::Group(group.clone()),
                Modes::GROUP_ORDER,
                Modes::GROUP_CONTAINS,
            ),
        ] {
            let mut put = |kind, value: &Value| {
                let mut start = key::field_start(&place, kind, &path);
                key::encode_column(value, false, &mut start);
                let part = key::document_part(&place, &document.path, false);
                expected
                    .entry(key::entry_key(&start, &part))
                    .or_insert_with(|| flag(0, value).into_iter().collect());
            };
            if modes.contains(order) {
                put(Kind::Ascending, &value);
            }
            if let (true, Value::Array(elements)) = (modes.contains(contains), &value) {
                elements.iter().for_each(|value| put(Kind::Contains, value));
            }
        }
    }
    expected
}

fn model_of_index(document: &Document, index: &Index) -> Entries {
    let definition = &index.definition;
    let collection = document.path.collection();
    let mut expected = Entries::new();
    if index.state == IndexState::Deleting || definition.group() != collection.id() {
        return expected;
    }
    let place = Place::of(definition.scope(), &collection);
    let part = key::document_part(&place, &document.path, definition.name_descends());
    // Columns and payload so far, one for each element.
    let mut rows = vec![(key::defined_start_in(index.id, &place), Vec::new())];
    for (position, field) in definition.fields().iter().enumerate() {
        let value = field.path.get(&document.fields);
        let values: Vec<Value> = match (field.mode, value) {
            (Mode::Ascending | Mode::Descending, Some(value)) => vec![value.clone()],
            (Mode::Contains, Some(Value::Array(elements))) => elements.clone(),
            (Mode::Vector { dimension }, Some(Value::Vector(numbers)))
                if numbers.len() == dimension as usize =>
            {
                for (_, payload) in &mut rows {
                    *payload = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
                }
                continue;
            }
            _ => return expected,
        };
        let mut longer = Vec::new();
        for (columns, payload) in &rows {
            for value in &values {
                let (mut columns, mut payload) = (columns.clone(), payload.clone());
                key::encode_column(value, field.mode == Mode::Descending, &mut columns);
                payload.extend(flag(position, value));
                longer.push((columns, payload));
            }
        }
        rows = longer;
    }
    for (columns, payload) in rows {
        expected
            .entry(key::entry_key(&columns, &part))
            .or_insert_with(|| Bytes::from(payload));
    }
    expected
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_document_has_what_its_fields_say(document in document(), catalog in catalog()) {
        let defined: Entries = catalog
            .indexes
            .values()
            .flat_map(|index| model_of_index(&document, index))
            .collect();
        let group = group_entry(&document.path);
        let with_rest = |mut automatic: Entries| {
            automatic.extend(defined.clone());
            automatic.insert(group.clone(), Bytes::new());
            automatic
        };
        let kept = model(&document, &catalog, |found| found.map_or(Modes::BUILT_IN, |(_, config)| config.kept));
        prop_assert_eq!(&entries(&document, &catalog), &with_rest(kept.clone()));
        prop_assert_eq!(checked_entries(&document, &catalog).unwrap(), with_rest(kept));
        let stored = model(&document, &catalog, |found| {
            found.map_or(Modes::BUILT_IN, |(_, config)| config.kept.union(config.removing))
        });
        prop_assert_eq!(stored_entries(&document, &catalog), with_rest(stored));
        for index in catalog.indexes.values() {
            if index.definition.group() == document.path.collection_id() {
                prop_assert_eq!(index_entries(&document, index), model_of_index(&document, index));
            }
        }
        for field in catalog.fields.keys() {
            let (added, removed) = field_changes(&document, &catalog, field);
            let expected = |choose: &dyn Fn(&FieldConfig) -> Modes| {
                model(&document, &catalog, |found| match found {
                    Some((key, config)) if key == field => choose(config),
                    _ => Modes::NONE,
                })
            };
            prop_assert_eq!(added, expected(&|config| config.kept.without(config.usable)));
            prop_assert_eq!(removed, expected(&|config| config.removing));
        }
    }

    #[test]
    fn a_change_leads_from_one_to_the_other(
        before in prop::option::of(document()),
        after in prop::option::of(document()),
        catalog in catalog(),
    ) {
        let after = after.map(|after| Document {
            path: before.as_ref().map_or_else(|| after.path.clone(), |before| before.path.clone()),
            ..after
        });
        let mut stored = before.as_ref().map_or_else(Entries::new, |before| stored_entries(before, &catalog));
        let another = before.as_ref().map(|before| before.create_time)
            != after.as_ref().map(|after| after.create_time);
        let difference = diff::difference(before.as_ref(), after.as_ref(), &catalog).unwrap();
        for (key, contents) in &difference.gone {
            prop_assert_eq!(stored.remove(key), Some(contents.clone()), "what goes is known");
        }
        for key in &difference.dropped {
            prop_assert!(stored.remove(key).is_some(), "what goes was there");
        }
        for (key, contents) in difference.new {
            let stays = difference.gone.contains(&(key.clone(), contents.clone()));
            prop_assert!(another || !stays, "not needed");
            prop_assert!(stored.insert(key, contents).is_none(), "what comes is not there");
        }
        let expected = after.as_ref().map_or_else(Entries::new, |after| entries(after, &catalog));
        prop_assert_eq!(stored, expected);
    }
}

fn with_fields(fields: Fields) -> Document {
    Document {
        path: DocumentPath::parse("c/1").unwrap(),
        create_time: Timestamp::from_micros(1).unwrap(),
        update_time: Timestamp::from_micros(1).unwrap(),
        fields,
    }
}

#[test]
fn entries_of_defined_indexes_count_once() {
    let fields = ["a", "b"].map(|name| IndexField {
        path: FieldPath::parse(name).unwrap(),
        mode: if name == "a" {
            Mode::Contains
        } else {
            Mode::Ascending
        },
    });
    let definition = Definition::new("c".to_owned(), Scope::Group, fields.to_vec()).unwrap();
    let index = Index {
        id: IndexId(1),
        definition,
        state: IndexState::Creating,
    };
    // Nothing is automatic.
    let off = FieldConfig {
        indexes: Vec::new(),
        usable: Modes::NONE,
        kept: Modes::NONE,
        removing: Modes::NONE,
        reverting: false,
    };
    let everywhere = FieldKey {
        group: None,
        path: None,
    };
    let catalog = Catalog {
        indexes: BTreeMap::from([(index.id, index)]),
        fields: BTreeMap::from([(everywhere, off)]),
        ..Catalog::default()
    };
    let with_elements = |count: usize| {
        let elements = (0..count as i64).map(Value::Integer).collect();
        with_fields(Fields::from([
            ("a".to_owned(), Value::Array(elements)),
            ("b".to_owned(), Value::Null),
        ]))
    };
    let full = with_elements(INDEX_ENTRIES_MAX);
    let found = checked_entries(&full, &catalog).unwrap();
    assert_eq!(found.len(), INDEX_ENTRIES_MAX + 1);
    let error = checked_entries(&with_elements(INDEX_ENTRIES_MAX + 1), &catalog).unwrap_err();
    assert_eq!(error.to_string(), "too many index entries for entity /c/1");
    // With one automatic entry there is one too many; whoever has no limits still gets them all.
    assert!(checked_entries(&full, &Catalog::default()).is_err());
    assert_eq!(
        entries(&with_elements(INDEX_ENTRIES_MAX + 1), &catalog).len(),
        INDEX_ENTRIES_MAX + 2
    );
}
