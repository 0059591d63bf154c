//! Since when indexes can be read: at no version before all their entries were there.
//!
//! Fields keep what is known about them when their configuration is forgotten, as the entries that what is less specific
//! relies on may have come late.
//!
//! What is older than the past can be kept is forgotten.

use std::collections::BTreeMap;

use watchfire_model::Timestamp;
use watchfire_storage::Version;

use super::layout::Rule;
use super::{Catalog, FieldConfig, FieldKey, IndexState, Modes};
use crate::definition::IndexId;
use crate::settings::HISTORY_MAX;

/// How many fields may have automatic indexes that were not always there; more changes of fields are refused until
/// some are older than the past can be kept.
pub const READY_FIELDS_MAX: usize = 10_000;

/// Versions for each of `Modes::EACH`.
pub type Since = [Version; 4];

/// The versions; 0, or nothing, for what was always there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    pub indexes: BTreeMap<IndexId, Version>,
    pub fields: BTreeMap<FieldKey, Since>,
}

impl Ready {
    /// The modes of the field were ready at `version` and not before.
    pub fn field(&mut self, key: &FieldKey, modes: Modes, version: Version) {
        if modes.is_empty() {
            return;
        }
        let since = self.fields.entry(key.clone()).or_default();
        for (mode, since) in Modes::EACH.into_iter().zip(since) {
            if modes.contains(mode) {
                *since = (*since).max(version);
            }
        }
    }

    /// The field gets a configuration of its own: what held for it until now holds on.
    pub fn adopt(&mut self, key: &FieldKey) {
        let mut since = Since::default();
        for (_, others) in self.fields.iter().filter(|(other, _)| decides(other, key)) {
            for (since, other) in since.iter_mut().zip(others) {
                *since = (*since).max(*other);
            }
        }
        if since != Since::default() {
            self.fields.insert(key.clone(), since);
        }
    }

    /// Forgets what is too old to matter.
    pub fn forget(&mut self, now: Timestamp) {
        let oldest = u64::try_from(now.micros()).unwrap_or(0);
        let oldest = oldest.saturating_sub(u64::try_from(HISTORY_MAX.as_micros()).unwrap_or(0));
        self.indexes.retain(|_, since| since.0 > oldest);
        self.fields
            .retain(|_, since| since.iter().any(|since| since.0 > oldest));
    }

    fn is_whole_at(&self, version: Version) -> bool {
        self.indexes.values().all(|since| *since <= version)
            && self
                .fields
                .values()
                .flatten()
                .all(|since| *since <= version)
    }
}

/// Whether the configuration of one may decide about the other.
fn decides(general: &FieldKey, special: &FieldKey) -> bool {
    let of_group = general.group.is_none() || general.group == special.group;
    let of_field = match (&general.path, &special.path) {
        (None, _) => true,
        (Some(general), Some(special)) => special.segments().starts_with(general.segments()),
        (Some(_), None) => false,
    };
    of_group && of_field
}

fn late(since: &Since, version: Version) -> Modes {
    Modes::EACH
        .into_iter()
        .zip(since)
        .filter(|(_, since)| **since > version)
        .fold(Modes::NONE, |late, (mode, _)| late.union(mode))
}

impl Catalog {
    /// What of it could be read at a version; `None` if that is all of it.
    pub(crate) fn ready_at(&self, version: Version) -> Option<Catalog> {
        if self.ready.is_whole_at(version) {
            return None;
        }
        let mut then = self.clone();
        for (id, since) in &self.ready.indexes {
            if *since > version
                && let Some(index) = then.indexes.get_mut(id)
            {
                index.state = match index.state {
                    IndexState::Ready | IndexState::Creating => IndexState::Creating,
                    IndexState::Deleting => IndexState::Deleting,
                };
            }
        }
        // The less specific ones come first.
        for (key, since) in &self.ready.fields {
            let late = late(since, version);
            if late.is_empty() {
                continue;
            }
            let Rule {
                usable,
                kept,
                removing,
                ..
            } = then.rule_of(key);
            let indexes = then.indexes_asked_for(key);
            let config = then.fields.entry(key.clone()).or_insert(FieldConfig {
                indexes,
                usable,
                kept,
                removing,
                reverting: true,
            });
            config.usable = config.usable.without(late);
        }
        Some(then)
    }
}
