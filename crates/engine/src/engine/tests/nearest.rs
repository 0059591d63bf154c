//! Searches of the nearest through the whole engine: with an index, without one, in every mode.

use std::collections::BTreeMap;

use proptest::prelude::*;
use watchfire_model::{DistanceMeasure, FieldMask, FieldOperator, Filter, Nearest, UnaryOperator};

use super::past::indexes_settle;
use super::*;
use crate::definition::{IndexField, Mode, Scope};
use crate::settings::IndexMode;

async fn opened(mode: IndexMode) -> (Engine, Arc<HandClock>) {
    let (store, clock) = (MemoryStore::new(), HandClock::new());
    let settings = Settings {
        index_mode: mode,
        ..Settings::default()
    };
    let engine = Engine::open_with(database(), store, Arc::<HandClock>::clone(&clock), settings)
        .await
        .unwrap();
    (engine, clock)
}

fn field(text: &str) -> FieldPath {
    FieldPath::parse(text).unwrap()
}

fn index(scope: Scope, fields: &[(&str, Mode)]) -> Definition {
    let fields = fields.iter().map(|(path, mode)| IndexField {
        path: field(path),
        mode: *mode,
    });
    Definition::new("c".to_owned(), scope, fields.collect()).unwrap()
}

const VECTOR: (&str, Mode) = ("v", Mode::Vector { dimension: 2 });

fn search(from: [f64; 2], measure: DistanceMeasure, limit: u32) -> Nearest {
    Nearest::new(field("v"), from.into(), measure, limit, None, None).unwrap()
}

fn parts(selector: Selector, filter: Option<Filter>) -> QueryParts {
    QueryParts {
        database: database(),
        parent: Parent::Root,
        selector,
        filter,
        order: Vec::new(),
        start: None,
        end: None,
        offset: 0,
        limit: None,
        projection: None,
    }
}

fn collection(filter: Option<Filter>) -> Query {
    Query::new(parts(Selector::Collection("c".to_owned()), filter)).unwrap()
}

fn compare(path: &str, operator: FieldOperator, value: Value) -> Filter {
    Filter::Field {
        field: field(path),
        operator,
        value,
    }
}

fn put(at: &str, a: Value, vector: Vec<f64>) -> Write {
    let fields = [("a".to_owned(), a), ("v".to_owned(), Value::Vector(vector))];
    write(at, WriteOperation::Set(Fields::from(fields)))
}

fn shown(found: &[(Arc<Document>, f64)]) -> Vec<(String, f64)> {
    found
        .iter()
        .map(|(document, distance)| (document.path.to_string(), *distance))
        .collect()
}

/// Documents on a line: `c/0` at 0, `c/1` at 1 and so on, every other one with `a` 1.
async fn line(engine: &Engine, count: i64) {
    let writes = (0..count)
        .map(|n| {
            put(
                &format!("c/{n}"),
                Value::Integer(n % 2),
                vec![n as f64, 0.0],
            )
        })
        .collect();
    commit(engine, writes).await.unwrap();
}

#[tokio::test]
async fn an_index_answers_without_loading_what_is_not_shown() {
    let (engine, _) = opened(IndexMode::Enforce).await;
    line(&engine, 100).await;
    let query = collection(None);
    let nearest = search([40.2, 0.0], DistanceMeasure::Euclidean, 3);
    let view = engine.view().await.unwrap();
    let refused = view.nearest(&query, &nearest).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("Missing vector index configuration."),
        "{refused}"
    );
    assert!(view.explain_nearest(&query, &nearest).await.is_err());

    engine
        .create_index(index(Scope::Collection, &[VECTOR]))
        .await
        .unwrap();
    indexes_settle(&engine).await;
    let view = engine.view().await.unwrap();
    let (found, stats) = view.nearest(&query, &nearest).await.unwrap();
    let ids: Vec<String> = shown(&found).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["c/40", "c/41", "c/39"]);
    assert_eq!(
        (stats.index_entries_scanned, stats.documents_scanned),
        (100, 3)
    );
    assert_eq!(stats.results_returned, 3);
    let used = view.explain_nearest(&query, &nearest).await.unwrap();
    assert_eq!(used, stats.indexes_used);
    assert_eq!(used[0].properties, "(v VECTOR<2>, __name__ ASC)");
    assert!(engine.missing_indexes().await.unwrap().shapes.is_empty());
}

