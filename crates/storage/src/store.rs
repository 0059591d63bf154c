//! The `Store` and `Snapshot` traits: all that the house above knows of a storage engine.
//!
//! A new engine implements these two and passes the suite in `contract`; it never adds a method for itself.
//! `Snapshot::count` alone may be left as it is: it counts by pages then.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::batch::Batch;
use crate::error::Error;
use crate::page::Page;
use crate::range::{Range, just_after};
use crate::version::Version;

/// What became of a batch.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Durable; the head is the batch's version.
    Applied,
    /// Somebody else moved the head; nothing was written.
    HeadMoved(Version),
}

/// Which end of a range a page starts from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending, from the start of the range.
    Forward,
    /// Descending, from the end of the range.
    Backward,
}

/// One database's ordered bytes.
#[async_trait]
pub trait Store: Send + Sync {
    /// A consistent view that carries the head version.
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, Error>;

    /// Atomic and durable when it returns `Applied`.
    ///
    /// If the future is dropped before it answers, the batch may still be written, whole.
    ///
    /// # Panics
    ///
    /// If `batch.version` is not above `expected_head`.
    async fn apply(&self, expected_head: Version, batch: Batch) -> Result<Applied, Error>;

    /// A consistent copy in `directory`, which must not exist while its parent must.
    ///
    /// An engine that keeps several databases in one place copies all of them.
    async fn checkpoint(&self, directory: &Path) -> Result<(), Error>;

    /// Flushes and refuses everything afterwards with `Error::Closed`. Closing twice is no error.
    ///
    /// Snapshots taken before stay readable.
    async fn close(&self) -> Result<(), Error>;
}

/// A consistent view of a store.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// The version of the last batch that the snapshot shows.
    fn version(&self) -> Version;

    /// The value of `key`, if it is there.
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// Answers line up with the keys.
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Error>;

    /// At most `limit` entries of the range from its start (or end, when backward).
    ///
    /// Ends early, with `more` set, where the next entry would take the page beyond [`PAGE_BYTES_MAX`](crate::page::PAGE_BYTES_MAX).
    ///
    /// # Panics
    ///
    /// If `limit` is 0.
    async fn page(&self, range: &Range, direction: Direction, limit: usize) -> Result<Page, Error>;

    /// Counts the keys of the range from its start, without reading values, up to `limit` of them.
    ///
    /// # Panics
    ///
    /// If `limit` is 0.
    async fn count(&self, range: &Range, limit: usize) -> Result<Counted, Error> {
        count_pages(self, range, limit).await
    }
}

/// How many keys a range has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// At most the limit.
    pub keys: usize,
    /// Where counting goes on: the key at which the limit was reached. `None` at the end of the range.
    pub next: Option<Bytes>,
}

/// Counts by reading pages: for snapshots that have no better way.
pub async fn count_pages<S: Snapshot + ?Sized>(
    snapshot: &S,
    range: &Range,
    limit: usize,
) -> Result<Counted, Error> {
    assert!(limit > 0, "counting up to nothing says nothing");
    let mut range = range.clone();
    let mut keys = 0;
    loop {
        // One more than is counted says where to go on.
        let wanted = (limit - keys).saturating_add(1).min(COUNT_PAGE_MAX);
        let page = snapshot.page(&range, Direction::Forward, wanted).await?;
        for (key, _) in &page.entries {
            if keys == limit {
                return Ok(Counted {
                    keys,
                    next: Some(key.clone()),
                });
            }
            keys += 1;
        }
        match page.entries.last() {
            Some((last, _)) if page.more => {
                range.start = just_after(last);
            }
            _ => return Ok(Counted { keys, next: None }),
        }
    }
}

/// Keys in one page of `count_pages`.
const COUNT_PAGE_MAX: usize = 1_024;
