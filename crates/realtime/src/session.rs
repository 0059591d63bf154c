//! What a listen stream has been told and is owed, as a state machine without IO and without a clock.
//!
//! Streams that watch the same targets under the same ids and have been told the same share one session: what it
//! says is worked out once for all of them (see `cohort`).
//!
//! # What a client relies on
//!
//! - Each request to add or remove a target is answered once: `Added`, or `Removed` with a cause.
//!   A request to remove a target that is not active is not answered: its removal was told already.
//! - A client collects what it is told and shows it at the next `Snapshot`. At a snapshot with read time
//!   T, every target that was called `Current` must stand exactly as at T.
//! - Read times never go back.
//! - A client hands the token of a snapshot to all of its targets that were answered by `Added` (see `resume`). So a
//!   snapshot carries a token only when every active target is current; otherwise a target that knows nothing yet
//!   would be resumed from a version whose documents it never got.
//!
//! # How
//!
//! The dispatcher calls `absorb` with the changes of each target; they are merged for each document.
//! `flush` tells them, then calls new targets current, then closes with the snapshot. It is called only
//! at a version at which all current targets stand (`held` says so) and when the stream has room.
//! Otherwise `defer` bounds what is collected: past `PENDING_DOCUMENTS_MAX` documents everything pending
//! is dropped and the targets are reset at the next flush.
//!
//! # The life of a target
//!
//! `Filling` (no result yet) → `Ready` (all documents at the next flush) → `Current`.
//! With a resume point: `Filling` → `Replaying` (what has changed is found out, see `catch_up`; changes that
//! come meanwhile are kept) → `Replayed` (current at the next flush) → `Current`.
//! From every stage back to `Filling` or `Ready`, with a reset, when changes were lost.
//! A target stays `Filling`, and holds up no other, while its result is older than what somebody had read when it was
//! asked for (`not_before`).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use watchfire_engine::Version;
use watchfire_model::watch::{Cause, WatchEvent};
use watchfire_model::{DatabaseName, Document, DocumentPath, Invalid};

use crate::catch_up::{CaughtUp, existence_filter};
use crate::job::Job;
use crate::result::{Results, Shown};
use crate::resume;
use crate::target::{self, SharedId};

/// Active targets of one session; one more is refused by name.
pub const TARGETS_PER_SESSION_MAX: usize = 1_000;
/// Documents that a session that cannot speak collects before it gives up and resets its targets.
pub const PENDING_DOCUMENTS_MAX: usize = 2_000;

/// A target as the session is told to watch it.
#[derive(Clone, Debug)]
pub struct Watch {
    pub shared: SharedId,
    /// Names this watch among all that ever had the same target id.
    pub watch: u64,
    /// Hash of the target's identity, for tokens.
    pub hash: u64,
    /// Targets that show a document differently from others do not share its events.
    pub projected: bool,
    pub once: bool,
    /// Go on from here instead of sending everything.
    pub replay_from: Option<Version>,
    /// That is a time of a history which may be another than this one.
    pub by_time: bool,
    /// The caller may hold documents: the first thing it hears is a reset.
    pub reset: bool,
    pub expected_count: Option<i32>,
    /// Somebody has read this version when the target was asked for: the first result must not be older.
    pub not_before: Version,
}

#[derive(Debug)]
enum Stage {
    Filling {
        replay_from: Option<Version>,
        reset: bool,
    },
    Ready {
        reset: bool,
    },
    Replaying {
        kept: Vec<Arc<Shown>>,
        documents: usize,
        /// What finds out what has changed; ends with the stage.
        job: Option<Job>,
    },
    Replayed {
        /// Whether the caller holds the result for certain after what is told.
        certain: bool,
    },
    Current,
}

#[derive(Debug)]
struct Watched {
    watch: Watch,
    stage: Stage,
}

/// What is to be told of one document.
#[derive(Clone, Debug, Default)]
struct Pending {
    /// As it was at `as_of`, the newest that any target knows.
    document: Option<Arc<Document>>,
    as_of: Version,
    targets: BTreeSet<i32>,
    removed: BTreeSet<i32>,
}

impl Pending {
    fn learn(&mut self, document: Option<&Arc<Document>>, as_of: Version) {
        if as_of >= self.as_of {
            self.document = document.cloned();
            self.as_of = as_of;
        }
    }
}

/// Who chooses target ids on this stream.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
enum Ids {
    Undecided,
    Caller,
    Server { last: i32 },
}

/// A document, and the view of it that is told: zero for the whole document, else the projecting target.
type Subject = (DocumentPath, u64);

