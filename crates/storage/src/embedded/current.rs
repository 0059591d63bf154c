//! `Current`: the folder as it is open just now, and whether it may be read or written.
//!
//! Everybody who reads or writes asks here for the folder, and holds it while they use it.
//! It opens nothing itself: `recovery` takes the folder out and puts another in.
//!
//! # Transitions
//!
//! *open* to *failed* by `fail`, when a write did not succeed: no more is written, reads go on from the same engine, which shows nothing that was not flushed.
//! *failed* to *taken* by `take`: nothing is read either, and who holds the folder is waited for.
//! *taken* to *failed* by `put_back`, when they do not let go.
//! *taken* to *open* by `resume`, with the folder opened again, and to *missing* by `missing`, when it could not be.
//! *missing* to *taken* by `take`, unless it is damaged.
//! Beside all these, a disk that is nearly full refuses writes (`measured`), and `close` ends everything.
//!
//! Invariant: while somebody holds the folder, the heads are those of the folder that they hold.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rocksdb::WriteBatch;

use crate::condition::State;
use crate::embedded::disk::{Headroom, Load, free_bytes};
use crate::embedded::folder::{Folder, Settings};
use crate::embedded::report::Report;
use crate::embedded::writer::{Head, Sink};
use crate::error::Error;

/// Bytes of batches after which it is measured how much of the disk is free, however little time has passed. Log and
/// tables take several times as much, which has to fit into what is kept free.
const MEASURE_BYTES: usize = 4 << 20;

/// See the module.
pub(crate) struct Current {
    directory: PathBuf,
    report: Arc<Report>,
    inner: Mutex<Inner>,
    /// Notified by `close`.
    closed: Condvar,
    #[cfg(test)]
    pub(crate) faults: faults::Faults,
}

struct Inner {
    place: Place,
    closed: bool,
    /// Why nothing is written: the first failure since the folder was opened.
    failure: Option<String>,
    /// Whether the writer has panicked: nothing will be written until the next start.
    writer_is_gone: bool,
    headroom: Headroom,
    /// Bytes of batches since it was measured how much is free.
    unmeasured_bytes: usize,
    /// Of every database that was asked for. At most as many as a folder has databases.
    heads: Vec<Arc<Head>>,
}

enum Place {
    Open(Arc<Folder>),
    Taken,
    Missing(Error),
    /// Closed.
    Gone,
}

impl Current {
    /// With the folder open, and how much of the disk is free.
    pub(crate) fn new(
        folder: Folder,
        settings: &Settings,
        report: Arc<Report>,
        free_bytes: Option<u64>,
    ) -> Self {
        let directory = folder.directory().to_owned();
        let inner = Inner {
            place: Place::Open(Arc::new(folder)),
            closed: false,
            failure: None,
            writer_is_gone: false,
            headroom: Headroom::new(settings.free_bytes_min),
            unmeasured_bytes: 0,
            heads: Vec::new(),
        };
        let current = Self {
            directory,
            report,
            inner: Mutex::new(inner),
            closed: Condvar::new(),
            #[cfg(test)]
            faults: faults::Faults::default(),
        };
        current.measured(free_bytes);
        current
    }

    /// The folder, to read from it.
    pub(crate) fn readable(&self) -> Result<Arc<Folder>, Error> {
        let inner = self.inner();
        inner.check_open()?;
        inner.folder()
    }

    /// Whether such a batch, of so many bytes, may be given to the writer. Who writes fast must not be faster than what
    /// measures the disk once in a while, so that it is measured here too, every `MEASURE_BYTES`.
    pub(crate) fn admit(&self, load: Load, bytes: usize) -> Result<(), Error> {
        let mut inner = self.inner();
        inner.unmeasured_bytes = inner.unmeasured_bytes.saturating_add(bytes);
        if inner.unmeasured_bytes > MEASURE_BYTES {
            drop(inner);
            self.measured(free_bytes(&self.directory));
            inner = self.inner();
        }
        inner.check_open()?;
        inner.check_failure()?;
        inner.folder()?;
        match inner.headroom.refusal(load, &self.directory) {
            Some(reason) => Err(Error::Unavailable(reason)),
            None => Ok(()),
        }
    }

