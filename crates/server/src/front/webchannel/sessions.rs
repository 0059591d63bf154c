//! The sessions of the process, by their ids.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::complaint::Complaint;
use super::live::Live;
use crate::metrics::webchannel::ChannelCounts;

/// Sessions at the same time. Another is refused, and its client tries again later.
pub const SESSIONS_MAX: usize = 100_000;

/// The sessions.
pub struct Sessions {
    /// Invariant: at most `SESSIONS_MAX`. Put in by a handshake; taken out when the client leaves, when it has heard that
    /// its stream has ended, and when it stays away.
    by_sid: Mutex<HashMap<Box<str>, Arc<Live>>>,
    counts: Arc<ChannelCounts>,
}

impl Sessions {
    pub fn new(counts: Arc<ChannelCounts>) -> Self {
        Self {
            by_sid: Mutex::default(),
            counts,
        }
    }

    /// A new one.
    pub fn put(&self, live: &Arc<Live>) -> Result<(), Complaint> {
        let mut by_sid = self.lock();
        if by_sid.len() >= SESSIONS_MAX {
            return Err(Complaint::Busy("too many sessions"));
        }
        by_sid.insert(live.sid().into(), Arc::clone(live));
        self.counts.sessions(by_sid.len());
        Ok(())
    }

    /// The one of this id.
    pub fn get(&self, sid: &str) -> Result<Arc<Live>, Complaint> {
        let live = self.lock().get(sid).cloned();
        live.ok_or(Complaint::UnknownSession)
    }

    /// Ends the one of this id, if there is one.
    pub fn end(&self, sid: &str) {
        if let Some(live) = self.take(sid) {
            live.leave();
        }
    }

    /// The one of this id has been given up.
    pub fn lose(&self, sid: &str) {
        if self.take(sid).is_some() {
            self.counts.session_lost();
        }
    }

    fn take(&self, sid: &str) -> Option<Arc<Live>> {
        let mut by_sid = self.lock();
        let live = by_sid.remove(sid);
        self.counts.sessions(by_sid.len());
        live
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Live>>> {
        self.by_sid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
