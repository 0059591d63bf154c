//! Transactions: begin, what they read, expiry, rollback.
//!
//! An **optimistic** transaction keeps one snapshot for its life and locks nothing. A **pessimistic** one locks what it
//! asks for (`lock`) and reads from a fresh snapshot each time: what it has read cannot change meanwhile, so that all its
//! reads are still true at the newest of its snapshots. An optimistic transaction that is begun as another attempt of one
//! that was aborted does the same, but its locks are a lease: without them it goes on at the last snapshot that it had
//! with them. Each writes down what was read at which version; the committer checks all of it against what was committed
//! since, whatever was locked.
//!
//! Another attempt of one that lost is as old as the first one, and the older goes first: that is why contention ends. For
//! this, attempts that lost are remembered for a while.
//!
//! Transactions live in memory only: a restart ends them all. Ids are given by the engine and need no randomness: the
//! version at which the engine was opened, a counter, and check bytes that tell an ended transaction from an id that was
//! never given.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use watchfire_model::{Clock, DatabaseName, DocumentPath, Invalid, Timestamp, limits};
use watchfire_storage::{Snapshot, Version};

use crate::error::Error;
use crate::lock::asked::{Asked, AskedSet};
use crate::lock::table::{Age, Manner, Standing, Tenure};
use crate::lock::{Begun, Claim, Locked, Locks};
use crate::settings::ConcurrencyMode;
use crate::transaction::attempts::{Attempts, FORESEEN_READS_MAX, Retried};

pub mod attempts;

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
/// The same while somebody waits for a lock.
const SWEEP_AWAITED_MICROS: i64 = 1_000_000;

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
        /// The transaction of which this one is another attempt. If it is still open, it loses its locks.
        retry: Option<TransactionId>,
        /// `None` is as the database's settings say.
        mode: Option<ConcurrencyMode>,
    },
}

/// What the protocol carries as `transaction` bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId(pub Vec<u8>);

/// What was read, for the check at the commit; each with the version at which it was read first.
#[derive(Debug, Default)]
pub struct ReadSet {
    /// Point reads, found or not.
    pub documents: HashMap<DocumentPath, Version>,
    /// Queries and listings.
    pub wide: HashMap<Asked, Version>,
    queries: usize,
    /// Bytes of all queries.
    query_bytes: usize,
}

impl ReadSet {
    /// Records what is about to be read at the version.
    pub fn add(&mut self, asked: &AskedSet, version: Version) {
        for asked in asked.iter() {
            let before = match asked {
                Asked::Document(path) => self.documents.entry(path).or_insert(version),
                other @ (Asked::Query(_) | Asked::Listing(_, _) | Asked::Parent(_)) => {
                    if let Asked::Query(query) = &other
                        && !self.wide.contains_key(&other)
                    {
                        self.queries += 1;
                        self.query_bytes = self.query_bytes.saturating_add(query.identity_len());
                    }
                    self.wide.entry(other).or_insert(version)
                }
            };
            // Two reads at the same time may be recorded in either order.
            *before = version.min(*before);
        }
    }

