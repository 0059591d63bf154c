//! One run: a seed, and what comes of it.
//!
//! A run is a sequence of runtimes, one for each life of the server and one for each time without a server. A crash
//! drops the runtime, and with it every task of the server at the point where it stands; clients go on in the next
//! one. When the clients have done what they were to do, everything is healed, listeners must catch up, and the
//! database is closed, looked at and read back.
//!
//! # Exactness
//!
//! A run with the same seed and the same bounds is the same run, step by step. Nothing in it looks at the time of the
//! machine, at another thread, or at the order of a hash table. A test compares runs.
//!
//! # What is not done
//!
//! One server at a time; no sockets and no bytes of the protocol; no authentication.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use watchfire_engine::changelog::entry::decode_entry;
use watchfire_engine::changelog::reader::trimmed_to;
use watchfire_engine::keyspace::{Keyspace, changelog_version};
use watchfire_engine::record::decode_record;
use watchfire_engine::{ConcurrencyMode, Version};
use watchfire_model::order::decode_path;
use watchfire_model::{Clock, Document, DocumentPath, Fields, Value};
use watchfire_server::databases::{Databases, OpenStore};
use watchfire_storage::{Direction, Range, Snapshot};

use crate::actors::{Actors, Timers};
use crate::chance::Chance;
use crate::client::{self, Client, Manner, Shared};
use crate::data;
use crate::disk::Disk;
use crate::history::{ClientId, Incident, Refusal, Stored};
use crate::network::{Failed, Network, Server};
use crate::recorder::{Record, Recorder};
use crate::time::Time;
use crate::trouble::{Trouble, Turn, Turns};
use crate::weather::Weather;

/// Simulated time after which a run that has not ended is stuck. Nothing that a client waits for takes longer than
/// minutes.
const RUN_MAX: Duration = Duration::from_secs(4 * 60 * 60);

/// How long what was under way may take once the clients have ended.
const SETTLE: Duration = Duration::from_secs(10);

/// How long listeners may take to catch up once all is well.
const CATCH_UP_MAX: Duration = Duration::from_secs(150);

/// Attempts to make the accounts, each of which waits for locks for seconds.
const ACCOUNTS_ATTEMPTS_MAX: usize = 20;

/// Parts of the world with a generator of their own.
const PART_WEATHER: u64 = 1;
const PART_DISK: u64 = 2;
const PART_NETWORK: u64 = 3;
const PART_TROUBLE: u64 = 4;
const PART_CLIENTS: u64 = 1_000;
const PART_LISTENERS: u64 = 2_000;
const PART_SPECTATORS: u64 = 3_000;
const PART_SETS: u64 = 4_000;

/// Longer than the history is kept.
const NIGHT: Duration = Duration::from_secs(65 * 60);
/// Commits of one night.
const COMMITS_PER_NIGHT: u64 = 4;

/// How much of a run is made.
#[derive(Copy, Clone, Debug, Default)]
pub struct Bounds {
    /// Operations of all clients together; as the seed says when nothing is said.
    pub operations: Option<u64>,
    /// Whether the trace is wanted as text.
    pub trace: bool,
}

/// Runs one world.
#[must_use]
pub fn run(seed: u64, bounds: Bounds) -> Record {
    World::new(seed, bounds).run()
}

struct World {
    seed: u64,
    time: Time,
    actors: Actors,
    shared: Rc<Shared>,
    disk: Disk,
    turns: Turns,
    weather: Weather,
    life: u32,
}

impl World {
    fn new(seed: u64, bounds: Bounds) -> Self {
        let time = Time::default();
        let timers = Timers::new(time.clone());
        let mut weather = Weather::of(&mut Chance::part(seed, PART_WEATHER));
        weather.operations = bounds.operations.unwrap_or(weather.operations);
        let network = Network::new(
            timers.clone(),
            data::database(),
            Chance::part(seed, PART_NETWORK),
        );
        let clients = usize::try_from(weather.clients).unwrap_or(1);
        let spectators = usize::try_from(weather.crowd.spectators).unwrap_or(0);
        let shared = Rc::new(Shared {
            timers: timers.clone(),
            network,
            recorder: Recorder::new(time.clone(), bounds.trace),
            operations: Cell::new(weather.operations),
            working: Cell::new(clients),
            listening: Cell::new(clients + spectators),
            last_version: Cell::new(None),
            night: Cell::new(false),
            versions: RefCell::default(),
        });
        Self {
            seed,
            time,
            actors: Actors::new(timers),
            shared,
            disk: Disk::new(Chance::part(seed, PART_DISK)),
            turns: Turns::default(),
            weather,
            life: 0,
        }
    }

