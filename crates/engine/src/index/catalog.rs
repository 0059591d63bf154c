//! Which indexes exist, and in which state: the words for it, and what they answer.
//!
//! The truth is in the store's catalogue, beside the entries that it speaks of, so that a snapshot and the catalogue
//! read from it always agree. A catalogue is immutable; each change makes another one with a higher `version`.
//!
//! # Automatic indexes
//!
//! For a field of the documents of a collection group, the most specific configuration decides: that of the field
//! itself, then of the maps that it lies in, from the inside out, then of all fields of the group, then of all fields
//! of the database, then the built-in one, `Modes::BUILT_IN`.
//!
//! # A change on its way
//!
//! An index is `Creating` until every document has its entries, then `Ready`; only then is it read. One that is
//! deleted is `Deleting` until its entries are gone, then it is not there. In a field's configuration `usable` may
//! be read, `kept` is written with every commit, and `removing` is only deleted.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Mutex;
use watchfire_model::{FieldPath, Timestamp};
use watchfire_storage::Snapshot;

use crate::definition::{Definition, IndexId, Mode, Scope};
use crate::error::Error;

pub mod alter;
pub(crate) mod layout;
pub(crate) mod ready;
pub mod stored;

/// How many defined indexes a database may have.
pub const INDEXES_MAX: usize = 1_000;

/// How many field configurations a database may have.
pub const FIELD_CONFIGS_MAX: usize = 1_000;

/// How many ended operations are remembered; past it the oldest are forgotten.
pub const ENDED_OPERATIONS_MAX: usize = 1_000;

/// Which automatic entries a field has: a set.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Modes(u8);

impl Modes {
    pub const NONE: Modes = Modes(0);
    /// Values, for queries of one collection, in both directions.
    pub const COLLECTION_ORDER: Modes = Modes(1);
    /// Elements of arrays, for queries of one collection.
    pub const COLLECTION_CONTAINS: Modes = Modes(2);
    /// Values, for queries of a collection group, in both directions.
    pub const GROUP_ORDER: Modes = Modes(4);
    /// Elements of arrays, for queries of a collection group.
    pub const GROUP_CONTAINS: Modes = Modes(8);
    /// What a field has when nothing is said about it.
    pub const BUILT_IN: Modes = Modes(1 | 2);
    /// All that a field can have.
    pub const ALL: Modes = Modes(1 | 2 | 4 | 8);
    /// Each by itself.
    pub const EACH: [Modes; 4] = [
        Modes::COLLECTION_ORDER,
        Modes::COLLECTION_CONTAINS,
        Modes::GROUP_ORDER,
        Modes::GROUP_CONTAINS,
    ];

    pub const fn union(self, other: Modes) -> Modes {
        Modes(self.0 | other.0)
    }
    pub const fn without(self, other: Modes) -> Modes {
        Modes(self.0 & !other.0)
    }
    pub const fn intersection(self, other: Modes) -> Modes {
        Modes(self.0 & other.0)
    }
    pub const fn contains(self, other: Modes) -> bool {
        self.0 & other.0 == other.0
    }
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// As a byte at rest.
    pub const fn bits(self) -> u8 {
        self.0
    }
    /// `None` if the byte has bits that mean nothing.
    pub const fn from_bits(bits: u8) -> Option<Modes> {
        if bits < 16 { Some(Modes(bits)) } else { None }
    }
}

/// Which fields a configuration is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldKey {
    /// The id of the collections; `None` for all.
    pub group: Option<String>,
    /// The field; `None` for all fields that have no configuration of their own. Always `None` without a group.
    pub path: Option<FieldPath>,
}

/// One automatic index as users name it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldIndex {
    pub scope: Scope,
    /// Ascending, descending or contains; never a vector.
    pub mode: Mode,
}

/// The automatic indexes of some fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldConfig {
    /// As it was asked for, sorted, each once. Ascending and descending are one set of entries, kept when either is here.
    pub indexes: Vec<FieldIndex>,
    /// May be read.
    pub usable: Modes,
    /// Is written with every commit.
    pub kept: Modes,
    /// Is being removed.
    pub removing: Modes,
    /// The configuration was taken back: once its operation has ended it is forgotten, and what is less specific decides.
    pub reverting: bool,
}

/// Where an index stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum IndexState {
    /// Commits keep it, but not every older document is in it.
    Creating,
    /// Complete.
    Ready,
    /// Its entries are being deleted; neither read nor written.
    Deleting,
}

/// A defined index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    pub id: IndexId,
    pub definition: Definition,
    pub state: IndexState,
}

/// Names an operation; numbers grow. Shown to users as lower-case hexadecimal.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// What an operation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationTarget {
    /// An index is built. It may be gone by now.
    Create {
        index: IndexId,
        definition: Definition,
    },
    /// The entries of a deleted index are removed. Not shown to users.
    Delete { index: IndexId },
    /// The automatic indexes of some fields are changed.
    Field {
        key: FieldKey,
        added: Vec<FieldIndex>,
        removed: Vec<FieldIndex>,
    },
}

/// How an operation stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OperationState {
    Processing,
    Successful,
    /// The index was deleted, or the field changed again, before it was done.
    Cancelled,
}

