//! When streams that were told nothing for a while are told a snapshot with a fresh read time, so that clients do not
//! take their silence for a dead connection.
//!
//! A session that has said nothing for a period gets its heartbeat, the first one a little after its first snapshot.
//! Those that are due together are taken in slices, between which others are served: for each slice a version is asked
//! for that nobody has read beyond, and when that is reached (`due_at`) they are told it.
//! This module reads nothing and tells nobody; the dispatcher does.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use watchfire_engine::Version;

use crate::cohort::Cohorts;
use crate::target::SessionId;

/// How often idle streams get a snapshot with a fresh read time; clients give up after 120 s of silence.
pub const HEARTBEAT: Duration = Duration::from_secs(30);
/// When a stream that has just got its first snapshot gets its first heartbeat, if that is sooner.
pub const FIRST_HEARTBEAT: Duration = Duration::from_secs(3);
/// Sessions whose heartbeats are told in one go.
pub const BEATS_PER_STEP: usize = 1_024;

/// The heartbeats of all sessions of a hub: one planned for each at most.
#[derive(Debug)]
pub struct Heartbeats {
    period: Duration,
    planned: BTreeSet<(Instant, SessionId)>,
    /// Those whose time has come, until the version is reached that they are told; at most `BEATS_PER_STEP`.
    beating: Vec<SessionId>,
    at: Option<Version>,
}

impl Heartbeats {
    /// One for each session in every period, which must not be zero.
    pub fn new(period: Duration) -> Self {
        Self {
            period,
            planned: BTreeSet::new(),
            beating: Vec::new(),
            at: None,
        }
    }

    /// Plans the heartbeat of a session that others have been told with.
    pub fn plan(&mut self, cohorts: &mut Cohorts, id: SessionId) {
        self.plan_within(cohorts, id, self.period);
    }

    /// Plans the first heartbeat of a session.
    pub fn plan_first(&mut self, cohorts: &mut Cohorts, id: SessionId) {
        self.plan_within(cohorts, id, self.period.min(FIRST_HEARTBEAT));
    }

    /// Plans a session's next heartbeat, if that is sooner than what is planned.
    pub fn plan_within(&mut self, cohorts: &mut Cohorts, id: SessionId, after: Duration) {
        let due = Instant::now() + after;
        if let Some(cohort) = cohorts.get_mut(id) {
            if let Some(planned) = cohort.beat_due {
                if planned <= due {
                    return;
                }
                self.planned.remove(&(planned, id));
            }
            cohort.beat_due = Some(due);
            self.planned.insert((due, id));
        }
    }

    /// A session is gone whose heartbeat was planned for then.
    pub fn forget(&mut self, id: SessionId, due: Instant) {
        self.planned.remove(&(due, id));
    }

    /// When some are to be taken next; `None` while others wait for their version.
    pub fn next_due(&self) -> Option<Instant> {
        let first = self.planned.first();
        first
            .filter(|_| self.beating.is_empty())
            .map(|(due, _)| *due)
    }

    /// Takes those whose heartbeat is due. Whether there are any: they wait for `settled`.
    pub fn take_due(&mut self, cohorts: &mut Cohorts) -> bool {
        let now = Instant::now();
        while self.beating.len() < BEATS_PER_STEP
            && let Some((due, id)) = self.planned.first().copied()
            && due <= now
        {
            self.planned.pop_first();
            let Some(cohort) = cohorts.get_mut(id) else {
                continue;
            };
            let spoke = cohort.spoke_at + self.period;
            let next = if spoke > now && cohort.beaten {
                spoke
            } else {
                // Who watches nothing is told nothing.
                if cohort.session.has_current() {
                    cohort.beaten = true;
                    self.beating.push(id);
                }
                now + self.period
            };
            cohort.beat_due = Some(next);
            self.planned.insert((next, id));
        }
        !self.beating.is_empty()
    }

    /// The version that those who were taken are told.
    pub fn settled(&mut self, version: Version) {
        if !self.beating.is_empty() {
            self.at = Some(version);
        }
    }

    /// Those who are told a heartbeat now that everything up to `version` has been read, and what they are told.
    pub fn due_at(&mut self, version: Version) -> Option<(Version, Vec<SessionId>)> {
        let at = self.at.take_if(|at| *at <= version)?;
        Some((at, std::mem::take(&mut self.beating)))
    }

    /// No version comes for those who were taken.
    pub fn give_up(&mut self) {
        self.beating.clear();
        self.at = None;
    }
}
