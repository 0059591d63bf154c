//! From a query to the bytes that have to be read.
//!
//! A plan is a guess about cost and a promise about coverage: what it reads holds every document that matches,
//! perhaps more. Whoever runs it asks `Query::matches` about each document, so a poor plan costs time, never
//! correctness. The choice is deterministic and looks at the query alone, never at the data.
//!
//! Order of preference: documents by name, one index by equality, by element, by several equalities, by several
//! elements, by range, by the first order; then the keys of the collection, the group, or all documents below the
//! parent, narrowed by what filters and cursors say about the name. Only one filter field is used; filters inside
//! `Or` narrow nothing.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use watchfire_model::order::{encode_path, encode_path_prefix, encode_type};
use watchfire_model::query::Direction as OrderDirection;
use watchfire_model::{
    CollectionPath, Cursor, DocumentPath, FieldOperator, FieldPath, Filter, Invalid, Order, Parent,
    Query, Selector, UnaryOperator, Value,
};
use watchfire_storage::range::successor;
use watchfire_storage::{Direction, Range};

use crate::index::entries::{
    Kind, document_part, encode_cut_value, field_start, group_start, group_start_below,
};
use crate::keyspace::document_range;

/// What is read, in which direction, and in what order it comes.
#[derive(Clone, Debug)]
pub struct Plan {
    pub source: Source,
    pub direction: Direction,
    pub grouping: Grouping,
    /// The index as users know it, e.g. `(a ASC, __name__ ASC)`.
    pub index_used: Option<String>,
}

/// What is read.
#[derive(Clone, Debug)]
pub enum Source {
    /// These documents, ascending, each once.
    Documents(Vec<DocumentPath>),
    /// The documents stored in the range; only direct children when there is a collection.
    Stored {
        range: Range,
        children_of: Option<CollectionPath>,
    },
    /// Entries of a collection group.
    Group { range: Range, start_len: usize },
    /// Entries of one field's index: ranges ascending, not overlapping.
    Index {
        collection: CollectionPath,
        ranges: Vec<Range>,
        start_len: usize,
        /// A document may appear more than once.
        repeats: bool,
    },
}

/// How the source's order and the query's order agree.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// They are the same, but for runs of equal cut values.
    Exact,
    /// They agree on the value; documents with the same value have to be sorted.
    Runs,
    /// They do not agree: everything has to be sorted.
    Unordered,
}

/// A bound on the document name.
struct NameBound<'a> {
    path: &'a DocumentPath,
    lower: bool,
    inclusive: bool,
}

/// What one field's index can be asked.
enum Ask<'a> {
    /// Entries with one of the values.
    Points(Kind, Vec<&'a Value>),
    /// Entries between the bounds.
    Between(Vec<ValueBound<'a>>),
}

struct ValueBound<'a> {
    value: &'a Value,
    lower: bool,
    inclusive: bool,
}

/// Chooses. Fails only if the selector names no valid collection.
pub fn choose(query: &Query) -> Result<Plan, Invalid> {
    let mut conjuncts = Vec::new();
    if let Some(filter) = query.filter() {
        add_conjuncts(filter, &mut conjuncts);
    }
    if let Some(plan) = by_name(query, &conjuncts) {
        return Ok(plan);
    }
    let names = name_bounds(query, &conjuncts);
    match query.selector() {
        Selector::Collection(id) => {
            let collection = query.parent().collection(id)?;
            Ok(match best_ask(query, &conjuncts) {
                Some((field, ask)) => by_index(query, collection, field, &ask, &names),
                None => by_collection(query, collection, &names),
            })
        }
        Selector::Group(id) => {
            let range = narrow_by_name(
                Range::prefix(&group_start_below(id, query.parent())),
                &group_start(id),
                &names,
                encoded_path,
            );
            Ok(in_name_order(
                query,
                Source::Group {
                    range,
                    start_len: group_start(id).len(),
                },
            ))
        }
        Selector::Everything => {
            let mut prefix = Vec::new();
            match query.parent() {
                Parent::Root => {}
                Parent::Document(path) => encode_path_prefix(path.as_str(), &mut prefix),
            }
            let range = narrow_by_name(
                document_range(&prefix),
                &document_range(&[]).start,
                &names,
                encoded_path,
            );
            Ok(in_name_order(
                query,
                Source::Stored {
                    range,
                    children_of: None,
                },
            ))
        }
    }
}

