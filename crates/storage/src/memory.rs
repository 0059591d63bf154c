//! The model store: everything in memory, nothing on disk.
//!
//! It serves the tests, and the server when it is started to keep nothing.
//! It never takes a checkpoint, and its `Applied` is durable for as long as the process lives.
//!
//! # How
//!
//! One ordered map holds for each key the values it had, oldest first, each with the version that put it there.
//! A snapshot is a version and a place in the register of live snapshots: taking one costs nothing that grows with the store, and a batch costs what its operations cost.
//! A value that was replaced is dropped once no snapshot is old enough to see it, which a queue of replaced keys in order of version makes cheap.
//!
//! Invariant: a registered version is never pruned away, because it is registered while the map is locked for reading and pruning needs the map for writing.
//!
//! # Limits
//!
//! None: as much as is put is kept, and a snapshot held for long keeps every value replaced since.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;
use bytes::Bytes;

use crate::batch::{Batch, Operation};
use crate::error::Error;
use crate::page::{Page, PageFill};
use crate::range::Range;
use crate::store::{Applied, Counted, Direction, Snapshot, Store};
use crate::version::Version;

/// One database in memory.
pub struct MemoryStore {
    shared: Arc<Shared>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::new(Shared::default()),
        })
    }
}

#[derive(Default)]
struct Shared {
    state: RwLock<State>,
    /// How many live snapshots there are of each version. Locked after `state`, never before it.
    live: Mutex<BTreeMap<Version, usize>>,
}

#[derive(Default)]
struct State {
    head: Version,
    closed: bool,
    /// Never holds an empty history.
    keys: BTreeMap<Bytes, Vec<Value>>,
    /// Keys whose history can be shortened once no snapshot is older than the version, in order of version.
    replaced: VecDeque<(Version, Bytes)>,
}

/// What a key held from `since` on; `None` for "deleted".
struct Value {
    since: Version,
    bytes: Option<Bytes>,
}

impl Shared {
    // A panic while a lock is held cannot leave the state half changed in a way that later callers
    // would notice: the head moves last. So poisoned locks are taken as they are.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<Version, usize>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prune(&self, state: &mut State) {
        let oldest = self
            .live()
            .first_key_value()
            .map_or(state.head, |(version, _)| *version);
        state.prune(oldest);
    }
}

impl State {
    fn put(&mut self, version: Version, key: Bytes, bytes: Option<Bytes>) {
        let history = match &bytes {
            Some(_) => self.keys.entry(key.clone()).or_default(),
            None => match self.keys.get_mut(&key) {
                Some(history) => history,
                None => return,
            },
        };
        match history.last_mut() {
            Some(last) if last.since == version => last.bytes = bytes,
            Some(_) | None => history.push(Value {
                since: version,
                bytes,
            }),
        }
        let deleted = history.last().is_some_and(|last| last.bytes.is_none());
        if history.len() > 1 || deleted {
            self.replaced.push_back((version, key));
        }
    }

    /// Drops what nobody at `oldest` or later can see.
    fn prune(&mut self, oldest: Version) {
        while self
            .replaced
            .front()
            .is_some_and(|(version, _)| *version <= oldest)
        {
            let Some((_, key)) = self.replaced.pop_front() else {
                break;
            };
            let Some(history) = self.keys.get_mut(&key) else {
                continue;
            };
            if let Some(seen) = history.iter().rposition(|value| value.since <= oldest) {
                history.drain(..seen);
            }
            let gone = history.len() == 1
                && history
                    .first()
                    .is_some_and(|value| value.bytes.is_none() && value.since <= oldest);
            if gone {
                self.keys.remove(&key);
            }
        }
    }
}

fn visible(history: &[Value], version: Version) -> Option<&Bytes> {
    history
        .iter()
        .rev()
        .find(|value| value.since <= version)
        .and_then(|value| value.bytes.as_ref())
}

#[async_trait]
impl Store for MemoryStore {
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, Error> {
        let state = self.shared.read();
        if state.closed {
            return Err(Error::Closed);
        }
        *self.shared.live().entry(state.head).or_default() += 1;
        Ok(Arc::new(MemorySnapshot {
            shared: Arc::clone(&self.shared),
            version: state.head,
        }))
    }

