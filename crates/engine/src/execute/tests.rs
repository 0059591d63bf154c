//! Answers compared with the plain definition of a query over random documents; what they touch; what is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use watchfire_model::aggregate::Aggregator;
use watchfire_model::query::Direction as OrderDirection;
use watchfire_model::{
    Aggregation, AggregationOperator, Clock, CollectionPath, Cursor, DatabaseName, Document,
    DocumentName, DocumentPath, FieldMask, FieldOperator, FieldPath, Fields, Filter, GeoPoint,
    Order, Parent, Query, QueryParts, Selector, Timestamp, UnaryOperator, Value,
};
use watchfire_storage::memory::MemoryStore;
use watchfire_storage::{Batch, Direction, Operation, Range, Snapshot, Store, Version};

use super::*;
use crate::definition::{Definition, IndexField, IndexId, Mode, Scope};
use crate::error::Error;
use crate::index::catalog::{Catalog, FieldConfig, FieldKey, Index, IndexState, Modes};
use crate::index::diff;
use crate::index::entries::{entries, group_start};
use crate::keyspace::{Keyspace, document_key};
use crate::planner::{self, Branch, Plan, Source};
use crate::record::encode_record;

mod costs;

/// A sequence of choices that depends on the seed alone (SplitMix64).
struct Choices {
    state: u64,
    /// Nearly all values are long strings that differ only at the end.
    long_values: bool,
    /// Nearly all values are one of a few, so that many are equal.
    few_values: bool,
}

