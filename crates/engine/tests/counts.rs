//! What queries touch, in entries and documents: the budgets that are counts.
//!
//! The cost follows the result. The same questions over ten times as many documents touch exactly as much.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use watchfire_engine::definition::{Definition, IndexField, Mode, Scope};
use watchfire_engine::index::catalog::OperationState;
use watchfire_engine::{Engine, ExecutionStats, Start};
use watchfire_model::{
    Aggregation, AggregationOperator, Clock, DatabaseName, Direction, DocumentPath, FieldMask,
    FieldOperator, FieldPath, Fields, Filter, Operation, Order, Parent, Precondition, Query,
    QueryParts, Selector, Timestamp, Value, Write,
};
use watchfire_storage::memory::MemoryStore;

/// Documents between two that have all three flags.
const BLOCK: i64 = 100;

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000).unwrap()
    }
}

fn database() -> DatabaseName {
    DatabaseName::new("p", "(default)").unwrap()
}

/// `kind` has ten values; `a`, `b` and `c` are each set in a tenth of the documents, in runs, and together in one
/// document of each block.
fn fields(number: i64) -> Fields {
    let at = number % BLOCK;
    let (run, meeting) = (BLOCK / 10, BLOCK / 10 - 1);
    let flag = |name: &str, set: bool| (name.to_owned(), Value::Boolean(set));
    Fields::from([
        ("kind".to_owned(), Value::Integer(number % 10)),
        ("rank".to_owned(), Value::Integer(number * 7_919 % 100_003)),
        flag("a", at < run),
        flag("b", (meeting..meeting + run).contains(&at)),
        flag("c", at == meeting || (3 * run..4 * run - 1).contains(&at)),
    ])
}

