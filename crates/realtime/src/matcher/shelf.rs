//! The queries over one collection or group, filed so that a change finds those that it may concern.
//!
//! # Where a query is filed
//!
//! At one spot that all of its documents pass, or, for alternatives (`or`, `in`), at one spot for each of them.
//! Mostly there is a choice, and it decides what a change costs: each target at a spot where the change passes is
//! tested. So each spot has a cost, counted in targets that will be tested in vain, and the cheapest is taken:
//!
//! - equality: the targets that lie there already. `kind == "message"` and `room == R` look alike, but after a few
//!   rooms the targets gather under `kind`, and the next ones go to `room`. No statistics are needed;
//! - `array-contains`: a little more, since a document passes one spot for each element;
//! - `in`, `array-contains-any`, `or`: the sum of the alternatives;
//! - a range with two ends: more than any of the former with few targets, and the ranges that it lies over. When
//!   these are many, ranges do not tell targets apart there (everyone watches today), and it is a last resort;
//! - equality with a boolean, null or NaN: a large part of all documents passes there;
//! - a range with one end: the last resort, since what is new usually lies beyond all such bounds.
//!
//! What has no spot, or an alternative without one, is tested with every change: the rest.
//! The first few targets of a shelf go there too: to test them costs less than an index, in time and in memory,
//! and most collections have no more.
//!
//! A target is not filed anew when others come or go. Removing looks at every spot of the query, so that nobody need
//! remember which was chosen.
//!
//! # What a change costs
//!
//! Fields are a tree of names, walked together with the document: only names that both have are looked at, and from
//! the side that has fewer. A value that is the same before and after is looked up once.
//! Each lookup is one number (see `points`) or one way down (see `intervals`), whatever number of targets there is.

use std::collections::HashMap;

use watchfire_model::order::{encode_path, encode_value};
use watchfire_model::{Change, Fields, Query, Value};

use crate::matcher::cover::{Cover, Place, Spot};
use crate::matcher::intervals::{Interval, Intervals, Point};
use crate::matcher::points::{Ids, Points};
use crate::target::SharedId;

/// Targets that are tested one by one before any is filed by a field.
const FEW: usize = 4;

/// What a spot costs beyond the targets that lie there, in targets tested in vain.
const EQUAL_COST: u64 = 1;
const CONTAINS_COST: u64 = 3;
/// More than thirty values of an `in`.
const RANGE_COST: u64 = 40;
const FLAG_COST: u64 = 200;

/// Ranges over the same key up to which they are counted; with more, ranges there are as good as one-ended ones.
const OVERLAP_MAX: usize = 100;

/// Only cheaper than to be tested always.
const LAST_RESORT_COST: u64 = 1 << 32;

/// Queries with the same selector. Bounded by the targets.
#[derive(Debug, Default)]
pub struct Shelf {
    /// Tested with every change.
    rest: Ids,
    index: Option<Box<Index>>,
}

#[derive(Debug, Default)]
struct Index {
    names: Values,
    fields: Level,
}

/// The fields of a document or of a map in it, by name.
type Level = HashMap<Box<str>, Field>;

/// One field with what is asked of its value, and of the fields in it.
#[derive(Debug, Default)]
struct Field {
    values: Option<Box<Values>>,
    inner: Option<Box<Level>>,
}

/// What is asked of one field.
#[derive(Debug, Default)]
struct Values {
    equal: Points,
    contains: Points,
    ranges: Intervals,
}

impl Shelf {
    pub fn insert(&mut self, query: &Query, id: SharedId) {
        if self.rest.len() < FEW {
            self.rest.insert(id);
            return;
        }
        let cover = Cover::of(query);
        match self.choose(&cover) {
            Some(choice) => {
                let index = self.index.get_or_insert_default();
                for spot in choice.spots {
                    index.values(spot).insert(&spot.place, id);
                }
                self.prune();
            }
            None => self.rest.insert(id),
        }
    }

