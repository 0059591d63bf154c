//! What a write becomes, and the table of refusals.

use std::collections::BTreeMap;

use super::*;
use crate::pb::value::ValueType;
use crate::pb::write::Operation as Op;

const NAME: &str = "projects/p/databases/d/documents/c/x";

fn database() -> DatabaseName {
    DatabaseName::new("p", "d").unwrap()
}

fn integer(number: i64) -> pb::Value {
    pb::Value {
        value_type: Some(ValueType::IntegerValue(number)),
    }
}

fn document() -> pb::Document {
    pb::Document {
        name: NAME.to_owned(),
        fields: BTreeMap::from([("a".to_owned(), integer(1))]),
        create_time: Some(prost_types::Timestamp::default()),
        update_time: None,
    }
}

fn plain(operation: Op) -> pb::Write {
    pb::Write {
        operation: Some(operation),
        ..pb::Write::default()
    }
}

fn update() -> pb::Write {
    plain(Op::Update(document()))
}

fn mask(paths: &[&str]) -> Option<pb::DocumentMask> {
    Some(pb::DocumentMask {
        field_paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    })
}

fn transform(field: &str, kind: TransformType) -> FieldTransform {
    FieldTransform {
        field_path: field.to_owned(),
        transform_type: Some(kind),
    }
}

fn request_time(field: &str) -> FieldTransform {
    transform(
        field,
        TransformType::SetToServerValue(ServerValue::RequestTime.into()),
    )
}

fn condition(condition_type: Option<ConditionType>) -> Option<pb::Precondition> {
    Some(pb::Precondition { condition_type })
}

fn decode(write: pb::Write) -> Result<Write, Refusal> {
    decode_write(write, &database())
}

#[test]
fn an_update_sets_and_with_a_mask_patches() {
    let write = decode(update()).unwrap();
    assert_eq!(write.path.as_str(), "c/x");
    assert_eq!(write.precondition, Precondition::None);
    assert!(matches!(&write.operation, Operation::Set(fields) if fields.len() == 1));

    let patch = pb::Write {
        update_mask: mask(&["a", "b.`c d`"]),
        ..update()
    };
    let Operation::Patch { fields, mask: read } = decode(patch).unwrap().operation else {
        panic!("a mask makes a patch");
    };
    assert_eq!(fields.len(), 1);
    assert_eq!(
        read.paths(),
        [
            FieldPath::parse("a").unwrap(),
            FieldPath::parse("b.`c d`").unwrap()
        ]
    );

    let touch = pb::Write {
        update_mask: mask(&[]),
        ..update()
    };
    assert!(
        matches!(decode(touch).unwrap().operation, Operation::Patch { mask, .. } if mask.paths().is_empty())
    );
}

#[test]
fn delete_and_verify_keep_their_precondition() {
    let exists = condition(Some(ConditionType::Exists(true)));
    let delete = pb::Write {
        current_document: exists,
        ..plain(Op::Delete(NAME.to_owned()))
    };
    let delete = decode(delete).unwrap();
    assert!(matches!(delete.operation, Operation::Delete));
    assert_eq!(delete.precondition, Precondition::Exists(true));

    let time = prost_types::Timestamp {
        seconds: 5,
        nanos: 7_000,
    };
    let verify = pb::Write {
        current_document: condition(Some(ConditionType::UpdateTime(time))),
        ..plain(Op::Verify(NAME.to_owned()))
    };
    let verify = decode(verify).unwrap();
    assert!(matches!(verify.operation, Operation::Verify));
    assert!(
        matches!(verify.precondition, Precondition::UpdateTime(time) if time.micros() == 5_000_007)
    );
}

#[test]
fn every_transform_is_carried_over() {
    let elements = pb::ArrayValue {
        values: vec![integer(1)],
    };
    let update_transforms = vec![
        request_time("t"),
        transform("i", TransformType::Increment(integer(1))),
        transform("max", TransformType::Maximum(integer(2))),
        transform("min", TransformType::Minimum(integer(3))),
        transform(
            "add",
            TransformType::AppendMissingElements(elements.clone()),
        ),
        transform("sub", TransformType::RemoveAllFromArray(elements)),
    ];
    let write = decode(pb::Write {
        update_transforms,
        ..update()
    })
    .unwrap();
    let kinds: Vec<&TransformKind> = write.transforms.iter().map(|t| &t.kind).collect();
    assert!(matches!(
        kinds.as_slice(),
        [
            TransformKind::RequestTime,
            TransformKind::Increment(Value::Integer(1)),
            TransformKind::Maximum(Value::Integer(2)),
            TransformKind::Minimum(Value::Integer(3)),
            TransformKind::AppendMissing(_),
            TransformKind::RemoveAll(_),
        ]
    ));
}

