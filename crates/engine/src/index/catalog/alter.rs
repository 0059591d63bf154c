//! From one catalogue to the next: what somebody asks for, and what the end of some work changes.
//!
//! Pure: each answers with another catalogue, which the caller stores together with whatever else belongs to it.
//!
//! # The life of a change
//!
//! Work on indexes is a list of operations; the oldest one that has not ended is worked on, the others wait. While it
//! waits or runs, commits already keep what will be there afterwards, so that the work only has to come once to
//! each document that was there before.
//!
//! A field's configuration can change again before the work has ended: the older operation is `Cancelled`, and the
//! new one takes over what is half done. Only what every document has, whatever happened, stays `usable`.
//!
//! A configuration that is taken back decides until its entries are as those of what is less specific. Should that
//! have become something else meanwhile, so that forgetting it would leave entries missing or left over, its work
//! begins again with the new aim.

use std::collections::BTreeSet;

use watchfire_model::path::check_collection_id;
use watchfire_model::{Invalid, Timestamp};
use watchfire_storage::Version;

use super::layout::Rule;
use super::ready::READY_FIELDS_MAX;
use super::{
    Catalog, ENDED_OPERATIONS_MAX, FIELD_CONFIGS_MAX, FieldConfig, FieldIndex, FieldKey,
    INDEXES_MAX, Index, IndexState, Modes, Operation, OperationId, OperationState, OperationTarget,
};
use crate::definition::{Definition, IndexId, Mode, Scope};
use crate::error::Error;

/// What may be asked of a catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alteration {
    /// Define an index and build it.
    Create(Definition),
    /// Delete an index.
    Delete(IndexId),
    /// Give some fields these automatic indexes, or take their configuration back.
    Field {
        key: FieldKey,
        indexes: Option<Vec<FieldIndex>>,
    },
    /// Stop an operation, if it has not ended.
    Cancel(OperationId),
    /// Forget an operation that has ended.
    Forget(OperationId),
}

/// The automatic indexes of a field about which nobody said anything.
pub fn built_in_indexes() -> Vec<FieldIndex> {
    [Mode::Ascending, Mode::Descending, Mode::Contains]
        .map(|mode| FieldIndex {
            scope: Scope::Collection,
            mode,
        })
        .to_vec()
}

/// The entries that these indexes need. `None` if one of them is none that a field can have.
pub fn modes_of(indexes: &[FieldIndex]) -> Option<Modes> {
    let mut modes = Modes::NONE;
    for index in indexes {
        modes = modes.union(match (index.scope, index.mode) {
            (Scope::Collection, Mode::Ascending | Mode::Descending) => Modes::COLLECTION_ORDER,
            (Scope::Collection, Mode::Contains) => Modes::COLLECTION_CONTAINS,
            (Scope::Group, Mode::Ascending | Mode::Descending) => Modes::GROUP_ORDER,
            (Scope::Group, Mode::Contains) => Modes::GROUP_CONTAINS,
            (_, Mode::Vector { .. }) => return None,
        });
    }
    Some(modes)
}

impl Catalog {
    /// The catalogue after an alteration, and the operation that it began, or that it is about. `estimated`: how many
    /// documents there are to look at. The catalogue is an equal one if nothing had to be done.
    ///
    /// Fails with `Invalid` for a field key or an index of a field that cannot be, with `IndexExists` for an index
    /// that is there (one that is being deleted is not), with `NoSuch` for what is not there, with
    /// `ResourceExhausted` past `INDEXES_MAX` (those being deleted count too) or `FIELD_CONFIGS_MAX`, and with
    /// `FailedPrecondition` for forgetting an operation that is under way, or cancelling the change of a field.
    pub fn altered(
        &self,
        alteration: Alteration,
        now: Timestamp,
        estimated: u64,
    ) -> Result<(Catalog, OperationId), Error> {
        let mut new = self.clone();
        let operation = match alteration {
            Alteration::Create(definition) => new.create(definition, now, estimated)?,
            Alteration::Delete(id) => new.delete(id, now)?,
            Alteration::Field { key, indexes } => new.change_field(key, indexes, now, estimated)?,
            Alteration::Cancel(id) => new.cancel(id, now)?,
            Alteration::Forget(id) => new.forget(id)?,
        };
        new.forget_oldest();
        if new != *self {
            new.version += 1;
        }
        Ok((new, operation))
    }

