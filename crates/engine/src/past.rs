//! The database as it was: the present, with what the changelog says has happened since undone.
//!
//! A past snapshot is a present one and an overlay of keys. For every document that was changed in between, the
//! overlay holds its record as it was before the first of the changes, and what that makes of its index entries. It
//! knows the indexes of the present: one that was built in between serves the past too, one that was deleted does
//! not. The changelog and the catalogue are those of the present.
//!
//! Nothing is kept between reads, and nothing is ever written.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use watchfire_model::{Change, Document, DocumentPath, Invalid};
use watchfire_storage::range::just_after;
use watchfire_storage::{Direction, PAGE_BYTES_MAX, Page, Range, Snapshot, Version};

use crate::changelog::reader::{Stored, read_entries};
use crate::error::Error;
use crate::index::catalog::Catalog;
use crate::index::entries::{Entries, entries, stored_entries};
use crate::keyspace::document_key;
use crate::record::encode_record;

/// How many bytes of memory one past snapshot may take, and the changed documents while it is made. Past it the read
/// is refused with `ResourceExhausted`: too much was changed since.
pub const OVERLAY_BYTES_MAX: usize = 64 << 20;

/// How many KiB all past snapshots of one database may take together, those that transactions hold included. Past it
/// a further one is refused with `ResourceExhausted`.
pub const OVERLAYS_KIB_MAX: usize = 256 << 10;

/// How many commits one read looks back over. Past it the read is refused with `ResourceExhausted`, however little they
/// changed: it would take too long.
pub const COMMITS_UNDONE_MAX: usize = 500_000;

/// What a key in the overlay costs beyond its bytes.
const KEY_COST: usize = 160;

/// Commits that are read at once from the changelog.
const ENTRIES_AT_ONCE: usize = 256;

/// The room for the past snapshots of one open database.
#[derive(Debug)]
pub struct Room {
    kib: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            kib: Arc::new(Semaphore::new(OVERLAYS_KIB_MAX)),
        }
    }
}

impl Room {
    /// The store as it was at `version`, which is not above the snapshot's. `catalog` belongs to the snapshot.
    /// Fails with `FailedPrecondition` for a version before what the changelog keeps, and with `ResourceExhausted`
    /// past `OVERLAY_BYTES_MAX`, `OVERLAYS_KIB_MAX` or `COMMITS_UNDONE_MAX`.
    pub async fn snapshot_at(
        &self,
        present: Arc<dyn Snapshot>,
        version: Version,
        catalog: &Catalog,
    ) -> Result<Arc<dyn Snapshot>, Error> {
        if version == present.version() {
            return Ok(present);
        }
        let mut taken = Taken::new(Arc::clone(&self.kib));
        let changed =
            changed_since(present.as_ref(), version, COMMITS_UNDONE_MAX, &mut taken).await?;
        let overlay = undo(changed, catalog, &mut taken)?;
        Ok(Arc::new(PastSnapshot {
            present,
            version,
            overlay,
            _taken: taken.finish(),
        }))
    }
}

/// The complaint about a time that has not come yet.
pub fn future_complaint() -> Error {
    Error::Invalid(Invalid::new("read_time cannot be in the future"))
}

/// What one past snapshot takes of the room.
struct Taken {
    kib: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Taken {
    fn new(kib: Arc<Semaphore>) -> Self {
        Self {
            kib,
            permit: None,
            bytes: 0,
        }
    }

    fn add(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > OVERLAY_BYTES_MAX {
            return Err(Error::ResourceExhausted(format!(
                "more than {OVERLAY_BYTES_MAX} bytes were changed since the read time; read closer to the present"
            )));
        }
        let held = self
            .permit
            .as_ref()
            .map_or(0, |permit| permit.num_permits());
        let missing = (self.bytes >> 10).saturating_sub(held);
        if missing == 0 {
            return Ok(());
        }
        let more = u32::try_from(missing).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.kib)
            .try_acquire_many_owned(more)
            .map_err(|_| {
                Error::ResourceExhausted(
                    "too many reads of the past are under way; try again later".to_owned(),
                )
            })?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }

