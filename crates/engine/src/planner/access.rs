//! One alternative of the filter, and the ways to read it.
//!
//! A way may use an index when every document of the answer is in it: each of the index's fields must be one that the
//! alternative fixes, or one by which the query orders. What an index fixes stands before everything else in its
//! keys; indexes that go on with the same columns behind it can be joined.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use watchfire_model::query::Direction as OrderDirection;
use watchfire_model::{CollectionPath, FieldPath, Filter, Invalid, Order, Query, Selector, Value};
use watchfire_storage::{Direction, Range};

use crate::definition::{Definition, IndexField, IndexId, Mode, Scope};
use crate::index::catalog::{Catalog, Index, IndexState, Modes};
use crate::index::entries::group_start;
use crate::index::key::{Kind, Place, defined_start_in, encode_column, field_start};
use crate::keyspace::document_range;
use crate::planner::explain;
use crate::planner::normal::Conjunction;
use crate::planner::range::{
    NameShape, Shape, below_base, column, cursors, everything, hull, intersect_all, keys,
};
use crate::planner::{
    Branch, Column, ColumnTest, FixedField, IndexScan, IndexUsed, SortPart, Source,
};

/// What is wanted of the documents that are found.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// The documents themselves.
    Documents,
    /// Which they are.
    Names,
}

/// What all alternatives of one query have in common.
pub(super) struct Wanted<'a> {
    pub query: &'a Query,
    pub catalog: &'a Catalog,
    pub reading: Reading,
    /// The query's, or with more fields before the name.
    pub orders: &'a [Order],
    /// How many orders before the name are only there to be columns, in any order and direction.
    pub loose: usize,
    /// Where indexes are looked for; nowhere when the query is about all collections.
    pub place: Option<Place>,
}

/// A way to read an alternative.
#[derive(Debug)]
pub(super) struct Way {
    pub branch: Branch,
    pub used: Vec<IndexUsed>,
    /// Better before worse, when no count tells.
    rank: Rank,
}

/// More orders, then more fields that narrow, then documents before entries, fewer scans, fewer columns.
type Rank = (Reverse<usize>, Reverse<usize>, bool, usize, usize);

/// What is known about reading an alternative.
pub(super) enum Choice {
    /// Nothing can match.
    Nothing,
    /// As well as it can be.
    Perfect(Box<Way>),
    /// An index is missing; these ways are left, best rank first, at least one.
    Best(Vec<Way>, Option<(Definition, Option<IndexId>)>),
}

/// How many ways without a fitting index are compared by counting; the best ranked are taken.
const WAYS_MAX: usize = 16;

/// An index that may be read for an alternative.
struct Candidate<'a> {
    index: Named<'a>,
    /// Fields whose values are fixed, as they stand first.
    fixed: Vec<(&'a FieldPath, Mode)>,
    /// What stands behind them.
    columns: Vec<Column>,
    names_inverted: bool,
}

enum Named<'a> {
    Automatic(Kind, &'a FieldPath),
    Defined(&'a Index),
}

/// Few scans, then the name in order, then forward; what is joined, and how it serves.
type Perfect<'a> = ((usize, bool, bool), Vec<Candidate<'a>>, Serving);

/// What candidates must agree in to be joined.
type Suffix = (Vec<(FieldPath, bool)>, bool);

/// How the columns behind fixed values serve the orders that are open.
struct Serving {
    /// So many columns come in the order of as many open orders.
    sorted: usize,
    /// The name behind them too: between them are at most columns with one value.
    name: bool,
    /// Nothing is between them.
    name_follows: bool,
    direction: Direction,
    /// Exactly what the open orders ask for.
    exact: bool,
}

