//! The writer: the one thread that writes batches, in groups, with one flush for each group.
//!
//! It takes what waits in its queue, of all databases, compares each batch with its database's head as the group so far would leave it, and writes all that fit as one batch of the engine.
//! Only after the flush does it move the heads and answer, so what is answered is durable.
//!
//! # Poison
//!
//! When a write fails, it is not known what is on disk.
//! The whole group is answered with `Poisoned`, and so is everything after it, until the folder was opened again and recovered from its log.
//!
//! Invariant: a group holds what it writes to from before it looks at the heads until it has moved them.
//! The folder is only opened again when nobody holds it, and heads are read anew before anybody can hold the new one: so no group compares with the heads of one and writes to the other.
//!
//! # Limits
//!
//! The queue holds [`QUEUE_BATCHES_MAX`] batches; who comes later waits.
//! A group ends at [`GROUP_BATCHES_MAX`] batches or once it has [`GROUP_BYTES_MAX`] bytes, and a larger single batch goes alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::WriteBatch;
use tokio::sync::{mpsc, oneshot};

use crate::batch::{Batch, Operation};
use crate::embedded::folder::{data_key, encode_head, head_key};
use crate::error::Error;
use crate::store::Applied;
use crate::version::Version;

/// Batches that may wait for the writer.
pub const QUEUE_BATCHES_MAX: usize = 1024;

/// Batches that share one flush.
pub const GROUP_BATCHES_MAX: usize = 256;

/// Bytes of keys and values after which a group takes no more batches.
pub const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where groups are written: the folder as it is open just now, or something that fails in tests.
pub(crate) trait Sink {
    /// What is written to, and is not replaced while it is held.
    type Held;

    /// Takes hold of it; fails while nothing is to be written.
    fn hold(&self) -> Result<Self::Held, Error>;

    /// Writes all or nothing, durably. After a failure `hold` fails, until it is known what was written.
    fn write(&self, held: &Self::Held, batch: WriteBatch) -> Result<(), Error>;
}

/// One database's head, moved by the writer, and read again by whoever opens the folder again.
#[derive(Debug)]
pub(crate) struct Head {
    id: u32,
    version: AtomicU64,
}

impl Head {
    /// The head of the database with this number, as found on disk.
    pub(crate) fn new(id: u32, version: Version) -> Self {
        Self {
            id,
            version: AtomicU64::new(version.0),
        }
    }

    /// The database's number.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// The newest batch that was written.
    pub(crate) fn version(&self) -> Version {
        Version(self.version.load(Ordering::Acquire))
    }

    /// Moves it.
    pub(crate) fn set(&self, version: Version) {
        self.version.store(version.0, Ordering::Release);
    }
}

/// A batch on its way.
pub(crate) struct Job {
    pub(crate) head: Arc<Head>,
    pub(crate) expected_head: Version,
    pub(crate) batch: Batch,
    pub(crate) answer: oneshot::Sender<Result<Applied, Error>>,
}

/// Writes until the queue is closed and empty.
pub(crate) fn run(sink: &impl Sink, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let mut bytes = first.batch.size();
        let mut group = vec![first];
        while group.len() < GROUP_BATCHES_MAX
            && bytes < GROUP_BYTES_MAX
            && let Ok(job) = queue.try_recv()
        {
            bytes = bytes.saturating_add(job.batch.size());
            group.push(job);
        }
        write_group(sink, group);
    }
}

fn write_group(sink: &impl Sink, group: Vec<Job>) {
    let held = match sink.hold() {
        Ok(held) => held,
        Err(error) => {
            for job in group {
                // Nobody listens when the caller has given up.
                let _ = job.answer.send(Err(error.clone()));
            }
            return;
        }
    };
    let mut batch = WriteBatch::default();
    let mut heads: BTreeMap<u32, (Arc<Head>, Version)> = BTreeMap::new();
    let mut answers = Vec::with_capacity(group.len());
    for job in group {
        let (_, head) = heads
            .entry(job.head.id)
            .or_insert_with(|| (Arc::clone(&job.head), job.head.version()));
        if *head == job.expected_head {
            *head = job.batch.version;
            stage(&mut batch, job.head.id, &job.batch);
            answers.push((job.answer, Applied::Applied));
        } else {
            // It may have been moved within this group, so this too is answered after the flush.
            answers.push((job.answer, Applied::HeadMoved(*head)));
        }
    }
    let written = if batch.is_empty() {
        Ok(())
    } else {
        sink.write(&held, batch)
    };
    if written.is_ok() {
        for (head, version) in heads.into_values() {
            head.set(version);
        }
    }
    drop(held);
    for (answer, applied) in answers {
        // As above.
        let _ = answer.send(written.clone().map(|()| applied));
    }
}

fn stage(written: &mut WriteBatch, id: u32, batch: &Batch) {
    for operation in &batch.operations {
        match operation {
            Operation::Put { key, value } => written.put(data_key(id, key), value),
            Operation::Delete { key } => written.delete(data_key(id, key)),
        }
    }
    written.put(head_key(id), encode_head(batch.version));
}

#[cfg(test)]
mod tests;
