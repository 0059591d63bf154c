//! Bounds as bytes: what filters and cursors leave of a value's column, of a name and of an index's keys.
//!
//! Everything here rests on one property of `model::order`: no encoded value or path begins another one. So a bound
//! is a prefix or the first bytes after it, and the same bound is right for a column alone and for whole keys.

use std::cmp::Ordering;

use bytes::Bytes;
use watchfire_model::order::{encode_path, encode_type};
use watchfire_model::query::Direction as OrderDirection;
use watchfire_model::{Cursor, FieldPath, Order, Query, Value};
use watchfire_storage::Range;
use watchfire_storage::range::successor;

use crate::index::key::{encode_column, invert};
use crate::planner::Column;
use crate::planner::normal::Conjunction;

/// No bound at all.
pub(super) fn everything() -> Range {
    Range {
        start: Bytes::new(),
        end: None,
    }
}

fn nothing() -> Range {
    Range {
        start: Bytes::new(),
        end: Some(Bytes::new()),
    }
}

/// From what begins with `point` on, or from what follows it.
pub(super) fn from(point: &[u8], inclusive: bool) -> Range {
    if inclusive {
        return Range {
            start: Bytes::copy_from_slice(point),
            end: None,
        };
    }
    match successor(point) {
        Some(start) => Range { start, end: None },
        None => nothing(),
    }
}

/// Up to what begins with `point`, with it or without.
pub(super) fn up_to(point: &[u8], inclusive: bool) -> Range {
    Range {
        start: Bytes::new(),
        end: if inclusive {
            successor(point)
        } else {
            Some(Bytes::copy_from_slice(point))
        },
    }
}

pub(super) fn intersect(a: &Range, b: &Range) -> Range {
    let end = match (&a.end, &b.end) {
        (Some(a), Some(b)) => Some(a.min(b).clone()),
        (a, b) => a.clone().or_else(|| b.clone()),
    };
    Range {
        start: a.start.clone().max(b.start.clone()),
        end,
    }
}

/// What both sets have; each is ascending and does not overlap, and so is the result.
pub(super) fn intersect_all(a: &[Range], b: &[Range]) -> Vec<Range> {
    a.iter()
        .flat_map(|a| b.iter().map(move |b| intersect(a, b)))
        .filter(|range| !range.is_empty())
        .collect()
}

/// Everything but what begins with `point`.
pub(super) fn except(point: &[u8]) -> Vec<Range> {
    [up_to(point, false), from(point, false)]
        .into_iter()
        .filter(|range| !range.is_empty())
        .collect()
}

/// The smallest range that holds all; none when there are none.
pub(super) fn hull(ranges: &[Range]) -> Option<Range> {
    Some(Range {
        start: ranges.first()?.start.clone(),
        end: ranges.last()?.end.clone(),
    })
}

/// The same set where bytes are inverted.
fn inverted(range: &Range) -> Range {
    // What is at or after the start turns to what is before the end of the inverted start's prefix, and the other
    // way round: a value and a bound differ at some byte, or the value begins with the bound.
    let turn = |bytes: &Bytes| {
        let mut bytes = bytes.to_vec();
        invert(&mut bytes);
        successor(&bytes)
    };
    let start = match &range.end {
        None => Some(Bytes::new()),
        Some(end) => turn(end),
    };
    match start {
        Some(start) => Range {
            start,
            end: turn(&range.start),
        },
        None => nothing(),
    }
}

/// Ascending sets of a column (or a name) as keys that begin with `start`, ascending.
pub(super) fn keys(start: &[u8], invert: bool, ranges: &[Range]) -> Vec<Range> {
    let mut keys: Vec<Range> = ranges
        .iter()
        .map(|range| {
            if invert {
                inverted(range)
            } else {
                range.clone()
            }
        })
        .filter(|range| !range.is_empty())
        .map(|range| Range {
            start: Bytes::from([start, &range.start].concat()),
            end: match &range.end {
                Some(end) => Some(Bytes::from([start, end].concat())),
                None => successor(start),
            },
        })
        .collect();
    if invert {
        keys.reverse();
    }
    keys
}

/// Names of which the first bytes, `base`, are known: what follows them.
pub(super) fn below_base(base: &[u8], names: &[Range]) -> Vec<Range> {
    let whole = Range::prefix(base);
    names
        .iter()
        .map(|names| intersect(names, &whole))
        .filter(|names| !names.is_empty())
        .filter_map(|names| {
            let strip = |bytes: &Bytes| bytes.strip_prefix(base).map(Bytes::copy_from_slice);
            Some(Range {
                start: strip(&names.start)?,
                // The end of the base's own range is the one that does not begin with it.
                end: names.end.as_ref().and_then(strip),
            })
        })
        .collect()
}