impl Choices {
    fn new(seed: u64) -> Self {
        Self {
            state: seed,
            long_values: seed % 4 == 3,
            few_values: seed.is_multiple_of(2),
        }
    }
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.state;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

fn database() -> DatabaseName {
    DatabaseName::new("p", "(default)").unwrap()
}

const COLLECTIONS: [&str; 6] = [
    "c",
    "c/a/c",
    "c/missing/s",
    "c/a/s",
    "c10",
    "c/__id7__/s/x/c",
];
const IDS: [&str; 11] = [
    "a",
    "b",
    "ab",
    "B",
    "__id7__",
    "__id-3__",
    "__id10__",
    "é",
    "z!",
    "missing-not",
    "k",
];
const FIELDS: [&str; 7] = ["a", "b", "t", "m", "m.x", "m.`a b`", "m.n.x"];

fn path(choices: &mut Choices) -> DocumentPath {
    let collection = if choices.one_in(2) {
        "c"
    } else {
        choices.pick(&COLLECTIONS)
    };
    let id = match choices.below(3) {
        0 => choices.below(30).to_string(),
        _ => (*choices.pick(&IDS)).to_owned(),
    };
    DocumentPath::parse(&format!("{collection}/{id}")).unwrap()
}

fn reference(choices: &mut Choices) -> Value {
    let database = if choices.one_in(12) {
        DatabaseName::new("p", "other").unwrap()
    } else {
        database()
    };
    Value::Reference(DocumentName {
        database,
        path: path(choices),
    })
}

fn long(choices: &mut Choices) -> String {
    // Lengths around the cut, and equal beginnings beyond it.
    let len = *choices.pick(&[1_490, 1_498, 1_499, 1_500, 2_000]);
    format!("{}{}", "x".repeat(len), choices.pick(&["", "1", "2", "3"]))
}

fn scalar(choices: &mut Choices) -> Value {
    if choices.long_values && !choices.one_in(8) {
        return Value::String(long(choices));
    }
    if choices.few_values && !choices.one_in(12) {
        return choices
            .pick(&[
                Value::Integer(1),
                Value::Double(1.0),
                Value::Integer(2),
                Value::String("a".to_owned()),
            ])
            .clone();
    }
    match choices.below(22) {
        0 => Value::Null,
        1 => Value::Boolean(choices.one_in(2)),
        2..=5 => Value::Integer(*choices.pick(&[
            -5,
            0,
            1,
            2,
            3,
            9_007_199_254_740_993,
            i64::MAX,
            i64::MIN,
        ])),
        6..=7 => Value::Double(*choices.pick(&[
            -0.0,
            0.0,
            1.0,
            2.5,
            9_007_199_254_740_992.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ])),
        8 => Value::Double(f64::NAN),
        9 => Value::Timestamp(
            Timestamp::from_micros(*choices.pick(&[-62_135_596_800_000_000, 0, 1, 1_000_000]))
                .unwrap(),
        ),
        10..=12 => Value::String(
            (*choices.pick(&["", "a", "ab", "b", "a\u{0}", "\u{ffff}", "𝄞"])).to_owned(),
        ),
        13..=16 => Value::String(long(choices)),
        17 => Value::Bytes(
            choices
                .pick(&[vec![], vec![0], vec![0, 1], vec![255]])
                .clone(),
        ),
        18 => Value::Bytes(long(choices).into_bytes()),
        19 => reference(choices),
        20 => Value::GeoPoint(GeoPoint {
            latitude: *choices.pick(&[-90.0, 0.0, 1.5]),
            longitude: *choices.pick(&[-180.0, 0.0, 3.0]),
        }),
        _ => Value::Vector(choices.pick(&[vec![], vec![1.0], vec![1.0, 2.0]]).clone()),
    }
}

fn array(choices: &mut Choices) -> Value {
    let len = choices.below(4);
    Value::Array((0..len).map(|_| scalar(choices)).collect())
}

fn map(choices: &mut Choices, depth: usize) -> Value {
    let mut fields = BTreeMap::new();
    for name in ["x", "a b", "n"] {
        if choices.one_in(2) {
            let value = if depth < 2 && name == "n" {
                map(choices, depth + 1)
            } else {
                scalar(choices)
            };
            fields.insert(name.to_owned(), value);
        }
    }
    Value::Map(fields)
}

fn value(choices: &mut Choices) -> Value {
    match choices.below(8) {
        0 => array(choices),
        1 => map(choices, 1),
        _ => scalar(choices),
    }
}

fn document(choices: &mut Choices) -> Document {
    let mut fields = Fields::new();
    for name in ["a", "b"] {
        if !choices.one_in(5) {
            fields.insert(name.to_owned(), value(choices));
        }
    }
    if choices.one_in(2) {
        fields.insert("t".to_owned(), array(choices));
    }
    if choices.one_in(2) {
        fields.insert("m".to_owned(), map(choices, 0));
    }
    let time = Timestamp::from_micros(1).unwrap();
    Document {
        path: path(choices),
        create_time: time,
        update_time: time,
        fields,
    }
}

/// Time that is moved by hand.
#[derive(Default)]
struct Hand(AtomicI64);

impl Hand {
    fn pass(&self, time: Duration) {
        let micros = i64::try_from(time.as_micros()).unwrap();
        self.0.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

fn index(id: u64, group: &str, scope: Scope, fields: &[(&str, Mode)]) -> Index {
    let fields = fields
        .iter()
        .map(|(path, mode)| IndexField {
            path: FieldPath::parse(path).unwrap(),
            mode: *mode,
        })
        .collect();
    Index {
        id: IndexId(id),
        definition: Definition::new(group.to_owned(), scope, fields).unwrap(),
        state: IndexState::Ready,
    }
}

fn catalog_of(indexes: impl IntoIterator<Item = Index>) -> Catalog {
    Catalog {
        indexes: indexes.into_iter().map(|index| (index.id, index)).collect(),
        ..Catalog::default()
    }
}

fn random_catalog(choices: &mut Choices) -> Catalog {
    let group = |choices: &mut Choices| if choices.one_in(4) { "s" } else { "c" };
    let indexes: Vec<Index> = (1..=choices.below(12) as u64)
        .map(|id| {
            let mut fields: Vec<(&str, Mode)> = Vec::new();
            for _ in 0..2 + choices.below(2) {
                let path = *choices.pick(&FIELDS);
                let contains = fields.iter().any(|(_, mode)| *mode == Mode::Contains);
                let mode = match choices.below(5) {
                    0 | 1 => Mode::Ascending,
                    2 | 3 => Mode::Descending,
                    _ if contains => Mode::Ascending,
                    _ => Mode::Contains,
                };
                if fields.iter().all(|(other, _)| *other != path) {
                    fields.push((path, mode));
                }
            }
            let scope = if choices.one_in(3) {
                Scope::Group
            } else {
                Scope::Collection
            };
            index(id, group(choices), scope, &fields)
        })
        .collect();
    let mut catalog = catalog_of(indexes);
    for _ in 0..choices.below(4) {
        let key = FieldKey {
            group: Some(group(choices).to_owned()),
            path: (!choices.one_in(4))
                .then(|| FieldPath::parse(choices.pick::<&str>(&FIELDS)).unwrap()),
        };
        let modes = Modes::from_bits(choices.below(16) as u8).unwrap();
        let config = FieldConfig {
            indexes: Vec::new(),
            usable: modes,
            kept: modes,
            removing: Modes::NONE,
            reverting: false,
        };
        catalog.fields.insert(key, config);
    }
    catalog
}

/// A store that is written as commits write it.
struct World {
    store: Arc<MemoryStore>,
    catalog: Catalog,
    clock: Arc<Hand>,
    documents: BTreeMap<DocumentPath, Document>,
    version: u64,
}

impl World {
    fn new(catalog: Catalog) -> Self {
        Self {
            store: MemoryStore::new(),
            catalog,
            clock: Arc::default(),
            documents: BTreeMap::new(),
            version: 0,
        }
    }

    fn random(choices: &mut Choices, writes: usize) -> Vec<(DocumentPath, Option<Document>)> {
        (0..writes)
            .map(|_| {
                let document = document(choices);
                (
                    document.path.clone(),
                    if choices.one_in(8) {
                        None
                    } else {
                        Some(document)
                    },
                )
            })
            .collect()
    }

    async fn write(&mut self, changes: Vec<(DocumentPath, Option<Document>)>) {
        let mut operations = Vec::new();
        for (path, after) in changes {
            let before = self.documents.get(&path);
            operations.extend(diff::operations(before, after.as_ref(), &self.catalog).unwrap());
            let key = document_key(&path);
            match after {
                Some(after) => {
                    operations.push(Operation::Put {
                        key,
                        value: encode_record(&after),
                    });
                    self.documents.insert(path, after);
                }
                None => {
                    operations.push(Operation::Delete { key });
                    self.documents.remove(&path);
                }
            }
        }
        let head = Version(self.version);
        self.version += 1;
        self.store
            .apply(
                head,
                Batch {
                    version: Version(self.version),
                    operations,
                },
            )
            .await
            .unwrap();
    }

    async fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.store.snapshot().await.unwrap()
    }

    async fn reading(&self) -> Reading {
        Reading::new(
            self.snapshot().await,
            Arc::clone(&self.clock) as Arc<dyn Clock>,
        )
    }

    async fn plan(&self, query: &Query) -> Plan {
        planner::choose(&*self.snapshot().await, &self.catalog, &database(), query)
            .await
            .unwrap()
    }

    async fn start(&self, query: &Query, delivery: Delivery, bytes_max: usize) -> Run {
        let plan = self.plan(query).await;
        self.start_plan(query, plan, delivery, bytes_max).await
    }

    async fn start_plan(
        &self,
        query: &Query,
        plan: Plan,
        delivery: Delivery,
        bytes_max: usize,
    ) -> Run {
        let query = Arc::new(query.clone());
        Run::new(self.reading().await, query, plan, delivery, bytes_max)
    }

    async fn ask(&self, parts: &QueryParts) -> Result<(Vec<Arc<Document>>, ExecutionStats), Error> {
        let query = Query::new(parts.clone()).unwrap();
        collect(self.start(&query, Delivery::Kept, QUERY_BYTES_MAX).await).await
    }

    async fn aggregate(
        &self,
        query: &Query,
        aggregations: &[Aggregation],
    ) -> (Vec<(String, Value)>, ExecutionStats) {
        let snapshot = self.snapshot().await;
        let fields: Vec<FieldPath> = aggregations
            .iter()
            .filter_map(Aggregation::field)
            .cloned()
            .collect();
        let (plan, orders) = if fields.is_empty() {
            let plan =
                planner::choose_for_fields(&*snapshot, &self.catalog, &database(), query, &[])
                    .await;
            (plan, query.order().len())
        } else {
            let plan =
                planner::choose_for_fields(&*snapshot, &self.catalog, &database(), query, &fields)
                    .await;
            (plan, planner::field_orders(query, &fields).len())
        };
        aggregate(
            self.reading().await,
            Arc::new(query.clone()),
            plan.unwrap(),
            orders,
            aggregations.to_vec(),
        )
        .await
        .unwrap()
    }
}

fn field(choices: &mut Choices) -> FieldPath {
    if choices.one_in(8) {
        FieldPath::document_name()
    } else {
        FieldPath::parse(choices.pick::<&str>(&FIELDS)).unwrap()
    }
}

fn operand(choices: &mut Choices, field: &FieldPath, documents: &[&Document]) -> Value {
    if field.is_document_name() {
        return match documents {
            [] => reference(choices),
            _ if choices.one_in(3) => reference(choices),
            _ => Value::Reference(DocumentName {
                database: database(),
                path: choices.pick(documents).path.clone(),
            }),
        };
    }
    if !documents.is_empty() && !choices.one_in(3) {
        match field.get(&choices.pick(documents).fields) {
            Some(Value::Array(values)) if !values.is_empty() && choices.one_in(2) => {
                return choices.pick(values).clone();
            }
            Some(value) => return value.clone(),
            None => {}
        }
    }
    value(choices)
}

fn leaf(choices: &mut Choices, documents: &[&Document]) -> Filter {
    const OPERATORS: [FieldOperator; 10] = [
        FieldOperator::LessThan,
        FieldOperator::LessThanOrEqual,
        FieldOperator::GreaterThan,
        FieldOperator::GreaterThanOrEqual,
        FieldOperator::Equal,
        FieldOperator::NotEqual,
        FieldOperator::ArrayContains,
        FieldOperator::In,
        FieldOperator::ArrayContainsAny,
        FieldOperator::NotIn,
    ];
    const UNARY: [UnaryOperator; 4] = [
        UnaryOperator::IsNan,
        UnaryOperator::IsNull,
        UnaryOperator::IsNotNan,
        UnaryOperator::IsNotNull,
    ];
    let field = field(choices);
    if choices.one_in(8) {
        return Filter::Unary {
            field,
            operator: *choices.pick(&UNARY),
        };
    }
    let operator = *choices.pick(&OPERATORS);
    let field = match operator {
        FieldOperator::ArrayContains | FieldOperator::ArrayContainsAny if !choices.one_in(4) => {
            FieldPath::parse("t").unwrap()
        }
        _ => field,
    };
    let value = match operator {
        FieldOperator::In | FieldOperator::NotIn | FieldOperator::ArrayContainsAny => {
            let len = 1 + choices.below(4);
            Value::Array(
                (0..len)
                    .map(|_| operand(choices, &field, documents))
                    .collect(),
            )
        }
        _ => operand(choices, &field, documents),
    };
    Filter::Field {
        field,
        operator,
        value,
    }
}

/// What indexes are for: some fields have the values that one document has.
fn equalities(choices: &mut Choices, document: &Document) -> Option<Filter> {
    let mut filters = Vec::new();
    for name in FIELDS {
        let field = FieldPath::parse(name).unwrap();
        let Some(value) = field.get(&document.fields) else {
            continue;
        };
        if choices.one_in(2) {
            continue;
        }
        let (operator, value) = match value {
            Value::Array(values) if !values.is_empty() => {
                (FieldOperator::ArrayContains, choices.pick(values))
            }
            value if choices.one_in(5) => (FieldOperator::GreaterThanOrEqual, value),
            value => (FieldOperator::Equal, value),
        };
        let value = value.clone();
        filters.push(Filter::Field {
            field,
            operator,
            value,
        });
    }
    (!filters.is_empty()).then_some(Filter::And(filters))
}

fn filter(choices: &mut Choices, documents: &[&Document], depth: usize) -> Filter {
    if depth > 0
        && choices.one_in(2)
        && let Some(document) = (!documents.is_empty()).then(|| *choices.pick(documents))
        && let Some(equalities) = equalities(choices, document)
    {
        let other = |choices: &mut Choices| leaf(choices, documents);
        return match choices.below(4) {
            0 => Filter::And(vec![equalities, other(choices)]),
            1 => Filter::Or(vec![equalities, other(choices)]),
            _ => equalities,
        };
    }
    if depth == 0 || !choices.one_in(3) {
        return leaf(choices, documents);
    }
    let len = 1 + choices.below(3);
    let filters = (0..len)
        .map(|_| filter(choices, documents, depth - 1))
        .collect();
    if choices.one_in(3) {
        Filter::Or(filters)
    } else {
        Filter::And(filters)
    }
}

fn cursor(choices: &mut Choices, orders: &[Order], documents: &[&Document]) -> Option<Cursor> {
    if orders.is_empty() || !choices.one_in(3) {
        return None;
    }
    let len = 1 + choices.below(orders.len());
    // Mostly the position of a document that is there.
    let whole = (!documents.is_empty() && !choices.one_in(3)).then(|| *choices.pick(documents));
    let values = orders[..len]
        .iter()
        .map(|order| match whole {
            Some(document) if order.field.is_document_name() => Value::Reference(DocumentName {
                database: database(),
                path: document.path.clone(),
            }),
            Some(document) => order
                .field
                .get(&document.fields)
                .cloned()
                .unwrap_or(Value::Integer(1)),
            None => operand(choices, &order.field, documents),
        })
        .collect();
    Some(Cursor {
        values,
        before: choices.one_in(2),
    })
}

fn direction(choices: &mut Choices) -> OrderDirection {
    if choices.one_in(2) {
        OrderDirection::Ascending
    } else {
        OrderDirection::Descending
    }
}

fn parts(choices: &mut Choices, documents: &[&Document]) -> QueryParts {
    // Most queries are made around one document, so that their parts can hold together.
    let home = (!documents.is_empty() && !choices.one_in(4)).then(|| *choices.pick(documents));
    let collection = match home {
        Some(home) => home.path.collection(),
        None => CollectionPath::parse(choices.pick::<&str>(&COLLECTIONS)).unwrap(),
    };
    let selector = match choices.below(8) {
        0 => Selector::Everything,
        1 | 2 => Selector::Group(collection.id().to_owned()),
        _ => Selector::Collection(collection.id().to_owned()),
    };
    let parent = match selector {
        Selector::Collection(_) => collection.parent(),
        _ if choices.one_in(2) => collection.parent(),
        _ => Parent::Root,
    };
    let everything = selector == Selector::Everything;
    let near = match home {
        Some(home) if choices.one_in(2) => vec![home],
        _ => documents.to_vec(),
    };
    let filter = (!choices.one_in(3)).then(|| filter(choices, &near, 2));
    let mut order = Vec::new();
    for _ in 0..choices.below(3) {
        let field = if everything {
            FieldPath::document_name()
        } else {
            field(choices)
        };
        let direction = direction(choices);
        if order.iter().all(|order: &Order| order.field != field) {
            order.push(Order { field, direction });
        }
    }
    if !everything && choices.one_in(3) {
        order.truncate(1);
        if order.iter().all(|order| !order.field.is_document_name()) {
            order.push(Order {
                field: FieldPath::document_name(),
                direction: direction(choices),
            });
        }
    }
    let start = cursor(choices, &order, documents);
    let end = cursor(choices, &order, documents);
    let offset = if choices.one_in(6) {
        choices.below(5) as u32
    } else {
        0
    };
    let limit = choices.one_in(3).then(|| choices.below(8) as u32);
    QueryParts {
        database: database(),
        parent,
        selector,
        filter,
        order,
        start,
        end,
        offset,
        limit,
        projection: None,
    }
}

fn names<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Vec<String> {
    documents
        .into_iter()
        .map(|document| document.path.to_string())
        .collect()
}

fn queries(choices: &mut Choices, documents: &[&Document], count: usize) -> Vec<Query> {
    std::iter::from_fn(|| Some(Query::new(parts(choices, documents))))
        .flatten()
        .take(count)
        .collect()
}

/// Random indexes, and some of those that the queries miss.
async fn catalog_for(choices: &mut Choices, queries: &[Query]) -> Catalog {
    let mut catalog = random_catalog(choices);
    let nothing = MemoryStore::new().snapshot().await.unwrap();
    for query in queries {
        let plan = planner::choose(&*nothing, &catalog, &database(), query)
            .await
            .unwrap();
        let Some(missing) = plan.missing.filter(|_| !choices.one_in(3)) else {
            continue;
        };
        let id = IndexId(1_000 + catalog.indexes.len() as u64);
        let index = Index {
            id,
            definition: missing.definition,
            state: IndexState::Ready,
        };
        catalog.indexes.insert(id, index);
    }
    catalog
}

#[tokio::test]
async fn answers_equal_the_plain_definition() {
    let (mut asked, mut answered, mut defined, mut joined, mut unions, mut ordered, mut covered) =
        (0, 0, 0, 0, 0, 0, 0);
    for seed in 0..100 {
        let mut choices = Choices::new(seed);
        let writes = World::random(&mut choices, 20 + seed as usize % 80);
        let stored: BTreeMap<_, _> = writes.iter().cloned().collect();
        let stored: Vec<Document> = stored.into_values().flatten().collect();
        let queries = queries(&mut choices, &stored.iter().collect::<Vec<_>>(), 60);
        let catalog = catalog_for(&mut choices, &queries).await;
        let mut world = World::new(catalog);
        world.write(writes).await;
        world.write(World::random(&mut choices, 10)).await;
        let documents: Vec<&Document> = world.documents.values().collect();
        for query in queries {
            let plan = world.plan(&query).await;
            let about = format!("seed {seed}, query {query:?}, plan {plan:?}");
            let expected = names(query.evaluate(documents.iter().copied()));
            let run = world.start_plan(&query, plan.clone(), Delivery::Kept, QUERY_BYTES_MAX);
            let (found, stats) = collect(run.await).await.expect(&about);
            assert_eq!(
                names(found.iter().map(|document| &**document)),
                expected,
                "{about}"
            );
            assert_eq!(stats.results_returned, expected.len() as u64);
            let matching = documents.iter().filter(|document| query.matches(document));
            if query.limit() != Some(0) {
                assert_eq!(
                    stats.results_skipped,
                    (query.offset() as u64).min(matching.count() as u64),
                    "{about}"
                );
            }
            let scans = |branch: &Branch| match &branch.source {
                Source::Entries(scans) => scans.len(),
                _ => 0,
            };
            asked += 1;
            answered += usize::from(!expected.is_empty());
            defined += usize::from(
                plan.indexes_used
                    .iter()
                    .any(|used| used.properties.matches(',').count() > 1),
            );
            joined += usize::from(plan.branches.iter().any(|branch| scans(branch) > 1));
            unions += usize::from(plan.branches.len() > 1);
            ordered += usize::from(
                plan.ordered == query.order().len()
                    && plan.branches.iter().any(|branch| scans(branch) > 0),
            );
            covered += usize::from(plan.branches.iter().any(|branch| branch.covered));
        }
    }
    // The questions are worth asking.
    assert!(
        asked >= 6_000
            && answered > asked / 3
            && defined > asked / 100
            && joined > asked / 50
            && unions > asked / 20
            && ordered > asked / 8
            && covered > asked / 8,
        "{asked} {answered} {defined} {joined} {unions} {ordered} {covered}"
    );
}

fn aggregations(choices: &mut Choices) -> Vec<Aggregation> {
    (0..1 + choices.below(3))
        .map(|number| Aggregation {
            alias: number.to_string(),
            operator: match choices.below(4) {
                0 => AggregationOperator::Count { up_to: None },
                1 => AggregationOperator::Count {
                    up_to: Some(1 + choices.below(8) as u64),
                },
                2 => AggregationOperator::Sum(
                    FieldPath::parse(choices.pick::<&str>(&FIELDS)).unwrap(),
                ),
                _ => AggregationOperator::Average(
                    FieldPath::parse(choices.pick::<&str>(&FIELDS)).unwrap(),
                ),
            },
        })
        .collect()
}

/// Sums of doubles depend a little on the order in which they are added up.
fn about_equal(a: &Value, b: &Value, magnitude: f64) -> bool {
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= magnitude * 1e-9
        }
        _ => a.identical(b),
    }
}

