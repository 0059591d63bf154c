//! The one task that hears of commits and tells the sessions, and the handles in front of it.
//!
//! # The loop
//!
//! Requests come through one bounded queue, commits through the tail of the engine, results that were
//! read through a set of jobs. Entries are taken in bounded pieces, so that requests are heard between
//! them. After each step the sessions that it touched are flushed, if they may speak.
//!
//! What is ready is taken in a fixed order, so that the same events have the same outcome: jobs that are done, streams
//! that call, heartbeats, and then requests and entries by turns. None of the first three can go on by itself: each
//! follows from a request or an entry, so the last two always get their turn.
//!
//! # Reading does not stop the others
//!
//! Results and replays are read in spawned jobs, a bounded number at a time. A result that was read at
//! version V is installed when the entries up to V have been processed, with the entries after V applied
//! to it. A busy query may break each time before it stands; after `ATTEMPTS_MAX` times it is read by
//! the dispatcher itself, which then stops at that version, so that it stands for certain. A query that
//! takes longer than `READ_ALONE_MAX` goes back to the jobs: as long as it breaks faster than it can be
//! read its own streams wait, and no others.
//!
//! # What is not done
//!
//! Sessions are not bounded here: whoever accepts connections bounds them.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use watchfire_engine::{CommitEntry, Engine, EntriesSince, Error, Version};
use watchfire_model::watch::{Cause, Target};

use crate::error::{SessionError, StreamEnd, cause};
use crate::job::Job;
use crate::outbox::{Outbox, Queue, Signal};
use crate::registry::{Absorbed, Reading, Registry};
use crate::result::{self, Filled, Results, Shown};
use crate::resume::{self, Point};
use crate::session::{Session, Watch};
use crate::target::{
    AddTarget, DOCUMENTS_PER_TARGET_MAX, Interest, SessionId, SharedId, identity, stable_hash,
};

/// How often idle streams get a snapshot with a fresh read time; clients give up after 120 s of silence.
pub const HEARTBEAT: Duration = Duration::from_secs(30);
/// Requests that wait for the dispatcher; more make their callers wait.
pub const COMMANDS_MAX: usize = 1_024;
/// Entries taken in one step.
pub const ENTRIES_PER_STEP: usize = 256;
/// Results and replays that are read at the same time.
pub const JOBS_MAX: usize = 16;
/// Readings of one result that may break before the dispatcher reads it itself.
pub const ATTEMPTS_MAX: u32 = 3;
/// How long the dispatcher reads a result itself, and with it how long one target may hold up the others.
pub const READ_ALONE_MAX: Duration = Duration::from_millis(500);

#[derive(Debug)]
enum Command {
    Add {
        session: SessionId,
        queue: Arc<Queue>,
        add: AddTarget,
        reply: oneshot::Sender<Result<(), SessionError>>,
    },
    Remove {
        session: SessionId,
        target_id: i32,
    },
    Close,
}

/// The listeners of one database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hub {
    commands: mpsc::Sender<Command>,
    signal: Arc<Signal>,
    last_session: Arc<AtomicU64>,
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
            last_session: Arc::default(),
            task: Arc::new(Mutex::new(Some(task))),
        }
    }

    /// A new stream. It costs nothing until its first request.
    pub fn connect(&self) -> (SessionHandle, Outbox) {
        let session = SessionId(self.last_session.fetch_add(1, Ordering::Relaxed) + 1);
        let (queue, outbox) = Queue::new(session, Arc::clone(&self.signal));
        (
            SessionHandle {
                session,
                queue,
                commands: self.commands.clone(),
            },
            outbox,
        )
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
    session: SessionId,
    queue: Arc<Queue>,
    commands: mpsc::Sender<Command>,
}

