//! A disk that is slow, refuses, loses answers, fills up, and outlives the servers that use it.
//!
//! Below it is the memory store, which holds what has been flushed: what a snapshot shows is what a crash leaves.
//! Between `apply` and its flush a batch waits, here, for as long as the flush takes; a crash finds it there and
//! writes it whole, or not at all. Everything that happens by chance follows from the seed and from the order of
//! the calls.
//!
//! # States
//!
//! *up*: batches are flushed after a while; some are refused, some are written and answered `Unavailable`.
//! *full*: from `fill` on, the next batch is the one whose flush fails. It and all after it are answered `Poisoned`,
//! and reads do not show it.
//! *up* again by `free`: what became of that batch is decided then; it is there whole, or never was.
//! A handle belongs to one server; after `crash` those of the dead one answer `Closed`.
//!
//! # What is not done
//!
//! No torn batches: a store of ours recovers whole batches, which its own tests prove. No second server.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use watchfire_engine::CommitEntry;
use watchfire_engine::changelog::entry::decode_entry;
use watchfire_engine::keyspace::changelog_version;
use watchfire_storage::memory::MemoryStore;
use watchfire_storage::{
    Applied, Batch, Counted, Direction, Error, Operation, Page, Range, Snapshot, Store, Version,
};

use crate::chance::Chance;

/// How often what goes wrong; in thousandths.
#[derive(Copy, Clone, Debug, Default)]
pub struct Faults {
    /// Batches refused, unwritten.
    pub refused: u64,
    /// Batches written and answered `Unavailable`.
    pub lost_answers: u64,
    /// Snapshots and reads that fail.
    pub failed_reads: u64,
    /// Flushes that take up to 20 ms.
    pub slow_flushes: u64,
    /// Flushes that take up to two seconds.
    pub stuck_flushes: u64,
    /// Reads during which others run first, for up to 3 ms.
    pub slow_reads: u64,
}

/// The disk itself, which outlives servers. Clones share it.
#[derive(Clone)]
pub struct Disk {
    flushed: Arc<MemoryStore>,
    state: Arc<Mutex<State>>,
}

struct State {
    chance: Chance,
    faults: Faults,
    /// The server whose handle works.
    life: u32,
    fullness: Fullness,
    /// Those whose flush has not ended, oldest first.
    waiting: Vec<Waiting>,
    last_waiting: u64,
    entries: Vec<Arc<CommitEntry>>,
    /// What went wrong since somebody asked.
    told: Vec<String>,
}

enum Fullness {
    Roomy,
    /// The next batch fails.
    Filling,
    /// It has failed, and this is it.
    Full(Version, Batch),
}

struct Waiting {
    id: u64,
    expected_head: Version,
    batch: Batch,
}

/// What a crash found.
#[derive(Copy, Clone, Debug)]
pub struct Crash {
    /// Batches that waited for their flush.
    pub waiting: usize,
    /// Those of them that are there.
    pub written: usize,
}

