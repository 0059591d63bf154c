//! Who must hear of a change.
//!
//! # The picture
//!
//! One [`Hub`] serves the listeners of one database.
//! It owns one task, the dispatcher, and the dispatcher owns everything: the shared targets with
//! their results, and the sessions (one for each listen stream, or for many that are alike: see `cohort`).
//! Nothing here is locked but the queues to the streams, and nobody but the dispatcher changes state.
//!
//! A commit never calls this crate.
//! The dispatcher waits on the tail of the engine, reads the entries since its last version, and
//! works out who is concerned: the tail says "look again", the changelog is the truth.
//!
//! # The mechanisms
//!
//! - `target` names what is watched; equal targets are one shared target, however many watch it.
//! - `matcher` finds the targets that a changed document may concern, by index.
//! - `result` keeps the result of a target current, or says that it must be read again.
//! - `registry` holds the shared targets and their state between filling and standing.
//! - `session` is one stream as a state machine without IO or clock. It holds back until all of its
//!   current targets stand at one version, then tells the changes and closes them with a snapshot.
//! - `resume` writes and reads resume tokens, and finds what was touched since one.
//! - `catch_up` says what a client needs that stood at an earlier version, from that or by comparing results.
//! - `job` is work whose result is waited for, and that ends when it no longer is.
//! - `outbox` carries the output of a session to its stream, bounded.
//! - `gathering` says how long the targets of a stream that comes back wait for each other.
//! - `heartbeats` knows when who was told nothing for a while is told that nothing has changed.
//! - `counters` is what is counted meanwhile, for those who watch the server.
//! - `dispatcher` is the task, and the `Hub` in front of it.
//!
//! # What is promised
//!
//! Invariant: at a snapshot with read time T, what a stream has told about each current target equals
//! the query's result at T.
//! Invariant: read times of one stream never go back.
//! Invariant: a stream that does not read costs bounded memory and slows nobody.
//! While a stream is behind, its changes are merged for each document; when even that is too much, its
//! targets are reset and sent whole as soon as it reads again.
//!
//! # What is not done
//!
//! No protocol encoding, no authorisation, no writing, and no knowledge of other processes.
//! A limited query whose token is older than the history, and whatever was told of another history, is answered by a
//! reset.

pub mod catch_up;
pub mod cohort;
pub mod counters;
pub mod dispatcher;
pub mod error;
pub mod gathering;
pub mod heartbeats;
pub mod hub;
pub mod job;
pub mod matcher;
pub mod outbox;
pub mod registry;
pub mod request;
pub mod result;
pub mod resume;
pub mod session;
pub mod target;

pub use counters::Counters;
pub use error::{SessionError, StreamEnd};
pub use hub::{Hub, SessionHandle};
pub use outbox::{Outbox, Telling};
pub use target::{AddTarget, Resume};
