//! Key ranges.

use bytes::Bytes;

/// Keys from `start` (inclusive) to `end` (exclusive); `end: None` is unbounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    pub start: Bytes,
    pub end: Option<Bytes>,
}

impl Range {
    /// Every key that starts with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { start: Bytes::copy_from_slice(prefix), end: successor(prefix) }
    }
}

/// The first key after all keys that start with `prefix`; `None` if there is none.
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
