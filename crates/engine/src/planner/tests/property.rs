//! Made-up queries, indexes and documents: what a plan promises is compared with what the documents themselves say.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use watchfire_model::Document;
use watchfire_model::order::encode_path;
use watchfire_model::query::Direction as OrderDirection;
use watchfire_model::{
    Cursor, DocumentName, DocumentPath, FieldOperator, FieldPath, Filter, Order, Parent, Query,
    QueryParts, Selector, UnaryOperator, Value,
};
use watchfire_storage::{Direction, Range, Snapshot, Store};

use super::script::{add_index, database, set_field};
use super::{document, keys_of, store_of};
use crate::definition::{IndexField, Mode, Scope};
use crate::index::catalog::{Catalog, IndexState, Modes};
use crate::index::entries::group_start;
use crate::index::key::{document_part, entry_key, invert, is_cut, next_column, read_entry};
use crate::keyspace::document_key;
use crate::planner::{
    Branch, Held, IndexScan, Plan, SortPart, Source, choose, choose_for_fields, field_orders,
};

/// Numbers from a seed, one after the other.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn value(&mut self) -> Value {
        match self.below(20) {
            0 => Value::Null,
            1 => Value::Double(f64::NAN),
            2 => Value::Double(2.0),
            3 => Value::Boolean(true),
            4 => Value::String(self.of(&["", "b", "bb"]).to_string()),
            5 => Value::String(format!("{}{}", "l".repeat(1_600), self.below(2))),
            6 => Value::String("l".repeat(1_497)),
            7 => Value::Map(BTreeMap::from([("x".to_owned(), Value::Integer(1))])),
            8 => Value::Reference(self.name()),
            9 => Value::Bytes(vec![0, 1]),
            10 | 11 => Value::Array((0..self.below(3)).map(|_| self.scalar()).collect()),
            _ => self.scalar(),
        }
    }
    fn scalar(&mut self) -> Value {
        Value::Integer(self.below(4) as i64)
    }
    fn path(&mut self) -> DocumentPath {
        let path = match self.below(6) {
            0 => format!("e/x/c/d{}", self.below(4)),
            1 => format!("c/d1/c/d{}", self.below(4)),
            2 => format!("b/d{}", self.below(4)),
            _ => format!("c/d{}", self.below(6)),
        };
        DocumentPath::parse(&path).unwrap()
    }
    fn name(&mut self) -> DocumentName {
        let database = if self.one_in(8) {
            watchfire_model::DatabaseName::new("demo", "zother").unwrap()
        } else {
            database()
        };
        DocumentName {
            database,
            path: self.path(),
        }
    }
    fn field(&mut self) -> FieldPath {
        let names: [&str; 7] = ["a", "a", "b", "b", "d", "t", "m.x"];
        FieldPath::parse(names[self.below(names.len())]).unwrap()
    }

    fn documents(&mut self) -> Vec<Document> {
        let documents: BTreeMap<DocumentPath, Document> = (0..self.below(14))
            .map(|_| {
                let path = self.path();
                let mut fields = BTreeMap::new();
                for name in ["a", "b", "d", "t"] {
                    if !self.one_in(5) {
                        fields.insert(name.to_owned(), self.value());
                    }
                }
                if self.one_in(2) {
                    let inner = BTreeMap::from([("x".to_owned(), self.value())]);
                    fields.insert("m".to_owned(), Value::Map(inner));
                }
                if self.one_in(2) {
                    let elements = (0..self.below(3)).map(|_| self.scalar()).collect();
                    fields.insert("t".to_owned(), Value::Array(elements));
                }
                (path.clone(), document(path.as_str(), fields))
            })
            .collect();
        documents.into_values().collect()
    }

    fn catalog(&mut self) -> Catalog {
        let mut catalog = Catalog::default();
        for _ in 0..self.below(7) {
            let mut fields: Vec<IndexField> = Vec::new();
            for _ in 0..1 + self.below(3) {
                let path = self.field();
                let has_array = fields.iter().any(|field| field.mode == Mode::Contains);
                let mode = match self.below(5) {
                    0 if !has_array => Mode::Contains,
                    1 | 2 => Mode::Descending,
                    _ => Mode::Ascending,
                };
                if fields.iter().all(|field| field.path != path) {
                    fields.push(IndexField { path, mode });
                }
            }
            let scope = if self.one_in(3) {
                Scope::Group
            } else {
                Scope::Collection
            };
            let state = if self.one_in(10) {
                IndexState::Creating
            } else {
                IndexState::Ready
            };
            add_index(&mut catalog, "c", scope, fields, state);
        }
        for _ in 0..self.below(4) {
            let modes = Modes::from_bits(self.below(16) as u8).unwrap();
            let field = self.field();
            set_field(&mut catalog, "c", field, modes);
        }
        catalog
    }

    fn filter(&mut self, depth: usize) -> Filter {
        if depth > 0 && self.one_in(2) {
            let filters = (0..1 + self.below(3))
                .map(|_| self.filter(depth - 1))
                .collect();
            return if self.one_in(3) {
                Filter::Or(filters)
            } else {
                Filter::And(filters)
            };
        }
        let by_name = self.one_in(8);
        let field = if by_name {
            FieldPath::document_name()
        } else {
            self.field()
        };
        if !by_name && self.one_in(8) {
            let operator = *self.of(&[
                UnaryOperator::IsNan,
                UnaryOperator::IsNull,
                UnaryOperator::IsNotNan,
                UnaryOperator::IsNotNull,
            ]);
            return Filter::Unary { field, operator };
        }
        let operator = *self.of(&[
            FieldOperator::Equal,
            FieldOperator::Equal,
            FieldOperator::Equal,
            FieldOperator::LessThan,
            FieldOperator::LessThanOrEqual,
            FieldOperator::GreaterThan,
            FieldOperator::GreaterThanOrEqual,
            FieldOperator::NotEqual,
            FieldOperator::ArrayContains,
            FieldOperator::In,
            FieldOperator::ArrayContainsAny,
            FieldOperator::NotIn,
        ]);
        let mut operand = || {
            if by_name {
                Value::Reference(self.name())
            } else {
                self.value()
            }
        };
        let value = match operator {
            FieldOperator::In | FieldOperator::ArrayContainsAny | FieldOperator::NotIn => {
                Value::Array(vec![operand(), operand()])
            }
            _ => operand(),
        };
        Filter::Field {
            field,
            operator,
            value,
        }
    }

    fn cursor(&mut self, order: &[Order], documents: &[Document]) -> Cursor {
        let count = 1 + self.below(order.len());
        let like = (!documents.is_empty()).then(|| self.of(documents).clone());
        let values = order
            .iter()
            .take(count)
            .map(|order| {
                if order.field.is_document_name() {
                    match &like {
                        Some(like) if !self.one_in(3) => Value::Reference(DocumentName {
                            database: database(),
                            path: like.path.clone(),
                        }),
                        _ => Value::Reference(self.name()),
                    }
                } else {
                    like.as_ref()
                        .and_then(|like| order.field.get(&like.fields).cloned())
                        .filter(|_| !self.one_in(3))
                        .unwrap_or_else(|| self.value())
                }
            })
            .collect();
        Cursor {
            values,
            before: self.one_in(2),
        }
    }

    fn query(&mut self, documents: &[Document]) -> Option<Query> {
        let (parent, selector) = match self.below(10) {
            0 => ("", Selector::Everything),
            1 => ("c/d1", Selector::Everything),
            2 => ("", Selector::Group("c".to_owned())),
            3 => ("c/d1", Selector::Group("c".to_owned())),
            4 => ("e/x", Selector::Collection("c".to_owned())),
            _ => ("", Selector::Collection("c".to_owned())),
        };
        let parent = match parent {
            "" => Parent::Root,
            path => Parent::Document(DocumentPath::parse(path).unwrap()),
        };
        let mut order: Vec<Order> = Vec::new();
        for _ in 0..self.below(3) {
            let field = self.field();
            let direction = *self.of(&[OrderDirection::Ascending, OrderDirection::Descending]);
            if order.iter().all(|order| order.field != field) {
                order.push(Order { field, direction });
            }
        }
        if self.one_in(4) {
            let direction = *self.of(&[OrderDirection::Ascending, OrderDirection::Descending]);
            order.push(Order {
                field: FieldPath::document_name(),
                direction,
            });
        }
        let filter = (!self.one_in(5)).then(|| self.filter(2));
        let mut cursor = |order: &[Order]| {
            (!order.is_empty() && self.one_in(3)).then(|| self.cursor(order, documents))
        };
        let start = cursor(&order);
        let end = cursor(&order);
        Query::new(QueryParts {
            database: database(),
            parent,
            selector,
            filter,
            order,
            start,
            end,
            offset: 0,
            limit: None,
            projection: None,
        })
        .ok()
    }
}

