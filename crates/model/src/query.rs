//! A query in normal form, `matches` and `compare`.

use std::cmp::Ordering;

use crate::{DatabaseName, Document, FieldMask, FieldPath, Filter, Invalid, Parent, Value};

#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Ascending,
    Descending,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    pub field: FieldPath,
    pub direction: Direction,
}

/// A position in the order: values for a prefix of the orders.
#[derive(Clone, Debug)]
pub struct Cursor {
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
    pub database: DatabaseName,
    pub parent: Parent,
    pub selector: Selector,
    pub filter: Option<Filter>,
    pub order: Vec<Order>,
    pub start: Option<Cursor>,
    pub end: Option<Cursor>,
    pub offset: u32,
    pub limit: Option<u32>,
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
        Ok(Self { parts })
    }
    pub fn database(&self) -> &DatabaseName { &self.parts.database }
    pub fn parent(&self) -> &Parent { &self.parts.parent }
    pub fn selector(&self) -> &Selector { &self.parts.selector }
    pub fn filter(&self) -> Option<&Filter> { self.parts.filter.as_ref() }
    /// Complete: explicit, then implied, then `__name__`.
    pub fn order(&self) -> &[Order] { &self.parts.order }
    pub fn start(&self) -> Option<&Cursor> { self.parts.start.as_ref() }
    pub fn end(&self) -> Option<&Cursor> { self.parts.end.as_ref() }
    pub fn offset(&self) -> u32 { self.parts.offset }
    pub fn limit(&self) -> Option<u32> { self.parts.limit }
    pub fn projection(&self) -> Option<&FieldMask> { self.parts.projection.as_ref() }

    /// Selector, filter, existence of ordered fields, and cursors; not offset and limit.
    pub fn matches(&self, document: &Document) -> bool {
        let _ = document;
        unimplemented!()
    }
    /// The order of two documents that both match. Total: equal only for the same document.
    pub fn compare(&self, a: &Document, b: &Document) -> Ordering {
        let _ = (a, b);
        unimplemented!()
    }
    /// The brute-force answer: filter, sort, offset, limit (no projection). The oracle of every test.
    pub fn evaluate<'a>(&self, documents: impl IntoIterator<Item = &'a Document>) -> Vec<&'a Document> {
        let _ = documents.into_iter();
        unimplemented!()
    }
    /// The document as the answer shows it: only the projected fields.
    pub fn project(&self, document: &Document) -> Document {
        let _ = document;
        unimplemented!()
    }
    /// Equal for equal queries, different otherwise: the identity of a listened query. Offset, limit, cursors included; projection too.
    pub fn identity(&self) -> Vec<u8> {
        unimplemented!()
    }
}
