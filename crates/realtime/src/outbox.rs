//! The queue from a session to one of its streams.
//!
//! # What lies in it
//!
//! Not events but tellings: what a session says in one go, made once and shared by all streams that are told the
//! same. Its protocol bytes are made by the first stream that sends it and are shared too.
//!
//! # The bound
//!
//! The dispatcher asks for room before it lets a session speak: while `UNREAD_MAX` events or
//! `UNREAD_MEMORY_MAX` bytes of documents wait, the session merges its changes instead. What it then says in one go
//! may exceed the bound by one snapshot's worth (a first result may have many thousand documents; they are shared,
//! not copied). A stream that shares its session is asked only now and then: it may come to `STRAGGLES_AT`, and what was
//! said meanwhile, before it is told apart. The bound is low because what waits here is late: a reader that cannot follow is better served by the
//! newest version of a document than by all of them.
//! Answers to requests must go out at once, so they are counted apart: a caller that sends requests and
//! reads nothing loses its stream at `ANSWERS_MAX`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::Notify;
use watchfire_engine::Version;
use watchfire_model::watch::WatchEvent;

use crate::counters::Counters;
use crate::error::StreamEnd;
use crate::target::StreamId;

/// Unread events past which a session does not speak.
pub const UNREAD_MAX: usize = 512;
/// Memory of the documents in unread events, in bytes, past which a session does not speak.
pub const UNREAD_MEMORY_MAX: usize = 1 << 20;
/// Unread events past which a stream that shares a session is told apart from the others.
pub const STRAGGLES_AT: usize = 4 * UNREAD_MAX;
/// Memory of the documents in unread events, in bytes, past which the same happens.
pub const STRAGGLES_AT_MEMORY: usize = 4 * UNREAD_MEMORY_MAX;
/// Unread answers to requests past which a stream ends with `SlowReader`.
pub const ANSWERS_MAX: usize = 10_000;
/// Events of one telling, and the memory of its documents in bytes; a snapshot that has more is told in several.
pub const TELLING_EVENTS_MAX: usize = 256;
/// See `TELLING_EVENTS_MAX`.
pub const TELLING_MEMORY_MAX: usize = 256 << 10;

/// How queues call the dispatcher: somebody reads again, or is gone.
#[derive(Debug, Default)]
pub struct Signal {
    notify: Notify,
    /// Bounded by the number of streams: each is named once.
    gone: Mutex<Vec<StreamId>>,
    /// Who was refused room and has it now. Bounded by the number of streams: each asks the dispatcher before it is
    /// named again.
    ready: Mutex<Vec<StreamId>>,
    /// Of the hub.
    pub counters: Arc<Counters>,
}

impl Signal {
    /// Waits until somebody called.
    pub async fn called(&self) {
        self.notify.notified().await;
    }

    /// Who is gone since the last time.
    pub fn take_gone(&self) -> Vec<StreamId> {
        std::mem::take(&mut lock(&self.gone))
    }

    /// Who has room since the last time.
    pub fn take_ready(&self) -> Vec<StreamId> {
        std::mem::take(&mut lock(&self.ready))
    }
}

/// What kind of telling it is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Answers to requests: cannot wait for room.
    Answer,
    /// What a session tells by itself.
    Told,
}

/// Events that are told in one go, shared by all who are told them.
#[derive(Debug)]
pub struct Telling {
    events: Vec<WatchEvent>,
    weight: Weight,
    /// Of the documents in it, in bytes.
    memory: usize,
    /// The oldest commit that it tells of.
    since: Option<Version>,
    encoded: OnceLock<Bytes>,
    encoded_as_text: OnceLock<Bytes>,
}

