//! A document's index entries: keys with what they hold.
//!
//! The keys are written by `key`; which of them a document has is decided here, by the catalogue: automatic entries
//! for its fields and the fields of its maps at any depth, one entry that names it for its collection group, and
//! those of defined indexes.
//!
//! A collection-group entry is 0x03, the group's id, and the document's path, both by `model::order`; it holds
//! nothing.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use watchfire_model::limits::{INDEX_ENTRIES_BYTES_MAX, INDEX_ENTRIES_MAX, INDEX_ENTRY_BYTES_MAX};
use watchfire_model::order::{decode_path, encode_path, encode_path_prefix};
use watchfire_model::{Document, DocumentPath, Fields, Invalid, Parent, Value};

use super::catalog::layout::{Branch, Layout, Rule};
use super::catalog::{Catalog, FieldKey, Index, IndexState, Modes};
use super::key::{self, Kind, Place};
use crate::definition::Mode;
use crate::error::Error;
use crate::keyspace;

/// What one automatic key counts for in the limits: the service keeps an ascending and a descending entry where here
/// one key serves both directions, and two for each element of an array.
const ENTRIES_PER_AUTOMATIC_KEY: usize = 2;

/// What one key of a defined index counts for.
const ENTRIES_PER_DEFINED_KEY: usize = 1;

/// Keys, each with what it holds.
pub type Entries = BTreeMap<Bytes, Bytes>;

/// Every entry that commits keep for the document, without looking at limits.
pub fn entries(document: &Document, catalog: &Catalog) -> Entries {
    unlimited(document, catalog, Wanted::Kept)
}

/// Every entry that may be stored for the document: those that commits keep, and those that are being removed.
pub fn stored_entries(document: &Document, catalog: &Catalog) -> Entries {
    unlimited(document, catalog, Wanted::Stored)
}

/// Every entry that may ever have been stored for the document in an index that is still there: all automatic ones if
/// indexes of fields were ever changed.
pub fn possible_entries(document: &Document, catalog: &Catalog) -> Entries {
    if catalog.version == 0 {
        return entries(document, catalog);
    }
    let mut collector = Collector::new(document, Wanted::Possible, false);
    let added = collector
        .add_automatic(Some(&Layout::EVERY))
        .and_then(|()| match catalog.layout(document.path.collection_id()) {
            Some(layout) => collector.add_indexes(layout, catalog),
            None => Ok(()),
        });
    added.expect("nothing is refused without limits");
    collector.finish()
}

/// As `entries`. Fails when there are more than `INDEX_ENTRIES_MAX`, one key is longer than `INDEX_ENTRY_BYTES_MAX`,
/// or all together are longer than `INDEX_ENTRIES_BYTES_MAX`. The entry of the collection group is not counted.
pub fn checked_entries(document: &Document, catalog: &Catalog) -> Result<Entries, Error> {
    Ok(collect(document, catalog, Wanted::Kept, true)?)
}

/// The document's entries in one defined index, without looking at limits.
pub fn index_entries(document: &Document, index: &Index) -> Entries {
    let mut collector = Collector::new(document, Wanted::Kept, false);
    collector
        .add_defined(index)
        .expect("nothing is refused without limits");
    collector.entries
}

/// What a change of the automatic indexes of some fields does to a document that was there before it: entries to be
/// written, and keys to be deleted. Looks at no limits.
pub fn field_changes(
    document: &Document,
    catalog: &Catalog,
    field: &FieldKey,
) -> (Entries, Entries) {
    let Some(layout) = catalog.layout(document.path.collection_id()) else {
        return (Entries::new(), Entries::new());
    };
    let gathered = |wanted| {
        let mut collector = Collector::new(document, wanted, false);
        collector
            .add_automatic(Some(layout))
            .expect("nothing is refused without limits");
        collector.entries
    };
    (
        gathered(Wanted::Added(field)),
        gathered(Wanted::Removed(field)),
    )
}

fn unlimited(document: &Document, catalog: &Catalog, wanted: Wanted<'_>) -> Entries {
    collect(document, catalog, wanted, false).expect("nothing is refused without limits")
}

fn collect(
    document: &Document,
    catalog: &Catalog,
    wanted: Wanted<'_>,
    limited: bool,
) -> Result<Entries, Invalid> {
    let layout = catalog.layout(document.path.collection_id());
    let mut collector = Collector::new(document, wanted, limited);
    collector.add_automatic(layout)?;
    if let Some(layout) = layout {
        collector.add_indexes(layout, catalog)?;
    }
    Ok(collector.finish())
}

/// Which of a field's automatic entries are asked for.
#[derive(Copy, Clone)]
enum Wanted<'a> {
    Kept,
    Stored,
    /// All that there can be.
    Possible,
    /// Those that commits keep and older documents may lack, where this configuration decides.
    Added(&'a FieldKey),
    /// Those that are being removed, where this configuration decides.
    Removed(&'a FieldKey),
}

impl Wanted<'_> {
    fn modes(self, rule: &Rule) -> Modes {
        match self {
            Wanted::Kept => rule.kept,
            Wanted::Stored => rule.kept.union(rule.removing),
            Wanted::Possible => Modes::ALL,
            Wanted::Added(key) if rule.key.as_ref() == Some(key) => rule.kept.without(rule.usable),
            Wanted::Removed(key) if rule.key.as_ref() == Some(key) => {
                rule.removing.without(rule.kept)
            }
            Wanted::Added(_) | Wanted::Removed(_) => Modes::NONE,
        }
    }
}

