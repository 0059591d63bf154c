//! What queries may take at once, in the whole process.
//!
//! A query works in portions: it takes a turn, produces some documents, and gives the turn back before
//! they are sent, so that a slow reader holds up nobody. What it keeps meanwhile (the documents on their
//! way, those that it had to sort, its place in the store) is charged here until it is read or dropped.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// Queries that work at the same time; further ones wait for their turn.
const RUNNING_MAX: usize = 16;

/// Memory of everything that is charged together, in KiB. A query that does not fit any more is refused
/// with `ResourceExhausted`, which clients answer by trying again later.
pub const HELD_KIB_MAX: usize = 1 << 20;

/// What a query that is not done is charged beyond the documents, in bytes, for its place in the store.
/// It bounds how many answers can be open: 16,384.
pub const OPEN_BYTES: usize = 64 * 1024;

/// The room that is left. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Answers {
    running: Arc<Semaphore>,
    held_kib: Arc<Semaphore>,
}

impl Answers {
    pub fn new(kib_max: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(RUNNING_MAX)),
            held_kib: Arc::new(Semaphore::new(kib_max)),
        }
    }

    /// Waits until a query may work; it works until the permit is dropped.
    pub async fn turn(&self) -> OwnedSemaphorePermit {
        let turn = self.running.clone().acquire_owned().await;
        turn.expect("nobody closes this semaphore")
    }

    /// Takes room for this many bytes until the permit is dropped.
    pub fn hold(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        let room = self.held_kib.clone();
        room.try_acquire_many_owned(kib).map_err(|_| {
            let text = "too many answers wait to be read; try again later";
            Error::Engine(watchfire_engine::Error::ResourceExhausted(text.to_owned()))
        })
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self::new(HELD_KIB_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_do_not_fit_are_refused_until_others_are_read() {
        let answers = Answers::new(9);
        let held = answers.hold(6_000).unwrap();
        let refused = answers.clone().hold(6_000);
        assert!(matches!(
            refused,
            Err(Error::Engine(watchfire_engine::Error::ResourceExhausted(_)))
        ));
        // Small answers still pass.
        drop(answers.hold(3_000).unwrap());
        drop(held);
        drop(answers.hold(6_000).unwrap());
    }
}
