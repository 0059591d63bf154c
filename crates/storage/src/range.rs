//! Key ranges: half open, by unsigned bytes.
//!
//! Nothing here knows what the keys mean.

use bytes::Bytes;

/// Keys from `start` (inclusive) to `end` (exclusive); `end: None` is unbounded.
///
/// A range whose end is not above its start holds nothing; it is not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first key that may be in the range.
    pub start: Bytes,
    /// The first key after the range.
    pub end: Option<Bytes>,
}

impl Range {
    /// Every key that starts with `prefix`.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        Self {
            start: Bytes::copy_from_slice(prefix),
            end: successor(prefix),
        }
    }

    /// Whether no key can be in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end <= &self.start)
    }

    /// Whether `key` is in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_ref() && self.end.as_ref().is_none_or(|end| key < end.as_ref())
    }
}

/// The first key after all keys that start with `prefix`; `None` if there is none.
#[must_use]
pub fn successor(prefix: &[u8]) -> Option<Bytes> {
    let mut bytes = prefix.to_vec();
    while let Some(last) = bytes.pop() {
        if last < u8::MAX {
            bytes.push(last + 1);
            return Some(Bytes::from(bytes));
        }
    }
    None
}

/// The first key after this one.
#[must_use]
pub fn just_after(key: &[u8]) -> Bytes {
    Bytes::from([key, &[0]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(prefix: &[u8], expected: Option<&[u8]>) {
        assert_eq!(successor(prefix).as_deref(), expected);
    }

    #[test]
    fn successor_is_the_first_key_after_the_prefix() {
        check(b"", None);
        check(b"a", Some(b"b"));
        check(b"a\xff", Some(b"b"));
        check(b"\xff\xff", None);
        check(b"a\x00", Some(b"a\x01"));
    }

    #[test]
    fn prefix_holds_what_starts_with_it() {
        let range = Range::prefix(b"a\xff");
        assert!(range.contains(b"a\xff") && range.contains(b"a\xff\xff\xff"));
        assert!(!range.contains(b"b") && !range.contains(b"a\xfe\xff"));
        assert!(
            Range {
                start: Bytes::from_static(b"b"),
                end: Some(Bytes::from_static(b"a"))
            }
            .is_empty()
        );
        assert!(!Range::prefix(b"").is_empty());
    }
}