/// Keys in all scans, parts of the order, and whose they are.
type Found<'a> = (Vec<Bytes>, Vec<Vec<u8>>, &'a Document);

/// What one scan says of a document.
struct Read {
    key: Bytes,
    columns: Vec<Vec<u8>>,
}

fn read(scan: &IndexScan, document: &Document, catalog: &Catalog) -> Option<Read> {
    let part = document_part(&scan.place, &document.path, scan.names_inverted);
    let key = keys_of(document, catalog).into_iter().find(|key| {
        key.starts_with(&scan.start)
            && scan.ranges.iter().any(|range| range.contains(key))
            && key.ends_with(&entry_key(&[], &part))
    })?;
    let entry = read_entry(&scan.place, scan.start.len(), scan.names_inverted, &key).unwrap();
    assert_eq!(entry.document, document.path);
    let mut rest: &[u8] = &entry.columns;
    let mut columns = Vec::new();
    for column in &scan.columns {
        let (bytes, after) = next_column(rest, column.inverted).unwrap();
        columns.push(bytes.to_vec());
        rest = after;
    }
    assert!(rest.is_empty(), "a column more than the plan knows");
    assert_eq!(scan.columns.len(), scan.positions.len());
    Some(Read { key, columns })
}

/// Whether the branch reads the document, with its columns and the keys in which it does.
fn branch_reads(
    branch: &Branch,
    document: &Document,
    catalog: &Catalog,
) -> Option<(Vec<Vec<u8>>, Vec<Bytes>)> {
    let mut path = Vec::new();
    encode_path(&document.path, &mut path);
    let in_place = branch.names.contains(&path)
        && branch
            .children_of
            .as_ref()
            .is_none_or(|collection| collection.holds(&document.path));
    if !in_place {
        return None;
    }
    let one = |range: &Range, key: Bytes| range.contains(&key).then(|| (Vec::new(), vec![key]));
    match &branch.source {
        Source::Documents(paths) => {
            let at = paths.iter().position(|path| *path == document.path)?;
            Some((Vec::new(), vec![Bytes::from(vec![at as u8])]))
        }
        Source::Stored(range) => one(range, document_key(&document.path)),
        Source::Group { range, start_len } => {
            let mut key = group_start(document.path.collection_id());
            let own = range.start.get(..*start_len) == Some(key.as_slice());
            encode_path(&document.path, &mut key);
            own.then(|| one(range, Bytes::from(key))).flatten()
        }
        Source::Entries(scans) => {
            let reads = scans
                .iter()
                .map(|scan| read(scan, document, catalog))
                .collect::<Option<Vec<_>>>()?;
            let columns = reads.first()?.columns.clone();
            assert!(reads.iter().all(|read| read.columns == columns));
            for test in &branch.tests {
                let scan = scans.first().unwrap();
                let mut column = columns[test.column].clone();
                if scan.columns[test.column].inverted {
                    invert(&mut column);
                }
                if !test.ranges.iter().any(|range| range.contains(&column)) {
                    return None;
                }
            }
            Some((columns, reads.into_iter().map(|read| read.key).collect()))
        }
    }
}

