//! Queries of the whole language and documents for them, both from so few values and names that they often meet.
//! Exists only in tests: in this crate's, and with the feature `generate`, which only tests of others switch on.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::document::Fields;
use crate::field::FieldPath;
use crate::filter::{FieldOperator, Filter, UnaryOperator};
use crate::path::{DatabaseName, DocumentName, DocumentPath, Parent};
use crate::query::{Cursor, Direction, Order, Query, QueryParts, Selector};
use crate::value::Value;

/// Where documents are: in the collection that queries ask for, in one of the same group, and elsewhere.
pub const DOCUMENT_PATHS: [&str; 12] = [
    "c/a",
    "c/b",
    "c/__id7__",
    "c/d",
    "c/e",
    "c/f",
    "c/g",
    "c/h",
    "c/i",
    "x/y/c/a",
    "x/y/c/b",
    "z/a",
];

/// The database of all queries.
pub fn query_database() -> DatabaseName {
    DatabaseName::new("p", "(default)").expect("made to be valid")
}

/// The query of the collection `c` without any condition.
pub fn plain_query() -> QueryParts {
    QueryParts {
        database: query_database(),
        parent: Parent::Root,
        selector: Selector::Collection("c".to_owned()),
        filter: None,
        order: Vec::new(),
        start: None,
        end: None,
        offset: 0,
        limit: None,
        projection: None,
    }
}

/// A name, seldom of another database.
fn name() -> impl Strategy<Value = Value> {
    (
        prop::sample::select(DOCUMENT_PATHS.to_vec()),
        prop::sample::select(vec!["(default)", "(default)", "(default)", "a", "z"]),
    )
        .prop_map(|(path, database)| {
            Value::Reference(DocumentName {
                database: DatabaseName::new("p", database).expect("made to be valid"),
                path: DocumentPath::parse(path).expect("made to be valid"),
            })
        })
}

fn value() -> impl Strategy<Value = Value> {
    let element = prop_oneof![
        4 => (0_i64..3).prop_map(Value::Integer),
        1 => prop::sample::select(vec![Value::Null, Value::Double(f64::NAN), Value::Double(1.0)]),
    ];
    prop_oneof![
        12 => (0_i64..5).prop_map(Value::Integer),
        2 => Just(Value::Null),
        2 => Just(Value::Double(f64::NAN)),
        2 => Just(Value::Double(2.5)),
        2 => Just(Value::Double(3.0)),
        1 => Just(Value::Double(-0.0)),
        1 => any::<bool>().prop_map(Value::Boolean),
        2 => prop::sample::select(vec!["", "s", "sa", "t"]).prop_map(|text| Value::String(text.to_owned())),
        2 => vec(element, 0..3).prop_map(Value::Array),
        1 => (0_i64..3).prop_map(|inner| {
            Value::Map(Fields::from([("a".to_owned(), Value::Integer(inner))]))
        }),
        1 => name(),
    ]
}

/// Contents of a document: some of the fields `a`, `b` and `m`, and often another field inside `m`.
pub fn fields() -> impl Strategy<Value = Fields> {
    let field = || prop::option::weighted(0.8, value());
    (
        field(),
        field(),
        field(),
        prop::option::weighted(0.3, value()),
    )
        .prop_map(|(a, b, m, inner)| {
            let inner = inner.map(|inner| Value::Map(Fields::from([("a".to_owned(), inner)])));
            [("a", a), ("b", b), ("m", inner.or(m))]
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                .collect()
        })
}

fn field() -> impl Strategy<Value = FieldPath> {
    prop::sample::select(vec!["a", "b", "m", "m.a"])
        .prop_map(|text| FieldPath::parse(text).expect("made to be valid"))
}