/// Where the automatic entries of one scope stand.
struct Automatic {
    start: Vec<u8>,
    document: Vec<u8>,
    order: Modes,
    contains: Modes,
}

impl Automatic {
    fn new(place: &Place, document: &DocumentPath, order: Modes, contains: Modes) -> Self {
        Self {
            start: key::automatic_start(place),
            document: key::document_part(place, document, false),
            order,
            contains,
        }
    }
}

/// Gathers entries and gives up at the first one that passes a limit: a document of one mebibyte may be so deep that
/// all its entries would have gigabytes.
struct Collector<'a> {
    document: &'a Document,
    wanted: Wanted<'a>,
    /// The segments that lead to the fields at hand, without the end mark.
    field: Vec<u8>,
    column: Vec<u8>,
    limited: bool,
    entries: Entries,
    /// Of all entries, as the limits count them.
    count: usize,
    bytes: usize,
}

impl<'a> Collector<'a> {
    fn new(document: &'a Document, wanted: Wanted<'a>, limited: bool) -> Self {
        Self {
            document,
            wanted,
            field: Vec::new(),
            column: Vec::new(),
            limited,
            entries: Entries::new(),
            count: 0,
            bytes: 0,
        }
    }

    /// The automatic entries; without a layout those of the built-in configuration.
    fn add_automatic(&mut self, layout: Option<&Layout>) -> Result<(), Invalid> {
        let path = &self.document.path;
        let collection = path.collection();
        let (rule, children) = match layout {
            None => (&Rule::BUILT_IN, None),
            Some(layout) => (&layout.rule, Some(&layout.children)),
        };
        let mut scopes = Vec::with_capacity(2);
        if layout.is_some() {
            scopes.push(Automatic::new(
                &Place::Group(collection.id().to_owned()),
                path,
                Modes::GROUP_ORDER,
                Modes::GROUP_CONTAINS,
            ));
        }
        scopes.push(Automatic::new(
            &Place::Collection(collection),
            path,
            Modes::COLLECTION_ORDER,
            Modes::COLLECTION_CONTAINS,
        ));
        self.add_fields(&self.document.fields, rule, children, &scopes)
    }

    /// Recursion is bounded by the depth that a stored document may have.
    fn add_fields(
        &mut self,
        fields: &Fields,
        rule: &Rule,
        children: Option<&BTreeMap<String, Branch>>,
        scopes: &[Automatic],
    ) -> Result<(), Invalid> {
        let parent_len = self.field.len();
        for (name, value) in fields {
            key::encode_field_segment(name, &mut self.field);
            let branch = children.and_then(|children| children.get(name));
            let rule = branch
                .and_then(|branch| branch.rule.as_ref())
                .unwrap_or(rule);
            let modes = self.wanted.modes(rule);
            for scope in scopes {
                if modes.contains(scope.order) {
                    self.add_entry(scope, Kind::Ascending, value)?;
                }
            }
            match value {
                Value::Map(fields) => {
                    let children = branch.map(|branch| &branch.children);
                    self.add_fields(fields, rule, children, scopes)?;
                }
                Value::Array(elements) => {
                    for scope in scopes {
                        if modes.contains(scope.contains) {
                            for element in elements {
                                self.add_entry(scope, Kind::Contains, element)?;
                            }
                        }
                    }
                }
                Value::Null
                | Value::Boolean(_)
                | Value::Integer(_)
                | Value::Double(_)
                | Value::Timestamp(_)
                | Value::String(_)
                | Value::Bytes(_)
                | Value::Reference(_)
                | Value::GeoPoint(_)
                | Value::Vector(_) => {}
            }
            self.field.truncate(parent_len);
        }
        Ok(())
    }

    fn add_entry(&mut self, scope: &Automatic, kind: Kind, value: &Value) -> Result<(), Invalid> {
        self.column.clear();
        self.column.extend_from_slice(&scope.start);
        self.column.push(kind as u8);
        self.column.extend_from_slice(&self.field);
        key::encode_field_end(&mut self.column);
        key::encode_column(value, false, &mut self.column);
        let key = key::entry_key(&self.column, &scope.document);
        let payload = if is_integral_double(value) {
            Bytes::from_static(&[0])
        } else {
            Bytes::new()
        };
        self.insert(key, payload, ENTRIES_PER_AUTOMATIC_KEY)
    }

    fn add_indexes(&mut self, layout: &Layout, catalog: &Catalog) -> Result<(), Invalid> {
        let mut indexes = layout.indexes.iter().filter_map(|id| catalog.index(*id));
        indexes.try_for_each(|index| self.add_defined(index))
    }

