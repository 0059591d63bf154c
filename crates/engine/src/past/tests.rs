//! Which versions may be asked for.

use super::*;

const HOUR: u64 = 3_600_000_000;

#[test]
fn the_last_hour_by_the_microsecond_and_what_is_before_by_the_minute() {
    let now = Version(1_000 * HOUR + 30_000_001);
    let minute = |minutes: u64| Version(1_000 * HOUR - minutes * MINUTE_MICROS);
    let asked = |version, kept| check_version(version, now, kept);
    for kept in [HOUR, 24 * HOUR] {
        assert!(asked(now, kept).is_ok());
        assert!(asked(Version(now.0 - HOUR), kept).is_ok());
        assert!(matches!(
            asked(Version(now.0 + 1), kept),
            Err(Error::Invalid(_))
        ));
    }
    let older = Version(now.0 - HOUR - 1);
    assert!(matches!(
        asked(older, HOUR),
        Err(Error::FailedPrecondition(_))
    ));
    assert!(matches!(asked(older, 24 * HOUR), Err(Error::Invalid(_))));
    assert!(asked(minute(60), 24 * HOUR).is_ok());
    assert!(asked(minute(24 * 60 - 1), 24 * HOUR).is_ok());
    assert!(matches!(
        asked(minute(24 * 60), 24 * HOUR),
        Err(Error::FailedPrecondition(_))
    ));
    assert!(matches!(
        asked(minute(60), HOUR),
        Err(Error::FailedPrecondition(_))
    ));
}

#[test]
fn a_setting_is_brought_within_its_bounds() {
    assert_eq!(kept_micros(Duration::ZERO), HOUR);
    assert_eq!(kept_micros(Duration::from_secs(u64::MAX)), 7 * 24 * HOUR);
}