#[tokio::test]
async fn aggregations_equal_the_plain_definition() {
    let (mut asked, mut from_entries) = (0, 0);
    for seed in 2_000..2_060 {
        let mut choices = Choices::new(seed);
        let writes = World::random(&mut choices, 20 + seed as usize % 80);
        let stored: BTreeMap<_, _> = writes.iter().cloned().collect();
        let stored: Vec<Document> = stored.into_values().flatten().collect();
        let queries = queries(&mut choices, &stored.iter().collect::<Vec<_>>(), 60);
        let catalog = catalog_for(&mut choices, &queries).await;
        let mut world = World::new(catalog);
        world.write(writes).await;
        let documents: Vec<&Document> = world.documents.values().collect();
        for query in queries {
            let aggregations = aggregations(&mut choices);
            let results = query.evaluate(documents.iter().copied());
            let mut aggregator = Aggregator::new(aggregations.clone());
            results.iter().for_each(|document| aggregator.add(document));
            let expected = aggregator.finish();
            let (found, stats) = world.aggregate(&query, &aggregations).await;
            let magnitude: f64 = aggregations
                .iter()
                .filter_map(Aggregation::field)
                .flat_map(|field| {
                    results
                        .iter()
                        .filter_map(|document| field.get(&document.fields))
                })
                .map(|value| match value {
                    Value::Integer(integer) => (*integer as f64).abs(),
                    Value::Double(double) if double.is_finite() => double.abs(),
                    _ => 0.0,
                })
                .sum();
            let same = found.iter().zip(&expected).all(|(found, expected)| {
                found.0 == expected.0 && about_equal(&found.1, &expected.1, magnitude)
            });
            assert!(
                same && found.len() == expected.len(),
                "seed {seed}, found {found:?}, expected {expected:?}, {aggregations:?} of {query:?}"
            );
            asked += 1;
            from_entries += usize::from(!results.is_empty() && stats.documents_scanned == 0);
        }
    }
    assert!(from_entries > asked / 20, "{from_entries} of {asked}");
}

