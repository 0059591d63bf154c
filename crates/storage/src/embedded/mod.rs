//! The embedded engine: one folder on a local disk, any number of databases in it, one process at a time.
//!
//! # Parts
//!
//! `folder` holds the directory, its lock and the layout of keys; `wal` looks at the logs before they are opened; `writer` is the one thread that writes; `snapshot` reads.
//! This file puts them together and is the only one that callers see.
//!
//! # Durable
//!
//! A batch is answered after the engine's log was flushed to disk; batches that wait at the same time, of whatever database, share one flush.
//! What can be read is on disk as well, because the engine shows a write only after its flush.
//! After a crash the log is read: what was never finished at its end is dropped, and any other damage refuses the folder, with the name of the file (`wal` says what cannot be told apart).
//! Damage in a table is found when it is read, by its checksum, and answered as `Corrupt` with the file's name.
//!
//! # Blocking
//!
//! Opening a folder and making a database block the thread for some milliseconds; reads block for as long as the disk takes.
//! Writing, checkpoints and closing wait without blocking.
//!
//! # What is not done
//!
//! Databases are never removed, names never reused, and damaged folders not repaired.
//! One disk that waits makes all databases of the folder wait.

pub mod folder;
mod snapshot;
mod wal;
pub mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use rocksdb::WriteBatch;
use tokio::sync::{mpsc, oneshot};

use crate::batch::Batch;
use crate::embedded::folder::{Folder, Numbered, Settings};
use crate::embedded::snapshot::EmbeddedSnapshot;
use crate::embedded::writer::{Head, Job, Poison, QUEUE_BATCHES_MAX, Sink};
use crate::error::Error;
use crate::store::{Applied, Snapshot, Store};
use crate::version::Version;

/// An open folder.
///
/// Dropped without `close`, it closes by itself in the background, and the folder may be held for a moment longer.
pub struct Embedded {
    shared: Arc<Shared>,
    /// One handle for each name, so that there is one head.
    databases: Mutex<BTreeMap<String, Arc<Database>>>,
    writer: Mutex<Option<JoinHandle<Result<(), Error>>>>,
}

impl Embedded {
    /// Opens the folder with the default settings, and makes it if there is none.
    ///
    /// Fails with `Locked` if another process (or this one) has it open, and with `Corrupt` if it is damaged.
    pub fn open(directory: &Path) -> Result<Arc<Self>, Error> {
        Self::open_with(directory, &Settings::default())
    }

    /// Opens the folder with these settings.
    pub fn open_with(directory: &Path, settings: &Settings) -> Result<Arc<Self>, Error> {
        let folder = Arc::new(Folder::open(directory, settings)?);
        let (sender, queue) = mpsc::channel(QUEUE_BATCHES_MAX);
        let poison = Arc::new(Poison::default());
        let writer = {
            let (folder, poison) = (Arc::clone(&folder), Arc::clone(&poison));
            std::thread::Builder::new()
                .name("watchfire-writer".to_owned())
                .spawn(move || {
                    writer::run(folder.as_ref(), &poison, queue);
                    folder.flush()
                })
                .map_err(|error| Error::Unavailable(format!("cannot start the writer: {error}")))?
        };
        let open = Mutex::new(Some(Open { folder, sender }));
        Ok(Arc::new(Self {
            shared: Arc::new(Shared { open, poison }),
            databases: Mutex::default(),
            writer: Mutex::new(Some(writer)),
        }))
    }

    /// Whether there is a folder with databases, open or not. Looks only, and makes nothing.
    pub fn is_folder(directory: &Path) -> bool {
        Folder::is_one(directory)
    }

