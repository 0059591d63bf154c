//! The queue from a session to its stream.
//!
//! # The bound
//!
//! The dispatcher asks for room before it lets a session speak: while `UNREAD_MAX` events wait, the
//! session merges its changes instead. What it then says in one go may exceed the bound by one
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

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<(WatchEvent, Weight)>,
    answers: usize,
    /// The dispatcher was refused room and wants a call.
    wanted: bool,
    /// No more events; the reason is given once, after what waits.
    ended: bool,
    end: Option<StreamEnd>,
    /// The reading side was dropped.
    gone: bool,
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
        waiting.wanted = waiting.events.len() >= UNREAD_MAX;
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
                waiting.events.clear();
                waiting.answers = 0;
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
            if weight == Weight::Answer {
                waiting.answers += events.len();
            }
            waiting
                .events
                .extend(events.into_iter().map(|event| (event, weight)));
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
                if let Some((event, weight)) = waiting.events.pop_front() {
                    if weight == Weight::Answer {
                        waiting.answers -= 1;
                    }
                    if waiting.wanted && waiting.events.len() <= UNREAD_MAX / 2 {
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
        waiting.events.clear();
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
        for _ in 0..5_000 - UNREAD_MAX / 2 {
            outbox.next().await.unwrap().unwrap();
        }
        signal.called().await;
        assert!(queue.has_room());
        drop(outbox);
        assert_eq!(signal.take_gone(), [SessionId(1)]);
        assert!(queue.is_over());
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
