//! Tables of writes: a document before, a write, and what becomes of it.

use super::*;
use crate::field::{FieldMask, FieldPath};
use crate::path::DocumentPath;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

const BEFORE: i64 = 1_000;
const NOW: i64 = 1_234_567;

fn int(value: i64) -> Value {
    Value::Integer(value)
}
fn double(value: f64) -> Value {
    Value::Double(value)
}
fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}
fn list(values: &[Value]) -> Value {
    Value::Array(values.to_vec())
}
fn map(fields: &[(&str, Value)]) -> Value {
    Value::Map(fields_of(fields))
}
fn fields_of(fields: &[(&str, Value)]) -> Fields {
    fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}
fn field(path: &str) -> FieldPath {
    FieldPath::parse(path).unwrap()
}
fn mask(paths: &[&str]) -> FieldMask {
    FieldMask::new(paths.iter().map(|path| field(path)).collect())
}
fn document(fields: Fields) -> Document {
    Document {
        path: DocumentPath::parse("c/d").unwrap(),
        create_time: at(BEFORE),
        update_time: at(BEFORE),
        fields,
    }
}
fn write(operation: Operation) -> Write {
    Write {
        path: DocumentPath::parse("c/d").unwrap(),
        operation,
        precondition: Precondition::None,
        transforms: Vec::new(),
    }
}
fn set(fields: &[(&str, Value)]) -> Write {
    write(Operation::Set(fields_of(fields)))
}
fn patch(fields: &[(&str, Value)], paths: &[&str]) -> Write {
    write(Operation::Patch {
        fields: fields_of(fields),
        mask: mask(paths),
    })
}
fn transform(path: &str, kind: TransformKind) -> Write {
    let mut write = patch(&[], &[]);
    write.transforms.push(Transform {
        field: field(path),
        kind,
    });
    write
}
fn refusal(write: &Write, before: Option<&Document>) -> String {
    match apply(write, before, at(NOW)).unwrap_err() {
        Refused::Invalid(invalid) => invalid.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn operations() {
    let a1 = [("a", int(1))];
    let nested = [("m", map(&[("x", int(1)), ("y", int(2))])), ("z", int(9))];
    // Name, fields before, write, fields after, whether it changed.
    type Case<'a> = (&'a str, Option<Fields>, Write, Option<Fields>, bool);
    let cases: Vec<Case<'_>> = vec![
        ("set creates", None, set(&a1), Some(fields_of(&a1)), true),
        (
            "set replaces",
            Some(fields_of(&nested)),
            set(&a1),
            Some(fields_of(&a1)),
            true,
        ),
        (
            "set nothing creates",
            None,
            set(&[]),
            Some(Fields::new()),
            true,
        ),
        (
            "equal set is a no-op",
            Some(fields_of(&a1)),
            set(&a1),
            Some(fields_of(&a1)),
            false,
        ),
        (
            "another type is a change",
            Some(fields_of(&a1)),
            set(&[("a", double(1.0))]),
            Some(fields_of(&[("a", double(1.0))])),
            true,
        ),
        (
            "the sign of zero is a change",
            Some(fields_of(&[("a", double(0.0))])),
            set(&[("a", double(-0.0))]),
            Some(fields_of(&[("a", double(-0.0))])),
            true,
        ),
        (
            "NaN over NaN is a no-op",
            Some(fields_of(&[("a", double(f64::NAN))])),
            set(&[("a", double(f64::NAN))]),
            Some(fields_of(&[("a", double(f64::NAN))])),
            false,
        ),
        (
            "patch creates",
            None,
            patch(&a1, &["a"]),
            Some(fields_of(&a1)),
            true,
        ),
        (
            "patch writes only what the mask names",
            Some(fields_of(&nested)),
            patch(&[("z", int(8)), ("q", int(7))], &["z"]),
            Some(fields_of(&[
                ("m", map(&[("x", int(1)), ("y", int(2))])),
                ("z", int(8)),
            ])),
            true,
        ),
        (
            "patch of a nested field keeps its neighbours",
            Some(fields_of(&nested)),
            patch(&[("m", map(&[("x", int(5))]))], &["m.x"]),
            Some(fields_of(&[
                ("m", map(&[("x", int(5)), ("y", int(2))])),
                ("z", int(9)),
            ])),
            true,
        ),
        (
            "patch of a map replaces it",
            Some(fields_of(&nested)),
            patch(&[("m", map(&[("x", int(5))]))], &["m"]),
            Some(fields_of(&[("m", map(&[("x", int(5))])), ("z", int(9))])),
            true,
        ),
        (
            "named and absent is deleted",
            Some(fields_of(&nested)),
            patch(&[], &["m.x", "z"]),
            Some(fields_of(&[("m", map(&[("y", int(2))]))])),
            true,
        ),
        (
            "deleting what is not there is a no-op",
            Some(fields_of(&nested)),
            patch(&[], &["m.w", "k.l", "z.z"]),
            Some(fields_of(&nested)),
            false,
        ),
        (
            "parents are made",
            Some(fields_of(&a1)),
            patch(&[("p", map(&[("q", map(&[("r", int(1))]))]))], &["p.q.r"]),
            Some(fields_of(&[
                ("a", int(1)),
                ("p", map(&[("q", map(&[("r", int(1))]))])),
            ])),
            true,
        ),
        (
            "a parent that is no map is overwritten",
            Some(fields_of(&a1)),
            patch(&[("a", map(&[("b", int(2))]))], &["a.b"]),
            Some(fields_of(&[("a", map(&[("b", int(2))]))])),
            true,
        ),
        (
            "quoted names",
            Some(fields_of(&[("a.b", int(1)), ("a", map(&[("b", int(2))]))])),
            patch(&[("a.b", int(3))], &["`a.b`"]),
            Some(fields_of(&[("a.b", int(3)), ("a", map(&[("b", int(2))]))])),
            true,
        ),
        (
            "empty mask creates",
            None,
            patch(&a1, &[]),
            Some(Fields::new()),
            true,
        ),
        (
            "empty mask touches nothing",
            Some(fields_of(&nested)),
            patch(&a1, &[]),
            Some(fields_of(&nested)),
            false,
        ),
        (
            "delete",
            Some(fields_of(&a1)),
            write(Operation::Delete),
            None,
            true,
        ),
        (
            "delete of nothing",
            None,
            write(Operation::Delete),
            None,
            false,
        ),
        (
            "verify",
            Some(fields_of(&a1)),
            write(Operation::Verify),
            Some(fields_of(&a1)),
            false,
        ),
        (
            "verify of nothing",
            None,
            write(Operation::Verify),
            None,
            false,
        ),
    ];
    for (name, before, write, expected, changed) in cases {
        let before = before.map(document);
        let applied = apply(&write, before.as_ref(), at(NOW)).unwrap();
        assert_eq!(applied.changed, changed, "{name}");
        match (&applied.after, &expected) {
            (None, None) => {}
            (Some(after), Some(expected)) => {
                assert!(
                    identical_fields(&after.fields, expected),
                    "{name}: {after:?}"
                );
                assert_eq!(
                    after.update_time,
                    at(if changed { NOW } else { BEFORE }),
                    "{name}"
                );
                assert_eq!(
                    after.create_time,
                    at(if before.is_some() { BEFORE } else { NOW }),
                    "{name}"
                );
            }
            _ => panic!("{name}: {applied:?}"),
        }
    }
}

