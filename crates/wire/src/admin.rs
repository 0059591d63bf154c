//! Indexes, the configurations of fields, and the operations that work on them.
//!
//! Read on both sides: by the server that is asked, and by the command that asks it. What the
//! service knows and this server does not do (other densities, text and places, times to live) is
//! refused by its name. Whether an index makes sense is not decided here.

use std::fmt::{self, Display, Formatter};

use prost::Message;
use prost_types::Any;
use watchfire_model::limits::VECTOR_DIMENSIONS_MAX;
use watchfire_model::path::check_collection_id;
use watchfire_model::{DatabaseName, FieldPath, Invalid, Timestamp};

use crate::pb::{self, admin, longrunning};
use crate::refusal::Refusal;
use crate::status::{Code, encode_status};
use crate::value::encode_timestamp;

/// The collection id that stands for all collections in the name of a field.
const ALL_COLLECTIONS: &str = "__default__";

/// The path that stands for all fields in the name of a field.
const ALL_FIELDS: &str = "*";

/// The collection id that stands for all collections in the parent of a listing.
const EVERY_GROUP: &str = "-";

const INDEX_TYPE: &str = "type.googleapis.com/google.firestore.admin.v1.Index";
const FIELD_TYPE: &str = "type.googleapis.com/google.firestore.admin.v1.Field";
const INDEX_METADATA_TYPE: &str =
    "type.googleapis.com/google.firestore.admin.v1.IndexOperationMetadata";
const FIELD_METADATA_TYPE: &str =
    "type.googleapis.com/google.firestore.admin.v1.FieldOperationMetadata";

/// Which queries an index serves.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IndexScope {
    /// Those of one collection.
    Collection,
    /// Those of all collections with the same id.
    CollectionGroup,
}

/// What an index keeps of a field.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IndexMode {
    Ascending,
    Descending,
    /// The elements of an array.
    Contains,
    /// A vector of this many numbers, between 1 and the limit.
    Vector {
        dimension: u32,
    },
}

/// Whether an index can be used.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum IndexState {
    Creating,
    Ready,
    /// The server cannot finish it. Never said by this one.
    NeedsRepair,
}

/// An index, without the collection group, which is in its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexShape {
    pub scope: IndexScope,
    /// In order, as written: `__name__` may be the last one.
    pub fields: Vec<(FieldPath, IndexMode)>,
}

/// An index as the server tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexResource {
    pub name: IndexName,
    pub shape: IndexShape,
    pub state: IndexState,
}

/// One index of a field by itself, as the server tells it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct FieldIndexState {
    pub scope: IndexScope,
    pub mode: IndexMode,
    pub state: IndexState,
}

/// A field as the server tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldResource {
    pub name: FieldName,
    pub indexes: Vec<FieldIndexState>,
    /// The indexes are the ancestor's.
    pub uses_ancestor: bool,
    /// Whose configuration this field has, or would have without its own. `None` for the topmost.
    pub ancestor: Option<FieldName>,
    /// Its own configuration is about to be forgotten.
    pub reverting: bool,
}

/// What somebody wants a field's indexes to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldUpdate {
    pub name: FieldName,
    /// `None`: as its ancestor's.
    pub indexes: Option<Vec<(IndexScope, IndexMode)>>,
}

/// `projects/{p}/databases/{d}/collectionGroups/{group}`, where `-` is every group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupName {
    pub database: DatabaseName,
    /// `None` for every group.
    pub group: Option<String>,
}

/// `projects/{p}/databases/{d}/collectionGroups/{group}/indexes/{id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexName {
    pub database: DatabaseName,
    pub group: String,
    /// The server's word; not checked.
    pub id: String,
}

/// `projects/{p}/databases/{d}/collectionGroups/{group}/fields/{path}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName {
    pub database: DatabaseName,
    /// `None` for all collections, written `__default__`.
    pub group: Option<String>,
    /// `None` for all fields, written `*`. Always `None` without a group.
    pub path: Option<FieldPath>,
}

/// `projects/{p}/databases/{d}/operations/{id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationName {
    pub database: DatabaseName,
    /// The server's word; not checked.
    pub id: String,
}

/// How an operation stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OperationState {
    Processing,
    Successful,
    Cancelled,
}

