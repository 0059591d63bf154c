//! There and back for any document, damage of every kind, and what only Datastore has.

use proptest::prelude::*;

use super::*;
use crate::encode::encode_entity;
use crate::entity::{Element, Path, PathElement, UserValue};

fn database(project: &str, id: &str) -> DatabaseName {
    DatabaseName::new(project, id).unwrap()
}

fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        prop::sample::select(vec![
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            0.0,
            -0.0,
            3.0,
            f64::MIN_POSITIVE
        ]),
        any::<f64>(),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(vec!['\0', 'a', '.', '%', ' ', '~', 'é', '火', '\u{10ffff}']),
        0..6,
    )
    .prop_map(String::from_iter)
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof![
        text().prop_filter("no id", |id| !matches!(id.as_str(), "" | "." | "..")),
        any::<i64>().prop_map(|number| format!("__id{number}__")),
        Just("123".to_owned()),
    ]
}

fn path() -> impl Strategy<Value = DocumentPath> {
    prop::collection::vec((text(), id()), 1..4).prop_map(|pairs| {
        let pairs: Vec<_> = pairs
            .into_iter()
            .map(|(kind, id)| format!("c{kind}/{id}"))
            .collect();
        DocumentPath::parse(&pairs.join("/")).unwrap()
    })
}

fn scalar() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        ("p", "(default)"),
        ("p", "other"),
        ("d.org:q", "(default)"),
    ]);
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        double().prop_map(Value::Double),
        (Timestamp::MIN.micros()..=Timestamp::MAX.micros())
            .prop_map(|micros| Value::Timestamp(Timestamp::from_micros(micros).unwrap())),
        text().prop_map(Value::String),
        prop::collection::vec(any::<u8>(), 0..5).prop_map(Value::Bytes),
        (name, path()).prop_map(|((project, id), path)| Value::Reference(DocumentName {
            database: database(project, id),
            path,
        })),
        (-90.0..=90.0, -180.0..=180.0).prop_map(|(latitude, longitude)| Value::GeoPoint(
            GeoPoint {
                latitude,
                longitude,
            }
        )),
        prop::collection::vec(double(), 0..4).prop_map(Value::Vector),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        let element = inner.clone().prop_map(|value| match value {
            // No array stands directly in another.
            Value::Array(values) => {
                Value::Map(Fields::from([("a".to_owned(), Value::Array(values))]))
            }
            other => other,
        });
        prop_oneof![
            prop::collection::vec(element, 0..4).prop_map(Value::Array),
            prop::collection::btree_map(text(), inner, 0..4).prop_map(Value::Map),
        ]
    })
}

fn fields() -> impl Strategy<Value = Fields> {
    prop::collection::btree_map(text(), value(), 0..5)
}

/// The text of two values is the same when they are, also for NaN and -0.
fn shown(entity: &Entity) -> String {
    format!("{entity:?}")
}

