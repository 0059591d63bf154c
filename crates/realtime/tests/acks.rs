//! Many streams that often watch the same, whatever they ask: every request is answered once, and what they are told
//! is right.
//!
//! The streams ask for few targets, so that they share sessions, part and join again all the time; some do not read.
//! The laws are those of `streams::Reader`.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod streams;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use watchfire_engine::Engine;
use watchfire_model::watch::Cause;
use watchfire_model::{Invalid, Value};
use watchfire_realtime::{Hub, Outbox, Resume, SessionHandle, StreamEnd};
use watchfire_storage::faulty::FaultyStore;

use streams::{Asked, History, KINDS, Kept, Reader, add, commit, delete, engine, set, target_of};

const STREAMS: usize = 6;
/// Short, so that the end is soon proven.
const HEARTBEAT: Duration = Duration::from_millis(20);
const PATHS: [&str; 5] = ["c/1", "c/2", "c/3", "d/1", "e/1"];
/// Memory of a large document: a few of them are more than a stream may leave unread.
const LARGE_BYTES: usize = 200_000;

#[derive(Copy, Clone, Debug)]
enum From {
    Nothing,
    /// A token of the same target, from this far back.
    Good(usize),
    /// One of another target.
    Foreign(usize),
    /// No token at all.
    Garbage,
    /// It was found out before that it cannot be watched.
    Refused,
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(usize, Option<i64>)>),
    /// Large documents, so that who does not read falls behind.
    Large(usize),
    /// Many commits with nothing read between them.
    Burst(usize),
    Add {
        stream: usize,
        id: i32,
        kind: u8,
        once: bool,
        from: From,
    },
    /// All streams that choose their ids ask for the same.
    AddToAll {
        id: i32,
        kind: u8,
    },
    Remove {
        stream: usize,
        id: i32,
    },
    Fail {
        stream: usize,
        id: i32,
    },
    End {
        stream: usize,
    },
    Disconnect {
        stream: usize,
    },
    Read {
        stream: usize,
        max: usize,
    },
    ReadAll,
    Pass {
        millis: u64,
    },
    FailRead,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stream = 0..STREAMS;
    let id = 1..4_i32;
    let kind = 0..KINDS;
    let change = (0..PATHS.len(), proptest::option::weighted(0.75, -3..4_i64));
    let from = prop_oneof![
        4 => Just(From::Nothing),
        3 => (0..40_usize).prop_map(From::Good),
        1 => (0..40_usize).prop_map(From::Foreign),
        1 => Just(From::Garbage),
        1 => Just(From::Refused),
    ];
    let step = prop_oneof![
        10 => proptest::collection::vec(change, 1..4).prop_map(Step::Commit),
        2 => (1..30_usize).prop_map(Step::Large),
        1 => (1..100_usize).prop_map(Step::Burst),
        5 => (stream.clone(), id.clone(), kind.clone(), proptest::bool::weighted(0.15), from)
            .prop_map(|(stream, id, kind, once, from)| Step::Add { stream, id, kind, once, from }),
        4 => (id.clone(), kind).prop_map(|(id, kind)| Step::AddToAll { id, kind }),
        2 => (stream.clone(), id.clone()).prop_map(|(stream, id)| Step::Remove { stream, id }),
        1 => (stream.clone(), id).prop_map(|(stream, id)| Step::Fail { stream, id }),
        1 => stream.clone().prop_map(|stream| Step::End { stream }),
        1 => stream.clone().prop_map(|stream| Step::Disconnect { stream }),
        6 => (stream, 1..400_usize).prop_map(|(stream, max)| Step::Read { stream, max }),
        2 => Just(Step::ReadAll),
        4 => (0..300_u64).prop_map(|millis| Step::Pass { millis }),
        1 => Just(Step::FailRead),
    ];
    proptest::collection::vec(step, 1..60)
}

struct Client {
    handle: SessionHandle,
    outbox: Outbox,
    reader: Reader,
    /// Ids that the server has chosen; it chooses all of every fifth stream.
    chosen: Option<i32>,
}

impl Client {
    fn new(hub: &Hub, stream: usize) -> Self {
        let (handle, outbox) = hub.connect();
        Self {
            handle,
            outbox,
            reader: Reader::default(),
            chosen: (stream % 5 == 4).then_some(0),
        }
    }
}

struct World {
    engine: Engine,
    store: std::sync::Arc<FaultyStore>,
    hub: Hub,
    history: History,
    clients: BTreeMap<usize, Client>,
    kept: Vec<Kept>,
    value: i64,
}

impl World {
    async fn new() -> Self {
        let (engine, store) = engine().await;
        let hub = Hub::start_with(engine.clone(), HEARTBEAT);
        let clients = (0..STREAMS)
            .map(|stream| (stream, Client::new(&hub, stream)))
            .collect();
        Self {
            engine,
            store,
            hub,
            history: History::default(),
            clients,
            kept: Vec::new(),
            value: 0,
        }
    }

    async fn commit(&mut self, writes: Vec<watchfire_model::Write>) {
        let version = commit(&self.engine, writes).await;
        self.history.note(&self.engine, version).await;
    }

