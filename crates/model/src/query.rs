//! A query in normal form, `matches` and `compare`.
//!
//! # The normal form
//!
//! Callers may leave orders out; every result nevertheless has one total order. `Query::new` completes it:
//! the explicit orders, then every field with an inequality that is not yet ordered (by field path, `__name__`
//! last) in the direction of the last explicit order, then `__name__`. All who run, match or watch a query see
//! only the normal form.
//!
//! # What matches
//!
//! A document matches when it is where the selector looks, satisfies the filter, has every ordered field
//! (implied ones too, whatever branch of an OR it satisfies) and lies between the cursors.
//! Offset and limit concern results, not documents, and are left to `evaluate` and to windows.
//!
//! # What is not done here
//!
//! No decision about indexes and no running: `evaluate` is the plain definition against which faster ways
//! are tested.
//! A cursor without values is no position at all and is dropped, as is an empty projection.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};

use crate::document::Document;
use crate::field::{FieldMask, FieldPath};
use crate::filter::{FieldOperator, Filter};
use crate::invalid::Invalid;
use crate::limits::{
    DISJUNCTIONS_MAX, FILTER_DEPTH_MAX, INEQUALITY_FIELDS_MAX, NOT_IN_VALUES_MAX, QUERY_TERMS_MAX,
};
use crate::order::encode_value;
use crate::path::{DatabaseName, DocumentPath, Parent, check_collection_id};
use crate::value::Value;

#[cfg(any(test, feature = "generate"))]
pub mod generate;
#[cfg(test)]
mod tests;

/// Which end of an order comes first.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// One field of a sort order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    /// The field, or `__name__`.
    pub field: FieldPath,
    /// Which end comes first.
    pub direction: Direction,
}

/// A position in the order: values for a prefix of the orders.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// One for each of the first orders; at most as many as the caller gave explicitly.
    pub values: Vec<Value>,
    /// The position is just before the documents equal to the values, else just after.
    pub before: bool,
}

/// Which documents below the parent are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// Direct children in the collection with this id.
    Collection(String),
    /// Every collection with this id at any depth.
    Group(String),
    /// Every document below the parent.
    Everything,
}

/// A query as the caller wrote it, before `Query::new` checks and normalises it.
#[derive(Clone, Debug)]
pub struct QueryParts {
    /// Whose documents, and to which `__name__` belongs.
    pub database: DatabaseName,
    /// Below what.
    pub parent: Parent,
    /// Which documents there.
    pub selector: Selector,
    /// What they must satisfy.
    pub filter: Option<Filter>,
    /// In which order.
    pub order: Vec<Order>,
    /// Where the result starts.
    pub start: Option<Cursor>,
    /// Where the result ends.
    pub end: Option<Cursor>,
    /// How many documents are skipped.
    pub offset: u32,
    /// How many documents at most; unlimited when absent, none when 0.
    pub limit: Option<u32>,
    /// Which fields are shown; all when absent.
    pub projection: Option<FieldMask>,
}

/// A query in normal form: implied orders added (`order` always ends with `__name__`), limits and rules checked.
#[derive(Clone, Debug)]
pub struct Query {
    parts: QueryParts,
}

impl Query {
    /// Checks with the texts of the protocol and adds the implied orders.
    pub fn new(parts: QueryParts) -> Result<Self, Invalid> {
        match &parts.selector {
            Selector::Collection(id) | Selector::Group(id) => check_collection_id(id)?,
            Selector::Everything => check_everything(&parts)?,
        }
        let terms = match &parts.filter {
            Some(filter) => {
                check_depth(filter)?;
                for leaf in filter.leaves() {
                    check_leaf(leaf)?;
                }
                let terms = Terms::of(filter);
                check_combination(filter, terms)?;
                terms.total
            }
            None => 0,
        };
        check_orders(&parts.order)?;
        let terms = terms
            .saturating_add(parts.order.len() as u64)
            .saturating_add(match parts.parent {
                Parent::Root => 0,
                Parent::Document(_) => 1,
            });
        if terms > QUERY_TERMS_MAX {
            return Err(Invalid::new(format!(
                "The query has {terms} filters, sort orders and parent documents in total. A query may not have more than {QUERY_TERMS_MAX}."
            )));
        }
        let start = check_cursor(parts.start, &parts.order)?;
        let end = check_cursor(parts.end, &parts.order)?;
        let order = complete_order(parts.order, parts.filter.as_ref())?;
        Ok(Self {
            parts: QueryParts {
                order,
                start,
                end,
                projection: parts.projection.filter(|mask| !mask.paths().is_empty()),
                database: parts.database,
                parent: parts.parent,
                selector: parts.selector,
                filter: parts.filter,
                offset: parts.offset,
                limit: parts.limit,
            },
        })
    }