    /// What has to be altered so that the definition is served: nothing when it is, or will be. One field without a
    /// vector is an automatic index, and the field keeps those that it has.
    pub fn wanted(&self, definition: Definition) -> Option<Alteration> {
        let automatic = match definition.fields() {
            [field] => {
                let wanted = FieldIndex {
                    scope: definition.scope(),
                    mode: field.mode,
                };
                modes_of(&[wanted]).map(|modes| (field.path.clone(), wanted, modes))
            }
            _ => None,
        };
        let Some((path, wanted, modes)) = automatic else {
            let exists = self
                .indexes_of(definition.group())
                .any(|index| index.definition == definition);
            return (!exists).then_some(Alteration::Create(definition));
        };
        let key = FieldKey {
            group: Some(definition.group().to_owned()),
            path: Some(path),
        };
        if self.rule_of(&key).kept.contains(modes) {
            return None;
        }
        let mut indexes = self.indexes_asked_for(&key);
        indexes.push(wanted);
        Some(Alteration::Field {
            key,
            indexes: Some(indexes),
        })
    }

    /// The operation that is to be worked on: the oldest one that has not ended.
    pub fn next_work(&self) -> Option<&Operation> {
        let mut operations = self.operations.values();
        operations.find(|operation| operation.state == OperationState::Processing)
    }

    /// The catalogue once the last piece of an operation's work is stored, as it has to be together with it. `head` is
    /// the state that the piece was read from: with it, entries are complete since then.
    pub fn finished(
        &self,
        id: OperationId,
        documents: u64,
        now: Timestamp,
        head: Version,
    ) -> Catalog {
        let mut new = self.clone();
        new.version += 1;
        let Some(operation) = new.operations.get_mut(&id) else {
            return new;
        };
        operation.documents_done = operation.documents_done.saturating_add(documents);
        let target = operation.target.clone();
        match target {
            OperationTarget::Create { index, .. } => {
                if let Some(index) = new.indexes.get_mut(&index) {
                    index.state = IndexState::Ready;
                    new.ready.indexes.insert(index.id, head);
                }
                new.end(id, OperationState::Successful, now);
            }
            OperationTarget::Delete { index } => {
                new.indexes.remove(&index);
                new.ready.indexes.remove(&index);
                new.operations.remove(&id);
            }
            OperationTarget::Field { key, .. } => {
                if let Some(config) = new.fields.get_mut(&key) {
                    let late = config.kept.without(config.usable);
                    new.ready.field(&key, late, head);
                    config.usable = config.kept;
                    config.removing = Modes::NONE;
                }
                if new.settle_field(&key) {
                    new.end(id, OperationState::Successful, now);
                } else if let Some(operation) = new.operations.get_mut(&id) {
                    // Another round, with another aim.
                    operation.position.clear();
                }
            }
        }
        new.forget_oldest();
        new.ready.forget(now);
        new
    }

