//! Streams that share a session: nobody waits long for those who do not read, and those who do not read cost little and
//! are told the newest when they do.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod streams;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;
use watchfire_engine::Engine;
use watchfire_model::Value;
use watchfire_model::watch::WatchEvent;
use watchfire_realtime::cohort::{OUTGOING_MAX, PATIENCE};
use watchfire_realtime::outbox::{
    STRAGGLES_AT, STRAGGLES_AT_MEMORY, TELLING_EVENTS_MAX, TELLING_MEMORY_MAX,
};
use watchfire_realtime::session::PENDING_DOCUMENTS_MAX;
use watchfire_realtime::{Hub, Outbox, SessionHandle, Telling};

use streams::{Asked, History, Reader, add, commit, engine, set, target_of};

fn waiting(outbox: &mut Outbox) -> Vec<Arc<Telling>> {
    match outbox.poll_tellings(&Context::from_waker(Waker::noop()), usize::MAX) {
        Poll::Ready(Some(Ok(tellings))) => tellings,
        Poll::Pending => Vec::new(),
        Poll::Ready(other) => panic!("the stream ended: {other:?}"),
    }
}

/// A stream and what it was told.
struct Client {
    _handle: SessionHandle,
    outbox: Outbox,
    reader: Reader,
}

struct World {
    engine: Engine,
    hub: Hub,
    history: History,
    value: i64,
}

/// So long that it never comes.
const NO_HEARTBEAT: Duration = Duration::from_secs(1_000_000);

impl World {
    async fn new() -> Self {
        let (engine, _store) = engine().await;
        let hub = Hub::start_with(engine.clone(), NO_HEARTBEAT);
        Self {
            engine,
            hub,
            history: History::default(),
            value: 0,
        }
    }

    /// A stream that watches everything in `c` and has been told so.
    async fn client(&self) -> Client {
        let (handle, mut outbox) = self.hub.connect();
        let mut reader = Reader::default();
        let asked = Asked::Add {
            kind: 0,
            once: false,
            held: None,
            bad: false,
        };
        reader.ask(1, asked);
        handle.add(add(1, target_of(0))).await.unwrap();
        reader
            .read_to(&mut outbox, self.history.last(), &self.history)
            .await;
        Client {
            _handle: handle,
            outbox,
            reader,
        }
    }

    async fn clients(&self, number: usize) -> Vec<Client> {
        let mut clients = Vec::new();
        for _ in 0..number {
            clients.push(self.client().await);
        }
        clients
    }

    /// A small change of one of ten documents.
    async fn change(&mut self) {
        self.value += 1;
        let text = format!("c/{}", self.value % 10);
        let version = commit(&self.engine, vec![set(&text, Value::Integer(self.value))]).await;
        self.history.note(&self.engine, version).await;
    }