    /// Whose documents.
    pub fn database(&self) -> &DatabaseName {
        &self.parts.database
    }
    /// Below what.
    pub fn parent(&self) -> &Parent {
        &self.parts.parent
    }
    /// Which documents there.
    pub fn selector(&self) -> &Selector {
        &self.parts.selector
    }
    /// What they must satisfy.
    pub fn filter(&self) -> Option<&Filter> {
        self.parts.filter.as_ref()
    }
    /// Complete: explicit, then implied, then `__name__`.
    pub fn order(&self) -> &[Order] {
        &self.parts.order
    }
    /// Where the result starts; has at least one value.
    pub fn start(&self) -> Option<&Cursor> {
        self.parts.start.as_ref()
    }
    /// Where the result ends; has at least one value.
    pub fn end(&self) -> Option<&Cursor> {
        self.parts.end.as_ref()
    }
    /// How many documents are skipped.
    pub fn offset(&self) -> u32 {
        self.parts.offset
    }
    /// How many documents at most; unlimited when absent, none when 0.
    pub fn limit(&self) -> Option<u32> {
        self.parts.limit
    }
    /// Which fields are shown; all when absent, never empty.
    pub fn projection(&self) -> Option<&FieldMask> {
        self.parts.projection.as_ref()
    }

    /// Selector, filter, existence of ordered fields, and cursors; not offset and limit.
    pub fn matches(&self, document: &Document) -> bool {
        self.selects(&document.path)
            && self
                .parts
                .filter
                .as_ref()
                .is_none_or(|filter| filter.matches(document, &self.parts.database))
            && self.parts.order.iter().all(|order| {
                order.field.is_document_name() || order.field.get(&document.fields).is_some()
            })
            && self.parts.start.as_ref().is_none_or(|start| {
                match self.compare_to_position(document, &start.values) {
                    Ordering::Less => false,
                    Ordering::Equal => start.before,
                    Ordering::Greater => true,
                }
            })
            && self.parts.end.as_ref().is_none_or(|end| {
                match self.compare_to_position(document, &end.values) {
                    Ordering::Less => true,
                    Ordering::Equal => !end.before,
                    Ordering::Greater => false,
                }
            })
    }

    /// Whether the document is where the selector looks, whatever its contents.
    pub fn selects(&self, path: &DocumentPath) -> bool {
        let below = match &self.parts.parent {
            Parent::Root => Some(path.as_str()),
            Parent::Document(parent) => path
                .as_str()
                .strip_prefix(parent.as_str())
                .and_then(|rest| rest.strip_prefix('/')),
        };
        let Some(below) = below else { return false };
        match &self.parts.selector {
            Selector::Collection(id) => below
                .split_once('/')
                .is_some_and(|(collection, rest)| collection == id && !rest.contains('/')),
            Selector::Group(id) => below.rsplit('/').nth(1) == Some(id),
            Selector::Everything => true,
        }
    }

    /// The order of two documents that both match. Total: equal only for the same document.
    pub fn compare(&self, a: &Document, b: &Document) -> Ordering {
        self.parts
            .order
            .iter()
            .map(|order| {
                let ordering = if order.field.is_document_name() {
                    a.path.cmp(&b.path)
                } else {
                    match (order.field.get(&a.fields), order.field.get(&b.fields)) {
                        (Some(a), Some(b)) => a.compare(b),
                        // Only for documents that do not match: still an order.
                        (a, b) => a.is_some().cmp(&b.is_some()),
                    }
                };
                directed(ordering, order.direction)
            })
            .find(|ordering| ordering.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    /// The brute-force answer: filter, sort, offset, limit (no projection). The oracle of every test.
    pub fn evaluate<'a>(
        &self,
        documents: impl IntoIterator<Item = &'a Document>,
    ) -> Vec<&'a Document> {
        let mut found: Vec<&Document> = documents
            .into_iter()
            .filter(|document| self.matches(document))
            .collect();
        found.sort_by(|a, b| self.compare(a, b));
        let limit = self.parts.limit.map_or(usize::MAX, |limit| limit as usize);
        found
            .into_iter()
            .skip(self.parts.offset as usize)
            .take(limit)
            .collect()
    }