impl Telling {
    /// Events in order, cut into pieces of a bounded size; `since` is the oldest commit that they tell of, if one is why.
    pub fn pieces(
        events: Vec<WatchEvent>,
        weight: Weight,
        since: Option<Version>,
    ) -> Vec<Arc<Self>> {
        let mut pieces = Vec::new();
        let mut piece = Vec::new();
        let mut memory = 0;
        for event in events {
            memory += match &event {
                WatchEvent::Changed { document, .. } => document.memory(),
                WatchEvent::Added { .. }
                | WatchEvent::Removed { .. }
                | WatchEvent::Current { .. }
                | WatchEvent::Reset { .. }
                | WatchEvent::Snapshot { .. }
                | WatchEvent::Deleted { .. }
                | WatchEvent::Left { .. }
                | WatchEvent::Filter { .. } => 0,
            };
            piece.push(event);
            if piece.len() >= TELLING_EVENTS_MAX || memory >= TELLING_MEMORY_MAX {
                let events = std::mem::take(&mut piece);
                pieces.push(Self::new(events, weight, std::mem::take(&mut memory)));
            }
        }
        if !piece.is_empty() {
            pieces.push(Self::new(piece, weight, memory));
        }
        if let Some(last) = pieces.last_mut() {
            last.since = since;
        }
        pieces.into_iter().map(Arc::new).collect()
    }

    fn new(events: Vec<WatchEvent>, weight: Weight, memory: usize) -> Self {
        Self {
            events,
            weight,
            memory,
            since: None,
            encoded: OnceLock::new(),
            encoded_as_text: OnceLock::new(),
        }
    }

    /// Several tellings as one, unless that would be too large or answers are among them.
    pub fn joined<'a>(tellings: impl Iterator<Item = &'a Arc<Self>> + Clone) -> Option<Arc<Self>> {
        let events: usize = tellings.clone().map(|telling| telling.events.len()).sum();
        let memory: usize = tellings.clone().map(|telling| telling.memory).sum();
        let all_told = tellings
            .clone()
            .all(|telling| telling.weight == Weight::Told);
        if !all_told || events > TELLING_EVENTS_MAX || memory > TELLING_MEMORY_MAX {
            return None;
        }
        let since = tellings.clone().filter_map(|telling| telling.since).min();
        let events = tellings.flat_map(|telling| telling.events.clone());
        Some(Arc::new(Self {
            since,
            ..Self::new(events.collect(), Weight::Told, memory)
        }))
    }

    /// The oldest commit that it tells of, for those who measure how long that took. Absent when no commit is why it is
    /// told (first results, answers, heartbeats), and in all pieces but the last of what is told in one go.
    pub fn since(&self) -> Option<Version> {
        self.since
    }

    /// The events, in the order in which they are told.
    pub fn events(&self) -> &[WatchEvent] {
        &self.events
    }

    /// The events as bytes of a protocol, which are made by the first who asks and kept. All streams of a hub must
    /// ask for the same protocol.
    pub fn encoded(&self, encode: impl FnOnce(&[WatchEvent]) -> Bytes) -> Bytes {
        self.encoded.get_or_init(|| encode(&self.events)).clone()
    }

    /// The same for those who speak text, beside those who speak bytes.
    pub fn encoded_as_text(&self, encode: impl FnOnce(&[WatchEvent]) -> Bytes) -> Bytes {
        self.encoded_as_text
            .get_or_init(|| encode(&self.events))
            .clone()
    }
}

#[derive(Debug, Default)]
struct Waiting {
    tellings: VecDeque<Arc<Telling>>,
    /// Events in `tellings`.
    events: usize,
    answers: usize,
    /// Of all documents in `tellings`, in bytes.
    memory: usize,
    /// The dispatcher was refused room and wants a call.
    wanted: bool,
    /// No more tellings; the reason is given once, after what waits.
    ended: bool,
    end: Option<StreamEnd>,
    /// The reading side was dropped.
    gone: bool,
    /// Who reads, when nothing waits.
    reader: Option<Waker>,
}

impl Waiting {
    fn push(&mut self, telling: Arc<Telling>) {
        self.memory += telling.memory;
        self.events += telling.events.len();
        if telling.weight == Weight::Answer {
            self.answers += telling.events.len();
        }
        self.tellings.push_back(telling);
    }

    fn pop(&mut self) -> Option<Arc<Telling>> {
        let telling = self.tellings.pop_front()?;
        self.memory -= telling.memory;
        self.events -= telling.events.len();
        if telling.weight == Weight::Answer {
            self.answers -= telling.events.len();
        }
        Some(telling)
    }

    fn clear(&mut self) {
        self.tellings = VecDeque::new();
        self.events = 0;
        self.answers = 0;
        self.memory = 0;
    }

