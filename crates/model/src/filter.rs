//! Filters and what they match.
//!
//! Null and NaN never equal anything and are never in a range; the unary operators test for them.
//! A missing field satisfies no filter at all, not even a negative one.
//! Nothing here checks whether a filter is allowed: `Query::new` does, and bounds its depth.

use std::cmp::Ordering;

use crate::document::Document;
use crate::field::FieldPath;
use crate::path::DatabaseName;
use crate::value::Value;

/// How a field is compared with an operand.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum FieldOperator {
    /// Below, within the type class of the operand.
    LessThan,
    /// Below or equal, within the type class of the operand.
    LessThanOrEqual,
    /// Above, within the type class of the operand.
    GreaterThan,
    /// Above or equal, within the type class of the operand.
    GreaterThanOrEqual,
    /// Equal in the total order (3 equals 3.0).
    Equal,
    /// Present, not null, and not equal; values of other types match.
    NotEqual,
    /// An array with an element equal to the operand.
    ArrayContains,
    /// Equal to one of the operand's elements.
    In,
    /// An array with an element equal to one of the operand's elements.
    ArrayContainsAny,
    /// Present, not null, and equal to none of the operand's elements. A null among these matches nothing.
    NotIn,
}

/// Tests of a field without an operand.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOperator {
    /// The double NaN.
    IsNan,
    /// Present and null.
    IsNull,
    /// Present, and neither null nor NaN; need not be a number.
    IsNotNan,
    /// Present and not null.
    IsNotNull,
}

/// A condition on documents.
#[derive(Clone, Debug)]
pub enum Filter {
    /// All of these.
    And(Vec<Filter>),
    /// At least one of these.
    Or(Vec<Filter>),
    /// A field compared with an operand; `__name__` is compared as a reference.
    Field {
        /// The field, or `__name__`.
        field: FieldPath,
        /// The comparison.
        operator: FieldOperator,
        /// The operand; an array for `In`, `NotIn` and `ArrayContainsAny`.
        value: Value,
    },
    /// A field tested without an operand.
    Unary {
        /// The field.
        field: FieldPath,
        /// The test.
        operator: UnaryOperator,
    },
}

impl FieldOperator {
    /// Whether results are implicitly ordered by the field.
    pub fn is_inequality(self) -> bool {
        match self {
            FieldOperator::LessThan
            | FieldOperator::LessThanOrEqual
            | FieldOperator::GreaterThan
            | FieldOperator::GreaterThanOrEqual
            | FieldOperator::NotEqual
            | FieldOperator::NotIn => true,
            FieldOperator::Equal
            | FieldOperator::ArrayContains
            | FieldOperator::In
            | FieldOperator::ArrayContainsAny => false,
        }
    }
}

impl UnaryOperator {
    /// Whether results are implicitly ordered by the field.
    pub fn is_inequality(self) -> bool {
        match self {
            UnaryOperator::IsNotNan | UnaryOperator::IsNotNull => true,
            UnaryOperator::IsNan | UnaryOperator::IsNull => false,
        }
    }
}

impl Filter {
    /// Whether the document satisfies the filter. `database` gives `__name__` its full reference.
    pub fn matches(&self, document: &Document, database: &DatabaseName) -> bool {
        match self {
            Filter::And(filters) => filters
                .iter()
                .all(|filter| filter.matches(document, database)),
            Filter::Or(filters) => filters
                .iter()
                .any(|filter| filter.matches(document, database)),
            Filter::Field {
                field,
                operator,
                value,
            } if field.is_document_name() => name_matches(document, database, *operator, value),
            Filter::Field {
                field,
                operator,
                value,
            } => field
                .get(&document.fields)
                .is_some_and(|stored| value_matches(stored, *operator, value)),
            Filter::Unary { field, operator } if field.is_document_name() => {
                operator.is_inequality()
            }
            Filter::Unary { field, operator } => field
                .get(&document.fields)
                .is_some_and(|stored| unary_matches(stored, *operator)),
        }
    }

    /// The conditions of which the filter is made, without AND and OR around them.
    pub fn leaves(&self) -> impl Iterator<Item = &Filter> {
        let mut open = vec![self];
        std::iter::from_fn(move || {
            loop {
                match open.pop()? {
                    Filter::And(filters) | Filter::Or(filters) => open.extend(filters.iter().rev()),
                    leaf @ (Filter::Field { .. } | Filter::Unary { .. }) => return Some(leaf),
                }
            }
        })
    }

    /// The field of a leaf when the leaf is an inequality, so that results are implicitly ordered by it.
    pub fn inequality_field(&self) -> Option<&FieldPath> {
        match self {
            Filter::And(_) | Filter::Or(_) => None,
            Filter::Field {
                field, operator, ..
            } => operator.is_inequality().then_some(field),
            Filter::Unary { field, operator } => operator.is_inequality().then_some(field),
        }
    }
}

