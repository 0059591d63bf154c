//! From a query to the bytes that have to be read.
//!
//! The filter becomes alternatives (`normal`), each alternative a way to read it (`access`), bounds become key
//! ranges (`range`). What can be read in the query's order without looking at anything else is read so. Where an
//! index is missing, the ways that are left are counted against each other.
//!
//! A plan promises coverage: what it reads holds every document that matches. Whether a document that is read does
//! match is known without looking at it only where a branch is `covered`. Nothing here reads a value.

mod access;
mod explain;
mod normal;
mod range;
#[cfg(test)]
mod tests;

pub mod nearest;

use bytes::Bytes;
use watchfire_model::query::Direction as OrderDirection;
use watchfire_model::{
    CollectionPath, DatabaseName, DocumentPath, FieldPath, Filter, Order, Query, Value,
};
use watchfire_storage::{Direction, Range, Snapshot};

use crate::definition::Scope;
use crate::error::Error;
use crate::index::catalog::Catalog;
use crate::index::key::Place;
use crate::missing::MissingIndex;
use crate::planner::access::{Choice, Reading, Wanted, Way, place_of};
use crate::planner::normal::alternatives;

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
    /// Fields whose whole values `start` fixes; elements of arrays are not among them.
    pub fixed: Vec<FixedField>,
}

/// A field that has the same value in every entry of a scan.
#[derive(Clone, Debug)]
pub struct FixedField {
    pub field: FieldPath,
    /// Equal to the document's, which may be 3.0 where this is 3: the payload of the entry tells.
    pub value: Value,
    /// Its position among the index's fields, as payloads count them.
    pub position: u8,
}

/// Where the entries of a branch hold a field's value.
#[derive(Clone, Debug)]
pub enum Held<'a> {
    /// In this column.
    Column(usize),
    /// In the start of this scan.
    Fixed { scan: usize, fixed: &'a FixedField },
}

impl Branch {
    /// Whether `names` leaves out nothing.
    pub fn allows_all_names(&self) -> bool {
        self.names.start.is_empty() && self.names.end.is_none()
    }

    /// Where the value of a field can be had without the document; `None` if nowhere. Values that were cut are not
    /// told from others.
    pub fn held(&self, field: &FieldPath) -> Option<Held<'_>> {
        let Source::Entries(scans) = &self.source else {
            return None;
        };
        let columns = scans.first().map(|scan| scan.columns.as_slice());
        if let Some(column) = columns
            .unwrap_or_default()
            .iter()
            .position(|column| column.field == *field)
        {
            return Some(Held::Column(column));
        }
        scans.iter().enumerate().find_map(|(scan, one)| {
            one.fixed
                .iter()
                .find(|fixed| fixed.field == *field)
                .map(|fixed| Held::Fixed { scan, fixed })
        })
    }
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
    snapshot: &dyn Snapshot,
    catalog: &Catalog,
    database: &DatabaseName,
    query: &Query,
) -> Result<Plan, Error> {
    let asked = Asked::of(query, Reading::Documents, query.order().to_vec());
    plan(snapshot, catalog, database, query, asked).await
}

/// As `choose`, for those who only want to know which documents match, or how many, and the values of some of their
/// fields, which may be none: a plan in which `Branch::held` knows every one of
/// them in every branch, or else `Plan::missing` says which index would make it so.
///
/// The branches come in the order of `field_orders`, which `Plan::ordered` and `Branch::sort` count; of a plan with
/// one branch only the part before the fields. When limit, offset or cursors make the query's own order matter, that
/// order is kept, and fields that it does not have are in no entry: nothing is missing then, the documents have to be read.
pub async fn choose_for_fields(
    snapshot: &dyn Snapshot,
    catalog: &Catalog,
    database: &DatabaseName,
    query: &Query,
    fields: &[FieldPath],
) -> Result<Plan, Error> {
    let asked = Asked::of(query, Reading::Names, field_orders(query, fields));
    plan(snapshot, catalog, database, query, asked).await
}

/// The query's orders with the fields, ascending, before the name; only the query's when its own order matters.
pub fn field_orders(query: &Query, fields: &[FieldPath]) -> Vec<Order> {
    let mut orders = query.order().to_vec();
    let order_matters = query.limit().is_some()
        || query.offset() > 0
        || query.start().is_some()
        || query.end().is_some();
    if order_matters {
        return orders;
    }
    let mut new: Vec<&FieldPath> = fields
        .iter()
        .filter(|field| !orders.iter().any(|order| order.field == **field))
        .collect();
    new.sort();
    new.dedup();
    if !new.is_empty() {
        let ascending = |field: FieldPath| Order {
            field,
            direction: OrderDirection::Ascending,
        };
        orders.pop();
        orders.extend(new.into_iter().cloned().map(ascending));
        orders.push(ascending(FieldPath::document_name()));
    }
    orders
}