    fn run(mut self) -> Record {
        self.add_actors();
        let lived = catch_unwind(AssertUnwindSafe(|| self.live()));
        if lived.is_err() {
            self.shared
                .recorder
                .violation("nothing panics", "the world itself panicked".to_owned());
        }
        let stored = self.read_back();
        self.shared
            .recorder
            .finish(self.seed, data::database(), stored)
    }

    fn add_actors(&mut self) {
        for number in 0..self.weather.clients {
            let id = ClientId(number);
            let mut chance = Chance::part(self.seed, PART_CLIENTS + u64::from(number));
            let modes = [
                None,
                None,
                Some(ConcurrencyMode::Optimistic),
                Some(ConcurrencyMode::Pessimistic),
            ];
            let client = Client {
                id,
                shared: Rc::clone(&self.shared),
                mode: *chance.pick(&modes),
                chance,
            };
            self.actors.add(client.work());
            let chance = Chance::part(self.seed, PART_LISTENERS + u64::from(number));
            self.actors
                .add(client::listen(id, Rc::clone(&self.shared), chance));
        }
        self.add_spectators();
        let trouble = Trouble {
            shared: Rc::clone(&self.shared),
            disk: self.disk.clone(),
            turns: self.turns.clone(),
            weather: self.weather.clone(),
            chance: Chance::part(self.seed, PART_TROUBLE),
        };
        self.actors.add(direct(trouble));
    }

    fn add_spectators(&mut self) {
        let crowd = self.weather.crowd;
        for number in 0..crowd.spectators {
            let id = ClientId(self.weather.clients + number);
            let mut chance = Chance::part(self.seed, PART_SPECTATORS + u64::from(number));
            let set = chance.below(crowd.sets.max(1));
            let mut of_set = Chance::part(self.seed, PART_SETS + set);
            let mut targets: Vec<_> = (0..of_set.within(1, 3))
                .map(|_| data::any_target(&mut of_set))
                .collect();
            targets.extend((0..crowd.more_targets).map(|_| data::named_target(&mut of_set)));
            let manner = Manner {
                stops: crowd.stops,
                vanishes: crowd.vanishes,
                sleeps: number % 2 == 0,
                stays: chance.happens(800),
            };
            let shared = Rc::clone(&self.shared);
            self.actors
                .add(client::spectate(id, shared, chance, targets, manner));
        }
    }

    /// One runtime after the other, until the actors have ended.
    fn live(&mut self) {
        let mut serves = true;
        while !self.actors.ended() {
            let runtime = Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .expect("a runtime without IO needs nothing");
            runtime.block_on(self.one_runtime(serves));
            self.shared.network.set_server(None);
            end_runtime(runtime, &self.shared.recorder);
            self.actors.sort_ready();
            match self.turns.take() {
                Some(Turn::Crash) => {
                    let crash = self.disk.crash().now_or_never();
                    if let Some(crash) = crash {
                        self.shared.recorder.incident(Incident::Crashed {
                            waiting: crash.waiting,
                            written: crash.written,
                        });
                    }
                    serves = false;
                }
                Some(Turn::Stopped) => {
                    self.shared.recorder.incident(Incident::Stopped);
                    serves = false;
                }
                Some(Turn::Boot) => serves = true,
                None => {
                    if !self.actors.ended() {
                        let text = format!("not ended after {RUN_MAX:?} of simulated time");
                        self.shared.recorder.violation("a run ends", text);
                    }
                    return;
                }
            }
        }
    }

