//! The committer: the one door through which a database changes.
//!
//! One task per open database takes commands from one bounded queue. All commits that wait, up to a bound, form a
//! group; the group is one batch and one flush; while it is flushed the next one gathers. The order is: apply to
//! the store, publish on the tail, answer the callers. Nobody else writes, and the committer waits for nobody but
//! the store.
//!
//! Work on indexes is done here too, between groups: see `indexes`.
//!
//! When the store's head has moved without it, the committer reads the new entries and forms the group again on
//! the newer state. When the store fails, every commit of the group is answered `Unavailable`; whether it was
//! written is then found out by reading the head again before the next group. A store that can take no more
//! writes makes the database read-only until it is opened anew.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;
use watchfire_model::{Clock, DatabaseName, Document, DocumentPath, Write};
use watchfire_storage::{Applied, Batch, Snapshot, Store, Version};

use crate::changelog::reader::{Stored, read_entries};
use crate::changelog::tail::{RING_ENTRIES_MAX, Tail};
use crate::changelog::trim;
use crate::check::{Pass, Repair};
use crate::commit::conflict::conflicts;
use crate::commit::group::{Formed, Group, Missed, Receipt, too_big};
use crate::commit::latest::Latest;
use crate::definition::Definition;
use crate::error::Error;
use crate::index::catalog::alter::Alteration;
use crate::index::catalog::{Catalog, OperationId, stored};
use crate::transaction::Transaction;
use crate::version::{next, present};
use crate::view::read_documents;

pub mod conflict;
pub mod convert;
pub mod group;
pub mod indexes;
pub mod latest;
pub mod repair;

/// How many commands may wait for the committer. Past it a commit is refused with `ResourceExhausted`.
pub const QUEUE_COMMANDS_MAX: usize = 8192;
/// How many KiB of writes may wait. Past it a commit is refused with `ResourceExhausted`.
pub const QUEUE_KIB_MAX: usize = 256 << 10;
/// How many commits one group may have.
pub const GROUP_COMMITS_MAX: usize = 1024;
/// A group takes no further commit once its writes have this many bytes.
pub const GROUP_BYTES_MAX: usize = 16 << 20;
/// How many bytes of memory the documents that a group names may take, as they were. Commits that do not fit go into
/// the next group; one that does not fit alone is refused with `Invalid`.
pub const LOADED_BYTES_MAX: usize = 64 << 20;
/// How many documents are read at once, so that `LOADED_BYTES_MAX` is not passed by much.
const LOAD_DOCUMENTS: usize = 16;
/// How often a group is formed again because the head moved; then its commits are answered `Unavailable`.
pub const HEAD_MOVED_RETRIES_MAX: usize = 16;
/// How often the changelog is trimmed, by the database's clock and at the latest by the committer's own timer.
pub const TRIM_INTERVAL: Duration = Duration::from_secs(60);
/// How long the committer waits for commands between two pieces of trimming while there is more to trim.
const TRIM_PAUSE: Duration = Duration::from_millis(100);

/// One commit on its way.
pub struct Request {
    /// In order.
    pub writes: Vec<Write>,
    /// Whose reads are to be checked.
    pub transaction: Option<Arc<Transaction>>,
    /// What it holds of `QUEUE_KIB_MAX`; given back when the commit is done.
    pub permit: OwnedSemaphorePermit,
    /// About how many bytes the writes have.
    pub bytes: usize,
    /// Where the answer goes; nobody needs to wait for it.
    pub reply: oneshot::Sender<Result<Receipt, Error>>,
}

/// An alteration of the indexes on its way.
pub struct AlterRequest {
    /// What is asked for.
    pub alteration: Alteration,
    /// How many documents there are to look at, about.
    pub estimated: u64,
    /// Where the answer goes; nobody needs to wait for it.
    pub reply: oneshot::Sender<Result<OperationId, Error>>,
}

/// A piece of a repair on its way.
pub struct RepairRequest {
    /// What is looked at.
    pub pass: Pass,
    /// From where on.
    pub position: Bytes,
    /// Where the answer goes; nobody needs to wait for it.
    pub reply: oneshot::Sender<Result<Repair, Error>>,
}

