//! A store that fails on purpose, for tests of what is built on stores.
//!
//! It wraps another store and adds four troubles: calls that fail by chance or as asked, batches that are held back before they are written, crashes, and a disk that is full.
//! It has no randomness of its own: what fails follows from the seed and the order of the calls.
//!
//! # Transitions
//!
//! *up* to *holding* by `hold`: batches wait, unwritten and unacknowledged.
//! *holding* to *up* by `release`: the waiting batches are written in order and answered.
//! Any to *down* by `crash`: of the waiting batches the first few may have reached the store, the others are lost, no caller is told which, and everything answers `Unavailable`.
//! *down* to *up* by `restart`.
//! *up* to *full* by `fill`: the next batch is the one whose flush fails, and it and all after it are answered `Poisoned`; reads go on and do not show it.
//! *full* to *up* by `free`: that batch is written then, if `fill` said so, or lost.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use crate::batch::Batch;
use crate::error::Error;
use crate::page::Page;
use crate::range::Range;
use crate::store::{Applied, Counted, Direction, Snapshot, Store};
use crate::version::Version;

/// Batches held back at once; one more is refused with `Unavailable`.
pub const HELD_BATCHES_MAX: usize = 1024;

/// How often calls fail by chance, each in thousandths.
#[derive(Copy, Clone, Debug, Default)]
pub struct Faults {
    /// Everything that happens by chance follows from it.
    pub seed: u64,
    /// Batches refused with `Unavailable`, unwritten.
    pub refused_applies_per_mille: u32,
    /// Batches written, while the caller is told `Unavailable`.
    pub lost_answers_per_mille: u32,
    /// Snapshots and reads that fail with `Unavailable`.
    pub failed_reads_per_mille: u32,
}

/// See the module.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    shared: Arc<Shared>,
}

struct Shared {
    faults: Faults,
    state: Mutex<State>,
    /// Notified whenever a batch is held.
    held: Notify,
}

struct State {
    chance: u64,
    mode: Mode,
    waiting: VecDeque<Waiting>,
    next_apply: Option<Error>,
    next_read: Option<Error>,
    snapshots: usize,
    /// The batch whose flush failed, if it is to be found after recovery.
    kept: Option<(Version, Batch)>,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Mode {
    Up,
    Holding,
    Down,
    /// The next batch fails.
    Filling(Flushed),
    /// One has failed.
    Full,
}

/// Whether the batch whose flush fails is on the disk all the same.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// It is found after recovery.
    Kept,
    /// It is gone.
    Lost,
}

/// What becomes of a batch that was not refused.
enum Admitted {
    /// Written now; its answer may get lost.
    Write(Version, Batch, bool),
    /// Answered on release or crash.
    Wait(oneshot::Receiver<Result<Applied, Error>>),
}

struct Waiting {
    expected_head: Version,
    batch: Batch,
    answer: oneshot::Sender<Result<Applied, Error>>,
}

