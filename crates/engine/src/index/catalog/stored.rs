//! The catalogue as stored bytes.
//!
//! Each index, field configuration and operation is a row of the catalogue keyspace. A row's value begins with a
//! format byte; numbers are big-endian; a text is its length in 4 bytes and its bytes; a list is its length in
//! 4 bytes and its parts. Whatever else is found is `Error::Corrupt`; nothing here panics on any bytes.

use bytes::Bytes;
use watchfire_model::{FieldPath, Timestamp};
use watchfire_storage::range::just_after;
use watchfire_storage::{Direction, Operation as Change, Range, Snapshot, Version};

use super::ready::Since;
use super::{
    Catalog, FieldConfig, FieldIndex, FieldKey, Index, IndexState, Modes, Operation, OperationId,
    OperationState, OperationTarget,
};
use crate::definition::{Definition, IndexField, IndexId, Mode, Scope};
use crate::error::Error;
use crate::keyspace::{Catalogue, CatalogueRows, catalogue_key, catalogue_rows};

/// The format of rows that is written.
pub const ROW_FORMAT: u8 = 1;

/// Rows in one page while a catalogue is read.
const PAGE_ROWS: usize = 1_024;

const ASCENDING: u8 = 1;
const DESCENDING: u8 = 2;
const CONTAINS: u8 = 3;
const VECTOR: u8 = 4;

const TARGET_CREATE: u8 = 1;
const TARGET_DELETE: u8 = 2;
const TARGET_FIELD: u8 = 3;

/// The version of the catalogue that the snapshot holds: one read. 0 for a database whose indexes were never changed.
pub async fn version(snapshot: &dyn Snapshot) -> Result<u64, Error> {
    number(snapshot, Catalogue::IndexVersion).await
}

/// The whole catalogue that the snapshot holds.
pub async fn load(snapshot: &dyn Snapshot) -> Result<Catalog, Error> {
    let version = version(snapshot).await?;
    let mut catalog = Catalog {
        version,
        ..Catalog::default()
    };
    if version == 0 {
        return Ok(catalog);
    }
    catalog.next_id = number(snapshot, Catalogue::NextId).await?;
    for (id, value) in rows(snapshot, CatalogueRows::Indexes).await? {
        let index = decode_index(&id, &value).ok_or_else(|| corrupt("index", &id))?;
        catalog.indexes.insert(index.id, index);
    }
    for (id, value) in rows(snapshot, CatalogueRows::Fields).await? {
        let (key, config) = decode_field(&id, &value).ok_or_else(|| corrupt("field", &id))?;
        catalog.fields.insert(key, config);
    }
    for (id, value) in rows(snapshot, CatalogueRows::Operations).await? {
        let operation = decode_operation(&id, &value).ok_or_else(|| corrupt("operation", &id))?;
        catalog.operations.insert(operation.id, operation);
    }
    for (id, value) in rows(snapshot, CatalogueRows::IndexesReady).await? {
        let (id, since) = decode_index_ready(&id, &value)
            .ok_or_else(|| corrupt("the readiness of index", &id))?;
        catalog.ready.indexes.insert(id, since);
    }
    for (id, value) in rows(snapshot, CatalogueRows::FieldsReady).await? {
        let (key, since) = decode_field_ready(&id, &value)
            .ok_or_else(|| corrupt("the readiness of field", &id))?;
        catalog.ready.fields.insert(key, since);
    }
    Ok(catalog)
}

/// What has to be stored to come from one catalogue to another.
pub fn changes(old: &Catalog, new: &Catalog) -> Vec<Change> {
    let mut changes = Vec::new();
    for (id, index) in &new.indexes {
        if old.indexes.get(id) != Some(index) {
            changes.push(put(index_row(*id), encode_index(index)));
        }
    }
    for (key, config) in &new.fields {
        if old.fields.get(key) != Some(config) {
            changes.push(put(field_row(key), encode_field(config)));
        }
    }
    for (id, operation) in &new.operations {
        if old.operations.get(id) != Some(operation) {
            changes.push(operation_change(operation));
        }
        debug_assert_eq!(*id, operation.id, "operations stand under their own id");
    }
    let gone = old
        .indexes
        .keys()
        .filter(|id| !new.indexes.contains_key(id));
    changes.extend(gone.map(|id| delete(index_row(*id))));
    let gone = old
        .fields
        .keys()
        .filter(|key| !new.fields.contains_key(key));
    changes.extend(gone.map(|key| delete(field_row(key))));
    let gone = old
        .operations
        .keys()
        .filter(|id| !new.operations.contains_key(id));
    changes.extend(gone.map(|id| delete(operation_row(*id))));
    for (id, since) in &new.ready.indexes {
        if old.ready.indexes.get(id) != Some(since) {
            changes.push(put(index_ready_row(*id), encode_index_ready(*since)));
        }
    }
    for (key, since) in &new.ready.fields {
        if old.ready.fields.get(key) != Some(since) {
            changes.push(put(field_ready_row(key), encode_field_ready(since)));
        }
    }
    let (indexes, fields) = (&new.ready.indexes, &new.ready.fields);
    let gone = old.ready.indexes.keys();
    let gone = gone.filter(|id| !indexes.contains_key(id));
    changes.extend(gone.map(|id| delete(index_ready_row(*id))));
    let gone = old.ready.fields.keys();
    let gone = gone.filter(|key| !fields.contains_key(key));
    changes.extend(gone.map(|key| delete(field_ready_row(key))));
    if old.version != new.version {
        let key = catalogue_key(Catalogue::IndexVersion);
        changes.push(put(key, new.version.to_be_bytes().to_vec()));
    }
    if old.next_id != new.next_id {
        let key = catalogue_key(Catalogue::NextId);
        changes.push(put(key, new.next_id.to_be_bytes().to_vec()));
    }
    changes
}