/// What the committer may be told.
pub enum Command {
    /// Commit this.
    Commit(Request),
    /// Move the tail to the present and answer with it.
    Settle(oneshot::Sender<Version>),
    /// Alter the indexes.
    Alter(AlterRequest),
    /// Make some index entries agree with the documents.
    Repair(RepairRequest),
    /// Close the store and end.
    Close(oneshot::Sender<Result<(), Error>>),
}

/// Whether the committer goes on.
enum After {
    Continue,
    End,
}

/// Whether trimming has more to do at once.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Trim {
    Rests,
    GoesOn,
}

/// What became of storing a group.
enum Outcome {
    Stored,
    HeadMoved,
}

/// The state of the task.
pub struct Committer {
    database: DatabaseName,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    tail: Arc<Tail>,
    latest: Latest,
    /// The indexes at the tail.
    catalog: Arc<Catalog>,
    /// When the last piece of work on indexes ended, and how long it took.
    pace: indexes::Pace,
    /// Set once the store takes no more writes.
    read_only: Option<Error>,
    /// When everything that was due had been trimmed.
    trimmed_at: Version,
    trim: Trim,
}

impl Committer {
    /// A committer on the state at the tail.
    pub fn new(
        database: DatabaseName,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        tail: Arc<Tail>,
        catalog: Arc<Catalog>,
    ) -> Self {
        let trimmed_at = Version(0);
        Self {
            database,
            store,
            clock,
            tail,
            latest: Latest::default(),
            catalog,
            pace: indexes::Pace::default(),
            read_only: None,
            trimmed_at,
            trim: Trim::Rests,
        }
    }

