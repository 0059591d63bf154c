//! Names and messages there and back, and what is refused.

use super::*;

const DATABASE: &str = "projects/p/databases/(default)";

fn database() -> DatabaseName {
    DatabaseName::parse(DATABASE).unwrap()
}

fn path(text: &str) -> FieldPath {
    FieldPath::parse(text).unwrap()
}

fn resource() -> IndexResource {
    IndexResource {
        name: decode_index_name(&format!("{DATABASE}/collectionGroups/c/indexes/a1")).unwrap(),
        shape: IndexShape {
            scope: IndexScope::CollectionGroup,
            fields: vec![
                (path("a"), IndexMode::Descending),
                (path("`x y`.b"), IndexMode::Contains),
                (path("__name__"), IndexMode::Descending),
                (path("v"), IndexMode::Vector { dimension: 3 }),
            ],
        },
        state: IndexState::Creating,
    }
}

fn field(path_text: &str) -> FieldResource {
    FieldResource {
        name: decode_field_name(&format!("{DATABASE}/collectionGroups/c/fields/{path_text}"))
            .unwrap(),
        indexes: vec![FieldIndexState {
            scope: IndexScope::Collection,
            mode: IndexMode::Contains,
            state: IndexState::Ready,
        }],
        uses_ancestor: false,
        ancestor: Some(FieldName {
            database: database(),
            group: None,
            path: None,
        }),
        reverting: true,
    }
}

#[test]
fn names_there_and_back() {
    for rest in [
        "c/fields/a.b",
        "c/fields/*",
        "c/fields/`/fields/`",
        "__default__/fields/*",
    ] {
        let text = format!("{DATABASE}/collectionGroups/{rest}");
        assert_eq!(decode_field_name(&text).unwrap().to_string(), text);
    }
    for group in ["c", "-"] {
        let text = format!("{DATABASE}/collectionGroups/{group}");
        assert_eq!(decode_group_name(&text).unwrap().to_string(), text);
    }
    let text = format!("{DATABASE}/operations/7f");
    assert_eq!(decode_operation_name(&text).unwrap().to_string(), text);
    let text = format!("{DATABASE}/collectionGroups/__default__");
    assert!(decode_group_name(&text).is_err());
    assert!(decode_fields_parent(&text).unwrap().1);
}

#[test]
fn wrong_names_say_what_they_should_be() {
    for text in [
        "",
        DATABASE,
        "projects/p/collectionGroups/c/indexes/a",
        "projects/p/databases/(default)/collectionGroups/c",
        "projects/p/databases/(default)/collectionGroups/c/indexes/",
        "projects/p/databases/(default)/collectionGroups/c/indexes/a/b",
        "projects/p/databases/(default)/collectionGroups/__x__/indexes/a",
    ] {
        assert!(decode_index_name(text).is_err(), "{text}");
        assert!(decode_field_name(text).is_err(), "{text}");
    }
    let wrong = decode_index_name("x").unwrap_err().to_string();
    assert!(
        wrong.contains("collectionGroups/{collection id}/indexes"),
        "{wrong}"
    );
    for rest in ["__default__/fields/a", "c/fields/__name__", "c/fields/a..b"] {
        let text = format!("{DATABASE}/collectionGroups/{rest}");
        assert!(decode_field_name(&text).is_err(), "{text}");
    }
}

#[test]
fn indexes_and_fields_there_and_back() {
    let index = resource();
    let message = encode_index_resource(&index);
    assert_eq!(decode_index_resource(message).unwrap(), index);
    for field in [field("a"), field("*")] {
        let message = encode_field_resource(&field);
        assert_eq!(decode_field_resource(message).unwrap(), field);
    }
    for indexes in [
        None,
        Some(Vec::new()),
        Some(vec![(IndexScope::CollectionGroup, IndexMode::Ascending)]),
    ] {
        let update = FieldUpdate {
            name: field("a").name,
            indexes,
        };
        assert_eq!(
            decode_update_field(encode_update_field(&update)).unwrap(),
            update
        );
    }
}

