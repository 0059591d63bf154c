//! What is counted while listeners are served, in plain numbers.
//!
//! Nearly all of it is counted by the dispatcher alone, once for a commit, a telling or a slice of streams and not for
//! each stream: what many streams are told is counted by the number of streams in the moment in which it is said. So
//! counting costs nothing that grows with the listeners. Whoever reads sees each number as it is, and not all of them
//! at one moment.
//! Nothing here knows how the numbers are shown, and nothing is decided by them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Unread events up to which a queue belongs to a step of `QueueLengths`; longer ones belong to a last step.
pub const QUEUE_STEPS: [u64; 8] = [1, 4, 16, 64, 256, 512, 1_024, 2_048];

/// One number.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// The number as it is now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, more: usize) {
        self.0.fetch_add(wide(more), Ordering::Relaxed);
    }

    pub(crate) fn set(&self, now: usize) {
        self.0.store(wide(now), Ordering::Relaxed);
    }
}

/// How many events waited for streams, themselves included, when something was handed over to them: of one stream of
/// each slice.
#[derive(Debug, Default)]
pub struct QueueLengths {
    /// How many were in each step, and in the last one.
    steps: [Count; QUEUE_STEPS.len() + 1],
    sum: Count,
}

impl QueueLengths {
    pub(crate) fn observe(&self, events: usize) {
        let step = QUEUE_STEPS.partition_point(|step| *step < wide(events));
        if let Some(step) = self.steps.get(step) {
            step.add(1);
        }
        self.sum.add(events);
    }

    /// How many were up to each of `QUEUE_STEPS` and above the one before, and how many above all.
    pub fn steps(&self) -> [u64; QUEUE_STEPS.len() + 1] {
        self.steps.each_ref().map(Count::get)
    }

    /// All lengths together.
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }
}

/// The numbers of one hub since it was started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Streams there are just now, of those that have asked for something.
    pub streams: Count,
    /// Sessions there are just now: each is worked out once for all streams that share it.
    pub sessions: Count,
    /// Sessions just now that would speak and wait until their streams have read.
    pub sessions_waiting: Count,
    /// Targets just now, of all streams.
    pub targets: Count,
    /// Different ones among them.
    pub targets_distinct: Count,
    /// Streams that have ever asked for something.
    pub streams_opened: Count,
    /// Changes that were read from the changelog while somebody listened or not.
    pub changes_read: Count,
    /// Pairs of a change and a distinct target that it concerned.
    pub changes_matched: Count,
    /// Results that were read because a target was new.
    pub results_first: Count,
    /// Results that were read again because a limited window broke, or before what was read stood.
    pub results_broken: Count,
    /// Results that were read again because too much had changed to follow; their targets are reset.
    pub results_lost: Count,
    /// Targets that were caught up from an earlier version.
    pub replays: Count,
    /// Snapshots that sessions have told.
    pub snapshots_told: Count,
    /// Snapshots that were handed to streams.
    pub snapshots_delivered: Count,
    /// Events that were handed to streams, snapshots and answers included.
    pub events_delivered: Count,
    /// Resets that were handed to streams.
    pub resets_delivered: Count,
    /// How often a session that would have spoken had to wait until its streams have read.
    pub waits: Count,
    /// Streams that were told apart from others because they did not keep up with them.
    pub stragglers: Count,
    /// Streams that were ended because they asked and did not read.
    pub slow_readers: Count,
    /// Heartbeats that sessions were due.
    pub heartbeats: Count,
    /// How much waits for streams.
    pub queue_lengths: QueueLengths,
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_belong_to_the_first_step_that_holds_them() {
        let lengths = QueueLengths::default();
        for events in [0, 1, 2, 4, 5, 2_048, 2_049, 1_000_000] {
            lengths.observe(events);
        }
        assert_eq!(lengths.steps(), [2, 2, 1, 0, 0, 0, 0, 1, 2]);
        assert_eq!(lengths.sum(), 1_004_109);
    }
}
