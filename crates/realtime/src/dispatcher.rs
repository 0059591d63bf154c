//! The one task that hears of commits and tells the sessions.
//!
//! # The loop
//!
//! Requests come through one bounded queue, commits through the tail of the engine, results that were
//! read through a set of jobs. Entries are taken in bounded pieces, so that requests are heard between
//! them. After each entry the sessions that it touched are flushed, if they may speak: so every commit is a snapshot of
//! its own for those who follow, and several are one for those who do not.
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
//! Streams are not bounded here: whoever accepts connections bounds them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use watchfire_engine::{CommitEntry, Engine, EntriesSince, Error, Version};
use watchfire_model::DatabaseName;
use watchfire_model::watch::Cause;

use crate::catch_up::{self, CaughtUp};
use crate::cohort::{Cohorts, Gone, PATIENCE};
use crate::counters::Counters;
use crate::error::{SessionError, StreamEnd, cause};
use crate::gathering::Gathering;
use crate::heartbeats::Heartbeats;
use crate::job::Job;
use crate::outbox::{Queue, Signal, Weight};
use crate::registry::{Absorbed, Reading, Registry};
use crate::request::{self, Command};
use crate::result::{self, Filled, Results, Shown};
use crate::resume;
use crate::session::Session;
use crate::target::{AddTarget, SessionId, SharedId, StreamId};

/// Streams of one cohort that are told apart at a time because they do not read.
pub const PARTED_MAX: usize = 256;
/// Entries taken in one step.
pub const ENTRIES_PER_STEP: usize = 256;
/// Results and replays that are read at the same time.
pub const JOBS_MAX: usize = 16;
/// Readings of one result that may break before the dispatcher reads it itself.
pub const ATTEMPTS_MAX: u32 = 3;
/// How long the dispatcher reads a result itself, and with it how long one target may hold up the others.
pub const READ_ALONE_MAX: Duration = Duration::from_millis(500);

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
        caught_up: Result<Option<Vec<CaughtUp>>, Error>,
    },
    Settled(Version),
}

/// The task's state.
pub struct Dispatcher {
    engine: Engine,
    /// Check of the database in tokens.
    origin: u64,
    database: Arc<DatabaseName>,
    tail: watch::Receiver<Version>,
    requests: mpsc::Receiver<Command>,
    signal: Arc<Signal>,
    counters: Arc<Counters>,
    registry: Registry,
    cohorts: Cohorts,
    /// Sessions that may have something to tell and were not asked yet.
    behind: BTreeSet<SessionId>,
    /// Sessions that wait until a result that is read again stands: not looked at before.
    held: BTreeSet<SessionId>,
    /// Sessions of several streams that wait for room.
    crowded: BTreeSet<SessionId>,
    /// Sessions with a target that stands and must not be told before a version that is not reached.
    early: BTreeSet<SessionId>,
    /// Sessions whose targets wait for each other, and until when they do at most. One that is told sooner or asks for
    /// more stays until then, which is `TOGETHER_MAX` at most.
    gathering: BTreeSet<(Instant, SessionId)>,
    /// How streams come to stand at the present that stood at an earlier version.
    catching_up: catch_up::Shared,
    /// Every entry up to here was processed.
    version: Version,
    /// Whose turn it is when both requests and entries wait.
    requests_first: bool,
    /// The tail at which reading made no progress; wait for the next.
    stuck_at: Option<Version>,
    jobs: JoinSet<Done>,
    job_permits: Arc<Semaphore>,
    last_watch: u64,
    heartbeats: Heartbeats,
    settling: bool,
    /// It was asked for while it was under way.
    settle_again: bool,
}

impl Drop for Dispatcher {
    /// Whatever ends the dispatcher, a bug included, no stream is left waiting for it.
    fn drop(&mut self) {
        self.end_all(Some(&StreamEnd::Unavailable(
            "the dispatcher of listeners has ended".to_owned(),
        )));
        self.gauge();
    }
}