    /// Whether less waits than this part of the bounds.
    fn is_below(&self, part: usize) -> bool {
        self.events < UNREAD_MAX / part && self.memory < UNREAD_MEMORY_MAX / part
    }
}

/// The queue itself, shared by the dispatcher and the `Outbox`.
#[derive(Debug)]
pub struct Queue {
    stream: StreamId,
    waiting: Mutex<Waiting>,
    signal: Arc<Signal>,
}

impl Queue {
    /// A new queue and its reading side.
    pub fn new(stream: StreamId, signal: Arc<Signal>) -> (Arc<Self>, Outbox) {
        let queue = Arc::new(Self {
            stream,
            waiting: Mutex::default(),
            signal,
        });
        let outbox = Outbox {
            queue: Arc::clone(&queue),
            opened: VecDeque::new(),
        };
        (queue, outbox)
    }

    /// Whether a session may speak to it; when not, the dispatcher is called once there is room again.
    pub fn has_room(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        waiting.wanted = !waiting.is_below(1);
        !waiting.wanted
    }

    /// Whether so much waits that the stream must not be told what others are.
    pub fn straggles(&self) -> bool {
        let waiting = lock(&self.waiting);
        waiting.events >= STRAGGLES_AT || waiting.memory >= STRAGGLES_AT_MEMORY
    }

    /// Whether so little waits that the stream keeps up.
    pub fn is_mostly_read(&self) -> bool {
        lock(&self.waiting).is_below(2)
    }

    /// Whether nobody reads any more.
    pub fn is_over(&self) -> bool {
        let waiting = lock(&self.waiting);
        waiting.gone || waiting.ended
    }

    /// Unread events.
    pub fn len(&self) -> usize {
        lock(&self.waiting).events
    }