type Change<'a> = &'a dyn Fn(&mut admin::Index);

#[test]
fn what_is_not_served_is_refused_by_name() {
    use admin::index::{ApiScope, Density, QueryScope};
    let good = || encode_index_shape(&resource().shape);
    let cases: [(&str, Change); 9] = [
        ("Index.density DENSE", &|index| {
            index.density = Density::Dense.into()
        }),
        ("Index.api_scope DATASTORE_MODE_API", &|index| {
            index.api_scope = ApiScope::DatastoreModeApi.into();
        }),
        ("Index.multikey", &|index| index.multikey = true),
        ("Index.unique", &|index| index.unique = true),
        ("Index.shard_count", &|index| index.shard_count = 2),
        ("COLLECTION_RECURSIVE", &|index| {
            index.query_scope = QueryScope::CollectionRecursive.into();
        }),
        ("index.query_scope must be", &|index| index.query_scope = 0),
        ("index.fields[0] must have an order", &|index| {
            index.fields[0].value_mode = None;
        }),
        ("index.fields[0].field_path", &|index| {
            index.fields[0].field_path = "a..b".to_owned();
        }),
    ];
    for (text, change) in cases {
        let mut index = good();
        change(&mut index);
        let refusal = decode_index_shape(index).unwrap_err().to_string();
        assert!(refusal.contains(text), "{refusal}");
    }
}

#[test]
fn field_updates_say_what_is_wrong() {
    let update = || {
        encode_update_field(&FieldUpdate {
            name: field("a").name,
            indexes: Some(vec![(IndexScope::Collection, IndexMode::Ascending)]),
        })
    };
    let config = |request: &mut admin::UpdateFieldRequest| {
        request.field.as_mut().unwrap().index_config.take().unwrap()
    };

    let mut no_mask = update();
    no_mask.update_mask = None;
    assert!(
        decode_update_field(no_mask.clone())
            .unwrap()
            .indexes
            .is_some()
    );
    config(&mut no_mask);
    assert!(decode_update_field(no_mask).is_err());

    let mut ttl = update();
    ttl.field.as_mut().unwrap().ttl_config = Some(admin::field::TtlConfig::default());
    let refusal = decode_update_field(ttl).unwrap_err();
    assert_eq!(refusal, Refusal::unimplemented("Field.ttl_config"));

    let mut other = update();
    let mut wrong = config(&mut other);
    wrong.indexes[0].fields[0].field_path = "b".to_owned();
    other.field.as_mut().unwrap().index_config = Some(wrong);
    let refusal = decode_update_field(other).unwrap_err().to_string();
    assert!(
        refusal.contains("is b, which is not the field of"),
        "{refusal}"
    );
}

#[test]
fn operations_tell_progress_and_end() {
    let mut operation = OperationResource {
        name: decode_operation_name(&format!("{DATABASE}/operations/1")).unwrap(),
        subject: OperationSubject::Index(resource()),
        state: OperationState::Processing,
        started: Timestamp::from_micros(5).unwrap(),
        ended: None,
        documents_done: 3,
        documents_estimated: 10,
    };
    let progress = decode_operation_progress(encode_operation(&operation)).unwrap();
    assert!(!progress.done);
    assert_eq!(
        (progress.documents_done, progress.documents_estimated),
        (3, 10)
    );

    operation.state = OperationState::Successful;
    operation.subject = OperationSubject::Field {
        field: field("a"),
        added: vec![(IndexScope::CollectionGroup, IndexMode::Ascending)],
        removed: Vec::new(),
    };
    let message = encode_operation(&operation);
    match &message.result {
        Some(longrunning::operation::Result::Response(any)) => {
            assert_eq!(any.type_url, FIELD_TYPE);
        }
        other => panic!("{other:?}"),
    }
    let progress = decode_operation_progress(message).unwrap();
    assert!(progress.done && progress.failure.is_none());

    operation.state = OperationState::Cancelled;
    let progress = decode_operation_progress(encode_operation(&operation)).unwrap();
    assert!(progress.done && progress.failure.is_some());
}
