//! The shared targets of one database: who watches, what the result is, and how it becomes current.
//!
//! # The life of a shared target
//!
//! It is *filling* from the moment it is watched (`watch`) or its window broke (`apply`) until a result
//! that was read at version V has come (`arrive`) and the dispatcher has reached V (`install`); then it
//! *stands*. Changes that come while it fills are kept with their versions: those up to V are in the
//! result already, those after V are applied to it. So nothing is missed and nothing is seen twice.
//!
//! Invariant: the result of a target that stands is the query's result at the dispatcher's version.
//!
//! # What is not done
//!
//! No IO: the dispatcher reads and tells. No knowledge of what a session says.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use watchfire_engine::{CommitEntry, Version};
use watchfire_model::window::Outcome;
use watchfire_model::{Change, Document, DocumentPath};

use crate::job::Job;
use crate::matcher::Matcher;
use crate::result::{Filled, ResultSet, Results, Shown, Standing};
use crate::target::{Interest, SessionId, SharedId};

/// Changes kept for one target while it fills; past it the result is read anew and sent whole.
pub const HELD_CHANGES_MAX: usize = 50_000;

/// A change and the version at which it came.
pub type Dated = (Version, Change);

#[derive(Debug)]
struct Filling {
    /// Which reading is awaited; answers of earlier ones are ignored.
    generation: u64,
    attempts: u32,
    /// `held` has every change that concerns the target after this version.
    since: Version,
    held: Vec<Dated>,
    /// The documents of `held`. A document that has left is followed on, so that it is told as it is.
    followed: HashSet<DocumentPath>,
    arrived: Option<Filled>,
    /// What reads the result; ends with the filling.
    job: Option<Job>,
}

#[derive(Debug)]
struct Shared {
    identity: Vec<u8>,
    interest: Interest,
    watchers: BTreeSet<(SessionId, i32)>,
    /// The last result that was told; `None` until the first.
    result: Option<ResultSet>,
    /// `None` when the target stands.
    filling: Option<Filling>,
}

/// What to read, and which answer is awaited.
#[derive(Clone, Debug)]
pub struct Reading {
    pub shared: SharedId,
    pub generation: u64,
    /// How often a result of this filling has broken before it stood.
    pub attempts: u32,
    pub interest: Interest,
}

/// What changes came to.
#[derive(Debug)]
pub enum Absorbed {
    /// The result moved on.
    Moved(Shown),
    /// Kept until the result has come.
    Held,
    /// The result must be read again; it no longer stands.
    Broken(Reading),
    /// Too much came while it was read: read anew, and watchers must be told everything.
    Lost(Reading),
}

/// What the installation of a result came to.
#[derive(Debug)]
pub struct Installed {
    /// The first result: watchers have been told nothing yet.
    pub first: bool,
    /// To tell, in order; for those who were told before.
    pub shown: Vec<Shown>,
    /// It broke at once and must be read again.
    pub again: Option<Reading>,
}

/// All shared targets. Bounded by the sessions' targets.
#[derive(Debug, Default)]
pub struct Registry {
    last_id: u64,
    last_generation: u64,
    by_identity: HashMap<Vec<u8>, SharedId>,
    targets: HashMap<SharedId, Shared>,
    matcher: Matcher,
    /// Who follows a document while it fills: the inverse of all `Filling::followed`.
    followed: HashMap<DocumentPath, BTreeSet<SharedId>>,
    /// Those whose result has arrived and is not installed.
    arrived: BTreeSet<SharedId>,
}

