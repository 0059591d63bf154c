//! The committer: the one door through which a database changes.
//!
//! One task per open database takes commands from one bounded queue. Commits form a group, up to its bounds; the
//! group is one batch and one flush. The order is: apply to the store, publish on the tail, answer the callers.
//! Nobody else writes, and the committer waits for nobody but the store.
//!
//! # The pipeline
//!
//! While one group is on its way to the store (`Flight`), the next one takes commits as they come (`Forming`), on the
//! state that the first will leave. It is sent when the first has landed, so there is never a second batch on its
//! way and a group is as large as the time of a flush makes it. What a commit of the second group came to, a
//! refusal too, is told only when both are durable. When the first one fails, the second is formed again from
//! its requests.
//!
//! # Between groups
//!
//! Whatever else is stored (altered indexes, pieces of index work and of trimming) waits until nothing is on its way
//! and nothing is formed; while something of that kind is due, no further commits are taken. After each piece of it
//! at least one group has its turn.
//!
//! # Trouble
//!
//! When the store's head has moved without it, the committer reads the new entries and forms the groups again on
//! the newer state. When the store fails, every commit of the group on its way is answered `Unavailable`; whether it was
//! written is found out by reading the head again before the next group. A store that has failed is asked again for
//! each group: it may have recovered. One that is closed or damaged makes the database read-only until it is
//! opened anew.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinError;
use tokio::time::Instant;
use watchfire_model::{Clock, DatabaseName, Write};
use watchfire_storage::{Applied, Store, Version};

use crate::changelog::tail::Tail;
use crate::check::{Pass, Repair};
use crate::commit::forming::{Flight, Forming};
use crate::commit::group::Receipt;
use crate::commit::latest::Latest;
use crate::definition::Definition;
use crate::error::Error;
use crate::index::catalog::alter::Alteration;
use crate::index::catalog::{Catalog, OperationId};
use crate::lock::landing::Landing;
use crate::lock::table::Age;
use crate::lock::{Claim, Locks};
use crate::transaction::Transaction;
use crate::version::present;

pub mod conflict;
pub mod convert;
mod forming;
pub mod group;
mod head;
pub mod indexes;
pub mod latest;
mod pipeline;
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
/// How many callers wait for the present to be reached before no further commands are taken.
const SETTLES_MAX: usize = 1024;
/// How many commands that are no commits wait for the groups before no further commands are taken.
const OTHERS_MAX: usize = 1024;
/// How often groups are formed again because the head moved; then their commits are answered `Unavailable`.
pub const HEAD_MOVED_RETRIES_MAX: usize = 16;
/// How often the changelog is trimmed, by the database's clock and at the latest by the committer's own timer.
pub const TRIM_INTERVAL: Duration = Duration::from_secs(60);
/// How many lost groups are remembered for those who are granted locks; past it the later ones are not, and whoever
/// reads what they touch may be aborted at its commit.
const LOST_GROUPS_MAX: usize = 16;
/// How soon a store that has lost a batch is asked again without a commit, and how long the pauses grow in the end.
const PROBE_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// How many times as many bytes as were committed meanwhile are trimmed when trimming has its turn, if there are.
const TRIM_FACTOR: usize = 2;
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
    /// For the locks that may be in its way.
    pub claim: Claim,
    /// Where the answer goes; nobody needs to wait for it.
    pub reply: oneshot::Sender<Reply>,
}

/// What the sender of a commit hears.
pub enum Reply {
    /// What it came to.
    Decided(Result<Receipt, Error>),
    /// Locks of others are in its way. When its turn has come it has to be sent again; until then nothing of it is here.
    Waits(Box<Returned>),
}

/// A commit that was given back: a request without the place for its answer.
pub struct Returned {
    writes: Vec<Write>,
    transaction: Option<Arc<Transaction>>,
    permit: OwnedSemaphorePermit,
    bytes: usize,
    /// Knows when its turn has come.
    pub claim: Claim,
}

impl Returned {
    /// To be sent again.
    pub fn again(self, reply: oneshot::Sender<Reply>) -> Request {
        Request {
            writes: self.writes,
            transaction: self.transaction,
            permit: self.permit,
            bytes: self.bytes,
            claim: self.claim,
            reply,
        }
    }
}

impl Request {
    fn give_back(self) {
        let returned = Returned {
            writes: self.writes,
            transaction: self.transaction,
            permit: self.permit,
            bytes: self.bytes,
            claim: self.claim,
        };
        // Nobody hears of a commit whose caller has gone away while it waits.
        let _ = self.reply.send(Reply::Waits(Box::new(returned)));
    }
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

/// A command that needs the head for itself.
enum Other {
    Alter(AlterRequest),
    Repair(RepairRequest),
    Close(oneshot::Sender<Result<(), Error>>),
}

/// What became of storing a batch.
enum Outcome {
    Stored,
    HeadMoved,
}

/// Whose turn it is when both commits and other work wait.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Turn {
    Commits,
    Work,
}

