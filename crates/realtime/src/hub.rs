//! The handles in front of the dispatcher: of all listeners of a database, and of one stream.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use watchfire_engine::Engine;
use watchfire_model::watch::Cause;

use crate::counters::Counters;
use crate::dispatcher::Dispatcher;
use crate::error::{SessionError, StreamEnd};
use crate::heartbeats::HEARTBEAT;
use crate::outbox::{Outbox, Queue, Signal};
use crate::request::Command;
use crate::target::{AddTarget, StreamId};

/// Requests that wait for the dispatcher; more make their callers wait.
pub const COMMANDS_MAX: usize = 1_024;

/// The listeners of one database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hub {
    commands: mpsc::Sender<Command>,
    signal: Arc<Signal>,
    last_stream: Arc<AtomicU64>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Hub {
    /// Starts the dispatcher. Needs a Tokio runtime.
    pub fn start(engine: Engine) -> Self {
        Self::start_with(engine, HEARTBEAT)
    }

    /// As `start`, with another time between heartbeats (not zero).
    pub fn start_with(engine: Engine, heartbeat: Duration) -> Self {
        let (commands, requests) = mpsc::channel(COMMANDS_MAX);
        let signal = Arc::new(Signal::default());
        let dispatcher = Dispatcher::new(engine, requests, Arc::clone(&signal), heartbeat);
        let task = tokio::spawn(dispatcher.run());
        Self {
            commands,
            signal,
            last_stream: Arc::default(),
            task: Arc::new(Mutex::new(Some(task))),
        }
    }

    /// A new stream. It costs nothing until its first request.
    pub fn connect(&self) -> (SessionHandle, Outbox) {
        let stream = StreamId(self.last_stream.fetch_add(1, Ordering::Relaxed) + 1);
        let (queue, outbox) = Queue::new(stream, Arc::clone(&self.signal));
        (
            SessionHandle {
                stream,
                queue,
                commands: self.commands.clone(),
            },
            outbox,
        )
    }

    /// What is counted of its listeners, as it is now and goes on.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.signal.counters)
    }

    /// Ends all streams cleanly (their outboxes give `None`) and the dispatcher. Later requests are refused.
    pub async fn close(&self) {
        // A dispatcher that is gone is closed already.
        let _ = self.commands.send(Command::Close).await;
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the dispatcher of listeners had failed");
        }
    }
}

/// The requesting side of a listen stream.
#[derive(Clone, Debug)]
pub struct SessionHandle {
    stream: StreamId,
    queue: Arc<Queue>,
    commands: mpsc::Sender<Command>,
}

impl SessionHandle {
    /// Watches a target. What concerns the target alone is answered through the outbox; an error here
    /// ends the whole stream.
    pub async fn add(&self, add: AddTarget) -> Result<(), SessionError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Add {
            stream: self.stream,
            queue: Arc::clone(&self.queue),
            add,
            reply,
        };
        self.ask(command, answer).await
    }

    /// Answers a request to watch what cannot be watched, after what was asked before, through the outbox. The request is
    /// held to what `add` holds all to: its target id may be in use, or end the whole stream.
    pub async fn refuse(&self, target_id: i32, cause: Cause) -> Result<(), SessionError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Refuse {
            stream: self.stream,
            queue: Arc::clone(&self.queue),
            target_id,
            cause,
            reply,
        };
        self.ask(command, answer).await
    }

    /// Ends a target; the outbox acknowledges. One that is not active was ended before and is not answered.
    pub async fn remove(&self, target_id: i32) {
        self.send(Command::Remove {
            stream: self.stream,
            target_id,
        })
        .await;
    }

    /// Ends a target for a reason of the server's, as when its caller may not read it any more; the outbox says so.
    /// One that is not active is not told of.
    pub async fn fail(&self, target_id: i32, cause: Cause) {
        self.send(Command::Fail {
            stream: self.stream,
            target_id,
            cause,
        })
        .await;
    }

    /// Ends the stream, as when its caller's token has expired: the outbox gives the reason after what waits.
    pub async fn end(&self, end: StreamEnd) {
        self.queue.end(Some(end.clone()));
        self.send(Command::End {
            stream: self.stream,
            end,
        })
        .await;
    }

    async fn ask(
        &self,
        command: Command,
        answer: oneshot::Receiver<Result<(), SessionError>>,
    ) -> Result<(), SessionError> {
        if self.commands.send(command).await.is_err() {
            self.queue.end(None);
            return Err(SessionError::Ended);
        }
        answer.await.unwrap_or(Err(SessionError::Ended))
    }

    async fn send(&self, command: Command) {
        if self.commands.send(command).await.is_err() {
            self.queue.end(None);
        }
    }
}