#[test]
fn a_transform_alone_patches_nothing_first() {
    let alone = pb::DocumentTransform {
        document: NAME.to_owned(),
        field_transforms: vec![request_time("t")],
    };
    let write = decode(plain(Op::Transform(alone))).unwrap();
    assert!(
        matches!(&write.operation, Operation::Patch { fields, mask } if fields.is_empty() && mask.paths().is_empty())
    );
    assert_eq!(write.transforms.len(), 1);
    assert_eq!(write.precondition, Precondition::None);
}

fn with_transforms(update_transforms: Vec<FieldTransform>) -> pb::Write {
    pb::Write {
        update_transforms,
        ..update()
    }
}

fn named(name: &str) -> pb::Write {
    plain(Op::Delete(name.to_owned()))
}

fn conditioned(condition_type: Option<ConditionType>) -> pb::Write {
    pb::Write {
        current_document: condition(condition_type),
        ..update()
    }
}

#[test]
fn wrong_writes_are_refused_by_name() {
    let no_type = FieldTransform {
        field_path: "a".to_owned(),
        transform_type: None,
    };
    let half = prost_types::Timestamp {
        seconds: 1,
        nanos: 1_500,
    };
    let far = prost_types::Timestamp {
        seconds: i64::MAX,
        nanos: 0,
    };
    let empty_transform = pb::DocumentTransform {
        document: NAME.to_owned(),
        field_transforms: vec![],
    };
    for (write, expected) in [
        (pb::Write::default(), "Write.operation must be set"),
        (
            pb::Write {
                update_mask: mask(&[]),
                ..named(NAME)
            },
            "Write.update_mask can be set only",
        ),
        (
            pb::Write {
                update_transforms: vec![request_time("a")],
                ..plain(Op::Verify(NAME.to_owned()))
            },
            "Write.update_transforms can be set only",
        ),
        (
            plain(Op::Transform(empty_transform)),
            "field_transforms must not be empty",
        ),
        (
            pb::Write {
                update_mask: mask(&["__name__"]),
                ..update()
            },
            "'__name__' cannot be written",
        ),
        (
            pb::Write {
                update_mask: mask(&["a..b"]),
                ..update()
            },
            "Invalid property path",
        ),
        (
            pb::Write {
                update_mask: mask(&[""]),
                ..update()
            },
            "Invalid empty property path",
        ),
        (
            with_transforms(vec![request_time("__name__")]),
            "'__name__' cannot be written",
        ),
        (
            with_transforms(vec![request_time("a"), request_time("`a`")]),
            "only once",
        ),
        (
            with_transforms(vec![no_type]),
            "transform_type must be set for 'a'",
        ),
        (
            with_transforms(vec![transform("a", TransformType::SetToServerValue(0))]),
            "REQUEST_TIME",
        ),
        (
            with_transforms(vec![transform("a", TransformType::SetToServerValue(9))]),
            "REQUEST_TIME",
        ),
        (
            with_transforms(vec![transform(
                "a",
                TransformType::Maximum(pb::Value {
                    value_type: Some(ValueType::BooleanValue(true)),
                }),
            )]),
            "FieldTransform.maximum must be an integer or a double for 'a'",
        ),
        (conditioned(None), "Precondition.condition_type must be set"),
        (
            conditioned(Some(ConditionType::UpdateTime(half))),
            "whole microseconds",
        ),
        (
            conditioned(Some(ConditionType::UpdateTime(far))),
            "seconds of a timestamp",
        ),
        (
            named("projects/p/databases/other/documents/c/x"),
            "does not belong to the database",
        ),
        (named("projects/p/databases/d/documents/c"), ""),
        (named(""), ""),
    ] {
        let refusal = decode(write.clone()).unwrap_err();
        assert!(matches!(refusal, Refusal::Invalid(_)), "{write:?}");
        assert!(
            refusal.to_string().contains(expected),
            "{write:?}: {refusal}"
        );
    }
}

#[test]
fn results_carry_the_update_time_if_there_is_one() {
    let outcome = WriteOutcome {
        update_time: None,
        transform_results: vec![Value::Null],
    };
    let result = encode_write_result(&outcome);
    assert_eq!(result.update_time, None);
    assert_eq!(result.transform_results.len(), 1);
}