    /// All that was asked for.
    pub fn asked(&self) -> impl Iterator<Item = Asked> + '_ {
        let documents = self.documents.keys().cloned().map(Asked::Document);
        documents.chain(self.wide.keys().cloned())
    }

    /// The oldest and the newest version at which something was read; `None` if nothing was.
    pub fn versions(&self) -> Option<(Version, Version)> {
        let versions = || self.documents.values().chain(self.wide.values()).copied();
        Some((versions().min()?, versions().max()?))
    }

    fn check_bounds(&self) -> Result<(), Error> {
        if self.documents.len() + self.wide.len() > RECORDED_READS_MAX {
            Err(Error::ResourceExhausted(format!(
                "a transaction may make at most {RECORDED_READS_MAX} reads"
            )))
        } else if self.queries > RECORDED_QUERIES_MAX || self.query_bytes > RECORDED_QUERY_BYTES_MAX
        {
            Err(Error::ResourceExhausted(format!(
                "a transaction may run at most {RECORDED_QUERIES_MAX} queries of {RECORDED_QUERY_BYTES_MAX} bytes together"
            )))
        } else {
            Ok(())
        }
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
    age: Age,
    /// For how long its locks are given; `None` if it locks nothing.
    tenure: Option<Tenure>,
    began: Timestamp,
    last_used: Mutex<Timestamp>,
    /// The newest at which everything that it has read is true. Absent before the first read of one that locks.
    snapshot: Mutex<Option<Arc<dyn Snapshot>>>,
    reads: Mutex<ReadSet>,
    /// What it has locked, and what the attempt before it had asked for: that is locked together with the first read, all
    /// at once, so that those who have lost do not lose against each other by taking the same locks in another order.
    foreseen: Mutex<AskedSet>,
    /// Set when others were in its way, so that another attempt goes first.
    lost: AtomicBool,
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

    /// How old it is: the older goes first.
    pub fn age(&self) -> Age {
        self.age
    }

    /// Whether its reads lock what they ask for.
    pub fn locks(&self) -> bool {
        self.tenure.is_some()
    }

    /// What it reads from when it gets no lock; `None` before the first read of a transaction that locks.
    pub fn snapshot(&self) -> Option<Arc<dyn Snapshot>> {
        self.latest().clone()
    }

    /// Reads from the snapshot from now on, unless it has a newer one. Everything that was read must be true there.
    pub fn advance(&self, snapshot: &Arc<dyn Snapshot>) {
        let mut latest = self.latest();
        let newer = latest
            .as_ref()
            .is_none_or(|latest| latest.version() < snapshot.version());
        if newer {
            *latest = Some(Arc::clone(snapshot));
        }
    }

    /// What it reads from: the snapshot only if it has none yet.
    pub fn settle_on(&self, snapshot: Arc<dyn Snapshot>) -> Arc<dyn Snapshot> {
        Arc::clone(self.latest().get_or_insert(snapshot))
    }

    /// What was read so far.
    pub fn reads(&self) -> MutexGuard<'_, ReadSet> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records what is about to be read at the version. Fails with `ResourceExhausted` past `RECORDED_READS_MAX`,
    /// `RECORDED_QUERIES_MAX` or `RECORDED_QUERY_BYTES_MAX`; from then on nothing is recorded any more.
    pub fn record(&self, asked: &AskedSet, version: Version) -> Result<(), Error> {
        if self.access == Access::ReadOnly {
            return Ok(());
        }
        let mut reads = self.reads();
        reads.check_bounds()?;
        reads.add(asked, version);
        reads.check_bounds()
    }

    /// Whether all of its reads were made at the same version, or none was.
    pub fn reads_one_version(&self) -> bool {
        let versions = self.reads().versions();
        versions.is_none_or(|(oldest, newest)| oldest == newest)
    }

    /// Its commit, for the locks that may be in its way.
    pub fn claim(&self, locks: &Arc<Locks>) -> Claim {
        let manner = if self.locks() {
            Manner::Entitled
        } else if self.reads().versions().is_none() {
            Manner::Blind
        } else {
            Manner::Hasty
        };
        Claim::new(locks, self.age, manner, self.locks())
    }

    fn latest(&self) -> MutexGuard<'_, Option<Arc<dyn Snapshot>>> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that is to be locked with what is asked for.
    fn foresee(&self, asked: &AskedSet) -> AskedSet {
        let mut foreseen = self.foreseen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = asked.clone();
        all.extend(foreseen.iter());
        if all.len() <= FORESEEN_READS_MAX {
            *foreseen = all.clone();
        }
        all
    }

    fn used(&self, now: Timestamp) {
        let mut last_used = self
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last_used = now.max(*last_used);
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
    locks: Arc<Locks>,
    open: Mutex<Open>,
}

struct Open {
    by_id: HashMap<TransactionId, Arc<Transaction>>,
    swept: Timestamp,
    attempts: Attempts,
}

/// What a transaction is begun with.
pub struct Beginning {
    /// What it may do.
    pub access: Access,
    /// How it deals with others.
    pub mode: ConcurrencyMode,
    /// What it is another attempt of.
    pub retried: Option<Retried>,
}

impl Transactions {
    /// None yet. `opened` must differ between two openings of the same database.
    pub fn new(database: &DatabaseName, opened: Version, now: Timestamp) -> Self {
        let open = Open {
            by_id: HashMap::new(),
            swept: now,
            attempts: Attempts::default(),
        };
        Self {
            opened,
            salt: fnv(FNV_START, database.to_string().as_bytes()),
            locks: Locks::new(),
            open: Mutex::new(open),
        }
    }

    /// The locks that they hold.
    pub fn locks(&self) -> &Arc<Locks> {
        &self.locks
    }

    /// Opens one. Without locks it reads from the snapshot.
    pub fn begin(
        &self,
        beginning: &Beginning,
        snapshot: Option<Arc<dyn Snapshot>>,
        now: Timestamp,
    ) -> Result<TransactionId, Error> {
        let number = self.locks.next_number();
        let id = self.new_id(number);
        let retried = beginning.retried.as_ref();
        let transaction = Transaction {
            id: id.clone(),
            access: beginning.access,
            age: retried.map_or(Age::new(number), |retried| retried.age.retry(number)),
            tenure: beginning.tenure(),
            began: now,
            last_used: Mutex::new(now),
            snapshot: Mutex::new(snapshot),
            reads: Mutex::default(),
            foreseen: Mutex::new(
                retried.map_or_else(AskedSet::default, |retried| retried.foreseen.clone()),
            ),
            lost: AtomicBool::new(false),
        };
        let full = self.open().by_id.len() >= OPEN_TRANSACTIONS_MAX;
        if full {
            self.sweep_all(now);
        }
        let mut open = self.open();
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
        let transaction = self.open().by_id.get(id).cloned();
        let transaction = transaction.ok_or(Error::TransactionExpired)?;
        if transaction.expired(now) {
            self.end(id, now);
            return Err(Error::TransactionExpired);
        }
        transaction.used(now);
        Ok(transaction)
    }

    /// Ends it and gives its locks back; an unknown one is no error.
    pub fn end(&self, id: &TransactionId, now: Timestamp) {
        let transaction = self.open().by_id.remove(id);
        if let Some(transaction) = transaction {
            self.ended(&transaction, now);
        }
    }

    /// Ends it for its commit, which keeps the locks until it is decided. Fails with `TransactionExpired` if it is not
    /// open.
    pub fn take(&self, transaction: &Transaction) -> Result<Claim, Error> {
        match self.open().by_id.remove(&transaction.id) {
            Some(_) => Ok(transaction.claim(&self.locks)),
            None => Err(Error::TransactionExpired),
        }
    }

    /// What is known for another attempt of this one. `None` if it lost against nobody or is forgotten, or is still open:
    /// then it may be somebody else's, since threads that share one function of an SDK mix up their transactions. It
    /// loses its locks, so that another attempt need not wait for them, and is aborted or goes on without.
    pub fn retry(&self, id: &TransactionId, now: Timestamp) -> Result<Option<Retried>, Error> {
        self.check(id)?;
        let open = self.open().by_id.get(id).cloned();
        if let Some(open) = open
            && open.tenure.is_some()
        {
            self.locks.take_away(open.age);
        }
        Ok(self.open().attempts.get(id, now))
    }

    /// Notes that the commit of a transaction that had been taken failed with the error.
    pub fn failed(&self, transaction: &Transaction, error: &Error, now: Timestamp) {
        if matches!(error, Error::Aborted | Error::Contention) {
            transaction.lost.store(true, Ordering::Relaxed);
        }
        self.open().attempts.remember(transaction, now);
    }

    /// Locks what is asked for, and waits for that as long as it takes; what is granted then can be read from a fresh
    /// snapshot. Fails with `Contention` when others were in the way for too long or took its locks away, and with
    /// `ResourceExhausted` at the bounds of `lock::table`.
    pub async fn lock(
        &self,
        transaction: &Transaction,
        asked: &AskedSet,
        clock: &dyn Clock,
    ) -> Result<Locked, Error> {
        let locked = self.wait_for(transaction, asked, clock).await;
        if let Err(Error::Contention) = &locked {
            transaction.lost.store(true, Ordering::Relaxed);
        }
        transaction.used(clock.now());
        locked
    }

    async fn wait_for(
        &self,
        transaction: &Transaction,
        asked: &AskedSet,
        clock: &dyn Clock,
    ) -> Result<Locked, Error> {
        let Some(tenure) = transaction.tenure else {
            return Ok(Locked::Plain);
        };
        let asked = transaction.foresee(asked);
        let begun = self.locks.lock(transaction.age, tenure, asked.clone());
        // Whoever ends it later gives its locks back.
        let open = self.open().by_id.contains_key(&transaction.id);
        if !open {
            self.locks.end(transaction.age);
            return Err(Error::TransactionExpired);
        }
        let locked = match begun? {
            Begun::Now(locked) => locked,
            Begun::Waits(waiting) => waiting.ended(|| self.sweep_awaited(clock.now())).await?,
        };
        if locked == Locked::Held {
            self.locks.landed(&asked).await?;
        }
        Ok(locked)
    }

    /// How the transaction stands. Fails with `Contention` when it has lost its locks.
    pub fn standing(&self, transaction: &Transaction) -> Result<Standing, Error> {
        if !transaction.locks() {
            return Ok(Standing::Plain);
        }
        match self.locks.standing(transaction.age) {
            Standing::Wounded => {
                transaction.lost.store(true, Ordering::Relaxed);
                Err(Error::Contention)
            }
            standing @ (Standing::Whole | Standing::Plain) => Ok(standing),
        }
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
        self.sweep_every(SWEEP_MICROS, now);
    }

    /// As `sweep`, but sooner, for somebody who waits for their locks.
    pub fn sweep_awaited(&self, now: Timestamp) {
        self.sweep_every(SWEEP_AWAITED_MICROS, now);
    }

    fn sweep_every(&self, micros: i64, now: Timestamp) {
        let swept = self.open().swept;
        if now.micros().saturating_sub(swept.micros()) >= micros {
            self.sweep_all(now);
        }
    }

    fn sweep_all(&self, now: Timestamp) {
        let mut open = self.open();
        let mut expired: Vec<Arc<Transaction>> = open
            .by_id
            .extract_if(|_, transaction| transaction.expired(now))
            .map(|(_, transaction)| transaction)
            .collect();
        open.swept = now;
        open.attempts.forget(now);
        drop(open);
        // So that the same events have the same outcome.
        expired.sort_by_key(|transaction| transaction.age);
        for transaction in expired {
            self.ended(&transaction, now);
        }
    }

    /// For one that is not open any more, and does not commit.
    fn ended(&self, transaction: &Transaction, now: Timestamp) {
        if transaction.locks() {
            // Having lost its locks is remembered with it.
            let _ = self.standing(transaction);
            self.locks.end(transaction.age);
        }
        self.open().attempts.remember(transaction, now);
    }

    fn new_id(&self, counter: u64) -> TransactionId {
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

impl Beginning {
    /// For how long its locks are given; `None` if it locks nothing.
    fn tenure(&self) -> Option<Tenure> {
        match (self.access, self.mode) {
            (Access::ReadOnly, ConcurrencyMode::Optimistic | ConcurrencyMode::Pessimistic) => None,
            (Access::ReadWrite, ConcurrencyMode::Pessimistic) => Some(Tenure::UntilEnd),
            (Access::ReadWrite, ConcurrencyMode::Optimistic) => self
                .retried
                .as_ref()
                .is_some_and(|retried| retried.lost)
                .then_some(Tenure::Leased),
        }
    }

    /// Whether it reads from one snapshot that it is begun with.
    pub fn needs_snapshot(&self) -> bool {
        self.tenure().is_none()
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
