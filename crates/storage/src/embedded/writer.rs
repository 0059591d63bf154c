//! The writer: the one thread that writes batches, in groups, with one flush for each group.
//!
//! It takes what waits in its queue, of all databases, compares each batch with its database's head as the group so far would leave it, and writes all that fit as one batch of the engine.
//! Only after the flush does it move the heads and answer, so what is answered is durable.
//!
//! # Poison
//!
//! When a write fails, it is not known what is on disk.
//! The whole group is answered with `Poisoned`, and so is everything after it, until the folder is opened again and recovered from its log.
//!
//! # Limits
//!
//! The queue holds [`QUEUE_BATCHES_MAX`] batches; who comes later waits.
//! A group ends at [`GROUP_BATCHES_MAX`] batches or once it has [`GROUP_BYTES_MAX`] bytes, and a larger single batch goes alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

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

/// Where groups are written: the folder, or something that fails in tests.
pub(crate) trait Sink {
    /// Writes all or nothing, durably.
    fn write(&self, batch: WriteBatch) -> Result<(), Error>;
}

/// One database's head, moved by the writer alone.
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
}

/// A batch on its way.
pub(crate) struct Job {
    pub(crate) head: Arc<Head>,
    pub(crate) expected_head: Version,
    pub(crate) batch: Batch,
    pub(crate) answer: oneshot::Sender<Result<Applied, Error>>,
}

/// Why no more is written; set once.
#[derive(Debug, Default)]
pub(crate) struct Poison(OnceLock<String>);

impl Poison {
    /// Stops all writing from now on. The first reason stays.
    pub(crate) fn set(&self, error: &Error) -> Error {
        let reason = self.0.get_or_init(|| {
            tracing::error!(%error, "a write failed, the store takes no more writes until it is opened again");
            error.to_string()
        });
        Error::Poisoned(reason.clone())
    }

    /// An error if writing has stopped.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.0
            .get()
            .map_or(Ok(()), |reason| Err(Error::Poisoned(reason.clone())))
    }
}

/// Writes until the queue is closed and empty.
pub(crate) fn run(sink: &impl Sink, poison: &Poison, mut queue: mpsc::Receiver<Job>) {
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
        write_group(sink, poison, group);
    }
}

fn write_group(sink: &impl Sink, poison: &Poison, group: Vec<Job>) {
    let mut batch = WriteBatch::default();
    let mut heads: BTreeMap<u32, (Arc<Head>, Version)> = BTreeMap::new();
    let mut answers = Vec::with_capacity(group.len());
    for job in group {
        let (_, head) = heads.entry(job.head.id).or_insert_with(|| {
            let version = Version(job.head.version.load(Ordering::Acquire));
            (Arc::clone(&job.head), version)
        });
        if *head == job.expected_head {
            *head = job.batch.version;
            stage(&mut batch, job.head.id, &job.batch);
            answers.push((job.answer, Applied::Applied));
        } else {
            // It may have been moved within this group, so this too is answered after the flush.
            answers.push((job.answer, Applied::HeadMoved(*head)));
        }
    }
    let written = poison.check().and_then(|()| {
        if batch.is_empty() {
            Ok(())
        } else {
            sink.write(batch).map_err(|error| poison.set(&error))
        }
    });
    if written.is_ok() {
        for (head, version) in heads.into_values() {
            head.version.store(version.0, Ordering::Release);
        }
    }
    for (answer, applied) in answers {
        // Nobody listens when the caller has given up.
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
