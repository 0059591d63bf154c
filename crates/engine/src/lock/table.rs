//! Who holds what, and who waits for whom: a state machine without tasks, whose time is an argument.
//!
//! # Locks
//!
//! A lock is on what a read asks for (`Asked`) and is exclusive: one transaction holds it, others that ask for the same
//! wait. A read takes all of its locks at once or none, so that it cannot be in its own way. Against a commit a lock
//! stands for every document that could alter the answer; the commit's real changes are held against it.
//!
//! # Turns
//!
//! The older goes first (`Age`). A wait is granted once nobody else holds what it needs and no older wait needs it too.
//! The second is a courtesy: whoever the older one is itself waiting for, however indirectly, need not show it, or
//! nobody would move. A commit that was in the way of a lock waits like a read, with its changes. Its turn reserves what
//! they touch until it is judged again, also against older ones: it waits for nothing any more.
//!
//! # Deadlocks
//!
//! Whatever happens, everything that can be granted then is, and a circle of holders that wait for each other loses its
//! youngest member. Courtesies are no part of such a circle, since they end where they would close one.
//!
//! Losing the locks means `Standing::Wounded`, after which the transaction can only be begun again; or, if they were but a
//! lease, `Standing::Plain`: it goes on without locks, and its commit is checked as any other's.
//!
//! # What is not done
//!
//! Nothing here decides what is serializable: the committer checks every read of every transaction, whatever it had
//! locked. Locks only decide who waits. Locks of other servers are not seen.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use watchfire_model::Change;

use crate::lock::asked::{Asked, AskedSet};

mod ahead;

/// How long a read or a commit waits for locks of others; past it, it is refused.
pub const LOCK_WAIT_MAX: Duration = Duration::from_secs(20);
/// How long a transaction keeps locks that it was only lent; past it, whoever waits takes them away.
pub const RETRY_LEASE: Duration = Duration::from_secs(5);
/// How many reads and commits may wait at a time; past it they are refused.
pub const LOCK_WAITS_MAX: usize = 2_000;
/// How many locks all transactions may hold together; past it reads that lock are refused.
pub const LOCKS_MAX: usize = 500_000;
/// How many of them may be on something else than a document, since changes are held against each; past it such reads
/// are refused.
pub const WIDE_LOCKS_MAX: usize = 10_000;

/// Time since the database was opened.
pub type Moment = Duration;

/// Who is first: the older, which is less. No two transactions or commits have the same.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Age {
    /// The number of the first attempt.
    first: u64,
    /// Its own number.
    own: u64,
}

impl Age {
    /// Younger than all.
    pub const LAST: Self = Self {
        first: u64::MAX,
        own: u64::MAX,
    };

    /// Of a first attempt.
    pub fn new(own: u64) -> Self {
        Self { first: own, own }
    }

    /// Whether it is that of a first attempt.
    pub fn is_first_attempt(self) -> bool {
        self.first == self.own
    }

    /// Of another attempt with a number of its own.
    pub fn retry(self, own: u64) -> Self {
        Self {
            first: self.first,
            own,
        }
    }
}

/// For how long locks are given.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Tenure {
    /// Until the transaction ends.
    UntilEnd,
    /// At most for `RETRY_LEASE` from the first lock, if somebody waits for them then.
    Leased,
}

/// How a transaction stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has lost nothing.
    Whole,
    /// Its lease was taken away: it has no locks and gets none any more.
    Plain,
    /// Its locks were taken away: it must begin again.
    Wounded,
}

/// How a commit goes about locks of others.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It read nothing, so that it can wait for its turn without losing anything.
    Blind,
    /// What it has read is not locked: once those that were in its way have ended, it is likely to have lost, and hears of
    /// it at once.
    Hasty,
    /// Locks are taken from younger transactions for it.
    Entitled,
}

/// A wait; in order of age.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitId {
    age: Age,
    number: u64,
}

/// What asking for locks came to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All are held.
    Granted,
    /// `Ended` is told later.
    Waits(WaitId),
}

/// What became of a commit.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// Nothing is in its way; its own locks are given back.
    Goes,
    /// `Ended` is told later.
    Waits(WaitId),
}

/// How a wait ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All locks are held; or it is the commit's turn.
    Granted,
    /// The transaction lost its lease and gets no locks.
    Plain,
    /// The transaction lost its locks.
    Wounded,
    /// It took longer than `LOCK_WAIT_MAX`.
    TimedOut,
    /// The transaction ended.
    Gone,
}

