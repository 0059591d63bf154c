//! The locks of one database: the table with its waiters, who are tasks, and the groups that have not landed.
//!
//! Only transactions that were begun to lock, and retries of transactions that were aborted, hold locks. As long as
//! nobody does, a commit costs one look at a number. The committer never waits: a commit that locks of others stand in
//! the way of goes back to its caller, who waits here (`Claim::turn`) and hands it in again.
//!
//! Whoever stops waiting leaves nothing behind. Time limits are kept by those who wait: each looks once in
//! `LOOK_INTERVAL` for leases and transactions that are over.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use watchfire_model::Change;

use crate::error::Error;
use crate::lock::asked::AskedSet;
use crate::lock::landing::Landings;
use crate::lock::table::{
    Age, Answer, Ended, Judged, LOCK_WAIT_MAX, LOCK_WAITS_MAX, LOCKS_MAX, Manner, Moment, Refused,
    Standing, Table, Tenure, WIDE_LOCKS_MAX, WaitId,
};

pub mod asked;
pub mod landing;
pub mod table;

/// How often somebody who waits looks for leases and transactions that are over.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Looks that follow each other faster find nothing new and are left out.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// The locks of one open database.
#[derive(Debug)]
pub struct Locks {
    state: Mutex<State>,
    /// How many locks are held.
    held: AtomicUsize,
    numbers: AtomicU64,
    landings: Arc<Landings>,
    opened: Instant,
}

#[derive(Debug, Default)]
struct State {
    table: Table,
    waiters: HashMap<WaitId, oneshot::Sender<Ended>>,
    looked: Moment,
}

/// What a transaction has of the locks that it asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Locked {
    /// All of them.
    Held,
    /// None: its lease is over, and it goes on without.
    Plain,
}

/// What asking for locks came to.
pub enum Begun {
    /// It is decided.
    Now(Locked),
    /// It will be.
    Waits(Waiting),
}

/// A place in the queue, given up when this is dropped.
#[derive(Debug)]
pub struct Waiting {
    locks: Arc<Locks>,
    id: WaitId,
    ended: oneshot::Receiver<Ended>,
    until: Moment,
    over: bool,
}

/// A commit, as far as locks are concerned. When it is dropped the transaction's locks are given back.
#[derive(Debug)]
pub struct Claim {
    locks: Arc<Locks>,
    age: Age,
    manner: Manner,
    /// Whether the table knows of it.
    known: bool,
    /// Nothing stood in its way, and the group that it was added to has not been given up since.
    admitted: bool,
    /// Until when it may wait, once it has begun to.
    until: Option<Moment>,
    waiting: Option<Waiting>,
}

