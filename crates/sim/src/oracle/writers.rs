//! Finds out whose commit each entry of the changelog is.
//!
//! An acknowledged commit names its version. Of those that nobody heard of, and of writes of a batch, which are
//! told an update time at most, the one is taken whose writes come to exactly the entry and that may stand there
//! by real time; where several may, they are matched so that as many entries as can be have a commit, and every
//! commit one entry at most.

use std::collections::{BTreeMap, HashMap};

use watchfire_engine::{CommitEntry, Version};
use watchfire_model::compare::identical_fields;
use watchfire_model::{DocumentPath, Operation as WriteOperation, Write};

use crate::history::{History, OperationKind, Outcome, Receipt};
use crate::oracle::effect::effect;
use crate::oracle::moments::Moments;
use crate::oracle::same::same_changes;
use crate::oracle::timeline::{Timeline, time_of, version_of};

/// Commits that are tried for one entry; those after it are not. Far more than one run makes at one document.
const CANDIDATES_PER_ENTRY_MAX: usize = 2_000;

/// What became of an acknowledged commit.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is this entry.
    Entry(usize),
    /// It changed nothing, and had nothing to change.
    Nothing,
    /// It is nowhere.
    Lost,
}

/// Whose commit is what.
#[derive(Debug, Default)]
pub struct Writers {
    /// For each entry the operation, if there is one.
    pub of_entry: Vec<Option<usize>>,
    /// Every acknowledged commit, and every other one that has an entry.
    pub fates: BTreeMap<usize, Fate>,
}

impl Writers {
    /// Finds them.
    pub fn find(history: &History, timeline: &Timeline<'_>, moments: &Moments) -> Self {
        let mut search = Search {
            history,
            timeline,
            moments,
            found: Writers {
                of_entry: vec![None; history.stored.entries.len()],
                fates: BTreeMap::new(),
            },
        };
        let mut open = Vec::new();
        let mut unknown = Vec::new();
        for (number, operation) in history.operations.iter().enumerate() {
            let OperationKind::Commit {
                writes, outcome, ..
            } = &operation.kind
            else {
                continue;
            };
            match outcome {
                Outcome::Acknowledged(receipt) => match receipt.version {
                    Some(version) => search.named(number, writes, version),
                    None => {
                        if !search.hinted(number, writes, receipt) {
                            open.push(number);
                        }
                    }
                },
                Outcome::Unknown(_) => unknown.push(number),
                Outcome::Refused(_) => {}
            }
        }
        search.match_rest(&open, &unknown);
        search.found
    }

    /// The entry that the operation is.
    pub fn entry_of(&self, operation: usize) -> Option<usize> {
        match self.fates.get(&operation) {
            Some(Fate::Entry(entry)) => Some(*entry),
            Some(Fate::Nothing | Fate::Lost) | None => None,
        }
    }
}

/// Whether these writes on the state before the entry are the entry.
pub fn is_entry(timeline: &Timeline<'_>, writes: &[Write], entry: &CommitEntry) -> bool {
    let named = |path: &DocumentPath| writes.iter().any(|write| write.path == *path);
    if !entry.changes.iter().all(|change| named(&change.path))
        || !writes.iter().all(|write| could_leave(write, writes, entry))
    {
        return false;
    }
    let before = Timeline::before(entry.version);
    effect(
        writes,
        |path| timeline.document(path, before),
        time_of(entry.version),
    )
    .is_ok_and(|effect| same_changes(&effect.changes, &entry.changes))
}

/// A quick look at whether the write could have left its document as the entry has it.
fn could_leave(write: &Write, writes: &[Write], entry: &CommitEntry) -> bool {
    let Some(change) = entry
        .changes
        .iter()
        .find(|change| change.path == write.path)
    else {
        // It may have changed nothing.
        return true;
    };
    let alone = writes
        .iter()
        .filter(|other| other.path == write.path)
        .count()
        == 1;
    match (&write.operation, &change.after) {
        (WriteOperation::Set(fields), Some(after)) => {
            !alone || !write.transforms.is_empty() || identical_fields(fields, &after.fields)
        }
        (WriteOperation::Patch { fields, mask }, Some(after)) => {
            !alone
                || !write.transforms.is_empty()
                || mask.paths().iter().all(|path| {
                    match (path.get(fields), path.get(&after.fields)) {
                        (None, None) => true,
                        (Some(a), Some(b)) => a.identical(b),
                        (None, Some(_)) | (Some(_), None) => false,
                    }
                })
        }
        (WriteOperation::Delete, Some(_)) => !alone,
        (WriteOperation::Set(_) | WriteOperation::Patch { .. }, None) => !alone,
        (WriteOperation::Verify, _) => !alone,
        (WriteOperation::Delete, None) => true,
    }
}