impl Dispatcher {
    /// For the listeners of one database; `heartbeat` must not be zero.
    pub fn new(
        engine: Engine,
        requests: mpsc::Receiver<Command>,
        signal: Arc<Signal>,
        heartbeat: Duration,
    ) -> Self {
        let tail = engine.tail();
        let version = *tail.borrow();
        let counters = Arc::clone(&signal.counters);
        Self {
            origin: resume::origin(engine.database(), engine.epoch()),
            database: Arc::new(engine.database().clone()),
            engine,
            tail,
            requests,
            signal,
            registry: Registry::default(),
            cohorts: Cohorts::new(Arc::clone(&counters)),
            counters,
            behind: BTreeSet::new(),
            held: BTreeSet::new(),
            crowded: BTreeSet::new(),
            early: BTreeSet::new(),
            gathering: BTreeSet::new(),
            catching_up: catch_up::Shared::default(),
            version,
            requests_first: true,
            stuck_at: None,
            jobs: JoinSet::new(),
            job_permits: Arc::new(Semaphore::new(JOBS_MAX)),
            last_watch: 0,
            heartbeats: Heartbeats::new(heartbeat),
            settling: false,
            settle_again: false,
        }
    }

    /// Serves until it is told to close, the database is closed, or all handles are gone.
    pub async fn run(mut self) {
        let mut patience = tokio::time::interval(PATIENCE);
        patience.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let given = self.cohorts.give();
            self.counters.stragglers.add(given.stragglers.len());
            for stream in given.stragglers {
                self.part(stream);
            }
            if !given.relieved.is_empty() {
                self.behind.extend(given.relieved);
                self.flush();
            }
            self.gauge();
            let tail = *self.tail.borrow_and_update();
            let work = tail > self.version && self.stuck_at != Some(tail);
            let signal = Arc::clone(&self.signal);
            let requests_first = self.requests_first;
            let beat = self.heartbeats.next_due().filter(|_| !self.settling);
            let gathered = self.gathering.first().map(|(until, _)| *until);
            let turn = self.cohorts.turn_due();
            tokio::select! {
                biased;
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => match done {
                    Ok(done) => self.done(done).await,
                    // Nobody waits for it any more.
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => {
                        tracing::error!(%error, "reading for listeners failed; their streams end");
                        self.settling = false;
                        self.heartbeats.give_up();
                        self.end_all(Some(&StreamEnd::Unavailable("reading for listeners failed".to_owned())));
                    }
                },
                () = signal.called() => self.called(),
                () = until(beat), if beat.is_some() => self.beats_due(),
                () = until(gathered), if gathered.is_some() => self.gathered(),
                _ = patience.tick(), if !self.crowded.is_empty() => self.lose_patience(),
                () = std::future::ready(()), if work && !requests_first => {
                    self.requests_first = true;
                    self.step(tail).await;
                }
                command = self.requests.recv() => {
                    self.requests_first = false;
                    match command {
                        Some(Command::Add { stream, queue, add, reply }) => {
                            let answer = self.add(stream, queue, add).await;
                            // A caller that no longer waits is told by its outbox.
                            let _ = reply.send(answer);
                        }
                        Some(Command::Refuse { stream, queue, target_id, cause, reply }) => {
                            let _ = reply.send(self.refuse(stream, queue, target_id, cause));
                        }
                        Some(Command::Remove { stream, target_id }) => self.remove(stream, target_id),
                        Some(Command::Fail { stream, target_id, cause }) => self.fail(stream, target_id, cause),
                        Some(Command::End { stream, end }) => {
                            let gone = self.cohorts.end(stream, Some(end));
                            self.forget(gone);
                        }
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
                // Nothing else to do; what was said is given on.
                () = std::future::ready(()), if self.cohorts.is_giving() => {}
                () = until(turn), if turn.is_some() => {}
            }
        }
    }

    /// Notes how many there are of all.
    fn gauge(&self) {
        let (streams, sessions) = self.cohorts.len();
        self.counters.streams.set(streams);
        self.counters.sessions.set(sessions);
        self.counters.sessions_waiting.set(self.cohorts.waiting());
        self.counters.targets.set(self.cohorts.targets());
        self.counters.targets_distinct.set(self.registry.len());
    }

    async fn add(
        &mut self,
        stream: StreamId,
        queue: Arc<Queue>,
        add: AddTarget,
    ) -> Result<(), SessionError> {
        let Some((id, target_id)) = self.admit(stream, queue, add.target_id)? else {
            return Ok(());
        };
        let origin = self.origin;
        let tail = *self.tail.borrow();
        let not_before = self.engine.seen_version();
        let Some(cohort) = self.cohorts.get_mut(id) else {
            return Err(SessionError::Ended);
        };
        let session = &mut cohort.session;
        let (identity, interest, mut watch) = match request::watch_of(origin, &add, tail) {
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
        watch.not_before = not_before;
        let goes_on = watch.replay_from.is_some() || watch.reset;
        session.watch(target_id, watch);
        if goes_on && session.told() == Version::default() {
            cohort.gathering = Some(Gathering::asked(cohort.gathering, Instant::now()));
        }
        self.answer(id);
        if self.registry.stands(shared) {
            self.begin(id, target_id);
        }
        if let Some(reading) = reading {
            self.counters.results_first.add(1);
            self.read(reading).await;
        }
        if not_before > tail {
            // Somebody has read what the tail has not come to: have it looked for now.
            self.settle();
        }
        self.behind.insert(id);
        self.flush();
        Ok(())
    }

    /// A request to watch: the session that it is for, the stream's own, and the target id; `None` when the id was
    /// refused.
    fn admit(
        &mut self,
        stream: StreamId,
        queue: Arc<Queue>,
        target_id: i32,
    ) -> Result<Option<(SessionId, i32)>, SessionError> {
        if queue.is_over() {
            return Err(SessionError::Ended);
        }
        if self.cohorts.of(stream).is_none() {
            let session = Session::new(self.origin, Arc::clone(&self.database));
            self.cohorts.open(stream, queue, session);
            self.counters.streams_opened.add(1);
        }
        let Some(id) = self.part(stream) else {
            return Err(SessionError::Ended);
        };
        let Some(cohort) = self.cohorts.get_mut(id) else {
            return Err(SessionError::Ended);
        };
        let Some(target_id) = cohort.session.admit(target_id)? else {
            self.answer(id);
            return Ok(None);
        };
        Ok(Some((id, target_id)))
    }

    fn refuse(
        &mut self,
        stream: StreamId,
        queue: Arc<Queue>,
        target_id: i32,
        cause: Cause,
    ) -> Result<(), SessionError> {
        if let Some((id, target_id)) = self.admit(stream, queue, target_id)? {
            if let Some(cohort) = self.cohorts.get_mut(id) {
                cohort.session.refuse(target_id, cause);
            }
            self.answer(id);
            self.behind.insert(id);
            self.flush();
        }
        Ok(())
    }

    /// Gives a stream a session of its own.
    fn part(&mut self, stream: StreamId) -> Option<SessionId> {
        let (id, copied) = self.cohorts.part(stream)?;
        if let Some(targets) = copied {
            for (target_id, shared) in targets {
                self.registry.join(shared, (id, target_id));
            }
            self.behind.insert(id);
            self.heartbeats.plan(&mut self.cohorts, id);
        }
        Some(id)
    }

    fn remove(&mut self, stream: StreamId, target_id: i32) {
        let Some(id) = self.part(stream) else {
            return;
        };
        if let Some(cohort) = self.cohorts.get_mut(id)
            && let Some(shared) = cohort.session.remove(target_id)
        {
            self.registry.unwatch(shared, (id, target_id));
        }
        self.answer(id);
        // The target may have been what held the others.
        self.behind.insert(id);
        self.flush();
    }

    /// Ends a target of one stream with a cause.
    fn fail(&mut self, stream: StreamId, target_id: i32, cause: Cause) {
        let Some(id) = self.part(stream) else {
            return;
        };
        if let Some(cohort) = self.cohorts.get_mut(id)
            && let Some((shared, _)) = cohort.session.watching(target_id)
        {
            cohort.session.fail(target_id, cause);
            self.registry.unwatch(shared, (id, target_id));
        }
        self.answer(id);
        self.behind.insert(id);
        self.flush();
    }

    fn called(&mut self) {
        for stream in self.signal.take_gone() {
            let gone = self.cohorts.close(stream);
            self.forget(gone);
        }
        let ready = self.signal.take_ready().into_iter();
        self.behind
            .extend(ready.filter_map(|stream| self.cohorts.of(stream)));
        self.flush();
    }

    /// Cleans up after a session that is gone.
    fn forget(&mut self, gone: Option<Gone>) {
        let Some(Gone {
            session,
            targets,
            beat_due,
            beaten: _,
        }) = gone
        else {
            return;
        };
        self.behind.remove(&session);
        self.held.remove(&session);
        self.crowded.remove(&session);
        self.early.remove(&session);
        if let Some(due) = beat_due {
            self.heartbeats.forget(session, due);
        }
        for (target_id, shared) in targets {
            self.registry.unwatch(shared, (session, target_id));
        }
        if self.registry.is_empty() {
            self.catching_up.forget();
        }
    }

    fn end_all(&mut self, end: Option<&StreamEnd>) {
        let streams: BTreeSet<StreamId> = self.cohorts.streams().collect();
        for stream in streams {
            let gone = self.cohorts.end(stream, end.cloned());
            self.forget(gone);
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
            self.counters.results_broken.add(broken.len());
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
            Ok(filled) => {
                let older = self.registry.arrive(shared, generation, filled);
                self.counters
                    .results_broken
                    .add(usize::from(older.is_some()));
                older
            }
            Err(error) => {
                if self.registry.awaits(shared, generation) {
                    for (id, target_id) in self.registry.remove(shared) {
                        if let Some(cohort) = self.cohorts.get_mut(id) {
                            cohort.session.fail(target_id, cause(&error));
                            self.answer(id);
                            self.behind.insert(id);
                        }
                    }
                }
                None
            }
        }
    }

    /// The result of a target stands: it is told, unless somebody had read something newer when it was asked for.
    fn begin(&mut self, id: SessionId, target_id: i32) {
        let Some(cohort) = self.cohorts.get_mut(id) else {
            return;
        };
        match cohort.session.awaits(target_id) {
            Some(not_before) if not_before > self.version => {
                self.early.insert(id);
            }
            Some(_) => {
                let from = cohort.session.filled(target_id);
                self.replay(id, target_id, from);
            }
            None => {}
        }
        self.behind.insert(id);
    }

    /// Begins with those whose version is reached by now.
    fn begin_early(&mut self) {
        for id in std::mem::take(&mut self.early) {
            let Some(cohort) = self.cohorts.get(id) else {
                continue;
            };
            let filling: Vec<(i32, SharedId)> = cohort.session.filling().collect();
            for (target_id, shared) in filling {
                // What is read anew meanwhile begins when it stands.
                if self.registry.stands(shared) {
                    self.begin(id, target_id);
                }
            }
        }
    }

    fn replay(&mut self, session: SessionId, target_id: i32, from: Option<Version>) {
        let Some(from) = from else { return };
        let Some(cohort) = self.cohorts.get_mut(session) else {
            return;
        };
        let Some((shared, watch)) = cohort.session.watching(target_id) else {
            return;
        };
        let Some(interest) = self.registry.interest(shared).cloned() else {
            return;
        };
        let to = self.version;
        let joint = self.catching_up.join(shared, &interest, from, to);
        let result = self.registry.standing(shared);
        let (engine, permits) = (self.engine.clone(), Arc::clone(&self.job_permits));
        let work = self.jobs.spawn(async move {
            let caught_up = joint.catch_up(&engine, &interest, to, result.documents(), &permits);
            Done::Replayed {
                session,
                target_id,
                watch,
                caught_up: caught_up.await,
            }
        });
        cohort.session.replayed_by(target_id, watch, Job::new(work));
    }

    fn settle(&mut self) {
        if self.settling {
            self.settle_again = true;
            return;
        }
        if self.registry.is_empty() {
            return;
        }
        self.settling = true;
        let engine = self.engine.clone();
        self.jobs
            .spawn(async move { Done::Settled(engine.settled_version().await) });
    }

    async fn done(&mut self, done: Done) {
        if matches!(done, Done::Replayed { .. }) {
            self.counters.replays.add(1);
        }
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
                caught_up,
            } => {
                if let Some(cohort) = self.cohorts.get_mut(session) {
                    // A changelog that cannot be read is answered like one that is too short.
                    let caught_up = caught_up.ok().flatten();
                    cohort
                        .session
                        .replayed(target_id, watch, caught_up.as_deref());
                    self.behind.insert(session);
                }
            }
            Done::Settled(version) => {
                self.settling = false;
                self.heartbeats.settled(version);
                // Somebody has asked since, who may have seen more than this answer knew.
                let again = std::mem::take(&mut self.settle_again);
                if again && version < self.engine.seen_version() {
                    self.settle();
                }
            }
        }
        self.install_due().await;
        self.beat();
        self.flush();
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
                for entry in entries.iter().filter(|entry| entry.version <= stop) {
                    let broken = self.process(entry);
                    self.read_all(broken).await;
                    self.flush();
                }
                self.version = stop;
            }
            Ok(EntriesSince::TooOld) => {
                self.version = tail;
                let readings = self.registry.restart(tail);
                self.counters.results_lost.add(readings.len());
                for reading in &readings {
                    self.lose(reading.shared);
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
        self.begin_early();
        self.install_due().await;
        self.beat();
        self.flush();
    }

    /// Gives an entry's changes to the targets that they concern; returns what must be read.
    fn process(&mut self, entry: &CommitEntry) -> Vec<Reading> {
        let version = entry.version;
        let mut readings = Vec::new();
        self.counters.changes_read.add(entry.changes.len());
        let routed = self.registry.route(entry);
        let matched = routed.values().map(Vec::len).sum();
        self.counters.changes_matched.add(matched);
        self.version = version;
        for (shared, changes) in routed {
            match self.registry.apply(shared, changes, version) {
                Absorbed::Moved(shown) => self.tell(shared, shown),
                Absorbed::Held => {}
                Absorbed::Broken(reading) => {
                    self.counters.results_broken.add(1);
                    readings.push(reading);
                }
                Absorbed::Lost(reading) => {
                    self.counters.results_lost.add(1);
                    self.lose(shared);
                    readings.push(reading);
                }
            }
        }
        readings
    }

    /// A result was lost and is read anew: whoever waited for it need not wait to tell of others.
    fn lose(&mut self, shared: SharedId) {
        for (id, target_id) in self.registry.watchers(shared) {
            if let Some(cohort) = self.cohorts.get_mut(id) {
                cohort.session.lost(target_id);
                self.behind.insert(id);
            }
        }
    }

    /// Installs the results that are due; returns what must be read again.
    fn install(&mut self) -> Vec<Reading> {
        let mut readings = Vec::new();
        let due = self.registry.due(self.version);
        if !due.is_empty() {
            self.behind.append(&mut self.held);
        }
        for shared in due {
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
                self.begin(id, target_id);
            }
        }
        readings
    }