/// Why a wait or a lock is not even begun.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `LOCK_WAITS_MAX` is reached.
    TooManyWaits,
    /// `LOCKS_MAX` or `WIDE_LOCKS_MAX` is reached.
    TooManyLocks,
    /// The transaction has lost its lease.
    Plain,
    /// The transaction has lost its locks.
    Wounded,
}

#[derive(Debug)]
struct Owner {
    tenure: Tenure,
    standing: Standing,
    /// Set with the first lock.
    lease_ends: Option<Moment>,
    locks: HashSet<Asked>,
    waits: BTreeSet<WaitId>,
}

#[derive(Debug)]
struct Wait {
    what: What,
    until: Moment,
}

#[derive(Debug)]
enum What {
    Read(AskedSet),
    Commit(Vec<Change>),
    /// A commit that waits for the end of these, and for no turn.
    Hasty(Vec<Change>, BTreeSet<Age>),
    /// A commit whose turn it is.
    Turn(Vec<Change>),
}

/// All locks and waits of one database.
#[derive(Debug, Default)]
pub struct Table {
    owners: HashMap<Age, Owner>,
    holders: HashMap<Asked, Age>,
    /// The locks that are not on documents, by the collection id that can touch them.
    wide: HashMap<Option<String>, Vec<(Asked, Age)>>,
    wide_len: usize,
    waits: BTreeMap<WaitId, Wait>,
    /// The reads that wait, by what they ask for.
    readers: HashMap<Asked, BTreeSet<WaitId>>,
    /// The waits that are commits.
    commits: BTreeSet<WaitId>,
    /// Those of them whose turn it is.
    turns: BTreeSet<WaitId>,
    next_wait: u64,
    ended: Vec<(WaitId, Ended)>,
}

