//! What happened in one run of the world, in plain data: all that the oracle may look at.
//!
//! Everything is written down where a client stands: what it asked, what it was told, and when; a client that was
//! cut off writes down that it does not know. Beside that stand what the world did on purpose (crashes, faults,
//! steps of the clock) and what was stored in the end. Nothing here decides what is right.
//!
//! # Order
//!
//! A [`Moment`] has a step: every observation of a run takes the next number, so that steps order all of them.
//! An operation that ended at a lower step than another one began ended before it in real time. Simulated time
//! is told for people; it may stand still between steps. Versions come from the server's clock, which steps back
//! and forward on purpose, and are not to be compared with simulated time.

use std::collections::BTreeMap;
use std::sync::Arc;

use watchfire_engine::{CommitEntry, ConcurrencyMode, Version};
use watchfire_model::watch::{Target, WatchEvent};
use watchfire_model::{
    Aggregation, DatabaseName, Document, DocumentPath, Query, Value, Write, WriteOutcome,
};

/// When something was observed.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Different for every observation of a run, rising.
    pub step: u64,
    /// Simulated time since the run began, in microseconds.
    pub micros: u64,
}

/// A client of the world; one client asks for one thing at a time on each of its streams and calls.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u32);

/// A transaction of the world: unique in a run, other than the server's ids. Every attempt is another one.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionNumber(pub u64);

/// A listen stream of the world: its place in [`History::streams`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamNumber(pub usize);

/// Everything that happened.
#[derive(Clone, Debug)]
pub struct History {
    /// From which seed.
    pub seed: u64,
    /// Whose documents.
    pub database: DatabaseName,
    /// In the order in which they ended; those that were under way when the run ended have outcome `Unknown`.
    pub operations: Vec<Operation>,
    /// In the order in which they were opened.
    pub streams: Vec<Stream>,
    /// In order.
    pub incidents: Vec<(Moment, Incident)>,
    /// What was there after the last recovery, when nothing was under way any more.
    pub stored: Stored,
}

/// One thing that a client asked for once. A retry is another operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who asked.
    pub client: ClientId,
    /// Before the server could know of it.
    pub started: Moment,
    /// When the client heard of the outcome, or was cut off. The server may work on it after that if the outcome
    /// is `Unknown`.
    pub ended: Moment,
    /// What was asked, and what came of it.
    pub kind: OperationKind,
}

/// What was asked, and what came of it.
#[derive(Clone, Debug)]
pub enum OperationKind {
    /// A transaction was begun. (Some are begun by their first read, and have no such operation.)
    Begin {
        /// Which one.
        transaction: TransactionNumber,
        /// How.
        options: Begun,
        /// The call's success.
        outcome: Outcome<()>,
    },
    /// Something was read.
    Read {
        /// In which transaction.
        transaction: Option<TransactionNumber>,
        /// As of when; `Latest` inside of transactions, but for those that were begun in the past.
        at: ReadAt,
        /// What.
        asked: Asked,
        /// What was found.
        outcome: Outcome<Answer>,
    },
    /// Writes were committed, with or without a transaction.
    Commit {
        /// In order.
        writes: Vec<Write>,
        /// The transaction that this ends, with all that it has read.
        transaction: Option<TransactionReads>,
        /// What became of it.
        outcome: Outcome<Receipt>,
    },
    /// A transaction was given up.
    Rollback {
        /// Which one.
        transaction: TransactionNumber,
        /// The call's success.
        outcome: Outcome<()>,
    },
    /// Index definitions were changed. What is asked and answered must not change by it.
    Alter {
        /// For people.
        what: String,
        /// The call's success.
        outcome: Outcome<()>,
    },
}

/// What came of an operation.
#[derive(Clone, Debug)]
pub enum Outcome<T> {
    /// The server answered.
    Acknowledged(T),
    /// The server answered that nothing was done, and why.
    Refused(Refusal),
    /// The call was cut off, or the answer does not tell (`UNAVAILABLE`): it may have happened, or may still.
    Unknown(String),
}

/// Why the server did nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `ABORTED`: a race was lost.
    Aborted,
    /// The transaction has expired, or is not known (any more).
    TransactionGone,
    /// `ALREADY_EXISTS`: a precondition said that there is no document, and there was one.
    AlreadyExists,
    /// `NOT_FOUND`: a precondition said that there is a document, and there was none.
    NotFound,
    /// The update time of a precondition was not the document's.
    VersionMismatch,
    /// `FAILED_PRECONDITION` else: a read time that is too old.
    FailedPrecondition(String),
    /// Anything else, with its text: busy, expired deadlines, bad input.
    Other(String),
}

/// How a transaction was begun.
#[derive(Clone, Debug)]
pub enum Begun {
    /// It reads at one version.
    ReadOnly {
        /// The version that was asked for, else the present.
        read_time: Option<Version>,
    },
    /// It reads and commits.
    ReadWrite {
        /// The attempt before this one.
        retry: Option<TransactionNumber>,
        /// As asked for; `None` is the database's setting.
        mode: Option<ConcurrencyMode>,
    },
}

/// As of when something was read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ReadAt {
    /// The present, or where the transaction stands.
    Latest,
    /// A version that was named by the caller.
    Past(Version),
}

/// What was to be read.
#[derive(Clone, Debug)]
pub enum Asked {
    /// Documents by name, each once.
    Documents(Vec<DocumentPath>),
    /// The result of a query.
    Query(Arc<Query>),
    /// Counts and sums over the result of a query.
    Aggregate(Arc<Query>, Vec<Aggregation>),
}

