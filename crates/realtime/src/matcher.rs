//! Which shared targets a change may concern.
//!
//! # How
//!
//! The answer is a superset of the targets for which `Interest::concerns` holds, and the caller tests each.
//! It is found by index, so that the cost grows with the targets that are affected and not with those that exist:
//!
//! 1. A documents target lies at each path that it names.
//! 2. A query lies on the shelf of its collection's path, its group's id, or of all documents.
//! 3. On its shelf it lies at one test that all of its documents pass, or at one for each alternative (see `cover`,
//!    which finds these, and `shelf`, which chooses the one that will be passed in vain least often).
//! 4. A test for equality is a number made of the value (see `points`), a range is a place in a tree (see
//!    `intervals`); both see values as the bytes of `model::order`, in which equal values are equal bytes.
//!
//! A change looks up its path, its three shelves, and there the fields that somebody asks for, before and after.
//!
//! # Why a superset is enough
//!
//! Only one test of a query is looked at, bounds of ranges count as inside, long keys are cut, and different keys may
//! come to one number: each of these can only find too much.
//! That nothing is missed rests on one sentence: a document that matches passes every test of a conjunction and one
//! of a disjunction. Tests that a missing field, null or NaN never pass are therefore filed nowhere.
//!
//! # Bounds
//!
//! Memory grows with the targets: a number and an id for each place at which one lies, which are at most thirty, as
//! many as a query may have disjunctions, or the paths that it names.
//! A change costs a lookup for each of its fields (and for each element of an array) that somebody asks for, and a
//! test for each target that it passes.
//!
//! # What is not done
//!
//! One field is used for each alternative of a query: two conditions which are each passed often, and together
//! seldom, are not combined.
//! `!=`, `not-in` and queries without any condition are tested with every change on their shelf.
//! Limits are not considered: a window may well not care for a change that its query matches.

mod cover;
mod intervals;
mod points;
mod shelf;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use watchfire_model::{Change, Parent, Query, Selector};

use crate::matcher::points::Points;
use crate::matcher::shelf::Shelf;
use crate::target::{Interest, SharedId};

/// The index. Bounded by the targets that are registered.
#[derive(Debug, Default)]
pub struct Matcher {
    /// By path.
    documents: Points,
    collections: HashMap<Box<str>, Shelf>,
    groups: HashMap<Box<str>, Shelf>,
    everything: Shelf,
}

impl Matcher {
    /// Files a target, which must not be filed already.
    pub fn insert(&mut self, interest: &Interest, id: SharedId) {
        match interest {
            Interest::Documents(paths) => {
                for path in paths.iter() {
                    self.documents.insert(path.as_str().as_bytes(), id);
                }
            }
            Interest::Query(query) => {
                self.with_shelf(query, |shelf| shelf.insert(query, id));
            }
        }
    }

    /// Undoes `insert` with the same interest; without effect when the target is not filed.
    pub fn remove(&mut self, interest: &Interest, id: SharedId) {
        match interest {
            Interest::Documents(paths) => {
                for path in paths.iter() {
                    self.documents.remove(path.as_str().as_bytes(), id);
                }
            }
            Interest::Query(query) => {
                self.with_shelf(query, |shelf| shelf.remove(query, id));
            }
        }
    }

    /// Appends the targets that the change may concern, each once, in order of their ids.
    pub fn candidates(&self, change: &Change, found: &mut Vec<SharedId>) {
        let mut targets = Vec::new();
        self.documents
            .find(change.path.as_str().as_bytes(), &mut targets);
        let shelves = [
            self.collections.get(change.path.collection_str()),
            self.groups.get(change.path.collection_id()),
            Some(&self.everything),
        ];
        for shelf in shelves.into_iter().flatten() {
            shelf.find(change, &mut targets);
        }
        targets.sort_unstable();
        targets.dedup();
        found.append(&mut targets);
    }

    /// Whether no target is filed.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
            && self.collections.is_empty()
            && self.groups.is_empty()
            && self.everything.is_empty()
    }

    /// A shelf exists as long as something lies on it.
    fn with_shelf(&mut self, query: &Query, work: impl FnOnce(&mut Shelf)) {
        let (shelves, key) = match query.selector() {
            Selector::Collection(id) => {
                (&mut self.collections, collection_text(query.parent(), id))
            }
            Selector::Group(id) => (&mut self.groups, id.as_str().into()),
            Selector::Everything => {
                work(&mut self.everything);
                return;
            }
        };
        match shelves.entry(key) {
            Entry::Occupied(mut shelf) => {
                work(shelf.get_mut());
                if shelf.get().is_empty() {
                    shelf.remove();
                }
            }
            Entry::Vacant(place) => {
                let mut shelf = Shelf::default();
                work(&mut shelf);
                if !shelf.is_empty() {
                    place.insert(shelf);
                }
            }
        }
    }
}

fn collection_text(parent: &Parent, collection: &str) -> Box<str> {
    match parent {
        Parent::Root => collection.into(),
        Parent::Document(path) => format!("{path}/{collection}").into(),
    }
}
