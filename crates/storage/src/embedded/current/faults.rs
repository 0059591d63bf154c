//! Failures of the disk that tests ask for, at the two places where the disk is met.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::WriteBatch;

use crate::error::Error;

/// What is to fail.
#[derive(Default)]
pub(crate) struct Faults {
    /// The next write fails; whether its bytes are on the disk all the same.
    next_write: Mutex<Option<bool>>,
    /// What such a write has put into the log, where the open engine does not look.
    kept: Mutex<Option<WriteBatch>>,
    /// The disk takes nothing, as `recovery` finds when it tries.
    pub(crate) disk_refuses: AtomicBool,
}

impl Faults {
    /// The next write fails.
    pub(crate) fn fail_next_write(&self, kept: bool) {
        *self
            .next_write
            .lock()
            .expect("no test panics while it asks for a failure") = Some(kept);
    }

    pub(crate) fn write(
        &self,
        batch: WriteBatch,
        write: impl FnOnce(WriteBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self
            .next_write
            .lock()
            .expect("no test panics while it asks for a failure")
            .take()
        {
            None => write(batch),
            Some(kept) => {
                *self
                    .kept
                    .lock()
                    .expect("no test panics while it asks for a failure") = kept.then_some(batch);
                Err(Error::Unavailable("no space left on purpose".to_owned()))
            }
        }
    }

    /// What the next engine finds in the log.
    pub(crate) fn found(&self) -> Option<WriteBatch> {
        self.kept
            .lock()
            .expect("no test panics while it asks for a failure")
            .take()
    }

    pub(crate) fn probe(&self) -> std::io::Result<()> {
        if self.disk_refuses.load(Ordering::Acquire) {
            return Err(std::io::Error::other("the disk refuses on purpose"));
        }
        Ok(())
    }
}
