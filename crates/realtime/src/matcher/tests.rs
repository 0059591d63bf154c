//! The matcher misses nothing that a look at every target finds, and finds little more.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use watchfire_model::query::generate::{DOCUMENT_PATHS, fields, plain_query, query};
use watchfire_model::{
    Cursor, DatabaseName, Direction, Document, DocumentName, DocumentPath, FieldOperator,
    FieldPath, Fields, Filter, Order, QueryParts, Timestamp, UnaryOperator, Value,
};

use super::*;

fn database() -> DatabaseName {
    DatabaseName::new("p", "d").unwrap()
}

fn path(text: &str) -> DocumentPath {
    DocumentPath::parse(text).unwrap()
}

fn parts() -> QueryParts {
    QueryParts {
        database: database(),
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

fn interest(parts: QueryParts) -> Interest {
    Interest::Query(Arc::new(Query::new(parts).unwrap()))
}

fn filtered(filter: Filter) -> Interest {
    interest(QueryParts {
        filter: Some(filter),
        ..parts()
    })
}

fn field(text: &str) -> FieldPath {
    if text == "__name__" {
        FieldPath::document_name()
    } else {
        FieldPath::parse(text).unwrap()
    }
}

fn leaf(text: &str, operator: FieldOperator, value: Value) -> Filter {
    Filter::Field {
        field: field(text),
        operator,
        value,
    }
}

fn unary(text: &str, operator: UnaryOperator) -> Filter {
    Filter::Unary {
        field: field(text),
        operator,
    }
}

fn int(value: i64) -> Value {
    Value::Integer(value)
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

fn name(database: DatabaseName, text: &str) -> Value {
    Value::Reference(DocumentName {
        database,
        path: path(text),
    })
}

fn document(text: &str, fields: &[(&str, Value)]) -> Arc<Document> {
    let mut all = Fields::new();
    for (name, value) in fields {
        field(name).set(&mut all, value.clone());
    }
    Arc::new(Document {
        path: path(text),
        create_time: Timestamp::EPOCH,
        update_time: Timestamp::EPOCH,
        fields: all,
    })
}

fn created(text: &str, fields: &[(&str, Value)]) -> Change {
    Change {
        path: path(text),
        before: None,
        after: Some(document(text, fields)),
    }
}

fn candidates(matcher: &Matcher, change: &Change) -> Vec<SharedId> {
    let mut found = Vec::new();
    matcher.candidates(change, &mut found);
    assert!(found.is_sorted_by(|a, b| a < b), "each once");
    found
}

/// A matcher whose shelf `c` has its few targets that are tested always, with ids from a million up.
fn crowded() -> Matcher {
    let mut matcher = Matcher::default();
    for id in 1_000_000..1_000_004 {
        matcher.insert(
            &filtered(leaf("zzz", FieldOperator::Equal, int(id))),
            SharedId(id as u64),
        );
    }
    matcher
}

/// What is found beyond the few that are tested always.
fn found(matcher: &Matcher, change: &Change) -> Vec<u64> {
    candidates(matcher, change)
        .into_iter()
        .map(|id| id.0)
        .filter(|id| *id < 1_000_000)
        .collect()
}

#[test]
fn finds_by_path_collection_group_and_rest() {
    let selected = |parent, selector| {
        interest(QueryParts {
            parent,
            selector,
            ..parts()
        })
    };
    let targets = [
        Interest::Documents(Arc::new([path("a/1"), path("a/2")].into_iter().collect())),
        selected(Parent::Root, Selector::Collection("a".into())),
        selected(
            Parent::Document(path("x/y")),
            Selector::Collection("a".into()),
        ),
        selected(Parent::Root, Selector::Group("a".into())),
        selected(Parent::Root, Selector::Everything),
    ];
    let mut matcher = Matcher::default();
    for (id, target) in (1..).map(SharedId).zip(&targets) {
        matcher.insert(target, id);
    }
    let found = |text| found(&matcher, &created(text, &[]));
    assert_eq!(found("a/1"), [1, 2, 4, 5]);
    assert_eq!(found("a/3"), [2, 4, 5]);
    assert_eq!(found("x/y/a/1"), [3, 4, 5]);
    assert_eq!(found("x/y"), [5]);
    for (id, target) in (1..).map(SharedId).zip(&targets) {
        matcher.remove(target, id);
    }
    assert!(matcher.is_empty());
}

#[test]
fn the_traps_of_values() {
    use FieldOperator::*;
    let nan = || Value::Double(f64::NAN);
    let list = |values: &[Value]| Value::Array(values.to_vec());
    let other = || DatabaseName::new("p", "e").unwrap();
    let long = |last: &str| text(&format!("{}{last}", "x".repeat(5_000)));
    let everything: Vec<(&str, Value)> = vec![
        ("a", int(1)),
        ("a", Value::Double(1.0)),
        ("a", Value::Double(-0.0)),
        ("a", int(0)),
        ("a", nan()),
        ("a", Value::Null),
        ("a", Value::Boolean(true)),
        ("a", text("")),
        ("a", text("b")),
        ("a", text("b\u{f8ff}")),
        ("a", text("c")),
        ("a", long("1")),
        ("a", long("2")),
        ("a", Value::Timestamp(Timestamp::EPOCH)),
        ("a", list(&[int(1), nan(), Value::Null])),
        ("a", list(&[Value::Double(2.0), Value::Double(2.0)])),
        ("a", name(database(), "c/1")),
        ("a.b", int(1)),
        ("b", int(1)),
    ];
    // With each, what of the above may be found, which here is exactly what matches.
    let cases: Vec<(Filter, Vec<usize>)> = vec![
        (leaf("a", Equal, int(1)), vec![0, 1]),
        (leaf("a", Equal, Value::Double(0.0)), vec![2, 3]),
        (leaf("a", Equal, nan()), vec![]),
        (leaf("a", Equal, Value::Null), vec![]),
        (unary("a", UnaryOperator::IsNan), vec![4]),
        (unary("a", UnaryOperator::IsNull), vec![5]),
        (leaf("a", Equal, Value::Boolean(true)), vec![6]),
        (leaf("a", Equal, long("1")), vec![11]),
        (
            leaf("a", In, list(&[int(0), text("c"), nan(), Value::Null])),
            vec![2, 3, 10],
        ),
        (leaf("a", ArrayContains, int(1)), vec![14]),
        (leaf("a", ArrayContains, nan()), vec![]),
        (
            leaf("a", ArrayContainsAny, list(&[int(2), Value::Null])),
            vec![15],
        ),
        // Below a number there is NaN, and no other type.
        (leaf("a", LessThan, int(1)), vec![0, 1, 2, 3, 4]),
        (leaf("a", GreaterThanOrEqual, Value::Boolean(true)), vec![6]),
        (leaf("a", GreaterThan, nan()), vec![]),
        (leaf("a", LessThan, Value::Null), vec![]),
        (leaf("a", LessThanOrEqual, text("b")), vec![7, 8]),
        (
            Filter::And(vec![
                leaf("a", GreaterThanOrEqual, text("b")),
                leaf("a", LessThanOrEqual, text("b\u{f8ff}")),
            ]),
            vec![8, 9],
        ),
        (
            Filter::And(vec![
                leaf("a", GreaterThan, int(0)),
                leaf("a", LessThan, text("x")),
            ]),
            vec![],
        ),
        (
            Filter::Or(vec![leaf("b", Equal, int(1)), leaf("a", Equal, text("c"))]),
            vec![10, 18],
        ),
        (leaf("a", Equal, name(database(), "c/1")), vec![16]),
        (leaf("a", Equal, name(other(), "c/1")), vec![]),
        (leaf("a.b", GreaterThan, int(0)), vec![17]),
        (leaf("a", GreaterThan, Value::Map(Fields::new())), vec![17]),
    ];
    for (filter, expected) in cases {
        let shown = format!("{filter:?}");
        let target = filtered(filter);
        let mut matcher = crowded();
        matcher.insert(&target, SharedId(1));
        for (index, value) in everything.iter().enumerate() {
            let change = created("c/1", std::slice::from_ref(value));
            let hit = found(&matcher, &change) == [1];
            assert!(hit || !target.concerns(&change), "{shown} misses {value:?}");
            assert_eq!(hit, expected.contains(&index), "{shown} and {value:?}");
            // Leaving concerns a target as much as coming does.
            let left = Change {
                before: change.after.clone(),
                after: Some(document("c/1", &[("a", text("elsewhere"))])),
                ..change.clone()
            };
            assert_eq!(
                found(&matcher, &left) == [1],
                hit || target.concerns(&left),
                "{shown}, left from {value:?}"
            );
        }
        assert!(found(&matcher, &created("d/1", &[("a", int(1))])).is_empty());
        matcher.remove(&target, SharedId(1));
    }
}

#[test]
fn names_are_spots() {
    use FieldOperator::*;
    let other = || DatabaseName::new("p", "e").unwrap();
    let cases: Vec<(Filter, &[&str])> = vec![
        (leaf("__name__", Equal, name(database(), "c/2")), &["c/2"]),
        (leaf("__name__", Equal, name(other(), "c/2")), &[]),
        (
            leaf(
                "__name__",
                In,
                Value::Array(vec![name(database(), "c/1"), name(other(), "c/2")]),
            ),
            &["c/1"],
        ),
        (
            leaf("__name__", GreaterThan, name(database(), "c/3")),
            &["c/3", "c/4"],
        ),
        (
            leaf("__name__", LessThanOrEqual, name(database(), "c/__id7__")),
            &["c/__id7__"],
        ),
        // Every name here is below one of a database that comes after.
        (
            leaf("__name__", LessThan, name(other(), "c/1")),
            &["c/1", "c/2", "c/3", "c/4", "c/__id7__"],
        ),
    ];
    for (filter, expected) in cases {
        let shown = format!("{filter:?}");
        let target = filtered(filter);
        let mut matcher = crowded();
        matcher.insert(&target, SharedId(1));
        for text in ["c/1", "c/2", "c/3", "c/4", "c/__id7__"] {
            let change = created(text, &[]);
            let hit = found(&matcher, &change) == [1];
            assert!(hit || !target.concerns(&change), "{shown} misses {text}");
            assert_eq!(hit, expected.contains(&text), "{shown} and {text}");
        }
    }
}

#[test]
fn cursors_bound_the_first_order_across_types() {
    let values = [
        Value::Null,
        Value::Boolean(true),
        int(1),
        int(2),
        int(3),
        text("a"),
    ];
    let at = |value: Value, before| {
        let values = vec![value, int(9)];
        Some(Cursor { values, before })
    };
    let ordered = |direction, start, end| {
        let order = ["a", "b"].map(|text| {
            let field = field(text);
            Order { field, direction }
        });
        interest(QueryParts {
            order: order.to_vec(),
            start,
            end,
            ..parts()
        })
    };
    use Direction::*;
    let cases: Vec<(Interest, &[usize])> = vec![
        (ordered(Ascending, at(int(2), true), None), &[3, 4, 5]),
        (ordered(Ascending, None, at(int(2), false)), &[0, 1, 2, 3]),
        (ordered(Descending, at(int(2), true), None), &[0, 1, 2, 3]),
        (
            ordered(Descending, at(int(3), true), at(int(2), true)),
            &[3, 4],
        ),
        (ordered(Ascending, at(int(3), true), at(int(2), true)), &[]),
    ];
    for (case, (target, expected)) in cases.into_iter().enumerate() {
        let mut matcher = crowded();
        matcher.insert(&target, SharedId(1));
        for (index, value) in values.iter().enumerate() {
            let change = created("c/1", &[("a", value.clone()), ("b", int(9))]);
            let hit = found(&matcher, &change) == [1];
            assert!(
                hit || !target.concerns(&change),
                "case {case} misses {value:?}"
            );
            assert_eq!(hit, expected.contains(&index), "case {case} and {value:?}");
        }
    }
}

#[test]
fn targets_that_share_one_condition_are_told_apart_by_another() {
    use FieldOperator::*;
    let mut matcher = Matcher::default();
    for room in 0..1_000 {
        let target = filtered(Filter::And(vec![
            leaf("kind", Equal, text("message")),
            leaf("room", Equal, int(room)),
            leaf("time", GreaterThan, int(room)),
        ]));
        matcher.insert(&target, SharedId(room as u64 + 1));
    }
    let change = created(
        "c/1",
        &[
            ("kind", text("message")),
            ("room", int(700)),
            ("time", int(5_000)),
        ],
    );
    let found = candidates(&matcher, &change);
    assert!(found.contains(&SharedId(701)));
    assert!(found.len() < 10, "{found:?}");
}

#[test]
fn ranges_over_which_everyone_lies_do_not_attract_more() {
    use FieldOperator::*;
    let mut matcher = Matcher::default();
    for listener in 0..5_000 {
        let target = filtered(Filter::And(vec![
            leaf("room", Equal, int(listener % 5)),
            leaf("time", GreaterThan, int(listener)),
            leaf("time", LessThan, int(1_000_000)),
        ]));
        matcher.insert(&target, SharedId(listener as u64 + 1));
    }
    let elsewhere = created("c/1", &[("room", int(5)), ("time", int(500_000))]);
    assert!(candidates(&matcher, &elsewhere).len() < 200);
}

#[test]
fn what_is_negated_is_always_tested() {
    use FieldOperator::*;
    let mut matcher = crowded();
    let rest = [
        leaf("a", NotEqual, int(1)),
        leaf("a", NotIn, Value::Array(vec![int(1)])),
        unary("a", UnaryOperator::IsNotNull),
        Filter::Or(vec![
            leaf("a", Equal, int(1)),
            unary("b", UnaryOperator::IsNotNan),
        ]),
    ];
    for (id, filter) in (1..).zip(rest) {
        matcher.insert(&filtered(filter), SharedId(id));
    }
    assert_eq!(found(&matcher, &created("c/1", &[])), [1, 2, 3, 4]);
}

#[test]
fn many_names_of_fields_are_found_from_the_side_of_the_document() {
    let mut matcher = crowded();
    let targets: Vec<Interest> = (0..200)
        .map(|number| {
            let field = format!("f{number}.inner");
            filtered(leaf(&field, FieldOperator::Equal, int(1)))
        })
        .collect();
    for (id, target) in (1..).map(SharedId).zip(&targets) {
        matcher.insert(target, id);
    }
    let mut change = created("c/1", &[("f7.inner", int(1)), ("f9", int(1))]);
    assert_eq!(found(&matcher, &change), [8]);
    change.before = Some(document("c/1", &[("f8.inner", int(1))]));
    assert_eq!(found(&matcher, &change), [8, 9]);
    let documents: HashSet<_> = [path("c/1")].into();
    matcher.insert(&Interest::Documents(Arc::new(documents)), SharedId(999));
    assert_eq!(found(&matcher, &change), [8, 9, 999]);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Interest),
    Remove(prop::sample::Index),
    Change(usize, Option<Fields>, Option<Fields>),
}

fn any_interest() -> impl Strategy<Value = Interest> {
    prop_oneof![
        12 => query().prop_map(|query| Interest::Query(Arc::new(query))),
        1 => prop::sample::subsequence(DOCUMENT_PATHS.to_vec(), 1..4)
            .prop_map(|paths| Interest::Documents(Arc::new(paths.into_iter().map(path).collect()))),
        1 => Just(interest(QueryParts { selector: Selector::Everything, ..plain_query() })),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let state = || prop::option::weighted(0.8, fields());
    prop_oneof![
        6 => any_interest().prop_map(Step::Insert),
        2 => any::<prop::sample::Index>().prop_map(Step::Remove),
        6 => (0..DOCUMENT_PATHS.len(), state(), state())
            .prop_map(|(path, before, after)| Step::Change(path, before, after)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn misses_nothing(steps in vec(step(), 1..120)) {
        let mut matcher = Matcher::default();
        let mut targets: BTreeMap<SharedId, Interest> = BTreeMap::new();
        for (id, step) in (1..).map(SharedId).zip(steps) {
            match step {
                Step::Insert(target) => {
                    matcher.insert(&target, id);
                    targets.insert(id, target);
                }
                Step::Remove(index) => {
                    if targets.is_empty() {
                        continue;
                    }
                    let id = *index.get(&targets.keys().copied().collect::<Vec<_>>());
                    let target = targets.remove(&id).unwrap();
                    matcher.remove(&target, id);
                    // Once more does no harm.
                    matcher.remove(&target, id);
                }
                Step::Change(number, before, after) => {
                    let state = |fields: Option<Fields>| {
                        let mut state = Document::clone(&document(DOCUMENT_PATHS[number], &[]));
                        state.fields = fields?;
                        Some(Arc::new(state))
                    };
                    let change = Change {
                        path: path(DOCUMENT_PATHS[number]),
                        before: state(before),
                        after: state(after),
                    };
                    let found: BTreeSet<SharedId> = candidates(&matcher, &change).into_iter().collect();
                    for (id, target) in &targets {
                        prop_assert!(
                            found.contains(id) || !target.concerns(&change),
                            "{target:?} misses {change:?}"
                        );
                    }
                    prop_assert!(found.iter().all(|id| targets.contains_key(id)));
                }
            }
        }
        for (id, target) in &targets {
            matcher.remove(target, *id);
        }
        prop_assert!(matcher.is_empty(), "{matcher:?}");
    }
}