impl<'a> Wanted<'a> {
    pub fn choose(&self, conjunction: &'a Conjunction) -> Result<Choice, Invalid> {
        if let Some(paths) = &conjunction.documents {
            let serving = self.serving(conjunction, &[], false);
            let way = Way {
                branch: self.branch(
                    conjunction,
                    Source::Documents(paths.iter().cloned().collect()),
                    &serving,
                    &[],
                ),
                used: self.names_used(serving.direction),
                rank: (Reverse(0), Reverse(0), false, 0, 0),
            };
            return Ok(Choice::Perfect(Box::new(way)));
        }
        let open = self.open(conjunction);
        let Some(place) = self
            .place
            .as_ref()
            .filter(|_| !conjunction.is_about_names_alone() || !open.is_empty())
        else {
            return Ok(match self.by_names(conjunction)? {
                Some(way) => Choice::Perfect(Box::new(way)),
                None => Choice::Nothing,
            });
        };
        let candidates = self.candidates(conjunction, place, &open);
        let mut by_suffix: BTreeMap<Suffix, Vec<Candidate<'a>>> = BTreeMap::new();
        for candidate in candidates {
            let columns = candidate
                .columns
                .iter()
                .map(|column| (column.field.clone(), column.inverted))
                .collect();
            by_suffix
                .entry((columns, candidate.names_inverted))
                .or_default()
                .push(candidate);
        }
        let mut perfect: Option<Perfect<'a>> = None;
        let mut others = Vec::new();
        for (_, group) in by_suffix {
            let Some((columns, names_inverted)) = group
                .first()
                .map(|first| (first.columns.clone(), first.names_inverted))
            else {
                continue;
            };
            let serving = self.serving(conjunction, &columns, names_inverted);
            let needed = needed(conjunction, &columns);
            let (joined, complete) = join(group, &needed);
            if complete && serving.exact {
                let rank = (
                    joined.len(),
                    !serving.name,
                    serving.direction == Direction::Backward,
                );
                if perfect.as_ref().is_none_or(|(best, ..)| rank < *best) {
                    perfect = Some((rank, joined, serving));
                }
            } else {
                others.push((joined, serving));
            }
        }
        if let Some((_, joined, serving)) = perfect {
            return Ok(match self.by_index(conjunction, place, joined, &serving) {
                Some(way) => Choice::Perfect(Box::new(way)),
                None => Choice::Nothing,
            });
        }
        let mut ways = Vec::new();
        for (joined, serving) in others {
            match self.by_index(conjunction, place, joined, &serving) {
                Some(way) => ways.push(way),
                None => return Ok(Choice::Nothing),
            }
        }
        match self.by_names(conjunction)? {
            Some(way) => ways.push(way),
            None => return Ok(Choice::Nothing),
        }
        ways.sort_by_key(|way| way.rank);
        // The way that is always there stays in the comparison.
        if ways.len() > WAYS_MAX {
            let all = ways.iter().position(|way| !way.is_by_index());
            if let Some(all) = all.filter(|all| *all >= WAYS_MAX) {
                ways.swap(all, WAYS_MAX - 1);
            }
            ways.truncate(WAYS_MAX);
        }
        Ok(Choice::Best(ways, self.missing(conjunction, place, &open)))
    }