    /// How the operation stands after a piece of its work. Readers see the same catalogue as before.
    pub fn note_progress(&mut self, id: OperationId, position: Vec<u8>, documents: u64) {
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.advance(position, documents);
        }
    }

    /// The automatic indexes that some fields have, or will have once all work is done, as users name them.
    pub fn indexes_asked_for(&self, key: &FieldKey) -> Vec<FieldIndex> {
        match self.fields.get(key).or_else(|| self.inherited(key)) {
            Some(config) => config.indexes.clone(),
            None => built_in_indexes(),
        }
    }

    fn create(
        &mut self,
        definition: Definition,
        now: Timestamp,
        estimated: u64,
    ) -> Result<OperationId, Error> {
        let mut existing = self.indexes();
        if let Some(index) = existing.find(|index| index.definition == definition) {
            return Err(Error::IndexExists(index.id));
        }
        drop(existing);
        if self.indexes.len() >= INDEXES_MAX {
            return Err(Error::ResourceExhausted(format!(
                "a database can have at most {INDEXES_MAX} indexes"
            )));
        }
        let id = IndexId(self.take_id());
        self.indexes.insert(
            id,
            Index {
                id,
                definition: definition.clone(),
                state: IndexState::Creating,
            },
        );
        let target = OperationTarget::Create {
            index: id,
            definition,
        };
        Ok(self.begin(target, now, estimated))
    }

    fn delete(&mut self, id: IndexId, now: Timestamp) -> Result<OperationId, Error> {
        let index = self
            .indexes
            .get_mut(&id)
            .filter(|index| index.state != IndexState::Deleting)
            .ok_or_else(|| Error::NoSuch(format!("There is no index {id}.")))?;
        index.state = IndexState::Deleting;
        let building: Vec<OperationId> = self
            .operations
            .values()
            .filter(|operation| match &operation.target {
                OperationTarget::Create { index, .. } => {
                    *index == id && operation.state == OperationState::Processing
                }
                OperationTarget::Delete { .. } | OperationTarget::Field { .. } => false,
            })
            .map(|operation| operation.id)
            .collect();
        for operation in building {
            self.end(operation, OperationState::Cancelled, now);
        }
        Ok(self.begin(OperationTarget::Delete { index: id }, now, 0))
    }

    fn change_field(
        &mut self,
        key: FieldKey,
        indexes: Option<Vec<FieldIndex>>,
        now: Timestamp,
        estimated: u64,
    ) -> Result<OperationId, Error> {
        check_field_key(&key)?;
        let before = self.indexes_asked_for(&key);
        let rule = self.rule_of(&key);
        let (mut indexes, reverting) = match indexes {
            Some(indexes) => (indexes, false),
            None => (
                self.inherited(&key)
                    .map_or_else(built_in_indexes, |config| config.indexes.clone()),
                true,
            ),
        };
        indexes.sort();
        indexes.dedup();
        let aim = modes_of(&indexes)
            .ok_or_else(|| Invalid::new("A field cannot have a vector index by itself."))?;
        let known = self.fields.contains_key(&key);
        if !known && !reverting && self.fields.len() >= FIELD_CONFIGS_MAX {
            return Err(Error::ResourceExhausted(format!(
                "a database can have at most {FIELD_CONFIGS_MAX} field configurations"
            )));
        }
        if !known && !reverting {
            if self.ready.fields.len() >= READY_FIELDS_MAX {
                return Err(Error::ResourceExhausted(format!(
                    "the automatic indexes of at most {READY_FIELDS_MAX} fields can be changed within seven days"
                )));
            }
            self.ready.adopt(&key);
        }
        let target = OperationTarget::Field {
            key: key.clone(),
            added: difference(&indexes, &before),
            removed: difference(&before, &indexes),
        };
        if !known && reverting {
            let id = self.begin(target, now, 0);
            self.end(id, OperationState::Successful, now);
            return Ok(id);
        }
        let superseded: Vec<OperationId> = self
            .operations
            .values()
            .filter(|operation| match &operation.target {
                OperationTarget::Field { key: other, .. } => {
                    *other == key && operation.state == OperationState::Processing
                }
                OperationTarget::Create { .. } | OperationTarget::Delete { .. } => false,
            })
            .map(|operation| operation.id)
            .collect();
        for operation in superseded {
            self.end(operation, OperationState::Cancelled, now);
        }
        let config = aimed_at(&rule, indexes, aim, reverting);
        let settled = config.is_settled();
        self.fields.insert(key.clone(), config);
        let done = settled && self.settle_field(&key);
        let id = self.begin(target, now, if done { 0 } else { estimated });
        if done {
            self.end(id, OperationState::Successful, now);
        }
        Ok(id)
    }

    fn cancel(&mut self, id: OperationId, now: Timestamp) -> Result<OperationId, Error> {
        let operation = self.shown(id)?;
        if operation.state != OperationState::Processing {
            return Ok(id);
        }
        match operation.target {
            OperationTarget::Create { index, .. } => {
                self.delete(index, now)?;
            }
            OperationTarget::Field { .. } => {
                return Err(Error::FailedPrecondition(
                    "The change of a field's indexes cannot be cancelled; change the field again instead."
                        .to_owned(),
                ));
            }
            // Is not shown.
            OperationTarget::Delete { .. } => {}
        }
        Ok(id)
    }

    fn forget(&mut self, id: OperationId) -> Result<OperationId, Error> {
        if self.shown(id)?.state == OperationState::Processing {
            return Err(Error::FailedPrecondition(format!(
                "The operation {:x} has not ended.",
                id.0
            )));
        }
        self.operations.remove(&id);
        Ok(id)
    }

    fn shown(&self, id: OperationId) -> Result<&Operation, Error> {
        self.operations
            .get(&id)
            .filter(|operation| !matches!(operation.target, OperationTarget::Delete { .. }))
            .ok_or_else(|| Error::NoSuch(format!("There is no operation {:x}.", id.0)))
    }

    fn take_id(&mut self) -> u64 {
        let id = self.next_id.max(1);
        self.next_id = id + 1;
        id
    }

    fn begin(&mut self, target: OperationTarget, now: Timestamp, estimated: u64) -> OperationId {
        let id = OperationId(self.take_id());
        self.operations.insert(
            id,
            Operation {
                id,
                target,
                state: OperationState::Processing,
                started: now,
                ended: None,
                documents_done: 0,
                documents_estimated: estimated,
                position: Vec::new(),
            },
        );
        id
    }

    fn end(&mut self, id: OperationId, state: OperationState, now: Timestamp) {
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.state = state;
            operation.ended = Some(now.max(operation.started));
            operation.position.clear();
        }
    }

    fn forget_oldest(&mut self) {
        let ended: Vec<OperationId> = self
            .operations
            .values()
            .filter(|operation| operation.state != OperationState::Processing)
            .map(|operation| operation.id)
            .collect();
        let surplus = ended.len().saturating_sub(ENDED_OPERATIONS_MAX);
        for id in ended.iter().take(surplus) {
            self.operations.remove(id);
        }
    }

    /// The configuration that would decide about the fields if they had none of their own.
    fn inherited_entry(&self, key: &FieldKey) -> Option<(&FieldKey, &FieldConfig)> {
        let group = key.group.as_ref()?;
        if let Some(path) = &key.path {
            for len in (1..path.segments().len()).rev() {
                let ancestor = path.segments().iter().take(len).cloned().collect();
                let ancestor = FieldKey {
                    group: Some(group.clone()),
                    path: watchfire_model::FieldPath::from_segments(ancestor).ok(),
                };
                if let Some(found) = self.fields.get_key_value(&ancestor) {
                    return Some(found);
                }
            }
            let of_group = FieldKey {
                group: Some(group.clone()),
                path: None,
            };
            if let Some(found) = self.fields.get_key_value(&of_group) {
                return Some(found);
            }
        }
        self.fields.get_key_value(&FieldKey {
            group: None,
            path: None,
        })
    }

    fn inherited(&self, key: &FieldKey) -> Option<&FieldConfig> {
        self.inherited_entry(key).map(|(_, config)| config)
    }

    /// What decides about the fields now.
    pub(super) fn rule_of(&self, key: &FieldKey) -> Rule {
        let own = self.fields.get_key_value(key);
        match own.or_else(|| self.inherited_entry(key)) {
            Some((key, config)) => Rule::of(key, config),
            None => Rule::BUILT_IN,
        }
    }

    /// Forgets a configuration that is being taken back and whose work is done, if what decides afterwards finds all
    /// the entries that it relies on and none that nobody will remove. Else gives it the new aim. Whether there is
    /// nothing left to do.
    fn settle_field(&mut self, key: &FieldKey) -> bool {
        let Some(config) = self.fields.get(key) else {
            return true;
        };
        if !config.reverting {
            return true;
        }
        let have = config.kept;
        let inherited = self
            .inherited_entry(key)
            .map_or(Rule::BUILT_IN, |(key, config)| Rule::of(key, config));
        let fits = have.contains(inherited.usable)
            && inherited.kept.union(inherited.removing).contains(have);
        if fits {
            self.fields.remove(key);
            return true;
        }
        let indexes = self
            .inherited(key)
            .map_or_else(built_in_indexes, |config| config.indexes.clone());
        let rule = self.rule_of(key);
        self.fields
            .insert(key.clone(), aimed_at(&rule, indexes, inherited.kept, true));
        false
    }
}