    /// Whether everything is read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends what is told. Returns how many events are unread then.
    pub fn tell<'a>(&self, tellings: impl IntoIterator<Item = &'a Arc<Telling>>) -> usize {
        let (reader, full, unread) = {
            let mut waiting = lock(&self.waiting);
            if waiting.gone || waiting.ended {
                return 0;
            }
            for telling in tellings {
                waiting.push(Arc::clone(telling));
            }
            let full = waiting.answers > ANSWERS_MAX;
            if full {
                waiting.clear();
                waiting.ended = true;
                waiting.end = Some(StreamEnd::SlowReader);
            }
            (waiting.reader.take(), full, waiting.events)
        };
        if full {
            self.signal.counters.slow_readers.add(1);
            tracing::debug!(
                stream = self.stream.0,
                "a listen stream asks and does not read"
            );
        }
        if let Some(reader) = reader {
            reader.wake();
        }
        unread
    }

    /// Ends the stream after what waits; `None` is a clean end. The first end counts.
    pub fn end(&self, end: Option<StreamEnd>) {
        let reader = {
            let mut waiting = lock(&self.waiting);
            if waiting.ended {
                return;
            }
            waiting.ended = true;
            waiting.end = end;
            waiting.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// The reading side of a listen stream. Dropping it unregisters the stream.
#[derive(Debug)]
pub struct Outbox {
    queue: Arc<Queue>,
    /// For who reads event by event: the rest of the telling that was taken last.
    opened: VecDeque<WatchEvent>,
}

impl Outbox {
    /// What waits, at most `memory_max` bytes of documents (one telling at least); an error once, if the stream must
    /// end with a status; `None` when it is closed.
    pub fn poll_tellings(
        &mut self,
        cx: &Context<'_>,
        memory_max: usize,
    ) -> Poll<Option<Result<Vec<Arc<Telling>>, StreamEnd>>> {
        let mut waiting = lock(&self.queue.waiting);
        let mut taken = Vec::new();
        let mut memory = 0;
        while let Some(next) = waiting.tellings.front() {
            if !taken.is_empty() && memory + next.memory > memory_max {
                break;
            }
            memory += next.memory;
            taken.extend(waiting.pop());
        }
        if !taken.is_empty() {
            if waiting.wanted && waiting.is_below(2) {
                waiting.wanted = false;
                drop(waiting);
                lock(&self.queue.signal.ready).push(self.queue.stream);
                self.queue.signal.notify.notify_one();
            }
            return Poll::Ready(Some(Ok(taken)));
        }
        if waiting.ended {
            return Poll::Ready(waiting.end.take().map(Err));
        }
        if waiting
            .reader
            .as_ref()
            .is_none_or(|reader| !reader.will_wake(cx.waker()))
        {
            waiting.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// The next event, as `poll_tellings` says. Cancel safe: an event is taken only by a call that returns it.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, StreamEnd>> {
        loop {
            if let Some(event) = self.opened.pop_front() {
                return Some(Ok(event));
            }
            let tellings = std::future::poll_fn(|cx| self.poll_tellings(cx, 0)).await?;
            match tellings {
                Ok(tellings) => self
                    .opened
                    .extend(tellings.iter().flat_map(|telling| telling.events.clone())),
                Err(end) => return Some(Err(end)),
            }
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut waiting = lock(&self.queue.waiting);
        waiting.gone = true;
        waiting.clear();
        drop(waiting);
        lock(&self.queue.signal.gone).push(self.queue.stream);
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

    fn told(events: Vec<WatchEvent>) -> Vec<Arc<Telling>> {
        Telling::pieces(events, Weight::Told, None)
    }

    #[tokio::test]
    async fn refuses_room_when_full_and_calls_when_read() {
        let signal = Arc::new(Signal::default());
        let (queue, mut outbox) = Queue::new(StreamId(1), Arc::clone(&signal));
        assert!(queue.has_room());
        let events = (0..700).map(|target| WatchEvent::Added { target });
        queue.tell(&told(events.collect()));
        assert!(!queue.has_room() && !queue.straggles());
        for _ in 0..700 {
            outbox.next().await.unwrap().unwrap();
        }
        signal.called().await;
        assert_eq!(signal.take_ready(), [StreamId(1)]);
        assert!(queue.has_room() && queue.is_empty());
        drop(outbox);
        assert_eq!(signal.take_gone(), [StreamId(1)]);
        assert!(queue.is_over());
    }

    #[tokio::test]
    async fn large_documents_take_the_room_of_many() {
        let signal = Arc::new(Signal::default());
        let (queue, mut outbox) = Queue::new(StreamId(1), Arc::clone(&signal));
        let time = Timestamp::from_micros(1).unwrap();
        let document = Arc::new(Document {
            path: DocumentPath::parse("c/a").unwrap(),
            create_time: time,
            update_time: time,
            fields: Fields::from([("a".to_owned(), Value::Bytes(vec![0; 300_000]))]),
        });
        let mut tellings = 0;
        while queue.has_room() {
            queue.tell(&told(vec![WatchEvent::Changed {
                document: Arc::clone(&document),
                targets: vec![1],
                removed_targets: Vec::new(),
            }]));
            tellings += 1;
        }
        assert_eq!(tellings, UNREAD_MEMORY_MAX / 300_000 + 1);
        for _ in 0..tellings {
            outbox.next().await.unwrap().unwrap();
        }
        assert!(queue.has_room());
        assert_eq!(lock(&queue.waiting).memory, 0);
    }

    #[tokio::test]
    async fn unread_answers_end_the_stream() {
        let (queue, mut outbox) = Queue::new(StreamId(1), Arc::default());
        for target in 0..=ANSWERS_MAX as i32 {
            let answer = vec![WatchEvent::Added { target }];
            queue.tell(&Telling::pieces(answer, Weight::Answer, None));
        }
        assert!(matches!(
            outbox.next().await,
            Some(Err(StreamEnd::SlowReader))
        ));
        assert!(outbox.next().await.is_none());
    }

    #[test]
    fn bytes_are_made_once() {
        let tellings = told(vec![WatchEvent::Added { target: 1 }]);
        let first = tellings[0].encoded(|_| Bytes::from_static(b"a"));
        let second = tellings[0].encoded(|_| panic!("made twice"));
        assert_eq!(first, second);
        let text = tellings[0].encoded_as_text(|_| Bytes::from_static(b"b"));
        assert_ne!(first, text);
        assert_eq!(text, tellings[0].encoded_as_text(|_| panic!("made twice")));
    }
}