    async fn one_runtime(&mut self, serves: bool) {
        self.time.runtime_began();
        if serves {
            self.boot().await;
        }
        let began = Instant::now();
        let base = self.time.now_micros();
        let mut timer: Option<(u64, Pin<Box<Sleep>>)> = None;
        poll_fn(|context| {
            loop {
                self.actors.poll(context, || self.turns.is_asked());
                let now = self.time.now_micros();
                let over = u128::from(now) > RUN_MAX.as_micros();
                if self.turns.is_asked() || self.actors.ended() || over {
                    return Poll::Ready(());
                }
                let Some(next) = self.actors.next_micros() else {
                    // Whoever is waited for has timers of its own; heartbeats never end.
                    return Poll::Pending;
                };
                let (_, sleep) = match &mut timer {
                    Some(timer) if timer.0 == next => timer,
                    Some(_) | None => {
                        let at = began + Duration::from_micros(next.saturating_sub(base));
                        timer.insert((next, Box::pin(sleep_until(at))))
                    }
                };
                if sleep.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                timer = None;
            }
        })
        .await;
        self.time.runtime_ends();
    }

    async fn boot(&mut self) {
        self.life += 1;
        let head = self.disk.snapshot().await.version();
        self.shared.recorder.incident(Incident::Started {
            life: self.life,
            head,
        });
        let store = self.disk.open(self.life);
        let open: OpenStore = Box::new(move |_| {
            let store = Arc::clone(&store);
            Box::pin(async move { Ok(store) })
        });
        let clock: Arc<dyn Clock> = Arc::new(self.time.clone());
        let databases = Databases::new(open, clock, self.weather.settings, None);
        self.shared.network.set_server(Some(Server {
            databases: Arc::new(databases),
            shutdown: CancellationToken::new(),
        }));
    }

    /// What is on the disk in the end.
    fn read_back(&self) -> Stored {
        let entries = self.disk.entries();
        let read = async {
            let snapshot = self.disk.snapshot().await;
            read_stored(snapshot.as_ref()).await
        };
        let read = read.now_or_never().expect("the memory store never waits");
        match read {
            Ok(stored) => Stored { entries, ..stored },
            Err(error) => {
                let text = format!("what is stored cannot be read: {error}");
                self.shared
                    .recorder
                    .violation("what is stored can be read", text);
                Stored {
                    head: Version(0),
                    documents: BTreeMap::new(),
                    entries,
                    trimmed_to: Version(0),
                    kept: Vec::new(),
                }
            }
        }
    }
}

/// Ends every task of the server where it stands.
fn end_runtime(runtime: Runtime, recorder: &Recorder) {
    if catch_unwind(AssertUnwindSafe(|| drop(runtime))).is_err() {
        recorder.violation("nothing panics", "a task panicked at its end".to_owned());
    }
}

/// The order of a run: first the accounts, then trouble while the clients work, then the end.
async fn direct(mut trouble: Trouble) {
    let shared = trouble.shared.clone();
    let mut setter = Client {
        id: ClientId(u32::MAX),
        shared: shared.clone(),
        chance: Chance::new(0),
        mode: None,
    };
    setter.make_accounts().await;
    trouble.make().await;
    if trouble.weather.crowd.night {
        pass_the_night(&shared, &mut setter).await;
    }
    shared.timers.sleep(SETTLE).await;
    let last = setter.settled_version().await;
    shared.last_version.set(last);
    let waited = shared.timers.timeout(CATCH_UP_MAX, async {
        while shared.listening.get() > 0 {
            shared.timers.sleep(Duration::from_millis(100)).await;
        }
    });
    if waited.await.is_none() {
        let text = format!(
            "{} listeners have no complete snapshot at {last:?} after {CATCH_UP_MAX:?}",
            shared.listening.get()
        );
        shared.recorder.violation("listeners catch up", text);
    }
    setter.look_at_the_end().await;
    trouble.stop().await;
    // Whoever was aborted ends at its next turn.
    shared.timers.sleep(Duration::from_secs(1)).await;
    let alive = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    if alive > 0 {
        let text = format!("{alive} tasks live on after the server was stopped");
        shared.recorder.violation("tasks end", text);
    }
    // Started once more, the database must be as it was, and sound.
    trouble.turns.ask(Turn::Stopped);
    shared.timers.sleep(Duration::from_millis(1)).await;
    trouble.turns.ask(Turn::Boot);
    shared.timers.sleep(Duration::from_millis(1)).await;
    setter.look_at_the_end().await;
    trouble.stop().await;
}

