//! Filters and what they match.

use crate::{Document, DatabaseName, FieldPath, Value};

#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum FieldOperator {
    LessThan,
    LessThanOrEqual,
    GreaterThan,
    GreaterThanOrEqual,
    Equal,
    NotEqual,
    ArrayContains,
    In,
    ArrayContainsAny,
    NotIn,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOperator {
    IsNan,
    IsNull,
    IsNotNan,
    IsNotNull,
}

#[derive(Clone, Debug)]
pub enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Field { field: FieldPath, operator: FieldOperator, value: Value },
    Unary { field: FieldPath, operator: UnaryOperator },
}

impl Filter {
    /// Whether the document satisfies the filter. `database` gives `__name__` its full reference.
    pub fn matches(&self, document: &Document, database: &DatabaseName) -> bool {
        let _ = (document, database);
        unimplemented!()
    }
}
