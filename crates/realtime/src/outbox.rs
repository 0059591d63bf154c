//! The queue from a session to its stream.
//!
//! # The bound
//!
//! The dispatcher asks for room before it lets a session speak: while `UNREAD_MAX` events or
//! `UNREAD_MEMORY_MAX` bytes of documents wait, the session merges its changes instead (every event holds
//! its version of a document in memory; merged, only the last one is). What it then says in one go may exceed the bound by one
//! snapshot's worth (a first result may have many thousand documents; they are shared, not copied).
//! Answers to requests must go out at once, so they are counted apart: a caller that sends requests and
//! reads nothing loses its stream at `ANSWERS_MAX`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use watchfire_model::watch::WatchEvent;

use crate::error::StreamEnd;
use crate::target::SessionId;

/// Unread events past which a session does not speak.
pub const UNREAD_MAX: usize = 4_096;
/// Memory of the documents in unread events, in bytes, past which a session does not speak.
pub const UNREAD_MEMORY_MAX: usize = 8 << 20;
/// Unread answers to requests past which a stream ends with `SlowReader`.
pub const ANSWERS_MAX: usize = 10_000;

/// How queues call the dispatcher: somebody reads again, or is gone.
#[derive(Debug, Default)]
pub struct Signal {
    notify: Notify,
    /// Bounded by the number of sessions: each is named once.
    gone: Mutex<Vec<SessionId>>,
}

impl Signal {
    /// Waits until somebody called.
    pub async fn called(&self) {
        self.notify.notified().await;
    }

    /// Who is gone since the last time.
    pub fn take_gone(&self) -> Vec<SessionId> {
        std::mem::take(&mut lock(&self.gone))
    }
}

/// What an event in the queue counts as.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Weight {
    Answer,
    Told,
}

#[derive(Debug)]
struct Unread {
    event: WatchEvent,
    weight: Weight,
    /// Of the document in it, in bytes.
    memory: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Unread>,
    answers: usize,
    /// Of all documents in `events`, in bytes.
    memory: usize,
    /// The dispatcher was refused room and wants a call.
    wanted: bool,
    /// No more events; the reason is given once, after what waits.
    ended: bool,
    end: Option<StreamEnd>,
    /// The reading side was dropped.
    gone: bool,
}

impl Waiting {
    fn push(&mut self, event: WatchEvent, weight: Weight) {
        let memory = match &event {
            WatchEvent::Changed { document, .. } => document.memory(),
            _ => 0,
        };
        self.memory += memory;
        self.answers += usize::from(weight == Weight::Answer);
        self.events.push_back(Unread {
            event,
            weight,
            memory,
        });
    }

    fn pop(&mut self) -> Option<WatchEvent> {
        let Unread {
            event,
            weight,
            memory,
        } = self.events.pop_front()?;
        self.memory -= memory;
        self.answers -= usize::from(weight == Weight::Answer);
        Some(event)
    }

    fn clear(&mut self) {
        self.events.clear();
        self.answers = 0;
        self.memory = 0;
    }

    /// Whether less waits than this part of the bounds.
    fn is_below(&self, part: usize) -> bool {
        self.events.len() < UNREAD_MAX / part && self.memory < UNREAD_MEMORY_MAX / part
    }
}

/// The queue itself, shared by the dispatcher and the `Outbox`.
#[derive(Debug)]
pub struct Queue {
    session: SessionId,
    waiting: Mutex<Waiting>,
    arrived: Notify,
    signal: Arc<Signal>,
}

impl Queue {
    /// A new queue and its reading side.
    pub fn new(session: SessionId, signal: Arc<Signal>) -> (Arc<Self>, Outbox) {
        let queue = Arc::new(Self {
            session,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            signal,
        });
        (Arc::clone(&queue), Outbox { queue })
    }

    /// Whether a session may speak; when not, the dispatcher is called once there is room again.
    pub fn has_room(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        waiting.wanted = !waiting.is_below(1);
        !waiting.wanted
    }

    /// Whether nobody reads any more.
    pub fn is_over(&self) -> bool {
        let waiting = lock(&self.waiting);
        waiting.gone || waiting.ended
    }

    /// Appends what a session tells.
    pub fn tell(&self, events: Vec<WatchEvent>) {
        self.push(events, Weight::Told);
    }

