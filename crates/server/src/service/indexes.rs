//! Indexes, the configurations of fields, and the operations that work on them.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use watchfire_engine::Error as EngineError;
use watchfire_engine::definition::{Definition, IndexId};
use watchfire_engine::index::catalog::{
    Catalog, FieldConfig, FieldIndex, FieldKey, Index, Operation, OperationId, OperationState,
    OperationTarget,
};
use watchfire_model::FieldPath;
use watchfire_wire::admin::{FieldName, IndexName, OperationName};

use crate::databases::Database;
use crate::error::Error;
use crate::indexes::set::{built_in, modes};

/// How often somebody who waits for an operation looks at it.
const OPERATION_INTERVAL: Duration = Duration::from_millis(50);

/// The longest time that one call waits for an operation; callers ask again.
pub const OPERATION_WAIT_MAX: Duration = Duration::from_secs(60);

/// A field's configuration, whosever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldView {
    pub key: FieldKey,
    /// Each with whether it can be used.
    pub indexes: Vec<(FieldIndex, bool)>,
    /// It has none of its own.
    pub uses_ancestor: bool,
    /// Whose it has, or would have; `None` for the fields of all collections.
    pub ancestor: Option<FieldKey>,
    pub reverting: bool,
}

/// An operation, and how the field that it works on looks now, if it is one.
pub struct OperationView {
    pub operation: Operation,
    /// The catalogue at that moment.
    pub catalog: Arc<Catalog>,
}

/// Some of a listing, and whether it goes on behind the last one.
pub struct Page<T> {
    pub entries: Vec<T>,
    pub more: bool,
}

impl<T> Page<T> {
    fn take(entries: impl Iterator<Item = T>, len: usize) -> Self {
        let mut entries: Vec<T> = entries.take(len.saturating_add(1)).collect();
        let more = entries.len() > len;
        entries.truncate(len);
        Self { entries, more }
    }
}

/// Which fields are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldsOf {
    /// All.
    Everything,
    /// Those that stand for the fields of all collections.
    AllCollections,
    /// Those of one collection group.
    Group(String),
}

/// Defines an index.
pub async fn create(database: &Database, definition: Definition) -> Result<OperationView, Error> {
    let group = definition.group().to_owned();
    match database.engine.create_index(definition).await {
        Ok(id) => started(database, id).await,
        Err(EngineError::IndexExists(id)) => Err(Error::IndexExists {
            name: index_name(database, group, id).to_string(),
        }),
        Err(error) => Err(error.into()),
    }
}

/// One index.
pub async fn index(database: &Database, name: &IndexName) -> Result<Index, Error> {
    let catalog = database.engine.catalog().await?;
    IndexId::parse(&name.id)
        .and_then(|id| catalog.index(id))
        .filter(|index| index.definition.group() == name.group)
        .cloned()
        .ok_or_else(|| no_such_index(name))
}

/// Deletes an index, built or not.
pub async fn delete(database: &Database, name: &IndexName) -> Result<(), Error> {
    let id = index(database, name).await?.id;
    match database.engine.delete_index(id).await {
        Ok(()) => Ok(()),
        Err(EngineError::NoSuch(_)) => Err(no_such_index(name)),
        Err(error) => Err(error.into()),
    }
}

/// Indexes in order of their ids, of one collection group or of all.
pub async fn list(
    database: &Database,
    group: Option<&str>,
    after: Option<IndexId>,
    len: usize,
) -> Result<Page<Index>, Error> {
    let catalog = database.engine.catalog().await?;
    let indexes = catalog
        .indexes()
        .filter(|index| group.is_none_or(|group| index.definition.group() == group))
        .filter(|index| after.is_none_or(|after| index.id > after));
    Ok(Page::take(indexes.cloned(), len))
}

/// One field; there is none that has no configuration.
pub async fn field(database: &Database, key: &FieldKey) -> Result<FieldView, Error> {
    let catalog = database.engine.catalog().await?;
    Ok(view_field(&catalog, key))
}

/// Gives fields a configuration of their own, or takes it back.
pub async fn update_field(
    database: &Database,
    key: FieldKey,
    indexes: Option<Vec<FieldIndex>>,
) -> Result<OperationView, Error> {
    let id = database.engine.update_field(key, indexes).await?;
    started(database, id).await
}

