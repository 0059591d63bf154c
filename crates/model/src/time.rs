//! `Timestamp`, and the `Clock` seam through which a core is given "now".

use crate::Invalid;

/// Microseconds since 1970-01-01T00:00:00Z, between the years 1 and 9999.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    micros: i64,
}

impl Timestamp {
    /// From microseconds since 1970; fails outside the years 1 to 9999.
    pub fn from_micros(micros: i64) -> Result<Self, Invalid> {
        // H1 checks the range.
        Ok(Self { micros })
    }

    /// From protocol parts; digits below a microsecond are dropped (rounded down).
    pub fn from_parts(seconds: i64, nanos: i32) -> Result<Self, Invalid> {
        let _ = (seconds, nanos);
        unimplemented!()
    }

    /// Microseconds since 1970.
    pub fn micros(self) -> i64 {
        self.micros
    }

    /// Whole seconds since 1970, rounded down.
    pub fn seconds(self) -> i64 {
        self.micros.div_euclid(1_000_000)
    }

    /// Nanoseconds within the second, 0 to 999,999,000.
    pub fn nanos(self) -> i32 {
        (self.micros.rem_euclid(1_000_000) * 1_000) as i32
    }

    /// The same moment with millisecond precision (REQUEST_TIME has no more).
    pub fn truncated_to_millis(self) -> Self {
        Self {
            micros: self.micros.div_euclid(1_000) * 1_000,
        }
    }
}

/// Where "now" comes from. Production gives the system clock, tests give time that is moved by hand.
pub trait Clock: Send + Sync {
    /// The present; need not be monotone.
    fn now(&self) -> Timestamp;
}