/// What orders a document's entry, as bytes of which each part is compared by itself; with whether one was cut.
fn sort_parts(branch: &Branch, document: &Document, columns: &[Vec<u8>]) -> (Vec<Vec<u8>>, bool) {
    let mut cut = false;
    let parts = branch
        .sort
        .iter()
        .map(|part| match part {
            SortPart::Fixed(bytes) => {
                cut |= is_cut(bytes);
                bytes.to_vec()
            }
            SortPart::Column { column, descending } => {
                let Source::Entries(scans) = &branch.source else {
                    panic!("columns without entries");
                };
                let mut bytes = columns[*column].clone();
                cut |= is_cut(&bytes);
                if scans[0].columns[*column].inverted != *descending {
                    invert(&mut bytes);
                }
                bytes
            }
            SortPart::Name { descending } => {
                let mut bytes = Vec::new();
                encode_path(&document.path, &mut bytes);
                if *descending {
                    invert(&mut bytes);
                }
                bytes
            }
        })
        .collect();
    (parts, cut)
}

fn compare(orders: &[Order], a: &Document, b: &Document) -> Ordering {
    orders
        .iter()
        .map(|order| {
            let ordering = if order.field.is_document_name() {
                a.path.cmp(&b.path)
            } else {
                let of = |document: &Document| order.field.get(&document.fields).cloned();
                of(a).unwrap().compare(&of(b).unwrap())
            };
            match order.direction {
                OrderDirection::Ascending => ordering,
                OrderDirection::Descending => ordering.reverse(),
            }
        })
        .find(|ordering| ordering.is_ne())
        .unwrap_or(Ordering::Equal)
}