    fn tell(&mut self, shared: SharedId, shown: Shown) {
        let shown = Arc::new(shown);
        for (id, target_id) in self.registry.watchers(shared) {
            if let Some(cohort) = self.cohorts.get_mut(id) {
                cohort.session.absorb(target_id, &shown);
                if cohort.session.is_dirty() {
                    cohort.owes_since.get_or_insert(shown.as_of);
                }
                self.behind.insert(id);
            }
        }
    }

    /// Takes those whose heartbeat is due, and asks for a version that they can be told.
    fn beats_due(&mut self) {
        if self.heartbeats.take_due(&mut self.cohorts) {
            // Who comes back after a failure has come by now.
            self.catching_up.forget();
            self.settle();
        }
    }

    fn beat(&mut self) {
        let Some((at, ids)) = self.heartbeats.due_at(self.version) else {
            return;
        };
        for id in ids {
            if let Some(cohort) = self.cohorts.get_mut(id) {
                cohort.session.beat(at);
                self.counters.heartbeats.add(1);
                self.behind.insert(id);
            }
        }
    }

    fn answer(&mut self, id: SessionId) {
        if let Some(cohort) = self.cohorts.get_mut(id) {
            let answers = cohort.session.take_answers();
            if !answers.is_empty() {
                self.cohorts.say(id, answers, Weight::Answer);
            }
        }
    }