    pub fn remove(&mut self, query: &Query, id: SharedId) {
        self.rest.remove(id);
        if let Some(index) = &mut self.index {
            Cover::of(query).spots(&mut |spot| index.remove(spot, id));
        }
        self.prune();
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.index.is_none()
    }

    /// Appends the targets that the change may concern, some perhaps more than once.
    pub fn find(&self, change: &Change, found: &mut Vec<SharedId>) {
        self.rest.collect(found);
        let Some(index) = &self.index else { return };
        let mut search = Search {
            key: Vec::new(),
            found,
        };
        if !index.names.is_empty() {
            encode_path(&change.path, &mut search.key);
            search.by_key(&index.names);
        }
        search.walk(
            &index.fields,
            change.before.as_ref().map(|before| &before.fields),
            change.after.as_ref().map(|after| &after.fields),
        );
    }

    /// The cheapest spots that together meet every document of the cover.
    fn choose<'c, 'q>(&self, cover: &'c Cover<'q>) -> Option<Choice<'c, 'q>> {
        match cover {
            Cover::Spot(spot) => Some(Choice {
                cost: self.cost(spot),
                spots: vec![spot],
            }),
            Cover::Each(covers) => covers
                .iter()
                .filter_map(|cover| self.choose(cover))
                .min_by_key(|choice| choice.cost),
            Cover::Some(covers) => {
                let mut sum = Choice {
                    cost: 0,
                    spots: Vec::new(),
                };
                for cover in covers {
                    let choice = self.choose(cover)?;
                    sum.cost += choice.cost;
                    sum.spots.extend(choice.spots);
                }
                Some(sum)
            }
        }
    }

    fn cost(&self, spot: &Spot<'_>) -> u64 {
        let none = Values::default();
        let values = self
            .index
            .as_ref()
            .and_then(|index| index.known_values(spot))
            .unwrap_or(&none);
        match &spot.place {
            Place::Flag(key) => FLAG_COST + values.equal.count(key) as u64,
            Place::Equal(key) => EQUAL_COST + values.equal.count(key) as u64,
            Place::Contains(key) => CONTAINS_COST + values.contains.count(key) as u64,
            Place::Within(interval) => {
                if !interval.is_bounded() {
                    return LAST_RESORT_COST;
                }
                let start = interval.start();
                let over = values.ranges.hits(&start).take(OVERLAP_MAX).count();
                if over < OVERLAP_MAX {
                    RANGE_COST + over as u64
                } else {
                    LAST_RESORT_COST
                }
            }
        }
    }

    fn prune(&mut self) {
        if self
            .index
            .as_ref()
            .is_some_and(|index| index.names.is_empty() && index.fields.is_empty())
        {
            self.index = None;
        }
    }
}

struct Choice<'c, 'q> {
    cost: u64,
    spots: Vec<&'c Spot<'q>>,
}

impl Index {
    /// Made when they are not there.
    fn values(&mut self, spot: &Spot<'_>) -> &mut Values {
        let (last, parents) = match spot.field.segments().split_last() {
            Some(segments) if !spot.field.is_document_name() => segments,
            Some(_) | None => return &mut self.names,
        };
        let mut level = &mut self.fields;
        for parent in parents {
            level = level
                .entry(parent.as_str().into())
                .or_default()
                .inner
                .get_or_insert_default();
        }
        level
            .entry(last.as_str().into())
            .or_default()
            .values
            .get_or_insert_default()
    }

    fn known_values(&self, spot: &Spot<'_>) -> Option<&Values> {
        if spot.field.is_document_name() {
            return Some(&self.names);
        }
        let (last, parents) = spot.field.segments().split_last()?;
        let mut level = &self.fields;
        for parent in parents {
            level = level.get(parent.as_str())?.inner.as_ref()?;
        }
        level.get(last.as_str())?.values.as_deref()
    }

    fn remove(&mut self, spot: &Spot<'_>, id: SharedId) {
        if spot.field.is_document_name() {
            self.names.remove(&spot.place, id);
        } else {
            remove(&mut self.fields, spot.field.segments(), &spot.place, id);
        }
    }
}

