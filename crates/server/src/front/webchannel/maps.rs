//! What comes from the client: maps, put in order and each taken once.
//!
//! Maps are numbered through the session. A client sends those of a failed request again with their numbers, and over
//! HTTP/2 sends several requests at once, which may overtake each other.

use std::collections::{BTreeMap, VecDeque};

use super::complaint::Complaint;
use super::form::Map;

/// Maps that are in order and not yet taken, and their bytes: while there are more, no more is read from the client.
pub const READY_MAX: usize = 1_000;
/// See `READY_MAX`.
pub const READY_BYTES_MAX: usize = 1024 * 1024;

/// Maps that have overtaken others, and their bytes. Further ones are refused, and the client sends them again; to wait
/// with them might keep out just the one that is missing.
pub const EARLY_MAX: usize = 1_000;
/// See `EARLY_MAX`; one of the largest always fits.
pub const EARLY_BYTES_MAX: usize = super::form::MAP_SIZE_MAX;

/// The maps of one session.
#[derive(Debug, Default)]
pub struct Maps {
    /// Invariant: all below it were received, and itself was not.
    next: u64,
    ready: VecDeque<Map>,
    ready_bytes: usize,
    /// All above `next`.
    early: BTreeMap<u64, Map>,
    early_bytes: usize,
}

impl Maps {
    /// Receives the map of this number. One that was received before is dropped. Returns whether there are now more to
    /// take.
    pub fn receive(&mut self, number: u64, map: Map) -> Result<bool, Complaint> {
        if number < self.next || self.early.contains_key(&number) {
            return Ok(false);
        }
        if number > self.next {
            if self.early.len() >= EARLY_MAX || self.early_bytes + map.len() > EARLY_BYTES_MAX {
                return Err(Complaint::Busy(
                    "too many messages before one that is missing",
                ));
            }
            self.early_bytes += map.len();
            self.early.insert(number, map);
            return Ok(false);
        }
        self.put(map);
        while let Some(map) = self.early.remove(&self.next) {
            self.early_bytes -= map.len();
            self.put(map);
        }
        Ok(true)
    }

    /// The next map, in the order of their numbers.
    pub fn take(&mut self) -> Option<Map> {
        let map = self.ready.pop_front()?;
        self.ready_bytes -= map.len();
        if self.ready.is_empty() {
            // A large form was here once.
            self.ready = VecDeque::new();
        }
        Some(map)
    }

    /// Whether more may be read from the client.
    pub fn has_room(&self) -> bool {
        self.ready.len() < READY_MAX && self.ready_bytes < READY_BYTES_MAX
    }

    fn put(&mut self, map: Map) {
        self.next += 1;
        self.ready_bytes += map.len();
        self.ready.push_back(map);
    }

    /// Bytes of what was received and not taken.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.ready_bytes + self.early_bytes
    }
}