    async fn add(&mut self, stream: usize, id: i32, kind: u8, once: bool, from: From) {
        let good = |kept: &&Kept| kept.kind == kind && !kept.token.is_empty();
        let pick = |back: usize, all: Vec<&Kept>| {
            let len = all.len();
            all.get(len.wrapping_sub(1 + back % len.max(1)))
                .map(|kept| Kept::clone(kept))
        };
        let (resume, held, bad) = match from {
            From::Nothing => (Resume::None, None, false),
            From::Good(back) => match pick(back, self.kept.iter().filter(good).collect()) {
                Some(kept) => (Resume::Token(kept.token), Some(kept.held), false),
                None => (Resume::None, None, false),
            },
            // A token of a snapshot may be for both.
            From::Foreign(back) => {
                let foreign = |kept: &&Kept| kept.kind != kind && kept.own;
                match pick(back, self.kept.iter().filter(foreign).collect()) {
                    Some(kept) => (Resume::Token(kept.token), None, true),
                    None => (Resume::None, None, false),
                }
            }
            From::Garbage | From::Refused => (Resume::Token(b"x".to_vec()), None, true),
        };
        let Some(client) = self.clients.get_mut(&stream) else {
            return;
        };
        let (asked, id) = match &mut client.chosen {
            Some(last) => {
                *last += 1;
                (0, *last)
            }
            None => (id, id),
        };
        client.reader.ask(
            id,
            Asked::Add {
                kind,
                once,
                held,
                bad,
            },
        );
        if matches!(from, From::Refused) {
            let cause = Cause::Invalid(Invalid::new("refused by the test"));
            client.handle.refuse(asked, cause).await.unwrap();
            return;
        }
        let request = watchfire_realtime::AddTarget {
            resume,
            once,
            ..add(asked, target_of(kind))
        };
        client.handle.add(request).await.unwrap();
    }

    fn read(&mut self, stream: usize, max: usize) {
        if let Some(client) = self.clients.get_mut(&stream) {
            let end = client
                .reader
                .read_waiting(&mut client.outbox, max, &self.history);
            assert!(end.is_none(), "stream {stream} ended: {end:?}");
            self.kept.append(&mut client.reader.kept);
            if self.kept.len() > 200 {
                self.kept.drain(20..100);
            }
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Commit(changes) => {
                let writes: BTreeMap<&str, watchfire_model::Write> = changes
                    .iter()
                    .filter_map(|(index, value)| {
                        let text = *PATHS.get(*index)?;
                        let write = match value {
                            Some(value) => set(text, Value::Integer(*value)),
                            None => delete(text),
                        };
                        Some((text, write))
                    })
                    .collect();
                self.commit(writes.into_values().collect()).await;
            }
            Step::Large(times) => {
                for _ in 0..times {
                    self.value += 1;
                    let mut bytes = vec![0; LARGE_BYTES];
                    bytes.extend(self.value.to_be_bytes());
                    self.commit(vec![set("c/2", Value::Bytes(bytes))]).await;
                }
            }
            Step::Burst(times) => {
                for _ in 0..times {
                    self.value += 1;
                    self.commit(vec![set("c/1", Value::Integer(self.value))])
                        .await;
                }
            }
            Step::Add {
                stream,
                id,
                kind,
                once,
                from,
            } => self.add(stream, id, kind, once, from).await,
            Step::AddToAll { id, kind } => {
                for stream in 0..STREAMS {
                    self.add(stream, id, kind, false, From::Nothing).await;
                }
            }
            Step::Remove { stream, id } => {
                if let Some(client) = self.clients.get_mut(&stream) {
                    client.reader.ask(id, Asked::Remove);
                    client.handle.remove(id).await;
                }
            }
            Step::Fail { stream, id } => {
                if let Some(client) = self.clients.get_mut(&stream) {
                    client.reader.ask(id, Asked::Fail(Cause::PermissionDenied));
                    client.handle.fail(id, Cause::PermissionDenied).await;
                }
            }
            Step::End { stream } => {
                let Some(mut client) = self.clients.remove(&stream) else {
                    return;
                };
                let end = StreamEnd::Unavailable("ended by the test".to_owned());
                client.handle.end(end.clone()).await;
                let told =
                    client
                        .reader
                        .read_waiting(&mut client.outbox, usize::MAX, &self.history);
                assert_eq!(
                    told,
                    Some(Some(end)),
                    "the end comes after what waits, at once"
                );
                client.reader.check_answers(false);
                assert!(client.outbox.next().await.is_none());
                self.clients.insert(stream, Client::new(&self.hub, stream));
            }
            Step::Disconnect { stream } => {
                if let Some(client) = self.clients.remove(&stream) {
                    client.reader.check_answers(false);
                }
                self.clients.insert(stream, Client::new(&self.hub, stream));
            }
            Step::Read { stream, max } => self.read(stream, max),
            Step::ReadAll => {
                for stream in 0..STREAMS {
                    self.read(stream, usize::MAX);
                }
            }
            Step::Pass { millis } => tokio::time::sleep(Duration::from_millis(millis)).await,
            Step::FailRead => self
                .store
                .fail_next_read(watchfire_storage::Error::Unavailable(
                    "a read that fails".to_owned(),
                )),
        }
    }

    async fn finish(mut self) {
        let last = self.history.last();
        for client in self.clients.values_mut() {
            client
                .reader
                .read_to(&mut client.outbox, last, &self.history)
                .await;
        }
        self.hub.close().await;
        self.engine.close().await.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_answered_once_and_every_snapshot_is_right(steps in steps()) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(async {
                let mut world = World::new().await;
                for step in steps {
                    world.step(step).await;
                }
                world.finish().await;
            });
    }
}