/// What an operation works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationSubject {
    /// Builds this index.
    Index(IndexResource),
    /// Changes the indexes of this field.
    Field {
        field: FieldResource,
        added: Vec<(IndexScope, IndexMode)>,
        removed: Vec<(IndexScope, IndexMode)>,
    },
}

/// An operation as the server tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationResource {
    pub name: OperationName,
    pub subject: OperationSubject,
    pub state: OperationState,
    pub started: Timestamp,
    pub ended: Option<Timestamp>,
    /// Documents looked at.
    pub documents_done: u64,
    /// Documents to look at, guessed at the start.
    pub documents_estimated: u64,
}

/// What whoever waits for an operation wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationProgress {
    /// Its name, for asking again.
    pub name: String,
    pub done: bool,
    /// Why it did not succeed.
    pub failure: Option<String>,
    pub documents_done: u64,
    pub documents_estimated: u64,
}

impl Display for GroupName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let group = self.group.as_deref().unwrap_or(EVERY_GROUP);
        write!(f, "{}/collectionGroups/{group}", self.database)
    }
}

impl Display for IndexName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            database,
            group,
            id,
        } = self;
        write!(f, "{database}/collectionGroups/{group}/indexes/{id}")
    }
}

impl Display for FieldName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let group = self.group.as_deref().unwrap_or(ALL_COLLECTIONS);
        write!(f, "{}/collectionGroups/{group}/fields/", self.database)?;
        match &self.path {
            Some(path) => path.fmt(f),
            None => f.write_str(ALL_FIELDS),
        }
    }
}

impl Display for OperationName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/operations/{}", self.database, self.id)
    }
}

/// The parent of a listing or of a new index.
pub fn decode_group_name(text: &str) -> Result<GroupName, Invalid> {
    let (database, group) = split_group(text).ok_or_else(|| {
        malformed(
            "collection group",
            text,
            "projects/{project}/databases/{database}/collectionGroups/{collection id}",
        )
    })?;
    if group == EVERY_GROUP {
        return Ok(GroupName {
            database: DatabaseName::parse(database)?,
            group: None,
        });
    }
    check_collection_id(group)?;
    Ok(GroupName {
        database: DatabaseName::parse(database)?,
        group: Some(group.to_owned()),
    })
}

/// The parent of a listing of fields. As `decode_group_name`, but `__default__` is a group here, and
/// means the fields of all collections: the second part of the answer.
pub fn decode_fields_parent(text: &str) -> Result<(GroupName, bool), Invalid> {
    match split_group(text) {
        Some((database, ALL_COLLECTIONS)) => Ok((
            GroupName {
                database: DatabaseName::parse(database)?,
                group: None,
            },
            true,
        )),
        _ => Ok((decode_group_name(text)?, false)),
    }
}

/// The name of an index.
pub fn decode_index_name(text: &str) -> Result<IndexName, Invalid> {
    let parts = split_group(text).and_then(|(database, rest)| {
        let (group, id) = rest.split_once("/indexes/")?;
        (!id.is_empty() && !id.contains('/')).then_some((database, group, id))
    });
    let (database, group, id) = parts.ok_or_else(|| {
        malformed(
            "index",
            text,
            "projects/{project}/databases/{database}/collectionGroups/{collection id}/indexes/{index id}",
        )
    })?;
    check_collection_id(group)?;
    Ok(IndexName {
        database: DatabaseName::parse(database)?,
        group: group.to_owned(),
        id: id.to_owned(),
    })
}

/// The name of a field.
pub fn decode_field_name(text: &str) -> Result<FieldName, Invalid> {
    let parts = split_group(text)
        .and_then(|(database, rest)| Some((database, rest.split_once("/fields/")?)));
    let (database, (group, path)) = parts.ok_or_else(|| {
        malformed(
            "field",
            text,
            "projects/{project}/databases/{database}/collectionGroups/{collection id}/fields/{field path}",
        )
    })?;
    let database = DatabaseName::parse(database)?;
    let (group, path) = decode_field_key(group, path)?;
    Ok(FieldName {
        database,
        group,
        path,
    })
}