impl SessionHandle {
    /// Watches a target. What concerns the target alone is answered through the outbox; an error here
    /// ends the whole stream.
    pub async fn add(&self, add: AddTarget) -> Result<(), SessionError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Add {
            session: self.session,
            queue: Arc::clone(&self.queue),
            add,
            reply,
        };
        if self.commands.send(command).await.is_err() {
            self.queue.end(None);
            return Err(SessionError::Ended);
        }
        answer.await.unwrap_or(Err(SessionError::Ended))
    }

    /// Ends a target; the outbox acknowledges. One that is not active was ended before and is not answered.
    pub async fn remove(&self, target_id: i32) {
        if self
            .commands
            .send(Command::Remove {
                session: self.session,
                target_id,
            })
            .await
            .is_err()
        {
            self.queue.end(None);
        }
    }
}

/// What a job came back with.
#[derive(Debug)]
enum Done {
    Filled {
        shared: SharedId,
        generation: u64,
        filled: Result<Filled, Error>,
    },
    Replayed {
        session: SessionId,
        target_id: i32,
        watch: u64,
        shown: Result<Option<Shown>, Error>,
    },
    Settled(Version),
}

#[derive(Debug)]
struct Connected {
    session: Session,
    queue: Arc<Queue>,
}

struct Dispatcher {
    engine: Engine,
    /// Check of the database in tokens.
    database: u64,
    tail: watch::Receiver<Version>,
    requests: mpsc::Receiver<Command>,
    signal: Arc<Signal>,
    heartbeat: Duration,
    registry: Registry,
    sessions: HashMap<SessionId, Connected>,
    /// Sessions that had something to tell and could not.
    behind: BTreeSet<SessionId>,
    /// Every entry up to here was processed.
    version: Version,
    /// Whose turn it is when both requests and entries wait.
    requests_first: bool,
    /// The tail at which reading made no progress; wait for the next.
    stuck_at: Option<Version>,
    jobs: JoinSet<Done>,
    job_permits: Arc<Semaphore>,
    last_watch: u64,
    /// A heartbeat that is told when `version` has come so far.
    beat_at: Option<Version>,
    settling: bool,
}

impl Drop for Dispatcher {
    /// Whatever ends the dispatcher, a bug included, no stream is left waiting for it.
    fn drop(&mut self) {
        self.end_all(Some(&StreamEnd::Unavailable(
            "the dispatcher of listeners has ended".to_owned(),
        )));
    }
}

impl Dispatcher {
    fn new(
        engine: Engine,
        requests: mpsc::Receiver<Command>,
        signal: Arc<Signal>,
        heartbeat: Duration,
    ) -> Self {
        let tail = engine.tail();
        let version = *tail.borrow();
        Self {
            database: resume::origin(engine.database(), engine.epoch()),
            engine,
            tail,
            requests,
            signal,
            heartbeat,
            registry: Registry::default(),
            sessions: HashMap::new(),
            behind: BTreeSet::new(),
            version,
            requests_first: true,
            stuck_at: None,
            jobs: JoinSet::new(),
            job_permits: Arc::new(Semaphore::new(JOBS_MAX)),
            last_watch: 0,
            beat_at: None,
            settling: false,
        }
    }

    async fn run(mut self) {
        // The first comes after a whole period: a stream that has just begun needs none.
        let mut heartbeat =
            tokio::time::interval_at(Instant::now() + self.heartbeat, self.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let tail = *self.tail.borrow_and_update();
            let work = tail > self.version && self.stuck_at != Some(tail);
            let signal = Arc::clone(&self.signal);
            let requests_first = self.requests_first;
            tokio::select! {
                biased;
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => match done {
                    Ok(done) => self.done(done).await,
                    // Nobody waits for it any more.
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => {
                        tracing::error!(%error, "reading for listeners failed; their streams end");
                        self.settling = false;
                        self.end_all(Some(&StreamEnd::Unavailable("reading for listeners failed".to_owned())));
                    }
                },
                () = signal.called() => self.called(),
                _ = heartbeat.tick() => self.settle(),
                () = std::future::ready(()), if work && !requests_first => {
                    self.requests_first = true;
                    self.step(tail).await;
                }
                command = self.requests.recv() => {
                    self.requests_first = false;
                    match command {
                        Some(Command::Add { session, queue, add, reply }) => {
                            let answer = self.add(session, queue, add).await;
                            // A caller that no longer waits is told by its outbox.
                            let _ = reply.send(answer);
                        }
                        Some(Command::Remove { session, target_id }) => self.remove(session, target_id),
                        Some(Command::Close) | None => {
                            self.end_all(None);
                            return;
                        }
                    }
                }
                changed = self.tail.changed(), if !work => {
                    if changed.is_err() {
                        self.end_all(Some(&StreamEnd::Unavailable("the database is closed".to_owned())));
                        return;
                    }
                }
                () = std::future::ready(()), if work => self.step(tail).await,
            }
        }
    }

