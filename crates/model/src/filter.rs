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

#[cfg(test)]
mod tests;

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

/// Null and NaN: what equals nothing, itself included, in a filter.
pub fn is_unequal_to_all(value: &Value) -> bool {
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