/// Collection id and field path of a field, as names and files write them: `__default__` is all
/// collections, `*` all fields.
pub fn decode_field_key(
    group: &str,
    path: &str,
) -> Result<(Option<String>, Option<FieldPath>), Invalid> {
    let path = match path {
        ALL_FIELDS => None,
        path => Some(FieldPath::parse(path)?),
    };
    if path.as_ref().is_some_and(FieldPath::is_document_name) {
        return Err(Invalid::new(
            "__name__ is always indexed: it has no configuration.",
        ));
    }
    if group == ALL_COLLECTIONS {
        return match path {
            None => Ok((None, None)),
            Some(path) => Err(Invalid::new(format!(
                "The collection group {ALL_COLLECTIONS} has only the field {ALL_FIELDS}, not {path}."
            ))),
        };
    }
    check_collection_id(group)?;
    Ok((Some(group.to_owned()), path))
}

/// The name of an operation.
pub fn decode_operation_name(text: &str) -> Result<OperationName, Invalid> {
    let (database, id) = text
        .split_once("/operations/")
        .filter(|(_, id)| !id.is_empty() && !id.contains('/'))
        .ok_or_else(|| {
            malformed(
                "operation",
                text,
                "projects/{project}/databases/{database}/operations/{operation id}",
            )
        })?;
    Ok(OperationName {
        database: DatabaseName::parse(database)?,
        id: id.to_owned(),
    })
}

fn split_group(text: &str) -> Option<(&str, &str)> {
    text.split_once("/collectionGroups/")
}

fn malformed(what: &str, text: &str, shape: &str) -> Invalid {
    Invalid::new(format!(
        "Invalid {what} name \"{text}\": it must look like {shape}."
    ))
}

/// Reads an index that somebody asks for. What only the server tells (name and state) has no effect.
pub fn decode_index_shape(index: admin::Index) -> Result<IndexShape, Refusal> {
    let (_, fields, scope, _) = open_index(index, "index")?;
    let fields: Result<Vec<_>, Refusal> = fields
        .into_iter()
        .enumerate()
        .map(|(position, field)| {
            let place = format!("index.fields[{position}]");
            let admin::index::IndexField {
                field_path,
                value_mode,
            } = field;
            let path = FieldPath::parse(&field_path)
                .map_err(|invalid| Refusal::invalid(format!("{place}.field_path: {invalid}")))?;
            Ok((path, decode_mode(value_mode, &place)?))
        })
        .collect();
    Ok(IndexShape {
        scope,
        fields: fields?,
    })
}

/// Reads an index that a server tells.
pub fn decode_index_resource(index: admin::Index) -> Result<IndexResource, Refusal> {
    Ok(IndexResource {
        name: decode_index_name(&index.name)?,
        state: decode_state(index.state)?,
        shape: decode_index_shape(index)?,
    })
}

/// Reads what somebody wants a field to be.
///
/// The mask names the parts that are meant: only `index_config` is known. Without a mask the field
/// must have an `index_config`; with it, an absent one takes the field's own configuration back.
pub fn decode_update_field(request: admin::UpdateFieldRequest) -> Result<FieldUpdate, Refusal> {
    let admin::UpdateFieldRequest { field, update_mask } = request;
    let admin::Field {
        name,
        index_config,
        ttl_config,
    } = field.ok_or_else(|| Refusal::invalid("field must be set."))?;
    let name = decode_field_name(&name)?;
    if ttl_config.is_some() {
        return Err(Refusal::unimplemented("Field.ttl_config"));
    }
    let paths = update_mask.map_or_else(Vec::new, |mask| mask.paths);
    for path in &paths {
        match path.as_str() {
            "index_config" | "indexConfig" | "index_config.indexes" | "indexConfig.indexes" => {}
            "ttl_config" | "ttlConfig" => return Err(Refusal::unimplemented("Field.ttl_config")),
            other => {
                return Err(Refusal::invalid(format!(
                    "update_mask: a field has no \"{other}\" that can be changed; index_config can."
                )));
            }
        }
    }
    let Some(config) = index_config else {
        if paths.is_empty() {
            return Err(Refusal::invalid(
                "field.index_config must be set, or be named in update_mask to take the field's own configuration back.",
            ));
        }
        return Ok(FieldUpdate {
            name,
            indexes: None,
        });
    };
    let admin::field::IndexConfig {
        indexes,
        uses_ancestor_config,
        ancestor_field: _,
        reverting: _,
    } = config;
    if uses_ancestor_config {
        if indexes.is_empty() {
            return Ok(FieldUpdate {
                name,
                indexes: None,
            });
        }
        return Err(Refusal::invalid(
            "field.index_config: uses_ancestor_config is only told by the server; leave it out to set indexes.",
        ));
    }
    let mut asked = Vec::with_capacity(indexes.len());
    for (position, index) in indexes.into_iter().enumerate() {
        let place = format!("field.index_config.indexes[{position}]");
        let (scope, mode, _) = decode_field_index(index, &name, &place)?;
        if asked.contains(&(scope, mode)) {
            return Err(Refusal::invalid(format!(
                "{place}: the same index stands before it already."
            )));
        }
        asked.push((scope, mode));
    }
    Ok(FieldUpdate {
        indexes: Some(asked),
        name,
    })
}