/// Those who sleep leave, the changelog forgets what they know, and they come back.
async fn pass_the_night(shared: &Shared, setter: &mut Client) {
    shared.night.set(true);
    let pause = NIGHT / u32::try_from(COMMITS_PER_NIGHT).unwrap_or(1);
    for _ in 0..COMMITS_PER_NIGHT {
        shared.timers.sleep(pause).await;
        setter.change_at_night().await;
    }
    shared.night.set(false);
    shared.timers.sleep(SETTLE).await;
}

impl Client {
    async fn change_at_night(&mut self) {
        let fields = data::item_fields(&mut self.chance);
        let write = client::set(data::any_item(&mut self.chance), fields);
        if let Err(failed) = self.commit(vec![write]).await {
            let text = format!("a commit at night failed: {failed:?}");
            self.shared.recorder.violation("a calm server serves", text);
        }
    }

    async fn make_accounts(&mut self) {
        let writes = (0..data::ACCOUNTS)
            .map(|number| {
                let fields = Fields::from([("balance".to_owned(), Value::Integer(data::BALANCE))]);
                client::set(data::account(number), fields)
            })
            .collect::<Vec<_>>();
        // No trouble is made yet, but clients may have locked what they found missing.
        for _ in 0..ACCOUNTS_ATTEMPTS_MAX {
            match self.commit(writes.clone()).await {
                Ok(_) => return,
                Err(Failed::Refused(Refusal::Aborted)) => {}
                Err(failed) => {
                    let text = format!("the first commit failed: {failed:?}");
                    let recorder = &self.shared.recorder;
                    return recorder.violation("a calm server serves", text);
                }
            }
        }
        let text = "the first commit was never let through".to_owned();
        self.shared.recorder.violation("a calm server serves", text);
    }

    /// The present, once nothing is under way.
    async fn settled_version(&mut self) -> Option<Version> {
        let settle = |database: Arc<watchfire_server::databases::Database>| async move {
            Ok(database.engine.settled_version().await)
        };
        match self.shared.network.call(settle).await {
            Ok(version) => Some(version),
            Err(failed) => {
                let text = format!("the present cannot be reached: {failed:?}");
                self.shared.recorder.violation("a calm server serves", text);
                None
            }
        }
    }

    /// Indexes and documents must agree, and every read must see all money.
    async fn look_at_the_end(&mut self) {
        let check = |database: Arc<watchfire_server::databases::Database>| async move {
            Ok(database.engine.check().await?)
        };
        match self.shared.network.call(check).await {
            Ok(report) if report.is_sound() => {}
            Ok(report) => self
                .shared
                .recorder
                .violation("indexes agree with documents", format!("{report:?}")),
            Err(failed) => {
                let text = format!("the check failed: {failed:?}");
                self.shared.recorder.violation("a calm server serves", text);
            }
        }
    }
}

async fn read_stored(snapshot: &dyn Snapshot) -> Result<Stored, anyhow::Error> {
    let mut documents: BTreeMap<DocumentPath, Arc<Document>> = BTreeMap::new();
    for (key, record) in all(snapshot, Keyspace::Document.range()).await? {
        let (_, rest) = key
            .split_first()
            .ok_or_else(|| anyhow::anyhow!("an empty key"))?;
        let (path, _) = decode_path(rest).ok_or_else(|| anyhow::anyhow!("no path: {key:?}"))?;
        documents.insert(path.clone(), Arc::new(decode_record(&path, &record)?));
    }
    let mut kept = Vec::new();
    for (key, entry) in all(snapshot, Keyspace::Changelog.range()).await? {
        let version = changelog_version(&key).ok_or_else(|| anyhow::anyhow!("no version"))?;
        kept.push(Arc::new(decode_entry(version, &entry)?));
    }
    Ok(Stored {
        head: snapshot.version(),
        documents,
        entries: Vec::new(),
        trimmed_to: trimmed_to(snapshot).await?.unwrap_or(Version(0)),
        kept,
    })
}

async fn all(
    snapshot: &dyn Snapshot,
    mut range: Range,
) -> Result<Vec<(bytes::Bytes, bytes::Bytes)>, anyhow::Error> {
    let mut found = Vec::new();
    loop {
        let page = snapshot.page(&range, Direction::Forward, 1_000).await?;
        let last = page.entries.last().map(|(key, _)| key.clone());
        found.extend(page.entries);
        match last {
            Some(last) if page.more => range.start = watchfire_storage::range::just_after(&last),
            Some(_) | None => return Ok(found),
        }
    }
}