/// Stores how an operation stands.
pub fn operation_change(operation: &Operation) -> Change {
    put(operation_row(operation.id), encode_operation(operation))
}

async fn number(snapshot: &dyn Snapshot, name: Catalogue) -> Result<u64, Error> {
    match snapshot.get(&catalogue_key(name)).await? {
        None => Ok(0),
        Some(bytes) => {
            let bytes: [u8; 8] = bytes.as_ref().try_into().map_err(|_| {
                Error::Corrupt(format!("{name:?} in the catalogue is not 8 bytes long"))
            })?;
            Ok(u64::from_be_bytes(bytes))
        }
    }
}

/// Every such row: what follows the name in its key, and its value. As many as the bounds of a catalogue allow.
async fn rows(snapshot: &dyn Snapshot, rows: CatalogueRows) -> Result<Vec<(Bytes, Bytes)>, Error> {
    let prefix = catalogue_rows(rows);
    let mut range = Range::prefix(&prefix);
    let mut found = Vec::new();
    loop {
        let page = snapshot.page(&range, Direction::Forward, PAGE_ROWS).await?;
        if let Some((last, _)) = page.entries.last() {
            range.start = just_after(last);
        }
        let ids = page.entries.into_iter().map(|(key, value)| {
            let id = key.slice(prefix.len().min(key.len())..);
            (id, value)
        });
        found.extend(ids);
        if !page.more {
            return Ok(found);
        }
    }
}

fn corrupt(what: &str, id: &[u8]) -> Error {
    Error::Corrupt(format!(
        "the catalogue's row of {what} {id:02x?} is not one of format {ROW_FORMAT}"
    ))
}

fn put(key: Bytes, value: Vec<u8>) -> Change {
    Change::Put {
        key,
        value: Bytes::from(value),
    }
}

fn delete(key: Bytes) -> Change {
    Change::Delete { key }
}

fn index_row(id: IndexId) -> Bytes {
    let mut key = catalogue_rows(CatalogueRows::Indexes);
    key.extend_from_slice(&id.0.to_be_bytes());
    Bytes::from(key)
}

fn operation_row(id: OperationId) -> Bytes {
    let mut key = catalogue_rows(CatalogueRows::Operations);
    key.extend_from_slice(&id.0.to_be_bytes());
    Bytes::from(key)
}

fn field_row(field: &FieldKey) -> Bytes {
    let mut key = catalogue_rows(CatalogueRows::Fields);
    put_field_key(field, &mut key);
    Bytes::from(key)
}

fn index_ready_row(id: IndexId) -> Bytes {
    let mut key = catalogue_rows(CatalogueRows::IndexesReady);
    key.extend_from_slice(&id.0.to_be_bytes());
    Bytes::from(key)
}

fn field_ready_row(field: &FieldKey) -> Bytes {
    let mut key = catalogue_rows(CatalogueRows::FieldsReady);
    put_field_key(field, &mut key);
    Bytes::from(key)
}

pub(super) fn encode_index_ready(since: Version) -> Vec<u8> {
    let mut out = vec![ROW_FORMAT];
    out.extend_from_slice(&since.0.to_be_bytes());
    out
}

pub(super) fn decode_index_ready(id: &[u8], value: &[u8]) -> Option<(IndexId, Version)> {
    let mut input = Input::of_row(value)?;
    let since = Version(input.number()?);
    input.end()?;
    Some((IndexId(u64::from_be_bytes(id.try_into().ok()?)), since))
}