/// As deep as the field path is long, which is bounded by `FIELD_PATH_BYTES_MAX`.
fn remove(level: &mut Level, segments: &[String], place: &Place, id: SharedId) {
    let Some((first, rest)) = segments.split_first() else {
        return;
    };
    let Some(field) = level.get_mut(first.as_str()) else {
        return;
    };
    if rest.is_empty() {
        if let Some(values) = &mut field.values {
            values.remove(place, id);
            if values.is_empty() {
                field.values = None;
            }
        }
    } else if let Some(inner) = &mut field.inner {
        remove(inner, rest, place, id);
        if inner.is_empty() {
            field.inner = None;
        }
    }
    if field.values.is_none() && field.inner.is_none() {
        level.remove(first.as_str());
    }
}

impl Values {
    fn insert(&mut self, place: &Place, id: SharedId) {
        match place {
            Place::Flag(key) | Place::Equal(key) => self.equal.insert(key, id),
            Place::Contains(key) => self.contains.insert(key, id),
            Place::Within(interval) => self.ranges.insert(Interval::clone(interval), id),
        }
    }

    fn remove(&mut self, place: &Place, id: SharedId) {
        match place {
            Place::Flag(key) | Place::Equal(key) => self.equal.remove(key, id),
            Place::Contains(key) => self.contains.remove(key, id),
            Place::Within(interval) => self.ranges.remove(Interval::clone(interval), id),
        }
    }

    fn is_empty(&self) -> bool {
        self.equal.is_empty() && self.contains.is_empty() && self.ranges.is_empty()
    }
}

/// A search that is under way.
struct Search<'f> {
    /// Room for the key that is looked up.
    key: Vec<u8>,
    found: &'f mut Vec<SharedId>,
}

impl Search<'_> {
    /// Looks up what both the level and one of the states have. As deep as the document is nested.
    fn walk(&mut self, level: &Level, before: Option<&Fields>, after: Option<&Fields>) {
        let named = before.map_or(0, Fields::len) + after.map_or(0, Fields::len);
        if level.len() <= named {
            for (name, field) in level {
                self.look(field, get(before, name), get(after, name));
            }
            return;
        }
        for (name, value) in before.into_iter().flatten() {
            if let Some(field) = level.get(name.as_str()) {
                self.look(field, Some(value), get(after, name));
            }
        }
        for (name, value) in after.into_iter().flatten() {
            if get(before, name).is_none()
                && let Some(field) = level.get(name.as_str())
            {
                self.look(field, None, Some(value));
            }
        }
    }

    fn look(&mut self, field: &Field, before: Option<&Value>, after: Option<&Value>) {
        let before = match (before, after) {
            (Some(before), Some(after)) if before.equals(after) => None,
            (before, _) => before,
        };
        if let Some(values) = &field.values {
            for value in [before, after].into_iter().flatten() {
                self.by_value(values, value);
            }
        }
        if let Some(inner) = &field.inner {
            self.walk(
                inner,
                before.and_then(inner_fields),
                after.and_then(inner_fields),
            );
        }
    }

    fn by_value(&mut self, values: &Values, value: &Value) {
        if !values.equal.is_empty() || !values.ranges.is_empty() {
            self.key.clear();
            encode_value(value, &mut self.key);
            self.by_key(values);
        }
        if let Value::Array(elements) = value
            && !values.contains.is_empty()
        {
            for element in elements {
                self.key.clear();
                encode_value(element, &mut self.key);
                values.contains.find(&self.key, self.found);
            }
        }
    }

    fn by_key(&mut self, values: &Values) {
        values.equal.find(&self.key, self.found);
        if !values.ranges.is_empty() {
            let point = Point::new(&self.key);
            self.found.extend(values.ranges.hits(&point));
        }
    }
}

fn get<'v>(state: Option<&'v Fields>, name: &str) -> Option<&'v Value> {
    state.and_then(|fields| fields.get(name))
}

fn inner_fields(value: &Value) -> Option<&Fields> {
    match value {
        Value::Map(fields) => Some(fields),
        _ => None,
    }
}