impl Locks {
    /// No locks yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            held: AtomicUsize::new(0),
            numbers: AtomicU64::new(1),
            landings: Arc::default(),
            opened: Instant::now(),
        })
    }

    /// A number that was not given before, for a transaction or a commit.
    pub fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The groups that have not landed.
    pub fn landings(&self) -> &Arc<Landings> {
        &self.landings
    }

    /// Asks for locks. Fails with `Contention` for a transaction that has lost its locks, and with `ResourceExhausted`
    /// when there are too many locks or waits. `end` has to be called for the transaction some time.
    pub fn lock(
        self: &Arc<Self>,
        age: Age,
        tenure: Tenure,
        asked: AskedSet,
    ) -> Result<Begun, Error> {
        let (answer, waiting) =
            self.change(
                |state, now| match state.table.lock(age, tenure, asked, now) {
                    Ok(Answer::Waits(id)) => (
                        Ok(Locked::Held),
                        Some(self.wait(state, id, now + LOCK_WAIT_MAX)),
                    ),
                    Ok(Answer::Granted) => (Ok(Locked::Held), None),
                    Err(Refused::Plain) => (Ok(Locked::Plain), None),
                    Err(refused) => (Err(refusal(refused)), None),
                },
            );
        match waiting {
            Some(waiting) => Ok(Begun::Waits(waiting)),
            None => answer.map(Begun::Now),
        }
    }

    /// Waits until what was being stored when locks were granted, and touches them, is stored. Fails with `Contention`
    /// when that takes longer than `LOCK_WAIT_MAX`.
    pub async fn landed(&self, asked: &AskedSet) -> Result<(), Error> {
        tokio::time::timeout(LOCK_WAIT_MAX, self.landings.landed(asked))
            .await
            .map_err(|_| Error::Contention)
    }

    /// How the transaction stands.
    pub fn standing(&self, age: Age) -> Standing {
        self.state().table.standing(age)
    }

    /// Takes the transaction's locks away.
    pub fn take_away(&self, age: Age) {
        self.change(|state, now| state.table.take_away(age, now));
    }

    /// Gives back what the transaction holds, and ends its waits with `TransactionExpired`.
    pub fn end(&self, age: Age) {
        self.change(|state, now| state.table.end(age, now));
    }

    /// Ends all waits, since the database is closed.
    pub fn close(&self) {
        self.change(|state, _| {
            state.table.close();
            // Their senders are dropped with what ended them.
            state.waiters.clear();
        });
    }

    /// How many locks are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    fn wait(self: &Arc<Self>, state: &mut State, id: WaitId, until: Moment) -> Waiting {
        let (sender, ended) = oneshot::channel();
        state.waiters.insert(id, sender);
        Waiting {
            locks: Arc::clone(self),
            id,
            ended,
            until,
            over: false,
        }
    }

    fn now(&self) -> Moment {
        self.opened.elapsed()
    }

    fn look(&self, until: Moment) {
        self.change(|state, now| {
            if now >= until || now.saturating_sub(state.looked) >= LOOK_PAUSE {
                state.looked = now;
                state.table.tick(now);
            }
        });
    }

    /// Changes the table, and tells everybody whose wait that ended.
    fn change<T>(&self, change: impl FnOnce(&mut State, Moment) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state, self.now());
        for (id, ended) in state.table.take_ended() {
            if let Some(waiter) = state.waiters.remove(&id) {
                // Whoever has stopped waiting withdraws.
                let _ = waiter.send(ended);
            }
        }
        self.held.store(state.table.len(), Ordering::SeqCst);
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in the table is a broken invariant of what only decides who waits; what it guards is checked at the
        // commit, so that going on is safe.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// What it came to. `look` is called once in `LOOK_INTERVAL`, to end transactions that are over. Fails with
    /// `Contention` when the locks went to somebody else or after `LOCK_WAIT_MAX`, with `TransactionExpired` when the
    /// transaction ended, and with `Unavailable` when the database is closed.
    pub async fn ended(mut self, look: impl Fn()) -> Result<Locked, Error> {
        loop {
            let rest = self.until.saturating_sub(self.locks.now());
            match tokio::time::timeout(rest.min(LOOK_INTERVAL), &mut self.ended).await {
                Ok(ended) => {
                    self.over = true;
                    return match ended {
                        Ok(Ended::Granted) => Ok(Locked::Held),
                        Ok(Ended::Plain) => Ok(Locked::Plain),
                        Ok(Ended::Wounded | Ended::TimedOut) => Err(Error::Contention),
                        Ok(Ended::Gone) => Err(Error::TransactionExpired),
                        Err(_closed) => {
                            Err(Error::Unavailable("the database is closed".to_owned()))
                        }
                    };
                }
                Err(_elapsed) => {
                    look();
                    self.locks.look(self.until);
                }
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.over {
            self.locks.change(|state, now| {
                state.waiters.remove(&self.id);
                state.table.withdraw(self.id, now);
            });
        }
    }
}

impl Claim {
    /// A commit without a transaction.
    pub fn blind(locks: &Arc<Locks>) -> Self {
        let age = Age::new(locks.next_number());
        Self::new(locks, age, Manner::Blind, false)
    }

    /// The commit of a transaction, which locks if `locking`.
    pub fn new(locks: &Arc<Locks>, age: Age, manner: Manner, locking: bool) -> Self {
        Self {
            locks: Arc::clone(locks),
            age,
            manner,
            known: locking,
            admitted: false,
            until: None,
            waiting: None,
        }
    }

    /// Its age if it goes before commits that came earlier, as those of pessimistic transactions and of retries do.
    pub fn first(&self) -> Option<Age> {
        (self.manner == Manner::Entitled).then_some(self.age)
    }

    /// Whether the commit may be applied, which is about to make these changes. Its locks are given back then. If not,
    /// `turn` has to be awaited, elsewhere, before it is judged again. Fails with `Contention` when its transaction has
    /// lost its locks, and with `ResourceExhausted` when too many wait.
    pub fn judge(&mut self, changes: &[Change]) -> Result<bool, Error> {
        if self.admitted || changes.is_empty() {
            return Ok(true);
        }
        if self.known || self.locks.held() > 0 {
            let locks = Arc::clone(&self.locks);
            self.waiting = locks.change(|state, now| {
                let until = *self.until.get_or_insert(now + LOCK_WAIT_MAX);
                let judged = state
                    .table
                    .commit(self.age, self.manner, changes, until, now);
                match judged.map_err(refusal)? {
                    Judged::Goes => Ok::<_, Error>(None),
                    Judged::Waits(id) => Ok(Some(locks.wait(state, id, until))),
                }
            })?;
            self.known = self.waiting.is_some();
        }
        self.admitted = !self.known;
        Ok(self.admitted)
    }

    /// The group that it was added to is formed anew. Whoever was granted locks meanwhile has not waited for it, so that it
    /// is judged again.
    pub fn removed(&mut self) {
        self.admitted = false;
    }

    /// Waits until the commit may be judged again. Fails as `Waiting::ended` does.
    pub async fn turn(&mut self, look: impl Fn()) -> Result<(), Error> {
        match self.waiting.take() {
            Some(waiting) => waiting.ended(look).await.map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.known {
            // The wait first: its transaction is forgotten with the locks.
            self.waiting = None;
            self.locks.end(self.age);
        }
    }
}

fn refusal(refused: Refused) -> Error {
    match refused {
        Refused::TooManyWaits => Error::ResourceExhausted(format!(
            "{LOCK_WAITS_MAX} reads and commits wait for locks, which is the limit; try again later"
        )),
        Refused::TooManyLocks => Error::ResourceExhausted(format!(
            "{LOCKS_MAX} locks are held, or {WIDE_LOCKS_MAX} of them on queries and listings, which is the limit; try again later"
        )),
        Refused::Plain | Refused::Wounded => Error::Contention,
    }
}