/// What the committer waits for.
enum Event {
    /// The group on its way has landed, or not.
    Landed(Result<Result<Applied, watchfire_storage::Error>, JoinError>),
    /// Somebody has sent a command.
    Command(Command),
    /// A query wants an index.
    Wanted(Definition),
    /// Every sender of commands is gone.
    Gone,
    /// Time has passed.
    Nothing,
}

/// The state of the task.
pub struct Committer {
    database: DatabaseName,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    tail: Arc<Tail>,
    locks: Arc<Locks>,
    latest: Latest,
    /// The indexes at the tail.
    catalog: Arc<Catalog>,
    /// Commits that are in no group. Filled by `take`, and again when groups must be formed anew; emptied by `form`.
    pending: VecDeque<Request>,
    /// The group that takes commits. Made by `form`, sent by `launch`.
    forming: Option<Forming>,
    /// The group on its way. Sent by `launch`, ended by `landed`.
    flight: Option<Flight>,
    /// The documents could not be loaded on the state that the flight leaves: nothing is formed until it has landed.
    stalled: bool,
    /// How often groups had to be formed again since one has landed.
    moves: usize,
    /// Who waits until the tail is at a version.
    settles: VecDeque<(Version, oneshot::Sender<Version>)>,
    /// What is served between groups.
    others: VecDeque<Other>,
    turn: Turn,
    /// No further command can come.
    gone: bool,
    /// When the last piece of work on indexes ended, and how long it took.
    pace: indexes::Pace,
    /// Set once the store takes no more writes.
    read_only: Option<Error>,
    /// Whether the store refused the last batch that it was given.
    failing: bool,
    /// A batch was refused or lost, and the store has not said since where its head is: it may be beyond the tail.
    head_unknown: bool,
    /// The groups that were lost: as long as they may still turn out to be written, nobody who is granted a lock on what
    /// they touch reads it. Let go of when the store takes a batch again.
    lost: Vec<Landing>,
    /// When the store is asked by itself whether it takes batches again, and how long after that the next time.
    probe: Option<(Instant, Duration)>,
    /// When everything that was due had been trimmed.
    trimmed_at: Version,
    trim: Trim,
    /// Bytes in the changelog of what has landed since trimming had its turn.
    landed_bytes: usize,
    /// How long the changelog and the history are kept.
    kept_micros: u64,
}

impl Committer {
    /// A committer on the state at the tail, which trims what is older than `kept_micros`.
    pub fn new(
        database: DatabaseName,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        tail: Arc<Tail>,
        locks: Arc<Locks>,
        catalog: Arc<Catalog>,
        kept_micros: u64,
    ) -> Self {
        Self {
            database,
            store,
            clock,
            tail,
            locks,
            latest: Latest::default(),
            catalog,
            pending: VecDeque::new(),
            forming: None,
            flight: None,
            stalled: false,
            moves: 0,
            settles: VecDeque::new(),
            others: VecDeque::new(),
            turn: Turn::Work,
            gone: false,
            pace: indexes::Pace::default(),
            read_only: None,
            failing: false,
            head_unknown: false,
            lost: Vec::new(),
            probe: None,
            trimmed_at: Version(0),
            trim: Trim::Rests,
            landed_bytes: 0,
            kept_micros,
        }
    }

