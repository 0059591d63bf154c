//! Reads of the past against what was read when it was the present.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use watchfire_model::aggregate::Aggregator;
use watchfire_model::query::Direction as OrderDirection;
use watchfire_model::{
    Aggregation, AggregationOperator, CollectionPath, FieldOperator, Filter, Order,
};

use super::*;
use crate::definition::{IndexField, Mode, Scope};
use crate::index::catalog::IndexState;

type Documents = BTreeMap<DocumentPath, Document>;

const PATHS: [&str; 6] = ["c/a", "c/b", "c/a/d/x", "c/gone/d/y", "e/a/d/x", "e/f"];

#[derive(Clone, Debug)]
pub(super) enum Step {
    Commit(Vec<Write>),
    CreateIndex,
    DeleteIndex,
    /// The automatic indexes of these fields are changed, or no longer so.
    Field(usize, Option<Vec<FieldIndex>>),
}

/// From all fields to one within a map.
fn field_key(number: usize) -> FieldKey {
    let key = |group: Option<&str>, path: Option<&str>| FieldKey {
        group: group.map(str::to_owned),
        path: path.map(|path| FieldPath::parse(path).unwrap()),
    };
    match number {
        0 => key(None, None),
        1 => key(Some("d"), None),
        2 => key(Some("c"), Some("n")),
        3 => key(Some("d"), Some("map")),
        _ => key(Some("d"), Some("map.x")),
    }
}

fn any_field_indexes() -> impl Strategy<Value = Option<Vec<FieldIndex>>> {
    let all = [Scope::Collection, Scope::Group]
        .into_iter()
        .flat_map(|scope| [Mode::Ascending, Mode::Contains].map(|mode| FieldIndex { scope, mode }));
    let some = prop::sample::subsequence(all.collect::<Vec<_>>(), 0..=4);
    prop::option::of(some)
}

/// Some are equal and yet not the same.
fn number(n: i64, m: i64) -> Value {
    if m == 0 {
        Value::Double(n as f64)
    } else {
        Value::Integer(n)
    }
}

fn any_write() -> impl Strategy<Value = Write> {
    (prop::sample::select(PATHS.to_vec()), 0..5_i64, 0..3_i64).prop_map(|(at, kind, m)| {
        let array = Value::Array(vec![Value::Integer(m), Value::Integer(kind)]);
        match kind {
            0 | 1 => delete(at),
            n => write(
                at,
                WriteOperation::Set(Fields::from([
                    ("n".to_owned(), Value::Integer(n)),
                    ("m".to_owned(), Value::Integer(m)),
                    ("array".to_owned(), array),
                    (
                        "map".to_owned(),
                        Value::Map(Fields::from([("x".to_owned(), number(n, m))])),
                    ),
                ])),
            ),
        }
    })
}

pub(super) fn any_history() -> impl Strategy<Value = Vec<(i64, Step)>> {
    let step = prop_oneof![
        12 => prop::collection::vec(any_write(), 1..4).prop_map(Step::Commit),
        1 => Just(Step::CreateIndex),
        1 => Just(Step::DeleteIndex),
        2 => (0..5_usize, any_field_indexes()).prop_map(|(key, indexes)| Step::Field(key, indexes)),
    ];
    prop::collection::vec((0..20_i64, step), 1..16)
}

fn composite() -> Definition {
    let fields =
        [("n", Mode::Ascending), ("m", Mode::Descending)].map(|(field, mode)| IndexField {
            path: FieldPath::parse(field).unwrap(),
            mode,
        });
    Definition::new("d".to_owned(), Scope::Group, fields.into()).unwrap()
}

fn queries() -> Vec<Query> {
    let field = |text: &str| FieldPath::parse(text).unwrap();
    let order = |text: &str, direction| Order {
        field: field(text),
        direction,
    };
    let filter = |text: &str, operator, value| {
        Some(Filter::Field {
            field: field(text),
            operator,
            value: Value::Integer(value),
        })
    };
    let selectors = [
        Selector::Collection("c".to_owned()),
        Selector::Group("d".to_owned()),
    ];
    let mut queries = Vec::new();
    for selector in selectors {
        let plain = QueryParts {
            database: database(),
            parent: Parent::Root,
            selector,
            filter: None,
            order: Vec::new(),
            start: None,
            end: None,
            offset: 0,
            limit: None,
            projection: None,
        };
        let all = [
            plain.clone(),
            QueryParts {
                filter: filter("n", FieldOperator::Equal, 3),
                ..plain.clone()
            },
            QueryParts {
                filter: filter("array", FieldOperator::ArrayContains, 2),
                ..plain.clone()
            },
            QueryParts {
                order: vec![
                    order("n", OrderDirection::Ascending),
                    order("m", OrderDirection::Descending),
                ],
                ..plain.clone()
            },
            QueryParts {
                filter: filter("map.x", FieldOperator::GreaterThan, 2),
                ..plain.clone()
            },
            QueryParts {
                filter: filter("n", FieldOperator::GreaterThan, 2),
                order: vec![order("n", OrderDirection::Descending)],
                limit: Some(2),
                ..plain
            },
        ];
        queries.extend(all.into_iter().map(|parts| Query::new(parts).unwrap()));
    }
    queries
}

