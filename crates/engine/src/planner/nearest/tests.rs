//! Which searches a vector index answers, what it reads for them, and what is wanted for the others.

use watchfire_model::{Cursor, Direction, DistanceMeasure, Order, Parent, QueryParts};

use super::*;
use crate::definition::IndexId;

fn path(text: &str) -> FieldPath {
    FieldPath::parse(text).unwrap()
}

fn equal(field: &str, value: Value) -> Filter {
    Filter::Field {
        field: path(field),
        operator: FieldOperator::Equal,
        value,
    }
}

fn compare(field: &str, operator: FieldOperator, value: Value) -> Filter {
    Filter::Field {
        field: path(field),
        operator,
        value,
    }
}

fn parts(filter: Option<Filter>) -> QueryParts {
    QueryParts {
        database: DatabaseName::new("p", "d").unwrap(),
        parent: Parent::Root,
        selector: Selector::Collection("c".to_owned()),
        filter,
        order: Vec::new(),
        start: None,
        end: None,
        offset: 0,
        limit: None,
        projection: None,
    }
}

fn search() -> Nearest {
    Nearest::new(
        path("v"),
        vec![1.0, 2.0],
        DistanceMeasure::Euclidean,
        5,
        None,
        None,
    )
    .unwrap()
}

fn definition(scope: Scope, fields: &[(&str, Mode)]) -> Definition {
    let fields = fields
        .iter()
        .map(|(text, mode)| IndexField {
            path: path(text),
            mode: *mode,
        })
        .collect();
    Definition::new("c".to_owned(), scope, fields).unwrap()
}

const VECTOR: (&str, Mode) = ("v", Mode::Vector { dimension: 2 });

fn catalog(indexes: &[(Definition, IndexState)]) -> Catalog {
    let mut catalog = Catalog::default();
    for ((definition, state), id) in indexes.iter().zip(1..) {
        let id = IndexId(id);
        catalog.indexes.insert(
            id,
            Index {
                id,
                definition: definition.clone(),
                state: *state,
            },
        );
    }
    catalog
}

fn ready(fields: &[(&str, Mode)]) -> Catalog {
    catalog(&[(definition(Scope::Collection, fields), IndexState::Ready)])
}

fn plan(catalog: &Catalog, parts: QueryParts) -> NearestPlan {
    let query = Query::new(parts).unwrap();
    choose(catalog, query.database(), &query, &search()).unwrap()
}

/// How many ranges are read.
fn ranges(plan: NearestPlan) -> usize {
    match plan {
        NearestPlan::Vectors(scan) => scan.starts.len(),
        NearestPlan::Result { missing } => panic!("not from entries: {missing:?}"),
    }
}

fn missing(plan: NearestPlan) -> Option<String> {
    match plan {
        NearestPlan::Result { missing } => missing.map(|missing| missing.definition.to_string()),
        NearestPlan::Vectors(scan) => panic!("from entries: {scan:?}"),
    }
}

#[test]
fn without_an_index_the_whole_definition_is_wanted() {
    let none = Catalog::default();
    assert_eq!(
        missing(plan(&none, parts(None))).unwrap(),
        "(v VECTOR<2>, __name__ ASC)"
    );
    let filter = Filter::And(vec![
        equal("b", Value::Integer(1)),
        equal("a", Value::Integer(1)),
        compare("z", FieldOperator::ArrayContains, Value::Integer(1)),
        compare("e", FieldOperator::GreaterThan, Value::Integer(1)),
    ]);
    let mut parts = parts(Some(filter));
    parts.order = vec![Order {
        field: path("e"),
        direction: Direction::Descending,
    }];
    assert_eq!(
        missing(plan(&none, parts)).unwrap(),
        "(a ASC, b ASC, z CONTAINS, e DESC, v VECTOR<2>, __name__ DESC)"
    );
}