    /// All entries, that of the collection group with them.
    fn finish(mut self) -> Entries {
        let group = group_entry(&self.document.path);
        self.entries.insert(group, Bytes::new());
        self.entries
    }

    /// The entries of a defined index, if the document has all its fields.
    fn add_defined(&mut self, index: &Index) -> Result<(), Invalid> {
        match index.state {
            IndexState::Creating | IndexState::Ready => {}
            IndexState::Deleting => return Ok(()),
        }
        let definition = &index.definition;
        let place = Place::of(definition.scope(), &self.document.path.collection());
        let part = key::document_part(&place, &self.document.path, definition.name_descends());
        let mut before = key::defined_start_in(index.id, &place);
        let mut after = Vec::new();
        let (mut flags, mut later_flags) = (Vec::new(), Vec::new());
        let mut elements: Option<(u8, &[Value])> = None;
        let mut vector: Option<Bytes> = None;
        for (position, field) in (0_u8..).zip(definition.fields()) {
            let Some(value) = field.path.get(&self.document.fields) else {
                return Ok(());
            };
            match (field.mode, value) {
                (Mode::Ascending | Mode::Descending, value) => {
                    let inverted = field.mode == Mode::Descending;
                    let (columns, flags) = match elements {
                        None => (&mut before, &mut flags),
                        Some(_) => (&mut after, &mut later_flags),
                    };
                    key::encode_column(value, inverted, columns);
                    if is_integral_double(value) {
                        flags.push(position);
                    }
                }
                (Mode::Contains, Value::Array(array)) => elements = Some((position, array)),
                (Mode::Vector { dimension }, Value::Vector(numbers))
                    if numbers.len() == dimension as usize =>
                {
                    vector = Some(numbers.iter().flat_map(|n| n.to_be_bytes()).collect());
                }
                (Mode::Contains | Mode::Vector { .. }, _) => return Ok(()),
            }
        }
        let Some((position, elements)) = elements else {
            let payload = vector.unwrap_or_else(|| Bytes::from(flags));
            let key = key::entry_key(&before, &part);
            return self.insert(key, payload, ENTRIES_PER_DEFINED_KEY);
        };
        let start_len = before.len();
        for element in elements {
            before.truncate(start_len);
            key::encode_column(element, false, &mut before);
            before.extend_from_slice(&after);
            let payload = vector.clone().unwrap_or_else(|| {
                let flag = is_integral_double(element).then_some(position);
                flags
                    .iter()
                    .copied()
                    .chain(flag)
                    .chain(later_flags.iter().copied())
                    .collect()
            });
            let key = key::entry_key(&before, &part);
            self.insert(key, payload, ENTRIES_PER_DEFINED_KEY)?;
        }
        Ok(())
    }

    /// Of elements with the same key the first one decides what it holds.
    fn insert(&mut self, key: Bytes, payload: Bytes, weight: usize) -> Result<(), Invalid> {
        let key_len = key.len();
        let Entry::Vacant(vacant) = self.entries.entry(key) else {
            return Ok(());
        };
        vacant.insert(payload);
        self.count += weight;
        self.bytes += key_len * weight;
        if self.limited {
            self.check_limits(key_len)?;
        }
        Ok(())
    }

    fn check_limits(&self, key_len: usize) -> Result<(), Invalid> {
        if self.count > INDEX_ENTRIES_MAX {
            return Err(Invalid::new(format!(
                "too many index entries for entity /{}",
                self.document.path
            )));
        }
        if key_len > INDEX_ENTRY_BYTES_MAX || self.bytes > INDEX_ENTRIES_BYTES_MAX {
            return Err(Invalid::new("Index entry is too large."));
        }
        Ok(())
    }
}

/// Whether the key cannot tell the value from an integer.
fn is_integral_double(value: &Value) -> bool {
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    match value {
        Value::Double(double) => double.fract() == 0.0 && (-BOUND..BOUND).contains(double),
        Value::Null
        | Value::Boolean(_)
        | Value::Integer(_)
        | Value::Timestamp(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Reference(_)
        | Value::GeoPoint(_)
        | Value::Array(_)
        | Value::Vector(_)
        | Value::Map(_) => false,
    }
}

/// The start of every entry of a collection group; the document's path follows.
pub fn group_start(id: &str) -> Vec<u8> {
    let mut start = keyspace::group_prefix();
    encode_path_prefix(id, &mut start);
    start
}

/// The start of every entry of a collection group below a parent.
pub fn group_start_below(id: &str, parent: &Parent) -> Vec<u8> {
    let mut start = group_start(id);
    match parent {
        Parent::Root => {}
        Parent::Document(path) => encode_path_prefix(path.as_str(), &mut start),
    }
    start
}

/// The document of a collection-group entry whose key starts with `start_len` bytes of `group_start`.
pub fn read_group_entry(start_len: usize, key: &[u8]) -> Option<DocumentPath> {
    decode_path(key.get(start_len..)?).map(|(path, _)| path)
}

fn group_entry(document: &DocumentPath) -> Bytes {
    let mut key = group_start(document.collection_id());
    encode_path(document, &mut key);
    Bytes::from(key)
}

#[cfg(test)]
mod tests;