struct Search<'a> {
    history: &'a History,
    timeline: &'a Timeline<'a>,
    moments: &'a Moments,
    found: Writers,
}

impl<'a> Search<'a> {
    /// A commit that was told its version.
    fn named(&mut self, operation: usize, writes: &[Write], version: Version) {
        // What was complete before it began is another's: a write that is sent again has nothing to change, and is
        // told the head.
        let entry = self.timeline.entry_at(version);
        if let Some(entry) = entry
            && version > self.complete_before(operation)
            && self.has_read_before(operation, version)
            && self.claim(operation, writes, entry)
        {
            return;
        }
        let fate = if self.changes_nothing(writes, version) {
            Fate::Nothing
        } else {
            Fate::Lost
        };
        self.found.fates.insert(operation, fate);
    }

    /// A write that was told its update time; false if that does not settle it.
    fn hinted(&mut self, operation: usize, writes: &[Write], receipt: &Receipt) -> bool {
        let after = self.complete_before(operation);
        receipt.outcomes.iter().any(|outcome| {
            let version = outcome.update_time.map(version_of);
            version
                .filter(|version| *version > after)
                .and_then(|version| self.timeline.entry_at(version))
                .is_some_and(|entry| self.claim(operation, writes, entry))
        })
    }

    fn claim(&mut self, operation: usize, writes: &[Write], entry: usize) -> bool {
        let (Some(stored), Some(slot)) = (
            self.history.stored.entries.get(entry),
            self.found.of_entry.get_mut(entry),
        ) else {
            return false;
        };
        if slot.is_some() || !is_entry(self.timeline, writes, stored) {
            return false;
        }
        *slot = Some(operation);
        self.found.fates.insert(operation, Fate::Entry(entry));
        true
    }

    fn complete_before(&self, operation: usize) -> Version {
        let started = self.history.operations.get(operation);
        started.map_or(Version::default(), |operation| {
            self.moments.complete_before(operation.started.step).0
        })
    }

    fn has_read_before(&self, operation: usize, version: Version) -> bool {
        match self
            .history
            .operations
            .get(operation)
            .map(|asked| &asked.kind)
        {
            Some(OperationKind::Commit {
                transaction: Some(transaction),
                ..
            }) => {
                let mut reads = transaction.reads.iter();
                reads.all(|(_, answer)| answer.read_time < version)
            }
            Some(
                OperationKind::Begin { .. }
                | OperationKind::Read { .. }
                | OperationKind::Commit { .. }
                | OperationKind::Rollback { .. }
                | OperationKind::Alter { .. },
            )
            | None => true,
        }
    }

    fn changes_nothing(&self, writes: &[Write], version: Version) -> bool {
        effect(
            writes,
            |path| self.timeline.document(path, version),
            time_of(version),
        )
        .is_ok_and(|effect| effect.changes.is_empty())
    }

    /// `open` were acknowledged and must be somewhere, `unknown` may be.
    fn match_rest(&mut self, open: &[usize], unknown: &[usize]) {
        let mut by_path: HashMap<&'a DocumentPath, Vec<usize>> = HashMap::new();
        for &operation in open.iter().chain(unknown) {
            for write in writes_of(self.history, operation) {
                let there = by_path.entry(&write.path).or_default();
                if there.last() != Some(&operation) {
                    there.push(operation);
                }
            }
        }
        let mut candidates: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut reverse: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (entry, stored) in self.history.stored.entries.iter().enumerate() {
            if self.found.of_entry.get(entry).is_none_or(Option::is_some) {
                continue;
            }
            let first = stored.changes.first();
            let Some(there) = first.and_then(|change| by_path.get(&change.path)) else {
                continue;
            };
            for &operation in there.iter().take(CANDIDATES_PER_ENTRY_MAX) {
                if self.may_stand_at(operation, stored.version)
                    && is_entry(self.timeline, writes_of(self.history, operation), stored)
                {
                    candidates.entry(entry).or_default().push(operation);
                    reverse.entry(operation).or_default().push(entry);
                }
            }
        }
        // First those who must have an entry, then the entries that must have somebody. An augmenting path leaves
        // nobody without who had one.
        let mut matched = Matching::default();
        for &operation in open {
            matched.seat(operation, &reverse);
        }
        let mut by_entry = Matching {
            taken: matched
                .taken
                .iter()
                .map(|(entry, operation)| (*operation, *entry))
                .collect(),
        };
        for &entry in candidates.keys() {
            if !by_entry.taken.values().any(|taken| *taken == entry) {
                by_entry.seat(entry, &candidates);
            }
        }
        for (operation, entry) in by_entry.taken {
            if let Some(slot) = self.found.of_entry.get_mut(entry) {
                *slot = Some(operation);
            }
            self.found.fates.insert(operation, Fate::Entry(entry));
        }
        for &operation in open {
            if !self.found.fates.contains_key(&operation) {
                let fate = if self.could_change_nothing(operation) {
                    Fate::Nothing
                } else {
                    Fate::Lost
                };
                self.found.fates.insert(operation, fate);
            }
        }
    }

