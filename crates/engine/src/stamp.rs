//! What stands before the contents of index entries, and in the history: since which version they have stood there.
//!
//! A stamped value is 0xFF, the version (8 bytes big-endian), and the contents. Were its length a multiple of 8, it
//! begins with 0xFE and one 0x00 more. So it is told from what the format before kept: nothing, positions of columns
//! (each below 0xFE), or a vector (a multiple of 8 bytes). Such a value has stood there since before history.

use bytes::Bytes;
use watchfire_storage::Version;

const STAMP: u8 = 0xFF;
const STAMP_PADDED: u8 = 0xFE;
const VECTOR_STEP: usize = 8;

/// Contents that stand there since `since`.
pub fn stamped(since: Version, contents: &[u8]) -> Bytes {
    let padded = (9 + contents.len()).is_multiple_of(VECTOR_STEP);
    // To the byte, so that no further memory is needed to keep it.
    let mut value = Vec::with_capacity(9 + usize::from(padded) + contents.len());
    if padded {
        value.extend_from_slice(&[STAMP_PADDED, 0]);
    } else {
        value.push(STAMP);
    }
    value.extend_from_slice(&since.0.to_be_bytes());
    value.extend_from_slice(contents);
    Bytes::from(value)
}

/// Where the contents begin, and since when they stand there.
fn split(value: &[u8]) -> (usize, Version) {
    let start = match value {
        _ if value.len().is_multiple_of(VECTOR_STEP) => 0,
        [STAMP, ..] => 1,
        [STAMP_PADDED, 0, ..] => 2,
        _ => 0,
    };
    let since = value
        .get(start..)
        .filter(|_| start > 0)
        .and_then(|rest| rest.first_chunk::<8>());
    match since {
        Some(since) => (start + 8, Version(u64::from_be_bytes(*since))),
        None => (0, Version(0)),
    }
}

/// Since when the contents stand there; 0 for a value of the format before.
pub fn since(value: &[u8]) -> Version {
    split(value).1
}

/// The contents of a value, stamped or of the format before.
pub fn contents(value: &Bytes) -> Bytes {
    value.slice(split(value).0..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stamped_values_read_back(version in any::<u64>(), contents in prop::collection::vec(any::<u8>(), 0..40)) {
            let value = stamped(Version(version), &contents);
            prop_assert_eq!(since(&value), Version(version));
            prop_assert_eq!(super::contents(&value), contents);
        }

        #[test]
        fn positions_of_the_format_before_are_never_taken_for_stamps(positions in prop::collection::vec(0..0x80_u8, 0..40)) {
            let value = Bytes::from(positions);
            prop_assert_eq!(since(&value), Version(0));
            prop_assert_eq!(contents(&value), value);
        }

        #[test]
        fn nor_are_vectors(numbers in prop::collection::vec(any::<u64>(), 0..6)) {
            let value: Bytes = numbers.iter().flat_map(|bits| bits.to_be_bytes()).collect();
            prop_assert_eq!(since(&value), Version(0));
            prop_assert_eq!(contents(&value), value);
        }
    }

    #[test]
    fn the_stored_form() {
        assert_eq!(
            &stamped(Version(258), b"")[..],
            [0xFF, 0, 0, 0, 0, 0, 0, 1, 2]
        );
        assert_eq!(
            &stamped(Version(1), &[0, 1, 2, 3, 4, 5, 6])[..],
            [0xFE, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3, 4, 5, 6]
        );
    }
}