pub(super) fn encode_field_ready(since: &Since) -> Vec<u8> {
    let mut out = vec![ROW_FORMAT];
    for since in since {
        out.extend_from_slice(&since.0.to_be_bytes());
    }
    out
}

pub(super) fn decode_field_ready(id: &[u8], value: &[u8]) -> Option<(FieldKey, Since)> {
    let mut key = Input { rest: id };
    let field = key.field_key()?;
    key.end()?;
    let mut input = Input::of_row(value)?;
    let mut since = Since::default();
    for since in &mut since {
        *since = Version(input.number()?);
    }
    input.end()?;
    Some((field, since))
}

pub(super) fn encode_index(index: &Index) -> Vec<u8> {
    let state = match index.state {
        IndexState::Creating => 1,
        IndexState::Ready => 2,
        IndexState::Deleting => 3,
    };
    let mut out = vec![ROW_FORMAT, state];
    put_definition(&index.definition, &mut out);
    out
}

pub(super) fn decode_index(id: &[u8], value: &[u8]) -> Option<Index> {
    let mut input = Input::of_row(value)?;
    let state = match input.byte()? {
        1 => IndexState::Creating,
        2 => IndexState::Ready,
        3 => IndexState::Deleting,
        _ => return None,
    };
    let definition = input.definition()?;
    input.end()?;
    Some(Index {
        id: IndexId(u64::from_be_bytes(id.try_into().ok()?)),
        definition,
        state,
    })
}

pub(super) fn encode_field(config: &FieldConfig) -> Vec<u8> {
    let mut out = vec![
        ROW_FORMAT,
        config.usable.bits(),
        config.kept.bits(),
        config.removing.bits(),
        u8::from(config.reverting),
    ];
    put_field_indexes(&config.indexes, &mut out);
    out
}

pub(super) fn decode_field(id: &[u8], value: &[u8]) -> Option<(FieldKey, FieldConfig)> {
    let mut key = Input { rest: id };
    let field = key.field_key()?;
    key.end()?;
    let mut input = Input::of_row(value)?;
    let config = FieldConfig {
        usable: Modes::from_bits(input.byte()?)?,
        kept: Modes::from_bits(input.byte()?)?,
        removing: Modes::from_bits(input.byte()?)?,
        reverting: input.boolean()?,
        indexes: input.field_indexes()?,
    };
    input.end()?;
    Some((field, config))
}

pub(super) fn encode_operation(operation: &Operation) -> Vec<u8> {
    let state = match operation.state {
        OperationState::Processing => 1,
        OperationState::Successful => 2,
        OperationState::Cancelled => 3,
    };
    let mut out = vec![ROW_FORMAT, state];
    out.extend_from_slice(&operation.started.micros().to_be_bytes());
    out.push(u8::from(operation.ended.is_some()));
    if let Some(ended) = operation.ended {
        out.extend_from_slice(&ended.micros().to_be_bytes());
    }
    out.extend_from_slice(&operation.documents_done.to_be_bytes());
    out.extend_from_slice(&operation.documents_estimated.to_be_bytes());
    put_bytes(&operation.position, &mut out);
    match &operation.target {
        OperationTarget::Create { index, definition } => {
            out.push(TARGET_CREATE);
            out.extend_from_slice(&index.0.to_be_bytes());
            put_definition(definition, &mut out);
        }
        OperationTarget::Delete { index } => {
            out.push(TARGET_DELETE);
            out.extend_from_slice(&index.0.to_be_bytes());
        }
        OperationTarget::Field {
            key,
            added,
            removed,
        } => {
            out.push(TARGET_FIELD);
            put_field_key(key, &mut out);
            put_field_indexes(added, &mut out);
            put_field_indexes(removed, &mut out);
        }
    }
    out
}

pub(super) fn decode_operation(id: &[u8], value: &[u8]) -> Option<Operation> {
    let mut input = Input::of_row(value)?;
    let state = match input.byte()? {
        1 => OperationState::Processing,
        2 => OperationState::Successful,
        3 => OperationState::Cancelled,
        _ => return None,
    };
    let started = input.timestamp()?;
    let ended = if input.boolean()? {
        Some(input.timestamp()?)
    } else {
        None
    };
    let documents_done = input.number()?;
    let documents_estimated = input.number()?;
    let position = input.bytes()?.to_vec();
    let target = match input.byte()? {
        TARGET_CREATE => OperationTarget::Create {
            index: IndexId(input.number()?),
            definition: input.definition()?,
        },
        TARGET_DELETE => OperationTarget::Delete {
            index: IndexId(input.number()?),
        },
        TARGET_FIELD => OperationTarget::Field {
            key: input.field_key()?,
            added: input.field_indexes()?,
            removed: input.field_indexes()?,
        },
        _ => return None,
    };
    input.end()?;
    Some(Operation {
        id: OperationId(u64::from_be_bytes(id.try_into().ok()?)),
        target,
        state,
        started,
        ended,
        documents_done,
        documents_estimated,
        position,
    })
}

