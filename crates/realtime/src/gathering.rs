//! How long a stream that comes back is waited for, so that all of its targets are told at one snapshot.
//!
//! # Why
//!
//! A client that comes back soon keeps taking what it shows for current, and shows what one target brings of a document
//! in all of them (the web SDK does both). Were one of its targets told before the others, it would show results that
//! never were: a change of two documents, of which the one that both targets have is new and the other is not.
//! So before the first snapshot of a stream, targets that go on from somewhere wait for each other: until all of them have
//! caught up, and no other was asked for in the last `LINGER`.
//!
//! # What is not done
//!
//! Nobody waits longer than `TOGETHER_MAX`, as for a result that takes long to read; then the targets are told one by
//! one, as they come, which is what the protocol demands of a server.
//! Streams that have been told a snapshot wait for nobody, nor do those that begin anew.

use std::time::Duration;

use tokio::time::Instant;

/// How long another target of the same stream is waited for.
pub const LINGER: Duration = Duration::from_millis(10);
/// How long the targets of one stream wait for each other at most.
pub const TOGETHER_MAX: Duration = Duration::from_millis(250);

/// When targets were asked for that go on from somewhere.
#[derive(Copy, Clone, Debug)]
pub struct Gathering {
    first: Instant,
    last: Instant,
}

impl Gathering {
    /// Another one is asked for.
    pub fn asked(before: Option<Self>, now: Instant) -> Self {
        Self {
            first: before.map_or(now, |before| before.first),
            last: now,
        }
    }

    /// Until when the stream is told nothing; `complete` says that all of its targets have caught up.
    pub fn until(self, complete: bool) -> Instant {
        let longest = self.first + TOGETHER_MAX;
        if complete {
            longest.min(self.last + LINGER)
        } else {
            longest
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_waited_for_without_end() {
        let start = Instant::now();
        let mut gathering = Gathering::asked(None, start);
        assert_eq!(gathering.until(true), start + LINGER);
        assert_eq!(gathering.until(false), start + TOGETHER_MAX);
        for step in 1..100 {
            let now = start + step * LINGER / 2;
            gathering = Gathering::asked(Some(gathering), now);
            assert_eq!(
                gathering.until(true),
                (now + LINGER).min(start + TOGETHER_MAX)
            );
            assert_eq!(gathering.until(false), start + TOGETHER_MAX);
        }
    }
}
