//! The groups of commits that have not landed yet: whoever has just been granted a lock waits for those that touch what
//! it has locked, so that it reads the newest state and not one that is about to be replaced.
//!
//! This only saves transactions from reading in vain. The check at the commit relies on nothing in here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::changelog::entry::CommitEntry;
use crate::lock::asked::AskedSet;

/// All groups that have not landed. There are never more than the committer has.
#[derive(Debug, Default)]
pub struct Landings {
    groups: Mutex<Groups>,
    moved: Notify,
}

#[derive(Debug, Default)]
struct Groups {
    last: u64,
    flying: VecDeque<Group>,
}

#[derive(Debug)]
struct Group {
    number: u64,
    /// Commits are being added, so that it may touch anything.
    open: bool,
    entries: Vec<Arc<CommitEntry>>,
}

/// One group. It has landed, or was given up, when this is dropped.
#[derive(Debug)]
pub struct Landing {
    landings: Arc<Landings>,
    number: u64,
}

impl Landings {
    /// A group is begun, and open. Locks that are held when a commit is added stand in its way; whoever is granted
    /// some later waits for it.
    pub fn begin(self: &Arc<Self>) -> Landing {
        let mut groups = self.groups();
        groups.last += 1;
        let number = groups.last;
        groups.flying.push_back(Group {
            number,
            open: true,
            entries: Vec::new(),
        });
        Landing {
            landings: Arc::clone(self),
            number,
        }
    }

    /// Waits until nothing touches what is asked for of what was added to groups before the call.
    pub async fn landed(&self, asked: &AskedSet) {
        let last = self.groups().last;
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if !self.touches(asked, last) {
                return;
            }
            moved.await;
        }
    }

    fn touches(&self, asked: &AskedSet, last: u64) -> bool {
        let groups = self.groups();
        let mut before = groups.flying.iter().filter(|group| group.number <= last);
        before.any(|group| {
            let mut entries = group.entries.iter();
            group.open || entries.any(|entry| asked.touched_by(&entry.changes))
        })
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        // Nothing in here can panic half way, so a poisoned lock still guards whole groups.
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Landing {
    /// More commits are about to be added.
    pub fn open(&self) {
        self.with(|group| group.open = true);
    }

    /// These commits were added since the group was opened, and no more for now.
    pub fn close(&self, added: impl IntoIterator<Item = Arc<CommitEntry>>) {
        self.with(|group| {
            group.entries.extend(added);
            group.open = false;
        });
        self.landings.moved.notify_waiters();
    }

    fn with(&self, change: impl FnOnce(&mut Group)) {
        let mut groups = self.landings.groups();
        let mut flying = groups.flying.iter_mut();
        if let Some(group) = flying.find(|group| group.number == self.number) {
            change(group);
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let number = self.number;
        self.landings
            .groups()
            .flying
            .retain(|group| group.number != number);
        self.landings.moved.notify_waiters();
    }
}