    /// The orders that the alternative does not decide, without the name.
    fn open(&self, conjunction: &Conjunction) -> Vec<&'a Order> {
        self.orders
            .iter()
            .filter(|order| {
                !order.field.is_document_name() && !conjunction.equal.contains_key(&order.field)
            })
            .collect()
    }

    fn name_descends(&self) -> bool {
        self.orders
            .last()
            .is_some_and(|order| order.direction == OrderDirection::Descending)
    }

    /// Every index that holds all documents of the answer; automatic ones first, then by id.
    fn candidates(
        &self,
        conjunction: &'a Conjunction,
        place: &Place,
        open: &[&'a Order],
    ) -> Vec<Candidate<'a>> {
        let scope = place.scope();
        let (order, contains) = match scope {
            Scope::Collection => (Modes::COLLECTION_ORDER, Modes::COLLECTION_CONTAINS),
            Scope::Group => (Modes::GROUP_ORDER, Modes::GROUP_CONTAINS),
        };
        let usable =
            |field: &FieldPath, modes| self.catalog.usable(place.group(), field).contains(modes);
        let fixed = |field: &'a FieldPath, kind, mode| Candidate {
            index: Named::Automatic(kind, field),
            fixed: vec![(field, mode)],
            columns: Vec::new(),
            names_inverted: false,
        };
        let equal = conjunction
            .equal
            .keys()
            .filter(|field| usable(field, order))
            .map(|field| fixed(field, Kind::Ascending, Mode::Ascending));
        let elements = conjunction
            .contains
            .keys()
            .filter(|field| usable(field, contains))
            .map(|field| fixed(field, Kind::Contains, Mode::Contains));
        let sorted = open
            .iter()
            .map(|order| &order.field)
            .filter(|field| usable(field, order))
            .map(|field| Candidate {
                index: Named::Automatic(Kind::Ascending, field),
                fixed: Vec::new(),
                columns: vec![Column {
                    field: field.clone(),
                    inverted: false,
                }],
                names_inverted: false,
            });
        let defined = self
            .catalog
            .indexes_of(place.group())
            .filter(|index| index.state == IndexState::Ready)
            .filter_map(|index| defined(conjunction, scope, open, index));
        equal.chain(elements).chain(sorted).chain(defined).collect()
    }

    fn serving(
        &self,
        conjunction: &Conjunction,
        columns: &[Column],
        names_inverted: bool,
    ) -> Serving {
        let open = self.open(conjunction);
        let mut reversed = None;
        let sorted = columns
            .iter()
            .zip(&open)
            .take_while(|(column, order)| {
                let turned = column.inverted != (order.direction == OrderDirection::Descending);
                column.field == order.field && *reversed.get_or_insert(turned) == turned
            })
            .count();
        let whole = sorted == open.len() && sorted == columns.len();
        let rest_is_fixed = columns
            .iter()
            .skip(sorted)
            .all(|column| conjunction.equal.contains_key(&column.field));
        let name_turned = names_inverted != self.name_descends();
        let name = sorted == open.len()
            && rest_is_fixed
            && (sorted == 0 || reversed.is_none_or(|reversed| reversed == name_turned));
        if sorted == 0 {
            reversed = name.then_some(name_turned);
        }
        let strict = open.len().saturating_sub(self.loose);
        // Loose orders are fields of the answer's sums: only their presence counts.
        let exact = whole
            || (columns.len() == open.len()
                && sorted >= strict
                && open
                    .iter()
                    .all(|order| columns.iter().any(|column| column.field == order.field)));
        Serving {
            sorted,
            name,
            name_follows: name && sorted == columns.len(),
            direction: match reversed {
                Some(true) => Direction::Backward,
                Some(false) | None => Direction::Forward,
            },
            exact,
        }
    }

    /// The parts of the orders that come sorted, as far as they go without a gap.
    fn sort(&self, conjunction: &Conjunction, serving: &Serving) -> Vec<SortPart> {
        let mut columns = 0..serving.sorted;
        let mut sort = Vec::new();
        for order in self.orders {
            let descending = order.direction == OrderDirection::Descending;
            let part = if order.field.is_document_name() {
                serving.name.then_some(SortPart::Name { descending })
            } else if let Some(value) = conjunction.equal.get(&order.field) {
                Some(SortPart::Fixed(Bytes::from(column(value, descending).0)))
            } else {
                columns
                    .next()
                    .map(|column| SortPart::Column { column, descending })
            };
            match part {
                Some(part) => sort.push(part),
                None => break,
            }
        }
        sort
    }

    /// With all that does not depend on the source; nothing is covered yet.
    fn branch(
        &self,
        conjunction: &Conjunction,
        source: Source,
        serving: &Serving,
        columns: &[Column],
    ) -> Branch {
        let tests = columns
            .iter()
            .enumerate()
            .skip(1)
            .filter_map(|(column, at)| {
                Some(ColumnTest {
                    column,
                    ranges: allowed(conjunction, &at.field)?,
                })
            })
            .collect();
        Branch {
            source,
            direction: serving.direction,
            sort: self.sort(conjunction, serving),
            tests,
            names: everything(),
            children_of: None,
            filter: match conjunction.leaves.as_slice() {
                [] => None,
                [leaf] => Some(leaf.clone()),
                leaves => Some(Filter::And(leaves.to_vec())),
            },
            covered: false,
        }
    }

    /// `None` when nothing can match.
    fn by_index(
        &self,
        conjunction: &Conjunction,
        place: &Place,
        joined: Vec<Candidate<'_>>,
        serving: &Serving,
    ) -> Option<Way> {
        let (columns, names_inverted) = joined
            .first()
            .map(|first| (first.columns.clone(), first.names_inverted))?;
        let base = place.base();
        let first = match columns.first() {
            None => below_base(&base, &conjunction.names),
            Some(column) => {
                allowed(conjunction, &column.field).unwrap_or_else(|| vec![everything()])
            }
        };
        let first_inverted = columns
            .first()
            .map_or(names_inverted, |column| column.inverted);
        let mut scans = Vec::new();
        let mut used = Vec::new();
        let mut decided: BTreeSet<&FieldPath> =
            columns.iter().map(|column| &column.field).collect();
        let mut exact = true;
        for candidate in &joined {
            let (start, cut) = candidate.start(conjunction, place)?;
            let shape = Shape {
                start: &start,
                sorted: columns.get(..serving.sorted).unwrap_or_default(),
                name: serving.name_follows.then_some(NameShape {
                    base: &base,
                    inverted: names_inverted,
                }),
                forward: serving.direction == Direction::Forward,
            };
            let cursors = cursors(self.query, conjunction, &shape);
            let ranges = intersect_all(&keys(&start, first_inverted, &first), &[cursors.range]);
            if ranges.is_empty() {
                return None;
            }
            exact &= cursors.exact && !cut;
            decided.extend(candidate.fixed.iter().map(|(field, _)| *field));
            used.push(candidate.used(place.scope(), serving.direction));
            scans.push(IndexScan {
                place: place.clone(),
                start: Bytes::from(start),
                ranges,
                columns: columns.clone(),
                names_inverted,
                cut,
                positions: (candidate.fixed.len()..)
                    .take(columns.len())
                    .map(position)
                    .collect(),
                fixed: candidate.fixed_fields(conjunction),
            });
        }
        // An array that contains an element is decided by that element alone, not by a column of the whole array.
        let elements: BTreeSet<&FieldPath> = joined
            .iter()
            .flat_map(|candidate| &candidate.fixed)
            .filter(|(_, mode)| *mode == Mode::Contains)
            .map(|(field, _)| *field)
            .collect();
        let names_decided = columns.is_empty() || conjunction.names.len() <= 1;
        let covered = exact
            && !conjunction.undecided
            && names_decided
            && conjunction
                .equal
                .keys()
                .all(|field| decided.contains(field))
            && conjunction
                .ranges
                .keys()
                .all(|field| columns.iter().any(|column| column.field == *field))
            && conjunction
                .contains
                .keys()
                .all(|field| elements.contains(field))
            && self
                .open(conjunction)
                .iter()
                .all(|order| columns.iter().any(|column| column.field == order.field));
        let fixed: usize = joined.iter().map(|candidate| candidate.fixed.len()).sum();
        let narrowing = fixed
            + columns
                .iter()
                .filter(|column| allowed(conjunction, &column.field).is_some())
                .count();
        let scan_count = scans.len();
        let mut branch = self.branch(conjunction, Source::Entries(scans), serving, &columns);
        branch.covered = covered;
        // Keys that go on with the name are narrowed already, and a collection's entries are all in their place.
        if !columns.is_empty() && self.names_matter(conjunction, place) {
            branch.names = hull(&conjunction.names)?;
        }
        Some(Way {
            rank: (
                Reverse(branch.sort.len()),
                Reverse(narrowing),
                true,
                scan_count,
                columns.len(),
            ),
            branch,
            used,
        })
    }

    fn names_matter(&self, conjunction: &Conjunction, place: &Place) -> bool {
        conjunction.names_filtered || matches!(place, Place::Group(_))
    }

    /// All documents where the query looks, as far as names narrow them. `None` when nothing can match.
    fn by_names(&self, conjunction: &Conjunction) -> Result<Option<Way>, Invalid> {
        let serving = self.serving(conjunction, &[], false);
        let base = [];
        let whole = document_range(&[]).start;
        let by_name_alone = conjunction.is_about_names_alone() && self.open(conjunction).is_empty();
        let (start, children_of, group) = match self.query.selector() {
            Selector::Everything => (whole.to_vec(), None, false),
            Selector::Group(id) => (group_start(id), None, true),
            Selector::Collection(id) => {
                let collection = self.query.parent().collection(id)?;
                // Entries alone say which documents there are; where these are wanted too they are read at once.
                if self.reading == Reading::Names && by_name_alone {
                    (group_start(id), Some(collection), true)
                } else {
                    (whole.to_vec(), Some(collection), false)
                }
            }
        };
        let shape = Shape {
            start: &start,
            sorted: &[],
            name: serving.name.then_some(NameShape {
                base: &base,
                inverted: false,
            }),
            forward: serving.direction == Direction::Forward,
        };
        let cursors = cursors(self.query, conjunction, &shape);
        let Some(range) = hull(&intersect_all(
            &keys(&start, false, &conjunction.names),
            &[cursors.range],
        )) else {
            return Ok(None);
        };
        let source = if group {
            Source::Group {
                range,
                start_len: start.len(),
            }
        } else {
            Source::Stored(range)
        };
        let mut branch = self.branch(conjunction, source, &serving, &[]);
        branch.children_of = children_of;
        branch.covered = by_name_alone
            && cursors.exact
            && !conjunction.undecided
            && conjunction.names.len() <= 1;
        Ok(Some(Way {
            rank: (Reverse(branch.sort.len()), Reverse(0), false, 0, 0),
            used: self.names_used(branch.direction),
            branch,
        }))
    }

    fn names_used(&self, direction: Direction) -> Vec<IndexUsed> {
        vec![IndexUsed {
            scope: self.place.as_ref().map_or(Scope::Group, Place::scope),
            properties: explain::names(direction),
        }]
    }

    /// The index that would serve the alternative, and its id when it is being built.
    fn missing(
        &self,
        conjunction: &'a Conjunction,
        place: &Place,
        open: &[&'a Order],
    ) -> Option<(Definition, Option<IndexId>)> {
        // An array that is ordered as well is in no index for both: there is none to ask for.
        let ordered_twice = |field: &FieldPath| open.iter().any(|order| order.field == *field);
        if conjunction.contains.keys().any(ordered_twice) {
            return None;
        }
        let equal = conjunction
            .equal
            .keys()
            .map(|field| (field, Mode::Ascending));
        let contains = conjunction
            .contains
            .keys()
            .map(|field| (field, Mode::Contains));
        let fixed: BTreeMap<&FieldPath, Mode> = equal.chain(contains).collect();
        let ordered = open.iter().map(|order| {
            let mode = match order.direction {
                OrderDirection::Ascending => Mode::Ascending,
                OrderDirection::Descending => Mode::Descending,
            };
            (&order.field, mode)
        });
        let fields = fixed
            .into_iter()
            .chain(ordered)
            .map(|(path, mode)| IndexField {
                path: path.clone(),
                mode,
            })
            .collect();
        let definition = Definition::new(place.group().to_owned(), place.scope(), fields).ok()?;
        let building = self
            .catalog
            .indexes_of(place.group())
            .filter(|index| index.state == IndexState::Creating)
            .find(|index| {
                let Some(candidate) = defined(conjunction, place.scope(), open, index) else {
                    return false;
                };
                let serving =
                    self.serving(conjunction, &candidate.columns, candidate.names_inverted);
                let needed = needed(conjunction, &candidate.columns);
                serving.exact && join(vec![candidate], &needed).1
            })
            .map(|index| index.id);
        Some((definition, building))
    }
}

