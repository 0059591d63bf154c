//! What streams ask of the dispatcher.

use std::sync::Arc;

use tokio::sync::oneshot;
use watchfire_model::watch::Cause;

use crate::error::{SessionError, StreamEnd};
use crate::outbox::Queue;
use crate::target::{AddTarget, StreamId};

/// One request. Requests of one stream are carried out in the order in which they come.
#[derive(Debug)]
pub enum Command {
    /// Watch a target.
    Add {
        stream: StreamId,
        queue: Arc<Queue>,
        add: AddTarget,
        reply: oneshot::Sender<Result<(), SessionError>>,
    },
    /// A target that cannot be watched, as was found out before: what comes of it is said in its turn.
    Refuse {
        stream: StreamId,
        queue: Arc<Queue>,
        target_id: i32,
        cause: Cause,
        reply: oneshot::Sender<Result<(), SessionError>>,
    },
    /// The caller ends a target.
    Remove { stream: StreamId, target_id: i32 },
    /// The server ends a target.
    Fail {
        stream: StreamId,
        target_id: i32,
        cause: Cause,
    },
    /// The server ends a stream.
    End { stream: StreamId, end: StreamEnd },
    /// End everything.
    Close,
}