impl FaultyStore {
    /// Wraps `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, faults: Faults) -> Arc<Self> {
        let state = State {
            chance: faults.seed,
            mode: Mode::Up,
            waiting: VecDeque::new(),
            next_apply: None,
            next_read: None,
            snapshots: 0,
            kept: None,
        };
        let shared = Shared {
            faults,
            state: Mutex::new(state),
            held: Notify::new(),
        };
        Arc::new(Self {
            inner,
            shared: Arc::new(shared),
        })
    }

    /// The next batch is refused with `error`, unwritten.
    pub fn fail_next_apply(&self, error: Error) {
        self.shared.lock().next_apply = Some(error);
    }

    /// The next snapshot or read fails with `error`.
    pub fn fail_next_read(&self, error: Error) {
        self.shared.lock().next_read = Some(error);
    }

    /// How many snapshots were taken so far: how often somebody has turned to the store.
    #[must_use]
    pub fn snapshots(&self) -> usize {
        self.shared.lock().snapshots
    }

    /// The disk is full from now on. Does nothing unless the store is up.
    pub fn fill(&self, flushed: Flushed) {
        let mut state = self.shared.lock();
        if state.mode == Mode::Up {
            state.mode = Mode::Filling(flushed);
        }
    }

    /// There is space again, and the store has recovered when this returns. Does nothing unless it is full.
    pub async fn free(&self) {
        let kept = {
            let mut state = self.shared.lock();
            match state.mode {
                Mode::Filling(_) | Mode::Full => {}
                Mode::Up | Mode::Holding | Mode::Down => return,
            }
            state.kept.take()
        };
        if let Some((expected_head, batch)) = kept {
            // It was never answered; nobody is told what becomes of it.
            let _ = self.inner.apply(expected_head, batch).await;
        }
        let mut state = self.shared.lock();
        if matches!(state.mode, Mode::Filling(_) | Mode::Full) {
            state.mode = Mode::Up;
        }
    }

    /// Batches wait from now on.
    pub fn hold(&self) {
        let mut state = self.shared.lock();
        if state.mode == Mode::Up {
            state.mode = Mode::Holding;
        }
    }

    /// Resolves when at least `count` batches wait.
    pub async fn held(&self, count: usize) {
        loop {
            let held = self.shared.held.notified();
            if self.shared.lock().waiting.len() >= count {
                return;
            }
            held.await;
        }
    }

    /// Writes what waits, in order, and holds nothing back from now on.
    pub async fn release(&self) {
        loop {
            let next = {
                let mut state = self.shared.lock();
                let next = state.waiting.pop_front();
                if next.is_none() && state.mode == Mode::Holding {
                    state.mode = Mode::Up;
                }
                next
            };
            let Some(waiting) = next else { return };
            let answer = self.inner.apply(waiting.expected_head, waiting.batch).await;
            // Nobody listens when the caller has given up.
            let _ = waiting.answer.send(answer);
        }
    }

    /// Loses the waiting batches but for the first `written`, which reach the store unacknowledged.
    pub async fn crash(&self, written: usize) {
        let waiting = {
            let mut state = self.shared.lock();
            state.mode = Mode::Down;
            std::mem::take(&mut state.waiting)
        };
        for (position, waiting) in waiting.into_iter().enumerate() {
            if position < written {
                // The crash hides the outcome, whatever it was.
                let _ = self.inner.apply(waiting.expected_head, waiting.batch).await;
            }
            let _ = waiting.answer.send(Err(unavailable("crashed")));
        }
    }

    /// Decides what becomes of a batch.
    fn admit(&self, expected_head: Version, batch: Batch) -> Result<Admitted, Error> {
        let mut state = self.shared.lock();
        if state.mode == Mode::Down {
            return Err(unavailable("down"));
        }
        if let Some(error) = state.next_apply.take() {
            return Err(error);
        }
        match state.mode {
            Mode::Filling(flushed) => {
                state.mode = Mode::Full;
                state.kept = (flushed == Flushed::Kept).then_some((expected_head, batch));
                return Err(full());
            }
            Mode::Full => return Err(full()),
            Mode::Up | Mode::Holding | Mode::Down => {}
        }
        if state.happens(self.shared.faults.refused_applies_per_mille) {
            return Err(unavailable("a batch was refused"));
        }
        let answer_lost = state.happens(self.shared.faults.lost_answers_per_mille);
        if state.mode == Mode::Up {
            return Ok(Admitted::Write(expected_head, batch, answer_lost));
        }
        if state.waiting.len() >= HELD_BATCHES_MAX {
            return Err(unavailable("too many batches are held back"));
        }
        let (answer, answered) = oneshot::channel();
        state.waiting.push_back(Waiting {
            expected_head,
            batch,
            answer,
        });
        Ok(Admitted::Wait(answered))
    }

    /// Serves again, with what was written.
    pub fn restart(&self) {
        self.shared.lock().mode = Mode::Up;
    }
}

fn unavailable(what: &str) -> Error {
    Error::Unavailable(format!("{what} on purpose"))
}

fn full() -> Error {
    Error::Poisoned("the disk is full on purpose".to_owned())
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_read(&self) -> Result<(), Error> {
        let mut state = self.lock();
        if state.mode == Mode::Down {
            return Err(unavailable("down"));
        }
        if let Some(error) = state.next_read.take() {
            return Err(error);
        }
        if state.happens(self.faults.failed_reads_per_mille) {
            return Err(unavailable("a read failed"));
        }
        Ok(())
    }
}

impl State {
    /// Splitmix64: small, and the same everywhere.
    fn happens(&mut self, per_mille: u32) -> bool {
        if per_mille == 0 {
            return false;
        }
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        mixed % 1000 < u64::from(per_mille)
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, Error> {
        self.shared.check_read()?;
        let inner = self.inner.snapshot().await?;
        self.shared.lock().snapshots += 1;
        Ok(Arc::new(FaultySnapshot {
            inner,
            shared: Arc::clone(&self.shared),
        }))
    }

    async fn apply(&self, expected_head: Version, batch: Batch) -> Result<Applied, Error> {
        assert!(batch.version > expected_head, "a batch must raise the head");
        let (expected_head, batch, answer_lost) = match self.admit(expected_head, batch)? {
            Admitted::Write(expected_head, batch, answer_lost) => {
                (expected_head, batch, answer_lost)
            }
            Admitted::Wait(answered) => {
                self.shared.held.notify_waiters();
                return answered
                    .await
                    .unwrap_or_else(|_| Err(unavailable("an answer was lost")));
            }
        };
        let answer = self.inner.apply(expected_head, batch).await;
        if answer_lost {
            Err(unavailable("an answer was lost"))
        } else {
            answer
        }
    }

    async fn checkpoint(&self, directory: &Path) -> Result<(), Error> {
        self.shared.check_read()?;
        self.inner.checkpoint(directory).await
    }

    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }
}

struct FaultySnapshot {
    inner: Arc<dyn Snapshot>,
    shared: Arc<Shared>,
}

#[async_trait]
impl Snapshot for FaultySnapshot {
    fn version(&self) -> Version {
        self.inner.version()
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.shared.check_read()?;
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Error> {
        self.shared.check_read()?;
        self.inner.get_many(keys).await
    }

    async fn page(&self, range: &Range, direction: Direction, limit: usize) -> Result<Page, Error> {
        self.shared.check_read()?;
        self.inner.page(range, direction, limit).await
    }

    async fn count(&self, range: &Range, limit: usize) -> Result<Counted, Error> {
        self.shared.check_read()?;
        self.inner.count(range, limit).await
    }
}

#[cfg(test)]
mod tests;