impl Way {
    pub fn is_by_index(&self) -> bool {
        match self.branch.source {
            Source::Entries(_) => true,
            Source::Documents(_) | Source::Stored(_) | Source::Group { .. } => false,
        }
    }
}

impl Candidate<'_> {
    /// What every entry begins with, and whether a value in it was cut.
    fn start(&self, conjunction: &Conjunction, place: &Place) -> Option<(Vec<u8>, bool)> {
        let mut start = match &self.index {
            Named::Automatic(kind, field) => field_start(place, *kind, field),
            Named::Defined(index) => defined_start_in(index.id, place),
        };
        let mut cut = false;
        for (field, mode) in &self.fixed {
            let value = value_of(conjunction, field, *mode)?;
            cut |= encode_column(value, *mode == Mode::Descending, &mut start);
        }
        Some((start, cut))
    }

    fn used(&self, scope: Scope, direction: Direction) -> IndexUsed {
        IndexUsed {
            scope,
            properties: match &self.index {
                Named::Automatic(kind, field) => explain::automatic(*kind, field, direction),
                Named::Defined(index) => index.definition.to_string(),
            },
        }
    }

    fn fixed_fields(&self, conjunction: &Conjunction) -> Vec<FixedField> {
        self.fixed
            .iter()
            .enumerate()
            .filter(|(_, (_, mode))| *mode != Mode::Contains)
            .filter_map(|(at, (field, _))| {
                Some(FixedField {
                    field: (*field).clone(),
                    value: conjunction.equal.get(*field)?.clone(),
                    position: position(at),
                })
            })
            .collect()
    }
}