impl Registry {
    /// Adds a watcher; a target that nobody watched comes with what to read.
    /// `version` is the version up to which the dispatcher has processed entries.
    pub fn watch(
        &mut self,
        identity: Vec<u8>,
        interest: Interest,
        watcher: (SessionId, i32),
        version: Version,
    ) -> (SharedId, Option<Reading>) {
        if let Some(&id) = self.by_identity.get(&identity) {
            if let Some(shared) = self.targets.get_mut(&id) {
                shared.watchers.insert(watcher);
            }
            return (id, None);
        }
        self.last_id += 1;
        let id = SharedId(self.last_id);
        self.matcher.insert(&interest, id);
        self.by_identity.insert(identity.clone(), id);
        self.targets.insert(
            id,
            Shared {
                identity,
                interest,
                watchers: [watcher].into(),
                result: None,
                filling: None,
            },
        );
        (id, self.fill(id, version, 0, Vec::new()))
    }

    /// Adds a watcher to a target that is watched.
    pub fn join(&mut self, id: SharedId, watcher: (SessionId, i32)) {
        if let Some(shared) = self.targets.get_mut(&id) {
            shared.watchers.insert(watcher);
        }
    }

    /// Removes a watcher, and the target with its last one.
    pub fn unwatch(&mut self, id: SharedId, watcher: (SessionId, i32)) {
        let Some(shared) = self.targets.get_mut(&id) else {
            return;
        };
        shared.watchers.remove(&watcher);
        if shared.watchers.is_empty() {
            self.remove(id);
        }
    }

    /// Removes a target and says who watched it.
    pub fn remove(&mut self, id: SharedId) -> BTreeSet<(SessionId, i32)> {
        let Some(shared) = self.targets.remove(&id) else {
            return BTreeSet::new();
        };
        self.matcher.remove(&shared.interest, id);
        self.by_identity.remove(&shared.identity);
        self.arrived.remove(&id);
        for path in shared.filling.iter().flat_map(|filling| &filling.followed) {
            unfollow(&mut self.followed, id, path);
        }
        shared.watchers
    }