#[tokio::test]
async fn without_its_index_a_search_is_served_reported_or_the_reason_to_build_one() {
    for mode in [IndexMode::Advise, IndexMode::Create] {
        let (engine, _) = opened(mode).await;
        line(&engine, 20).await;
        let query = collection(Some(Filter::And(vec![
            compare("a", FieldOperator::Equal, Value::Integer(1)),
            Filter::Unary {
                field: field("b"),
                operator: UnaryOperator::IsNull,
            },
        ])));
        let simple = collection(Some(compare("a", FieldOperator::Equal, Value::Integer(1))));
        let nearest = search([0.0, 0.0], DistanceMeasure::DotProduct, 2);
        let view = engine.view().await.unwrap();
        assert!(view.nearest(&query, &nearest).await.unwrap().0.is_empty());
        let nearest = search([1.0, 0.0], DistanceMeasure::DotProduct, 2);
        let (found, stats) = view.nearest(&simple, &nearest).await.unwrap();
        let expected = [("c/19".to_owned(), 19.0), ("c/17".to_owned(), 17.0)];
        assert_eq!(shown(&found), expected);
        assert_eq!((stats.results_returned, stats.documents_scanned), (2, 10));
        let wanted = engine.missing_indexes().await.unwrap().shapes;
        if mode == IndexMode::Create {
            for _ in 0..1_000 {
                if engine.catalog().await.unwrap().indexes().count() == 2 {
                    break;
                }
                engine.settled_version().await;
            }
            indexes_settle(&engine).await;
            assert!(engine.missing_indexes().await.unwrap().shapes.is_empty());
            let view = engine.view().await.unwrap();
            let (found, stats) = view.nearest(&simple, &nearest).await.unwrap();
            assert_eq!(shown(&found), expected);
            assert_eq!(stats.documents_scanned, 2);
        } else {
            let texts: Vec<String> = wanted
                .iter()
                .map(|(wanted, _)| wanted.to_string())
                .collect();
            assert_eq!(
                texts,
                [
                    "(a ASC, b ASC, v VECTOR<2>, __name__ ASC)",
                    "(a ASC, v VECTOR<2>, __name__ ASC)"
                ]
            );
        }
    }
}

#[tokio::test]
async fn a_projection_hides_nothing_from_the_search() {
    let (engine, _) = opened(IndexMode::Advise).await;
    line(&engine, 5).await;
    let projected = QueryParts {
        projection: Some(FieldMask::new(vec![FieldPath::document_name()])),
        ..parts(Selector::Collection("c".to_owned()), None)
    };
    let query = Query::new(projected).unwrap();
    let nearest = search([0.0, 0.0], DistanceMeasure::Euclidean, 2);
    let view = engine.view().await.unwrap();
    let (found, _) = view.nearest(&query, &nearest).await.unwrap();
    assert_eq!(
        shown(&found),
        [("c/0".to_owned(), 0.0), ("c/1".to_owned(), 1.0)]
    );
}

#[tokio::test]
async fn a_search_in_a_transaction_is_checked_at_its_commit() {
    let (engine, _) = opened(IndexMode::Advise).await;
    line(&engine, 5).await;
    for build in [false, true] {
        if build {
            engine
                .create_index(index(Scope::Collection, &[VECTOR]))
                .await
                .unwrap();
            indexes_settle(&engine).await;
        }
        let nearest = search([0.0, 0.0], DistanceMeasure::Euclidean, 1);
        let id = begin(&engine).await;
        let view = engine.transaction_view(&id).await.unwrap();
        view.nearest(&collection(None), &nearest).await.unwrap();
        let another = put(&format!("c/new{build}"), Value::Null, vec![9.0, 9.0]);
        commit(&engine, vec![another]).await.unwrap();
        let lost = commit_in(&engine, &id, vec![set("sum/s", 1)]).await;
        assert!(matches!(lost, Err(Error::Aborted)), "{lost:?}");
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (0..3_i64).prop_map(Value::Integer),
        1 => Just(Value::Double(1.0)),
        1 => Just(Value::Double(f64::NAN)),
        1 => Just(Value::Null),
        1 => Just(Value::String("x".repeat(2_000))),
    ]
}

fn any_write() -> impl Strategy<Value = Write> {
    let at = prop::sample::select(vec![
        "c/a", "c/b", "c/d", "c/e", "c/f", "e/x/c/a", "e/x/c/b", "e/y/c/a",
    ]);
    let vector = prop::collection::vec((-3..=3_i32).prop_map(f64::from), 1..4);
    (at, any_value(), vector, 0..8_u8).prop_map(|(at, a, vector, kind)| match kind {
        0 => delete(at),
        1 => set(at, 1),
        _ => put(at, a, vector),
    })
}