#[test]
fn transforms() {
    use TransformKind::{AppendMissing, Increment, Maximum, Minimum, RemoveAll, RequestTime};
    let nan = double(f64::NAN);
    let time = Value::Timestamp(at(1_234_000));
    // What is stored, the transform, what is stored afterwards (and answered, save for arrays).
    let cases = [
        (None, RequestTime, time.clone()),
        (Some(int(1)), RequestTime, time),
        // Increment.
        (None, Increment(int(5)), int(5)),
        (None, Increment(double(-0.0)), double(-0.0)),
        (Some(text("x")), Increment(int(5)), int(5)),
        (Some(Value::Null), Increment(double(1.5)), double(1.5)),
        (Some(int(1)), Increment(int(2)), int(3)),
        (Some(int(i64::MAX - 1)), Increment(int(5)), int(i64::MAX)),
        (Some(int(i64::MIN + 1)), Increment(int(-5)), int(i64::MIN)),
        (Some(int(1)), Increment(double(0.5)), double(1.5)),
        (Some(double(0.5)), Increment(int(1)), double(1.5)),
        (Some(double(0.5)), Increment(double(0.5)), double(1.0)),
        (Some(int(1)), Increment(nan.clone()), nan.clone()),
        (Some(nan.clone()), Increment(int(1)), nan.clone()),
        // Maximum and minimum keep the type of the one that wins, and the stored one when equal.
        (None, Maximum(int(3)), int(3)),
        (Some(text("x")), Maximum(int(3)), int(3)),
        (Some(int(1)), Maximum(double(2.5)), double(2.5)),
        (Some(double(2.5)), Maximum(int(3)), int(3)),
        (Some(int(3)), Maximum(double(2.5)), int(3)),
        (Some(int(3)), Maximum(double(3.0)), int(3)),
        (Some(double(3.0)), Maximum(int(3)), double(3.0)),
        (Some(double(-0.0)), Maximum(int(0)), double(-0.0)),
        (Some(double(-0.0)), Maximum(double(0.0)), double(-0.0)),
        (Some(int(3)), Maximum(nan.clone()), nan.clone()),
        (Some(nan.clone()), Maximum(int(3)), nan.clone()),
        (None, Minimum(int(3)), int(3)),
        (Some(Value::Null), Minimum(int(3)), int(3)),
        (Some(int(1)), Minimum(double(2.5)), int(1)),
        (Some(double(2.5)), Minimum(int(1)), int(1)),
        (Some(int(3)), Minimum(double(2.5)), double(2.5)),
        (Some(int(3)), Minimum(double(3.0)), int(3)),
        (Some(int(0)), Minimum(double(-0.0)), int(0)),
        (Some(int(3)), Minimum(nan.clone()), nan.clone()),
        (Some(nan.clone()), Minimum(int(3)), nan.clone()),
        // The edge where doubles can no longer tell integers apart.
        (
            Some(int(9_007_199_254_740_993)),
            Maximum(double(9_007_199_254_740_992.0)),
            int(9_007_199_254_740_993),
        ),
        // Array union.
        (None, AppendMissing(vec![int(1), int(1)]), list(&[int(1)])),
        (Some(int(7)), AppendMissing(vec![int(1)]), list(&[int(1)])),
        (None, AppendMissing(vec![]), list(&[])),
        (
            Some(list(&[int(3), int(3), nan.clone(), Value::Null])),
            AppendMissing(vec![
                double(3.0),
                nan.clone(),
                Value::Null,
                text("3"),
                int(2),
            ]),
            list(&[int(3), int(3), nan.clone(), Value::Null, text("3"), int(2)]),
        ),
        (
            Some(list(&[map(&[("a", int(1))])])),
            AppendMissing(vec![map(&[("a", double(1.0))]), map(&[("a", int(2))])]),
            list(&[map(&[("a", int(1))]), map(&[("a", int(2))])]),
        ),
        // Array remove.
        (None, RemoveAll(vec![int(1)]), list(&[])),
        (Some(text("x")), RemoveAll(vec![int(1)]), list(&[])),
        (
            Some(list(&[
                int(3),
                int(1),
                double(3.0),
                nan.clone(),
                Value::Null,
                double(-0.0),
            ])),
            RemoveAll(vec![double(3.0), nan.clone(), Value::Null, int(0)]),
            list(&[int(1)]),
        ),
    ];
    for (stored, kind, expected) in cases {
        for path in ["f", "m.f"] {
            let name = format!("{path}: {stored:?} {kind:?}");
            let mut fields = fields_of(&[("other", int(1))]);
            if let Some(stored) = &stored {
                field(path).set(&mut fields, stored.clone());
            }
            let before = document(fields);
            let write = transform(path, kind.clone());
            let applied = apply(&write, Some(&before), at(NOW)).unwrap();
            let after = applied.after.unwrap();
            let found = field(path).get(&after.fields).unwrap();
            assert!(found.identical(&expected), "{name}: {found:?}");
            assert!(after.fields.contains_key("other"), "{name}");
            let is_array = matches!(kind, AppendMissing(_) | RemoveAll(_));
            let answer = if is_array { &Value::Null } else { &expected };
            assert_eq!(applied.transform_results.len(), 1, "{name}");
            assert!(applied.transform_results[0].identical(answer), "{name}");
            let changed = !stored
                .as_ref()
                .is_some_and(|stored| stored.identical(&expected));
            assert_eq!(applied.changed, changed, "{name}");
            assert_eq!(
                after.update_time,
                at(if changed { NOW } else { BEFORE }),
                "{name}"
            );
        }
    }
}

