//! Work that runs beside the dispatcher because somebody waits for what it brings.
//!
//! Whoever waits owns the `Job`; when that is dropped (the target was removed, the stream has gone, the
//! result is read anew) the work ends. So work that nobody wants cannot pile up, however fast a caller
//! adds targets and removes them.

use tokio::task::AbortHandle;

/// Ends its work when it is dropped. Work that has ended already is not affected.
#[derive(Debug)]
pub struct Job(AbortHandle);

impl Job {
    pub fn new(work: AbortHandle) -> Self {
        Self(work)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.0.abort();
    }
}