/// Fields that have no ancestor's configuration, in the order of their keys. The fields of all collections
/// always are such.
pub async fn list_fields(
    database: &Database,
    of: &FieldsOf,
    after: Option<&FieldKey>,
    len: usize,
) -> Result<Page<FieldView>, Error> {
    let catalog = database.engine.catalog().await?;
    let topmost = FieldKey {
        group: None,
        path: None,
    };
    // It sorts before every other one.
    let keys = std::iter::once(&topmost)
        .chain(
            catalog
                .fields()
                .map(|(key, _)| key)
                .filter(|key| **key != topmost),
        )
        .filter(|key| match of {
            FieldsOf::Everything => true,
            FieldsOf::AllCollections => key.group.is_none(),
            FieldsOf::Group(group) => key.group.as_ref() == Some(group),
        })
        .filter(|key| after.is_none_or(|after| *key > after));
    let Page { entries, more } = Page::take(keys, len);
    Ok(Page {
        entries: entries
            .into_iter()
            .map(|key| view_field(&catalog, key))
            .collect(),
        more,
    })
}

/// One operation.
pub async fn operation(database: &Database, name: &OperationName) -> Result<OperationView, Error> {
    let id = operation_id(name)?;
    let catalog = database.engine.catalog().await?;
    find_operation(catalog, id).ok_or_else(|| no_such_operation(name))
}

/// Operations, oldest first, with the catalogue at that moment.
pub async fn operations(
    database: &Database,
    after: Option<OperationId>,
    len: usize,
) -> Result<(Page<Operation>, Arc<Catalog>), Error> {
    let catalog = database.engine.catalog().await?;
    let operations = catalog
        .operations()
        .filter(|operation| is_shown(operation))
        .filter(|operation| after.is_none_or(|after| operation.id > after));
    let page = Page::take(operations.cloned(), len);
    Ok((page, catalog))
}

/// Waits until the operation has ended, the time is over, or the server ends; how it stands then.
pub async fn wait(
    database: &Database,
    name: &OperationName,
    time: Duration,
    shutdown: &CancellationToken,
) -> Result<OperationView, Error> {
    let over = tokio::time::sleep(time.min(OPERATION_WAIT_MAX));
    tokio::pin!(over);
    loop {
        let found = operation(database, name).await?;
        if found.operation.state != OperationState::Processing {
            return Ok(found);
        }
        tokio::select! {
            biased;
            () = &mut over => return Ok(found),
            () = shutdown.cancelled() => return Err(Error::ShuttingDown),
            () = tokio::time::sleep(OPERATION_INTERVAL) => {}
        }
    }
}

/// Stops an operation as far as that is possible.
pub async fn cancel(database: &Database, name: &OperationName) -> Result<(), Error> {
    let done = database.engine.cancel_operation(operation_id(name)?).await;
    done.map_err(|error| named(error, name))
}

/// Forgets an operation that has ended.
pub async fn forget(database: &Database, name: &OperationName) -> Result<(), Error> {
    let done = database.engine.delete_operation(operation_id(name)?).await;
    done.map_err(|error| named(error, name))
}

/// What an index of the database is called.
pub fn index_name(database: &Database, group: String, id: IndexId) -> IndexName {
    IndexName {
        database: database.name.clone(),
        group,
        id: id.to_string(),
    }
}

/// What a field of the database is called.
pub fn field_name(database: &Database, key: FieldKey) -> FieldName {
    let FieldKey { group, path } = key;
    FieldName {
        database: database.name.clone(),
        group,
        path,
    }
}

/// What an operation of the database is called.
pub fn operation_name(database: &Database, id: OperationId) -> OperationName {
    OperationName {
        database: database.name.clone(),
        id: format!("{:x}", id.0),
    }
}

/// How a field looks in a catalogue.
pub fn view_field(catalog: &Catalog, key: &FieldKey) -> FieldView {
    let config = |wanted: &FieldKey| -> Option<&FieldConfig> {
        let mut fields = catalog.fields();
        fields
            .find(|(key, _)| *key == wanted)
            .map(|(_, config)| config)
    };
    let ancestors = ancestors(key);
    let ancestor = ancestors
        .iter()
        .find(|key| config(key).is_some())
        .or(ancestors.last())
        .cloned();
    let own = config(key);
    let deciding = own.or_else(|| ancestor.as_ref().and_then(config));
    let indexes = match deciding {
        Some(config) => config
            .indexes
            .iter()
            .map(|index| (*index, config.usable.contains(modes([index]))))
            .collect(),
        None => built_in().into_iter().map(|index| (index, true)).collect(),
    };
    FieldView {
        key: key.clone(),
        indexes,
        uses_ancestor: own.is_none() && ancestor.is_some(),
        ancestor,
        reverting: own.is_some_and(|config| config.reverting),
    }
}

