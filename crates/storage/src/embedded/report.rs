//! `Report`: what the parts of a folder say about its condition, logged once for each change.
//!
//! It decides nothing: whether a call is refused is found out where the call is served.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::condition::{Condition, State};
use crate::error::Error;

/// Different failures of reads that are remembered, so that each is logged once. Later ones are not logged.
const READ_FAILURES_MAX: usize = 64;

/// Where the condition of a folder is kept.
#[derive(Debug)]
pub(crate) struct Report {
    condition: watch::Sender<Condition>,
    read_failures: Mutex<BTreeSet<String>>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            condition: watch::Sender::new(Condition::up()),
            read_failures: Mutex::default(),
        }
    }

    /// The condition now, and its changes. Bytes that come free or not are no change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    /// What the folder does from now on.
    pub(crate) fn state(&self, state: &State) {
        self.condition.send_if_modified(|condition| {
            if condition.state == *state {
                return false;
            }
            match state {
                State::Up => tracing::info!("the store takes writes again"),
                State::Refusing(reason) => tracing::error!(%reason, "the store refuses writes, reads go on"),
                State::Recovering(reason) => {
                    tracing::warn!(%reason, "the store is being opened again, reads and writes wait");
                }
                State::Failed(reason) => {
                    tracing::error!(%reason, "the store cannot be opened again, nothing is read or written");
                }
            }
            condition.state = state.clone();
            true
        });
    }

    /// How much of the disk is free.
    pub(crate) fn free_bytes(&self, free_bytes: Option<u64>) {
        self.condition.send_if_modified(|condition| {
            condition.free_bytes = free_bytes;
            false
        });
    }

    /// A read has failed. Gives the error back.
    pub(crate) fn read_failed(&self, error: Error) -> Error {
        let text = error.to_string();
        {
            let mut known = self
                .read_failures
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if known.contains(&text) || known.len() >= READ_FAILURES_MAX {
                return error;
            }
            known.insert(text.clone());
        }
        tracing::error!(%error, "a read failed; the same is not logged again");
        if let Error::Corrupt(_) = &error {
            self.condition.send_modify(|condition| {
                condition.damages += 1;
                condition.damage.get_or_insert(text);
            });
        }
        error
    }
}