/// What was read.
#[derive(Clone, Debug)]
pub struct Answer {
    /// As of which version, as the server told.
    pub read_time: Version,
    /// Of the kind that was asked for.
    pub found: Found,
}

/// What was found.
#[derive(Clone, Debug)]
pub enum Found {
    /// Lines up with the names.
    Documents(Vec<Option<Arc<Document>>>),
    /// In order, whole.
    Query(Vec<Arc<Document>>),
    /// By alias.
    Aggregate(Vec<(String, Value)>),
}

/// A transaction at its commit.
#[derive(Clone, Debug)]
pub struct TransactionReads {
    /// Which one.
    pub number: TransactionNumber,
    /// As asked for when it was begun.
    pub mode: Option<ConcurrencyMode>,
    /// When the call began that began it.
    pub begun: Moment,
    /// Every read that was answered, in order.
    pub reads: Vec<(Asked, Answer)>,
}

/// What a commit came to.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The commit time. `None` for a write of a batch, which is told its update time only.
    pub version: Option<Version>,
    /// One for each write.
    pub outcomes: Vec<WriteOutcome>,
}

/// One listen stream, from its opening to its end.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Who listens.
    pub client: ClientId,
    /// Before the server could know of it.
    pub opened: Moment,
    /// What was asked for, in order.
    pub targets: Vec<Watched>,
    /// What the client got, in order.
    pub events: Vec<(Moment, StreamEvent)>,
    /// When and why it ended; `None` if it was there when the run ended.
    pub ended: Option<(Moment, StreamEnd)>,
}

/// One target of a stream.
#[derive(Clone, Debug)]
pub struct Watched {
    /// When it was asked for.
    pub asked: Moment,
    /// As the client calls it; used once in a stream.
    pub target_id: i32,
    /// What is watched.
    pub target: Target,
    /// From where it goes on.
    pub resume: ResumedFrom,
    /// When the client asked for its removal.
    pub removed: Option<Moment>,
}

/// From where a target goes on.
#[derive(Clone, Debug)]
pub enum ResumedFrom {
    /// The client holds nothing.
    Nothing,
    /// The client holds the view of an earlier stream, and its newest token for it.
    Token {
        /// As the server gave it.
        token: Vec<u8>,
        /// Which stream gave it.
        stream: StreamNumber,
        /// The read time that came with the token.
        read_time: Version,
        /// The read time of the snapshot at which the client had its view: that of the token or, when later snapshots
        /// came without a token, a later one.
        viewed: Version,
        /// What the client holds: its view then.
        held: View,
    },
    /// As `Token`, but the client sends the time and not the token.
    ReadTime {
        /// Which stream told it.
        stream: StreamNumber,
        /// The time.
        read_time: Version,
        /// What the client holds: its view at that time.
        held: View,
    },
}

/// The documents of one target as a client holds them.
pub type View = BTreeMap<DocumentPath, Arc<Document>>;

/// What the client got.
#[derive(Clone, Debug)]
pub enum StreamEvent {
    /// As the server said it.
    Watch(WatchEvent),
    /// Right after a `Watch(Snapshot)`: what the client shows now for each of its targets that is current, folded
    /// as the SDKs do it.
    Views {
        /// The snapshot's.
        read_time: Version,
        /// By target id. Targets that are not current yet are left out.
        views: BTreeMap<i32, View>,
    },
    /// Right after a `Watch(Filter)` whose count is not what the client holds: it forgets the target's documents
    /// and asks anew, without a token.
    FilterMismatch {
        /// The target.
        target_id: i32,
        /// How many documents the client held.
        held: usize,
    },
}

/// Why a stream ended.
#[derive(Clone, Debug)]
pub enum StreamEnd {
    /// The client closed it.
    ByClient,
    /// The client does not read it any more, and has not closed it.
    LeftBehind,
    /// The connection was cut, or the server went away.
    Cut,
    /// The server ended it, with this text.
    ByServer(String),
}

/// What the world did on purpose, or saw the server do.
#[derive(Clone, Debug)]
pub enum Incident {
    /// A server serves, on a store with this head. The first one of a run too.
    Started {
        /// Counts the servers of the run, from 1.
        life: u32,
        /// The store's head before the server was there.
        head: Version,
    },
    /// The server was not there any more from here on; what was not flushed is lost.
    Crashed {
        /// Batches that waited for their flush.
        waiting: usize,
        /// How many of them, the oldest, are on the disk all the same.
        written: usize,
    },
    /// The server was asked to end, and ended.
    Stopped,
    /// The system clock was moved by this much.
    ClockStepped {
        /// Microseconds; negative is back.
        micros: i64,
    },
    /// A fault of the store, for people.
    Fault(String),
}

/// What was there in the end.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The store's head.
    pub head: Version,
    /// Every document.
    pub documents: BTreeMap<DocumentPath, Arc<Document>>,
    /// Every commit that became durable in the run, in the order of the changelog, written down when the disk had
    /// it: trimming takes nothing from here. The run begins with an empty database.
    pub entries: Vec<Arc<CommitEntry>>,
    /// Which of the entries the changelog still had in the end: those after this version.
    pub trimmed_to: Version,
    /// The entries that the changelog had in the end, as read.
    pub kept: Vec<Arc<CommitEntry>>,
}