/// Null and NaN: what no operand equals.
fn is_unequal_to_all(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Double(double) => double.is_nan(),
        _ => false,
    }
}

fn equals(stored: &Value, operand: &Value) -> bool {
    !is_unequal_to_all(operand) && stored.equals(operand)
}

/// The elements of a list operand; nothing when it is none, which `Query::new` refuses.
fn elements(operand: &Value) -> &[Value] {
    match operand {
        Value::Array(elements) => elements,
        _ => &[],
    }
}

fn in_range(ordering: Ordering, operator: FieldOperator) -> bool {
    match operator {
        FieldOperator::LessThan => ordering == Ordering::Less,
        FieldOperator::LessThanOrEqual => ordering != Ordering::Greater,
        FieldOperator::GreaterThan => ordering == Ordering::Greater,
        FieldOperator::GreaterThanOrEqual => ordering != Ordering::Less,
        FieldOperator::Equal => ordering == Ordering::Equal,
        FieldOperator::NotEqual => ordering != Ordering::Equal,
        FieldOperator::ArrayContains
        | FieldOperator::In
        | FieldOperator::ArrayContainsAny
        | FieldOperator::NotIn => false,
    }
}

fn value_matches(stored: &Value, operator: FieldOperator, operand: &Value) -> bool {
    match operator {
        FieldOperator::LessThan
        | FieldOperator::LessThanOrEqual
        | FieldOperator::GreaterThan
        | FieldOperator::GreaterThanOrEqual => {
            !is_unequal_to_all(operand)
                && stored.type_rank() == operand.type_rank()
                && in_range(stored.compare(operand), operator)
        }
        FieldOperator::Equal => equals(stored, operand),
        // Unlike in `equals`, NaN is NaN here: `!=` NaN asks for whatever is not NaN.
        FieldOperator::NotEqual => !matches!(stored, Value::Null) && !stored.equals(operand),
        FieldOperator::In => elements(operand)
            .iter()
            .any(|operand| equals(stored, operand)),
        FieldOperator::NotIn => {
            !matches!(stored, Value::Null)
                && elements(operand)
                    .iter()
                    .all(|operand| !matches!(operand, Value::Null) && !stored.equals(operand))
        }
        FieldOperator::ArrayContains => match stored {
            Value::Array(stored) => stored.iter().any(|stored| equals(stored, operand)),
            _ => false,
        },
        FieldOperator::ArrayContainsAny => match stored {
            Value::Array(stored) => elements(operand)
                .iter()
                .any(|operand| stored.iter().any(|stored| equals(stored, operand))),
            _ => false,
        },
    }
}

fn unary_matches(stored: &Value, operator: UnaryOperator) -> bool {
    let is_null = matches!(stored, Value::Null);
    let is_nan = matches!(stored, Value::Double(double) if double.is_nan());
    match operator {
        UnaryOperator::IsNan => is_nan,
        UnaryOperator::IsNull => is_null,
        UnaryOperator::IsNotNan => !is_null && !is_nan,
        UnaryOperator::IsNotNull => !is_null,
    }
}

/// As `value_matches`, with the name of the document as the stored value, which is not built.
fn name_matches(
    document: &Document,
    database: &DatabaseName,
    operator: FieldOperator,
    operand: &Value,
) -> bool {
    let compare = |operand: &Value| match operand {
        Value::Reference(name) => Some(
            database
                .cmp(&name.database)
                .then_with(|| document.path.cmp(&name.path)),
        ),
        _ => None,
    };
    match operator {
        FieldOperator::LessThan
        | FieldOperator::LessThanOrEqual
        | FieldOperator::GreaterThan
        | FieldOperator::GreaterThanOrEqual
        | FieldOperator::Equal
        | FieldOperator::NotEqual => {
            compare(operand).is_some_and(|ordering| in_range(ordering, operator))
        }
        FieldOperator::In => elements(operand)
            .iter()
            .any(|operand| compare(operand) == Some(Ordering::Equal)),
        FieldOperator::NotIn => elements(operand)
            .iter()
            .all(|operand| compare(operand).is_some_and(Ordering::is_ne)),
        FieldOperator::ArrayContains | FieldOperator::ArrayContainsAny => false,
    }
}

#[cfg(test)]
mod tests {
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
            (Some(nan.clone()), In, list(&[nan.clone()]), false),
            (Some(int(3)), NotIn, list(&[int(2), int(1)]), true),
            (Some(int(2)), NotIn, list(&[int(2), int(1)]), false),
            (Some(Value::Null), NotIn, list(&[int(1)]), false),
            (Some(int(3)), NotIn, list(&[int(1), Value::Null]), false),
            (Some(nan.clone()), NotIn, list(&[nan.clone()]), false),
            (Some(int(1)), NotIn, list(&[nan.clone()]), true),
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
                Some(list(&[nan.clone()])),
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
}