    /// The document as the answer shows it: only the projected fields.
    pub fn project(&self, document: &Document) -> Document {
        match &self.parts.projection {
            None => document.clone(),
            Some(mask) => mask.project_document(document),
        }
    }

    /// Equal for equal queries, different otherwise: the identity of a listened query.
    /// Offset, limit, cursors included; projection too. The order of filters within AND and OR does not count.
    pub fn identity(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_text(&self.parts.database.to_string(), &mut out);
        match &self.parts.parent {
            Parent::Root => out.push(0),
            Parent::Document(path) => {
                out.push(1);
                put_text(path.as_str(), &mut out);
            }
        }
        match &self.parts.selector {
            Selector::Collection(id) => {
                out.push(0);
                put_text(id, &mut out);
            }
            Selector::Group(id) => {
                out.push(1);
                put_text(id, &mut out);
            }
            Selector::Everything => out.push(2),
        }
        match &self.parts.filter {
            None => out.push(0),
            Some(filter) => {
                out.push(1);
                put_filter(filter, &mut out);
            }
        }
        put_len(self.parts.order.len(), &mut out);
        for order in &self.parts.order {
            put_field(&order.field, &mut out);
            out.push(match order.direction {
                Direction::Ascending => 0,
                Direction::Descending => 1,
            });
        }
        for cursor in [&self.parts.start, &self.parts.end] {
            match cursor {
                None => out.push(0),
                Some(cursor) => {
                    out.push(if cursor.before { 1 } else { 2 });
                    put_len(cursor.values.len(), &mut out);
                    for value in &cursor.values {
                        encode_value(value, &mut out);
                    }
                }
            }
        }
        out.extend(self.parts.offset.to_be_bytes());
        match self.parts.limit {
            None => out.push(0),
            Some(limit) => {
                out.push(1);
                out.extend(limit.to_be_bytes());
            }
        }
        match &self.parts.projection {
            None => out.push(0),
            Some(mask) => {
                out.push(1);
                put_len(mask.paths().len(), &mut out);
                for path in mask.paths() {
                    put_field(path, &mut out);
                }
            }
        }
        out
    }