    /// Lets the sessions speak that have something to tell.
    fn flush(&mut self) {
        if self.behind.is_empty() {
            return;
        }
        let now = Instant::now();
        for id in std::mem::take(&mut self.behind) {
            self.flush_one(id, now);
        }
    }

    fn flush_one(&mut self, id: SessionId, now: Instant) {
        let Some(cohort) = self.cohorts.get_mut(id) else {
            return;
        };
        if !cohort.session.is_dirty() {
            self.cohorts.stop_waiting(id);
            self.crowded.remove(&id);
            self.rest(id);
            return;
        }
        if let Some(gathering) = cohort.gathering {
            // What is collected meanwhile is bounded by the time.
            let until = gathering.until(cohort.session.has_caught_up(&self.registry));
            if now < until {
                self.gathering.insert((until, id));
                return;
            }
        }
        if cohort.session.held(&self.registry) {
            cohort.session.defer();
            // It is called when a result stands, and by whatever else happens to it.
            if cohort.session.held(&self.registry) {
                self.held.insert(id);
                return;
            }
        }
        self.held.remove(&id);
        if !self.cohorts.has_room(id) {
            // It is called when somebody has read.
            let shared = self.cohorts.is_shared(id);
            if let Some(cohort) = self.cohorts.get_mut(id) {
                cohort.session.defer();
            }
            self.cohorts.wait(id, now);
            if shared {
                self.crowded.insert(id);
            }
            return;
        }
        let Some(cohort) = self.cohorts.get_mut(id) else {
            return;
        };
        let (events, ended) = cohort.session.flush(self.version, &self.registry);
        cohort.spoke_at = now;
        cohort.gathering = None;
        let first = cohort.beat_due.is_none() && cohort.session.has_current();
        self.cohorts.stop_waiting(id);
        self.crowded.remove(&id);
        self.cohorts.say(id, events, Weight::Told);
        for (target_id, shared) in ended {
            self.registry.unwatch(shared, (id, target_id));
        }
        if first {
            self.heartbeats.plan_first(&mut self.cohorts, id);
        }
        self.rest(id);
    }