impl Operation {
    /// Notes that a piece of the work is done.
    pub fn advance(&mut self, position: Vec<u8>, documents: u64) {
        self.position = position;
        self.documents_done = self.documents_done.saturating_add(documents);
    }
}

impl FieldConfig {
    /// Whether every document has exactly the entries that it ought to have.
    fn is_settled(&self) -> bool {
        self.usable == self.kept && self.removing.is_empty()
    }
}

/// A configuration on its way from what is to what shall be.
fn aimed_at(from: &Rule, indexes: Vec<FieldIndex>, aim: Modes, reverting: bool) -> FieldConfig {
    FieldConfig {
        indexes,
        usable: from.usable.intersection(aim),
        kept: aim,
        removing: from.kept.union(from.removing).without(aim),
        reverting,
    }
}

fn difference(of: &[FieldIndex], without: &[FieldIndex]) -> Vec<FieldIndex> {
    let without: BTreeSet<&FieldIndex> = without.iter().collect();
    of.iter()
        .filter(|index| !without.contains(index))
        .copied()
        .collect()
}

fn check_field_key(key: &FieldKey) -> Result<(), Invalid> {
    match (&key.group, &key.path) {
        (None, Some(_)) => Err(Invalid::new(
            "A field without a collection id cannot be configured.",
        )),
        (Some(_), Some(path)) if path.is_document_name() => Err(Invalid::new(
            "The indexes of __name__ cannot be configured.",
        )),
        (Some(group), _) => check_collection_id(group),
        (None, None) => Ok(()),
    }
}