async fn engine(documents: i64) -> Engine {
    let engine = Engine::open(database(), MemoryStore::new(), Arc::new(Still))
        .await
        .unwrap();
    let fields_of = |modes: &[(&str, Mode)]| {
        modes
            .iter()
            .map(|(path, mode)| IndexField {
                path: FieldPath::parse(path).unwrap(),
                mode: *mode,
            })
            .collect()
    };
    let modes = [("kind", Mode::Ascending), ("rank", Mode::Ascending)];
    let definition = Definition::new("c".to_owned(), Scope::Collection, fields_of(&modes));
    engine.create_index(definition.unwrap()).await.unwrap();
    while engine
        .catalog()
        .await
        .unwrap()
        .operations()
        .any(|operation| operation.state == OperationState::Processing)
    {
        engine.settled_version().await;
    }
    let writes: Vec<Write> = (0..documents)
        .map(|number| Write {
            path: DocumentPath::parse(&format!("c/k{number:06}")).unwrap(),
            operation: Operation::Set(fields(number)),
            precondition: Precondition::None,
            transforms: Vec::new(),
        })
        .collect();
    for piece in writes.chunks(500) {
        let staged = engine.stage(piece.to_vec(), Start::Now).await.unwrap();
        engine.commit(staged).await.unwrap();
    }
    engine
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

fn equal(field: &str, value: Value) -> Filter {
    Filter::Field {
        field: FieldPath::parse(field).unwrap(),
        operator: FieldOperator::Equal,
        value,
    }
}

fn by_rank() -> Vec<Order> {
    vec![Order {
        field: FieldPath::parse("rank").unwrap(),
        direction: Direction::Ascending,
    }]
}

/// What the query costs, the same over two collections of different size.
async fn cost(parts: QueryParts, found: impl Fn(i64) -> u64) -> ExecutionStats {
    let mut costs = Vec::new();
    for documents in [2_000, 10_000] {
        let engine = engine(documents).await;
        let query = Query::new(parts.clone()).unwrap();
        let view = engine.view().await.unwrap();
        let (answer, stats) = view.query(&query).await.unwrap();
        assert_eq!(answer.len() as u64, found(documents));
        costs.push(stats);
    }
    let large = costs.pop().unwrap();
    let small = costs.pop().unwrap();
    if large.results_returned == small.results_returned {
        assert_eq!(large.index_entries_scanned, small.index_entries_scanned);
        assert_eq!(large.documents_scanned, small.documents_scanned);
    }
    large
}

#[tokio::test]
async fn equality_order_and_limit_touch_one_more_than_they_answer() {
    let mut parts = parts();
    parts.filter = Some(equal("kind", Value::Integer(3)));
    parts.order = by_rank();
    parts.limit = Some(20);
    let stats = cost(parts, |_| 20).await;
    assert!(stats.index_entries_scanned <= 21, "{stats:?}");
    assert!(stats.documents_scanned <= 21, "{stats:?}");
}

#[tokio::test]
async fn an_offset_passes_over_entries_and_loads_no_document() {
    let mut parts = parts();
    parts.filter = Some(equal("kind", Value::Integer(3)));
    parts.order = by_rank();
    parts.offset = 50;
    parts.limit = Some(5);
    let stats = cost(parts, |_| 5).await;
    assert_eq!(stats.results_skipped, 50);
    assert!(stats.index_entries_scanned <= 56, "{stats:?}");
    assert!(stats.documents_scanned <= 6, "{stats:?}");
}

#[tokio::test]
async fn alternatives_are_merged_and_each_is_read_only_as_far_as_needed() {
    let mut parts = parts();
    parts.filter = Some(Filter::Field {
        field: FieldPath::parse("kind").unwrap(),
        operator: FieldOperator::In,
        value: Value::Array(vec![
            Value::Integer(1),
            Value::Integer(2),
            Value::Integer(3),
        ]),
    });
    parts.order = by_rank();
    parts.limit = Some(10);
    let stats = cost(parts, |_| 10).await;
    assert!(stats.index_entries_scanned <= 3 * 11, "{stats:?}");
    assert!(stats.documents_scanned <= 11, "{stats:?}");
}

#[tokio::test]
async fn a_join_of_three_touches_what_lies_between_its_results() {
    let mut parts = parts();
    parts.filter = Some(Filter::And(
        ["a", "b", "c"]
            .map(|flag| equal(flag, Value::Boolean(true)))
            .into(),
    ));
    let stats = cost(parts, |documents| u64::try_from(documents / BLOCK).unwrap()).await;
    let results = stats.results_returned;
    assert!(stats.index_entries_scanned <= 20 * results, "{stats:?}");
    assert!(stats.documents_scanned <= results, "{stats:?}");
}

#[tokio::test]
async fn a_projection_that_the_index_holds_loads_no_document() {
    let mut parts = parts();
    parts.filter = Some(equal("kind", Value::Integer(3)));
    parts.order = by_rank();
    parts.limit = Some(20);
    parts.projection = Some(FieldMask::new(vec![
        FieldPath::parse("rank").unwrap(),
        FieldPath::document_name(),
    ]));
    let stats = cost(parts, |_| 20).await;
    assert!(stats.index_entries_scanned <= 21, "{stats:?}");
    assert!(stats.documents_scanned <= 21, "{stats:?}");
}

#[tokio::test]
async fn aggregations_read_no_document() {
    let engine = engine(2_000).await;
    let view = engine.view().await.unwrap();
    let mut filtered = parts();
    filtered.filter = Some(equal("kind", Value::Integer(3)));
    let count = |up_to| Aggregation {
        alias: "n".to_owned(),
        operator: AggregationOperator::Count { up_to },
    };
    let sum = Aggregation {
        alias: "s".to_owned(),
        operator: AggregationOperator::Sum(FieldPath::parse("rank").unwrap()),
    };
    for (parts, aggregations, entries_max) in [
        (filtered.clone(), vec![count(None)], 201),
        (filtered.clone(), vec![count(Some(10))], 11),
        (filtered, vec![count(None), sum], 201),
    ] {
        let query = Query::new(parts).unwrap();
        let (values, stats) = view.aggregate(&query, aggregations).await.unwrap();
        assert_eq!(stats.documents_scanned, 0, "{values:?} {stats:?}");
        assert!(
            stats.index_entries_scanned <= entries_max,
            "{values:?} {stats:?}"
        );
    }
}