proptest! {
    #[test]
    fn a_document_comes_back_as_it_was(path in path(), fields in fields()) {
        let from = database("p", "(default)");
        let bytes = encode_entity(&from, &path, &fields).unwrap();
        let entity = decode_entity(&bytes).unwrap();
        prop_assert_eq!(shown(&entity), shown(&Entity { database: from, path, fields }));
    }

    #[test]
    fn changed_bytes_are_answered(
        path in path(),
        fields in fields(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        kept in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode_entity(&database("p", "d"), &path, &fields).unwrap();
        let _ = decode_entity(&bytes[..kept.index(bytes.len())]);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // Either way; what decodes is a document that can be written again.
        if let Ok(entity) = decode_entity(&bytes) {
            let _ = encode_entity(&entity.database, &entity.path, &entity.fields);
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = decode_entity(&bytes);
    }
}

fn key() -> Reference {
    Reference {
        app: Some("s~p".to_owned()),
        path: Some(Path {
            element: vec![Element {
                kind: Some("c".to_owned()),
                id: None,
                name: Some("d".to_owned()),
            }],
        }),
        name_space: None,
        database_id: None,
    }
}

fn with(properties: Vec<Property>) -> EntityProto {
    EntityProto {
        key: Some(key()),
        property: Vec::new(),
        raw_property: properties,
        entity_group: None,
    }
}

fn property(meaning: i32, multiple: bool, value: PropertyValue) -> Property {
    Property {
        meaning: Some(meaning),
        name: Some("f".to_owned()),
        multiple: Some(multiple),
        value: Some(value),
    }
}

fn complaint(entity: &EntityProto) -> String {
    decode_entity(&entity.encode_to_vec()).unwrap_err()
}

fn refused(meaning: i32, value: PropertyValue) -> String {
    complaint(&with(vec![property(meaning, false, value)]))
}

#[test]
fn what_is_not_firestores_is_refused_by_name() {
    let nothing = PropertyValue::default;
    let string = |bytes: &[u8]| PropertyValue {
        string: Some(bytes.to_vec()),
        ..nothing()
    };
    assert_eq!(
        refused(8, string(b"a@b")),
        "document c/d: field \"f\": a string with the meaning 8 is none of Firestore's values"
    );
    assert_eq!(
        refused(0, string(&[0xff])),
        "document c/d: field \"f\": a text is not UTF-8"
    );
    let user = PropertyValue {
        user: Some(UserValue {}),
        ..nothing()
    };
    assert!(refused(0, user).ends_with("a user is a value that only Datastore has"));
    let two = PropertyValue {
        int64: Some(1),
        boolean: Some(true),
        ..nothing()
    };
    assert!(refused(0, two).ends_with("one value is of several types"));
    let late = PropertyValue {
        int64: Some(i64::MAX),
        ..nothing()
    };
    assert!(
        decode_entity(&with(vec![property(meaning::TIMESTAMP, false, late)]).encode_to_vec())
            .is_err()
    );

    let one = || property(0, false, nothing());
    assert_eq!(
        complaint(&with(vec![one(), one()])),
        "document c/d: field \"f\" is there twice"
    );
    assert!(
        complaint(&with(vec![one(), property(0, true, nothing())]))
            .contains("an array has the name")
    );

    let mut elsewhere = with(Vec::new());
    elsewhere.key.as_mut().unwrap().name_space = Some("n".to_owned());
    assert_eq!(
        complaint(&elsewhere),
        "it is in the namespace \"n\", which only Datastore has"
    );
    let without_key = EntityProto::default();
    assert!(complaint(&without_key).contains("has no key"));
    let mut slash = with(Vec::new());
    let path = slash.key.as_mut().unwrap().path.as_mut().unwrap();
    path.element[0].name = Some("a/b/c".to_owned());
    assert_eq!(complaint(&slash), "the id \"a/b/c\" has a slash");
}

#[test]
fn maps_and_properties_are_bounded() {
    let mut bytes = with(Vec::new()).encode_to_vec();
    for _ in 0..NESTING_DEPTH_MAX {
        let value = PropertyValue {
            string: Some(bytes),
            ..PropertyValue::default()
        };
        bytes = with(vec![property(meaning::ENTITY, false, value)]).encode_to_vec();
    }
    decode_entity(&bytes).unwrap();
    let value = PropertyValue {
        string: Some(bytes),
        ..PropertyValue::default()
    };
    assert!(
        refused(meaning::ENTITY, value)
            .ends_with("maps and arrays are nested more than 20 levels deep")
    );

    // The shortest properties there are: an empty message in field 15.
    let many = [0x7a, 0].repeat(PROPERTIES_MAX + 1);
    assert_eq!(
        decode_entity(&many).unwrap_err(),
        format!("the record has more than {PROPERTIES_MAX} properties")
    );
}

#[test]
fn references_go_where_their_documents_go() {
    let (from, to) = (database("p", "(default)"), database("q", "d"));
    let name = |database: &DatabaseName| {
        Value::Reference(DocumentName {
            database: database.clone(),
            path: DocumentPath::parse("c/d").unwrap(),
        })
    };
    let other = database("p", "other");
    let around = |database: &DatabaseName| {
        let map = Fields::from([("m".to_owned(), Value::Array(vec![name(database)]))]);
        Fields::from([
            ("own".to_owned(), Value::Map(map)),
            ("other".to_owned(), name(&other)),
        ])
    };
    let mut entity = Entity {
        database: from.clone(),
        path: DocumentPath::parse("c/d").unwrap(),
        fields: around(&from),
    };
    entity.move_to(&to);
    assert_eq!(format!("{:?}", entity.fields), format!("{:?}", around(&to)));
    assert_eq!(entity.database, to);
}

#[test]
fn numeric_ids_of_values_and_names() {
    let reference = ReferenceValue {
        app: Some("p".to_owned()),
        path_element: vec![PathElement {
            kind: Some("c".to_owned()),
            id: Some(-7),
            name: None,
        }],
        name_space: None,
        database_id: Some("d".to_owned()),
    };
    let name = decode_reference(reference).unwrap();
    assert_eq!(
        name.to_string(),
        "projects/p/databases/d/documents/c/__id-7__"
    );
}