/// What one listen stream, or several that are alike, have been told and are owed.
#[derive(Debug)]
pub struct Session {
    origin: u64,
    database: Arc<DatabaseName>,
    ids: Ids,
    targets: BTreeMap<i32, Watched>,
    pending: BTreeMap<Subject, Pending>,
    /// A snapshot is owed.
    dirty: bool,
    told: Version,
    answers: Vec<WatchEvent>,
}

impl Session {
    /// `origin` is the check that tokens carry.
    pub fn new(origin: u64, database: Arc<DatabaseName>) -> Self {
        Self {
            origin,
            database,
            ids: Ids::Undecided,
            targets: BTreeMap::new(),
            pending: BTreeMap::new(),
            dirty: false,
            told: Version::default(),
            answers: Vec::new(),
        }
    }

    /// The same state for a stream that goes its own way from here. A replay that is awaited stays with this one; there
    /// the other is owed everything.
    pub fn fork(&self) -> Self {
        let stage_of = |stage: &Stage| match stage {
            Stage::Filling { replay_from, reset } => Stage::Filling {
                replay_from: *replay_from,
                reset: *reset,
            },
            Stage::Ready { reset } => Stage::Ready { reset: *reset },
            Stage::Replaying { .. } => Stage::Ready { reset: true },
            Stage::Replayed { certain } => Stage::Replayed { certain: *certain },
            Stage::Current => Stage::Current,
        };
        let targets = self.targets.iter().map(|(id, watched)| {
            let forked = Watched {
                watch: watched.watch.clone(),
                stage: stage_of(&watched.stage),
            };
            (*id, forked)
        });
        Self {
            origin: self.origin,
            database: Arc::clone(&self.database),
            ids: self.ids,
            targets: targets.collect(),
            pending: self.pending.clone(),
            dirty: self.dirty,
            told: self.told,
            answers: Vec::new(),
        }
    }

    /// Whether all targets are current and nothing is owed.
    fn is_at_rest(&self) -> bool {
        !self.dirty
            && self.pending.is_empty()
            && self.answers.is_empty()
            && !self.targets.is_empty()
            && self
                .targets
                .values()
                .all(|watched| matches!(watched.stage, Stage::Current))
    }

    /// A number that is equal for sessions which are in the same state, when the session is at rest. `is_like` must be
    /// asked before two are taken for one.
    pub fn signature(&self) -> Option<u64> {
        self.is_at_rest().then(|| {
            let mut hasher = DefaultHasher::new();
            self.ids.hash(&mut hasher);
            for (id, shared) in self.targets() {
                (id, shared).hash(&mut hasher);
            }
            hasher.finish()
        })
    }

    /// Whether both are at rest and will be told the same from now on.
    pub fn is_like(&self, other: &Self) -> bool {
        self.is_at_rest()
            && other.is_at_rest()
            && self.ids == other.ids
            && self.targets().eq(other.targets())
    }

    /// The version of the last snapshot; zero before the first.
    pub fn told(&self) -> Version {
        self.told
    }

    /// A stream joins that has been told a snapshot at `told`: read times go on from the later of both.
    pub fn catch_up_with(&mut self, told: Version) {
        self.told = self.told.max(told);
    }

    /// The number of active targets.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Whether something is told that becomes wrong without further snapshots, so that heartbeats are owed.
    pub fn has_current(&self) -> bool {
        self.targets
            .values()
            .any(|watched| matches!(watched.stage, Stage::Current))
    }

    /// Whether all targets that go on from somewhere have caught up.
    pub fn has_caught_up(&self, results: &impl Results) -> bool {
        let goes_on = |watch: &Watch| watch.replay_from.is_some() || watch.reset;
        self.targets
            .values()
            .filter(|watched| goes_on(&watched.watch))
            .all(|watched| match watched.stage {
                Stage::Filling { .. } | Stage::Replaying { .. } => false,
                Stage::Ready { .. } => results.stands(watched.watch.shared),
                Stage::Replayed { .. } | Stage::Current => true,
            })
    }

    /// Answers that must go out now.
    pub fn take_answers(&mut self) -> Vec<WatchEvent> {
        std::mem::take(&mut self.answers)
    }

    /// Whether there is something to tell.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// The active targets.
    pub fn targets(&self) -> impl Iterator<Item = (i32, SharedId)> {
        self.targets
            .iter()
            .map(|(id, watched)| (*id, watched.watch.shared))
    }