/// Everything that must hold together. Recursion is bounded by the depth of a valid filter.
fn add_conjuncts<'a>(filter: &'a Filter, conjuncts: &mut Vec<&'a Filter>) {
    match filter {
        Filter::And(filters) => filters
            .iter()
            .for_each(|filter| add_conjuncts(filter, conjuncts)),
        Filter::Or(_) | Filter::Field { .. } | Filter::Unary { .. } => conjuncts.push(filter),
    }
}

/// A reference to a document of the query's database.
fn own_document<'a>(query: &Query, value: &'a Value) -> Option<&'a DocumentPath> {
    match value {
        Value::Reference(name) if name.database == *query.database() => Some(&name.path),
        _ => None,
    }
}

fn by_name(query: &Query, conjuncts: &[&Filter]) -> Option<Plan> {
    let paths = conjuncts.iter().find_map(|filter| match filter {
        Filter::Field {
            field,
            operator,
            value,
        } if field.is_document_name() => match (operator, value) {
            (FieldOperator::Equal, value) => Some(
                own_document(query, value)
                    .into_iter()
                    .collect::<BTreeSet<_>>(),
            ),
            (FieldOperator::In, Value::Array(values)) => Some(
                values
                    .iter()
                    .filter_map(|value| own_document(query, value))
                    .collect(),
            ),
            _ => None,
        },
        _ => None,
    })?;
    Some(in_name_order(
        query,
        Source::Documents(paths.into_iter().cloned().collect()),
    ))
}

/// A source that comes in order of `__name__`.
fn in_name_order(query: &Query, source: Source) -> Plan {
    let (direction, grouping) = name_order(query.order());
    Plan {
        source,
        direction,
        grouping,
        index_used: None,
    }
}

/// How a source in order of `__name__` serves what is left of the query's orders.
fn name_order(orders: &[Order]) -> (Direction, Grouping) {
    match orders {
        [order] if order.field.is_document_name() => {
            (scan_direction(order.direction), Grouping::Exact)
        }
        _ => (Direction::Forward, Grouping::Unordered),
    }
}

fn scan_direction(direction: OrderDirection) -> Direction {
    match direction {
        OrderDirection::Ascending => Direction::Forward,
        OrderDirection::Descending => Direction::Backward,
    }
}

/// The query's cursors as (cursor, is a lower bound, equal ones are inside), seen ascending.
fn cursor_bounds(query: &Query) -> impl Iterator<Item = (&Cursor, bool, bool)> {
    let ascending = query
        .order()
        .first()
        .is_none_or(|order| order.direction == OrderDirection::Ascending);
    let start = query
        .start()
        .map(|cursor| (cursor, ascending, cursor.before));
    let end = query
        .end()
        .map(|cursor| (cursor, !ascending, !cursor.before));
    start.into_iter().chain(end)
}

fn range_operator(operator: FieldOperator) -> Option<(bool, bool)> {
    match operator {
        FieldOperator::GreaterThan => Some((true, false)),
        FieldOperator::GreaterThanOrEqual => Some((true, true)),
        FieldOperator::LessThan => Some((false, false)),
        FieldOperator::LessThanOrEqual => Some((false, true)),
        FieldOperator::Equal
        | FieldOperator::NotEqual
        | FieldOperator::ArrayContains
        | FieldOperator::In
        | FieldOperator::ArrayContainsAny
        | FieldOperator::NotIn => None,
    }
}

fn name_bounds<'a>(query: &'a Query, conjuncts: &[&'a Filter]) -> Vec<NameBound<'a>> {
    let mut bounds = Vec::new();
    for filter in conjuncts {
        if let Filter::Field {
            field,
            operator,
            value,
        } = filter
            && field.is_document_name()
            && let Some((lower, inclusive)) = range_operator(*operator)
            && let Some(path) = own_document(query, value)
        {
            bounds.push(NameBound {
                path,
                lower,
                inclusive,
            });
        }
    }
    if query
        .order()
        .first()
        .is_some_and(|order| order.field.is_document_name())
    {
        for (cursor, lower, inclusive) in cursor_bounds(query) {
            if let Some(path) = cursor
                .values
                .first()
                .and_then(|value| own_document(query, value))
            {
                bounds.push(NameBound {
                    path,
                    lower,
                    inclusive,
                });
            }
        }
    }
    bounds
}

fn encoded_path(path: &DocumentPath) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    encode_path(path, &mut out);
    Some(out)
}

