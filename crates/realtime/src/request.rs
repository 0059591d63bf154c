//! What streams ask of the dispatcher.

use std::sync::Arc;

use tokio::sync::oneshot;
use watchfire_engine::Version;
use watchfire_model::watch::{Cause, Target};

use crate::error::{SessionError, StreamEnd};
use crate::outbox::Queue;
use crate::resume::{self, Point};
use crate::session::Watch;
use crate::target::{
    AddTarget, DOCUMENTS_PER_TARGET_MAX, Interest, SharedId, StreamId, identity, stable_hash,
};

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

/// Checks a request; the numbers of the watch are filled in later.
pub fn watch_of(
    origin: u64,
    add: &AddTarget,
    tail: Version,
) -> Result<(Vec<u8>, Interest, Watch), Cause> {
    if let Target::Documents(paths) = &add.target
        && paths.len() > DOCUMENTS_PER_TARGET_MAX
    {
        let text = format!("A target may name at most {DOCUMENTS_PER_TARGET_MAX} documents");
        return Err(Cause::ResourceExhausted(text));
    }
    let identity = identity(&add.target);
    let interest = Interest::new(&add.target);
    let hash = stable_hash(&identity);
    let point = resume::check(&add.resume, origin, hash, tail).map_err(Cause::Invalid)?;
    let (replay_from, by_time, reset) = match point {
        None => (None, false, false),
        Some(Point::Version(version)) => (Some(version), false, false),
        Some(Point::Time(version)) => (Some(version), true, false),
        Some(Point::Unknown) => (None, false, true),
    };
    let watch = Watch {
        shared: SharedId(0),
        watch: 0,
        hash,
        projected: interest.projected(),
        once: add.once,
        replay_from,
        by_time,
        reset,
        expected_count: add.expected_count,
        not_before: Version::default(),
    };
    Ok((identity, interest, watch))
}