    /// A session may be at rest, and then be one with another.
    fn rest(&mut self, id: SessionId) {
        let Some((gone, joined)) = self.cohorts.rest(id) else {
            return;
        };
        let early = gone
            .beat_due
            .map(|due| due.saturating_duration_since(Instant::now()));
        if !gone.beaten
            && let Some(cohort) = self.cohorts.get_mut(joined)
        {
            cohort.beaten = false;
        }
        self.forget(Some(gone));
        if let Some(early) = early {
            self.heartbeats
                .plan_within(&mut self.cohorts, joined, early);
        }
    }

    /// The time is over of some whose targets have waited for each other.
    fn gathered(&mut self) {
        let now = Instant::now();
        while let Some((until, id)) = self.gathering.first().copied()
            && until <= now
        {
            self.gathering.pop_first();
            self.behind.insert(id);
        }
        self.flush();
    }

    /// Members who have not read for too long are told apart, so that the others of their cohort go on.
    fn lose_patience(&mut self) {
        let now = Instant::now();
        for id in std::mem::take(&mut self.crowded) {
            let Some(waits_since) = self.cohorts.get(id).and_then(|cohort| cohort.waits_since)
            else {
                continue;
            };
            if now.duration_since(waits_since) < PATIENCE {
                self.crowded.insert(id);
                continue;
            }
            let mut stragglers = self.cohorts.without_room(id);
            stragglers.truncate(PARTED_MAX);
            self.counters.stragglers.add(stragglers.len());
            for stream in stragglers {
                self.part(stream);
            }
            self.behind.insert(id);
        }
        self.flush();
    }
}

/// Waits until a moment; for ever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