    /// What an active target watches, and the name of the watch.
    pub fn watching(&self, target_id: i32) -> Option<(SharedId, u64)> {
        self.targets
            .get(&target_id)
            .map(|watched| (watched.watch.shared, watched.watch.watch))
    }

    /// Takes a request's target id. `Some` is the id to watch under; `None` means that it was answered.
    /// An error ends the stream.
    pub fn admit(&mut self, target_id: i32) -> Result<Option<i32>, Invalid> {
        if target_id < 0 {
            return Err(Invalid::new(format!(
                "Invalid target ID: {target_id}; expected zero or more"
            )));
        }
        let id = match (self.ids, target_id) {
            (Ids::Undecided | Ids::Server { .. }, 0) => {
                let last = match self.ids {
                    Ids::Server { last } => last,
                    Ids::Undecided | Ids::Caller => 0,
                };
                // Past the last id the target is refused as a duplicate of it, which is never silent.
                let id = last.saturating_add(1);
                self.ids = Ids::Server { last: id };
                id
            }
            (Ids::Undecided | Ids::Caller, id) if id > 0 => {
                self.ids = Ids::Caller;
                id
            }
            _ => {
                return Err(Invalid::new(
                    "Target IDs on one stream must be either all zero or all non-zero",
                ));
            }
        };
        if self.targets.contains_key(&id) {
            self.refuse(
                id,
                Cause::AlreadyExists(format!("Target ID already exists: {id}")),
            );
            return Ok(None);
        }
        if self.targets.len() >= TARGETS_PER_SESSION_MAX {
            let text = format!(
                "A listen stream may have at most {TARGETS_PER_SESSION_MAX} active targets"
            );
            self.refuse(id, Cause::ResourceExhausted(text));
            return Ok(None);
        }
        Ok(Some(id))
    }

    /// Answers an admitted request with a refusal.
    pub fn refuse(&mut self, target_id: i32, cause: Cause) {
        self.answers.push(WatchEvent::Removed {
            target: target_id,
            cause: Some(cause),
        });
    }

    /// Answers an admitted request: the target is watched from now on.
    pub fn watch(&mut self, target_id: i32, watch: Watch) {
        self.answers.push(WatchEvent::Added { target: target_id });
        let stage = Stage::Filling {
            replay_from: watch.replay_from,
            reset: watch.reset,
        };
        self.targets.insert(target_id, Watched { watch, stage });
    }

    /// Removes a target at the caller's request; what it watched, or `None` when it is not active.
    pub fn remove(&mut self, target_id: i32) -> Option<SharedId> {
        let watched = self.targets.remove(&target_id)?;
        self.forget(target_id);
        self.answers.push(WatchEvent::Removed {
            target: target_id,
            cause: None,
        });
        Some(watched.watch.shared)
    }

    /// Ends a target because its result cannot be read.
    pub fn fail(&mut self, target_id: i32, cause: Cause) {
        if self.targets.remove(&target_id).is_some() {
            self.forget(target_id);
            self.refuse(target_id, cause);
        }
    }

    /// The version before which `filled` must not be called for the target; `None` when nothing waits for it.
    pub fn awaits(&self, target_id: i32) -> Option<Version> {
        self.targets
            .get(&target_id)
            .filter(|watched| matches!(watched.stage, Stage::Filling { .. }))
            .map(|watched| watched.watch.not_before)
    }

    /// The targets that `filled` has not been called for.
    pub fn filling(&self) -> impl Iterator<Item = (i32, SharedId)> {
        self.targets
            .iter()
            .filter(|(_, watched)| matches!(watched.stage, Stage::Filling { .. }))
            .map(|(id, watched)| (*id, watched.watch.shared))
    }

    /// The target's result stands for the first time. `Some` asks for a replay from that version.
    pub fn filled(&mut self, target_id: i32) -> Option<Version> {
        let watched = self.targets.get_mut(&target_id)?;
        let Stage::Filling { replay_from, reset } = watched.stage else {
            return None;
        };
        if replay_from.is_some() {
            watched.stage = Stage::Replaying {
                kept: Vec::new(),
                documents: 0,
                job: None,
            };
            return replay_from;
        }
        watched.stage = Stage::Ready { reset };
        self.dirty = true;
        None
    }

    /// Names the job that brings the replay. It ends when the replay is not awaited any more.
    pub fn replayed_by(&mut self, target_id: i32, watch: u64, work: Job) {
        if let Some(watched) = self.targets.get_mut(&target_id)
            && watched.watch.watch == watch
            && let Stage::Replaying { job, .. } = &mut watched.stage
        {
            *job = Some(work);
        }
    }