#[test]
fn transforms_follow_the_operation_in_order() {
    let mut write = set(&[("a", int(1))]);
    for (path, kind) in [
        ("a", TransformKind::Increment(int(2))),
        ("b.c", TransformKind::Maximum(int(4))),
        ("b", TransformKind::AppendMissing(vec![int(9)])),
    ] {
        write.transforms.push(Transform {
            field: field(path),
            kind,
        });
    }
    let before = document(fields_of(&[("a", int(100))]));
    let applied = apply(&write, Some(&before), at(NOW)).unwrap();
    let expected = fields_of(&[("a", int(3)), ("b", list(&[int(9)]))]);
    assert!(identical_fields(&applied.after.unwrap().fields, &expected));
    let answers = list(&[int(3), int(4), Value::Null]);
    assert!(list(&applied.transform_results).identical(&answers));
}

#[test]
fn preconditions() {
    use Precondition::{Exists, None as Nothing, UpdateTime};
    let stored = document(Fields::new());
    let mismatch = Refused::VersionMismatch {
        stored: at(BEFORE),
        required: at(BEFORE + 1),
    };
    let outdated = Refused::VersionMismatch {
        stored: Timestamp::EPOCH,
        required: at(BEFORE),
    };
    let cases = [
        (Nothing, false, Ok(())),
        (Nothing, true, Ok(())),
        (Exists(true), true, Ok(())),
        (Exists(true), false, Err(Refused::NotFound)),
        (Exists(false), false, Ok(())),
        (Exists(false), true, Err(Refused::AlreadyExists)),
        (UpdateTime(at(BEFORE)), true, Ok(())),
        (UpdateTime(at(BEFORE + 1)), true, Err(mismatch)),
        (UpdateTime(at(BEFORE)), false, Err(outdated)),
    ];
    for (precondition, exists, expected) in cases {
        let before = exists.then_some(&stored);
        assert_eq!(
            check_precondition(&precondition, before),
            expected,
            "{precondition:?}"
        );
        let operations = [
            Operation::Set(Fields::new()),
            Operation::Patch {
                fields: Fields::new(),
                mask: mask(&[]),
            },
            Operation::Delete,
            Operation::Verify,
        ];
        for operation in operations {
            let mut write = write(operation);
            write.precondition = precondition.clone();
            let found = apply(&write, before, at(NOW)).map(|_| ());
            assert_eq!(found, expected, "{write:?}");
        }
    }
}

