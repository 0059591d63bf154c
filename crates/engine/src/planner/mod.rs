//! From a query to the bytes that have to be read.

use bytes::Bytes;
use watchfire_model::{
    CollectionPath, DatabaseName, DocumentPath, FieldPath, Filter, Invalid, Query,
};
use watchfire_storage::{Direction, Range, Snapshot};

use crate::error::Error;
use crate::index::catalog::Catalog;
use crate::index::definition::Scope;
use crate::index::key::Place;
use crate::index::missing::MissingIndex;

/// What is read for one query: branches, each of which answers one alternative of the filter.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Together they hold every document that matches. None: nothing can match.
    pub branches: Vec<Branch>,
    /// Every branch comes in the order of this many of the query's orders, counted from the first. All of them: in
    /// the order of the result. 0: in no order of the query.
    pub ordered: usize,
    /// The index that would serve the query, when there is none. What is planned is the best that can be done without.
    pub missing: Option<Box<MissingIndex>>,
    /// For explanations, in the order of the branches, each once.
    pub indexes_used: Vec<IndexUsed>,
}

/// An index as explanations name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexUsed {
    pub scope: Scope,
    /// E.g. `(a ASC, __name__ ASC)`.
    pub properties: String,
}

/// One alternative of the filter.
#[derive(Clone, Debug)]
pub struct Branch {
    pub source: Source,
    /// In which direction the keys are read.
    pub direction: Direction,
    /// `Plan::ordered` parts that, one after the other, order the branch's entries as the query does.
    pub sort: Vec<SortPart>,
    /// What an entry must say for its document to be worth loading.
    pub tests: Vec<ColumnTest>,
    /// Names that the alternative allows, as `model::order::encode_path` writes them.
    pub names: Range,
    /// Only direct children of this collection; for sources whose keys hold more.
    pub children_of: Option<CollectionPath>,
    /// What the branch answers. A document belongs to the first branch whose filter it satisfies. `None`: everything.
    pub filter: Option<Filter>,
    /// Every entry that passes the tests, and in which no column was cut, is a document that matches: nobody needs
    /// to look at it to know.
    pub covered: bool,
}

/// What one branch reads.
#[derive(Clone, Debug)]
pub enum Source {
    /// These documents, ascending, each once.
    Documents(Vec<DocumentPath>),
    /// The documents stored in the range.
    Stored(Range),
    /// The names of the documents of a collection group, from 0x03; `start_len` bytes stand before the path.
    Group { range: Range, start_len: usize },
    /// Entries of an index; of several, those documents that all of them have. All scans have the same columns,
    /// direction of names and place, and their ranges differ in their starts alone.
    Entries(Vec<IndexScan>),
}

/// A part of one index in which some values are fixed.
#[derive(Clone, Debug)]
pub struct IndexScan {
    pub place: Place,
    /// The bytes with which every entry begins, fixed values included.
    pub start: Bytes,
    /// Keys, ascending and not overlapping; all within `start`.
    pub ranges: Vec<Range>,
    /// What follows `start`.
    pub columns: Vec<Column>,
    /// Names behind the columns are inverted.
    pub names_inverted: bool,
    /// A fixed value was cut: entries may belong to other values.
    pub cut: bool,
    /// For each column, its position among the index's fields, as payloads count them.
    pub positions: Vec<u8>,
}

/// A value in an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub field: FieldPath,
    pub inverted: bool,
}

/// Where a part of the sort order comes from.
#[derive(Clone, Debug)]
pub enum SortPart {
    /// Fixed in this branch: the bytes of the value, inverted when the query's order descends. `cut`: see `key::is_cut`.
    Fixed(Bytes),
    /// A column of the entry, by position; inverted as it stands there, turned when the query's direction differs.
    Column { column: usize, descending: bool },
    /// The document's name.
    Name { descending: bool },
}

/// A column's bytes, not inverted, lie in one of the ranges.
#[derive(Clone, Debug)]
pub struct ColumnTest {
    pub column: usize,
    /// Ascending, not overlapping.
    pub ranges: Vec<Range>,
}

/// Chooses the plan that touches least. The same query, catalogue and data give the same plan.
pub async fn choose(
    _snapshot: &dyn Snapshot,
    _catalog: &Catalog,
    _database: &DatabaseName,
    _query: &Query,
) -> Result<Plan, Error> {
    Err(Error::Invalid(Invalid::new("not yet")))
}