fn any_filter() -> impl Strategy<Value = Option<Filter>> {
    let value = || any_value();
    prop_oneof![
        2 => Just(None),
        3 => value().prop_map(|value| Some(compare("a", FieldOperator::Equal, value))),
        2 => prop::collection::vec(value(), 1..4)
            .prop_map(|values| Some(compare("a", FieldOperator::In, Value::Array(values)))),
        1 => Just(Some(Filter::Unary { field: field("a"), operator: UnaryOperator::IsNan })),
        1 => Just(Some(Filter::Unary { field: field("a"), operator: UnaryOperator::IsNull })),
        1 => (0..3_i64).prop_map(|n| Some(compare("a", FieldOperator::GreaterThan, Value::Integer(n)))),
    ]
}

#[derive(Clone, Debug)]
struct Search {
    group: bool,
    below: bool,
    filter: Option<Filter>,
    limit: Option<u32>,
    nearest: Nearest,
}

fn any_search() -> impl Strategy<Value = Search> {
    let measure = prop::sample::select(vec![
        DistanceMeasure::Euclidean,
        DistanceMeasure::Cosine,
        DistanceMeasure::DotProduct,
    ]);
    let nearest = (
        (1..=3_i32, -3..=3_i32),
        measure,
        1..5_u32,
        prop::option::of(-2..6_i32),
    )
        .prop_map(|((x, y), measure, limit, threshold)| {
            let vector = vec![f64::from(x), f64::from(y)];
            let threshold = threshold.map(f64::from);
            Nearest::new(field("v"), vector, measure, limit, None, threshold).unwrap()
        });
    let limit = prop_oneof![4 => Just(None), 1 => (1..4_u32).prop_map(Some)];
    (any::<bool>(), any::<bool>(), any_filter(), limit, nearest).prop_map(
        |(group, below, filter, limit, nearest)| Search {
            group,
            below,
            filter,
            limit,
            nearest,
        },
    )
}

async fn check(writes: Vec<Vec<Write>>, indexed: u8, searches: Vec<Search>) {
    let (engine, clock) = opened(IndexMode::Advise).await;
    let definitions = [
        index(Scope::Collection, &[VECTOR]),
        index(Scope::Group, &[VECTOR]),
        index(Scope::Collection, &[("a", Mode::Descending), VECTOR]),
        index(Scope::Group, &[("a", Mode::Ascending), VECTOR]),
    ];
    let mut past = Vec::new();
    let half = writes.len() / 2;
    for (number, writes) in writes.into_iter().enumerate() {
        if number == half {
            for (bit, definition) in definitions.iter().enumerate() {
                if indexed & (1 << bit) != 0 {
                    engine.create_index(definition.clone()).await.unwrap();
                }
            }
            indexes_settle(&engine).await;
        }
        clock.advance(5);
        commit(&engine, writes).await.unwrap();
        past.push(documents(&engine.view().await.unwrap()).await);
    }
    let present = engine.view().await.unwrap();
    for search in searches {
        let selector = if search.group {
            Selector::Group("c".to_owned())
        } else {
            Selector::Collection("c".to_owned())
        };
        let mut parts = parts(selector, search.filter);
        parts.limit = search.limit;
        if search.below {
            parts.parent = Parent::Document(path("e/x"));
        }
        let Ok(query) = Query::new(parts) else {
            continue;
        };
        for (time, documents) in &past {
            let view = engine.view_at(*time).await.unwrap();
            let expected: Vec<(String, f64)> = search
                .nearest
                .nearest(query.evaluate(documents.values()))
                .into_iter()
                .map(|(document, distance)| (document.path.to_string(), distance))
                .collect();
            let (found, stats) = view.nearest(&query, &search.nearest).await.unwrap();
            assert_eq!(shown(&found), expected, "{query:?} {:?}", search.nearest);
            assert_eq!(stats.results_returned, expected.len() as u64);
        }
    }
    assert_eq!(present.read_time(), past.last().unwrap().0);
}

async fn documents(view: &View) -> (Timestamp, BTreeMap<DocumentPath, Document>) {
    let all = Query::new(parts(Selector::Everything, None)).unwrap();
    let (found, _) = view.query(&all).await.unwrap();
    let documents = found
        .into_iter()
        .map(|document| (document.path.clone(), (*document).clone()))
        .collect();
    (view.read_time(), documents)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_nearest_are_those_of_the_plain_answer(
        writes in prop::collection::vec(prop::collection::vec(any_write(), 1..4), 2..8),
        indexed in 0..16_u8,
        searches in prop::collection::vec(any_search(), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(check(writes, indexed, searches));
    }
}