    /// Runs until it is closed, or every sender of commands is gone and what they sent is done. Indexes that come
    /// through `wanted` are defined.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut wanted: mpsc::Receiver<Definition>,
    ) {
        loop {
            self.form().await;
            if self.flight.is_none() && self.forming.is_some() {
                self.launch();
                if self.flight.is_none() {
                    // Nothing was changed, so nothing is on its way, and more may be formed.
                    continue;
                }
            }
            if self.is_idle() {
                if self.gone {
                    return;
                }
                if let After::End = self.work_between_groups().await {
                    return;
                }
            }
            match self.next_event(&mut commands, &mut wanted).await {
                Event::Landed(stored) => self.landed(stored).await,
                Event::Command(first) => self.take(first, &mut commands),
                Event::Wanted(definition) => self.define(definition).await,
                Event::Gone => self.gone = true,
                Event::Nothing => {}
            }
        }
    }

    /// Whether no group is formed or on its way.
    fn is_idle(&self) -> bool {
        self.flight.is_none() && self.forming.is_none() && self.pending.is_empty()
    }

    async fn next_event(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        wanted: &mut mpsc::Receiver<Definition>,
    ) -> Event {
        let now = Instant::now();
        let takes = self.takes_commands(now, wanted);
        if let Some(flight) = &mut self.flight {
            return tokio::select! {
                biased;
                stored = &mut flight.stored => Event::Landed(stored),
                command = commands.recv(), if takes => command.map_or(Event::Gone, Event::Command),
            };
        }
        if self.index_work_is_due(now) {
            // Nobody is waited for; but other tasks may be about to send.
            tokio::task::yield_now().await;
            return match commands.try_recv() {
                Ok(command) => Event::Command(command),
                Err(TryRecvError::Disconnected) => Event::Gone,
                Err(TryRecvError::Empty) => wanted.try_recv().map_or(Event::Nothing, Event::Wanted),
            };
        }
        let patience = self.patience(now);
        tokio::select! {
            biased;
            command = commands.recv() => command.map_or(Event::Gone, Event::Command),
            Some(definition) = wanted.recv() => Event::Wanted(definition),
            () = tokio::time::sleep(patience) => Event::Nothing,
        }
    }

    /// Whether more commands are taken while a group is on its way. Not while there are bounds that are reached, or
    /// work that has to wait until nothing is on its way.
    fn takes_commands(&self, now: Instant, wanted: &mpsc::Receiver<Definition>) -> bool {
        let room = self.pending.is_empty()
            && !self.forming.as_ref().is_some_and(Forming::is_full)
            && self.settles.len() < SETTLES_MAX;
        let work_waits = !self.others.is_empty()
            || (self.turn == Turn::Work
                && (self.trim_is_due() || self.index_work_is_due(now) || !wanted.is_empty()));
        room && !work_waits && !self.gone
    }

    /// How long it may wait for something to do.
    fn patience(&self, now: Instant) -> Duration {
        let patience = match self.trim {
            Trim::Rests => TRIM_INTERVAL,
            Trim::GoesOn => TRIM_PAUSE,
        };
        let work = self.index_work_due_in(now);
        let probe = self.probe.map(|(at, _)| at.saturating_duration_since(now));
        [work, probe]
            .into_iter()
            .flatten()
            .fold(patience, Duration::min)
    }

    /// Takes a command and what waits behind it, as far as there is room in the group that is formed.
    fn take(&mut self, first: Command, commands: &mut mpsc::Receiver<Command>) {
        let formed = self.forming.as_ref();
        let commits = formed.map_or(0, |forming| forming.answered.len());
        let mut bytes = formed.map_or(0, |forming| forming.bytes);
        let mut command = Some(first);
        while let Some(taken) = command {
            match taken {
                Command::Commit(request) => {
                    bytes += request.bytes;
                    self.pending.push_back(request);
                }
                Command::Settle(reply) => {
                    self.settles
                        .push_back((present(self.clock.as_ref()), reply));
                }
                Command::Alter(request) => self.others.push_back(Other::Alter(request)),
                Command::Repair(request) => self.others.push_back(Other::Repair(request)),
                Command::Close(reply) => self.others.push_back(Other::Close(reply)),
            }
            let full = commits + self.pending.len() >= GROUP_COMMITS_MAX
                || bytes >= GROUP_BYTES_MAX
                || self.settles.len() >= SETTLES_MAX
                || self.others.len() >= OTHERS_MAX
                || matches!(self.others.back(), Some(Other::Close(_)));
            command = if full { None } else { commands.try_recv().ok() };
        }
        let first = |request: &Request| request.claim.first();
        if self.pending.iter().any(|request| first(request).is_some()) {
            // Commits that locks are taken for go first, the older before the younger; the others as they came.
            let last = Age::LAST;
            let pending = self.pending.make_contiguous();
            pending.sort_by_key(|request| first(request).unwrap_or(last));
        }
        if !self.pending.is_empty() {
            self.pace.commits_came();
        }
    }

    /// Everything that needs the head for itself.
    async fn work_between_groups(&mut self) -> After {
        while let Some(command) = self.others.pop_front() {
            match command {
                Other::Alter(request) => {
                    let answer = self.alter(request.alteration, request.estimated).await;
                    // The caller may have gone away; the alteration is what it is.
                    let _ = request.reply.send(answer);
                }
                Other::Repair(request) => {
                    let answer = self.repair(request.pass, &request.position).await;
                    // As with alterations.
                    let _ = request.reply.send(answer);
                }
                Other::Close(reply) => {
                    let closed = self.store.close().await.map_err(Error::from);
                    // Commits that wait for locks could not be sent again.
                    self.locks.close();
                    // Whoever closes may be gone, and it is closed all the same.
                    let _ = reply.send(closed);
                    return After::End;
                }
            }
        }
        self.settle().await;
        self.probe_if_due().await;
        self.trim_if_due().await;
        self.work_on_indexes_if_due().await;
        self.turn = Turn::Commits;
        After::Continue
    }
}
