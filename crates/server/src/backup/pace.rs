//! How fast a backup goes: it rests between its pieces, so that requests keep most of the machine.
//!
//! What counts is the time that passes, not what is computed. So where others want the processor or the disk too, work
//! takes longer and so does each rest, and where nobody else wants them both are short.
//!
//! It never paces the store's own part of a backup: flushing what is in memory, and opening the copy once.

use std::time::{Duration, Instant};

/// The backup gets one in so many parts of the machine's cores, and never more than one core.
const CORES_FOR_ONE: u32 = 8;

/// Work between two rests. Short, so that no request waits long for a core.
const SLICE: Duration = Duration::from_millis(4);

/// The longest rest. A disk that stands still for seconds is not waited for again.
const REST_MAX: Duration = Duration::from_millis(250);

/// Work in slices, each followed by a rest in proportion.
#[derive(Debug)]
pub struct Pace {
    /// How many times as long as the work each rest is.
    rests: f64,
    slice_since: Instant,
}

impl Pace {
    /// For this machine. The first slice begins now.
    pub fn of_machine() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            rests: rests(cores),
            slice_since: Instant::now(),
        }
    }

    /// Blocks the thread for a while when a slice is over.
    pub fn rest(&mut self) {
        if let Some(rest) = rest_after(self.slice_since.elapsed(), self.rests) {
            std::thread::sleep(rest);
            self.slice_since = Instant::now();
        }
    }
}

/// How many times as long as its work a backup rests, so that it has its part of so many cores.
fn rests(cores: usize) -> f64 {
    let cores = u32::try_from(cores.max(1)).unwrap_or(u32::MAX);
    (f64::from(CORES_FOR_ONE) / f64::from(cores) - 1.0).max(0.0)
}

/// How long to rest after so much work; `None` when the slice is not over, or none is needed.
fn rest_after(worked: Duration, rests: f64) -> Option<Duration> {
    (worked >= SLICE && rests > 0.0).then(|| worked.mul_f64(rests).min(REST_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_leave_the_others_their_part() {
        // A quarter of one core, of two.
        assert_eq!(rests(2), 3.0);
        assert_eq!(rest_after(SLICE, rests(2)), Some(SLICE * 3));
        assert_eq!(rests(1), 7.0);
        assert_eq!(rests(0), 7.0);
        assert_eq!(rest_after(SLICE / 2, rests(2)), None);
    }

    #[test]
    fn rests_end() {
        assert_eq!(rest_after(Duration::MAX / 16, rests(1)), Some(REST_MAX));
    }

    #[test]
    fn one_core_of_many_is_used_without_rest() {
        for cores in [8, 9, 128, usize::MAX] {
            assert_eq!(rest_after(SLICE, rests(cores)), None, "{cores}");
        }
    }
}
