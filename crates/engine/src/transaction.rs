//! Transactions: begin, what they read, expiry, rollback.
//!
//! A transaction keeps one snapshot for its life and writes down what was read from it; the committer checks that
//! against what was committed since. Nothing is locked. Transactions live in memory only: a restart ends them all.
//!
//! Ids are given by the engine and need no randomness: the version at which the engine was opened, a counter, and
//! check bytes that tell an ended transaction from an id that was never given.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use watchfire_model::{
    CollectionPath, DatabaseName, DocumentPath, Invalid, Parent, Query, Timestamp, limits,
};
use watchfire_storage::{Snapshot, Version};

use crate::error::Error;

/// How many transactions one database may have open. Past it `begin` is refused with `ResourceExhausted`.
pub const OPEN_TRANSACTIONS_MAX: usize = 10_000;
/// How many reads (documents, queries, listings) one transaction may record. Past it a read is refused with
/// `ResourceExhausted`.
pub const RECORDED_READS_MAX: usize = 50_000;
/// How many of the recorded reads may be queries: each of them is held against every change that was missed.
pub const RECORDED_QUERIES_MAX: usize = 1_000;
/// How many bytes the recorded queries may have together, as `Query::identity` writes them.
pub const RECORDED_QUERY_BYTES_MAX: usize = 16 << 20;
/// Expired transactions are looked for at most this often, in microseconds.
const SWEEP_MICROS: i64 = 10_000_000;

/// How a transaction deals with others.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum ConcurrencyMode {
    /// Checked at the commit.
    #[default]
    Optimistic,
    /// Accepted and run optimistically in this version.
    Pessimistic,
}

/// What `begin` is asked for.
#[derive(Clone, Debug)]
pub enum TransactionOptions {
    /// Reads at one version; cannot write.
    ReadOnly {
        /// The time to read at, `None` for the present.
        read_time: Option<Timestamp>,
    },
    /// Reads and one commit.
    ReadWrite {
        /// The transaction of which this one is another attempt. It is ended.
        retry: Option<TransactionId>,
        /// `None` is as the database's settings say.
        mode: Option<ConcurrencyMode>,
    },
}

/// What the protocol carries as `transaction` bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId(pub Vec<u8>);

/// What was read, for the check at the commit.
#[derive(Debug, Default)]
pub struct ReadSet {
    /// Point reads, found or not.
    pub documents: HashSet<DocumentPath>,
    /// Queries and aggregations. `add_query` adds to them.
    pub queries: Vec<Arc<Query>>,
    /// Bytes of all queries.
    query_bytes: usize,
    /// Listings of a collection, with the documents below missing ones or without.
    pub listings: HashSet<(CollectionPath, Missing)>,
    /// Listings of the collections below a parent.
    pub parents: HashSet<Parent>,
}

/// Whether a listing shows missing documents that have descendants.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Missing {
    /// They are listed.
    Shown,
    /// Only documents that exist are listed.
    Hidden,
}

impl ReadSet {
    /// Records a query.
    pub fn add_query(&mut self, query: &Query) {
        self.query_bytes = self.query_bytes.saturating_add(query.identity().len());
        self.queries.push(Arc::new(query.clone()));
    }

    fn check_bounds(&self) -> Result<(), Error> {
        if self.len() > RECORDED_READS_MAX {
            Err(Error::ResourceExhausted(format!(
                "a transaction may make at most {RECORDED_READS_MAX} reads"
            )))
        } else if self.queries.len() > RECORDED_QUERIES_MAX
            || self.query_bytes > RECORDED_QUERY_BYTES_MAX
        {
            Err(Error::ResourceExhausted(format!(
                "a transaction may run at most {RECORDED_QUERIES_MAX} queries of {RECORDED_QUERY_BYTES_MAX} bytes together"
            )))
        } else {
            Ok(())
        }
    }

    fn len(&self) -> usize {
        self.documents.len() + self.queries.len() + self.listings.len() + self.parents.len()
    }
}

/// What a transaction may do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// It cannot write, and its reads are not recorded.
    ReadOnly,
    /// Its reads are recorded.
    ReadWrite,
}

/// One open transaction.
pub struct Transaction {
    id: TransactionId,
    access: Access,
    snapshot: Arc<dyn Snapshot>,
    began: Timestamp,
    last_used: Mutex<Timestamp>,
    reads: Mutex<ReadSet>,
}

impl Transaction {
    /// Its id.
    pub fn id(&self) -> &TransactionId {
        &self.id
    }

    /// What it may do.
    pub fn access(&self) -> Access {
        self.access
    }

    /// What it reads from.
    pub fn snapshot(&self) -> &Arc<dyn Snapshot> {
        &self.snapshot
    }