fn check(
    plan: &Plan,
    query: &Query,
    orders: &[Order],
    fields: &[FieldPath],
    documents: &[Document],
    catalog: &Catalog,
) {
    assert!(plan.ordered <= orders.len());
    assert!(plan.branches.len() <= 30);
    let has_fields = |document: &Document| {
        fields
            .iter()
            .all(|field| field.get(&document.fields).is_some())
    };
    let mut merged: Vec<(Vec<Vec<u8>>, &Document)> = Vec::new();
    for branch in &plan.branches {
        assert_eq!(branch.sort.len(), plan.ordered);
        let satisfies = |document: &Document| {
            branch
                .filter
                .as_ref()
                .is_none_or(|filter| filter.matches(document, &database()))
        };
        check_ranges(branch);
        let mut found: Vec<Found<'_>> = Vec::new();
        for document in documents {
            let read = branch_reads(branch, document, catalog);
            let wanted = query.matches(document) && satisfies(document) && has_fields(document);
            match read {
                None => assert!(!wanted, "{} is not read: {plan:#?}", document.path),
                Some((columns, keys)) => {
                    let cut = columns.iter().any(|column| is_cut(column));
                    if branch.covered && !cut {
                        assert!(
                            query.matches(document) && satisfies(document),
                            "{} does not match but is covered: {plan:#?}",
                            document.path
                        );
                    }
                    if wanted {
                        let (parts, cut) = sort_parts(branch, document, &columns);
                        if !cut {
                            found.push((keys, parts.clone(), document));
                            merged.push((parts, document));
                        }
                        check_held(branch, fields, document, &columns);
                    }
                }
            }
        }
        // Keys come in the order of the sort, in every scan.
        for (keys, parts, document) in &found {
            for (other_keys, other_parts, other) in &found {
                for (key, other_key) in keys.iter().zip(other_keys) {
                    let read_before = match branch.direction {
                        Direction::Forward => key < other_key,
                        Direction::Backward => key > other_key,
                    };
                    assert!(
                        !read_before || parts <= other_parts,
                        "{} is read before {}: {plan:#?}",
                        document.path,
                        other.path
                    );
                }
            }
        }
    }
    let ordered = &orders[..plan.ordered];
    for (parts, document) in &merged {
        for (other_parts, other) in &merged {
            assert_eq!(
                parts.cmp(other_parts),
                compare(ordered, document, other),
                "{} and {}: {plan:#?}",
                document.path,
                other.path
            );
        }
    }
}

fn check_held(branch: &Branch, fields: &[FieldPath], document: &Document, columns: &[Vec<u8>]) {
    for field in fields {
        let value = field.get(&document.fields).unwrap();
        match branch.held(field) {
            None => {}
            Some(Held::Column(column)) => {
                let Source::Entries(scans) = &branch.source else {
                    panic!("columns without entries");
                };
                let (expected, _) =
                    crate::planner::range::column(value, scans[0].columns[column].inverted);
                assert_eq!(columns[column], expected);
            }
            Some(Held::Fixed { fixed, .. }) => assert!(fixed.value.equals(value)),
        }
    }
}

