//! The handle of one database.

use std::sync::Arc;

use tokio::sync::watch;
use watchfire_model::{Change, Clock, DatabaseName, Timestamp, Write, WriteOutcome};
use watchfire_storage::{Store, Version};

use crate::{Error, TransactionId, TransactionOptions, View};

/// One database, open. Cheap to clone. The committer task lives until `close`.
#[derive(Clone)]
pub struct Engine {}

/// From where a commit starts.
#[derive(Clone, Debug)]
pub enum Start {
    /// No transaction: a blind commit, staged again by the committer when it loses a race.
    Now,
    /// A transaction; committing ends it.
    Transaction(TransactionId),
}

/// Writes that were checked and applied against a version, waiting for the committer.
pub struct Staged {}

/// What a commit came to.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub version: Version,
    pub commit_time: Timestamp,
    /// One for each write, in order.
    pub outcomes: Vec<WriteOutcome>,
}

/// One commit as it is kept in the changelog.
#[derive(Clone, Debug)]
pub struct CommitEntry {
    pub version: Version,
    pub changes: Vec<Change>,
}

/// Answer to "what happened after V".
#[derive(Clone, Debug)]
pub enum EntriesSince {
    /// Every commit after V up to the bound asked for, in order, and the version up to which they are complete
    /// (below the tail when the bound cut them short).
    Entries { entries: Vec<Arc<CommitEntry>>, complete_to: Version },
    /// The changelog no longer reaches back to V.
    TooOld,
}

impl Engine {
    /// Opens the database on the store, recovers the tail and starts the committer. Needs a Tokio runtime.
    pub async fn open(database: DatabaseName, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let _ = (database, store, clock);
        unimplemented!()
    }
    pub fn database(&self) -> &DatabaseName {
        unimplemented!()
    }
    /// The present. Its version is at least that of every commit that was acknowledged before the call.
    /// Its read_time is the version of the tail: every later commit gets a higher one.
    pub async fn view(&self) -> Result<View, Error> {
        unimplemented!()
    }
    /// The past, within what is kept; a time after the tail but not after now is the present.
    pub async fn view_at(&self, read_time: Timestamp) -> Result<View, Error> {
        let _ = read_time;
        unimplemented!()
    }
    pub async fn begin(&self, options: TransactionOptions) -> Result<TransactionId, Error> {
        let _ = options;
        unimplemented!()
    }
    /// A view whose reads are recorded in the transaction.
    pub async fn transaction_view(&self, id: &TransactionId) -> Result<View, Error> {
        let _ = id;
        unimplemented!()
    }
    /// Ends a transaction; an unknown or ended one is no error.
    pub fn rollback(&self, id: &TransactionId) {
        let _ = id;
    }
    /// Loads, checks preconditions, applies.
    pub async fn stage(&self, writes: Vec<Write>, start: Start) -> Result<Staged, Error> {
        let _ = (writes, start);
        unimplemented!()
    }
    /// Durable when it returns.
    pub async fn commit(&self, staged: Staged) -> Result<Receipt, Error> {
        let _ = staged;
        unimplemented!()
    }
    /// The newest version; waiting on it is the only way to learn of commits. The idle tail also advances:
    /// `advance` moves it to now.
    pub fn tail(&self) -> watch::Receiver<Version> {
        unimplemented!()
    }
    /// Moves the tail to the present (monotone) when no commit is in flight, so that idle listeners get fresh read times:
    /// returns a version V <= now such that no commit at or below V can appear any more. Costs no IO.
    pub async fn settled_version(&self) -> Version {
        unimplemented!()
    }
    /// Every commit after `version`, at most `limit` of them: from the recent ring, else from the store.
    pub async fn entries_since(&self, version: Version, limit: usize) -> Result<EntriesSince, Error> {
        let _ = (version, limit);
        unimplemented!()
    }
    /// Finishes what is in flight, then closes the store.
    pub async fn close(&self) -> Result<(), Error> {
        unimplemented!()
    }
}