    /// Where the document lies relative to the values of a cursor; equal when it agrees with all of them.
    fn compare_to_position(&self, document: &Document, values: &[Value]) -> Ordering {
        self.parts
            .order
            .iter()
            .zip(values)
            .map(|(order, value)| {
                let ordering = if order.field.is_document_name() {
                    match value {
                        Value::Reference(name) => self
                            .parts
                            .database
                            .cmp(&name.database)
                            .then_with(|| document.path.cmp(&name.path)),
                        _ => Ordering::Equal,
                    }
                } else {
                    order
                        .field
                        .get(&document.fields)
                        .map_or(Ordering::Less, |stored| stored.compare(value))
                };
                directed(ordering, order.direction)
            })
            .find(|ordering| ordering.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

fn directed(ordering: Ordering, direction: Direction) -> Ordering {
    match direction {
        Direction::Ascending => ordering,
        Direction::Descending => ordering.reverse(),
    }
}

/// The field as the texts of the protocol name it.
fn shown(field: &FieldPath) -> String {
    if field.is_document_name() {
        "__key__".to_owned()
    } else {
        field.to_string()
    }
}

/// Across all collections only names can be asked for.
fn check_everything(parts: &QueryParts) -> Result<(), Invalid> {
    if let Some(filter) = &parts.filter {
        check_depth(filter)?;
        for leaf in filter.leaves() {
            if let Filter::Field { field, .. } | Filter::Unary { field, .. } = leaf
                && !field.is_document_name()
            {
                return Err(Invalid::new(format!(
                    "kind is required for filter: {}",
                    shown(field)
                )));
            }
        }
    }
    let by_name =
        |order: &Order| order.field.is_document_name() && order.direction == Direction::Ascending;
    if parts.order.iter().all(by_name) {
        Ok(())
    } else {
        Err(Invalid::new(
            "kind is required for all orders except __key__ ascending",
        ))
    }
}

/// Walks without recursion, so that everything after may recurse safely.
fn check_depth(filter: &Filter) -> Result<(), Invalid> {
    let mut open = vec![(filter, 1_usize)];
    while let Some((filter, depth)) = open.pop() {
        if let Filter::And(filters) | Filter::Or(filters) = filter {
            if filters.is_empty() {
                return Err(Invalid::new(
                    "Composite filter must have at least one sub-filter.",
                ));
            }
            if depth > FILTER_DEPTH_MAX {
                return Err(Invalid::new(format!(
                    "Composite filters are nested deeper than {FILTER_DEPTH_MAX} levels."
                )));
            }
            open.extend(filters.iter().map(|filter| (filter, depth + 1)));
        }
    }
    Ok(())
}

/// Refuses operands that the operator or the field cannot have.
fn check_leaf(leaf: &Filter) -> Result<(), Invalid> {
    let (field, operator, value) = match leaf {
        Filter::And(_) | Filter::Or(_) => return Ok(()),
        Filter::Unary { field, .. } => {
            return if field.is_document_name() {
                Err(not_a_key())
            } else {
                Ok(())
            };
        }
        Filter::Field {
            field,
            operator,
            value,
        } => (field, *operator, value),
    };
    let operands = match operator {
        FieldOperator::In | FieldOperator::NotIn | FieldOperator::ArrayContainsAny => {
            let name = protocol_name(operator);
            let values_max = if operator == FieldOperator::NotIn {
                NOT_IN_VALUES_MAX
            } else {
                DISJUNCTIONS_MAX as usize
            };
            match value {
                Value::Array(values) if values.is_empty() => {
                    return Err(Invalid::new(format!(
                        "'{name}' requires a non-empty ArrayValue."
                    )));
                }
                Value::Array(values) if values.len() > values_max => {
                    return Err(Invalid::new(format!(
                        "'{name}' supports up to {values_max} comparison values."
                    )));
                }
                Value::Array(values) => values.as_slice(),
                _ => {
                    return Err(Invalid::new(format!("'{name}' requires an ArrayValue.")));
                }
            }
        }
        FieldOperator::LessThan
        | FieldOperator::LessThanOrEqual
        | FieldOperator::GreaterThan
        | FieldOperator::GreaterThanOrEqual
        | FieldOperator::Equal
        | FieldOperator::NotEqual
        | FieldOperator::ArrayContains => std::slice::from_ref(value),
    };
    if field.is_document_name() {
        if matches!(
            operator,
            FieldOperator::ArrayContains | FieldOperator::ArrayContainsAny
        ) {
            return Err(Invalid::new("the name __key__ is reserved"));
        }
        if !operands
            .iter()
            .all(|value| matches!(value, Value::Reference(_)))
        {
            return Err(not_a_key());
        }
    }
    Ok(())
}

fn not_a_key() -> Invalid {
    Invalid::new("__key__ filter value must be a Key")
}

fn protocol_name(operator: FieldOperator) -> &'static str {
    match operator {
        FieldOperator::LessThan => "LESS_THAN",
        FieldOperator::LessThanOrEqual => "LESS_THAN_OR_EQUAL",
        FieldOperator::GreaterThan => "GREATER_THAN",
        FieldOperator::GreaterThanOrEqual => "GREATER_THAN_OR_EQUAL",
        FieldOperator::Equal => "EQUAL",
        FieldOperator::NotEqual => "NOT_EQUAL",
        FieldOperator::ArrayContains => "ARRAY_CONTAINS",
        FieldOperator::In => "IN",
        FieldOperator::ArrayContainsAny => "ARRAY_CONTAINS_ANY",
        FieldOperator::NotIn => "NOT_IN",
    }
}

/// What a filter would come to in disjunctive normal form, computed without expanding it. All counts saturate.
#[derive(Copy, Clone, Debug)]
struct Terms {
    disjunctions: u64,
    /// Filters in all disjunctions together.
    total: u64,
    /// The most array filters in one disjunction.
    array_filters: u64,
}

impl Terms {
    fn of(filter: &Filter) -> Self {
        match filter {
            Filter::And(filters) => filters.iter().map(Terms::of).fold(
                Terms {
                    disjunctions: 1,
                    total: 0,
                    array_filters: 0,
                },
                |a, b| Terms {
                    disjunctions: a.disjunctions.saturating_mul(b.disjunctions),
                    // Each disjunction of one side meets each of the other.
                    total: a
                        .total
                        .saturating_mul(b.disjunctions)
                        .saturating_add(b.total.saturating_mul(a.disjunctions)),
                    array_filters: a.array_filters.saturating_add(b.array_filters),
                },
            ),
            Filter::Or(filters) => filters.iter().map(Terms::of).fold(
                Terms {
                    disjunctions: 0,
                    total: 0,
                    array_filters: 0,
                },
                |a, b| Terms {
                    disjunctions: a.disjunctions.saturating_add(b.disjunctions),
                    total: a.total.saturating_add(b.total),
                    array_filters: a.array_filters.max(b.array_filters),
                },
            ),
            Filter::Field {
                operator, value, ..
            } => {
                let alternatives = match (operator, value) {
                    (FieldOperator::In | FieldOperator::ArrayContainsAny, Value::Array(values)) => {
                        values.len() as u64
                    }
                    _ => 1,
                };
                Terms {
                    disjunctions: alternatives,
                    total: alternatives,
                    array_filters: u64::from(matches!(
                        operator,
                        FieldOperator::ArrayContains | FieldOperator::ArrayContainsAny
                    )),
                }
            }
            Filter::Unary { .. } => Terms {
                disjunctions: 1,
                total: 1,
                array_filters: 0,
            },
        }
    }
}

/// Refuses filters that are each fine but not together.
fn check_combination(filter: &Filter, terms: Terms) -> Result<(), Invalid> {
    let operators = || {
        filter.leaves().filter_map(|leaf| match leaf {
            Filter::Field { operator, .. } => Some(*operator),
            Filter::And(_) | Filter::Or(_) | Filter::Unary { .. } => None,
        })
    };
    let negations = operators()
        .filter(|operator| matches!(operator, FieldOperator::NotEqual | FieldOperator::NotIn))
        .count();
    if negations > 1 {
        return Err(Invalid::new(
            "Only a single 'NOT_EQUAL' or 'NOT_IN' filter allowed per query.",
        ));
    }
    if operators().any(|operator| operator == FieldOperator::NotIn) {
        if let Some(other) = operators().find(|operator| {
            matches!(
                operator,
                FieldOperator::In | FieldOperator::ArrayContainsAny
            )
        }) {
            return Err(Invalid::new(format!(
                "'NOT_IN' cannot be used in the same query with '{}'.",
                protocol_name(other)
            )));
        }
        if terms.disjunctions > 1 {
            return Err(Invalid::new(
                "'NOT_IN' cannot be used in the same query with 'OR'.",
            ));
        }
    }
    if terms.array_filters > 1 {
        return Err(Invalid::new(
            "A maximum of 1 'ARRAY_CONTAINS' filter is allowed per disjunction.",
        ));
    }
    if terms.disjunctions > DISJUNCTIONS_MAX {
        return Err(Invalid::new(format!(
            "The query has {} disjunctions after normalization. A query may not have more than {DISJUNCTIONS_MAX}.",
            terms.disjunctions
        )));
    }
    let fields: BTreeSet<&FieldPath> = filter
        .leaves()
        .filter_map(Filter::inequality_field)
        .collect();
    if fields.len() > INEQUALITY_FIELDS_MAX {
        let names: Vec<String> = fields.iter().map(|field| shown(field)).collect();
        return Err(Invalid::new(format!(
            "The query contains {} distinct inequality fields: [{}]. A query may not have more than {INEQUALITY_FIELDS_MAX} distinct inequality fields.",
            fields.len(),
            names.join(", ")
        )));
    }
    let equality_on_name = filter.leaves().any(|leaf| {
        matches!(leaf, Filter::Field { field, operator: FieldOperator::Equal, .. } if field.is_document_name())
    });
    if equality_on_name
        && !fields.is_empty()
        && !fields.iter().any(|field| field.is_document_name())
    {
        return Err(Invalid::new(
            "Equality on key is not allowed if there are other inequality fields and key does not appear in inequalities.",
        ));
    }
    Ok(())
}

/// Refuses a field that is ordered twice, and anything after `__name__`, which already decides.
fn check_orders(orders: &[Order]) -> Result<(), Invalid> {
    let mut seen = HashSet::new();
    let mut name_seen = false;
    for order in orders {
        if !seen.insert(&order.field) {
            return Err(Invalid::new(format!(
                "order by clause cannot contain duplicate fields {}",
                shown(&order.field)
            )));
        }
        if name_seen {
            return Err(after_name());
        }
        name_seen = order.field.is_document_name();
    }
    Ok(())
}

fn after_name() -> Invalid {
    Invalid::new("order by clause cannot contain more fields after the key")
}

/// Checks a cursor against the explicit orders and drops it when it has no values.
fn check_cursor(cursor: Option<Cursor>, orders: &[Order]) -> Result<Option<Cursor>, Invalid> {
    let Some(cursor) = cursor.filter(|cursor| !cursor.values.is_empty()) else {
        return Ok(None);
    };
    if cursor.values.len() > orders.len() {
        return Err(Invalid::new("Cursor has too many values."));
    }
    for (order, value) in orders.iter().zip(&cursor.values) {
        if order.field.is_document_name() && !matches!(value, Value::Reference(_)) {
            return Err(Invalid::new(
                "Cursor __key__ value is not a document reference.",
            ));
        }
    }
    Ok(Some(cursor))
}

/// Adds the implied orders.
fn complete_order(mut orders: Vec<Order>, filter: Option<&Filter>) -> Result<Vec<Order>, Invalid> {
    let direction = orders
        .last()
        .map_or(Direction::Ascending, |order| order.direction);
    let ordered_by_name = orders.iter().any(|order| order.field.is_document_name());
    let implied: BTreeSet<&FieldPath> = filter
        .into_iter()
        .flat_map(Filter::leaves)
        .filter_map(Filter::inequality_field)
        .filter(|field| !field.is_document_name())
        .filter(|field| !orders.iter().any(|order| order.field == **field))
        .collect();
    if ordered_by_name && !implied.is_empty() {
        return Err(after_name());
    }
    let implied: Vec<FieldPath> = implied.into_iter().cloned().collect();
    for field in implied {
        orders.push(Order { field, direction });
    }
    if !ordered_by_name {
        orders.push(Order {
            field: FieldPath::document_name(),
            direction,
        });
    }
    Ok(orders)
}

fn put_len(len: usize, out: &mut Vec<u8>) {
    out.extend((len as u64).to_be_bytes());
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_len(text.len(), out);
    out.extend(text.as_bytes());
}

fn put_field(field: &FieldPath, out: &mut Vec<u8>) {
    put_len(field.segments().len(), out);
    for segment in field.segments() {
        put_text(segment, out);
    }
}

fn put_filter(filter: &Filter, out: &mut Vec<u8>) {
    match filter {
        Filter::And(filters) => {
            out.push(0);
            put_filters(filters, out);
        }
        Filter::Or(filters) => {
            out.push(1);
            put_filters(filters, out);
        }
        Filter::Field {
            field,
            operator,
            value,
        } => {
            out.push(2);
            put_text(protocol_name(*operator), out);
            put_field(field, out);
            encode_value(value, out);
        }
        Filter::Unary { field, operator } => {
            out.push(3);
            out.push(*operator as u8);
            put_field(field, out);
        }
    }
}

/// As a set: AND and OR mean the same in any order.
fn put_filters(filters: &[Filter], out: &mut Vec<u8>) {
    let encoded: BTreeSet<Vec<u8>> = filters
        .iter()
        .map(|filter| {
            let mut bytes = Vec::new();
            put_filter(filter, &mut bytes);
            bytes
        })
        .collect();
    put_len(encoded.len(), out);
    for bytes in encoded {
        put_len(bytes.len(), out);
        out.extend(bytes);
    }
}