/// What is planned besides the query itself.
struct Asked {
    reading: Reading,
    orders: Vec<Order>,
    /// How many orders before the name are only wanted for their values.
    loose: usize,
}

impl Asked {
    /// `orders`: the query's, or with more before the name.
    fn of(query: &Query, reading: Reading, orders: Vec<Order>) -> Self {
        Self {
            reading,
            loose: orders.len().saturating_sub(query.order().len()),
            orders,
        }
    }
}

async fn plan(
    snapshot: &dyn Snapshot,
    catalog: &Catalog,
    database: &DatabaseName,
    query: &Query,
    asked: Asked,
) -> Result<Plan, Error> {
    let alternatives = alternatives(query);
    let wanted = Wanted {
        query,
        catalog,
        reading: asked.reading,
        orders: &asked.orders,
        // Several branches are merged, and for that their order must be whole.
        loose: if alternatives.len() > 1 {
            0
        } else {
            asked.loose
        },
        place: place_of(query)?,
    };
    let mut plan = Plan {
        branches: Vec::new(),
        ordered: asked.orders.len(),
        missing: None,
        indexes_used: Vec::new(),
    };
    for conjunction in &alternatives {
        let way = match wanted.choose(conjunction)? {
            Choice::Nothing => continue,
            Choice::Perfect(way) => *way,
            Choice::Best(ways, missing) => {
                if let Some((definition, building)) = missing
                    && plan.missing.is_none()
                {
                    plan.missing = Some(Box::new(MissingIndex {
                        database: database.clone(),
                        definition,
                        building,
                        several_inequalities: has_several_inequalities(query),
                    }));
                }
                match race(snapshot, ways).await? {
                    Some(way) => way,
                    None => continue,
                }
            }
        };
        for used in way.used {
            if !plan.indexes_used.contains(&used) {
                plan.indexes_used.push(used);
            }
        }
        plan.ordered = plan.ordered.min(way.branch.sort.len());
        plan.branches.push(way.branch);
    }
    for branch in &mut plan.branches {
        branch.sort.truncate(plan.ordered);
    }
    Ok(plan)
}

fn has_several_inequalities(query: &Query) -> bool {
    let mut fields = query
        .filter()
        .into_iter()
        .flat_map(Filter::leaves)
        .filter_map(Filter::inequality_field)
        .filter(|field| !field.is_document_name());
    let first = fields.next();
    fields.any(|field| Some(field) != first)
}

/// Keys that are counted at first, and at most, for each way that is left.
const RACE_FIRST: usize = 100;
const RACE_MAX: usize = 100_000;

/// Ways that touch less than this many times the least are as good as that one.
const RACE_TIE: usize = 2;

/// Which way has least to touch: all are counted up to a bound, which grows until one has fewer keys than that.
async fn race(snapshot: &dyn Snapshot, mut ways: Vec<Way>) -> Result<Option<Way>, Error> {
    if ways.len() < 2 {
        return Ok(ways.pop());
    }
    let mut bound = RACE_FIRST;
    loop {
        let mut counts = Vec::with_capacity(ways.len());
        let mut least = bound;
        for way in &ways {
            // Past what could still tie nobody has to know how much it is.
            let limit = bound.min(least.saturating_mul(RACE_TIE).saturating_add(1));
            let keys = count(snapshot, &way.branch.source, limit).await?;
            least = least.min(keys);
            counts.push(keys);
            // Stores may count on this thread: others come between.
            tokio::task::yield_now().await;
        }
        if least < bound || bound >= RACE_MAX {
            // Ways come best rank first.
            let best = counts
                .iter()
                .position(|count| *count <= least.saturating_mul(RACE_TIE));
            return Ok(best.map(|best| ways.swap_remove(best)));
        }
        bound *= 10;
    }
}

/// How many keys would be touched, at most `limit`.
async fn count(snapshot: &dyn Snapshot, source: &Source, limit: usize) -> Result<usize, Error> {
    let scans = match source {
        Source::Documents(paths) => return Ok(paths.len().min(limit)),
        Source::Stored(range) | Source::Group { range, .. } => {
            return Ok(snapshot.count(range, limit).await?.keys);
        }
        Source::Entries(scans) => scans,
    };
    // A join goes as far as the smallest of its scans.
    let mut least = limit;
    for scan in scans {
        let mut keys = 0;
        for range in &scan.ranges {
            if keys >= least {
                break;
            }
            keys += snapshot.count(range, least - keys).await?.keys;
        }
        least = least.min(keys);
        if least == 0 {
            break;
        }
    }
    Ok(least)
}