fn value_of<'a>(conjunction: &'a Conjunction, field: &FieldPath, mode: Mode) -> Option<&'a Value> {
    match mode {
        Mode::Ascending | Mode::Descending => conjunction.equal.get(field),
        Mode::Contains => conjunction.contains.get(field),
        Mode::Vector { .. } => None,
    }
}

/// `INDEX_FIELDS_MAX` positions have room in a byte.
fn position(at: usize) -> u8 {
    u8::try_from(at).unwrap_or(u8::MAX)
}

/// What a column may hold, not inverted; `None` if anything.
fn allowed(conjunction: &Conjunction, field: &FieldPath) -> Option<Vec<Range>> {
    match conjunction.equal.get(field) {
        Some(value) => Some(vec![Range::prefix(&column(value, false).0)]),
        None => conjunction.ranges.get(field).cloned(),
    }
}

/// Fields that have to be fixed by some scan.
fn needed<'a>(conjunction: &'a Conjunction, columns: &[Column]) -> BTreeSet<&'a FieldPath> {
    let equal = conjunction
        .equal
        .keys()
        .filter(|field| !columns.iter().any(|column| column.field == **field));
    equal.chain(conjunction.contains.keys()).collect()
}

/// A defined index as a candidate, if every document of the answer is in it.
fn defined<'a>(
    conjunction: &Conjunction,
    scope: Scope,
    open: &[&Order],
    index: &'a Index,
) -> Option<Candidate<'a>> {
    let definition = &index.definition;
    if definition.scope() != scope {
        return None;
    }
    let fixed: Vec<(&FieldPath, Mode)> = definition
        .fields()
        .iter()
        .map(|field| (&field.path, field.mode))
        .take_while(|(field, mode)| value_of(conjunction, field, *mode).is_some())
        .collect();
    let columns = definition
        .fields()
        .iter()
        .skip(fixed.len())
        .map(|field| {
            let inverted = match field.mode {
                Mode::Ascending => false,
                Mode::Descending => true,
                Mode::Contains | Mode::Vector { .. } => return None,
            };
            let known = conjunction.equal.contains_key(&field.path)
                || open.iter().any(|order| order.field == field.path);
            known.then(|| Column {
                field: field.path.clone(),
                inverted,
            })
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Candidate {
        index: Named::Defined(index),
        fixed,
        columns,
        names_inverted: definition.name_descends(),
    })
}