    /// The database with this name, made if there is none; the same handle for the same name.
    ///
    /// The name has 1 to [`DATABASE_NAME_LEN_MAX`](folder::DATABASE_NAME_LEN_MAX) bytes.
    /// A handle that was closed stays closed until the folder is opened again.
    pub fn database(&self, name: &str) -> Result<Arc<dyn Store>, Error> {
        // Held throughout, so that two callers cannot number one name twice.
        let mut databases = lock(&self.databases);
        let folder = self.shared.folder()?;
        if let Some(database) = databases.get(name) {
            return Ok(Arc::clone(database) as Arc<dyn Store>);
        }
        self.shared.poison.check()?;
        let id = match folder.find_database(name)? {
            Numbered::Known(id) => id,
            Numbered::Free(id) => {
                folder
                    .add_database(name, id)
                    .map_err(|error| self.shared.poison.set(&error))?;
                id
            }
        };
        let head = Arc::new(Head::new(id, folder.head(id)?));
        let database = Arc::new(Database {
            shared: Arc::clone(&self.shared),
            head,
            closed: AtomicBool::new(false),
        });
        databases.insert(name.to_owned(), Arc::clone(&database));
        Ok(database)
    }

    /// The names of all databases in the folder, in order.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        Ok(self.shared.folder()?.databases()?.into_keys().collect())
    }

    /// Writes what waits, flushes, and refuses everything afterwards with `Closed`.
    ///
    /// The folder is free for others when this returns, unless snapshots are still held.
    /// A second call returns at once.
    pub async fn close(&self) -> Result<(), Error> {
        let open = lock(&self.shared.open).take();
        let writer = lock(&self.writer).take();
        blocking(move || {
            // The writer ends when the last sender is gone.
            let folder = open.map(|open| open.folder);
            let flushed = match writer.map(JoinHandle::join) {
                Some(Ok(flushed)) => flushed,
                Some(Err(_)) => Err(Error::Poisoned("the writer panicked".to_owned())),
                None => Ok(()),
            };
            drop(folder);
            flushed
        })
        .await
    }
}

/// What all handles of a folder share.
struct Shared {
    /// Taken away by `close`.
    open: Mutex<Option<Open>>,
    poison: Arc<Poison>,
}

struct Open {
    folder: Arc<Folder>,
    sender: mpsc::Sender<Job>,
}

impl Shared {
    fn folder(&self) -> Result<Arc<Folder>, Error> {
        lock(&self.open)
            .as_ref()
            .map(|open| Arc::clone(&open.folder))
            .ok_or(Error::Closed)
    }

    fn sender(&self) -> Result<mpsc::Sender<Job>, Error> {
        lock(&self.open)
            .as_ref()
            .map(|open| open.sender.clone())
            .ok_or(Error::Closed)
    }
}

impl Sink for Folder {
    fn write(&self, batch: WriteBatch) -> Result<(), Error> {
        Folder::write(self, batch)
    }
}

/// One database's part of the folder.
struct Database {
    shared: Arc<Shared>,
    head: Arc<Head>,
    closed: AtomicBool,
}

impl Database {
    fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::Acquire) {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl Store for Database {
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, Error> {
        self.check_open()?;
        Ok(Arc::new(EmbeddedSnapshot::take(
            self.shared.folder()?,
            self.head.id(),
        )?))
    }

    async fn apply(&self, expected_head: Version, batch: Batch) -> Result<Applied, Error> {
        assert!(batch.version > expected_head, "a batch must raise the head");
        self.check_open()?;
        self.shared.poison.check()?;
        let (answer, answered) = oneshot::channel();
        let job = Job {
            head: Arc::clone(&self.head),
            expected_head,
            batch,
            answer,
        };
        let sender = self.shared.sender()?;
        // The writer ends only when the last sender is gone, so one that is gone earlier has panicked.
        let writer_is_gone = || {
            self.shared
                .poison
                .set(&Error::Unavailable("the writer is gone".to_owned()))
        };
        sender.send(job).await.map_err(|_| writer_is_gone())?;
        // The writer must not wait for us when the folder closes.
        drop(sender);
        answered.await.unwrap_or_else(|_| Err(writer_is_gone()))
    }

    async fn checkpoint(&self, directory: &Path) -> Result<(), Error> {
        self.check_open()?;
        let folder = self.shared.folder()?;
        let directory = directory.to_owned();
        blocking(move || folder.checkpoint(&directory)).await
    }

    async fn close(&self) -> Result<(), Error> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        match self.shared.folder() {
            Ok(folder) => blocking(move || folder.flush()).await,
            // The folder was closed, and flushed, before.
            Err(_) => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks guard is never half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(Error::Unavailable(format!(
                "the work was not finished: {error}"
            )))
        })
}

#[cfg(test)]
mod tests;
