//! Tables of stored values, operators and operands.

use super::*;
use crate::document::Fields;
use crate::path::{DocumentName, DocumentPath};
use crate::time::Timestamp;

fn database() -> DatabaseName {
    DatabaseName::new("p", "(default)").unwrap()
}

fn document(value: Option<Value>) -> Document {
    Document {
        path: DocumentPath::parse("c/m").unwrap(),
        create_time: Timestamp::from_micros(1).unwrap(),
        update_time: Timestamp::from_micros(1).unwrap(),
        fields: value
            .map(|value| ("f".to_owned(), value))
            .into_iter()
            .collect::<Fields>(),
    }
}

fn int(value: i64) -> Value {
    Value::Integer(value)
}
fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}
fn list(values: &[Value]) -> Value {
    Value::Array(values.to_vec())
}
fn name(path: &str) -> Value {
    Value::Reference(DocumentName {
        database: database(),
        path: DocumentPath::parse(path).unwrap(),
    })
}

#[test]
fn field_operators() {
    use FieldOperator::*;
    let nan = Value::Double(f64::NAN);
    let cases = [
        // Ranges stay within the type class of the operand.
        (Some(int(3)), LessThan, int(4), true),
        (Some(int(3)), LessThan, Value::Double(3.5), true),
        (Some(int(3)), LessThan, text("a"), false),
        (Some(Value::Null), LessThan, int(4), false),
        (Some(text("b")), GreaterThan, text("a"), true),
        (Some(text("b")), GreaterThan, int(1), false),
        (Some(int(3)), LessThanOrEqual, Value::Double(3.0), true),
        (Some(int(3)), GreaterThanOrEqual, int(3), true),
        (Some(int(3)), GreaterThan, int(3), false),
        (None, GreaterThan, int(3), false),
        // Null and NaN operands of ranges match nothing, not even themselves.
        (Some(Value::Null), LessThanOrEqual, Value::Null, false),
        (Some(nan.clone()), GreaterThanOrEqual, nan.clone(), false),
        (Some(int(1)), GreaterThan, nan.clone(), false),
        // Equality.
        (Some(int(3)), Equal, Value::Double(3.0), true),
        (Some(Value::Double(0.0)), Equal, Value::Double(-0.0), true),
        (Some(int(3)), Equal, text("3"), false),
        (Some(Value::Null), Equal, Value::Null, false),
        (Some(nan.clone()), Equal, nan.clone(), false),
        (None, Equal, int(3), false),
        // Inequality.
        (Some(int(3)), NotEqual, int(4), true),
        (Some(text("x")), NotEqual, int(4), true),
        (Some(int(4)), NotEqual, Value::Double(4.0), false),
        (Some(Value::Null), NotEqual, int(4), false),
        (Some(nan.clone()), NotEqual, int(4), true),
        (Some(nan.clone()), NotEqual, nan.clone(), false),
        (None, NotEqual, int(4), false),
        // Lists.
        (Some(int(1)), In, list(&[int(2), Value::Double(1.0)]), true),
        (Some(int(3)), In, list(&[int(2), int(1)]), false),
        (Some(Value::Null), In, list(&[Value::Null]), false),
        (
            Some(nan.clone()),
            In,
            list(std::slice::from_ref(&nan)),
            false,
        ),
        (Some(int(3)), NotIn, list(&[int(2), int(1)]), true),
        (Some(int(2)), NotIn, list(&[int(2), int(1)]), false),
        (Some(Value::Null), NotIn, list(&[int(1)]), false),
        (Some(int(3)), NotIn, list(&[int(1), Value::Null]), false),
        (
            Some(nan.clone()),
            NotIn,
            list(std::slice::from_ref(&nan)),
            false,
        ),
        (Some(int(1)), NotIn, list(std::slice::from_ref(&nan)), true),
        (None, NotIn, list(&[int(1)]), false),
        // Arrays.
        (
            Some(list(&[int(1), int(2)])),
            ArrayContains,
            Value::Double(2.0),
            true,
        ),
        (Some(list(&[int(1)])), ArrayContains, int(2), false),
        (Some(int(2)), ArrayContains, int(2), false),
        (
            Some(list(&[Value::Null])),
            ArrayContains,
            Value::Null,
            false,
        ),
        (
            Some(list(std::slice::from_ref(&nan))),
            ArrayContains,
            nan.clone(),
            false,
        ),
        (
            Some(list(&[int(1), int(2)])),
            ArrayContainsAny,
            list(&[int(5), int(2)]),
            true,
        ),
        (
            Some(list(&[int(1)])),
            ArrayContainsAny,
            list(&[int(5)]),
            false,
        ),
        (
            Some(list(&[Value::Null])),
            ArrayContainsAny,
            list(&[Value::Null]),
            false,
        ),
    ];
    for (stored, operator, operand, expected) in cases {
        let filter = Filter::Field {
            field: FieldPath::parse("f").unwrap(),
            operator,
            value: operand.clone(),
        };
        assert_eq!(
            filter.matches(&document(stored.clone()), &database()),
            expected,
            "{stored:?} {operator:?} {operand:?}"
        );
    }
}