    async fn read(&self, client: &mut Client) {
        client
            .reader
            .read_to(&mut client.outbox, self.history.last(), &self.history)
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn members_who_do_not_read_hold_up_the_others_for_a_moment_only() {
    let mut world = World::new().await;
    let mut reading = world.clients(3).await;
    let mut stopped = world.clients(8).await;
    let mut held_up = Duration::ZERO;
    for _ in 0..1_200 {
        world.change().await;
        let began = Instant::now();
        for client in &mut reading {
            world.read(client).await;
        }
        held_up += began.elapsed();
    }
    assert!(held_up > Duration::ZERO, "the bound was never reached");
    // Patience is looked at once in its own time.
    assert!(held_up <= 2 * PATIENCE, "{held_up:?}");
    for client in &mut reading {
        assert!(client.reader.snapshots > 1_000);
    }
    for client in &mut stopped {
        world.read(client).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_reader_is_told_merged_changes_and_joins_again_when_it_has_read() {
    let mut world = World::new().await;
    let mut reading = world.clients(2).await;
    let mut stopped = world.client().await;
    for _ in 0..3_000 {
        world.change().await;
        for client in &mut reading {
            world.read(client).await;
        }
    }
    let before = stopped.reader.events;
    stopped
        .reader
        .read_waiting(&mut stopped.outbox, usize::MAX, &world.history);
    let unread = stopped.reader.events - before;
    assert!(
        (STRAGGLES_AT..=STRAGGLES_AT + TELLING_EVENTS_MAX).contains(&unread),
        "{unread}"
    );
    world.read(&mut stopped).await;
    // Ten documents were changed, once each for it.
    let merged = stopped.reader.events - before - unread;
    assert!(merged <= 11, "{merged}");
    assert_eq!(stopped.reader.resets, 0);
    // One more change brings it to rest; the next is said once for all of them.
    world.change().await;
    tokio::time::sleep(PATIENCE).await;
    for client in reading.iter_mut().chain([&mut stopped]) {
        world.read(client).await;
    }
    world.change().await;
    tokio::time::sleep(PATIENCE).await;
    let said = waiting(&mut reading.first_mut().unwrap().outbox);
    let heard = waiting(&mut stopped.outbox);
    assert_eq!(said.len(), 1);
    assert!(Arc::ptr_eq(said.first().unwrap(), heard.first().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_reader_of_many_documents_is_reset() {
    let mut world = World::new().await;
    let mut reading = world.clients(2).await;
    let mut stopped = world.client().await;
    let documents = PENDING_DOCUMENTS_MAX + STRAGGLES_AT + 1_000;
    for first in (0..documents).step_by(250) {
        let writes = (first..first + 250)
            .map(|number| set(&format!("c/{number}"), Value::Integer(1)))
            .collect();
        let version = commit(&world.engine, writes).await;
        world.history.note(&world.engine, version).await;
        for client in &mut reading {
            world.read(client).await;
        }
    }
    world.read(&mut stopped).await;
    assert_eq!(stopped.reader.resets, 1);
    for client in &reading {
        assert_eq!(client.reader.resets, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_stopped_reader_has_not_read_is_bounded_in_memory() {
    let mut world = World::new().await;
    let mut reading = world.clients(2).await;
    let mut stopped = world.client().await;
    for value in 0..110_i64 {
        let mut bytes = vec![0; 100_000];
        bytes.extend(value.to_be_bytes());
        let version = commit(&world.engine, vec![set("c/1", Value::Bytes(bytes))]).await;
        world.history.note(&world.engine, version).await;
        for client in &mut reading {
            world.read(client).await;
        }
        // One that concerns nobody, so that the stream is at rest with all that it has not read.
        commit(&world.engine, vec![set("d/1", Value::Integer(value))]).await;
        tokio::time::sleep(PATIENCE).await;
    }
    let memory: usize = waiting(&mut stopped.outbox)
        .iter()
        .flat_map(|telling| telling.events())
        .map(|event| match event {
            WatchEvent::Changed { document, .. } => document.memory(),
            _ => 0,
        })
        .sum();
    assert!(
        (STRAGGLES_AT_MEMORY..=STRAGGLES_AT_MEMORY + 2 * TELLING_MEMORY_MAX).contains(&memory),
        "{memory}"
    );
}

#[tokio::test(start_paused = true)]
async fn those_who_read_are_told_the_end_of_a_burst_at_once() {
    let mut world = World::new().await;
    let mut reading = world.clients(3).await;
    let commits: Vec<_> = (0..4 * OUTGOING_MAX)
        .map(|number| {
            let engine = world.engine.clone();
            let write = set(&format!("c/{number}"), Value::Integer(1));
            tokio::spawn(async move { commit(&engine, vec![write]).await })
        })
        .collect();
    let mut last = 0;
    for commit in commits {
        last = last.max(commit.await.unwrap());
    }
    world.history.note(&world.engine, last).await;
    let began = Instant::now();
    for client in &mut reading {
        while client.reader.read_time < last as i64 {
            for telling in waiting(&mut client.outbox) {
                for event in telling.events() {
                    if let WatchEvent::Snapshot { read_time, .. } = event {
                        client.reader.read_time = read_time.micros();
                    }
                }
            }
            if client.reader.read_time < last as i64 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(began.elapsed() < Duration::from_secs(1), "never told");
        }
    }
    assert!(
        began.elapsed() <= Duration::from_millis(5),
        "{:?}",
        began.elapsed()
    );
}
