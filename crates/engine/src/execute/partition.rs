//! Names that cut a collection group into pieces of about the same size.
//!
//! Keys are counted where they lie; no document is read.

use watchfire_model::DocumentPath;
use watchfire_model::order::decode_path;
use watchfire_storage::Range;

use super::pace::Reading;
use super::seek::malformed;
use super::totals::{count_keys, pass_keys};
use crate::error::Error;

/// The first names of all pieces but the first, ascending: at most `count`. `start_len` bytes stand before the path in
/// each key of the range.
pub async fn partition(
    reading: &Reading,
    range: &Range,
    start_len: usize,
    count: usize,
) -> Result<Vec<DocumentPath>, Error> {
    let total = count_keys(reading, std::slice::from_ref(range), u64::MAX).await?;
    let pieces = (count as u64).saturating_add(1).min(total);
    let mut names = Vec::new();
    let mut rest = range.clone();
    let mut passed = 0;
    for piece in 1..pieces {
        // Below 2^64 keys there is room for the product.
        let at = u128::from(total) * u128::from(piece) / u128::from(pieces);
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        // There are more keys behind it: the snapshot is the one that was counted.
        passed += pass_keys(reading, &mut rest, at - passed).await?;
        let (name, _) = rest
            .start
            .get(start_len..)
            .and_then(decode_path)
            .ok_or_else(|| malformed(&rest.start))?;
        names.push(name);
    }
    Ok(names)
}