impl Disk {
    /// An empty one.
    #[must_use]
    pub fn new(chance: Chance) -> Self {
        let state = State {
            chance,
            faults: Faults::default(),
            life: 0,
            fullness: Fullness::Roomy,
            waiting: Vec::new(),
            last_waiting: 0,
            entries: Vec::new(),
            told: Vec::new(),
        };
        Self {
            flushed: MemoryStore::new(),
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The store of the server with this number. Those of all others are closed.
    #[must_use]
    pub fn open(&self, life: u32) -> Arc<dyn Store> {
        self.lock().life = life;
        Arc::new(Handle {
            disk: self.clone(),
            life,
        })
    }

    /// How often what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// The disk is full from now on.
    pub fn fill(&self) {
        let mut state = self.lock();
        if matches!(state.fullness, Fullness::Roomy) {
            state.fullness = Fullness::Filling;
        }
    }

    /// There is room again. Whether the failed batch is there, it tells nobody.
    pub async fn free(&self) {
        let kept = {
            let mut state = self.lock();
            let fullness = std::mem::replace(&mut state.fullness, Fullness::Roomy);
            match fullness {
                Fullness::Full(head, batch) if state.chance.happens(500) => Some((head, batch)),
                Fullness::Full(..) | Fullness::Filling | Fullness::Roomy => None,
            }
        };
        if let Some((head, batch)) = kept {
            // If somebody has written since, it never was.
            let _ = self.write(head, batch).await;
        }
    }

    /// The server is gone. The oldest of the waiting batches may be there.
    pub async fn crash(&self) -> Crash {
        let (waiting, written) = {
            let mut state = self.lock();
            state.life = 0;
            let waiting = std::mem::take(&mut state.waiting);
            let written = state.chance.below(waiting.len() as u64 + 1);
            (waiting, usize::try_from(written).unwrap_or(0))
        };
        let found = waiting.len();
        for waiting in waiting.into_iter().take(written) {
            let _ = self.write(waiting.expected_head, waiting.batch).await;
        }
        self.free().await;
        Crash {
            waiting: found,
            written,
        }
    }

    /// What has been flushed, without faults.
    pub async fn snapshot(&self) -> Arc<dyn Snapshot> {
        let snapshot = self.flushed.snapshot().await;
        snapshot.expect("the memory store is never closed")
    }

    /// Every commit that was ever flushed, in order.
    #[must_use]
    pub fn entries(&self) -> Vec<Arc<CommitEntry>> {
        self.lock().entries.clone()
    }

    /// What went wrong since the last time.
    #[must_use]
    pub fn take_told(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().told)
    }

    async fn write(&self, expected_head: Version, batch: Batch) -> Result<Applied, Error> {
        let mut entries = Vec::new();
        for operation in &batch.operations {
            if let Operation::Put { key, value } = operation
                && let Some(version) = changelog_version(key)
            {
                let entry = decode_entry(version, value);
                entries.push(Arc::new(entry.expect("what the engine writes can be read")));
            }
        }
        let applied = self.flushed.apply(expected_head, batch).await?;
        if applied == Applied::Applied {
            self.lock().entries.extend(entries);
        }
        Ok(applied)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn flush_time(&mut self) -> Duration {
        let faults = self.faults;
        if self.chance.happens(faults.stuck_flushes) {
            Duration::from_millis(self.chance.within(100, 2_000))
        } else if self.chance.happens(faults.slow_flushes) {
            Duration::from_millis(self.chance.within(2, 20))
        } else {
            Duration::from_millis(self.chance.below(3))
        }
    }

    fn tell(&mut self, text: &str) {
        self.told.push(text.to_owned());
    }
}

/// One server's store.
struct Handle {
    disk: Disk,
    life: u32,
}

impl Handle {
    fn check(&self, state: &State) -> Result<(), Error> {
        if state.life == self.life {
            Ok(())
        } else {
            Err(Error::Closed)
        }
    }
}

fn unavailable(what: &str) -> Error {
    Error::Unavailable(format!("{what}, on purpose"))
}

fn full() -> Error {
    Error::Poisoned("the disk is full, on purpose".to_owned())
}

#[async_trait]
impl Store for Handle {
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, Error> {
        let pause = {
            let mut state = self.disk.lock();
            self.check(&state)?;
            read_trouble(&mut state)?
        };
        rest(pause).await;
        Ok(Arc::new(DiskSnapshot {
            inner: self.disk.flushed.snapshot().await?,
            disk: self.disk.clone(),
        }))
    }

    async fn apply(&self, expected_head: Version, batch: Batch) -> Result<Applied, Error> {
        assert!(batch.version > expected_head, "a batch must raise the head");
        let (id, flush, lost) = {
            let mut state = self.disk.lock();
            self.check(&state)?;
            match &state.fullness {
                Fullness::Roomy => {}
                Fullness::Filling => {
                    state.fullness = Fullness::Full(expected_head, batch);
                    return Err(full());
                }
                Fullness::Full(..) => return Err(full()),
            }
            let faults = state.faults;
            if state.chance.happens(faults.refused) {
                state.tell("a batch was refused");
                return Err(unavailable("a batch was refused"));
            }
            let lost = state.chance.happens(faults.lost_answers);
            let flush = state.flush_time();
            state.last_waiting += 1;
            let id = state.last_waiting;
            state.waiting.push(Waiting {
                id,
                expected_head,
                batch,
            });
            (id, flush, lost)
        };
        rest(Some(flush)).await;
        // A crash has taken it, and the process with it.
        let waiting = {
            let mut state = self.disk.lock();
            let at = state.waiting.iter().position(|waiting| waiting.id == id);
            at.map(|at| state.waiting.remove(at))
        };
        let Some(Waiting {
            id: _,
            expected_head,
            batch,
        }) = waiting
        else {
            return Err(Error::Closed);
        };
        let applied = self.disk.write(expected_head, batch).await;
        if lost {
            self.disk.lock().tell("an answer was lost");
            return Err(unavailable("an answer was lost"));
        }
        applied
    }

    async fn checkpoint(&self, directory: &Path) -> Result<(), Error> {
        self.disk.flushed.checkpoint(directory).await
    }

    async fn close(&self) -> Result<(), Error> {
        let mut state = self.disk.lock();
        if state.life == self.life {
            state.life = 0;
        }
        Ok(())
    }
}

fn read_trouble(state: &mut State) -> Result<Option<Duration>, Error> {
    let faults = state.faults;
    if state.chance.happens(faults.failed_reads) {
        state.tell("a read failed");
        return Err(unavailable("a read failed"));
    }
    let slow = state.chance.happens(faults.slow_reads);
    Ok(slow.then(|| Duration::from_millis(state.chance.below(4))))
}

/// Others run first. A flush and a read take their time in the server's own runtime.
async fn rest(pause: Option<Duration>) {
    match pause {
        None => {}
        Some(Duration::ZERO) => tokio::task::yield_now().await,
        Some(pause) => tokio::time::sleep(pause).await,
    }
}

struct DiskSnapshot {
    inner: Arc<dyn Snapshot>,
    disk: Disk,
}

impl DiskSnapshot {
    async fn pass(&self) -> Result<(), Error> {
        let pause = read_trouble(&mut self.disk.lock())?;
        rest(pause).await;
        Ok(())
    }
}

#[async_trait]
impl Snapshot for DiskSnapshot {
    fn version(&self) -> Version {
        self.inner.version()
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.pass().await?;
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Error> {
        self.pass().await?;
        self.inner.get_many(keys).await
    }

    async fn page(&self, range: &Range, direction: Direction, limit: usize) -> Result<Page, Error> {
        self.pass().await?;
        self.inner.page(range, direction, limit).await
    }

    async fn count(&self, range: &Range, limit: usize) -> Result<Counted, Error> {
        self.pass().await?;
        self.inner.count(range, limit).await
    }
}