/// Reads a field that a server tells.
pub fn decode_field_resource(field: admin::Field) -> Result<FieldResource, Refusal> {
    let admin::Field {
        name,
        index_config,
        ttl_config,
    } = field;
    let name = decode_field_name(&name)?;
    if ttl_config.is_some() {
        return Err(Refusal::unimplemented("Field.ttl_config"));
    }
    let admin::field::IndexConfig {
        indexes,
        uses_ancestor_config,
        ancestor_field,
        reverting,
    } = index_config.unwrap_or_default();
    let indexes: Result<Vec<_>, Refusal> = indexes
        .into_iter()
        .enumerate()
        .map(|(position, index)| {
            let place = format!("index_config.indexes[{position}]");
            let (scope, mode, state) = decode_field_index(index, &name, &place)?;
            Ok(FieldIndexState {
                scope,
                mode,
                state: decode_state(state)?,
            })
        })
        .collect();
    Ok(FieldResource {
        indexes: indexes?,
        uses_ancestor: uses_ancestor_config,
        ancestor: match ancestor_field.as_str() {
            "" => None,
            text => Some(decode_field_name(text)?),
        },
        reverting,
        name,
    })
}

/// The parts of an index that only one value is known of are checked here; the rest is handed on:
/// name, fields, scope, state.
fn open_index(
    index: admin::Index,
    place: &str,
) -> Result<(String, Vec<admin::index::IndexField>, IndexScope, i32), Refusal> {
    use admin::index::{ApiScope, Density, QueryScope};
    let admin::Index {
        name,
        query_scope,
        api_scope,
        fields,
        state,
        density,
        multikey,
        shard_count,
        unique,
        search_index_options,
    } = index;
    let unknown = |what: &str, number: i32| {
        Refusal::invalid(format!("{place}.{what} has no value {number}."))
    };
    let scope = match QueryScope::try_from(query_scope) {
        Ok(QueryScope::Unspecified) => {
            return Err(Refusal::invalid(format!(
                "{place}.query_scope must be COLLECTION or COLLECTION_GROUP."
            )));
        }
        Ok(QueryScope::Collection) => IndexScope::Collection,
        Ok(QueryScope::CollectionGroup) => IndexScope::CollectionGroup,
        Ok(QueryScope::CollectionRecursive) => {
            return Err(Refusal::unimplemented(
                "Index.query_scope COLLECTION_RECURSIVE",
            ));
        }
        Err(_) => return Err(unknown("query_scope", query_scope)),
    };
    match ApiScope::try_from(api_scope) {
        Ok(ApiScope::AnyApi) => {}
        Ok(other @ (ApiScope::DatastoreModeApi | ApiScope::MongodbCompatibleApi)) => {
            let name = format!("Index.api_scope {}", other.as_str_name());
            return Err(Refusal::unimplemented(name));
        }
        Err(_) => return Err(unknown("api_scope", api_scope)),
    }
    match Density::try_from(density) {
        Ok(Density::Unspecified | Density::SparseAll) => {}
        Ok(other @ (Density::SparseAny | Density::Dense)) => {
            let name = format!("Index.density {}", other.as_str_name());
            return Err(Refusal::unimplemented(name));
        }
        Err(_) => return Err(unknown("density", density)),
    }
    if multikey {
        return Err(Refusal::unimplemented("Index.multikey"));
    }
    if shard_count != 0 {
        return Err(Refusal::unimplemented("Index.shard_count"));
    }
    if unique {
        return Err(Refusal::unimplemented("Index.unique"));
    }
    if search_index_options.is_some() {
        return Err(Refusal::unimplemented("Index.search_index_options"));
    }
    Ok((name, fields, scope, state))
}