    /// Of what was added before. The room is kept until `finish`.
    fn give_back(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// The room that is still taken; the rest is free for others.
    fn finish(self) -> Option<OwnedSemaphorePermit> {
        let mut permit = self.permit?;
        let spare = permit.num_permits().saturating_sub(self.bytes >> 10);
        drop(permit.split(spare));
        Some(permit)
    }
}

/// A document that was changed: before the first change and after the last one.
struct Changed {
    before: Option<Arc<Document>>,
    after: Option<Arc<Document>>,
}

fn memory(document: &Option<Arc<Document>>) -> usize {
    document.as_ref().map_or(0, |document| document.memory())
}

/// Every document that was changed after `version`, up to the snapshot, in `commits_max` commits at most.
async fn changed_since(
    present: &dyn Snapshot,
    version: Version,
    commits_max: usize,
    taken: &mut Taken,
) -> Result<BTreeMap<DocumentPath, Changed>, Error> {
    let mut changed = BTreeMap::new();
    let mut after = version;
    let mut commits = 0;
    loop {
        match read_entries(present, after, ENTRIES_AT_ONCE).await? {
            Stored::TooOld => {
                return Err(Error::FailedPrecondition(
                    "The requested snapshot version is too old.".to_owned(),
                ));
            }
            Stored::Entries {
                entries,
                complete_to,
            } => {
                commits += entries.len();
                if commits > commits_max {
                    return Err(Error::ResourceExhausted(format!(
                        "there were more than {commits_max} commits since the read time; read closer to the present"
                    )));
                }
                for published in entries {
                    for change in &published.entry.changes {
                        add_change(&mut changed, change, taken)?;
                    }
                }
                if complete_to >= present.version() {
                    return Ok(changed);
                }
                after = complete_to;
                // Stores may read on the thread of the caller.
                tokio::task::yield_now().await;
            }
        }
    }
}

fn add_change(
    changed: &mut BTreeMap<DocumentPath, Changed>,
    change: &Change,
    taken: &mut Taken,
) -> Result<(), Error> {
    match changed.entry(change.path.clone()) {
        Entry::Vacant(vacant) => {
            taken.add(KEY_COST + memory(&change.before) + memory(&change.after))?;
            vacant.insert(Changed {
                before: change.before.clone(),
                after: change.after.clone(),
            });
        }
        Entry::Occupied(mut occupied) => {
            let changed = occupied.get_mut();
            taken.give_back(memory(&changed.after));
            taken.add(memory(&change.after))?;
            changed.after.clone_from(&change.after);
        }
    }
    Ok(())
}

/// What leads from the present back to the past; `None` for a key that was not there.
fn undo(
    changed: BTreeMap<DocumentPath, Changed>,
    catalog: &Catalog,
    taken: &mut Taken,
) -> Result<BTreeMap<Bytes, Option<Bytes>>, Error> {
    let mut overlay = BTreeMap::new();
    for (path, changed) in changed {
        // The documents go as their keys come.
        taken.give_back(KEY_COST + memory(&changed.before) + memory(&changed.after));
        let all = |document: &Document| entries(document, catalog);
        let was = changed.before.as_deref().map_or_else(Entries::new, all);
        let is = changed
            .after
            .as_deref()
            .map_or_else(Entries::new, |after| stored_entries(after, catalog));
        let gone = is.into_keys().filter(|key| !was.contains_key(key));
        let gone: Vec<Bytes> = gone.collect();
        let record = changed.before.as_deref().map(encode_record);
        let keys = std::iter::once((document_key(&path), record))
            .chain(gone.into_iter().map(|key| (key, None)))
            .chain(was.into_iter().map(|(key, value)| (key, Some(value))));
        for (key, value) in keys {
            taken.add(KEY_COST + key.len() + value.as_ref().map_or(0, Bytes::len))?;
            overlay.insert(key, value);
        }
    }
    Ok(overlay)
}

/// A present snapshot seen through an overlay.
struct PastSnapshot {
    present: Arc<dyn Snapshot>,
    version: Version,
    overlay: BTreeMap<Bytes, Option<Bytes>>,
    _taken: Option<OwnedSemaphorePermit>,
}

impl PastSnapshot {
    /// What the overlay says of the keys in the range, in the direction.
    fn overlaid(
        &self,
        range: &Range,
        direction: Direction,
    ) -> impl Iterator<Item = (&Bytes, &Option<Bytes>)> {
        let end = match &range.end {
            Some(end) => Bound::Excluded(end),
            None => Bound::Unbounded,
        };
        let keys = (!range.is_empty()).then(|| {
            self.overlay
                .range::<Bytes, _>((Bound::Included(&range.start), end))
        });
        let mut keys = keys.into_iter().flatten();
        std::iter::from_fn(move || match direction {
            Direction::Forward => keys.next(),
            Direction::Backward => keys.next_back(),
        })
    }
}

#[async_trait]
impl Snapshot for PastSnapshot {
    fn version(&self) -> Version {
        self.version
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, watchfire_storage::Error> {
        match self.overlay.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.present.get(key).await,
        }
    }