fn shown<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Vec<String> {
    documents
        .into_iter()
        .map(|document| format!("{document:?}"))
        .collect()
}

async fn documents(view: &View) -> Documents {
    view.documents(&PATHS.map(path))
        .await
        .unwrap()
        .into_iter()
        .flatten()
        .map(|document| (document.path.clone(), (*document).clone()))
        .collect()
}

/// Everything that can be asked of a view, worked out from the documents.
async fn check_view(view: &View, expected: &Documents) {
    assert_eq!(
        shown(documents(view).await.values()),
        shown(expected.values())
    );
    for query in queries() {
        let (found, _) = view.query(&query).await.unwrap();
        assert_eq!(
            shown(found.iter().map(|document| &**document)),
            shown(query.evaluate(expected.values())),
            "{query:?}"
        );
    }
    check_counts(view, expected).await;
    let collection = CollectionPath::parse("c").unwrap();
    let listed = view
        .list_documents(&collection, None, 10, true)
        .await
        .unwrap();
    let below: BTreeSet<DocumentPath> = expected
        .keys()
        .filter_map(|path| {
            let id = path.as_str().strip_prefix("c/")?.split('/').next()?;
            collection.document(id).ok()
        })
        .collect();
    let listed: Vec<_> = listed.documents.into_iter().collect();
    assert!(listed.iter().map(|(path, _)| path).eq(&below));
    for (path, document) in &listed {
        assert_eq!(shown(document.as_deref()), shown(expected.get(path)));
    }
    for parent in [Parent::Root, Parent::Document(path("c/a"))] {
        let (found, _) = view.collection_ids(&parent, None, 10).await.unwrap();
        let prefix = match &parent {
            Parent::Root => String::new(),
            Parent::Document(path) => format!("{path}/"),
        };
        let ids: BTreeSet<&str> = expected
            .keys()
            .filter_map(|path| path.as_str().strip_prefix(&prefix)?.split('/').next())
            .collect();
        assert!(found.iter().eq(ids), "{found:?}");
    }
}

/// Aggregations and partitions.
async fn check_counts(view: &View, expected: &Documents) {
    for query in queries() {
        let result = query.evaluate(expected.values());
        let x = FieldPath::parse("map.x").unwrap();
        let aggregations = [
            AggregationOperator::Count { up_to: None },
            AggregationOperator::Sum(x),
        ];
        let aggregations: Vec<Aggregation> = aggregations
            .into_iter()
            .enumerate()
            .map(|(number, operator)| Aggregation {
                alias: number.to_string(),
                operator,
            })
            .collect();
        for aggregations in [aggregations[..1].to_vec(), aggregations] {
            let mut wanted = Aggregator::new(aggregations.clone());
            result.iter().for_each(|document| wanted.add(document));
            let (found, _) = view.aggregate(&query, aggregations).await.unwrap();
            assert_eq!(
                format!("{found:?}"),
                format!("{:?}", wanted.finish()),
                "{query:?}"
            );
        }
    }
    let group = |id: &str| {
        let mut paths: Vec<DocumentPath> = expected.keys().cloned().collect();
        paths.retain(|path| path.collection_id() == id);
        paths
    };
    let mut all = QueryParts {
        database: database(),
        parent: Parent::Root,
        selector: Selector::Group("d".to_owned()),
        filter: None,
        order: Vec::new(),
        start: None,
        end: None,
        offset: 0,
        limit: None,
        projection: None,
    };
    all.order = vec![Order {
        field: FieldPath::document_name(),
        direction: OrderDirection::Ascending,
    }];
    let cuts = view.partition(&Query::new(all).unwrap(), 10).await.unwrap();
    assert_eq!(cuts, group("d").into_iter().skip(1).collect::<Vec<_>>());
}

/// Until nothing is built or removed any more.
pub(super) async fn indexes_settle(engine: &Engine) {
    for _ in 0..1_000_000 {
        let catalog = engine.catalog().await.unwrap();
        let at_rest = catalog
            .indexes
            .values()
            .all(|index| index.state == IndexState::Ready);
        if at_rest && catalog.next_work().is_none() {
            return;
        }
        engine.settled_version().await;
    }
    panic!("an index is never ready");
}

