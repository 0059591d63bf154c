//! `Target` and `WatchEvent`: the words of listening.
//!
//! Only the words: who says them, and when, is the business of sessions.

use std::sync::Arc;

use crate::bloom::BloomFilter;
use crate::document::Document;
use crate::invalid::Invalid;
use crate::path::DocumentPath;
use crate::query::Query;
use crate::time::Timestamp;

/// What is watched.
#[derive(Clone, Debug)]
pub enum Target {
    /// The result of a query, limit included.
    Query(Arc<Query>),
    /// A set of documents by name.
    Documents(Vec<DocumentPath>),
}

/// Why a target ended. Each variant is one code of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Bad input, including `bad resume token`.
    Invalid(Invalid),
    /// The target id is in use for something else.
    AlreadyExists(String),
    /// The target cannot be served as things are.
    FailedPrecondition(String),
    /// The caller may not read this.
    PermissionDenied,
    /// A limit of the server; retrying later may help.
    ResourceExhausted(String),
    /// Something that this server does not do; holds the sentence that names it.
    Unimplemented(String),
    /// A passing fault of the server; retrying helps.
    Unavailable(String),
}

/// One event of a listen stream. `targets` empty means all targets.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// Acknowledges a target; said once, before anything else about it.
    Added {
        /// The id that the caller chose, or 1 and up when the server chooses.
        target: i32,
    },
    /// Acknowledges a removal, or (with a cause) ends the target.
    Removed {
        /// The target, about which nothing more is said.
        target: i32,
        /// Absent when the caller asked for the removal.
        cause: Option<Cause>,
    },
    /// The targets are caught up: all documents up to `read_time` were sent.
    Current {
        /// Which ones.
        targets: Vec<i32>,
        /// Resumes from here.
        token: Vec<u8>,
        /// The version as a moment.
        read_time: Timestamp,
    },
    /// Forget the documents of these targets; they are sent anew.
    Reset {
        /// Which ones.
        targets: Vec<i32>,
    },
    /// With all documents up to `read_time` sent: a consistent snapshot of all current targets.
    Snapshot {
        /// Resumes from here.
        token: Vec<u8>,
        /// The version as a moment; never goes back within a stream.
        read_time: Timestamp,
    },
    /// A document as it now is.
    Changed {
        /// Its contents.
        document: Arc<Document>,
        /// The targets that it is in.
        targets: Vec<i32>,
        /// The targets that it is no longer in.
        removed_targets: Vec<i32>,
    },
    /// A document that no longer exists.
    Deleted {
        /// Its name.
        path: DocumentPath,
        /// The targets that it was in.
        removed_targets: Vec<i32>,
        /// When it was known not to exist.
        read_time: Timestamp,
    },
    /// Left the target; contents not sent.
    Left {
        /// Its name.
        path: DocumentPath,
        /// The targets that it is no longer in.
        removed_targets: Vec<i32>,
        /// When that was known.
        read_time: Timestamp,
    },
    /// How many documents are in the target, for a caller that resumed to check.
    Filter {
        /// The target.
        target: i32,
        /// Documents in it.
        count: i32,
        /// The full names of all documents in it, so that a caller whose count differs finds out which of its own have
        /// gone. Absent where that need not be said, or is not wanted.
        unchanged_names: Option<Arc<BloomFilter>>,
    },
}