    async fn get_many(
        &self,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, watchfire_storage::Error> {
        let unknown: Vec<Bytes> = keys
            .iter()
            .filter(|key| !self.overlay.contains_key(*key))
            .cloned()
            .collect();
        let mut read = self.present.get_many(&unknown).await?.into_iter();
        Ok(keys
            .iter()
            .map(|key| match self.overlay.get(key) {
                Some(value) => value.clone(),
                None => read.next().flatten(),
            })
            .collect())
    }

    async fn page(
        &self,
        range: &Range,
        direction: Direction,
        limit: usize,
    ) -> Result<Page, watchfire_storage::Error> {
        assert!(limit > 0, "a page must have room for at least one entry");
        let mut rest = range.clone();
        let mut page = Page::default();
        let mut bytes = 0;
        loop {
            // One more shows whether the range goes on.
            let wanted = (limit - page.entries.len()).saturating_add(1);
            let below = self.present.page(&rest, direction, wanted).await?;
            let mut seen = rest.clone();
            if let (true, Some((last, _))) = (below.more, below.entries.last()) {
                match direction {
                    Direction::Forward => seen.end = Some(just_after(last)),
                    Direction::Backward => seen.start = last.clone(),
                }
            }
            let over = self.overlaid(&seen, direction);
            for (key, value) in merge(below.entries, over, direction) {
                let size = key.len() + value.len();
                let fits = page.entries.is_empty()
                    || (page.entries.len() < limit && bytes + size <= PAGE_BYTES_MAX);
                if !fits {
                    page.more = true;
                    return Ok(page);
                }
                bytes += size;
                page.entries.push((key, value));
            }
            if !below.more {
                return Ok(page);
            }
            match direction {
                Direction::Forward => rest.start = seen.end.unwrap_or_default(),
                Direction::Backward => rest.end = Some(seen.start),
            }
        }
    }
}

/// Both in the direction; where both have a key, the overlay decides. Goes no further than it is asked, as the overlay
/// may have far more than a page.
fn merge<'a>(
    below: Vec<(Bytes, Bytes)>,
    over: impl Iterator<Item = (&'a Bytes, &'a Option<Bytes>)>,
    direction: Direction,
) -> impl Iterator<Item = (Bytes, Bytes)> {
    let mut below = below.into_iter().peekable();
    let mut over = over.peekable();
    let before = move |a: &Bytes, b: &Bytes| match direction {
        Direction::Forward => a < b,
        Direction::Backward => a > b,
    };
    std::iter::from_fn(move || {
        loop {
            let Some((key, _)) = over.peek() else {
                return below.next();
            };
            if let Some(earlier) = below.next_if(|(other, _)| before(other, key)) {
                return Some(earlier);
            }
            // What it stands for in the present.
            below.next_if(|(other, _)| other == *key);
            if let Some((key, Some(value))) = over.next() {
                return Some((key.clone(), value.clone()));
            }
        }
    })
}

#[cfg(test)]
mod tests;
