//! Who is ahead of whom: by what is held, which has to end first, and by age, which is a courtesy. Looks only.

use std::collections::{BTreeSet, HashSet};

use watchfire_model::Change;

use super::{Age, Table, Wait, WaitId, What};
use crate::lock::asked::Asked;

impl Table {
    /// Who has to end before the wait can.
    pub(super) fn in_the_way(&self, id: WaitId, what: &What) -> BTreeSet<Age> {
        self.blocking(id, what).collect()
    }

    /// Whether somebody has to end before the wait can.
    pub(super) fn is_blocked(&self, id: WaitId, what: &What) -> bool {
        self.blocking(id, what).next().is_some()
    }

    /// As `in_the_way`, found one by one, some more than once: mostly the first is all that is asked for, and there may
    /// be as many waits as there are others in each one's way.
    fn blocking<'a>(
        &'a self,
        id: WaitId,
        what: &'a What,
    ) -> Box<dyn Iterator<Item = Age> + Send + 'a> {
        match what {
            What::Read(asked) => {
                let holders = asked
                    .iter()
                    .filter_map(|asked| self.holders.get(&asked).copied());
                let turns = self.turns.iter().filter(|commit| {
                    matches!(
                        self.waits.get(commit),
                        Some(Wait { what: What::Turn(changes), .. }) if asked.touched_by(changes)
                    )
                });
                let all = holders.chain(turns.map(|commit| commit.age));
                Box::new(all.filter(move |age| *age != id.age))
            }
            What::Commit(changes) => Box::new(self.holders_touched(id.age, changes).into_iter()),
            What::Hasty(changes, first) => {
                let now = self.holders_touched(id.age, changes).into_iter();
                Box::new(now.filter(|age| first.contains(age)))
            }
            What::Turn(_) => Box::new(std::iter::empty()),
        }
    }

    /// Who holds a lock that the changes touch, other than `age`.
    pub(super) fn holders_touched(&self, age: Age, changes: &[Change]) -> BTreeSet<Age> {
        let mut found = BTreeSet::new();
        if self.holders.is_empty() {
            return found;
        }
        for change in changes {
            let asked = Asked::Document(change.path.clone());
            found.extend(self.holders.get(&asked).copied());
            if self.wide.is_empty() {
                continue;
            }
            let id = change.path.collection_id().to_owned();
            let wide = [Some(id), None]
                .into_iter()
                .filter_map(|id| self.wide.get(&id));
            let touched = wide
                .flatten()
                .filter(|(asked, _)| asked.touched_by(change))
                .map(|(_, holder)| *holder);
            found.extend(touched);
        }
        found.remove(&age);
        found
    }

    /// Who waits for the same and is older, one by one, some more than once.
    pub(super) fn before<'a>(
        &'a self,
        id: WaitId,
        what: &'a What,
    ) -> Box<dyn Iterator<Item = Age> + Send + 'a> {
        let others: Box<dyn Iterator<Item = Age> + Send + 'a> = match what {
            What::Read(asked) => {
                let readers = asked.iter().filter_map(|asked| self.readers.get(&asked));
                let readers = readers.flat_map(move |ids| ids.range(..id));
                let commits = self.commits.range(..id).filter(|commit| {
                    matches!(
                        self.waits.get(commit),
                        Some(Wait { what: What::Commit(changes), .. }) if asked.touched_by(changes)
                    )
                });
                Box::new(readers.chain(commits).map(|other| other.age))
            }
            What::Commit(changes) => {
                let older = self.waits.range(..id).filter(|(_, wait)| {
                    matches!(&wait.what, What::Read(asked) if asked.touched_by(changes))
                });
                Box::new(older.map(|(other, _)| other.age))
            }
            What::Hasty(_, _) | What::Turn(_) => Box::new(std::iter::empty()),
        };
        Box::new(others.filter(move |age| *age != id.age))
    }

    /// Whether `age` waits for `other`, directly or through others, by locks or by courtesy.
    pub(super) fn waits_for(&self, age: Age, other: Age) -> bool {
        let mut seen = HashSet::from([age]);
        let mut left = vec![age];
        while let Some(age) = left.pop() {
            if age == other {
                return true;
            }
            for id in self
                .owners
                .get(&age)
                .into_iter()
                .flat_map(|owner| &owner.waits)
            {
                let Some(wait) = self.waits.get(id) else {
                    continue;
                };
                let next = self.in_the_way(*id, &wait.what);
                for age in next.into_iter().chain(self.before(*id, &wait.what)) {
                    if seen.insert(age) {
                        left.push(age);
                    }
                }
            }
        }
        false
    }

    /// The youngest member of some circle of holders that wait for each other.
    pub(super) fn circle(&self) -> Option<Age> {
        let mut done = HashSet::new();
        let mut starts: Vec<Age> = self
            .owners
            .iter()
            .filter(|(_, owner)| !owner.locks.is_empty() && !owner.waits.is_empty())
            .map(|(age, _)| *age)
            .collect();
        starts.sort_unstable();
        for start in starts {
            if done.contains(&start) {
                continue;
            }
            // The way from the start to here, with the branches not taken yet.
            let mut way: Vec<(Age, Vec<Age>)> = vec![(start, self.blockers(start))];
            while let Some((age, rest)) = way.last_mut() {
                let Some(next) = rest.pop() else {
                    done.insert(*age);
                    way.pop();
                    continue;
                };
                if let Some(at) = way.iter().position(|(age, _)| *age == next) {
                    return way.iter().skip(at).map(|(age, _)| *age).max();
                }
                if !done.contains(&next) {
                    way.push((next, self.blockers(next)));
                }
            }
        }
        None
    }

    /// Who has to end before any of the transaction's waits can.
    fn blockers(&self, age: Age) -> Vec<Age> {
        let waits = self
            .owners
            .get(&age)
            .into_iter()
            .flat_map(|owner| &owner.waits);
        let blockers: BTreeSet<Age> = waits
            .filter_map(|id| Some((id, self.waits.get(id)?)))
            .flat_map(|(id, wait)| self.in_the_way(*id, &wait.what))
            .collect();
        blockers.into_iter().collect()
    }
}