    async fn add(
        &mut self,
        id: SessionId,
        queue: Arc<Queue>,
        add: AddTarget,
    ) -> Result<(), SessionError> {
        if queue.is_over() {
            return Err(SessionError::Ended);
        }
        let database = self.database;
        let connected = self.sessions.entry(id).or_insert_with(|| Connected {
            session: Session::new(database),
            queue,
        });
        let session = &mut connected.session;
        let Some(target_id) = session.admit(add.target_id)? else {
            self.answer(id);
            return Ok(());
        };
        let tail = *self.tail.borrow();
        let (identity, interest, mut watch) = match Self::watch_of(database, &add, tail) {
            Ok(checked) => checked,
            Err(cause) => {
                session.refuse(target_id, cause);
                self.answer(id);
                return Ok(());
            }
        };
        let (shared, reading) =
            self.registry
                .watch(identity, interest, (id, target_id), self.version);
        self.last_watch += 1;
        watch.watch = self.last_watch;
        watch.shared = shared;
        session.watch(target_id, watch);
        let from = if self.registry.stands(shared) {
            session.filled(target_id)
        } else {
            None
        };
        self.answer(id);
        self.replay(id, target_id, from);
        if let Some(reading) = reading {
            self.read(reading).await;
        }
        self.flush([id].into());
        Ok(())
    }

    /// Checks a request; the numbers of the watch are filled in later.
    fn watch_of(
        database: u64,
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
        let point = resume::check(&add.resume, database, hash, tail).map_err(Cause::Invalid)?;
        let (replay_from, reset) = match point {
            None => (None, false),
            Some(Point::Version(version)) if !interest.limited() => (Some(version), false),
            Some(Point::Version(_) | Point::Unknown) => (None, true),
        };
        let watch = Watch {
            shared: SharedId(0),
            watch: 0,
            hash,
            projected: interest.projected(),
            once: add.once,
            replay_from,
            reset,
            expected_count: add.expected_count,
        };
        Ok((identity, interest, watch))
    }

    fn remove(&mut self, id: SessionId, target_id: i32) {
        let Some(connected) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Some(shared) = connected.session.remove(target_id) {
            self.registry.unwatch(shared, (id, target_id));
        }
        self.answer(id);
        // The target may have been what held the others.
        self.flush([id].into());
    }

    fn called(&mut self) {
        for id in self.signal.take_gone() {
            self.disconnect(id);
        }
        self.flush(BTreeSet::new());
    }

    fn disconnect(&mut self, id: SessionId) {
        self.behind.remove(&id);
        if let Some(connected) = self.sessions.remove(&id) {
            for (target_id, shared) in connected.session.targets() {
                self.registry.unwatch(shared, (id, target_id));
            }
        }
    }