/// `micros` decides whether an index is waited for.
pub(super) async fn take_step(engine: &Engine, micros: i64, step: Step) {
    match step {
        Step::Commit(writes) => {
            commit(engine, writes).await.unwrap();
        }
        Step::CreateIndex => {
            let _ = engine.create_index(composite()).await;
            if micros % 2 == 0 {
                indexes_settle(engine).await;
            }
        }
        Step::Field(key, indexes) => {
            engine.update_field(field_key(key), indexes).await.unwrap();
            if micros % 2 == 0 {
                indexes_settle(engine).await;
            }
        }
        Step::DeleteIndex => {
            let catalog = engine.catalog().await.unwrap();
            if let Some(index) = catalog.indexes().next() {
                engine.delete_index(index.id).await.unwrap();
            }
        }
    }
}

async fn check(history: Vec<(i64, Step)>) {
    let (engine, store, clock) = fresh().await;
    let mut known = vec![(*engine.tail().borrow(), Documents::new())];
    for (micros, step) in history {
        clock.advance(micros);
        take_step(&engine, micros, step).await;
        let view = engine.view().await.unwrap();
        known.push((view.version(), documents(&view).await));
    }
    // In the middle of whatever is built, and when all is done.
    for round in 0..2 {
        for (version, expected) in &known {
            check_at(&engine, *version, expected).await;
        }
        if round == 0 {
            indexes_settle(&engine).await;
        }
    }
    // And after the database was opened anew.
    drop(engine);
    let engine = open(&store, &clock).await;
    for (version, expected) in &known {
        check_at(&engine, *version, expected).await;
    }
    check_trimmed(&engine, &store, &clock).await;
}

/// Once it is too old, nothing is left of what was kept.
async fn check_trimmed(engine: &Engine, store: &MemoryStore, clock: &HandClock) {
    clock.advance(HISTORY_MIN.as_micros() as i64 + SECOND);
    for _ in 0..4 {
        engine.settled_version().await;
        clock.advance(TRIM_INTERVAL.as_micros() as i64);
    }
    engine.settled_version().await;
    let snapshot = store.snapshot().await.unwrap();
    for part in [Keyspace::Changelog, Keyspace::History] {
        let left = snapshot
            .page(&part.range(), Direction::Forward, 10)
            .await
            .unwrap();
        assert!(left.entries.is_empty(), "{:?}", left.entries);
    }
}

async fn check_at(engine: &Engine, version: Version, expected: &Documents) {
    let time = timestamp_of(version);
    let view = engine.view_at(time).await.unwrap();
    assert_eq!((view.version(), view.read_time()), (version, time));
    check_view(&view, expected).await;
    let options = TransactionOptions::ReadOnly {
        read_time: Some(time),
    };
    let id = engine.begin(options).await.unwrap();
    let view = engine.transaction_view(&id).await.unwrap();
    assert_eq!(view.read_time(), time);
    assert_eq!(
        shown(documents(&view).await.values()),
        shown(expected.values())
    );
    engine.rollback(&id);
}

fn timestamp_of(version: Version) -> Timestamp {
    Timestamp::from_micros(version.0 as i64).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_version_reads_as_it_was(history in any_history()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(check(history));
    }
}

#[tokio::test]
async fn a_time_between_commits_is_read_as_the_commit_before_left_it() {
    let (engine, _, clock) = fresh().await;
    clock.advance(10 * SECOND);
    let first = commit(&engine, vec![set("c/a", 1)]).await.unwrap();
    clock.advance(10 * SECOND);
    commit(&engine, vec![set("c/a", 2)]).await.unwrap();
    for (micros, expected) in [(-1, 0), (0, 1), (1, 1), (9 * SECOND, 1), (10 * SECOND, 2)] {
        let time = Timestamp::from_micros(first.commit_time.micros() + micros).unwrap();
        let view = engine.view_at(time).await.unwrap();
        assert_eq!(view.read_time(), time);
        let document = view.document(&path("c/a")).await.unwrap();
        let n = document.and_then(|document| document.fields.get("n").cloned());
        assert_eq!(
            format!("{n:?}").contains(&expected.to_string()),
            n.is_some()
        );
        assert_eq!(n.is_some(), expected > 0);
    }
}