/// An index of one field, which may be named again, or `*`, or left out.
fn decode_field_index(
    index: admin::Index,
    field: &FieldName,
    place: &str,
) -> Result<(IndexScope, IndexMode, i32), Refusal> {
    let (_, fields, scope, state) = open_index(index, place)?;
    let Ok(
        [
            admin::index::IndexField {
                field_path,
                value_mode,
            },
        ],
    ) = <[_; 1]>::try_from(fields)
    else {
        return Err(Refusal::invalid(format!(
            "{place}.fields must be one: this field."
        )));
    };
    let place = format!("{place}.fields[0]");
    if !field_path.is_empty() && field_path != ALL_FIELDS {
        let path = FieldPath::parse(&field_path)
            .map_err(|invalid| Refusal::invalid(format!("{place}.field_path: {invalid}")))?;
        if field.path.as_ref() != Some(&path) {
            return Err(Refusal::invalid(format!(
                "{place}.field_path is {path}, which is not the field of {field}."
            )));
        }
    }
    match decode_mode(value_mode, &place)? {
        IndexMode::Vector { .. } => Err(Refusal::invalid(format!(
            "{place}.vector_config: a field has no vector index by itself; use CreateIndex."
        ))),
        mode @ (IndexMode::Ascending | IndexMode::Descending | IndexMode::Contains) => {
            Ok((scope, mode, state))
        }
    }
}

fn decode_mode(
    mode: Option<admin::index::index_field::ValueMode>,
    place: &str,
) -> Result<IndexMode, Refusal> {
    use admin::index::index_field::vector_config::{FlatIndex, Type};
    use admin::index::index_field::{ArrayConfig, Order, ValueMode, VectorConfig};
    let unset = || {
        Refusal::invalid(format!(
            "{place} must have an order, an array_config or a vector_config."
        ))
    };
    match mode.ok_or_else(unset)? {
        ValueMode::Order(order) => match Order::try_from(order) {
            Ok(Order::Unspecified) => Err(unset()),
            Ok(Order::Ascending) => Ok(IndexMode::Ascending),
            Ok(Order::Descending) => Ok(IndexMode::Descending),
            Err(_) => Err(Refusal::invalid(format!(
                "{place}.order has no value {order}."
            ))),
        },
        ValueMode::ArrayConfig(array) => match ArrayConfig::try_from(array) {
            Ok(ArrayConfig::Unspecified) => Err(unset()),
            Ok(ArrayConfig::Contains) => Ok(IndexMode::Contains),
            Err(_) => Err(Refusal::invalid(format!(
                "{place}.array_config has no value {array}."
            ))),
        },
        ValueMode::VectorConfig(VectorConfig { dimension, r#type }) => {
            // Flat is the only kind there is.
            match r#type {
                None | Some(Type::Flat(FlatIndex {})) => {}
            }
            match u32::try_from(dimension) {
                Ok(dimension) if dimension > 0 && dimension as usize <= VECTOR_DIMENSIONS_MAX => {
                    Ok(IndexMode::Vector { dimension })
                }
                _ => Err(Refusal::invalid(format!(
                    "{place}.vector_config.dimension must be between 1 and {VECTOR_DIMENSIONS_MAX}, but is {dimension}."
                ))),
            }
        }
        ValueMode::SearchConfig(_) => Err(Refusal::unimplemented("IndexField.search_config")),
    }
}

fn decode_state(state: i32) -> Result<IndexState, Refusal> {
    use admin::index::State;
    match State::try_from(state) {
        Ok(State::Creating) => Ok(IndexState::Creating),
        Ok(State::Ready) => Ok(IndexState::Ready),
        Ok(State::NeedsRepair) => Ok(IndexState::NeedsRepair),
        Ok(State::Unspecified) | Err(_) => Err(Refusal::invalid(format!(
            "index.state has no value {state}."
        ))),
    }
}