#[tokio::test]
async fn entries_after_updates_are_those_of_the_documents() {
    for seed in 1_000..1_040 {
        let mut choices = Choices::new(seed);
        let mut world = World::new(random_catalog(&mut choices));
        for _ in 0..6 {
            let writes = 1 + choices.below(30);
            world.write(World::random(&mut choices, writes)).await;
            let fresh: BTreeSet<Bytes> = world
                .documents
                .values()
                .flat_map(|document| entries(document, &world.catalog).into_keys())
                .collect();
            let mut stored = BTreeSet::new();
            for keyspace in [
                Keyspace::Index,
                Keyspace::Group,
                Keyspace::GroupIndex,
                Keyspace::Defined,
            ] {
                let page = world
                    .snapshot()
                    .await
                    .page(&keyspace.range(), Direction::Forward, 100_000)
                    .await
                    .unwrap();
                stored.extend(page.entries.into_iter().map(|(key, _)| key));
            }
            assert_eq!(stored, fresh, "seed {seed}");
        }
    }
}

/// `count` documents `c/0000…` with `n` = number, `even`, `t` = [number, "all"], and one child each when asked.
async fn numbered(count: i64, children: bool) -> World {
    numbered_with(Catalog::default(), count, children).await
}

async fn numbered_with(catalog: Catalog, count: i64, children: bool) -> World {
    let mut world = World::new(catalog);
    let time = Timestamp::from_micros(1).unwrap();
    let mut changes = Vec::new();
    for n in 0..count {
        let fields: Fields = BTreeMap::from([
            ("n".to_owned(), Value::Integer(n)),
            ("even".to_owned(), Value::Boolean(n % 2 == 0)),
            (
                "t".to_owned(),
                Value::Array(vec![Value::Integer(n), Value::String("all".to_owned())]),
            ),
        ]);
        let mut paths = vec![format!("c/{n:05}")];
        if children {
            paths.extend((0..20).map(|child| format!("c/{n:05}/s/{child}")));
        }
        for path in paths {
            let path = DocumentPath::parse(&path).unwrap();
            changes.push((
                path.clone(),
                Some(Document {
                    path,
                    create_time: time,
                    update_time: time,
                    fields: fields.clone(),
                }),
            ));
        }
    }
    world.write(changes).await;
    world
}

