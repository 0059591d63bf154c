//! Targets by an exact key: which ids lie where exactly these bytes are met. Keys are not kept, only numbers made of
//! them, so that a target costs the same few bytes however long its key is.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;

use crate::target::SharedId;

/// A set of ids that costs nothing beyond itself while it has at most one, as most have.
#[derive(Debug, Default)]
pub enum Ids {
    #[default]
    None,
    One(SharedId),
    Many(BTreeSet<SharedId>),
}

impl Ids {
    pub fn insert(&mut self, id: SharedId) {
        match self {
            Ids::None => *self = Ids::One(id),
            Ids::One(only) => *self = Ids::Many([*only, id].into()),
            Ids::Many(ids) => {
                ids.insert(id);
            }
        }
    }

    /// Without effect when the id is not there.
    pub fn remove(&mut self, id: SharedId) {
        match self {
            Ids::None => {}
            Ids::One(only) => {
                if *only == id {
                    *self = Ids::None;
                }
            }
            Ids::Many(ids) => {
                ids.remove(&id);
                if ids.is_empty() {
                    *self = Ids::None;
                }
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn len(&self) -> usize {
        match self {
            Ids::None => 0,
            Ids::One(_) => 1,
            Ids::Many(ids) => ids.len(),
        }
    }

    /// Appends all.
    pub fn collect(&self, found: &mut Vec<SharedId>) {
        match self {
            Ids::None => {}
            Ids::One(id) => found.push(*id),
            Ids::Many(ids) => found.extend(ids),
        }
    }
}

/// Ids by key. Two keys may come to the same number, though hardly ever, and nobody outside can tell which would: then
/// one is answered with the other's ids too.
#[derive(Debug, Default)]
pub struct Points {
    by_number: HashMap<u64, Ids>,
}

impl Points {
    pub fn insert(&mut self, key: &[u8], id: SharedId) {
        let number = self.number(key);
        self.by_number.entry(number).or_default().insert(id);
    }

    /// Without effect when the id is not there.
    pub fn remove(&mut self, key: &[u8], id: SharedId) {
        let number = self.number(key);
        if let Some(ids) = self.by_number.get_mut(&number) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_number.remove(&number);
                // Memory is given back when many have left.
                if self.by_number.len() < self.by_number.capacity() / 4 {
                    self.by_number.shrink_to(2 * self.by_number.len());
                }
            }
        }
    }

    /// Appends the ids at the key.
    pub fn find(&self, key: &[u8], found: &mut Vec<SharedId>) {
        if let Some(ids) = self.by_number.get(&self.number(key)) {
            ids.collect(found);
        }
    }

    /// How many ids are at the key.
    pub fn count(&self, key: &[u8]) -> usize {
        self.by_number.get(&self.number(key)).map_or(0, Ids::len)
    }

    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// Keyed by the map's own secret, so that nobody can send keys that meet.
    fn number(&self, key: &[u8]) -> u64 {
        self.by_number.hasher().hash_one(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_and_go_by_key() {
        let mut points = Points::default();
        let found = |points: &Points, key: &[u8]| {
            let mut found = Vec::new();
            points.find(key, &mut found);
            assert_eq!(found.len(), points.count(key));
            found.into_iter().map(|id| id.0).collect::<Vec<_>>()
        };
        for (key, id) in [(b"a", 1), (b"a", 2), (b"b", 1), (b"a", 2)] {
            points.insert(key, SharedId(id));
        }
        assert_eq!(found(&points, b"a"), [1, 2]);
        assert_eq!(found(&points, b"b"), [1]);
        assert!(found(&points, b"").is_empty());
        points.remove(b"a", SharedId(3));
        points.remove(b"c", SharedId(1));
        points.remove(b"a", SharedId(1));
        assert_eq!(found(&points, b"a"), [2]);
        points.remove(b"a", SharedId(2));
        points.remove(b"b", SharedId(1));
        assert!(points.is_empty());
    }
}
