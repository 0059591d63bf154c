//! What all listeners have received, gathered, and how far the slowest of them is.
//!
//! Receivers report once for every read of a socket, not for every message. The time of a receipt is when its read
//! returned.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use tokio::sync::Notify;

use super::message::{Marks, taken_apart};

/// Parts in which sums are kept, so that threads rarely wait for each other.
const PARTS: usize = 8;

/// Seconds that are waited for listeners: for all to stand, and for the last write to arrive.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// Nobody is waited for.
const NOBODY: usize = usize::MAX;

/// Microseconds, up to an hour, to a thousandth. More counts as an hour.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(3_600_000_000, 3).expect("the bounds are within what is allowed")
}

/// Sums of what came since they were last taken.
pub struct Sums {
    /// Messages with a document.
    pub delivered: u64,
    /// Messages of a listener that did not rise.
    pub fallen: u64,
    /// Nanoseconds at which the last one came.
    pub last_at: u64,
    /// From the time in the document to its receipt, in microseconds.
    pub latency: Histogram<u64>,
}

impl Sums {
    fn new() -> Self {
        Self {
            delivered: 0,
            fallen: 0,
            last_at: 0,
            latency: histogram(),
        }
    }
}

/// How far the listeners are with what one writer has written.
struct Track {
    /// For each receiver, the count that all its listeners have.
    reached: Vec<AtomicU64>,
    /// The receiver that the writer waits for.
    awaited: AtomicUsize,
    progress: Notify,
}

/// Shared by all listeners and writers of a measurement.
pub struct Receipts {
    begin: Instant,
    parts: Vec<Mutex<Sums>>,
    /// For each writer.
    tracks: Vec<Track>,
    standing: AtomicUsize,
    stands: Notify,
    /// Why a receiver ended, if one did.
    failure: Mutex<Option<String>>,
}

impl Receipts {
    /// For so many receivers and writers.
    pub fn new(receivers: usize, writers: usize) -> Self {
        let track = || Track {
            reached: (0..receivers).map(|_| AtomicU64::new(0)).collect(),
            awaited: AtomicUsize::new(NOBODY),
            progress: Notify::new(),
        };
        Self {
            begin: Instant::now(),
            parts: (0..PARTS).map(|_| Mutex::new(Sums::new())).collect(),
            tracks: (0..writers).map(|_| track()).collect(),
            standing: AtomicUsize::new(0),
            stands: Notify::new(),
            failure: Mutex::new(None),
        }
    }

    /// Nanoseconds of the generator's own clock.
    pub fn now(&self) -> u64 {
        self.begin.elapsed().as_nanos() as u64
    }

    /// When a time of this clock was, or will be.
    pub fn instant(&self, at: u64) -> Instant {
        self.begin + Duration::from_nanos(at)
    }

    /// So many more targets stand.
    pub fn stand(&self, count: usize) {
        if count > 0 {
            self.standing.fetch_add(count, Ordering::SeqCst);
            self.stands.notify_one();
        }
    }

    /// Waits until so many targets have come to stand since the start.
    pub async fn standing(&self, count: usize) -> Result<()> {
        let wait = async {
            while self.standing.load(Ordering::SeqCst) < count {
                self.stands.notified().await;
                self.check()?;
            }
            Ok(())
        };
        tokio::time::timeout(WAIT_MAX, wait).await.map_err(|_| {
            let found = self.standing.load(Ordering::SeqCst);
            anyhow::anyhow!("expected {count} targets to stand, found {found}")
        })?
    }

    /// A receiver has ended, and everything with it.
    pub fn fail(&self, why: String) {
        lock(&self.failure).get_or_insert(why);
        self.stands.notify_one();
        for track in &self.tracks {
            track.progress.notify_one();
        }
    }

    /// Fails if a receiver has.
    pub fn check(&self) -> Result<()> {
        match &*lock(&self.failure) {
            Some(why) => bail!("a receiver failed: {why}"),
            None => Ok(()),
        }
    }

    /// Waits until every listener has this count of the writer's or a higher one.
    pub async fn reached(&self, writer: usize, count: u64) -> Result<()> {
        let track = self.tracks.get(writer).context("a writer that counts")?;
        let wait = async {
            for (index, reached) in track.reached.iter().enumerate() {
                if reached.load(Ordering::SeqCst) >= count {
                    continue;
                }
                track.awaited.store(index, Ordering::SeqCst);
                while reached.load(Ordering::SeqCst) < count {
                    track.progress.notified().await;
                    self.check()?;
                }
            }
            track.awaited.store(NOBODY, Ordering::SeqCst);
            Ok(())
        };
        tokio::time::timeout(WAIT_MAX, wait)
            .await
            .context("the last write did not reach every listener")?
    }

    /// Takes the sums and begins anew.
    pub fn take(&self) -> Sums {
        let mut sums = Sums::new();
        for part in &self.parts {
            let part = std::mem::replace(&mut *lock(part), Sums::new());
            sums.delivered += part.delivered;
            sums.fallen += part.fallen;
            sums.last_at = sums.last_at.max(part.last_at);
            sums.latency
                .add(part.latency)
                .expect("both have the same bounds");
        }
        sums
    }
}

/// What one receiver has read since its last report.
pub struct Tally {
    marks: Marks,
    index: usize,
    delivered: u64,
    fallen: u64,
    /// Runs of messages with the same time.
    runs: Vec<(u64, u64)>,
}

impl Tally {
    /// Of the receiver with this index.
    pub fn new(index: usize) -> Self {
        Self {
            marks: Marks::default(),
            index,
            delivered: 0,
            fallen: 0,
            runs: Vec::new(),
        }
    }

    /// A message with a document to a listener that had these counts before, one of each writer.
    pub fn document(&mut self, message: &[u8], newest: &mut Vec<u64>) {
        let Some((number, at)) = self.marks.find(message) else {
            return;
        };
        let (writer, count) = taken_apart(number);
        // What the listener found when it began is no message of a write.
        if count == 0 {
            return;
        }
        self.delivered += 1;
        if newest.len() <= writer {
            newest.resize(writer + 1, 0);
        }
        if let Some(newest) = newest.get_mut(writer) {
            if count <= *newest {
                self.fallen += 1;
            }
            *newest = count;
        }
        match self.runs.last_mut() {
            Some((time, count)) if *time == at => *count += 1,
            _ => self.runs.push((at, 1)),
        }
    }

    /// Reports, with the counts of the writers that all listeners of this receiver have.
    pub fn report(&mut self, receipts: &Receipts, now: u64, reached: impl Fn(usize) -> u64) {
        if let Some(part) = receipts.parts.get(self.index % PARTS) {
            let mut sums = lock(part);
            sums.delivered += self.delivered;
            sums.fallen += self.fallen;
            sums.last_at = sums.last_at.max(now);
            for (at, count) in self.runs.drain(..) {
                let latency = now.saturating_sub(at) / 1_000;
                sums.latency.saturating_record_n(latency, count);
            }
        }
        self.delivered = 0;
        self.fallen = 0;
        for (writer, track) in receipts.tracks.iter().enumerate() {
            if let Some(known) = track.reached.get(self.index) {
                known.store(reached(writer), Ordering::SeqCst);
                if track.awaited.load(Ordering::SeqCst) == self.index {
                    track.progress.notify_one();
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