fn plain(
    filter: Option<Filter>,
    order: &[(&str, OrderDirection)],
    limit: Option<u32>,
) -> QueryParts {
    let order = order
        .iter()
        .map(|(field, direction)| Order {
            field: FieldPath::parse(field).unwrap(),
            direction: *direction,
        })
        .collect();
    QueryParts {
        database: database(),
        parent: Parent::Root,
        selector: Selector::Collection("c".to_owned()),
        filter,
        order,
        start: None,
        end: None,
        offset: 0,
        limit,
        projection: None,
    }
}

fn compare(field: &str, operator: FieldOperator, value: Value) -> Filter {
    Filter::Field {
        field: FieldPath::parse(field).unwrap(),
        operator,
        value,
    }
}

#[tokio::test]
async fn values_that_differ_only_beyond_the_cut_keep_their_order() {
    let mut world = World::new(Catalog::default());
    let time = Timestamp::from_micros(1).unwrap();
    let text = |end: &str| Value::String(format!("{}{end}", "x".repeat(3_000)));
    let changes = [("c/1", "4"), ("c/2", "2"), ("c/3", "3"), ("c/4", "1")].map(|(path, end)| {
        let path = DocumentPath::parse(path).unwrap();
        let fields = Fields::from([("a".to_owned(), text(end))]);
        (
            path.clone(),
            Some(Document {
                path,
                create_time: time,
                update_time: time,
                fields,
            }),
        )
    });
    world.write(changes.to_vec()).await;
    let at = |path: &str, end: &str, before: bool| {
        let path = DocumentPath::parse(path).unwrap();
        let name = Value::Reference(DocumentName {
            database: database(),
            path,
        });
        Some(Cursor {
            values: vec![text(end), name],
            before,
        })
    };
    use OrderDirection::{Ascending, Descending};
    let ordered = |direction| plain(None, &[("a", direction), ("__name__", direction)], None);
    for (parts, expected) in [
        (ordered(Ascending), vec!["c/4", "c/2", "c/3", "c/1"]),
        (ordered(Descending), vec!["c/1", "c/3", "c/2", "c/4"]),
        (
            QueryParts {
                limit: Some(2),
                ..ordered(Ascending)
            },
            vec!["c/4", "c/2"],
        ),
        (
            QueryParts {
                start: at("c/2", "2", true),
                ..ordered(Ascending)
            },
            vec!["c/2", "c/3", "c/1"],
        ),
        (
            QueryParts {
                start: at("c/3", "3", false),
                ..ordered(Descending)
            },
            vec!["c/2", "c/4"],
        ),
        (
            QueryParts {
                end: at("c/3", "3", false),
                ..ordered(Ascending)
            },
            vec!["c/4", "c/2", "c/3"],
        ),
        (
            QueryParts {
                end: at("c/3", "3", true),
                ..ordered(Descending)
            },
            vec!["c/1"],
        ),
        (
            plain(
                Some(compare("a", FieldOperator::Equal, text("3"))),
                &[],
                None,
            ),
            vec!["c/3"],
        ),
        (
            plain(
                Some(compare("a", FieldOperator::GreaterThan, text("2"))),
                &[],
                None,
            ),
            vec!["c/3", "c/1"],
        ),
        (
            plain(
                Some(compare("a", FieldOperator::LessThan, text("2"))),
                &[],
                None,
            ),
            vec!["c/4"],
        ),
    ] {
        let (documents, stats) = world.ask(&parts).await.unwrap();
        assert!(stats.index_entries_scanned > 0);
        assert_eq!(
            names(documents.iter().map(|document| &**document)),
            expected,
            "{parts:?}"
        );
    }
}

