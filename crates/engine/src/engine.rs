//! The handle of one database.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use watchfire_model::{Clock, DatabaseName, Timestamp, Write};
use watchfire_storage::{Applied, Batch, Operation, Snapshot, Store, Version};

use crate::advice::{Advisor, MissingIndexes};
use crate::changelog::reader::{EntriesSince, Stored, read_entries};
use crate::changelog::tail::Tail;
use crate::check;
use crate::commit::convert::convert_if_old;
use crate::commit::group::Receipt;
use crate::commit::{
    AlterRequest, Command, Committer, HEAD_MOVED_RETRIES_MAX, QUEUE_COMMANDS_MAX, QUEUE_KIB_MAX,
    RepairRequest, Reply, Request,
};
use crate::definition::{Definition, IndexId};
use crate::epoch::{epoch_from, note_epoch, read_epoch};
use crate::error::Error;
use crate::index::build::{ESTIMATE_MAX, estimate};
use crate::index::catalog::alter::Alteration;
use crate::index::catalog::{Catalog, FieldIndex, FieldKey, OperationId, stored};
use crate::keyspace::{Catalogue, FORMAT, catalogue_key};
use crate::lock::Claim;
use crate::past::{check_version, kept_micros, snapshot_at};
use crate::settings::{ConcurrencyMode, Settings};
use crate::stage::{Staged, Start, writes_len};
use crate::transaction::{Access, Beginning, TransactionId, TransactionOptions, Transactions};
use crate::version::{next, present, timestamp};
use crate::view::{Context, Seen, View};

/// Missing indexes that may wait to be defined.
const WANTED_INDEXES_MAX: usize = 64;

/// One database, open. Cheap to clone. The committer task lives until `close`, or until the last handle is gone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    database: DatabaseName,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    tail: Arc<Tail>,
    commands: mpsc::Sender<Command>,
    waiting_kib: Arc<Semaphore>,
    /// How transactions deal with each other that do not say it themselves.
    concurrency: ConcurrencyMode,
    context: Arc<Context>,
    kept_micros: u64,
    epoch: u64,
}

impl Engine {
    /// Opens the database on the store, recovers the tail and starts the committer. Needs a Tokio runtime.
    ///
    /// Moves the head to the present (or one past the last version, should the clock be behind it), so that read
    /// times move forward after a restart. A database of an older format is converted first, which takes as long as
    /// reading all its documents and writing all its index entries.
    pub async fn open(
        database: DatabaseName,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        Self::open_with(database, store, clock, Settings::default()).await
    }

