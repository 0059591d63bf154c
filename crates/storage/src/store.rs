//! `Version`, `Snapshot` and the `Store` trait.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Batch, Error, Range};

/// Position in the store's order: microseconds since 1970. Zero is the empty store.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// What became of a batch.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Durable; the head is the batch's version.
    Applied,
    /// Somebody else moved the head; nothing was written.
    HeadMoved(Version),
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// One page of a range scan.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// In the direction of the scan.
    pub entries: Vec<(Bytes, Bytes)>,
    /// Whether the range goes on after the last entry.
    pub more: bool,
}

/// One database's ordered bytes.
#[async_trait]
pub trait Store: Send + Sync {
    /// A consistent view that carries the head version.
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, Error>;
    /// Atomic and durable when it returns `Applied`; `batch.version` must be above `expected_head`.
    async fn apply(&self, expected_head: Version, batch: Batch) -> Result<Applied, Error>;
    /// A consistent copy of the database in `directory`, which must not exist.
    async fn checkpoint(&self, directory: &Path) -> Result<(), Error>;
    /// Flushes and refuses everything afterwards with `Error::Closed`.
    async fn close(&self) -> Result<(), Error>;
}

/// A consistent view of a store.
#[async_trait]
pub trait Snapshot: Send + Sync {
    fn version(&self) -> Version;
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error>;
    /// Answers line up with the keys.
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Error>;
    /// At most `limit` entries of the range from its start (or end, when backward). `limit` must not be 0.
    async fn page(&self, range: &Range, direction: Direction, limit: usize) -> Result<Page, Error>;
}