#[test]
fn refusals() {
    let nested_array = set(&[("a", list(&[list(&[int(1)])]))]);
    assert_eq!(
        refusal(&nested_array, None),
        "Cannot convert an array value in an array value."
    );
    let nested = transform("a", TransformKind::AppendMissing(vec![list(&[])]));
    assert_eq!(
        refusal(&nested, None),
        "Cannot convert an array value in an array value."
    );
    assert!(refusal(&set(&[("__x__", int(1))]), None).contains("__x__"));

    // Growing past the limit by a patch is refused as a large set is.
    let half = "x".repeat(600_000);
    let before = document(fields_of(&[("a", text(&half))]));
    let grown = apply(
        &patch(&[("b", text(&half))], &["b"]),
        Some(&before),
        at(NOW),
    );
    assert!(matches!(
        grown,
        Err(Refused::TooLarge { size: 1_200_000.. })
    ));

    for kind in [
        TransformKind::Increment(text("1")),
        TransformKind::Maximum(Value::Null),
        TransformKind::Minimum(list(&[])),
    ] {
        let text = refusal(&transform("a.b", kind), None);
        assert!(
            text.ends_with("of \"a.b\" requires an integer or double operand."),
            "{text}"
        );
    }

    let mut twice = transform("a", TransformKind::RequestTime);
    twice.transforms.push(twice.transforms[0].clone());
    assert_eq!(
        refusal(&twice, None),
        "Only one transform per field is allowed. Found several for \"a\"."
    );

    let mut many = patch(&[], &[]);
    many.transforms = (0..501)
        .map(|n| Transform {
            field: field(&format!("f{n}")),
            kind: TransformKind::RequestTime,
        })
        .collect();
    assert!(refusal(&many, None).contains("501 transforms"));
    many.transforms.pop();
    assert!(apply(&many, None, at(NOW)).is_ok());

    let mut deleted = transform("a", TransformKind::RequestTime);
    deleted.operation = Operation::Delete;
    assert!(refusal(&deleted, None).starts_with("Transforms are only allowed"));

    let mut name = patch(&[], &[]);
    name.operation = Operation::Patch {
        fields: Fields::new(),
        mask: FieldMask::new(vec![FieldPath::document_name()]),
    };
    assert_eq!(refusal(&name, None), "the name __key__ is reserved");
}

#[test]
fn a_document_is_at_most_one_mebibyte() {
    // Two fields, because one value alone may not be that long: names cost 2 bytes each.
    let of_size = |size: usize| {
        let rest = size - document(Fields::new()).size() - 4 - 1_000_000;
        let fields = fields_of(&[
            ("a", Value::Bytes(vec![0; 1_000_000])),
            ("b", Value::Bytes(vec![0; rest])),
        ]);
        apply(&write(Operation::Set(fields)), None, at(NOW)).map(|applied| {
            let after = applied.after.unwrap();
            after.size()
        })
    };
    assert_eq!(of_size(1_048_576), Ok(1_048_576));
    assert_eq!(
        of_size(1_048_577),
        Err(Refused::TooLarge { size: 1_048_577 })
    );
}
