//! A snapshot of one database in a folder.
//!
//! It keeps the folder open: the engine closes, and the lock is given up, when the last snapshot is gone.
//! It reads where it is called and never on another thread: most reads are answered from memory, and a page is bounded.
//!
//! Invariant: the version is read from inside the engine's snapshot, where the head lies beside the bytes it was written with, so the two can never disagree, whatever the writer does meanwhile.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rocksdb::{DB, ReadOptions, SnapshotWithThreadMode};

use crate::embedded::folder::{Folder, data_key, decode_head, head_key};
use crate::error::Error;
use crate::page::{Page, PageFill};
use crate::range::{Range, successor};
use crate::store::{Counted, Direction, Snapshot};
use crate::version::Version;

/// Bytes of a database's number before its keys.
const ID_BYTES: usize = size_of::<u32>();

type EngineSnapshot<'a> = SnapshotWithThreadMode<'a, DB>;

self_cell::self_cell!(
    /// The engine's snapshot with the folder that it borrows from.
    struct Held {
        owner: Arc<Folder>,

        #[not_covariant]
        dependent: EngineSnapshot,
    }
);

/// One database at one version.
pub(crate) struct EmbeddedSnapshot {
    held: Held,
    id: u32,
    version: Version,
}

impl EmbeddedSnapshot {
    /// The newest state of the database with this number.
    pub(crate) fn take(folder: Arc<Folder>, id: u32) -> Result<Self, Error> {
        let held = Held::new(folder, |folder| folder.db.snapshot());
        let head = held.with_dependent(|folder, snapshot| {
            let head = snapshot.get(head_key(id));
            head.map_err(|error| folder.read_failed(&error))
        });
        let version = decode_head(head?)?;
        Ok(Self { held, id, version })
    }

    /// Lets an iterator see the keys of the range in this database, and no others.
    fn bounded(&self, range: &Range) -> ReadOptions {
        let mut read = ReadOptions::default();
        read.set_iterate_lower_bound(data_key(self.id, &range.start));
        let end = match &range.end {
            Some(end) => Some(data_key(self.id, end)),
            None => successor(&self.id.to_be_bytes()).map(Vec::from),
        };
        if let Some(end) = end {
            read.set_iterate_upper_bound(end);
        }
        read
    }

    fn value(
        &self,
        found: Result<Option<Vec<u8>>, rocksdb::Error>,
    ) -> Result<Option<Bytes>, Error> {
        found
            .map(|value| value.map(Bytes::from))
            .map_err(|error| self.held.borrow_owner().read_failed(&error))
    }
}

#[async_trait]
impl Snapshot for EmbeddedSnapshot {
    fn version(&self) -> Version {
        self.version
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.value(
            self.held
                .with_dependent(|_, snapshot| snapshot.get(data_key(self.id, key))),
        )
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Error> {
        let keys = keys.iter().map(|key| data_key(self.id, key));
        let found = self
            .held
            .with_dependent(|_, snapshot| snapshot.multi_get(keys));
        found.into_iter().map(|value| self.value(value)).collect()
    }

    async fn page(&self, range: &Range, direction: Direction, limit: usize) -> Result<Page, Error> {
        let mut fill = PageFill::new(limit);
        if range.is_empty() {
            return Ok(fill.finish());
        }
        let read = self.bounded(range);
        self.held.with_dependent(|folder, snapshot| {
            let mut iterator = snapshot.raw_iterator_opt(read);
            match direction {
                Direction::Forward => iterator.seek_to_first(),
                Direction::Backward => iterator.seek_to_last(),
            }
            while let Some((key, value)) = iterator.item() {
                let key = key
                    .get(ID_BYTES..)
                    .expect("the bounds let only keys of this database through");
                if !fill.has_room(key.len().saturating_add(value.len())) {
                    break;
                }
                fill.push(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
                match direction {
                    Direction::Forward => iterator.next(),
                    Direction::Backward => iterator.prev(),
                }
            }
            iterator
                .status()
                .map_err(|error| folder.read_failed(&error))
        })?;
        Ok(fill.finish())
    }

    async fn count(&self, range: &Range, limit: usize) -> Result<Counted, Error> {
        assert!(limit > 0, "counting up to nothing says nothing");
        let mut counted = Counted {
            keys: 0,
            next: None,
        };
        if range.is_empty() {
            return Ok(counted);
        }
        let read = self.bounded(range);
        self.held.with_dependent(|folder, snapshot| {
            let mut iterator = snapshot.raw_iterator_opt(read);
            iterator.seek_to_first();
            // Nothing is copied: whether there is a key is all that is asked.
            while iterator.valid() {
                if counted.keys == limit {
                    counted.next = iterator
                        .key()
                        .and_then(|key| key.get(ID_BYTES..))
                        .map(Bytes::copy_from_slice);
                    break;
                }
                counted.keys += 1;
                iterator.next();
            }
            iterator
                .status()
                .map_err(|error| folder.read_failed(&error))
        })?;
        Ok(counted)
    }
}
