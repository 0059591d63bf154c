//! What stood under the keys of documents and indexes, for as long as the past can be read.
//!
//! # Intervals
//!
//! Whatever stands under a key has stood there since some version. A document's record says so itself: its update
//! time is the version of the commit that wrote it. Index entries are stamped (`stamp`). When a commit takes such a
//! value away, or puts another one in its place, the same batch keeps in the history until when it stood there: under
//! the key and the version of the commit stands the stamped value. Of a document only since when is kept, as the
//! changelog has the document beside it. A key that is new costs nothing.
//!
//! So a read at version V finds what a key held then without knowing what happened since: what stands there now, if
//! since V or longer; else what the history says was taken away first after V, if it stood there by V.
//! `snapshot` does that for single keys and for ranges.
//!
//! # Since when
//!
//! Whoever takes an entry away must know since when it stood there. Of a document that was never changed after it was
//! created all entries are as old as it is, and what the same group has put is at hand. Everything else is read where
//! it stands, just before the group is stored.
//!
//! # Which indexes
//!
//! Entries that were written in the background are stamped with their document's update time, whenever they came. An
//! index is not read at versions before it was ready: `index::catalog::ready`.
//!
//! # What is not done
//!
//! Ranges in which many keys came and went since V are walked key by key, though not version by version.

use bytes::Bytes;
use watchfire_storage::{Batch, Operation, Store, Version};

mod cursor;
pub mod snapshot;

/// Keys that are read at once.
const READ_KEYS: usize = 1_024;

/// An entry that a group takes away, of which it does not know since when it has stood there.
#[derive(Clone, Debug)]
pub struct Unknown {
    /// Where it stands.
    pub key: Bytes,
    /// Where the history keeps it.
    pub history: Bytes,
}

/// Adds to the batch what stands under the keys in the state at `head`, as history. When the store is elsewhere the
/// batch is left as it is: it will not be stored.
pub async fn complete(
    store: &dyn Store,
    head: Version,
    mut batch: Batch,
    unknown: Vec<Unknown>,
) -> Result<Batch, watchfire_storage::Error> {
    if unknown.is_empty() {
        return Ok(batch);
    }
    let snapshot = store.snapshot().await?;
    if snapshot.version() != head {
        return Ok(batch);
    }
    for unknown in unknown.chunks(READ_KEYS) {
        let keys: Vec<Bytes> = unknown.iter().map(|unknown| unknown.key.clone()).collect();
        let found = snapshot.get_many(&keys).await?;
        // What is not there belongs to an index that is being built.
        let kept = unknown.iter().zip(found).filter_map(|(unknown, value)| {
            Some(Operation::Put {
                key: unknown.history.clone(),
                value: value?,
            })
        });
        batch.operations.extend(kept);
    }
    Ok(batch)
}
