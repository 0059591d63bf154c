//! What queries may hold in memory, in the whole process, while they run and until they are read.
//!
//! An answer is complete before its first document goes out, and goes out as fast as the caller reads.
//! One answer is bounded by the engine; many callers at once, and those who read slowly, are bounded here.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use watchfire_model::Document;

use crate::error::Error;

/// Queries that run at the same time; further ones wait for their turn. Running never waits for a reader.
const RUNNING_MAX: usize = 16;

/// Memory of all unread answers together, in KiB. A query whose answer does not fit any more is refused
/// with `ResourceExhausted`, which clients answer by trying again later.
pub const UNREAD_KIB_MAX: usize = 1 << 20;

/// The room that is left. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Answers {
    running: Arc<Semaphore>,
    unread_kib: Arc<Semaphore>,
}

impl Answers {
    pub fn new(kib_max: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(RUNNING_MAX)),
            unread_kib: Arc::new(Semaphore::new(kib_max)),
        }
    }

    /// Waits until a query may run; it runs until the permit is dropped.
    pub async fn turn(&self) -> OwnedSemaphorePermit {
        let turn = self.running.clone().acquire_owned().await;
        turn.expect("nobody closes this semaphore")
    }

    /// Takes room for the documents until the answer is dropped.
    pub fn hold(&self, documents: &[Arc<Document>]) -> Result<OwnedSemaphorePermit, Error> {
        let memory: usize = documents.iter().map(|document| document.memory()).sum();
        let kib = u32::try_from(memory >> 10).unwrap_or(u32::MAX);
        let room = self.unread_kib.clone();
        room.try_acquire_many_owned(kib).map_err(|_| {
            let text = "too many large answers wait to be read; try again later";
            Error::Engine(watchfire_engine::Error::ResourceExhausted(text.to_owned()))
        })
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self::new(UNREAD_KIB_MAX)
    }
}

#[cfg(test)]
mod tests {
    use watchfire_model::{DocumentPath, Fields, Timestamp, Value};

    use super::*;

    #[test]
    fn answers_that_do_not_fit_are_refused_until_others_are_read() {
        let answers = Answers::new(9);
        let time = Timestamp::from_micros(1).unwrap();
        let large = [Arc::new(Document {
            path: DocumentPath::parse("c/a").unwrap(),
            create_time: time,
            update_time: time,
            fields: Fields::from([("a".to_owned(), Value::Bytes(vec![0; 6_000]))]),
        })];
        let held = answers.hold(&large).unwrap();
        let refused = answers.clone().hold(&large);
        assert!(matches!(
            refused,
            Err(Error::Engine(watchfire_engine::Error::ResourceExhausted(_)))
        ));
        // Small answers still pass.
        drop(answers.hold(&[]).unwrap());
        drop(held);
        drop(answers.hold(&large).unwrap());
    }
}