    /// Runs until it is closed or every sender of commands is gone. Indexes that come through `wanted` are defined.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut wanted: mpsc::Receiver<Definition>,
    ) {
        let mut wanting = true;
        loop {
            if self.index_work_is_due(Instant::now()) {
                // Nobody is waited for; but other tasks may be about to send.
                tokio::task::yield_now().await;
                match commands.try_recv() {
                    Ok(first) => {
                        if let After::End = self.serve(first, &mut commands).await {
                            return;
                        }
                    }
                    Err(TryRecvError::Disconnected) => return,
                    Err(TryRecvError::Empty) => {
                        if let Ok(definition) = wanted.try_recv() {
                            self.define(definition).await;
                        }
                    }
                }
            } else {
                let patience = self.patience(Instant::now());
                tokio::select! {
                    taken = tokio::time::timeout(patience, commands.recv()) => match taken {
                        Ok(Some(first)) => {
                            if let After::End = self.serve(first, &mut commands).await {
                                return;
                            }
                        }
                        Ok(None) => return,
                        Err(_elapsed) => {}
                    },
                    definition = wanted.recv(), if wanting => match definition {
                        Some(definition) => self.define(definition).await,
                        None => wanting = false,
                    },
                }
            }
            self.trim_if_due().await;
            self.work_on_indexes_if_due().await;
        }
    }

    /// How long it may wait for something to do.
    fn patience(&self, now: Instant) -> Duration {
        let patience = match self.trim {
            Trim::Rests => TRIM_INTERVAL,
            Trim::GoesOn => TRIM_PAUSE,
        };
        match self.index_work_due_in(now) {
            Some(rest) => patience.min(rest),
            None => patience,
        }
    }

    /// Serves one command and all commits that wait behind it, up to the bounds of a group.
    async fn serve(&mut self, first: Command, commands: &mut mpsc::Receiver<Command>) -> After {
        let mut requests = Vec::new();
        let mut bytes = 0;
        let mut settles = Vec::new();
        let mut alterations = Vec::new();
        let mut repairs = Vec::new();
        let mut close = None;
        let mut command = Some(first);
        while let Some(taken) = command {
            match taken {
                Command::Commit(request) => {
                    bytes += request.bytes;
                    requests.push(request);
                }
                Command::Settle(reply) => settles.push(reply),
                Command::Alter(request) => alterations.push(request),
                Command::Repair(request) => repairs.push(request),
                Command::Close(reply) => {
                    close = Some(reply);
                    break;
                }
            }
            let full = requests.len() >= GROUP_COMMITS_MAX
                || settles.len() + alterations.len() + repairs.len() >= GROUP_COMMITS_MAX
                || bytes >= GROUP_BYTES_MAX;
            command = if full { None } else { commands.try_recv().ok() };
        }
        if !requests.is_empty() {
            self.pace.commits_came();
            self.commit(requests).await;
        }
        for request in alterations {
            let answer = self.alter(request.alteration, request.estimated).await;
            // The caller may have gone away; the alteration is what it is.
            let _ = request.reply.send(answer);
        }
        for request in repairs {
            let answer = self.repair(request.pass, &request.position).await;
            // As with alterations.
            let _ = request.reply.send(answer);
        }
        if !settles.is_empty() {
            self.settle().await;
            for reply in settles {
                // Whoever asked may be gone.
                let _ = reply.send(self.tail.version());
            }
        }
        match close {
            Some(reply) => {
                let _ = reply.send(self.store.close().await.map_err(Error::from));
                After::End
            }
            None => After::Continue,
        }
    }

    /// Commits the requests, in as few groups as the bounds allow, and answers every one of their callers.
    async fn commit(&mut self, mut requests: Vec<Request>) {
        while !requests.is_empty() {
            let answers = match self.try_commit(&requests).await {
                Ok(answers) => answers,
                Err(error) => vec![Err(error); requests.len()],
            };
            let rest = requests.split_off(answers.len().min(requests.len()));
            for (request, answer) in requests.into_iter().zip(answers) {
                drop(request.permit);
                // The caller may have gone away; the commit is what it is.
                let _ = request.reply.send(answer);
            }
            requests = rest;
        }
    }

    /// One answer for each of the first requests, for at least one; or the error that all of them share.
    async fn try_commit(
        &mut self,
        requests: &[Request],
    ) -> Result<Vec<Result<Receipt, Error>>, Error> {
        if let Some(error) = &self.read_only {
            return Err(error.clone());
        }
        for _ in 0..=HEAD_MOVED_RETRIES_MAX {
            let documents = self.load(requests).await?;
            let loaded = |request: &&Request| {
                let mut writes = request.writes.iter();
                writes.all(|write| documents.contains_key(&write.path))
            };
            let count = requests.iter().take_while(loaded).count();
            if count == 0 {
                return Ok(vec![Err(too_big())]);
            }
            let requests = requests.get(..count).unwrap_or(requests);
            let head = self.tail.version();
            let mut missed = Vec::with_capacity(requests.len());
            for request in requests {
                missed.push(match &request.transaction {
                    Some(transaction) => self.missed(transaction, head).await?,
                    None => Missed::Entries(Vec::new()),
                });
            }
            let catalog = Arc::clone(&self.catalog);
            let clock = self.clock.as_ref();
            let mut group = Group::new(&self.database, clock, &catalog, head, documents);
            let answers: Vec<_> = requests
                .iter()
                .zip(&missed)
                .map(|(request, missed)| {
                    let transaction = request
                        .transaction
                        .as_deref()
                        .map(|transaction| (transaction, missed));
                    group.add(&request.writes, transaction)
                })
                .collect();
            match self.store_group(head, group.finish()).await? {
                Outcome::Stored => return Ok(answers),
                Outcome::HeadMoved => self.catch_up().await?,
            }
        }
        Err(moved_too_often())
    }

    /// The documents that the requests name, as they are at the head, until they have more than
    /// `LOADED_BYTES_MAX`. Reads those that are not remembered, all from one snapshot; when that snapshot is newer
    /// than the tail, catches up and starts again.
    async fn load(
        &mut self,
        requests: &[Request],
    ) -> Result<HashMap<DocumentPath, Option<Arc<Document>>>, Error> {
        for _ in 0..=HEAD_MOVED_RETRIES_MAX {
            let mut documents = HashMap::new();
            let mut unknown: Vec<DocumentPath> = Vec::new();
            let mut asked = HashSet::new();
            for write in requests.iter().flat_map(|request| &request.writes) {
                if !asked.insert(&write.path) {
                    continue;
                }
                match self.latest.get(&write.path) {
                    Some(known) => drop(documents.insert(write.path.clone(), known)),
                    None => unknown.push(write.path.clone()),
                }
            }
            if unknown.is_empty() {
                return Ok(documents);
            }
            let snapshot = self.store.snapshot().await?;
            if snapshot.version() != self.tail.version() {
                self.catch_up_to(snapshot.as_ref()).await?;
                continue;
            }
            let mut bytes = 0;
            for paths in unknown.chunks(LOAD_DOCUMENTS) {
                let read = read_documents(snapshot.as_ref(), paths).await?;
                for (path, document) in paths.iter().zip(read) {
                    bytes += document.as_ref().map_or(0, |document| document.memory());
                    if bytes > LOADED_BYTES_MAX {
                        return Ok(documents);
                    }
                    documents.insert(path.clone(), document);
                }
            }
            return Ok(documents);
        }
        Err(Error::Unavailable(
            "other servers kept committing; try again".to_owned(),
        ))
    }

    /// Every commit after the transaction's view, up to `head`, as far as it is in the ring. What is only in the
    /// store, which may be far more than fits in memory, is checked here and not kept.
    async fn missed(&self, transaction: &Transaction, head: Version) -> Result<Missed, Error> {
        let mut after = transaction.snapshot().version();
        if let Some((entries, _)) = self.tail.since(after, usize::MAX) {
            return Ok(Missed::Entries(entries));
        }
        let snapshot = self.store.snapshot().await?;
        while after < head {
            match read_entries(snapshot.as_ref(), after, RING_ENTRIES_MAX).await? {
                // A version that the snapshot does not have yet would be a head that was never stored.
                Stored::Entries { complete_to, .. } if complete_to <= after => break,
                Stored::Entries {
                    entries,
                    complete_to,
                } => {
                    let reads = transaction.reads();
                    let mut entries = entries.iter().map(|published| &published.entry);
                    if entries.any(|entry| conflicts(&reads, &entry.changes)) {
                        return Ok(Missed::Lost);
                    }
                    after = complete_to;
                }
                Stored::TooOld => return Ok(Missed::Lost),
            }
        }
        Ok(Missed::Entries(Vec::new()))
    }

    /// Stores the group and publishes it.
    async fn store_group(&mut self, head: Version, formed: Formed) -> Result<Outcome, Error> {
        if let Some(batch) = formed.batch {
            let version = batch.version;
            if let Outcome::HeadMoved = self.apply(head, batch).await? {
                return Ok(Outcome::HeadMoved);
            }
            self.tail.publish(formed.entries, version);
        }
        for (path, document) in formed.documents {
            self.latest.put(path, document);
        }
        Ok(Outcome::Stored)
    }

    /// Gives the store a batch. After an error nothing that is remembered can be relied on.
    async fn apply(&mut self, head: Version, batch: Batch) -> Result<Outcome, Error> {
        match self.store.apply(head, batch).await {
            Ok(Applied::Applied) => Ok(Outcome::Stored),
            Ok(Applied::HeadMoved(_)) => Ok(Outcome::HeadMoved),
            Err(error) => {
                self.latest.clear();
                tracing::error!(database = %self.database, %error, "a group could not be stored");
                let answer = Error::Unavailable(error.to_string());
                match error {
                    watchfire_storage::Error::Poisoned(_)
                    | watchfire_storage::Error::Corrupt(_)
                    | watchfire_storage::Error::Closed => {
                        self.read_only = Some(answer.clone());
                    }
                    watchfire_storage::Error::Unavailable(_)
                    | watchfire_storage::Error::Locked(_) => {}
                }
                Err(answer)
            }
        }
    }

    /// The state at the head, which the tail has reached then.
    async fn snapshot_at_head(&mut self) -> Result<Arc<dyn Snapshot>, Error> {
        let snapshot = self.store.snapshot().await?;
        if snapshot.version() != self.tail.version() {
            self.catch_up_to(snapshot.as_ref()).await?;
        }
        Ok(snapshot)
    }

    async fn catch_up(&mut self) -> Result<(), Error> {
        let snapshot = self.store.snapshot().await?;
        self.catch_up_to(snapshot.as_ref()).await
    }

    /// Publishes what others have committed, up to the snapshot.
    async fn catch_up_to(&mut self, snapshot: &dyn Snapshot) -> Result<(), Error> {
        self.latest.clear();
        let target = snapshot.version();
        let tail = self.tail.version();
        if target < tail {
            return Err(Error::Corrupt(format!(
                "the store's head went back from version {} to {}",
                tail.0, target.0
            )));
        }
        // Others may have altered the indexes, or worked on them.
        let catalog = stored::load(snapshot).await?;
        match read_entries(snapshot, tail, RING_ENTRIES_MAX).await? {
            Stored::Entries {
                entries,
                complete_to,
            } if complete_to == target => self.tail.publish(entries, target),
            // Too much to keep: whoever needs it reads it from the store.
            Stored::Entries { .. } | Stored::TooOld => self.tail.skip_to(target),
        }
        self.catalog = Arc::new(catalog);
        Ok(())
    }

    /// Moves the tail to the present with an empty batch, unless it is there already. A failure leaves it where it is.
    async fn settle(&mut self) {
        if self.read_only.is_some() || present(self.clock.as_ref()) <= self.tail.version() {
            return;
        }
        if let Err(error) = self.maintain(Vec::new()).await {
            tracing::warn!(database = %self.database, %error, "the tail could not be moved to the present");
        }
    }

    /// Trims one piece when the time has come. Many pieces take many rounds, with commits in between.
    async fn trim_if_due(&mut self) {
        let now = present(self.clock.as_ref());
        let interval = u64::try_from(TRIM_INTERVAL.as_micros()).unwrap_or(u64::MAX);
        if self.read_only.is_some() || now.0.saturating_sub(self.trimmed_at.0) < interval {
            self.trim = Trim::Rests;
            return;
        }
        match self.trim(now).await {
            // More of it at the next round.
            Ok(true) => self.trim = Trim::GoesOn,
            Ok(false) => {
                self.trim = Trim::Rests;
                self.trimmed_at = now;
            }
            Err(error) => {
                self.trim = Trim::Rests;
                self.trimmed_at = now;
                tracing::warn!(database = %self.database, %error, "the changelog could not be trimmed");
            }
        }
    }

    /// Whether there is more to trim.
    async fn trim(&mut self, now: Version) -> Result<bool, Error> {
        let snapshot = self.store.snapshot().await?;
        let piece = trim::piece(snapshot.as_ref(), now).await?;
        if !piece.operations.is_empty() {
            self.maintain(piece.operations).await?;
        }
        Ok(piece.more)
    }

    /// Stores a batch that is no commit, and moves the tail.
    async fn maintain(
        &mut self,
        operations: Vec<watchfire_storage::Operation>,
    ) -> Result<(), Error> {
        for _ in 0..=HEAD_MOVED_RETRIES_MAX {
            match self.maintain_once(operations.clone()).await? {
                Outcome::Stored => return Ok(()),
                Outcome::HeadMoved => self.catch_up().await?,
            }
        }
        Err(moved_too_often())
    }

    /// As `maintain`, if nobody else moved the head.
    async fn maintain_once(
        &mut self,
        operations: Vec<watchfire_storage::Operation>,
    ) -> Result<Outcome, Error> {
        let head = self.tail.version();
        let version = next(self.clock.as_ref(), head);
        let batch = Batch {
            version,
            operations,
        };
        let outcome = self.apply(head, batch).await?;
        if let Outcome::Stored = outcome {
            self.tail.publish(Vec::new(), version);
        }
        Ok(outcome)
    }
}

fn moved_too_often() -> Error {
    Error::Unavailable("other servers kept committing first; try again".to_owned())
}
