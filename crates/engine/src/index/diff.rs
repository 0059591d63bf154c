//! What a change of a document does to the indexes.

use bytes::Bytes;
use watchfire_model::Document;
use watchfire_storage::Version;

use super::catalog::Catalog;
use super::entries::{Entries, checked_entries, entries, stored_entries};
use crate::error::Error;

/// Entries that have to go and to come, so that the indexes follow a document. What both states have is not touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Go, with what they held; those that hold something else afterwards too.
    pub gone: Vec<(Bytes, Bytes)>,
    /// Go too, because their index is being removed: nobody will read it at any version before.
    pub dropped: Vec<Bytes>,
    /// Come, with what they hold.
    pub new: Vec<(Bytes, Bytes)>,
    /// Since when those that go have stood there, where that is known of all.
    pub gone_since: Option<Version>,
}

/// What leads from `before` to `after`.
///
/// An entry that the older state only ought to have, because its index is still being built, is not put either:
/// whoever builds the index comes to it. One that is being removed goes when the document changes.
/// Fails with `Invalid` when `after` has more, or longer, entries than a document may have.
pub fn difference(
    before: Option<&Document>,
    after: Option<&Document>,
    catalog: &Catalog,
) -> Result<Difference, Error> {
    let new = match after {
        Some(after) => checked_entries(after, catalog)?,
        None => Entries::new(),
    };
    let old = before.map_or_else(Entries::new, |before| stored_entries(before, catalog));
    // A document that was deleted and created at once has no entry that is older than it.
    let another = created(before) != created(after);
    let changed = |entries: &Entries, key: &Bytes, contents: &Bytes| {
        another || entries.get(key) != Some(contents)
    };
    let unchanged_since_created = before.filter(|before| before.create_time == before.update_time);
    let gone_since = unchanged_since_created
        .map(|before| Version(u64::try_from(before.update_time.micros()).unwrap_or(0)));
    let kept = before
        .filter(|_| catalog.is_removing())
        .map(|before| entries(before, catalog));
    let is_kept = |key: &Bytes| kept.as_ref().is_none_or(|kept| kept.contains_key(key));
    let goes = old
        .iter()
        .filter(|(key, contents)| changed(&new, key, contents));
    let (gone, dropped): (Vec<_>, Vec<_>) = goes.partition(|(key, _)| is_kept(key));
    Ok(Difference {
        gone: gone
            .into_iter()
            .map(|(key, contents)| (key.clone(), contents.clone()))
            .collect(),
        dropped: dropped.into_iter().map(|(key, _)| key.clone()).collect(),
        new: new
            .into_iter()
            .filter(|(key, contents)| changed(&old, key, contents))
            .collect(),
        gone_since,
    })
}

fn created(document: Option<&Document>) -> Option<watchfire_model::Timestamp> {
    document.map(|document| document.create_time)
}

/// What leads from `before` to `after` in the present, as if it had always been so.
#[cfg(test)]
pub fn operations(
    before: Option<&Document>,
    after: Option<&Document>,
    catalog: &Catalog,
) -> Result<Vec<watchfire_storage::Operation>, Error> {
    use watchfire_storage::Operation;

    let Difference {
        gone, dropped, new, ..
    } = difference(before, after, catalog)?;
    let gone = gone.into_iter().map(|(key, _)| key);
    let deletes = gone.chain(dropped).map(|key| Operation::Delete { key });
    let puts = new.into_iter().map(|(key, contents)| Operation::Put {
        key,
        value: crate::stamp::stamped(Version(0), &contents),
    });
    Ok(deletes.chain(puts).collect())
}
