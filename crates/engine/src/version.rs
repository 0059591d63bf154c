//! Versions as times, and times as versions: both count microseconds since 1970.

use watchfire_model::{Clock, Timestamp};
use watchfire_storage::Version;

use crate::error::Error;

/// The clock's present; zero for a clock that stands before 1970.
pub fn present(clock: &dyn Clock) -> Version {
    Version(u64::try_from(clock.now().micros()).unwrap_or(0))
}

/// The first version that may follow `last`: the present, or one more than `last` when the clock is not ahead of it.
pub fn next(clock: &dyn Clock, last: Version) -> Version {
    present(clock).max(Version(last.0.saturating_add(1)))
}

/// The version as users see it. Fails with `Corrupt` past the year 9999.
pub fn timestamp(version: Version) -> Result<Timestamp, Error> {
    i64::try_from(version.0)
        .ok()
        .and_then(|micros| Timestamp::from_micros(micros).ok())
        .ok_or_else(|| {
            Error::Corrupt(format!(
                "version {} is not a time before the year 10000",
                version.0
            ))
        })
}
