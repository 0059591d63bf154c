//! What a database must forget when an older state of it is put in its place.
//!
//! Between that state and now it may have had other commits, which are gone. Whoever has seen them (a listener that
//! comes back with its token, a read at an earlier time) must not hear that nothing has happened since: the past begins
//! anew, now. Used on a store that nobody else has open.

use bytes::Bytes;
use watchfire_storage::{Applied, Batch, Direction, Operation, Store, Version};

use crate::error::Error;
use crate::keyspace::{Catalogue, Keyspace, catalogue_key};

/// Entries that are deleted at once.
const PIECE_ENTRIES_MAX: usize = 1024;

/// Deletes the changelog and the history and notes that nothing is known of the time before `now`, or before the head if that is later.
/// Ended in between, it leaves a database that can be opened but remembers part of what it should not. Fails with
/// `Unavailable` when somebody else writes.
pub async fn forget_past(store: &dyn Store, now: Version) -> Result<(), Error> {
    let mut parts = [Keyspace::History.range(), Keyspace::Changelog.range()].into_iter();
    let Some(mut range) = parts.next() else {
        return Ok(());
    };
    loop {
        let snapshot = store.snapshot().await?;
        let mut page = snapshot
            .page(&range, Direction::Forward, PIECE_ENTRIES_MAX)
            .await?;
        if !page.more
            && let Some(next) = parts.next()
        {
            range = next;
            page.more = true;
        }
        let head = snapshot.version();
        let version = now.max(Version(head.0 + 1));
        let deletes = page.entries.into_iter();
        let mut operations: Vec<Operation> =
            deletes.map(|(key, _)| Operation::Delete { key }).collect();
        if !page.more {
            operations.push(Operation::Put {
                key: catalogue_key(Catalogue::TrimmedTo),
                value: Bytes::copy_from_slice(&version.0.to_be_bytes()),
            });
        }
        let batch = Batch {
            version,
            operations,
        };
        match store.apply(head, batch).await? {
            Applied::Applied if page.more => {}
            Applied::Applied => return Ok(()),
            Applied::HeadMoved(_) => {
                return Err(Error::Unavailable(
                    "somebody else writes to the database".to_owned(),
                ));
            }
        }
    }
}