    /// What was read so far.
    pub fn reads(&self) -> MutexGuard<'_, ReadSet> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records reads. Fails with `ResourceExhausted` past `RECORDED_READS_MAX`, `RECORDED_QUERIES_MAX` or
    /// `RECORDED_QUERY_BYTES_MAX`; from then on nothing is recorded any more.
    pub fn record(&self, read: impl FnOnce(&mut ReadSet)) -> Result<(), Error> {
        if self.access == Access::ReadOnly {
            return Ok(());
        }
        let mut reads = self.reads();
        reads.check_bounds()?;
        read(&mut reads);
        reads.check_bounds()
    }

    fn expired(&self, now: Timestamp) -> bool {
        let last_used = *self
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let since = |then: Timestamp| {
            u128::try_from(now.micros().saturating_sub(then.micros())).unwrap_or(0)
        };
        since(self.began) > limits::TRANSACTION_LIFETIME_MAX.as_micros()
            || since(last_used) > limits::TRANSACTION_IDLE_MAX.as_micros()
    }
}

/// The open transactions of one database.
pub struct Transactions {
    opened: Version,
    salt: u64,
    next: AtomicU64,
    open: Mutex<Open>,
}

struct Open {
    by_id: HashMap<TransactionId, Arc<Transaction>>,
    swept: Timestamp,
}

impl Transactions {
    /// None yet. `opened` must differ between two openings of the same database.
    pub fn new(database: &DatabaseName, opened: Version, now: Timestamp) -> Self {
        let open = Open {
            by_id: HashMap::new(),
            swept: now,
        };
        Self {
            opened,
            salt: fnv(FNV_START, database.to_string().as_bytes()),
            next: AtomicU64::new(1),
            open: Mutex::new(open),
        }
    }

    /// Opens one that reads from the snapshot.
    pub fn begin(
        &self,
        access: Access,
        snapshot: Arc<dyn Snapshot>,
        now: Timestamp,
    ) -> Result<TransactionId, Error> {
        let id = self.new_id();
        let transaction = Transaction {
            id: id.clone(),
            access,
            snapshot,
            began: now,
            last_used: Mutex::new(now),
            reads: Mutex::default(),
        };
        let mut open = self.open();
        if open.by_id.len() >= OPEN_TRANSACTIONS_MAX {
            open.sweep(now);
        }
        if open.by_id.len() >= OPEN_TRANSACTIONS_MAX {
            return Err(Error::ResourceExhausted(format!(
                "{OPEN_TRANSACTIONS_MAX} transactions are open on this database, which is the limit"
            )));
        }
        open.by_id.insert(id.clone(), Arc::new(transaction));
        Ok(id)
    }

    /// The open transaction with this id, which counts as used now.
    pub fn get(&self, id: &TransactionId, now: Timestamp) -> Result<Arc<Transaction>, Error> {
        self.check(id)?;
        let mut open = self.open();
        let transaction = open
            .by_id
            .get(id)
            .cloned()
            .ok_or(Error::TransactionExpired)?;
        if transaction.expired(now) {
            open.by_id.remove(id);
            return Err(Error::TransactionExpired);
        }
        *transaction
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = now;
        Ok(transaction)
    }

    /// Ends it; whether it was open.
    pub fn end(&self, id: &TransactionId) -> bool {
        self.open().by_id.remove(id).is_some()
    }

    /// Fails with `TransactionUnknown` for an id that was never given for this database.
    pub fn check(&self, id: &TransactionId) -> Result<(), Error> {
        let given = id.0.split_last_chunk::<8>().is_some_and(|(head, check)| {
            head.len() == 16 && *check == fnv(self.salt, head).to_be_bytes()
        });
        if given {
            Ok(())
        } else {
            Err(Error::TransactionUnknown)
        }
    }

    /// Ends those that expired, and with them their snapshots. Cheap when called often.
    pub fn sweep(&self, now: Timestamp) {
        let mut open = self.open();
        if now.micros().saturating_sub(open.swept.micros()) >= SWEEP_MICROS {
            open.sweep(now);
        }
    }

    fn new_id(&self) -> TransactionId {
        let counter = self.next.fetch_add(1, Ordering::Relaxed);
        let mut bytes = Vec::with_capacity(24);
        bytes.extend_from_slice(&self.opened.0.to_be_bytes());
        bytes.extend_from_slice(&counter.to_be_bytes());
        let check = fnv(self.salt, &bytes);
        bytes.extend_from_slice(&check.to_be_bytes());
        TransactionId(bytes)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn sweep(&mut self, now: Timestamp) {
        self.by_id
            .retain(|_, transaction| !transaction.expired(now));
        self.swept = now;
    }
}

/// The complaint about a write in a read-only transaction.
pub fn read_only_complaint() -> Error {
    Error::Invalid(Invalid::new(
        "Cannot modify entities in a read-only transaction.",
    ))
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: tells mistakes, not attackers. Who may use which transaction is decided above this crate.
fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