#[tokio::test]
async fn the_present_can_be_read_without_a_commit_and_nothing_appears_in_it_later() {
    let (engine, _, clock) = fresh().await;
    commit(&engine, vec![set("c/a", 1)]).await.unwrap();
    clock.advance(SECOND);
    let now = clock.now();
    let view = engine.view_at(now).await.unwrap();
    assert_eq!(view.read_time(), now);
    let later = commit(&engine, vec![set("c/a", 2)]).await.unwrap();
    assert!(later.commit_time > now);
    let again = engine.view_at(now).await.unwrap();
    let one = |document: Option<Arc<Document>>| format!("{:?}", document.unwrap().fields);
    assert_eq!(
        one(view.document(&path("c/a")).await.unwrap()),
        one(again.document(&path("c/a")).await.unwrap())
    );
}

#[tokio::test]
async fn the_future_and_what_is_not_kept_are_refused() {
    let (engine, _, clock) = fresh().await;
    clock.advance(SECOND);
    let future = Timestamp::from_micros(clock.now().micros() + 1).unwrap();
    let refused = engine.view_at(future).await.err().unwrap();
    assert!(matches!(refused, Error::Invalid(_)), "{refused:?}");
    for micros in [-5, 0, START - 1] {
        let time = Timestamp::from_micros(micros).unwrap();
        for refused in [
            engine.view_at(time).await.err().unwrap(),
            engine
                .begin(TransactionOptions::ReadOnly {
                    read_time: Some(time),
                })
                .await
                .err()
                .unwrap(),
        ] {
            assert!(
                matches!(&refused, Error::FailedPrecondition(text) if text == "The requested snapshot version is too old."),
                "{refused:?}"
            );
        }
    }
}

/// Neither how much was changed since, nor how much of it in one commit, makes a past unreadable.
#[tokio::test]
async fn a_past_since_which_very_much_was_changed_is_read() {
    let (engine, _, clock) = fresh().await;
    clock.advance(SECOND);
    commit(&engine, vec![set("c/0", 7)]).await.unwrap();
    let before = clock.now();
    clock.advance(SECOND);
    let large = |number: usize| {
        let text = Value::String("x".repeat(1_000_000));
        let operation = WriteOperation::Set(Fields::from([("f".to_owned(), text)]));
        write(&format!("c/{number}"), operation)
    };
    for number in 0..70 {
        commit(&engine, vec![large(number)]).await.unwrap();
    }
    let view = engine.view_at(before).await.unwrap();
    let (found, _) = view.query(&all_of("c")).await.unwrap();
    assert_eq!(found.len(), 1);
    let kept = format!("{:?}", found[0].fields);
    assert!(kept.contains("Integer(7)"), "{kept}");
}

/// Old versions are refused by their age, and by what was trimmed or never kept.
#[tokio::test]
async fn whole_minutes_are_read_for_as_long_as_the_setting_says() {
    let (store, clock) = (MemoryStore::new(), HandClock::new());
    let settings = Settings {
        history: 24 * HISTORY_MIN,
        ..Settings::default()
    };
    let (store, clock) = (store, clock);
    let engine = Engine::open_with(
        database(),
        Arc::<MemoryStore>::clone(&store),
        Arc::<HandClock>::clone(&clock),
        settings,
    )
    .await
    .unwrap();
    let hour = HISTORY_MIN.as_micros() as i64;
    let minute = 60 * SECOND;
    for n in 1..=30 {
        commit(&engine, vec![set("c/a", n)]).await.unwrap();
        clock.advance(hour);
        engine.settled_version().await;
        engine.settled_version().await;
    }
    let now = clock.now().micros();
    let at = |micros: i64| Timestamp::from_micros(micros).unwrap();
    for hours in 2..=23 {
        let time = (now - hours * hour) / minute * minute;
        let view = engine.view_at(at(time)).await.unwrap();
        let document = view.document(&path("c/a")).await.unwrap().unwrap();
        let wanted = format!(
            "Integer({})",
            30 - hours + i64::from(time == now - hours * hour)
        );
        let found = format!("{:?}", document.fields);
        assert!(found.contains(&wanted), "{found} is not {wanted}");
        let between = engine.view_at(at(time + 1)).await.err().unwrap();
        assert!(matches!(between, Error::Invalid(_)), "{between:?}");
    }
    let old = engine
        .view_at(at((now - 25 * hour) / minute * minute))
        .await;
    assert!(matches!(old.err().unwrap(), Error::FailedPrecondition(_)));
    drop(engine);
    // Reads reach no further back when they may again: it is gone.
    let short = open(&store, &clock).await;
    let two = at((now - 2 * hour) / minute * minute);
    let old = short.view_at(two).await.err().unwrap();
    assert!(matches!(old, Error::FailedPrecondition(_)));
}