#[tokio::test]
async fn an_entry_without_its_document_is_corruption() {
    let mut world = numbered(3, false).await;
    let operations = vec![Operation::Delete {
        key: document_key(&DocumentPath::parse("c/00001").unwrap()),
    }];
    world
        .store
        .apply(
            Version(world.version),
            Batch {
                version: Version(world.version + 1),
                operations,
            },
        )
        .await
        .unwrap();
    world.version += 1;
    let parts = plain(None, &[("n", OrderDirection::Ascending)], None);
    let error = world.ask(&parts).await.unwrap_err();
    assert!(
        matches!(&error, Error::Corrupt(text) if text.contains("c/00001")),
        "{error:?}"
    );
}

#[test]
fn a_document_may_not_have_too_many_or_too_long_entries() {
    let time = Timestamp::from_micros(1).unwrap();
    let document = |fields: Fields| Document {
        path: DocumentPath::parse("c/d").unwrap(),
        create_time: time,
        update_time: time,
        fields,
    };
    let message = |fields: Fields| {
        diff::operations(None, Some(&document(fields)), &Catalog::default())
            .map(|operations| operations.len())
            .map_err(|error| error.to_string())
    };
    let flat = |count: usize| {
        (0..count)
            .map(|n| (format!("f{n}"), Value::Null))
            .collect::<Fields>()
    };
    assert_eq!(message(flat(20_000)), Ok(20_001));
    assert_eq!(
        message(flat(20_001)),
        Err("too many index entries for entity /c/d".to_owned())
    );
    let array = |count: i64| {
        Fields::from([(
            "t".to_owned(),
            Value::Array((0..count).map(Value::Integer).collect()),
        )])
    };
    assert_eq!(message(array(19_999)), Ok(20_001));
    assert_eq!(
        message(array(20_000)),
        Err("too many index entries for entity /c/d".to_owned())
    );
    assert_eq!(
        message(Fields::from([("f".repeat(7_700), Value::Null)])),
        Err("Index entry is too large.".to_owned())
    );
    let long = (0..6_000)
        .map(|n| (format!("f{n}"), Value::String("x".repeat(1_600))))
        .collect();
    assert_eq!(message(long), Err("Index entry is too large.".to_owned()));
    // All its entries together would have a gigabyte; they are never made.
    let mut deep = Value::Map(flat(300_000));
    for _ in 0..3 {
        deep = Value::Map(Fields::from([("f".repeat(1_200), deep)]));
    }
    assert_eq!(
        message(Fields::from([("f".to_owned(), deep)])),
        Err("Index entry is too large.".to_owned())
    );
}
