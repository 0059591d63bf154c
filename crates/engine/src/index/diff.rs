//! What a change of a document does to the indexes: puts and deletes.

use watchfire_model::Document;
use watchfire_storage::Operation;

use super::catalog::Catalog;
use super::entries::{Entries, checked_entries, stored_entries};
use crate::error::Error;

/// Puts and deletes of index entries that lead from `before` to `after`; entries that both have are not touched.
///
/// An entry that the older state only ought to have, because its index is still being built, is not put either:
/// whoever builds the index comes to it. One that is being removed goes when the document changes.
/// Fails with `Invalid` when `after` has more, or longer, entries than a document may have.
pub fn operations(
    before: Option<&Document>,
    after: Option<&Document>,
    catalog: &Catalog,
) -> Result<Vec<Operation>, Error> {
    let new = match after {
        Some(after) => checked_entries(after, catalog)?,
        None => Entries::new(),
    };
    let old = before.map_or_else(Entries::new, |before| stored_entries(before, catalog));
    let deletes = old
        .keys()
        .filter(|key| !new.contains_key(*key))
        .map(|key| Operation::Delete { key: key.clone() });
    let puts = new
        .iter()
        .filter(|(key, value)| old.get(*key) != Some(value))
        .map(|(key, value)| Operation::Put {
            key: key.clone(),
            value: value.clone(),
        });
    Ok(deletes.chain(puts).collect())
}