fn leaf() -> impl Strategy<Value = Filter> {
    use FieldOperator::*;
    let plain = vec![
        LessThan,
        LessThanOrEqual,
        GreaterThan,
        GreaterThanOrEqual,
        Equal,
        NotEqual,
        ArrayContains,
    ];
    let compared = plain.get(..6).unwrap_or_default().to_vec();
    let listed = prop::sample::select(vec![In, NotIn, ArrayContainsAny]);
    let unary = prop::sample::select(vec![
        UnaryOperator::IsNan,
        UnaryOperator::IsNull,
        UnaryOperator::IsNotNan,
        UnaryOperator::IsNotNull,
    ]);
    prop_oneof![
        12 => (field(), prop::sample::select(plain), value())
            .prop_map(|(field, operator, value)| Filter::Field { field, operator, value }),
        4 => (field(), listed, vec(value(), 1..4)).prop_map(|(field, operator, values)| Filter::Field {
            field,
            operator,
            value: Value::Array(values),
        }),
        2 => (field(), unary).prop_map(|(field, operator)| Filter::Unary { field, operator }),
        1 => (prop::sample::select(compared), name()).prop_map(|(operator, value)| Filter::Field {
            field: FieldPath::document_name(),
            operator,
            value,
        }),
        1 => (any::<bool>(), vec(name(), 1..4)).prop_map(|(negated, names)| Filter::Field {
            field: FieldPath::document_name(),
            operator: if negated { NotIn } else { In },
            value: Value::Array(names),
        }),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    leaf().prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..3).prop_map(Filter::And),
            vec(inner, 1..3).prop_map(Filter::Or),
        ]
    })
}

fn orders() -> impl Strategy<Value = Vec<Order>> {
    let fields = prop::sample::subsequence(vec!["a", "b", "m.a"], 0..3).prop_shuffle();
    (fields, vec(any::<bool>(), 4), prop::bool::weighted(0.2)).prop_map(
        |(fields, descending, by_name)| {
            fields
                .into_iter()
                .map(|field| FieldPath::parse(field).expect("made to be valid"))
                .chain(by_name.then(FieldPath::document_name))
                .zip(descending)
                .map(|(field, descending)| Order {
                    field,
                    direction: if descending {
                        Direction::Descending
                    } else {
                        Direction::Ascending
                    },
                })
                .collect()
        },
    )
}

/// Values for more orders than there are; a name is put in for `__name__`.
fn cursor() -> impl Strategy<Value = Option<(Cursor, Value)>> {
    let cursor =
        (vec(value(), 1..4), any::<bool>()).prop_map(|(values, before)| Cursor { values, before });
    prop::option::weighted(0.2, (cursor, name()))
}

fn fit(cursor: Option<(Cursor, Value)>, orders: &[Order]) -> Option<Cursor> {
    cursor.map(|(mut cursor, name)| {
        cursor.values.truncate(orders.len());
        for (value, order) in cursor.values.iter_mut().zip(orders) {
            if order.field.is_document_name() {
                *value = name.clone();
            }
        }
        cursor
    })
}

/// Queries as callers write them; refused combinations are answered with the query without its filter.
pub fn query() -> impl Strategy<Value = Query> {
    (
        prop::option::of(filter()),
        orders(),
        cursor(),
        cursor(),
        prop_oneof![2 => Just(0_u32), 1 => 0_u32..3],
        prop::option::weighted(0.7, 0_u32..6),
        any::<bool>(),
    )
        .prop_map(|(filter, order, start, end, offset, limit, group)| {
            let selector = if group {
                Selector::Group("c".to_owned())
            } else {
                Selector::Collection("c".to_owned())
            };
            let parts = QueryParts {
                selector,
                filter,
                start: fit(start, &order),
                end: fit(end, &order),
                order,
                offset,
                limit,
                ..plain_query()
            };
            Query::new(parts.clone())
                .or_else(|_| {
                    Query::new(QueryParts {
                        filter: None,
                        ..parts
                    })
                })
                .expect("a query without a filter is valid")
        })
}