#[test]
fn unary_operators() {
    use UnaryOperator::*;
    let nan = Value::Double(f64::NAN);
    // Stored value; then the answers of is-nan, is-null, is-not-nan, is-not-null.
    let cases = [
        (None, [false, false, false, false]),
        (Some(Value::Null), [false, true, false, false]),
        (Some(nan), [true, false, false, true]),
        (Some(int(1)), [false, false, true, true]),
        (Some(text("a")), [false, false, true, true]),
    ];
    for (stored, expected) in cases {
        let found = [IsNan, IsNull, IsNotNan, IsNotNull].map(|operator| {
            Filter::Unary {
                field: FieldPath::parse("f").unwrap(),
                operator,
            }
            .matches(&document(stored.clone()), &database())
        });
        assert_eq!(found, expected, "{stored:?}");
    }
}

#[test]
fn names_compare_as_references() {
    use FieldOperator::*;
    let cases = [
        (LessThan, name("c/n"), true),
        (LessThan, name("c/m"), false),
        (LessThanOrEqual, name("c/m"), true),
        (GreaterThan, name("c/a"), true),
        (GreaterThan, name("c/__id9__"), true),
        (GreaterThanOrEqual, name("d/a"), false),
        (Equal, name("c/m"), true),
        (Equal, text("c/m"), false),
        (NotEqual, name("c/x"), true),
        (In, list(&[name("c/x"), name("c/m")]), true),
        (NotIn, list(&[name("c/x"), name("c/m")]), false),
        (NotIn, list(&[name("c/x")]), true),
    ];
    for (operator, operand, expected) in cases {
        let filter = Filter::Field {
            field: FieldPath::document_name(),
            operator,
            value: operand.clone(),
        };
        assert_eq!(
            filter.matches(&document(None), &database()),
            expected,
            "{operator:?} {operand:?}"
        );
    }
}

#[test]
fn leaves_come_from_left_to_right() {
    let leaf = |name: &str| Filter::Unary {
        field: FieldPath::parse(name).unwrap(),
        operator: UnaryOperator::IsNull,
    };
    let filter = Filter::And(vec![
        leaf("a"),
        Filter::Or(vec![leaf("b"), leaf("c")]),
        leaf("d"),
    ]);
    let names: String = filter
        .leaves()
        .map(|leaf| match leaf {
            Filter::Unary { field, .. } => field.to_string(),
            _ => String::new(),
        })
        .collect();
    assert_eq!(names, "abcd");
    // AND of a null test and an OR: all must hold.
    let both = document(Some(Value::Null));
    let or = Filter::Or(vec![leaf("x"), leaf("f")]);
    assert!(or.matches(&both, &database()));
    assert!(!Filter::And(vec![or, leaf("x")]).matches(&both, &database()));
}