impl Table {
    /// How many locks are held.
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Whether nobody holds anything, waits, or is remembered.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty() && self.holders.is_empty() && self.waits.is_empty()
    }

    /// How the transaction stands.
    pub fn standing(&self, age: Age) -> Standing {
        self.owners
            .get(&age)
            .map_or(Standing::Whole, |owner| owner.standing)
    }

    /// The waits that ended since this was asked last.
    pub fn take_ended(&mut self) -> Vec<(WaitId, Ended)> {
        std::mem::take(&mut self.ended)
    }

    /// Asks for locks. `end` has to be called for the transaction some time, whatever the answer.
    pub fn lock(
        &mut self,
        age: Age,
        tenure: Tenure,
        asked: AskedSet,
        now: Moment,
    ) -> Result<Answer, Refused> {
        let owner = self.owners.get(&age);
        match owner.map_or(Standing::Whole, |owner| owner.standing) {
            Standing::Whole => {}
            Standing::Plain => return Err(Refused::Plain),
            Standing::Wounded => return Err(Refused::Wounded),
        }
        let held = |asked: &Asked| owner.is_some_and(|owner| owner.locks.contains(asked));
        let asked: AskedSet = asked.iter().filter(|asked| !held(asked)).collect();
        if self.holders.len() + asked.len() > LOCKS_MAX
            || self.wide_len + asked.wide_len() > WIDE_LOCKS_MAX
        {
            return Err(Refused::TooManyLocks);
        }
        let alone = owner.is_none_or(|owner| owner.locks.is_empty() && owner.waits.is_empty());
        let id = self.new_id(age);
        let what = What::Read(asked);
        let answer = if self.may_go(id, &what) {
            self.owner(age, tenure);
            self.hold(age, what, now);
            Answer::Granted
        } else {
            self.begin_wait(id, tenure, what, now + LOCK_WAIT_MAX)?;
            Answer::Waits(id)
        };
        // One that holds nothing is no part of a circle, but younger waits give way to it now: through it they wait for
        // whoever it waits for, who need not give way to them any more.
        let gives_way = |younger: (&WaitId, &Wait)| *younger.0 > id;
        if !alone
            || (answer != Answer::Granted && self.waits.last_key_value().is_some_and(gives_way))
        {
            self.settle(now);
        }
        Ok(answer)
    }

    /// Judges a commit by what it is about to change; its wait, if it had one, is over. When it goes, its locks are given
    /// back: what follows sees it, and whoever is granted them waits until it is stored. When it waits, that is until
    /// `until` at most, and `end` has to be called some time.
    pub fn commit(
        &mut self,
        age: Age,
        manner: Manner,
        changes: &[Change],
        until: Moment,
        now: Moment,
    ) -> Result<Judged, Refused> {
        if self.standing(age) == Standing::Wounded {
            return Err(Refused::Wounded);
        }
        let before = self.commits.iter().find(|id| id.age == age).copied();
        let mut moved = before.is_some_and(|before| self.remove_wait(before).is_some());
        let manner = match self.standing(age) {
            Standing::Whole => manner,
            Standing::Plain | Standing::Wounded => Manner::Hasty,
        };
        let in_the_way = self.holders_touched(age, changes);
        let younger = || in_the_way.iter().all(|other| *other > age);
        if in_the_way.is_empty() || (manner == Manner::Entitled && younger()) {
            for other in in_the_way {
                self.lose(other);
                moved = true;
            }
            if self.forget(age) || moved {
                self.settle(now);
            }
            return Ok(Judged::Goes);
        }
        let id = self.new_id(age);
        let changes = changes.to_vec();
        let what = match manner {
            Manner::Blind | Manner::Entitled => What::Commit(changes),
            Manner::Hasty => What::Hasty(changes, in_the_way),
        };
        let begun = self.begin_wait(id, Tenure::UntilEnd, what, until);
        self.settle(now);
        begun.map(|()| Judged::Waits(id))
    }

    /// Forgets the transaction, its locks and its waits, which end with `Ended::Gone`.
    pub fn end(&mut self, age: Age, now: Moment) {
        if self.forget(age) {
            self.settle(now);
        }
    }

    /// Takes the transaction's locks away.
    pub fn take_away(&mut self, age: Age, now: Moment) {
        self.lose(age);
        self.settle(now);
    }

    /// Forgets a wait of which nobody wants to hear any more.
    pub fn withdraw(&mut self, id: WaitId, now: Moment) {
        if self.remove_wait(id).is_some() {
            self.forget_if_idle(id.age);
            self.settle(now);
        }
    }

    /// Ends waits that took too long and leases that are over and for which somebody waits.
    pub fn tick(&mut self, now: Moment) {
        let late = self.waits.iter().filter(|(_, wait)| wait.until <= now);
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end_wait(id, Ended::TimedOut);
        }
        let over = |age: &Age| {
            let lease_ends = self.owners.get(age).and_then(|owner| owner.lease_ends);
            lease_ends.is_some_and(|lease_ends| lease_ends <= now)
        };
        let waits = self.waits.iter();
        let wanted: BTreeSet<Age> = waits
            .flat_map(|(id, wait)| self.in_the_way(*id, &wait.what))
            .filter(over)
            .collect();
        for age in wanted {
            self.lose(age);
        }
        self.settle(now);
    }

    /// Ends all waits.
    pub fn close(&mut self) {
        for id in self.waits.keys().copied().collect::<Vec<_>>() {
            self.end_wait(id, Ended::Gone);
        }
    }

    /// Whether there was anything to forget.
    fn forget(&mut self, age: Age) -> bool {
        let Some(owner) = self.owners.get(&age) else {
            return false;
        };
        for id in owner.waits.clone() {
            self.end_wait(id, Ended::Gone);
        }
        self.release(age);
        self.owners.remove(&age);
        true
    }

    fn new_id(&mut self, age: Age) -> WaitId {
        self.next_wait += 1;
        WaitId {
            age,
            number: self.next_wait,
        }
    }

    fn owner(&mut self, age: Age, tenure: Tenure) -> &mut Owner {
        self.owners.entry(age).or_insert_with(|| Owner {
            tenure,
            standing: Standing::Whole,
            lease_ends: None,
            locks: HashSet::new(),
            waits: BTreeSet::new(),
        })
    }

    fn begin_wait(
        &mut self,
        id: WaitId,
        tenure: Tenure,
        what: What,
        until: Moment,
    ) -> Result<(), Refused> {
        if self.waits.len() >= LOCK_WAITS_MAX {
            return Err(Refused::TooManyWaits);
        }
        match &what {
            What::Read(asked) => {
                for asked in asked.iter() {
                    self.readers.entry(asked).or_default().insert(id);
                }
            }
            What::Commit(_) | What::Hasty(_, _) | What::Turn(_) => {
                self.commits.insert(id);
            }
        }
        self.owner(id.age, tenure).waits.insert(id);
        self.waits.insert(id, Wait { what, until });
        Ok(())
    }

    fn remove_wait(&mut self, id: WaitId) -> Option<What> {
        let what = self.waits.remove(&id)?.what;
        match &what {
            What::Read(asked) => {
                for asked in asked.iter() {
                    if let Some(readers) = self.readers.get_mut(&asked) {
                        readers.remove(&id);
                        if readers.is_empty() {
                            self.readers.remove(&asked);
                        }
                    }
                }
            }
            What::Commit(_) | What::Hasty(_, _) | What::Turn(_) => {
                self.commits.remove(&id);
                self.turns.remove(&id);
            }
        }
        if let Some(owner) = self.owners.get_mut(&id.age) {
            owner.waits.remove(&id);
        }
        Some(what)
    }

    fn end_wait(&mut self, id: WaitId, ended: Ended) {
        if self.remove_wait(id).is_some() {
            self.ended.push((id, ended));
            self.forget_if_idle(id.age);
        }
    }

    /// Forgets an owner of whom there is nothing to know.
    fn forget_if_idle(&mut self, age: Age) {
        let idle = self.owners.get(&age).is_some_and(|owner| {
            owner.standing == Standing::Whole && owner.locks.is_empty() && owner.waits.is_empty()
        });
        if idle {
            self.owners.remove(&age);
        }
    }

    fn hold(&mut self, age: Age, what: What, now: Moment) {
        let What::Read(asked) = what else {
            return;
        };
        for asked in asked.iter() {
            let Some(owner) = self.owners.get_mut(&age) else {
                return;
            };
            if !owner.locks.insert(asked.clone()) {
                continue;
            }
            if owner.tenure == Tenure::Leased && owner.lease_ends.is_none() {
                owner.lease_ends = Some(now + RETRY_LEASE);
            }
            if !matches!(asked, Asked::Document(_)) {
                let id = asked.collection_id().map(str::to_owned);
                let wide = self.wide.entry(id).or_default();
                wide.push((asked.clone(), age));
                self.wide_len += 1;
            }
            let before = self.holders.insert(asked, age);
            assert!(
                before.is_none_or(|holder| holder == age),
                "a lock has two holders"
            );
        }
    }

    fn release(&mut self, age: Age) {
        let Some(owner) = self.owners.get_mut(&age) else {
            return;
        };
        for asked in std::mem::take(&mut owner.locks) {
            self.holders.remove(&asked);
            if !matches!(asked, Asked::Document(_)) {
                let id = asked.collection_id().map(str::to_owned);
                if let Some(wide) = self.wide.get_mut(&id) {
                    wide.retain(|(held, _)| *held != asked);
                    if wide.is_empty() {
                        self.wide.remove(&id);
                    }
                }
                self.wide_len -= 1;
            }
        }
    }

    /// Takes the locks away. Whoever calls this settles afterwards.
    fn lose(&mut self, age: Age) {
        self.release(age);
        let Some(owner) = self.owners.get_mut(&age) else {
            return;
        };
        owner.lease_ends = None;
        let (standing, ended) = match owner.tenure {
            Tenure::UntilEnd => (Standing::Wounded, Ended::Wounded),
            Tenure::Leased => (Standing::Plain, Ended::Plain),
        };
        owner.standing = standing;
        for id in owner.waits.clone() {
            let reads = self
                .waits
                .get(&id)
                .is_some_and(|wait| matches!(wait.what, What::Read(_)));
            // A commit without its lease can still wait for its turn.
            if reads || standing == Standing::Wounded {
                self.end_wait(id, ended);
            }
        }
    }

    /// Grants what can be granted and breaks circles, until nothing moves. Each round grants a wait or takes locks
    /// away, so that it ends.
    fn settle(&mut self, now: Moment) {
        loop {
            let mut moved = false;
            for id in self.waits.keys().copied().collect::<Vec<_>>() {
                let granted = self
                    .waits
                    .get(&id)
                    .is_some_and(|wait| self.may_go(id, &wait.what));
                if granted {
                    self.grant(id, now);
                    moved = true;
                }
            }
            if moved {
                continue;
            }
            match self.circle() {
                Some(youngest) => self.lose(youngest),
                None => return,
            }
        }
    }

    fn grant(&mut self, id: WaitId, now: Moment) {
        match self.waits.get_mut(&id) {
            Some(Wait {
                what: what @ What::Commit(_),
                until,
            }) => {
                if let What::Commit(changes) = what {
                    *what = What::Turn(std::mem::take(changes));
                    *until = now + LOCK_WAIT_MAX;
                    self.turns.insert(id);
                }
            }
            Some(_) | None => {
                if let Some(what) = self.remove_wait(id) {
                    self.hold(id.age, what, now);
                }
                self.forget_if_idle(id.age);
            }
        }
        self.ended.push((id, Ended::Granted));
    }

    /// Whether nothing is in the way of the wait, and nobody before it.
    fn may_go(&self, id: WaitId, what: &What) -> bool {
        if matches!(what, What::Turn(_)) || self.is_blocked(id, what) {
            return false;
        }
        self.before(id, what)
            .all(|other| self.waits_for(other, id.age))
    }
}

#[cfg(test)]
mod tests;