    fn end_all(&mut self, end: Option<&StreamEnd>) {
        let ids: BTreeSet<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            if let Some(connected) = self.sessions.get(&id) {
                connected.queue.end(end.cloned());
            }
            self.disconnect(id);
        }
    }

    /// Reads a result: in a job, or here when jobs have failed to keep up with the changes.
    async fn read(&mut self, reading: Reading) {
        let mut next = Some(reading);
        while let Some(reading) = next.take() {
            let engine = self.engine.clone();
            let Reading {
                shared,
                generation,
                attempts,
                interest,
            } = reading;
            if attempts < ATTEMPTS_MAX {
                let permits = Arc::clone(&self.job_permits);
                let work = self.jobs.spawn(async move {
                    // A few documents by name, which is how clients read one, wait for no query.
                    let _permit = if interest.is_quick() {
                        None
                    } else {
                        permits.acquire_owned().await.ok()
                    };
                    Done::Filled {
                        shared,
                        generation,
                        filled: result::fill(&engine, &interest).await,
                    }
                });
                self.registry.read_by(shared, generation, Job::new(work));
            } else {
                let reading = result::fill(&engine, &interest);
                next = match tokio::time::timeout(READ_ALONE_MAX, reading).await {
                    Ok(filled) => self.filled(shared, generation, filled),
                    Err(_) => self.registry.postpone(shared, generation),
                };
            }
        }
    }

    /// Installs what is due until nothing is: a result that breaks and is read here may be due at once.
    /// Ends, because such a result is installed with nothing to apply to it, so that it cannot break.
    async fn install_due(&mut self) {
        loop {
            let broken = self.install();
            if broken.is_empty() {
                return;
            }
            self.read_all(broken).await;
        }
    }

    async fn read_all(&mut self, readings: Vec<Reading>) {
        for reading in readings {
            self.read(reading).await;
        }
    }

    fn filled(
        &mut self,
        shared: SharedId,
        generation: u64,
        filled: Result<Filled, Error>,
    ) -> Option<Reading> {
        match filled {
            Ok(filled) => self.registry.arrive(shared, generation, filled),
            Err(error) => {
                if self.registry.awaits(shared, generation) {
                    for (id, target_id) in self.registry.remove(shared) {
                        if let Some(connected) = self.sessions.get_mut(&id) {
                            connected.session.fail(target_id, cause(&error));
                            self.answer(id);
                            self.behind.insert(id);
                        }
                    }
                }
                None
            }
        }
    }

    fn replay(&mut self, session: SessionId, target_id: i32, from: Option<Version>) {
        let Some(from) = from else { return };
        let Some(connected) = self.sessions.get_mut(&session) else {
            return;
        };
        let Some((shared, watch)) = connected.session.watching(target_id) else {
            return;
        };
        let Some(interest) = self.registry.interest(shared).cloned() else {
            return;
        };
        let (engine, permits, to) = (
            self.engine.clone(),
            Arc::clone(&self.job_permits),
            self.version,
        );
        let work = self.jobs.spawn(async move {
            let _permit = permits.acquire_owned().await;
            let shown = resume::replay(&engine, &interest, from, to).await;
            Done::Replayed {
                session,
                target_id,
                watch,
                shown,
            }
        });
        connected
            .session
            .replayed_by(target_id, watch, Job::new(work));
    }

    fn settle(&mut self) {
        if self.settling || self.registry.is_empty() {
            return;
        }
        self.settling = true;
        let engine = self.engine.clone();
        self.jobs
            .spawn(async move { Done::Settled(engine.settled_version().await) });
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Filled {
                shared,
                generation,
                filled,
            } => {
                if let Some(reading) = self.filled(shared, generation, filled) {
                    self.read(reading).await;
                }
            }
            Done::Replayed {
                session,
                target_id,
                watch,
                shown,
            } => {
                if let Some(connected) = self.sessions.get_mut(&session) {
                    // A changelog that cannot be read is answered like one that is too short.
                    connected
                        .session
                        .replayed(target_id, watch, shown.ok().flatten().as_ref());
                    self.behind.insert(session);
                }
            }
            Done::Settled(version) => {
                self.settling = false;
                self.beat_at = Some(version);
            }
        }
        self.install_due().await;
        self.beat();
        self.flush(BTreeSet::new());
    }

    /// Processes one piece of the entries up to `tail`.
    async fn step(&mut self, tail: Version) {
        match self
            .engine
            .entries_since(self.version, ENTRIES_PER_STEP)
            .await
        {
            Ok(EntriesSince::Entries {
                entries,
                complete_to,
            }) => {
                if complete_to <= self.version {
                    self.stuck_at = Some(tail);
                    return;
                }
                self.stuck_at = None;
                let stop = self
                    .registry
                    .stop(self.version)
                    .unwrap_or(complete_to)
                    .min(complete_to);
                let broken = self.process(&entries, stop);
                self.read_all(broken).await;
            }
            Ok(EntriesSince::TooOld) => {
                self.version = tail;
                let readings = self.registry.restart(tail);
                for reading in &readings {
                    for (id, target_id) in self.registry.watchers(reading.shared) {
                        if let Some(connected) = self.sessions.get_mut(&id) {
                            connected.session.lost(target_id);
                        }
                    }
                }
                self.read_all(readings).await;
            }
            Err(error) => {
                tracing::error!(%error, "the changelog cannot be read; listen streams end");
                self.end_all(Some(&StreamEnd::Unavailable(error.to_string())));
                // Nobody listens: nothing before the tail matters to those who come.
                self.version = tail;
            }
        }
        self.install_due().await;
        self.beat();
        self.flush(BTreeSet::new());
    }

    /// Gives the entries up to `version` to the targets that they concern; returns what must be read.
    fn process(&mut self, entries: &[Arc<CommitEntry>], version: Version) -> Vec<Reading> {
        let mut readings = Vec::new();
        let routed = self.registry.route(entries, version);
        self.version = version;
        for (shared, changes) in routed {
            match self.registry.apply(shared, changes, version) {
                Absorbed::Moved(shown) => self.tell(shared, shown),
                Absorbed::Held => {}
                Absorbed::Broken(reading) => readings.push(reading),
                Absorbed::Lost(reading) => {
                    for (id, target_id) in self.registry.watchers(shared) {
                        if let Some(connected) = self.sessions.get_mut(&id) {
                            connected.session.lost(target_id);
                        }
                    }
                    readings.push(reading);
                }
            }
        }
        readings
    }

    /// Installs the results that are due; returns what must be read again.
    fn install(&mut self) -> Vec<Reading> {
        let mut readings = Vec::new();
        for shared in self.registry.due(self.version) {
            let Some(installed) = self.registry.install(shared, self.version) else {
                continue;
            };
            if !installed.first {
                for shown in installed.shown {
                    self.tell(shared, shown);
                }
            }
            readings.extend(installed.again);
            if !self.registry.stands(shared) {
                continue;
            }
            for (id, target_id) in self.registry.watchers(shared) {
                if let Some(connected) = self.sessions.get_mut(&id) {
                    let from = connected.session.filled(target_id);
                    self.behind.insert(id);
                    self.replay(id, target_id, from);
                }
            }
        }
        readings
    }

    fn tell(&mut self, shared: SharedId, shown: Shown) {
        let shown = Arc::new(shown);
        for (id, target_id) in self.registry.watchers(shared) {
            if let Some(connected) = self.sessions.get_mut(&id) {
                connected.session.absorb(target_id, &shown);
                self.behind.insert(id);
            }
        }
    }

    fn beat(&mut self) {
        if self.beat_at.is_none_or(|at| at > self.version) {
            return;
        }
        if let Some(at) = self.beat_at.take() {
            for (id, connected) in &mut self.sessions {
                connected.session.beat(at);
                self.behind.insert(*id);
            }
        }
    }

    fn answer(&mut self, id: SessionId) {
        if let Some(connected) = self.sessions.get_mut(&id) {
            let answers = connected.session.take_answers();
            if !answers.is_empty() {
                connected.queue.answer(answers);
            }
        }
    }

    /// Lets the sessions speak that have something to tell, and those that could not before.
    fn flush(&mut self, touched: BTreeSet<SessionId>) {
        let mut ids = std::mem::take(&mut self.behind);
        ids.extend(touched);
        for id in ids {
            let Some(Connected { session, queue }) = self.sessions.get_mut(&id) else {
                continue;
            };
            if !session.is_dirty() {
                continue;
            }
            if session.held(&self.registry) || !queue.has_room() {
                session.defer();
                self.behind.insert(id);
                continue;
            }
            let (events, ended) = session.flush(self.version, &self.registry);
            queue.tell(events);
            for (target_id, shared) in ended {
                self.registry.unwatch(shared, (id, target_id));
            }
        }
    }
}
