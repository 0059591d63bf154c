//! What every part of a running query shares: the snapshot that it reads, and how long it may take.
//!
//! Stores may read on the thread of the caller. So whoever reads much pauses now and then for other tasks: however
//! long a query is, it holds up nobody, and it ends when its caller stops waiting.

use std::sync::Arc;
use std::time::Duration;

use watchfire_model::{Clock, Timestamp};
use watchfire_storage::Snapshot;

use crate::error::Error;

/// How long one query may run, the time in which its caller takes nothing included.
pub const QUERY_TIME_MAX: Duration = Duration::from_secs(60);

/// Units of work (about one entry each) between two pauses.
const WORK_MAX: usize = 2_048;

/// A snapshot, and until when it may be read.
#[derive(Clone)]
pub struct Reading {
    pub snapshot: Arc<dyn Snapshot>,
    clock: Arc<dyn Clock>,
    begun: Timestamp,
}

impl Reading {
    /// Time runs from now on.
    pub fn new(snapshot: Arc<dyn Snapshot>, clock: Arc<dyn Clock>) -> Self {
        let begun = clock.now();
        Self {
            snapshot,
            clock,
            begun,
        }
    }

    /// Fails with `DeadlineExceeded` when the time is up.
    pub fn check(&self) -> Result<(), Error> {
        let passed = i128::from(self.clock.now().micros()) - i128::from(self.begun.micros());
        if passed > QUERY_TIME_MAX.as_micros().cast_signed() {
            return Err(Error::DeadlineExceeded(format!(
                "the query took longer than {} seconds; ask for less with a limit, page by page with cursors, or in an order that an index serves",
                QUERY_TIME_MAX.as_secs()
            )));
        }
        Ok(())
    }

    /// Lets other tasks run, then looks at the time.
    pub async fn pause(&self) -> Result<(), Error> {
        tokio::task::yield_now().await;
        self.check()
    }
}

/// Work since the last pause.
#[derive(Debug, Default)]
pub struct Work(usize);

impl Work {
    /// Pauses when enough was done.
    pub async fn add(&mut self, units: usize, reading: &Reading) -> Result<(), Error> {
        self.0 = self.0.saturating_add(units);
        if self.0 >= WORK_MAX {
            self.0 = 0;
            reading.pause().await?;
        }
        Ok(())
    }
}