fn check_ranges(branch: &Branch) {
    let ascending = |ranges: &[Range]| {
        assert!(ranges.iter().all(|range| !range.is_empty()));
        for pair in ranges.windows(2) {
            assert!(pair[0].end.as_ref().unwrap() <= &pair[1].start);
        }
    };
    for test in &branch.tests {
        ascending(&test.ranges);
    }
    let Source::Entries(scans) = &branch.source else {
        return;
    };
    let first = &scans[0];
    for scan in scans {
        assert!(!scan.ranges.is_empty());
        ascending(&scan.ranges);
        assert!(
            scan.ranges
                .iter()
                .all(|range| range.start.starts_with(&scan.start))
        );
        let whole = Range::prefix(&scan.start);
        assert!(scan.ranges.last().unwrap().end <= whole.end);
        assert_eq!(scan.columns, first.columns);
        assert_eq!(scan.names_inverted, first.names_inverted);
        let relative = |scan: &IndexScan| -> Vec<Bytes> {
            let starts = scan
                .ranges
                .iter()
                .map(|range| range.start.slice(scan.start.len()..));
            starts.collect()
        };
        assert_eq!(relative(scan), relative(first));
    }
}

/// Whether an array is both asked for an element and ordered by: no index serves that, so none is missing.
fn ordered_twice(query: &Query, orders: &[Order]) -> bool {
    let elements = query
        .filter()
        .into_iter()
        .flat_map(Filter::leaves)
        .filter_map(|leaf| match leaf {
            Filter::Field {
                field,
                operator: FieldOperator::ArrayContains | FieldOperator::ArrayContainsAny,
                ..
            } => Some(field),
            _ => None,
        });
    elements
        .into_iter()
        .any(|field| orders.iter().any(|order| order.field == *field))
}

async fn check_one(seed: u64) -> bool {
    let mut chance = Chance(seed);
    let documents = chance.documents();
    let catalog = chance.catalog();
    let Some(query) = (0..20).find_map(|_| chance.query(&documents)) else {
        return false;
    };
    let store = store_of(&documents, &catalog).await;
    let snapshot = store.snapshot().await.unwrap();
    let snapshot: &dyn Snapshot = snapshot.as_ref();
    let plan = choose(snapshot, &catalog, &database(), &query)
        .await
        .unwrap();
    let context = || format!("seed {seed}: {query:?}");
    if plan.missing.is_none() {
        // No definition has a name that runs against its last order.
        let one_way = query
            .order()
            .windows(2)
            .all(|pair| pair[0].direction == pair[1].direction);
        let documents = plan
            .branches
            .iter()
            .any(|branch| matches!(branch.source, Source::Documents(_)));
        assert!(
            plan.ordered == query.order().len()
                || !one_way
                || ordered_twice(&query, query.order())
                || documents,
            "{}: {plan:#?}",
            context()
        );
    }
    check(&plan, &query, query.order(), &[], &documents, &catalog);
    let plan = choose_for_fields(snapshot, &catalog, &database(), &query, &[])
        .await
        .unwrap();
    check(&plan, &query, query.order(), &[], &documents, &catalog);
    if !matches!(query.selector(), Selector::Everything) {
        let fields = [chance.field(), chance.field()];
        let fields = &fields[..chance.below(3)];
        let plan = choose_for_fields(snapshot, &catalog, &database(), &query, fields)
            .await
            .unwrap();
        let orders = field_orders(&query, fields);
        let by_entries = plan
            .branches
            .iter()
            .all(|branch| matches!(branch.source, Source::Entries(_)));
        if plan.missing.is_none() && !ordered_twice(&query, &orders) && by_entries {
            let order_matters = query.start().is_some() || query.end().is_some();
            for branch in &plan.branches {
                for field in fields {
                    assert!(
                        order_matters || branch.held(field).is_some(),
                        "{}: {plan:#?}",
                        context()
                    );
                }
            }
        }
        check(&plan, &query, &orders, fields, &documents, &catalog);
    }
    true
}

/// `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(1_500)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn plans_keep_what_they_promise(seed in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check_one(seed));
    }
}