    /// Whether it was closed.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        self.inner().check_open()
    }

    /// Whether a write has failed since the folder was opened, so that it must be opened again.
    pub(crate) fn wants_recovery(&self) -> bool {
        let inner = self.inner();
        let repairable = !matches!(
            &inner.place,
            Place::Missing(Error::Corrupt(_)) | Place::Gone
        );
        inner.failure.is_some() && repairable && !inner.writer_is_gone
    }

    /// Why a disk that is nearly full refuses writes, if it does.
    pub(crate) fn shortage(&self) -> Option<String> {
        self.inner().headroom.shortage(&self.directory)
    }

    /// A write has failed: nothing is written from now on. Gives the answer to it, with the first reason.
    pub(crate) fn fail(&self, error: &Error) -> Error {
        let mut inner = self.inner();
        let reason = inner
            .failure
            .get_or_insert_with(|| match error {
                Error::Unavailable(text) | Error::Corrupt(text) => text.clone(),
                Error::Poisoned(_) | Error::Locked(_) | Error::Closed => error.to_string(),
            })
            .clone();
        self.publish(&inner);
        Error::Poisoned(reason)
    }

    /// The writer has ended though it was not told to, which is a bug: only a restart helps.
    pub(crate) fn writer_is_gone(&self) -> Error {
        self.inner().writer_is_gone = true;
        self.fail(&Error::Unavailable("the writer is gone".to_owned()))
    }

    /// Takes it for a failed write when the engine could not write its tables, so that the folder is opened again
    /// before a caller is refused for it.
    pub(crate) fn check_engine(&self) {
        let held = self.inner().folder();
        let errors = held.map_or(0, |folder| folder.background_errors());
        if errors > 0 {
            // The answer is for callers, and there is none.
            let _ = self.fail(&Error::Unavailable(format!(
                "tables could not be written or compacted; the file LOG in {} says why",
                self.directory.display()
            )));
        }
    }

    /// So much of the disk is free.
    pub(crate) fn measured(&self, free_bytes: Option<u64>) {
        let mut inner = self.inner();
        inner.headroom.measured(free_bytes);
        inner.unmeasured_bytes = 0;
        self.report.free_bytes(free_bytes);
        self.publish(&inner);
    }

    /// A head that is to be read anew whenever the folder was opened again. Whoever adds it holds the folder in
    /// which it found the head.
    pub(crate) fn add_head(&self, head: Arc<Head>) {
        self.inner().heads.push(head);
    }

    /// Takes the folder away, so that it can be opened again; none if it is not open. Fails when all is closed.
    pub(crate) fn take(&self) -> Result<Option<Arc<Folder>>, Error> {
        let mut inner = self.inner();
        inner.check_open()?;
        let taken = match std::mem::replace(&mut inner.place, Place::Taken) {
            Place::Open(folder) => Some(folder),
            Place::Taken | Place::Missing(_) | Place::Gone => None,
        };
        self.publish(&inner);
        Ok(taken)
    }

    /// Gives back what was taken.
    pub(crate) fn put_back(&self, folder: Arc<Folder>) {
        let mut inner = self.inner();
        if !inner.closed {
            inner.place = Place::Open(folder);
            self.publish(&inner);
        }
    }

    /// The folder could not be opened again.
    pub(crate) fn missing(&self, error: Error) {
        let mut inner = self.inner();
        if !inner.closed {
            inner.place = Place::Missing(error);
            self.publish(&inner);
        }
    }

    /// Serves from the folder, which was opened again, with the heads that are in it.
    ///
    /// Fails with `Corrupt`, and leaves everything as it is, when a head is older than what was acknowledged.
    pub(crate) fn resume(&self, folder: Folder) -> Result<(), Error> {
        #[cfg(test)]
        if let Some(batch) = self.faults.found() {
            folder.write(batch)?;
        }
        // Nobody can add one meanwhile, since nobody holds a folder.
        let heads = self.inner().heads.clone();
        let mut found = Vec::with_capacity(heads.len());
        for head in heads {
            let version = folder.head(head.id())?;
            if version < head.version() {
                return Err(Error::Corrupt(format!(
                    "the folder {} has lost commits: database number {} was at version {} and is at {}",
                    self.directory.display(),
                    head.id(),
                    head.version().0,
                    version.0
                )));
            }
            found.push((head, version));
        }
        let mut inner = self.inner();
        if inner.closed {
            return Ok(());
        }
        for (head, version) in found {
            head.set(version);
        }
        inner.place = Place::Open(Arc::new(folder));
        inner.failure = None;
        self.publish(&inner);
        Ok(())
    }

    /// Refuses all callers from now on, but not the writer, which has batches left to write.
    pub(crate) fn close(&self) {
        self.inner().closed = true;
        self.closed.notify_all();
    }

    /// The folder, away from everybody, if it is there, and whether all that was written to it succeeded.
    pub(crate) fn remove(&self) -> (Option<Arc<Folder>>, bool) {
        let mut inner = self.inner();
        let folder = match std::mem::replace(&mut inner.place, Place::Gone) {
            Place::Open(folder) => Some(folder),
            Place::Taken | Place::Missing(_) | Place::Gone => None,
        };
        (folder, inner.failure.is_none())
    }

    /// Waits so long, or until it is closed. Whether it is still open then.
    pub(crate) fn rest(&self, pause: Duration) -> bool {
        let inner = self.inner();
        let waited = self
            .closed
            .wait_timeout_while(inner, pause, |inner| !inner.closed);
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !inner.closed
    }

    fn publish(&self, inner: &Inner) {
        let state = match (&inner.place, &inner.failure) {
            (Place::Gone, _) => return,
            (Place::Missing(Error::Corrupt(reason)), _) => State::Failed(reason.clone()),
            (Place::Missing(error), _) => State::Recovering(error.to_string()),
            (Place::Taken, failure) => State::Recovering(failure.clone().unwrap_or_default()),
            (Place::Open(_), Some(failure)) => State::Refusing(failure.clone()),
            (Place::Open(_), None) => match inner.headroom.shortage(&self.directory) {
                Some(reason) => State::Refusing(reason),
                None => State::Up,
            },
        };
        self.report.state(&state);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // No panic can leave it half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn check_open(&self) -> Result<(), Error> {
        if self.closed {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    fn check_failure(&self) -> Result<(), Error> {
        match &self.failure {
            Some(reason) => Err(Error::Poisoned(reason.clone())),
            None => Ok(()),
        }
    }

    fn folder(&self) -> Result<Arc<Folder>, Error> {
        match &self.place {
            Place::Open(folder) => Ok(Arc::clone(folder)),
            Place::Taken => Err(Error::Unavailable(format!(
                "the folder is being opened again since a write failed: {}",
                self.failure.as_deref().unwrap_or_default()
            ))),
            Place::Missing(error) => Err(error.clone()),
            Place::Gone => Err(Error::Closed),
        }
    }
}

impl Sink for Current {
    type Held = Arc<Folder>;

    fn hold(&self) -> Result<Arc<Folder>, Error> {
        let inner = self.inner();
        inner.check_failure()?;
        inner.folder()
    }

    fn write(&self, held: &Arc<Folder>, batch: WriteBatch) -> Result<(), Error> {
        #[cfg(test)]
        let result = self.faults.write(batch, |batch| held.write(batch));
        #[cfg(not(test))]
        let result = held.write(batch);
        result.map_err(|error| self.fail(&error))
    }
}

#[cfg(test)]
pub(crate) mod faults;