    async fn apply(&self, expected_head: Version, batch: Batch) -> Result<Applied, Error> {
        assert!(batch.version > expected_head, "a batch must raise the head");
        let mut state = self.shared.write();
        if state.closed {
            return Err(Error::Closed);
        }
        if state.head != expected_head {
            return Ok(Applied::HeadMoved(state.head));
        }
        for operation in batch.operations {
            match operation {
                Operation::Put { key, value } => state.put(batch.version, key, Some(value)),
                Operation::Delete { key } => state.put(batch.version, key, None),
            }
        }
        state.head = batch.version;
        self.shared.prune(&mut state);
        Ok(Applied::Applied)
    }

    async fn checkpoint(&self, _directory: &Path) -> Result<(), Error> {
        Err(Error::Unavailable(
            "the memory store keeps nothing on disk and takes no checkpoints".to_owned(),
        ))
    }

    async fn close(&self) -> Result<(), Error> {
        self.shared.write().closed = true;
        Ok(())
    }
}

struct MemorySnapshot {
    shared: Arc<Shared>,
    version: Version,
}

impl Drop for MemorySnapshot {
    fn drop(&mut self) {
        let oldest = {
            let mut live = self.shared.live();
            if let Some(count) = live.get_mut(&self.version) {
                *count -= 1;
                if *count == 0 {
                    live.remove(&self.version);
                }
            }
            live.first_key_value().map(|(version, _)| *version)
        };
        // Most snapshots leave nothing behind; readers should not wait for those.
        let garbage = {
            let state = self.shared.read();
            let oldest = oldest.unwrap_or(state.head);
            state
                .replaced
                .front()
                .is_some_and(|(version, _)| *version <= oldest)
        };
        if garbage {
            self.shared.prune(&mut self.shared.write());
        }
    }
}

#[async_trait]
impl Snapshot for MemorySnapshot {
    fn version(&self) -> Version {
        self.version
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let state = self.shared.read();
        Ok(state
            .keys
            .get(key)
            .and_then(|history| visible(history, self.version))
            .cloned())
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Error> {
        let state = self.shared.read();
        Ok(keys
            .iter()
            .map(|key| {
                state
                    .keys
                    .get(key)
                    .and_then(|history| visible(history, self.version))
                    .cloned()
            })
            .collect())
    }

    async fn page(&self, range: &Range, direction: Direction, limit: usize) -> Result<Page, Error> {
        let mut fill = PageFill::new(limit);
        if range.is_empty() {
            return Ok(fill.finish());
        }
        let state = self.shared.read();
        let end = range
            .end
            .as_deref()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let mut keys = state
            .keys
            .range::<[u8], _>((Bound::Included(range.start.as_ref()), end));
        loop {
            let next = match direction {
                Direction::Forward => keys.next(),
                Direction::Backward => keys.next_back(),
            };
            let Some((key, history)) = next else { break };
            let Some(value) = visible(history, self.version) else {
                continue;
            };
            if !fill.has_room(key.len().saturating_add(value.len())) {
                break;
            }
            fill.push(key.clone(), value.clone());
        }
        Ok(fill.finish())
    }

    async fn count(&self, range: &Range, limit: usize) -> Result<Counted, Error> {
        assert!(limit > 0, "counting up to nothing says nothing");
        let mut counted = Counted {
            keys: 0,
            next: None,
        };
        if range.is_empty() {
            return Ok(counted);
        }
        let state = self.shared.read();
        let end = range
            .end
            .as_deref()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let keys = state
            .keys
            .range::<[u8], _>((Bound::Included(range.start.as_ref()), end))
            .filter(|(_, history)| visible(history, self.version).is_some());
        for (key, _) in keys {
            if counted.keys == limit {
                counted.next = Some(key.clone());
                break;
            }
            counted.keys += 1;
        }
        Ok(counted)
    }
}

#[cfg(test)]
mod tests;
