//! The time that a caller gives to a request, and what is said when it has passed.
//!
//! The library underneath ends such a request too, but with the code of one that its caller has cancelled, which clients
//! do not take for a deadline. What has passed is dropped here a moment before that: whoever waits for a lock waits no
//! longer, and a commit that the committer has taken is finished unheard.
//!
//! An answer that has begun is not ended: its caller does that.

use std::time::Duration;

use http::HeaderMap;
use tonic::Status;

const TIMEOUT: &str = "grpc-timeout";

/// Digits of the number, as the gRPC specification bounds them.
const DIGITS_MAX: usize = 8;

/// How long the caller waits; `None` when it does not say so in the words of the specification.
pub fn of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    if digits.len() > DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(number * 60 * 60)),
        'M' => Some(Duration::from_secs(number * 60)),
        'S' => Some(Duration::from_secs(number)),
        'm' => Some(Duration::from_millis(number)),
        'u' => Some(Duration::from_micros(number)),
        'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// What the caller hears, if it still listens.
pub fn passed(deadline: Duration) -> Status {
    Status::deadline_exceeded(format!(
        "the request did not end within its deadline of {deadline:?}"
    ))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn deadlines_are_read_as_the_specification_writes_them() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT, HeaderValue::from_static(text));
            of(&headers)
        };
        assert_eq!(of("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(of("3M"), Some(Duration::from_secs(180)));
        assert_eq!(of("4S"), Some(Duration::from_secs(4)));
        assert_eq!(of("5m"), Some(Duration::from_millis(5)));
        assert_eq!(of("6u"), Some(Duration::from_micros(6)));
        assert_eq!(of("7n"), Some(Duration::from_nanos(7)));
        assert_eq!(
            of("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3_600))
        );
        for wrong in ["", "S", "1", "1x", "-1S", "+1S", "1.5S", "100000000S"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert_eq!(super::of(&HeaderMap::new()), None);
    }
}
