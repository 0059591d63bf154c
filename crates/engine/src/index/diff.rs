//! What a change of a document does to the index: puts and deletes.

use std::collections::BTreeSet;

use bytes::Bytes;
use watchfire_model::Document;
use watchfire_storage::Operation;

use super::entries::{checked_entries, entries};
use crate::error::Error;

/// Puts and deletes of index entries that lead from `before` to `after`; entries that both have are not touched.
/// Fails with `Invalid` when `after` has more, or longer, entries than a document may have.
pub fn operations(
    before: Option<&Document>,
    after: Option<&Document>,
) -> Result<Vec<Operation>, Error> {
    let old = before.map_or_else(BTreeSet::new, entries);
    let new = after.map_or_else(|| Ok(BTreeSet::new()), checked_entries)?;
    let deletes = old
        .difference(&new)
        .map(|key| Operation::Delete { key: key.clone() });
    let puts = new.difference(&old).map(|key| Operation::Put {
        key: key.clone(),
        value: Bytes::new(),
    });
    Ok(deletes.chain(puts).collect())
}