#[test]
fn equality_fields_may_stand_in_any_order_and_direction() {
    let catalog = ready(&[("b", Mode::Descending), ("a", Mode::Ascending), VECTOR]);
    let filter = Filter::And(vec![
        equal("a", Value::Integer(1)),
        equal("b", Value::String("x".to_owned())),
    ]);
    assert_eq!(ranges(plan(&catalog, parts(Some(filter.clone())))), 1);
    // One field less or more is another index.
    assert!(missing(plan(&catalog, parts(None))).is_some());
    let few = equal("a", Value::Integer(1));
    assert!(missing(plan(&catalog, parts(Some(few)))).is_some());
    let more = Filter::And(vec![filter, equal("e", Value::Null)]);
    assert!(missing(plan(&catalog, parts(Some(more)))).is_some());
}

#[test]
fn only_a_ready_index_of_the_dimension_and_scope_serves() {
    let mut with_group = parts(None);
    with_group.selector = Selector::Group("c".to_owned());
    for (scope, dimension, state, serves) in [
        (Scope::Collection, 2, IndexState::Ready, true),
        (Scope::Collection, 3, IndexState::Ready, false),
        (Scope::Group, 2, IndexState::Ready, false),
        (Scope::Collection, 2, IndexState::Creating, false),
        (Scope::Collection, 2, IndexState::Deleting, false),
    ] {
        let catalog = catalog(&[(
            definition(scope, &[("v", Mode::Vector { dimension })]),
            state,
        )]);
        let NearestPlan::Result { missing } = plan(&catalog, parts(None)) else {
            assert!(serves);
            continue;
        };
        assert!(!serves);
        let building = missing.unwrap().building.is_some();
        assert_eq!(building, state == IndexState::Creating);
        if scope == Scope::Group {
            assert_eq!(ranges(plan(&catalog, with_group.clone())), 1);
        }
    }
}

#[test]
fn alternatives_of_values_are_as_many_ranges() {
    let catalog = ready(&[("a", Mode::Ascending), VECTOR]);
    let integers = |values: &[i64]| {
        let values = values.iter().map(|value| Value::Integer(*value));
        Value::Array(values.collect())
    };
    let among = |values: Value| compare("a", FieldOperator::In, values);
    let count = |filter: Filter| ranges(plan(&catalog, parts(Some(filter))));
    assert_eq!(count(among(integers(&[1, 2, 3]))), 3);
    let doubled = Value::Array(vec![Value::Integer(1), Value::Double(1.0), Value::Null]);
    assert_eq!(count(among(doubled)), 1);
    let both = Filter::And(vec![
        among(integers(&[1, 2, 3])),
        among(integers(&[2, 3, 4])),
    ]);
    assert_eq!(count(both), 2);
    let none = Filter::And(vec![
        equal("a", Value::Integer(1)),
        equal("a", Value::Integer(2)),
    ]);
    assert_eq!(count(none), 0);
    let null = Filter::Unary {
        field: path("a"),
        operator: UnaryOperator::IsNull,
    };
    assert_eq!(count(null), 1);
}

#[test]
fn what_asks_for_more_is_answered_from_the_result() {
    let catalog = ready(&[("a", Mode::Ascending), VECTOR]);
    let filter = || Some(equal("a", Value::Integer(1)));
    let from_result = |parts: QueryParts| assert_eq!(missing(plan(&catalog, parts)), None);
    from_result(QueryParts {
        limit: Some(3),
        ..parts(filter())
    });
    from_result(QueryParts {
        offset: 3,
        ..parts(filter())
    });
    from_result(parts(Some(equal("a", Value::String("x".repeat(2_000))))));
    from_result(parts(Some(compare(
        "a",
        FieldOperator::LessThan,
        Value::Integer(1),
    ))));
    from_result(parts(Some(Filter::Or(vec![
        equal("a", Value::Integer(1)),
        equal("a", Value::Integer(2)),
    ]))));
    let mut ordered = parts(filter());
    ordered.order = vec![Order {
        field: path("a"),
        direction: Direction::Descending,
    }];
    ordered.start = Some(Cursor {
        values: vec![Value::Integer(1)],
        before: true,
    });
    from_result(ordered);
    let mut everything = parts(None);
    everything.selector = Selector::Everything;
    from_result(everything);
}