    /// The targets that somebody watches.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    pub fn watchers(&self, id: SharedId) -> Vec<(SessionId, i32)> {
        self.targets
            .get(&id)
            .map_or_else(Vec::new, |shared| shared.watchers.iter().copied().collect())
    }

    pub fn interest(&self, id: SharedId) -> Option<&Interest> {
        self.targets.get(&id).map(|shared| &shared.interest)
    }

    /// Sorts the changes of an entry by the targets that they concern, in order. A document that has concerned a target
    /// while it fills is followed until it stands, so that it is told as it is.
    pub fn route(&self, entry: &CommitEntry) -> BTreeMap<SharedId, Vec<Dated>> {
        let mut routed: BTreeMap<SharedId, Vec<Dated>> = BTreeMap::new();
        let mut candidates = Vec::new();
        for change in &entry.changes {
            candidates.clear();
            self.matcher.candidates(change, &mut candidates);
            candidates.retain(|id| {
                self.targets
                    .get(id)
                    .is_some_and(|shared| shared.interest.concerns(change))
            });
            // The matcher knows nothing of what a target was told before.
            candidates.extend(self.followed.get(&change.path).into_iter().flatten());
            candidates.sort_unstable();
            candidates.dedup();
            for id in &candidates {
                let dated = (entry.version, change.clone());
                routed.entry(*id).or_default().push(dated);
            }
        }
        routed
    }

    /// Gives a target the changes of one entry that concern it; `version` is the entry's.
    pub fn apply(&mut self, id: SharedId, changes: Vec<Dated>, version: Version) -> Absorbed {
        let Some(shared) = self.targets.get_mut(&id) else {
            return Absorbed::Held;
        };
        if let Some(filling) = &mut shared.filling {
            for (_, change) in &changes {
                follow(&mut self.followed, id, &change.path);
                filling.followed.insert(change.path.clone());
            }
            filling.held.extend(changes);
            if filling.held.len() <= HELD_CHANGES_MAX {
                return Absorbed::Held;
            }
            shared.result = None;
            return match self.fill(id, version, 0, Vec::new()) {
                Some(reading) => Absorbed::Lost(reading),
                None => Absorbed::Held,
            };
        }
        let Some(result) = &mut shared.result else {
            return Absorbed::Held;
        };
        match result.apply(&bare(&changes)) {
            Outcome::Delta(delta) => Absorbed::Moved(Shown::new(&shared.interest, delta, version)),
            Outcome::Refill => match self.fill(id, version, 0, changes) {
                Some(reading) => Absorbed::Broken(reading),
                None => Absorbed::Held,
            },
        }
    }

    /// Takes a result that was read. One that is older than what is known is answered with what to read.
    pub fn arrive(&mut self, id: SharedId, generation: u64, filled: Filled) -> Option<Reading> {
        let shared = self.targets.get_mut(&id)?;
        let filling = shared
            .filling
            .as_mut()
            .filter(|filling| filling.generation == generation)?;
        if filled.version < filling.since {
            let (since, attempts) = (filling.since, filling.attempts + 1);
            let held = std::mem::take(&mut filling.held);
            return self.fill(id, since, attempts, held);
        }
        filling.arrived = Some(filled);
        self.arrived.insert(id);
        None
    }

    /// Starts counting attempts anew for a result that is still awaited; answered with what to read.
    pub fn postpone(&mut self, id: SharedId, generation: u64) -> Option<Reading> {
        let filling = self
            .targets
            .get_mut(&id)?
            .filling
            .as_mut()
            .filter(|filling| filling.generation == generation)?;
        let (since, held) = (filling.since, std::mem::take(&mut filling.held));
        self.fill(id, since, 0, held)
    }

    /// Names the job that brings the answer with this generation. It ends when the answer is not awaited.
    pub fn read_by(&mut self, id: SharedId, generation: u64, job: Job) {
        if let Some(filling) = self
            .targets
            .get_mut(&id)
            .and_then(|shared| shared.filling.as_mut())
            .filter(|filling| filling.generation == generation)
        {
            filling.job = Some(job);
        }
    }

    /// Whether an answer with this generation is still awaited.
    pub fn awaits(&self, id: SharedId, generation: u64) -> bool {
        self.targets
            .get(&id)
            .and_then(|shared| shared.filling.as_ref())
            .is_some_and(|filling| filling.generation == generation)
    }

    /// The lowest version after `version` at which a result has arrived: the dispatcher stops there once,
    /// so that the result is installed with nothing to apply to it.
    pub fn stop(&self, version: Version) -> Option<Version> {
        self.arrived
            .iter()
            .filter_map(|id| self.arrived_version(*id))
            .filter(|at| *at > version)
            .min()
    }

    /// The targets whose result can be installed at `version`.
    pub fn due(&self, version: Version) -> Vec<SharedId> {
        self.arrived
            .iter()
            .copied()
            .filter(|id| self.arrived_version(*id).is_some_and(|at| at <= version))
            .collect()
    }

    fn arrived_version(&self, id: SharedId) -> Option<Version> {
        Some(
            self.targets
                .get(&id)?
                .filling
                .as_ref()?
                .arrived
                .as_ref()?
                .version,
        )
    }

    /// Installs the result that has arrived and brings it to `version`.
    pub fn install(&mut self, id: SharedId, version: Version) -> Option<Installed> {
        self.arrived.remove(&id);
        let shared = self.targets.get_mut(&id)?;
        let filling = shared.filling.take()?;
        let Some(filled) = filling.arrived else {
            shared.filling = Some(filling);
            return None;
        };
        for path in &filling.followed {
            unfollow(&mut self.followed, id, path);
        }
        let (contained, later): (Vec<Dated>, Vec<Dated>) = filling
            .held
            .into_iter()
            .partition(|(at, _)| *at <= filled.version);
        let mut installed = Installed {
            first: shared.result.is_none(),
            shown: Vec::new(),
            again: None,
        };
        let interest = shared.interest.clone();
        let result = match &mut shared.result {
            Some(result) => {
                let delta = result.replace(filled.documents, &bare(&contained));
                installed
                    .shown
                    .push(Shown::new(&interest, delta, filled.version));
                result
            }
            empty @ None => empty.insert(ResultSet::new(&interest, filled.documents)),
        };
        if later.is_empty() {
            return Some(installed);
        }
        match result.apply(&bare(&later)) {
            Outcome::Delta(delta) => installed.shown.push(Shown::new(&interest, delta, version)),
            Outcome::Refill => {
                if installed.first {
                    // Nothing was told: start as if nothing had been read.
                    shared.result = None;
                }
                installed.again = self.fill(id, version, filling.attempts + 1, later);
            }
        }
        Some(installed)
    }

    /// Forgets every result: the changelog has a gap. Everything is read anew.
    pub fn restart(&mut self, version: Version) -> Vec<Reading> {
        let mut ids: Vec<SharedId> = self.targets.keys().copied().collect();
        ids.sort_unstable();
        ids.into_iter()
            .filter_map(|id| {
                self.targets.get_mut(&id)?.result = None;
                self.fill(id, version, 0, Vec::new())
            })
            .collect()
    }

    /// `held` are changes up to `version` that the last result lacks.
    fn fill(
        &mut self,
        id: SharedId,
        version: Version,
        attempts: u32,
        held: Vec<Dated>,
    ) -> Option<Reading> {
        self.last_generation += 1;
        self.arrived.remove(&id);
        let generation = self.last_generation;
        let shared = self.targets.get_mut(&id)?;
        for path in shared.filling.iter().flat_map(|filling| &filling.followed) {
            unfollow(&mut self.followed, id, path);
        }
        let followed: HashSet<DocumentPath> =
            held.iter().map(|(_, change)| change.path.clone()).collect();
        for path in &followed {
            follow(&mut self.followed, id, path);
        }
        shared.filling = Some(Filling {
            generation,
            attempts,
            since: version,
            held,
            followed,
            arrived: None,
            job: None,
        });
        Some(Reading {
            shared: id,
            generation,
            attempts,
            interest: shared.interest.clone(),
        })
    }
}