    fn may_stand_at(&self, operation: usize, version: Version) -> bool {
        if version <= self.complete_before(operation) {
            return false;
        }
        let Some(asked) = self.history.operations.get(operation) else {
            return false;
        };
        match &asked.kind {
            OperationKind::Commit {
                outcome: Outcome::Acknowledged(_),
                ..
            } => version <= self.moments.seen_after(asked.ended.step),
            OperationKind::Begin { .. }
            | OperationKind::Read { .. }
            | OperationKind::Commit { .. }
            | OperationKind::Rollback { .. }
            | OperationKind::Alter { .. } => true,
        }
    }

    /// Whether there was a moment while the commit was under way at which it had nothing to change.
    fn could_change_nothing(&self, operation: usize) -> bool {
        let Some(asked) = self.history.operations.get(operation) else {
            return false;
        };
        let writes = writes_of(self.history, operation);
        let from = self.complete_before(operation);
        let to = self.moments.seen_after(asked.ended.step);
        states_between(self.timeline, writes, from, to)
            .any(|version| self.changes_nothing(writes, version))
    }
}

/// The versions, from one to the other, at which what the writes name had different states.
pub fn states_between<'a>(
    timeline: &'a Timeline<'_>,
    writes: &'a [Write],
    from: Version,
    to: Version,
) -> impl Iterator<Item = Version> + 'a {
    let changed = writes
        .iter()
        .filter_map(|write| timeline.chain(&write.path))
        .flat_map(|chain| &chain.states)
        .map(|(version, _)| *version)
        .filter(move |version| *version > from && *version <= to);
    std::iter::once(from).chain(changed)
}

/// The writes of a commit; none for anything else.
pub fn writes_of(history: &History, operation: usize) -> &[Write] {
    match history.operations.get(operation).map(|asked| &asked.kind) {
        Some(OperationKind::Commit { writes, .. }) => writes,
        Some(
            OperationKind::Begin { .. }
            | OperationKind::Read { .. }
            | OperationKind::Rollback { .. }
            | OperationKind::Alter { .. },
        )
        | None => &[],
    }
}

/// Seats for guests, each guest on one of the seats that fit.
#[derive(Default)]
struct Matching {
    /// Who sits where: guest by seat.
    taken: BTreeMap<usize, usize>,
}

impl Matching {
    /// Finds a seat for the guest, asking others to move; false if there is none.
    fn seat(&mut self, guest: usize, fits: &BTreeMap<usize, Vec<usize>>) -> bool {
        // Breadth first, without recursion: from each seat to the guest who sits there.
        let mut came_from: BTreeMap<usize, usize> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([guest]);
        while let Some(asking) = queue.pop_front() {
            for &seat in fits.get(&asking).into_iter().flatten() {
                if came_from.contains_key(&seat) {
                    continue;
                }
                came_from.insert(seat, asking);
                match self.taken.get(&seat) {
                    Some(&sitting) => queue.push_back(sitting),
                    None => {
                        self.move_all(seat, guest, &came_from);
                        return true;
                    }
                }
            }
        }
        false
    }

    fn move_all(&mut self, free: usize, guest: usize, came_from: &BTreeMap<usize, usize>) {
        let mut seat = free;
        while let Some(&moving) = came_from.get(&seat) {
            let left = self
                .taken
                .iter()
                .find(|(_, sitting)| **sitting == moving)
                .map(|(seat, _)| *seat);
            self.taken.insert(seat, moving);
            if moving == guest {
                return;
            }
            let Some(left) = left else { return };
            seat = left;
        }
    }
}
