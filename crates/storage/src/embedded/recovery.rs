//! Recovery: the thread that looks after the disk of an open folder, and opens the folder again after a write failed.
//!
//! It looks how much of the disk is free, at every check, and tells `current`.
//! When a write has failed it tries whether the disk takes bytes again, and then closes the engine and opens it again.
//!
//! # Why opening again
//!
//! After a failed write nobody knows what is on the disk: the record may be there, in part, or only in the memory of the operating system, which may have given up writing it and still show it to who reads the file.
//! To flush a second time proves nothing.
//! Opening reads the logs from their beginning, checks every record, drops an end that was never finished, and writes what it has read into a new table, flushed before anything is shown.
//! So the batch that failed is there afterwards, durable and whole, or it is not there; and the heads are read from what was found.
//! The head of no database may have gone back then: that would be a lost commit, and stops everything as damage.
//!
//! # Reads meanwhile
//!
//! They go on from the engine that is open, until the disk takes bytes again.
//! Only one engine may have the folder open, so that new snapshots are refused then, and those that are held are waited for, at most [`SNAPSHOTS_WAIT_MAX`].
//! If some are still held, reads go on from the old engine, and it is tried again later: a transaction that holds a snapshot may put recovery off until it ends.
//! Reads are refused while the engine opens, and for as long as it does not; a folder that is found damaged is not tried again.
//!
//! # What is not done
//!
//! Nothing is repaired, and no snapshot is taken from who holds it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::embedded::current::Current;
use crate::embedded::disk;
use crate::embedded::folder::{Folder, FolderLock, Settings};
use crate::embedded::report::Report;
use crate::error::Error;

/// The longest pause between two tries. They begin at `Settings::disk_check_interval`, and each pause is twice the last one.
pub(crate) const TRY_PAUSE_MAX: Duration = Duration::from_secs(10);

/// How long a folder must have stayed well after a recovery, for pauses to begin small again.
const STEADY_AFTER: Duration = Duration::from_secs(60);

/// How long snapshots are waited for, while no new ones are given.
const SNAPSHOTS_WAIT_MAX: Duration = Duration::from_secs(1);

/// How often it is looked whether they are gone.
const SNAPSHOTS_WAIT_STEP: Duration = Duration::from_millis(5);

/// Looks after the folder until it is closed.
pub(crate) fn run(current: &Current, lock: &FolderLock, settings: &Settings, report: &Arc<Report>) {
    let mut pauses = Pauses::new(settings.disk_check_interval);
    let mut told = None;
    while current.rest(settings.disk_check_interval) {
        // In this order: a disk with space again is well only if the engine is.
        current.check_engine();
        current.measured(disk::free_bytes(lock.directory()));
        if !current.wants_recovery() {
            pauses.well(Instant::now());
            continue;
        }
        if !pauses.is_over(Instant::now()) {
            continue;
        }
        match recover(current, lock, settings, report) {
            Ok(()) => {
                told = None;
                pauses.recovered(Instant::now());
            }
            Err(error) => {
                let reason = error.to_string();
                if told.as_ref() != Some(&reason) {
                    tracing::warn!(%reason, "the store could not recover yet, and will try again");
                    told = Some(reason);
                }
                pauses.failed(Instant::now());
            }
        }
    }
}

fn recover(
    current: &Current,
    lock: &FolderLock,
    settings: &Settings,
    report: &Arc<Report>,
) -> Result<(), Error> {
    if let Some(shortage) = current.shortage() {
        return Err(Error::Unavailable(shortage));
    }
    #[cfg(test)]
    let probed = current
        .faults
        .probe()
        .and_then(|()| disk::probe(lock.directory()));
    #[cfg(not(test))]
    let probed = disk::probe(lock.directory());
    probed.map_err(|error| {
        Error::Unavailable(format!(
            "cannot write to {}: {error}",
            lock.directory().display()
        ))
    })?;
    if let Some(folder) = current.take()? {
        match wait_for_holders(current, folder) {
            Ok(folder) => drop(folder),
            Err(folder) => {
                current.put_back(folder);
                return Err(Error::Unavailable(
                    "snapshots are held, so that the folder cannot be opened again".to_owned(),
                ));
            }
        }
    }
    let opened = Folder::open(lock.clone(), settings, Arc::clone(report));
    opened
        .and_then(|folder| current.resume(folder))
        .inspect_err(|error| current.missing(error.clone()))
}

/// The folder when nobody else holds it, or as it was when that takes too long.
fn wait_for_holders(current: &Current, mut folder: Arc<Folder>) -> Result<Folder, Arc<Folder>> {
    let deadline = Instant::now() + SNAPSHOTS_WAIT_MAX;
    loop {
        folder = match Arc::try_unwrap(folder) {
            Ok(folder) => return Ok(folder),
            Err(held) => held,
        };
        if Instant::now() >= deadline || !current.rest(SNAPSHOTS_WAIT_STEP) {
            return Err(folder);
        }
    }
}

/// When it is tried again.
struct Pauses {
    first: Duration,
    next: Duration,
    until: Option<Instant>,
    recovered: Option<Instant>,
}

impl Pauses {
    fn new(first: Duration) -> Self {
        Self {
            first,
            next: first,
            until: None,
            recovered: None,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    fn failed(&mut self, now: Instant) {
        self.until = Some(now + self.next);
        self.next = self.next.saturating_mul(2).min(TRY_PAUSE_MAX);
    }

    /// The next failure may come at once: it is not tried again too soon either.
    fn recovered(&mut self, now: Instant) {
        self.recovered = Some(now);
        self.failed(now);
    }

    fn well(&mut self, now: Instant) {
        if self
            .recovered
            .is_some_and(|recovered| now.duration_since(recovered) >= STEADY_AFTER)
        {
            *self = Self::new(self.first);
        }
    }
}

#[cfg(test)]
mod tests;