    /// As `open`, with settings.
    pub async fn open_with(
        database: DatabaseName,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Result<Self, Error> {
        convert_if_old(&database, store.as_ref(), clock.as_ref()).await?;
        let (opened, epoch) = move_head(store.as_ref(), clock.as_ref(), settings.chance).await?;
        let catalog = stored::load(store.snapshot().await?.as_ref()).await?;
        let tail = Arc::new(Tail::new(opened));
        let (commands, queue) = mpsc::channel(QUEUE_COMMANDS_MAX);
        let transactions = Transactions::new(&database, opened, clock.now());
        let committer = Committer::new(
            database.clone(),
            Arc::clone(&store),
            Arc::clone(&clock),
            Arc::clone(&tail),
            Arc::clone(transactions.locks()),
            Arc::new(catalog),
            kept_micros(settings.history),
        );
        let (wanted, wanted_queue) = mpsc::channel(WANTED_INDEXES_MAX);
        tokio::spawn(committer.run(queue, wanted_queue));
        let context = Arc::new(Context {
            database: database.clone(),
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            transactions,
            catalogs: Arc::default(),
            advisor: Arc::new(Advisor::new(settings.index_mode, wanted)),
            seen: Seen::default(),
        });
        let waiting_kib = Arc::new(Semaphore::new(QUEUE_KIB_MAX));
        Ok(Self {
            inner: Arc::new(Inner {
                database,
                store,
                clock,
                tail,
                commands,
                waiting_kib,
                concurrency: settings.concurrency,
                context,
                kept_micros: kept_micros(settings.history),
                epoch,
            }),
        })
    }

    /// The database's name.
    pub fn database(&self) -> &DatabaseName {
        &self.inner.database
    }

    /// Which history this is: the same after a restart, another one where an older state was put in the database's place
    /// or it began anew. Who keeps a version for later keeps this with it.
    pub fn epoch(&self) -> u64 {
        self.inner.epoch
    }

    /// The present. Its version is at least that of every commit that was acknowledged before the call, and every
    /// later commit gets a higher one.
    pub async fn view(&self) -> Result<View, Error> {
        View::of_snapshot(
            Arc::clone(&self.inner.context),
            self.inner.store.snapshot().await?,
        )
    }

    /// The database as it was at `time`. Fails with `FailedPrecondition` for a time before what is kept, and with
    /// `Invalid` for one that has not come yet, or more than an hour ago lies between two minutes.
    pub async fn view_at(&self, time: Timestamp) -> Result<View, Error> {
        View::of_snapshot(
            Arc::clone(&self.inner.context),
            self.snapshot_at(time).await?,
        )
    }

    /// What is known about indexes at the present, with how far work on them has come.
    pub async fn catalog(&self) -> Result<Arc<Catalog>, Error> {
        let snapshot = self.inner.store.snapshot().await?;
        Ok(Arc::new(stored::load(snapshot.as_ref()).await?))
    }

    /// The indexes that queries have wanted since the database was opened and that are not ready.
    pub async fn missing_indexes(&self) -> Result<MissingIndexes, Error> {
        let context = &self.inner.context;
        let snapshot = self.inner.store.snapshot().await?;
        let catalog = context.catalogs.at(snapshot.as_ref()).await?;
        Ok(context.advisor.missing(&catalog))
    }

    /// Whether documents and index entries agree at the present. Reads everything that is stored.
    pub async fn check(&self) -> Result<check::Report, Error> {
        check::check(self.inner.store.snapshot().await?.as_ref()).await
    }

    /// Writes index entries that are missing or wrong and deletes surplus ones; documents that cannot be read, and what
    /// may be their entries, are left alone. Commits go on meanwhile. When it fails, what was repaired by then stays so.
    pub async fn repair(&self) -> Result<check::Repaired, Error> {
        let mut repaired = check::Repaired::default();
        for pass in check::passes() {
            let mut position = Bytes::new();
            loop {
                let ask = |reply| {
                    Command::Repair(RepairRequest {
                        pass,
                        position: position.clone(),
                        reply,
                    })
                };
                let piece = self.ask(ask).await?;
                repaired.add(&piece.operations);
                match piece.next {
                    Some(next) => position = next,
                    None => break,
                }
            }
        }
        Ok(repaired)
    }

    /// Defines an index and begins to build it. Fails with `IndexExists`, or `ResourceExhausted` past `INDEXES_MAX`.
    pub async fn create_index(&self, definition: Definition) -> Result<OperationId, Error> {
        let group = definition.group().to_owned();
        let estimated = self.estimate(Some(&group)).await?;
        self.alter(Alteration::Create(definition), estimated).await
    }

    /// Deletes an index; a build under way is cancelled. Its entries go in the background. Fails with `NoSuch`.
    pub async fn delete_index(&self, id: IndexId) -> Result<(), Error> {
        self.alter(Alteration::Delete(id), 0).await.map(drop)
    }

    /// Changes the automatic indexes of some fields; `None` takes their configuration back. Answers with the
    /// operation, which has ended already when nothing has to be done. Fails with `Invalid` for fields or indexes that
    /// cannot be, with `ResourceExhausted` past `FIELD_CONFIGS_MAX`.
    pub async fn update_field(
        &self,
        key: FieldKey,
        indexes: Option<Vec<FieldIndex>>,
    ) -> Result<OperationId, Error> {
        let estimated = self.estimate(key.group.as_deref()).await?;
        self.alter(Alteration::Field { key, indexes }, estimated)
            .await
    }

    /// Stops an operation as far as that is possible: an index that is being built is deleted; one that has ended
    /// stays as it is. Fails with `NoSuch`, and with `FailedPrecondition` for the change of a field's indexes, which
    /// is undone by changing it again.
    pub async fn cancel_operation(&self, id: OperationId) -> Result<(), Error> {
        self.alter(Alteration::Cancel(id), 0).await.map(drop)
    }

    /// Forgets an operation that has ended. Fails with `NoSuch`, or `FailedPrecondition` while it is under way.
    pub async fn delete_operation(&self, id: OperationId) -> Result<(), Error> {
        self.alter(Alteration::Forget(id), 0).await.map(drop)
    }

    async fn estimate(&self, group: Option<&str>) -> Result<u64, Error> {
        let snapshot = self.inner.store.snapshot().await?;
        estimate(snapshot.as_ref(), group, ESTIMATE_MAX).await
    }

    async fn alter(&self, alteration: Alteration, estimated: u64) -> Result<OperationId, Error> {
        let ask = |reply| {
            Command::Alter(AlterRequest {
                alteration,
                estimated,
                reply,
            })
        };
        self.ask(ask).await
    }

    /// Sends the committer a command and waits for its answer.
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let sent = self.inner.commands.try_send(command(reply));
        sent.map_err(|error| match error {
            TrySendError::Full(_) => overloaded(),
            TrySendError::Closed(_) => closed(),
        })?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Begins a transaction at the present or, when it only reads, at a time in the past. Fails with
    /// `ResourceExhausted` when too many are open, and for a read time as `view_at` does.
    pub async fn begin(&self, options: TransactionOptions) -> Result<TransactionId, Error> {
        let inner = &self.inner;
        let now = inner.clock.now();
        let mut beginning = Beginning {
            access: Access::ReadOnly,
            mode: inner.concurrency,
            retried: None,
        };
        let mut at = None;
        match options {
            TransactionOptions::ReadOnly { read_time } => at = read_time,
            TransactionOptions::ReadWrite { retry, mode } => {
                beginning.access = Access::ReadWrite;
                beginning.mode = mode.unwrap_or(inner.concurrency);
                if let Some(retry) = retry {
                    beginning.retried = self.transactions().retry(&retry, now)?;
                }
            }
        }
        self.transactions().sweep(now);
        let snapshot = match at {
            Some(time) => Some(self.snapshot_at(time).await?),
            None if beginning.needs_snapshot() => Some(inner.store.snapshot().await?),
            None => None,
        };
        self.transactions().begin(&beginning, snapshot, now)
    }

    async fn snapshot_at(&self, time: Timestamp) -> Result<Arc<dyn Snapshot>, Error> {
        let inner = &self.inner;
        let version = Version(u64::try_from(time.micros()).unwrap_or(0));
        let now = present(inner.clock.as_ref()).max(inner.tail.version());
        check_version(version, now, inner.kept_micros)?;
        let mut snapshot = inner.store.snapshot().await?;
        if snapshot.version() < version {
            // The time has come without a commit. Once the tail has passed it, none can appear before it.
            self.settled_version().await;
            snapshot = inner.store.snapshot().await?;
            if snapshot.version() < version {
                return Err(Error::Unavailable(
                    "the database cannot be moved to the present now; try again later".to_owned(),
                ));
            }
        }
        snapshot_at(snapshot, version).await
    }

    /// A view whose reads are recorded in the transaction. In one that locks, each read is made on a fresh snapshot: see
    /// `View::locked`.
    pub async fn transaction_view(&self, id: &TransactionId) -> Result<View, Error> {
        let transaction = self.transactions().get(id, self.inner.clock.now())?;
        View::of_transaction(Arc::clone(&self.inner.context), transaction).await
    }

    /// Ends a transaction; an unknown or ended one is no error.
    /// Whoever waits for its locks goes on; whatever it waits for itself fails with `TransactionExpired`.
    pub fn rollback(&self, id: &TransactionId) {
        self.transactions().end(id, self.inner.clock.now());
    }

    fn transactions(&self) -> &Transactions {
        &self.inner.context.transactions
    }

    /// Finds the transaction and refuses what it may not write. The rest is decided by the committer.
    pub async fn stage(&self, writes: Vec<Write>, start: Start) -> Result<Staged, Error> {
        let transaction = match start {
            Start::Now => None,
            Start::Transaction(id) => Some(self.transactions().get(&id, self.inner.clock.now())?),
        };
        Staged::new(writes, transaction)
    }

    /// Durable when it returns. When the caller stops waiting, the commit still happens whole or not at all; while it
    /// waits for locks of others, not at all. Fails with `ResourceExhausted` when too much waits already (a transaction
    /// stays open then), and with `Contention` after `LOCK_WAIT_MAX`.
    pub async fn commit(&self, staged: Staged) -> Result<Receipt, Error> {
        let inner = &self.inner;
        // A commit that has only read is answered with the tail, and the tail may be behind what reads have shown.
        let least = match staged.writes.is_empty() {
            true => self.seen_version(),
            false => Version::default(),
        };
        let bytes = writes_len(&staged.writes);
        // Commits larger than the whole bound wait alone.
        let kib =
            u32::try_from((bytes >> 10).saturating_add(1).min(QUEUE_KIB_MAX)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&inner.waiting_kib)
            .try_acquire_many_owned(kib)
            .map_err(|_| overloaded())?;
        let slot = inner.commands.try_reserve().map_err(|error| match error {
            TrySendError::Full(()) => overloaded(),
            TrySendError::Closed(()) => closed(),
        })?;
        let Staged {
            writes,
            transaction,
        } = staged;
        let Some(transaction) = transaction else {
            let claim = Claim::blind(self.transactions().locks());
            let request = |reply| Request {
                writes,
                transaction: None,
                permit,
                bytes,
                claim,
                reply,
            };
            return no_older_than(least, self.decide(slot, request).await?);
        };
        let claim = self.transactions().take(&transaction)?;
        // Reads from one snapshot need no check: they stand where the snapshot stands.
        let checked = !writes.is_empty() || !transaction.reads_one_version();
        let receipt = match self.transactions().standing(&transaction) {
            Err(error) => Err(error),
            Ok(_) => {
                let request = |reply| Request {
                    writes,
                    transaction: checked.then(|| Arc::clone(&transaction)),
                    permit,
                    bytes,
                    claim,
                    reply,
                };
                self.decide(slot, request).await
            }
        };
        match receipt {
            // What was checked stands where it was checked.
            Ok(receipt) if checked => Ok(receipt),
            Ok(receipt) => no_older_than(least, receipt),
            Err(error) => {
                let now = inner.clock.now();
                self.transactions().failed(&transaction, &error, now);
                Err(error)
            }
        }
    }

    /// Hands a commit to the committer, and again when others have been in its way and its turn has come.
    async fn decide(
        &self,
        slot: mpsc::Permit<'_, Command>,
        request: impl FnOnce(oneshot::Sender<Reply>) -> Request,
    ) -> Result<Receipt, Error> {
        let inner = &self.inner;
        let (reply, mut answer) = oneshot::channel();
        slot.send(Command::Commit(request(reply)));
        loop {
            let mut returned = match answer.await {
                Ok(Reply::Decided(decided)) => return decided,
                Ok(Reply::Waits(returned)) => returned,
                Err(_) => return Err(closed()),
            };
            let look = || self.transactions().sweep_awaited(inner.clock.now());
            returned.claim.turn(look).await?;
            let (reply, next_answer) = oneshot::channel();
            answer = next_answer;
            let sent = inner
                .commands
                .send(Command::Commit(returned.again(reply)))
                .await;
            sent.map_err(|_| closed())?;
        }
    }

    /// The newest version; waiting on it is the only way to learn of commits. It also advances without a commit:
    /// see `settled_version`.
    pub fn tail(&self) -> watch::Receiver<Version> {
        self.inner.tail.watch()
    }

    /// The highest version that a read through this engine has shown; at least the tail's. It is above the tail while a
    /// batch is stored and not known to be: for a moment always, and after a batch whose answer was lost until the
    /// committer has looked again, as `settled_version` makes it.
    pub fn seen_version(&self) -> Version {
        let inner = &self.inner;
        inner.context.seen.version().max(inner.tail.version())
    }

    /// Moves the tail to the present, so that idle listeners get fresh read times, and returns it: no commit at or
    /// below it can appear any more. Costs one small flush when the tail is in the past. When the store fails or
    /// the database is closed, it is the tail as it stands.
    pub async fn settled_version(&self) -> Version {
        self.transactions().sweep(self.inner.clock.now());
        let (reply, answer) = oneshot::channel();
        if self
            .inner
            .commands
            .send(Command::Settle(reply))
            .await
            .is_err()
        {
            return self.inner.tail.version();
        }
        answer.await.unwrap_or_else(|_| self.inner.tail.version())
    }

    /// Every commit after `version`, at most `limit` of them (at least one): from the recent ring, else from the
    /// store.
    pub async fn entries_since(
        &self,
        version: Version,
        limit: usize,
    ) -> Result<EntriesSince, Error> {
        let limit = limit.max(1);
        if let Some((entries, complete_to)) = self.inner.tail.since(version, limit) {
            return Ok(EntriesSince::Entries {
                entries,
                complete_to,
            });
        }
        let snapshot = self.inner.store.snapshot().await?;
        Ok(
            match read_entries(snapshot.as_ref(), version, limit).await? {
                Stored::Entries {
                    entries,
                    complete_to,
                } => {
                    self.inner.context.seen.show(complete_to);
                    EntriesSince::Entries {
                        entries: entries
                            .into_iter()
                            .map(|published| published.entry)
                            .collect(),
                        complete_to,
                    }
                }
                Stored::TooOld => EntriesSince::TooOld,
            },
        )
    }

    /// Finishes what is in flight, then closes the store. Closing again is no error.
    pub async fn close(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        if self
            .inner
            .commands
            .send(Command::Close(reply))
            .await
            .is_err()
        {
            return Ok(());
        }
        // No answer: somebody else's close came first.
        answer.await.unwrap_or(Ok(()))
    }
}

/// A receipt with a version that is not below `least`, which somebody has read.
fn no_older_than(least: Version, receipt: Receipt) -> Result<Receipt, Error> {
    let version = receipt.version.max(least);
    Ok(Receipt {
        version,
        commit_time: timestamp(version)?,
        ..receipt
    })
}

fn overloaded() -> Error {
    Error::ResourceExhausted("too many commits are waiting; try again later".to_owned())
}

fn closed() -> Error {
    Error::Unavailable("the database is closed".to_owned())
}

/// Checks or notes the format and the epoch, and moves the head to the present; returns it with the epoch.
async fn move_head(
    store: &dyn Store,
    clock: &dyn Clock,
    chance: u64,
) -> Result<(Version, u64), Error> {
    for _ in 0..=HEAD_MOVED_RETRIES_MAX {
        let snapshot = store.snapshot().await?;
        let head = snapshot.version();
        let version = next(clock, head);
        let mut operations = first_operations(snapshot.as_ref(), version).await?;
        let noted = read_epoch(snapshot.as_ref()).await?;
        let epoch = noted.unwrap_or_else(|| epoch_from(version, chance));
        if noted.is_none() {
            operations.push(note_epoch(epoch));
        }
        match store
            .apply(
                head,
                Batch {
                    version,
                    operations,
                },
            )
            .await?
        {
            Applied::Applied => return Ok((version, epoch)),
            Applied::HeadMoved(_) => {}
        }
    }
    Err(Error::Unavailable(
        "other servers kept committing while the database was opened".to_owned(),
    ))
}

/// What a new database begins with: its format, and that nothing is known of the time before `version`. Another
/// database of this name may have been there (a folder that was deleted, a server that keeps its data in memory);
/// whoever resumes from it must not hear that nothing has changed.
/// Fails with `FailedPrecondition` for a format from the future.
async fn first_operations(
    snapshot: &dyn Snapshot,
    version: Version,
) -> Result<Vec<Operation>, Error> {
    let key = catalogue_key(Catalogue::Format);
    match snapshot.get(&key).await?.as_deref() {
        None => Ok(vec![
            Operation::Put {
                key,
                value: Bytes::from_static(&[FORMAT]),
            },
            Operation::Put {
                key: catalogue_key(Catalogue::TrimmedTo),
                value: Bytes::copy_from_slice(&version.0.to_be_bytes()),
            },
        ]),
        Some([FORMAT]) => Ok(Vec::new()),
        Some(other) => Err(Error::FailedPrecondition(format!(
            "the database is stored in format {other:?}; this version of Watchfire reads format [{FORMAT}]"
        ))),
    }
}

#[cfg(test)]
mod tests;