fn put_len(len: usize, out: &mut Vec<u8>) {
    let len = u32::try_from(len).expect("nothing in the catalogue is near four gigabytes long");
    out.extend_from_slice(&len.to_be_bytes());
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_len(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn put_path(path: &FieldPath, out: &mut Vec<u8>) {
    put_len(path.segments().len(), out);
    for segment in path.segments() {
        put_bytes(segment.as_bytes(), out);
    }
}

fn put_scope(scope: Scope, out: &mut Vec<u8>) {
    out.push(match scope {
        Scope::Collection => 1,
        Scope::Group => 2,
    });
}

fn put_mode(mode: Mode, out: &mut Vec<u8>) {
    match mode {
        Mode::Ascending => out.push(ASCENDING),
        Mode::Descending => out.push(DESCENDING),
        Mode::Contains => out.push(CONTAINS),
        Mode::Vector { dimension } => {
            out.push(VECTOR);
            out.extend_from_slice(&dimension.to_be_bytes());
        }
    }
}

fn put_definition(definition: &Definition, out: &mut Vec<u8>) {
    put_bytes(definition.group().as_bytes(), out);
    put_scope(definition.scope(), out);
    put_len(definition.fields().len(), out);
    for field in definition.fields() {
        put_path(&field.path, out);
        put_mode(field.mode, out);
    }
}

fn put_field_indexes(indexes: &[FieldIndex], out: &mut Vec<u8>) {
    put_len(indexes.len(), out);
    for index in indexes {
        put_scope(index.scope, out);
        put_mode(index.mode, out);
    }
}

fn put_field_key(key: &FieldKey, out: &mut Vec<u8>) {
    out.push(u8::from(key.group.is_some()));
    if let Some(group) = &key.group {
        put_bytes(group.as_bytes(), out);
    }
    out.push(u8::from(key.path.is_some()));
    if let Some(path) = &key.path {
        put_path(path, out);
    }
}

/// Bytes that are still to be read. Every read answers `None` at the end.
struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn of_row(value: &'a [u8]) -> Option<Self> {
        let mut input = Self { rest: value };
        (input.byte()? == ROW_FORMAT).then_some(input)
    }

    fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*first)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn boolean(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn len(&mut self) -> Option<usize> {
        usize::try_from(u32::from_be_bytes(self.array()?)).ok()
    }

    fn timestamp(&mut self) -> Option<Timestamp> {
        Timestamp::from_micros(i64::from_be_bytes(self.array()?)).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.len()?;
        let (first, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(first)
    }

    fn text(&mut self) -> Option<String> {
        Some(std::str::from_utf8(self.bytes()?).ok()?.to_owned())
    }

    /// As many as the list says, but never more than there are bytes.
    fn list<T>(&mut self, mut part: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let len = self.len()?;
        let mut parts = Vec::new();
        for _ in 0..len {
            parts.push(part(self)?);
        }
        Some(parts)
    }

    fn path(&mut self) -> Option<FieldPath> {
        FieldPath::from_segments(self.list(Self::text)?).ok()
    }

    fn scope(&mut self) -> Option<Scope> {
        match self.byte()? {
            1 => Some(Scope::Collection),
            2 => Some(Scope::Group),
            _ => None,
        }
    }

    fn mode(&mut self) -> Option<Mode> {
        match self.byte()? {
            ASCENDING => Some(Mode::Ascending),
            DESCENDING => Some(Mode::Descending),
            CONTAINS => Some(Mode::Contains),
            VECTOR => Some(Mode::Vector {
                dimension: u32::from_be_bytes(self.array()?),
            }),
            _ => None,
        }
    }

    fn definition(&mut self) -> Option<Definition> {
        let group = self.text()?;
        let scope = self.scope()?;
        let fields = self.list(|input| {
            Some(IndexField {
                path: input.path()?,
                mode: input.mode()?,
            })
        })?;
        Definition::new(group, scope, fields).ok()
    }

    fn field_indexes(&mut self) -> Option<Vec<FieldIndex>> {
        self.list(|input| {
            Some(FieldIndex {
                scope: input.scope()?,
                mode: input.mode()?,
            })
        })
    }

    fn field_key(&mut self) -> Option<FieldKey> {
        let group = if self.boolean()? {
            Some(self.text()?)
        } else {
            None
        };
        let path = if self.boolean()? {
            Some(self.path()?)
        } else {
            None
        };
        Some(FieldKey { group, path })
    }
}