    /// Appends answers to requests.
    pub fn answer(&self, events: Vec<WatchEvent>) {
        self.push(events, Weight::Answer);
        let full = {
            let mut waiting = lock(&self.waiting);
            let full = waiting.answers > ANSWERS_MAX;
            if full {
                waiting.clear();
            }
            full
        };
        if full {
            self.end(Some(StreamEnd::SlowReader));
        }
    }

    fn push(&self, events: Vec<WatchEvent>, weight: Weight) {
        {
            let mut waiting = lock(&self.waiting);
            if waiting.gone || waiting.ended {
                return;
            }
            for event in events {
                waiting.push(event, weight);
            }
        }
        self.arrived.notify_one();
    }

    /// Ends the stream after what waits; `None` is a clean end. The first end counts.
    pub fn end(&self, end: Option<StreamEnd>) {
        {
            let mut waiting = lock(&self.waiting);
            if waiting.ended {
                return;
            }
            waiting.ended = true;
            waiting.end = end;
        }
        self.arrived.notify_one();
    }
}

/// The reading side of a listen stream. Dropping it unregisters the session.
#[derive(Debug)]
pub struct Outbox {
    queue: Arc<Queue>,
}

impl Outbox {
    /// The next event; an error once, if the stream must end with a status; `None` when it is closed.
    /// Cancel safe: an event is taken only by a call that returns it.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, StreamEnd>> {
        loop {
            {
                let mut waiting = lock(&self.queue.waiting);
                if let Some(event) = waiting.pop() {
                    if waiting.wanted && waiting.is_below(2) {
                        waiting.wanted = false;
                        self.queue.signal.notify.notify_one();
                    }
                    return Some(Ok(event));
                }
                if waiting.ended {
                    return waiting.end.take().map(Err);
                }
            }
            self.queue.arrived.notified().await;
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut waiting = lock(&self.queue.waiting);
        waiting.gone = true;
        waiting.clear();
        drop(waiting);
        lock(&self.queue.signal.gone).push(self.queue.session);
        self.queue.signal.notify.notify_one();
    }
}

/// Nothing that is done under these locks can panic half way, so a poisoned lock holds a whole value.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use watchfire_model::{Document, DocumentPath, Fields, Timestamp, Value};

    use super::*;

    #[tokio::test]
    async fn refuses_room_when_full_and_calls_when_read() {
        let signal = Arc::new(Signal::default());
        let (queue, mut outbox) = Queue::new(SessionId(1), Arc::clone(&signal));
        assert!(queue.has_room());
        queue.tell(
            (0..5_000)
                .map(|target| WatchEvent::Added { target })
                .collect(),
        );
        assert!(!queue.has_room());
        for _ in 0..=5_000 - UNREAD_MAX / 2 {
            outbox.next().await.unwrap().unwrap();
        }
        signal.called().await;
        assert!(queue.has_room());
        drop(outbox);
        assert_eq!(signal.take_gone(), [SessionId(1)]);
        assert!(queue.is_over());
    }

    #[tokio::test]
    async fn large_documents_take_the_room_of_many() {
        let signal = Arc::new(Signal::default());
        let (queue, mut outbox) = Queue::new(SessionId(1), Arc::clone(&signal));
        let time = Timestamp::from_micros(1).unwrap();
        let document = Arc::new(Document {
            path: DocumentPath::parse("c/a").unwrap(),
            create_time: time,
            update_time: time,
            fields: Fields::from([("a".to_owned(), Value::Bytes(vec![0; 1_000_000]))]),
        });
        let mut told = 0;
        while queue.has_room() {
            queue.tell(vec![WatchEvent::Changed {
                document: Arc::clone(&document),
                targets: vec![1],
                removed_targets: Vec::new(),
            }]);
            told += 1;
        }
        assert_eq!(told, UNREAD_MEMORY_MAX / 1_000_000 + 1);
        while !queue.has_room() {
            outbox.next().await.unwrap().unwrap();
        }
        for _ in 0..told {
            let read = tokio::time::timeout(std::time::Duration::ZERO, outbox.next());
            drop(read.await);
        }
        assert_eq!(lock(&queue.waiting).memory, 0);
    }

    #[tokio::test]
    async fn unread_answers_end_the_stream() {
        let (queue, mut outbox) = Queue::new(SessionId(1), Arc::default());
        for target in 0..=ANSWERS_MAX as i32 {
            queue.answer(vec![WatchEvent::Added { target }]);
        }
        assert!(matches!(
            outbox.next().await,
            Some(Err(StreamEnd::SlowReader))
        ));
        assert!(outbox.next().await.is_none());
    }
}