/// Narrows a range of keys that continue `base` with an encoded name; names that `encode` cannot place are left out.
fn narrow_by_name(
    range: Range,
    base: &[u8],
    names: &[NameBound<'_>],
    encode: impl Fn(&DocumentPath) -> Option<Vec<u8>>,
) -> Range {
    names
        .iter()
        .fold(range, |range, bound| match encode(bound.path) {
            Some(encoded) => intersect(
                range,
                bounded(&[base, &encoded].concat(), bound.lower, bound.inclusive),
            ),
            None => range,
        })
}

/// Every key from `point` up (or down), with or without those that start with it.
fn bounded(point: &[u8], lower: bool, inclusive: bool) -> Range {
    let after = || successor(point);
    match (lower, inclusive) {
        (true, true) => Range {
            start: Bytes::copy_from_slice(point),
            end: None,
        },
        (true, false) => Range {
            start: after().unwrap_or_else(|| Bytes::copy_from_slice(point)),
            end: None,
        },
        (false, true) => Range {
            start: Bytes::new(),
            end: after(),
        },
        (false, false) => Range {
            start: Bytes::new(),
            end: Some(Bytes::copy_from_slice(point)),
        },
    }
}

fn intersect(a: Range, b: Range) -> Range {
    let end = match (a.end, b.end) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    Range {
        start: a.start.max(b.start),
        end,
    }
}

fn is_empty(range: &Range) -> bool {
    range.end.as_ref().is_some_and(|end| *end <= range.start)
}

fn by_collection(query: &Query, collection: CollectionPath, names: &[NameBound<'_>]) -> Plan {
    let mut prefix = Vec::new();
    encode_path_prefix(collection.as_str(), &mut prefix);
    let range = narrow_by_name(
        document_range(&prefix),
        &document_range(&[]).start,
        names,
        encoded_path,
    );
    in_name_order(
        query,
        Source::Stored {
            range,
            children_of: Some(collection),
        },
    )
}

/// The best question to one field's index, if any helps.
fn best_ask<'a>(query: &'a Query, conjuncts: &[&'a Filter]) -> Option<(&'a FieldPath, Ask<'a>)> {
    static NULL: Value = Value::Null;
    static NAN: Value = Value::Double(f64::NAN);
    let mut best: Option<(u8, &FieldPath, Ask<'_>)> = None;
    let mut offer = |rank: u8, field: &'a FieldPath, ask: Ask<'a>| {
        if best.as_ref().is_none_or(|(best, ..)| rank < *best) {
            best = Some((rank, field, ask));
        }
    };
    let first = query
        .order()
        .first()
        .map(|order| &order.field)
        .filter(|field| !field.is_document_name());
    let mut between: BTreeMap<&FieldPath, Vec<ValueBound<'_>>> = BTreeMap::new();
    for filter in conjuncts {
        match filter {
            Filter::Field { field, .. } | Filter::Unary { field, .. }
                if field.is_document_name() => {}
            Filter::Field {
                field,
                operator,
                value,
            } => match (operator, value) {
                (FieldOperator::Equal, value) => {
                    offer(0, field, Ask::Points(Kind::Ascending, vec![value]))
                }
                (FieldOperator::ArrayContains, value) => {
                    offer(1, field, Ask::Points(Kind::Contains, vec![value]))
                }
                (FieldOperator::In, Value::Array(values)) => offer(
                    2,
                    field,
                    Ask::Points(Kind::Ascending, values.iter().collect()),
                ),
                (FieldOperator::ArrayContainsAny, Value::Array(values)) => offer(
                    3,
                    field,
                    Ask::Points(Kind::Contains, values.iter().collect()),
                ),
                (operator, value) => {
                    if let Some((lower, inclusive)) = range_operator(*operator) {
                        between.entry(field).or_default().push(ValueBound {
                            value,
                            lower,
                            inclusive,
                        });
                    }
                }
            },
            Filter::Unary {
                field,
                operator: UnaryOperator::IsNull,
            } => offer(0, field, Ask::Points(Kind::Ascending, vec![&NULL])),
            Filter::Unary {
                field,
                operator: UnaryOperator::IsNan,
            } => offer(0, field, Ask::Points(Kind::Ascending, vec![&NAN])),
            Filter::Unary {
                operator: UnaryOperator::IsNotNan | UnaryOperator::IsNotNull,
                ..
            } => {}
            Filter::And(_) | Filter::Or(_) => {}
        }
    }
    if let Some(field) = first {
        // A range on the first order comes in order; without one the whole index still does.
        match between.remove(field) {
            Some(bounds) => offer(4, field, Ask::Between(bounds)),
            None => offer(6, field, Ask::Between(Vec::new())),
        }
    }
    for (field, bounds) in between {
        offer(5, field, Ask::Between(bounds));
    }
    best.map(|(_, field, ask)| (field, ask))
}

fn by_index(
    query: &Query,
    collection: CollectionPath,
    field: &FieldPath,
    ask: &Ask<'_>,
    names: &[NameBound<'_>],
) -> Plan {
    let kind = match ask {
        Ask::Points(kind, _) => *kind,
        Ask::Between(_) => Kind::Ascending,
    };
    let start = field_start(&collection, kind, field);
    let orders = query.order();
    let is_first =
        kind == Kind::Ascending && orders.first().is_some_and(|order| order.field == *field);
    let within = |path: &DocumentPath| {
        (path.collection() == collection).then(|| document_part(&collection, path))
    };

    let mut ranges: Vec<Range> = match ask {
        Ask::Points(_, values) => {
            let points: BTreeSet<Vec<u8>> = values
                .iter()
                .map(|value| {
                    let mut point = start.clone();
                    encode_cut_value(value, &mut point);
                    point
                })
                .collect();
            points
                .iter()
                .map(|point| narrow_by_name(Range::prefix(point), point, names, within))
                .collect()
        }
        Ask::Between(bounds) => {
            let range = bounds.iter().fold(Range::prefix(&start), |range, bound| {
                let range = intersect(range, type_range(&start, bound.value));
                intersect(
                    range,
                    value_range(&start, bound.value, None, bound.lower, bound.inclusive),
                )
            });
            vec![range]
        }
    };
    if is_first {
        // (field, __name__) in one direction is the order of the entries themselves.
        let exact =
            matches!(orders, [a, b] if b.field.is_document_name() && a.direction == b.direction);
        for (cursor, lower, inclusive) in cursor_bounds(query) {
            let range = match cursor.values.as_slice() {
                [] => continue,
                [value] => value_range(&start, value, None, lower, inclusive),
                [value, name, ..] => match own_document(query, name)
                    .filter(|_| exact)
                    .and_then(within)
                {
                    Some(document) => value_range(&start, value, Some(&document), lower, inclusive),
                    None => value_range(&start, value, None, lower, true),
                },
            };
            ranges = ranges
                .into_iter()
                .map(|old| intersect(old, range.clone()))
                .collect();
        }
    }
    ranges.retain(|range| !is_empty(range));

    let single = matches!(ask, Ask::Points(..)) && ranges.len() <= 1;
    let (direction, grouping) = match orders.split_first() {
        // All entries have the same value: what orders them is the name.
        Some((_, rest)) if single && is_first && name_order(rest).1 == Grouping::Exact => {
            name_order(rest)
        }
        Some((first, rest)) if is_first => match rest {
            [name] if name.field.is_document_name() && name.direction == first.direction => {
                (scan_direction(first.direction), Grouping::Exact)
            }
            _ => (scan_direction(first.direction), Grouping::Runs),
        },
        _ if single => name_order(orders),
        _ => (Direction::Forward, Grouping::Unordered),
    };
    let repeats = kind == Kind::Contains && ranges.len() > 1;
    let index_used = Some(index_text(kind, field, direction));
    Plan {
        source: Source::Index {
            collection,
            ranges,
            start_len: start.len(),
            repeats,
        },
        direction,
        grouping,
        index_used,
    }
}

fn index_text(kind: Kind, field: &FieldPath, direction: Direction) -> String {
    let direction = match direction {
        Direction::Forward => "ASC",
        Direction::Backward => "DESC",
    };
    let field_direction = match kind {
        Kind::Ascending => direction,
        Kind::Contains => "CONTAINS",
    };
    format!("({field} {field_direction}, __name__ {direction})")
}

/// Entries from the value up (or down), and from the document on within that value. A cut value stands for all values
/// that begin like it, so it is always inside, and documents within it are not in order of value.
fn value_range(
    start: &[u8],
    value: &Value,
    document: Option<&[u8]>,
    lower: bool,
    inclusive: bool,
) -> Range {
    let mut point = start.to_vec();
    let cut = encode_cut_value(value, &mut point);
    if !cut {
        point.extend_from_slice(document.unwrap_or_default());
    }
    bounded(&point, lower, inclusive || cut)
}

/// Entries of the value's type: comparisons never cross types.
fn type_range(start: &[u8], value: &Value) -> Range {
    let mut prefix = start.to_vec();
    encode_type(value.type_rank(), &mut prefix);
    Range::prefix(&prefix)
}