/// Few candidates that fix as many of the needed fields as all of them do, and whether that is all of them. Each step
/// takes the one that adds most, of several the first.
fn join<'a>(
    mut group: Vec<Candidate<'a>>,
    needed: &BTreeSet<&FieldPath>,
) -> (Vec<Candidate<'a>>, bool) {
    let mut open = needed.clone();
    let mut joined: Vec<Candidate<'a>> = Vec::new();
    while !open.is_empty() {
        let adds = |candidate: &Candidate<'_>| {
            candidate
                .fixed
                .iter()
                .filter(|(field, _)| open.contains(field))
                .count()
        };
        let best = group
            .iter()
            .map(adds)
            .enumerate()
            .filter(|(_, adds)| *adds > 0)
            .min_by_key(|(at, adds)| (Reverse(*adds), *at))
            .map(|(at, _)| at);
        let Some(best) = best else { break };
        let best = group.remove(best);
        for (field, _) in &best.fixed {
            open.remove(field);
        }
        joined.push(best);
    }
    // What a later choice fixes as well was not needed.
    let mut at = 0;
    while at < joined.len() && joined.len() > 1 {
        let superfluous = joined.get(at).is_some_and(|candidate| {
            candidate.fixed.iter().all(|(field, _)| {
                !needed.contains(field)
                    || joined.iter().enumerate().any(|(other, candidate)| {
                        other != at && candidate.fixed.iter().any(|(fixed, _)| fixed == field)
                    })
            })
        });
        if superfluous {
            joined.remove(at);
        } else {
            at += 1;
        }
    }
    if joined.is_empty() && !group.is_empty() {
        joined.push(group.remove(0));
    }
    (joined, open.is_empty())
}

/// Where a query's indexes are.
pub(super) fn place_of(query: &Query) -> Result<Option<Place>, Invalid> {
    let collection =
        |id: &str| -> Result<CollectionPath, Invalid> { query.parent().collection(id) };
    Ok(match query.selector() {
        Selector::Collection(id) => Some(Place::Collection(collection(id)?)),
        Selector::Group(id) => Some(Place::Group(id.clone())),
        Selector::Everything => None,
    })
}