impl Results for Registry {
    fn stands(&self, target: SharedId) -> bool {
        self.targets
            .get(&target)
            .is_some_and(|shared| shared.filling.is_none() && shared.result.is_some())
    }

    fn documents(&self, target: SharedId) -> Vec<Arc<Document>> {
        let Some(shared) = self
            .targets
            .get(&target)
            .filter(|shared| shared.filling.is_none())
        else {
            return Vec::new();
        };
        let Some(result) = &shared.result else {
            return Vec::new();
        };
        let documents = result.documents();
        if shared.interest.projected() {
            return documents
                .iter()
                .map(|document| shared.interest.show(document))
                .collect();
        }
        documents
    }

    fn count(&self, target: SharedId) -> usize {
        self.targets
            .get(&target)
            .and_then(|shared| shared.result.as_ref())
            .map_or(0, ResultSet::len)
    }

    fn standing(&self, target: SharedId) -> Arc<Standing> {
        self.targets
            .get(&target)
            .filter(|shared| shared.filling.is_none())
            .and_then(|shared| shared.result.as_ref())
            .map(ResultSet::standing)
            .unwrap_or_default()
    }
}

fn follow(
    followed: &mut HashMap<DocumentPath, BTreeSet<SharedId>>,
    id: SharedId,
    path: &DocumentPath,
) {
    followed.entry(path.clone()).or_default().insert(id);
}

fn unfollow(
    followed: &mut HashMap<DocumentPath, BTreeSet<SharedId>>,
    id: SharedId,
    path: &DocumentPath,
) {
    if let Some(ids) = followed.get_mut(path) {
        ids.remove(&id);
        if ids.is_empty() {
            followed.remove(path);
        }
    }
}

fn bare(changes: &[Dated]) -> Vec<Change> {
    changes.iter().map(|(_, change)| change.clone()).collect()
}

#[cfg(test)]
mod tests;
