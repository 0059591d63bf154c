//! `Target` and `WatchEvent`: the words of listening.

use std::sync::Arc;

use crate::{Document, DocumentPath, Invalid, Query, Timestamp};

/// What is watched.
#[derive(Clone, Debug)]
pub enum Target {
    Query(Arc<Query>),
    /// A set of documents by name.
    Documents(Vec<DocumentPath>),
}

/// Why a target ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Bad input, including `bad resume token`.
    Invalid(Invalid),
    AlreadyExists(String),
    FailedPrecondition(String),
    PermissionDenied,
    ResourceExhausted(String),
    Unavailable(String),
}

/// One event of a listen stream. `targets` empty means all targets.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    Added { target: i32 },
    /// Acknowledges a removal, or (with a cause) ends the target.
    Removed { target: i32, cause: Option<Cause> },
    Current { targets: Vec<i32>, token: Vec<u8>, read_time: Timestamp },
    Reset { targets: Vec<i32> },
    /// With all documents up to `read_time` sent: a consistent snapshot of all current targets.
    Snapshot { token: Vec<u8>, read_time: Timestamp },
    Changed { document: Arc<Document>, targets: Vec<i32>, removed_targets: Vec<i32> },
    Deleted { path: DocumentPath, removed_targets: Vec<i32>, read_time: Timestamp },
    /// Left the target; contents not sent.
    Left { path: DocumentPath, removed_targets: Vec<i32>, read_time: Timestamp },
    Filter { target: i32, count: i32 },
}