    /// The replay that was asked for, in order; `None` when nobody could tell.
    pub fn replayed(&mut self, target_id: i32, watch: u64, caught_up: Option<&[CaughtUp]>) {
        let Some(watched) = self.targets.get_mut(&target_id) else {
            return;
        };
        if watched.watch.watch != watch {
            return;
        }
        let Stage::Replaying { kept, .. } = &mut watched.stage else {
            return;
        };
        let kept = std::mem::take(kept);
        self.dirty = true;
        let by_time = watched.watch.by_time;
        let helps = |parts: &&[CaughtUp]| !by_time || parts.iter().all(|part| !part.by_times);
        let Some(parts) = caught_up.filter(helps) else {
            watched.stage = Stage::Ready { reset: true };
            return;
        };
        watched.stage = Stage::Replayed {
            certain: !by_time && parts.iter().all(|part| part.certain),
        };
        let view = view_of(&watched.watch);
        for part in parts {
            self.merge(target_id, view, &part.shown);
        }
        for later in kept {
            self.merge(target_id, view, &later);
        }
    }

    /// The target's result was lost and is read anew: `filled` follows, and then a reset.
    pub fn lost(&mut self, target_id: i32) {
        let Some(watched) = self.targets.get_mut(&target_id) else {
            return;
        };
        match &mut watched.stage {
            Stage::Filling { .. } => {}
            Stage::Ready { reset } => {
                watched.stage = Stage::Filling {
                    replay_from: None,
                    reset: *reset,
                };
            }
            Stage::Replaying { .. } | Stage::Replayed { .. } | Stage::Current => {
                watched.stage = Stage::Filling {
                    replay_from: None,
                    reset: true,
                };
                self.forget(target_id);
            }
        }
    }

    /// The target's result has changed.
    pub fn absorb(&mut self, target_id: i32, shown: &Arc<Shown>) {
        let Some(watched) = self.targets.get_mut(&target_id) else {
            return;
        };
        match &mut watched.stage {
            // Not told yet: the whole result will have it.
            Stage::Filling { .. } => {}
            Stage::Ready { .. } => self.dirty = true,
            Stage::Replaying {
                kept,
                documents,
                job: _,
            } => {
                *documents += shown.len();
                kept.push(Arc::clone(shown));
                if *documents > PENDING_DOCUMENTS_MAX {
                    watched.stage = Stage::Ready { reset: true };
                    self.dirty = true;
                }
            }
            Stage::Replayed { .. } | Stage::Current => {
                if !shown.is_empty() {
                    self.dirty = true;
                    let view = view_of(&watched.watch);
                    self.merge(target_id, view, shown);
                }
            }
        }
    }

    /// Owes a snapshot at `version`, if something is current and no later one was told. One that was told already is
    /// told again: when the clock was set back or the disk is full, the version stands still for longer than clients
    /// bear silence.
    pub fn beat(&mut self, version: Version) {
        if self.told <= version && self.has_current() {
            self.dirty = true;
        }
    }

    /// Whether a target that was told does not stand at the present version: then nothing can be told.
    pub fn held(&self, results: &impl Results) -> bool {
        self.targets.values().any(|watched| match watched.stage {
            Stage::Filling { .. } | Stage::Replaying { .. } | Stage::Ready { .. } => false,
            Stage::Replayed { .. } | Stage::Current => !results.stands(watched.watch.shared),
        })
    }

    /// Bounds what is collected while nothing can be told.
    pub fn defer(&mut self) {
        if self.pending.len() <= PENDING_DOCUMENTS_MAX {
            return;
        }
        self.pending.clear();
        for watched in self.targets.values_mut() {
            if matches!(watched.stage, Stage::Current | Stage::Replayed { .. }) {
                watched.stage = Stage::Ready { reset: true };
            }
        }
    }