/// An index to ask for, or within another message.
pub fn encode_index_shape(shape: &IndexShape) -> admin::Index {
    let fields = shape
        .fields
        .iter()
        .map(|(path, mode)| encode_index_field(path.to_string(), *mode));
    encode_index(shape.scope, fields.collect())
}

/// An index as the server tells it.
pub fn encode_index_resource(index: &IndexResource) -> admin::Index {
    use admin::index::Density;
    admin::Index {
        name: index.name.to_string(),
        state: encode_state(index.state),
        density: Density::SparseAll.into(),
        ..encode_index_shape(&index.shape)
    }
}

/// A request to change the indexes of a field.
pub fn encode_update_field(update: &FieldUpdate) -> admin::UpdateFieldRequest {
    let config = update
        .indexes
        .as_ref()
        .map(|indexes| admin::field::IndexConfig {
            indexes: indexes
                .iter()
                .map(|(scope, mode)| encode_field_index(&update.name, *scope, *mode))
                .collect(),
            ..admin::field::IndexConfig::default()
        });
    admin::UpdateFieldRequest {
        field: Some(admin::Field {
            name: update.name.to_string(),
            index_config: config,
            ttl_config: None,
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["index_config".to_owned()],
        }),
    }
}

/// A field as the server tells it.
pub fn encode_field_resource(field: &FieldResource) -> admin::Field {
    let FieldResource {
        name,
        indexes,
        uses_ancestor,
        ancestor,
        reverting,
    } = field;
    let indexes = indexes.iter().map(|index| admin::Index {
        state: encode_state(index.state),
        ..encode_field_index(name, index.scope, index.mode)
    });
    admin::Field {
        name: name.to_string(),
        index_config: Some(admin::field::IndexConfig {
            indexes: indexes.collect(),
            uses_ancestor_config: *uses_ancestor,
            ancestor_field: ancestor
                .as_ref()
                .map(FieldName::to_string)
                .unwrap_or_default(),
            reverting: *reverting,
        }),
        ttl_config: None,
    }
}

fn encode_index(scope: IndexScope, fields: Vec<admin::index::IndexField>) -> admin::Index {
    use admin::index::QueryScope;
    let scope = match scope {
        IndexScope::Collection => QueryScope::Collection,
        IndexScope::CollectionGroup => QueryScope::CollectionGroup,
    };
    admin::Index {
        query_scope: scope.into(),
        fields,
        ..admin::Index::default()
    }
}

fn encode_field_index(field: &FieldName, scope: IndexScope, mode: IndexMode) -> admin::Index {
    let path = field
        .path
        .as_ref()
        .map_or_else(|| ALL_FIELDS.to_owned(), FieldPath::to_string);
    encode_index(scope, vec![encode_index_field(path, mode)])
}

fn encode_index_field(field_path: String, mode: IndexMode) -> admin::index::IndexField {
    use admin::index::index_field::vector_config::{FlatIndex, Type};
    use admin::index::index_field::{ArrayConfig, Order, ValueMode, VectorConfig};
    let mode = match mode {
        IndexMode::Ascending => ValueMode::Order(Order::Ascending.into()),
        IndexMode::Descending => ValueMode::Order(Order::Descending.into()),
        IndexMode::Contains => ValueMode::ArrayConfig(ArrayConfig::Contains.into()),
        IndexMode::Vector { dimension } => ValueMode::VectorConfig(VectorConfig {
            dimension: i32::try_from(dimension).unwrap_or(i32::MAX),
            r#type: Some(Type::Flat(FlatIndex {})),
        }),
    };
    admin::index::IndexField {
        field_path,
        value_mode: Some(mode),
    }
}

fn encode_state(state: IndexState) -> i32 {
    use admin::index::State;
    let state = match state {
        IndexState::Creating => State::Creating,
        IndexState::Ready => State::Ready,
        IndexState::NeedsRepair => State::NeedsRepair,
    };
    state.into()
}

