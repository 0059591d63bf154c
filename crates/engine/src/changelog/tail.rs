//! The newest version, and the commits that led to it: the recent ring.
//!
//! Only the committer publishes; everybody else waits on the receiver and looks at the ring. The ring is bounded
//! by count and by bytes; what falls out of it is still in the store.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use watchfire_storage::Version;

use crate::changelog::entry::CommitEntry;

/// How many commits the ring holds; past it the oldest leave.
pub const RING_ENTRIES_MAX: usize = 4096;
/// How many stored bytes the commits in the ring may have together; past it the oldest leave.
pub const RING_BYTES_MAX: usize = 32 << 20;

/// A commit on its way into the ring, with its length as stored.
#[derive(Clone, Debug)]
pub struct Published {
    /// The commit.
    pub entry: Arc<CommitEntry>,
    /// Its stored length, which is what the ring counts.
    pub bytes: usize,
}

/// The tail of the changelog.
#[derive(Debug)]
pub struct Tail {
    ring: Mutex<Ring>,
    version: watch::Sender<Version>,
}

#[derive(Debug)]
struct Ring {
    entries: VecDeque<Published>,
    bytes: usize,
    /// Every commit above this version, up to `head`, is in the ring.
    after: Version,
    head: Version,
}

impl Tail {
    /// A tail at `version`; the ring reaches back no further.
    pub fn new(version: Version) -> Self {
        let ring = Ring {
            entries: VecDeque::new(),
            bytes: 0,
            after: version,
            head: version,
        };
        Self {
            ring: Mutex::new(ring),
            version: watch::Sender::new(version),
        }
    }

    /// The newest version.
    pub fn version(&self) -> Version {
        self.ring().head
    }

    /// Waits on this to learn of new versions.
    pub fn watch(&self) -> watch::Receiver<Version> {
        self.version.subscribe()
    }

    /// Adds commits (in order, all above the tail) and moves the tail to `version`, which is at least the last
    /// commit's. A version that is not above the tail changes nothing.
    pub fn publish(&self, entries: Vec<Published>, version: Version) {
        let mut ring = self.ring();
        if version <= ring.head {
            return;
        }
        for published in entries {
            ring.bytes += published.bytes;
            ring.entries.push_back(published);
        }
        while ring.entries.len() > RING_ENTRIES_MAX || ring.bytes > RING_BYTES_MAX {
            let Some(oldest) = ring.entries.pop_front() else {
                break;
            };
            ring.bytes -= oldest.bytes;
            ring.after = oldest.entry.version;
        }
        ring.head = version;
        self.version.send_replace(version);
    }

    /// Moves the tail to `version` without knowing the commits in between: the ring starts again there.
    pub fn skip_to(&self, version: Version) {
        let mut ring = self.ring();
        if version <= ring.head {
            return;
        }
        *ring = Ring {
            entries: VecDeque::new(),
            bytes: 0,
            after: version,
            head: version,
        };
        self.version.send_replace(version);
    }

    /// The commits after `version`, at most `limit`, and the version up to which they are complete: the tail, or the
    /// last one's when the limit cut them short. `None` when the ring does not reach back that far.
    pub fn since(
        &self,
        version: Version,
        limit: usize,
    ) -> Option<(Vec<Arc<CommitEntry>>, Version)> {
        let ring = self.ring();
        if version < ring.after {
            return None;
        }
        let first = ring
            .entries
            .partition_point(|published| published.entry.version <= version);
        let entries: Vec<_> = ring
            .entries
            .iter()
            .skip(first)
            .take(limit)
            .map(|published| Arc::clone(&published.entry))
            .collect();
        let cut = ring.entries.len() - first > entries.len();
        let complete_to = if cut {
            entries.last().map_or(version, |last| last.version)
        } else {
            ring.head
        };
        Some((entries, complete_to))
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Nothing in here can panic half way, so a poisoned lock still guards a whole ring.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(version: u64, bytes: usize) -> Published {
        Published {
            entry: Arc::new(CommitEntry {
                version: Version(version),
                changes: Vec::new(),
            }),
            bytes,
        }
    }

    fn versions(found: Option<(Vec<Arc<CommitEntry>>, Version)>) -> Option<(Vec<u64>, u64)> {
        found.map(|(entries, to)| (entries.iter().map(|entry| entry.version.0).collect(), to.0))
    }

    #[test]
    fn since_is_exact_at_every_version() {
        let tail = Tail::new(Version(10));
        tail.publish(vec![published(12, 1), published(15, 1)], Version(15));
        tail.publish(Vec::new(), Version(20));
        assert_eq!(versions(tail.since(Version(9), 10)), None);
        assert_eq!(
            versions(tail.since(Version(10), 10)),
            Some((vec![12, 15], 20))
        );
        assert_eq!(versions(tail.since(Version(11), 1)), Some((vec![12], 12)));
        assert_eq!(versions(tail.since(Version(12), 10)), Some((vec![15], 20)));
        assert_eq!(versions(tail.since(Version(15), 10)), Some((vec![], 20)));
        assert_eq!(versions(tail.since(Version(25), 10)), Some((vec![], 20)));
        assert_eq!(*tail.watch().borrow(), Version(20));
        tail.skip_to(Version(30));
        assert_eq!(versions(tail.since(Version(29), 10)), None);
        assert_eq!(versions(tail.since(Version(30), 10)), Some((vec![], 30)));
    }

    #[test]
    fn the_ring_is_bounded_by_count_and_bytes() {
        let tail = Tail::new(Version(0));
        for version in 1..=RING_ENTRIES_MAX as u64 + 5 {
            tail.publish(vec![published(version, 1)], Version(version));
        }
        assert!(tail.since(Version(4), 1).is_none());
        assert_eq!(versions(tail.since(Version(5), 1)), Some((vec![6], 6)));
        let next = RING_ENTRIES_MAX as u64 + 6;
        tail.publish(vec![published(next, RING_BYTES_MAX + 1)], Version(next));
        assert!(tail.since(Version(next - 1), 1).is_none());
        assert_eq!(versions(tail.since(Version(next), 1)), Some((vec![], next)));
    }
}