/// The values of one type.
pub(super) fn of_type(value: &Value) -> Range {
    let mut prefix = Vec::new();
    encode_type(value.type_rank(), &mut prefix);
    Range::prefix(&prefix)
}

/// A value as a column has it; true if it was cut.
pub(super) fn column(value: &Value, invert: bool) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let cut = encode_column(value, invert, &mut out);
    (out, cut)
}

/// How the keys of a source go on behind their start.
pub(super) struct Shape<'a> {
    pub start: &'a [u8],
    /// Columns that come in the order of the query's open orders, or all in its reverse.
    pub sorted: &'a [Column],
    /// What stands behind them, if it is the name and in order.
    pub name: Option<NameShape<'a>>,
    /// Keys are read in ascending order.
    pub forward: bool,
}

pub(super) struct NameShape<'a> {
    /// The part of the path that keys leave out.
    pub base: &'a [u8],
    pub inverted: bool,
}

/// What a cursor leaves of the keys.
pub(super) struct Cut {
    pub range: Range,
    /// Whatever is left is on the right side of the cursor, but for columns that were cut.
    pub exact: bool,
}

/// The query's cursors as keys.
pub(super) fn cursors(query: &Query, conjunction: &Conjunction, shape: &Shape<'_>) -> Cut {
    let mut cut = Cut {
        range: everything(),
        exact: true,
    };
    for (cursor, is_start) in [(query.start(), true), (query.end(), false)] {
        if let Some(cursor) = cursor {
            let one = cut_at(query, conjunction, shape, cursor, is_start);
            cut.range = intersect(&cut.range, &one.range);
            cut.exact &= one.exact;
        }
    }
    cut
}

fn cut_at(
    query: &Query,
    conjunction: &Conjunction,
    shape: &Shape<'_>,
    cursor: &Cursor,
    is_start: bool,
) -> Cut {
    let mut point = shape.start.to_vec();
    let mut columns = shape.sorted.iter();
    // Whether keys that begin with the point are inside; decided by whatever ends the walk.
    let mut included = cursor.before == is_start;
    let mut exact = true;
    for (order, value) in query.order().iter().zip(&cursor.values) {
        let known = if order.field.is_document_name() {
            match &shape.name {
                Some(name) => name_step(query, name, value, &mut point),
                None => Step::Unknown,
            }
        } else if let Some(fixed) = conjunction.equal.get(&order.field) {
            Step::Compared(fixed.compare(value))
        } else {
            column_step(columns.next(), &order.field, value, &mut point)
        };
        match known {
            Step::Appended | Step::Compared(Ordering::Equal) => continue,
            Step::Cut => included = true,
            Step::Unknown => {
                included = true;
                exact = false;
            }
            Step::Compared(ordering) => {
                let before = directed(ordering, order) == Ordering::Less;
                included = before != is_start;
            }
        }
        break;
    }
    let range = if is_start == shape.forward {
        from(&point, included)
    } else {
        up_to(&point, included)
    };
    Cut { range, exact }
}

/// What one value of a cursor says.
enum Step {
    /// The point goes on with it.
    Appended,
    /// The point goes on with its beginning.
    Cut,
    /// Every document has this relation to it.
    Compared(Ordering),
    /// The keys do not tell.
    Unknown,
}

fn column_step(
    column: Option<&Column>,
    field: &FieldPath,
    value: &Value,
    point: &mut Vec<u8>,
) -> Step {
    match column.filter(|column| column.field == *field) {
        None => Step::Unknown,
        Some(column) if encode_column(value, column.inverted, point) => Step::Cut,
        Some(_) => Step::Appended,
    }
}

fn name_step(query: &Query, shape: &NameShape<'_>, value: &Value, point: &mut Vec<u8>) -> Step {
    let Value::Reference(name) = value else {
        return Step::Unknown;
    };
    let by_database = query.database().cmp(&name.database);
    if by_database.is_ne() {
        return Step::Compared(by_database);
    }
    let mut path = Vec::new();
    encode_path(&name.path, &mut path);
    match path.strip_prefix(shape.base) {
        Some(part) => {
            let start = point.len();
            point.extend_from_slice(part);
            if shape.inverted {
                invert(point.iter_mut().skip(start));
            }
            Step::Appended
        }
        // Every name begins with the base.
        None => Step::Compared(shape.base.cmp(path.as_slice())),
    }
}

fn directed(ordering: Ordering, order: &Order) -> Ordering {
    match order.direction {
        OrderDirection::Ascending => ordering,
        OrderDirection::Descending => ordering.reverse(),
    }
}