/// Who decides about a field that has no configuration of its own, the nearest first. None for the topmost.
fn ancestors(key: &FieldKey) -> Vec<FieldKey> {
    let FieldKey { group, path } = key;
    let Some(group) = group else {
        return Vec::new();
    };
    let of_group = |path| FieldKey {
        group: Some(group.clone()),
        path,
    };
    let mut ancestors = Vec::new();
    if let Some(path) = path {
        let segments = path.segments();
        for len in (1..segments.len()).rev() {
            let map = segments.iter().take(len).cloned().collect();
            // A part of a path is a path.
            ancestors.extend(
                FieldPath::from_segments(map)
                    .ok()
                    .map(|map| of_group(Some(map))),
            );
        }
        ancestors.push(of_group(None));
    }
    ancestors.push(FieldKey {
        group: None,
        path: None,
    });
    ancestors
}

async fn started(database: &Database, id: OperationId) -> Result<OperationView, Error> {
    let catalog = database.engine.catalog().await?;
    let name = operation_name(database, id);
    find_operation(catalog, id).ok_or_else(|| no_such_operation(&name))
}

/// Those that only remove entries are nobody's to ask for: there is no answer to them.
fn is_shown(operation: &Operation) -> bool {
    match operation.target {
        OperationTarget::Create { .. } | OperationTarget::Field { .. } => true,
        OperationTarget::Delete { index: _ } => false,
    }
}

fn find_operation(catalog: Arc<Catalog>, id: OperationId) -> Option<OperationView> {
    let operation = catalog
        .operations()
        .find(|operation| operation.id == id && is_shown(operation))
        .cloned()?;
    Some(OperationView { operation, catalog })
}

fn operation_id(name: &OperationName) -> Result<OperationId, Error> {
    // Written as the ids of indexes are.
    IndexId::parse(&name.id)
        .map(|id| OperationId(id.0))
        .ok_or_else(|| no_such_operation(name))
}

fn named(error: EngineError, name: &OperationName) -> Error {
    match error {
        EngineError::NoSuch(_) => no_such_operation(name),
        other => other.into(),
    }
}

fn no_such_index(name: &IndexName) -> Error {
    EngineError::NoSuch(format!("Index \"{name}\" not found.")).into()
}

fn no_such_operation(name: &OperationName) -> Error {
    EngineError::NoSuch(format!("Operation \"{name}\" not found.")).into()
}

#[cfg(test)]
mod tests {
    use watchfire_engine::index::catalog::Modes;

    use super::*;

    fn key(group: Option<&str>, path: Option<&str>) -> FieldKey {
        FieldKey {
            group: group.map(str::to_owned),
            path: path.map(|path| FieldPath::parse(path).unwrap()),
        }
    }

    #[test]
    fn who_decides_about_a_field() {
        let expected = [
            key(Some("c"), Some("a.b")),
            key(Some("c"), Some("a")),
            key(Some("c"), None),
            key(None, None),
        ];
        assert_eq!(ancestors(&key(Some("c"), Some("a.b.x"))), expected);
        assert_eq!(ancestors(&key(Some("c"), None)), [key(None, None)]);
        assert_eq!(ancestors(&key(None, None)), []);
    }

    #[test]
    fn without_a_configuration_the_built_in_one_is_shown() {
        let catalog = Catalog::default();
        let field = view_field(&catalog, &key(Some("c"), Some("a.b")));
        assert!(field.uses_ancestor && !field.reverting);
        assert_eq!(field.ancestor, Some(key(None, None)));
        assert_eq!(field.indexes.len(), 3);
        assert!(field.indexes.iter().all(|(_, ready)| *ready));
        let topmost = view_field(&catalog, &key(None, None));
        assert!(!topmost.uses_ancestor);
        assert_eq!((topmost.ancestor, topmost.indexes), (None, field.indexes));
        assert_eq!(modes(&built_in()), Modes::BUILT_IN);
    }
}