    /// Tells everything up to `version`, at which all told targets stand, and closes it with a snapshot.
    /// Targets that were watched once are removed and returned.
    pub fn flush(
        &mut self,
        version: Version,
        results: &impl Results,
    ) -> (Vec<WatchEvent>, Vec<(i32, SharedId)>) {
        let read_time = target::read_time(version);
        let mut events = Vec::new();
        let mut ready = Vec::new();
        let mut current = Vec::new();
        for (id, watched) in &mut self.targets {
            match watched.stage {
                Stage::Ready { reset } if results.stands(watched.watch.shared) => {
                    if reset {
                        events.push(WatchEvent::Reset { targets: vec![*id] });
                    }
                    ready.push((*id, watched.watch.shared, view_of(&watched.watch)));
                }
                Stage::Replayed { certain } => {
                    let (shared, expected) =
                        (watched.watch.shared, watched.watch.expected_count.take());
                    if !certain {
                        let result = results.standing(shared);
                        current.push(existence_filter(&self.database, *id, expected, &result));
                    } else if expected.is_some() {
                        current.push(WatchEvent::Filter {
                            target: *id,
                            count: i32::try_from(results.count(shared)).unwrap_or(i32::MAX),
                            unchanged_names: None,
                        });
                    }
                }
                Stage::Filling { .. }
                | Stage::Ready { .. }
                | Stage::Replaying { .. }
                | Stage::Current => continue,
            }
            watched.stage = Stage::Current;
            current.push(WatchEvent::Current {
                targets: vec![*id],
                token: resume::target_token(self.origin, version, watched.watch.hash),
                read_time,
            });
        }
        if let ([(id, shared, _)], true) = (ready.as_slice(), self.pending.is_empty()) {
            // The common first result, told in the query's order.
            events.extend(results.documents(*shared).into_iter().map(|document| {
                WatchEvent::Changed {
                    document,
                    targets: vec![*id],
                    removed_targets: Vec::new(),
                }
            }));
        } else {
            for (id, shared, view) in ready {
                let shown = Shown {
                    as_of: version,
                    upserted: results.documents(shared),
                    removed: Vec::new(),
                };
                self.merge(id, view, &shown);
            }
            for ((path, _), pending) in std::mem::take(&mut self.pending) {
                events.extend(tell(path, pending));
            }
        }
        events.append(&mut current);
        events.push(WatchEvent::Snapshot {
            token: self.snapshot_token(version),
            read_time,
        });
        self.told = version;
        self.dirty = false;
        let ended: Vec<(i32, SharedId)> = self
            .targets
            .iter()
            .filter(|(_, watched)| watched.watch.once && matches!(watched.stage, Stage::Current))
            .map(|(id, watched)| (*id, watched.watch.shared))
            .collect();
        for (id, _) in &ended {
            self.targets.remove(id);
            events.push(WatchEvent::Removed {
                target: *id,
                cause: None,
            });
        }
        (events, ended)
    }

    /// Empty unless all targets are current.
    fn snapshot_token(&self, version: Version) -> Vec<u8> {
        if !self
            .targets
            .values()
            .all(|watched| matches!(watched.stage, Stage::Current))
        {
            return Vec::new();
        }
        let hashes = self.targets.values().map(|watched| watched.watch.hash);
        resume::snapshot_token(self.origin, version, hashes)
    }

    fn merge(&mut self, target_id: i32, view: u64, shown: &Shown) {
        for document in &shown.upserted {
            let pending = self
                .pending
                .entry((document.path.clone(), view))
                .or_default();
            pending.learn(Some(document), shown.as_of);
            pending.removed.remove(&target_id);
            pending.targets.insert(target_id);
        }
        for (path, now) in &shown.removed {
            let pending = self.pending.entry((path.clone(), view)).or_default();
            pending.learn(now.as_ref(), shown.as_of);
            pending.targets.remove(&target_id);
            pending.removed.insert(target_id);
        }
    }

    /// Drops what is pending for a target.
    fn forget(&mut self, target_id: i32) {
        self.pending.retain(|_, pending| {
            pending.targets.remove(&target_id);
            pending.removed.remove(&target_id);
            !(pending.targets.is_empty() && pending.removed.is_empty())
        });
    }
}

fn view_of(watch: &Watch) -> u64 {
    if watch.projected { watch.shared.0 } else { 0 }
}

/// One event for one document, with all targets that it concerns.
fn tell(path: DocumentPath, pending: Pending) -> Option<WatchEvent> {
    let targets: Vec<i32> = pending.targets.into_iter().collect();
    let removed_targets: Vec<i32> = pending.removed.into_iter().collect();
    if targets.is_empty() && removed_targets.is_empty() {
        return None;
    }
    Some(match pending.document {
        Some(document) => WatchEvent::Changed {
            document,
            targets,
            removed_targets,
        },
        // A document that is gone is in no target: `targets` is empty here.
        // It was gone then, and may have come back since in another target of the stream, which has told it. A client
        // that took it for gone at the time of the snapshot would throw that away.
        None => WatchEvent::Deleted {
            path,
            removed_targets,
            read_time: target::read_time(pending.as_of),
        },
    })
}

#[cfg(test)]
mod tests;