/// Work on indexes, under way or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub id: OperationId,
    pub target: OperationTarget,
    pub state: OperationState,
    pub started: Timestamp,
    pub ended: Option<Timestamp>,
    /// Documents looked at so far.
    pub documents_done: u64,
    /// Documents to look at, as guessed at the start.
    pub documents_estimated: u64,
    /// Where the work goes on: the last key that is done. Empty at the start.
    pub position: Vec<u8>,
}

/// Everything that is known about indexes at one version of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Grows with every change but progress.
    pub(crate) version: u64,
    pub(crate) indexes: BTreeMap<IndexId, Index>,
    pub(crate) fields: BTreeMap<FieldKey, FieldConfig>,
    pub(crate) operations: BTreeMap<OperationId, Operation>,
    /// The next number that an index or an operation gets, at least 1.
    pub(crate) next_id: u64,
    /// Since when indexes can be read that were not always there.
    pub(crate) ready: ready::Ready,
    pub(crate) derived: layout::Derived,
}

impl Catalog {
    /// Every defined index, those being deleted left out.
    pub fn indexes(&self) -> impl Iterator<Item = &Index> {
        self.indexes
            .values()
            .filter(|index| index.state != IndexState::Deleting)
    }

    /// Defined indexes over collections with this id, those being deleted left out, in order of id.
    pub fn indexes_of(&self, group: &str) -> impl Iterator<Item = &Index> {
        self.layout(group)
            .into_iter()
            .flat_map(|layout| &layout.indexes)
            .filter_map(|id| self.index(*id))
    }

    /// An index by id, if it is not being deleted.
    pub fn index(&self, id: IndexId) -> Option<&Index> {
        self.indexes
            .get(&id)
            .filter(|index| index.state != IndexState::Deleting)
    }

    /// Every field configuration that somebody asked for.
    pub fn fields(&self) -> impl Iterator<Item = (&FieldKey, &FieldConfig)> {
        self.fields.iter()
    }

    /// The configuration that decides about a field, and whose it is; `None` for the built-in one. One that is
    /// being taken back still decides.
    pub fn field(&self, group: &str, path: &FieldPath) -> Option<(&FieldKey, &FieldConfig)> {
        if self.fields.is_empty() {
            return None;
        }
        let mut key = FieldKey {
            group: Some(group.to_owned()),
            path: None,
        };
        let segments = path.segments();
        for len in (1..=segments.len()).rev() {
            let ancestor = segments.iter().take(len).cloned().collect();
            key.path = FieldPath::from_segments(ancestor).ok();
            if let Some(found) = self.fields.get_key_value(&key) {
                return Some(found);
            }
        }
        key.path = None;
        self.fields.get_key_value(&key).or_else(|| {
            key.group = None;
            self.fields.get_key_value(&key)
        })
    }

    /// The automatic indexes of a field that may be read.
    pub fn usable(&self, group: &str, path: &FieldPath) -> Modes {
        self.field(group, path)
            .map_or(Modes::BUILT_IN, |(_, config)| config.usable)
    }

    /// Whether automatic entries are being removed anywhere.
    pub(crate) fn is_removing(&self) -> bool {
        self.fields
            .values()
            .any(|config| !config.removing.is_empty())
    }

    /// Every operation that users may see, ended or not, oldest first.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.operations
            .values()
            .filter(|operation| !matches!(operation.target, OperationTarget::Delete { .. }))
    }
}

/// How many catalogues are remembered: the newest, and some that older snapshots need.
const CACHED_MAX: usize = 4;

/// The catalogues that readers of one open database need, newest first.
#[derive(Debug, Default)]
pub struct Catalogs {
    cached: RwLock<Vec<Arc<Catalog>>>,
    /// Held while one is read from the store, so that many readers read it once.
    loading: Mutex<()>,
}

impl Catalogs {
    /// The catalogue that belongs to the snapshot: one that is remembered when its version is the snapshot's, else
    /// the one that is stored there. How far its operations have come may be older than the snapshot. For a snapshot
    /// of the past without the indexes that were not ready then.
    pub async fn at(&self, snapshot: &dyn Snapshot) -> Result<Arc<Catalog>, Error> {
        let catalog = self.stored_at(snapshot).await?;
        Ok(catalog
            .ready_at(snapshot.version())
            .map_or(catalog, Arc::new))
    }

    async fn stored_at(&self, snapshot: &dyn Snapshot) -> Result<Arc<Catalog>, Error> {
        let version = stored::version(snapshot).await?;
        if let Some(found) = self.find(version) {
            return Ok(found);
        }
        let _loading = self.loading.lock().await;
        if let Some(found) = self.find(version) {
            return Ok(found);
        }
        let loaded = Arc::new(stored::load(snapshot).await?);
        let mut cached = self.cached.write().unwrap_or_else(PoisonError::into_inner);
        cached.push(Arc::clone(&loaded));
        cached.sort_by_key(|catalog| std::cmp::Reverse(catalog.version));
        if cached.len() > CACHED_MAX {
            // The newest stays; of the others the one that was just asked for is asked for again soonest.
            let oldest = if loaded.version == cached.last().map_or(0, |last| last.version) {
                cached.len() - 2
            } else {
                cached.len() - 1
            };
            cached.remove(oldest);
        }
        Ok(loaded)
    }

    fn find(&self, version: u64) -> Option<Arc<Catalog>> {
        let cached = self.cached.read().unwrap_or_else(PoisonError::into_inner);
        cached
            .iter()
            .find(|catalog| catalog.version == version)
            .cloned()
    }
}

#[cfg(test)]
mod tests;
