//! The embedded engine: one folder on a local disk, any number of databases in it, one process at a time.
//!
//! # Parts
//!
//! `folder` holds the directory, its lock and the layout of keys; `wal` looks at the logs before they are opened; `writer` is the one thread that writes; `snapshot` reads; `current` knows the folder that is open and whether it may be used; `disk` and `recovery` look after the disk; `report` tells of it.
//! This file puts them together and is the only one that callers see.
//!
//! # Durable
//!
//! A batch is answered after the engine's log was flushed to disk; batches that wait at the same time, of whatever database, share one flush.
//! What can be read is on disk as well, because the engine shows a write only after its flush.
//! After a crash the log is read: what was never finished at its end is dropped, and any other damage refuses the folder, with the name of the file (`wal` says what cannot be told apart).
//! Damage in a table is found when it is read, by its checksum, and answered as `Corrupt` with the file's name.
//!
//! # Trouble with the disk
//!
//! When little of the disk is free, batches are refused with `Unavailable` before it is full; batches that delete and put hardly anything, as trimming does, are let through for longer.
//! A commit that deletes documents is refused like any other, because the changelog keeps what was deleted for a time: space is made by making the disk larger, or by waiting until the changelog is trimmed.
//! When a write or a flush fails, batches are refused with `Poisoned` and reads go on, until the folder was opened again, which happens by itself (`recovery`), without the handles noticing.
//! An engine that cannot write its tables makes the next batch fail, and so goes the same way.
//! A failed read is answered with the file's name, and logged once; how the folder stands is told by [`Embedded::condition`].
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

mod current;
mod disk;
pub mod folder;
mod recovery;
mod report;
mod snapshot;
mod wal;
pub mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use crate::batch::Batch;
use crate::condition::Condition;
use crate::embedded::current::Current;
use crate::embedded::disk::Load;
use crate::embedded::folder::{Folder, FolderLock, Numbered, Settings};
use crate::embedded::report::Report;
use crate::embedded::snapshot::EmbeddedSnapshot;
use crate::embedded::writer::{Head, Job, QUEUE_BATCHES_MAX};
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
    /// The writer, and the one that looks after the disk.
    threads: Mutex<Vec<JoinHandle<()>>>,
    report: Arc<Report>,
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
        let report = Arc::new(Report::new());
        let lock = FolderLock::take(directory)?;
        let folder = Folder::open(lock.clone(), settings, Arc::clone(&report))?;
        let free_bytes = disk::free_bytes(directory);
        let current = Arc::new(Current::new(
            folder,
            settings,
            Arc::clone(&report),
            free_bytes,
        ));
        let (sender, queue) = mpsc::channel(QUEUE_BATCHES_MAX);
        // Made first, so that threads which were started end if another cannot be.
        let shared = Arc::new(Shared {
            sender: Mutex::new(Some(sender)),
            current: Arc::clone(&current),
        });
        let writer = {
            let current = Arc::clone(&current);
            spawn("watchfire-writer", move || {
                writer::run(current.as_ref(), queue);
                flush_at_the_end(&current);
            })?
        };
        let recovery = {
            let (settings, report) = (*settings, Arc::clone(&report));
            spawn("watchfire-disk", move || {
                recovery::run(&current, &lock, &settings, &report);
            })?
        };
        Ok(Arc::new(Self {
            shared,
            databases: Mutex::default(),
            threads: Mutex::new(vec![writer, recovery]),
            report,
        }))
    }

    /// How the folder stands now, and its changes. The free bytes are brought up to date without a notice.
    pub fn condition(&self) -> watch::Receiver<Condition> {
        self.report.subscribe()
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
        let current = &self.shared.current;
        current.check_open()?;
        if let Some(database) = databases.get(name) {
            return Ok(Arc::clone(database) as Arc<dyn Store>);
        }
        // Held until the head is known to whoever opens the folder again.
        let folder = current.readable()?;
        let id = match folder.find_database(name)? {
            Numbered::Known(id) => id,
            Numbered::Free(id) => {
                current.admit(Load::Growth, name.len())?;
                folder
                    .add_database(name, id)
                    .map_err(|error| current.fail(&error))?;
                id
            }
        };
        let head = Arc::new(Head::new(id, folder.head(id)?));
        current.add_head(Arc::clone(&head));
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
        Ok(self
            .shared
            .current
            .readable()?
            .databases()?
            .into_keys()
            .collect())
    }

    /// Writes what waits, flushes, and refuses everything afterwards with `Closed`.
    ///
    /// The folder is free for others when this returns, unless snapshots are still held.
    /// A second call returns at once.
    pub async fn close(&self) -> Result<(), Error> {
        self.shared.end();
        let threads = std::mem::take(&mut *lock(&self.threads));
        let current = Arc::clone(&self.shared.current);
        blocking(move || {
            let mut panicked = false;
            for thread in threads {
                panicked |= thread.join().is_err();
            }
            // What a recovery under way had put back.
            drop(current.remove());
            if panicked {
                Err(Error::Poisoned("a thread of the store panicked".to_owned()))
            } else {
                Ok(())
            }
        })
        .await
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| Error::Unavailable(format!("cannot start the thread {name}: {error}")))
}

/// Puts everything into tables. Where that fails nothing is lost, since the log has it.
fn flush_at_the_end(current: &Current) {
    let (folder, wrote_all) = current.remove();
    if let Some(folder) = folder.filter(|_| wrote_all)
        && let Err(error) = folder.flush()
    {
        tracing::warn!(%error, "the store closes with data in its log only, so that the next start takes longer");
    }
}

/// What all handles of a folder share. When it is dropped the folder closes.
struct Shared {
    /// Taken away by `close`.
    sender: Mutex<Option<mpsc::Sender<Job>>>,
    current: Arc<Current>,
}

impl Shared {
    fn sender(&self) -> Result<mpsc::Sender<Job>, Error> {
        lock(&self.sender).clone().ok_or(Error::Closed)
    }

    fn end(&self) {
        self.current.close();
        // The writer ends when the last sender is gone.
        drop(lock(&self.sender).take());
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.end();
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
            self.shared.current.readable()?,
            self.head.id(),
        )?))
    }

    async fn apply(&self, expected_head: Version, batch: Batch) -> Result<Applied, Error> {
        assert!(batch.version > expected_head, "a batch must raise the head");
        self.check_open()?;
        let current = &self.shared.current;
        current.admit(Load::of(&batch.operations), batch.size())?;
        let (answer, answered) = oneshot::channel();
        let job = Job {
            head: Arc::clone(&self.head),
            expected_head,
            batch,
            answer,
        };
        let sender = self.shared.sender()?;
        // The writer ends only when the last sender is gone, so one that is gone earlier has panicked.
        sender
            .send(job)
            .await
            .map_err(|_| current.writer_is_gone())?;
        // The writer must not wait for us when the folder closes.
        drop(sender);
        answered
            .await
            .unwrap_or_else(|_| Err(current.writer_is_gone()))
    }

    async fn checkpoint(&self, directory: &Path) -> Result<(), Error> {
        self.check_open()?;
        let folder = self.shared.current.readable()?;
        let directory = directory.to_owned();
        blocking(move || folder.checkpoint(&directory)).await
    }

    async fn close(&self) -> Result<(), Error> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let current = &self.shared.current;
        // One that was closed was flushed before; one that takes nothing is not asked to flush. In either case the
        // log has what was acknowledged.
        match current
            .admit(Load::Relief, 0)
            .and_then(|()| current.readable())
        {
            Ok(folder) => blocking(move || folder.flush()).await,
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