/// An operation as the server tells it. One that succeeded answers with its index or field, one that
/// was cancelled with that error.
pub fn encode_operation(operation: &OperationResource) -> longrunning::Operation {
    use longrunning::operation::Result as Outcome;
    let OperationResource {
        name,
        subject,
        state,
        started,
        ended,
        documents_done,
        documents_estimated,
    } = operation;
    let start_time = Some(encode_timestamp(*started));
    let end_time = ended.map(encode_timestamp);
    let progress_documents = Some(admin::Progress {
        estimated_work: i64::try_from(*documents_estimated).unwrap_or(i64::MAX),
        completed_work: i64::try_from(*documents_done).unwrap_or(i64::MAX),
    });
    let wire_state = match state {
        OperationState::Processing => admin::OperationState::Processing,
        OperationState::Successful => admin::OperationState::Successful,
        OperationState::Cancelled => admin::OperationState::Cancelled,
    };
    let (metadata, response) = match subject {
        OperationSubject::Index(index) => {
            let metadata = admin::IndexOperationMetadata {
                start_time,
                end_time,
                index: index.name.to_string(),
                state: wire_state.into(),
                progress_documents,
                progress_bytes: None,
            };
            (
                any(INDEX_METADATA_TYPE, &metadata),
                any(INDEX_TYPE, &encode_index_resource(index)),
            )
        }
        OperationSubject::Field {
            field,
            added,
            removed,
        } => {
            use admin::field_operation_metadata::IndexConfigDelta;
            use admin::field_operation_metadata::index_config_delta::ChangeType;
            let delta =
                |change: ChangeType, (scope, mode): &(IndexScope, IndexMode)| IndexConfigDelta {
                    change_type: change.into(),
                    index: Some(encode_field_index(&field.name, *scope, *mode)),
                };
            let added = added.iter().map(|index| delta(ChangeType::Add, index));
            let removed = removed.iter().map(|index| delta(ChangeType::Remove, index));
            let metadata = admin::FieldOperationMetadata {
                start_time,
                end_time,
                field: field.name.to_string(),
                index_config_deltas: added.chain(removed).collect(),
                state: wire_state.into(),
                progress_documents,
                progress_bytes: None,
                ttl_config_delta: None,
            };
            (
                any(FIELD_METADATA_TYPE, &metadata),
                any(FIELD_TYPE, &encode_field_resource(field)),
            )
        }
    };
    let result = match state {
        OperationState::Processing => None,
        OperationState::Successful => Some(Outcome::Response(response)),
        OperationState::Cancelled => Some(Outcome::Error(encode_status(
            Code::Cancelled,
            "The operation was cancelled.",
        ))),
    };
    longrunning::Operation {
        name: name.to_string(),
        metadata: Some(metadata),
        done: result.is_some(),
        result,
    }
}

/// Reads how far an operation is. One of a kind that is not known here has no numbers.
pub fn decode_operation_progress(
    operation: longrunning::Operation,
) -> Result<OperationProgress, Refusal> {
    use longrunning::operation::Result as Outcome;
    let longrunning::Operation {
        name,
        metadata,
        done,
        result,
    } = operation;
    let Any { type_url, value } = metadata.unwrap_or_default();
    let bytes = value.as_slice();
    let unreadable =
        |error: prost::DecodeError| Refusal::invalid(format!("{name}: metadata: {error}"));
    let progress = match type_url.as_str() {
        INDEX_METADATA_TYPE => {
            admin::IndexOperationMetadata::decode(bytes)
                .map_err(unreadable)?
                .progress_documents
        }
        FIELD_METADATA_TYPE => {
            admin::FieldOperationMetadata::decode(bytes)
                .map_err(unreadable)?
                .progress_documents
        }
        _ => None,
    };
    let admin::Progress {
        estimated_work,
        completed_work,
    } = progress.unwrap_or_default();
    let failure = match result {
        Some(Outcome::Error(pb::Status {
            code: _,
            message,
            details: _,
        })) => Some(message),
        Some(Outcome::Response(_)) | None => None,
    };
    Ok(OperationProgress {
        name,
        done,
        failure,
        documents_done: u64::try_from(completed_work).unwrap_or(0),
        documents_estimated: u64::try_from(estimated_work).unwrap_or(0),
    })
}

fn any(type_url: &str, message: &impl Message) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value: message.encode_to_vec(),
    }
}

#[cfg(test)]
mod tests;
