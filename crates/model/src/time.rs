//! `Timestamp`, and the `Clock` seam through which a core is given "now".
//!
//! Nothing here ever reads a clock.

use crate::invalid::Invalid;

/// Microseconds in a second.
const SECOND: i64 = 1_000_000;

/// 0001-01-01T00:00:00Z in seconds since 1970.
const SECONDS_MIN: i64 = -62_135_596_800;

/// 9999-12-31T23:59:59Z in seconds since 1970.
const SECONDS_MAX: i64 = 253_402_300_799;

/// Microseconds since 1970-01-01T00:00:00Z, between the years 1 and 9999.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    micros: i64,
}

impl Timestamp {
    /// The first moment of the year 1.
    pub const MIN: Self = Self {
        micros: SECONDS_MIN * SECOND,
    };

    /// The last microsecond of the year 9999.
    pub const MAX: Self = Self {
        micros: SECONDS_MAX * SECOND + (SECOND - 1),
    };

    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self { micros: 0 };

    /// From microseconds since 1970; fails outside the years 1 to 9999.
    pub fn from_micros(micros: i64) -> Result<Self, Invalid> {
        if (Self::MIN.micros..=Self::MAX.micros).contains(&micros) {
            Ok(Self { micros })
        } else {
            Err(Invalid::new(format!(
                "A timestamp must lie between the years 1 and 9999, found {micros} microseconds since 1970."
            )))
        }
    }

    /// From protocol parts; digits below a microsecond are dropped (rounded down).
    ///
    /// Fails outside the years 1 to 9999, and when `nanos` is not within 0 to 999,999,999.
    pub fn from_parts(seconds: i64, nanos: i32) -> Result<Self, Invalid> {
        if !(SECONDS_MIN..=SECONDS_MAX).contains(&seconds) {
            return Err(Invalid::new(format!(
                "The seconds of a timestamp must lie between {SECONDS_MIN} and {SECONDS_MAX}, found {seconds}."
            )));
        }
        if !(0..1_000_000_000).contains(&nanos) {
            return Err(Invalid::new(format!(
                "The nanoseconds of a timestamp must lie between 0 and 999999999, found {nanos}."
            )));
        }
        Ok(Self {
            micros: seconds * SECOND + i64::from(nanos) / 1_000,
        })
    }

    /// Microseconds since 1970.
    pub fn micros(self) -> i64 {
        self.micros
    }

    /// Whole seconds since 1970, rounded down.
    pub fn seconds(self) -> i64 {
        self.micros.div_euclid(SECOND)
    }

    /// Nanoseconds within the second, 0 to 999,999,000.
    pub fn nanos(self) -> i32 {
        (self.micros.rem_euclid(SECOND) * 1_000) as i32
    }

    /// The same moment with millisecond precision, rounded down (server timestamps have no more).
    pub fn truncated_to_millis(self) -> Self {
        Self {
            micros: self.micros.div_euclid(1_000) * 1_000,
        }
    }
}

/// RFC 3339 in UTC, with as many digits of the second as are needed (none, three or six).
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.seconds();
        let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
        let second = seconds.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        let fraction = self.micros.rem_euclid(SECOND);
        if fraction % 1_000 != 0 {
            write!(f, ".{fraction:06}")?;
        } else if fraction != 0 {
            write!(f, ".{:03}", fraction / 1_000)?;
        }
        f.write_str("Z")
    }
}

/// Year, month and day of the proleptic Gregorian calendar.
///
/// Counts from 0000-03-01 in eras of 400 years, so that the leap day is the last day of a year.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Where "now" comes from. Production gives the system clock, tests give time that is moved by hand.
pub trait Clock: Send + Sync {
    /// The present; need not be monotone.
    fn now(&self) -> Timestamp;
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn parts_are_rounded_down() {
        let check = |seconds, nanos, micros| {
            let timestamp = Timestamp::from_parts(seconds, nanos).unwrap();
            assert_eq!(timestamp.micros(), micros);
            assert_eq!(timestamp.seconds(), seconds);
            assert_eq!(timestamp.nanos(), nanos / 1_000 * 1_000);
        };
        check(0, 0, 0);
        check(1, 999_999_999, 1_999_999);
        check(-1, 999_999_999, -1);
        check(-1, 1_999, -999_999);
    }

    #[test]
    fn the_range_is_the_years_1_to_9999() {
        assert_eq!(
            Timestamp::from_parts(-62_135_596_800, 0).unwrap(),
            Timestamp::MIN
        );
        assert_eq!(
            Timestamp::from_parts(253_402_300_799, 999_999_999).unwrap(),
            Timestamp::MAX
        );
        for (seconds, nanos) in [
            (-62_135_596_801, 0),
            (253_402_300_800, 0),
            (0, -1),
            (0, 1_000_000_000),
            (i64::MAX, 0),
        ] {
            assert!(Timestamp::from_parts(seconds, nanos).is_err());
        }
        assert!(Timestamp::from_micros(Timestamp::MIN.micros() - 1).is_err());
        assert!(Timestamp::from_micros(Timestamp::MAX.micros() + 1).is_err());
    }

    #[test]
    fn display_is_rfc_3339() {
        let check = |seconds, nanos, text: &str| {
            assert_eq!(
                Timestamp::from_parts(seconds, nanos).unwrap().to_string(),
                text
            );
        };
        check(0, 0, "1970-01-01T00:00:00Z");
        check(951_782_400, 120_000_000, "2000-02-29T00:00:00.120Z");
        check(1_800_000_000, 1_000, "2027-01-15T08:00:00.000001Z");
        assert_eq!(Timestamp::MIN.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn millis_round_down_before_1970_too() {
        let truncated = |micros| {
            Timestamp::from_micros(micros)
                .unwrap()
                .truncated_to_millis()
                .micros()
        };
        assert_eq!(truncated(1_999), 1_000);
        assert_eq!(truncated(-1), -1_000);
    }
}
