//! The front for the administration of indexes: decode, one call of a service, encode.
//!
//! The same rules as in `grpc`: what is asked for is honoured or refused by its name.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use watchfire_engine::definition::{Definition, IndexId};
use watchfire_engine::index::catalog::{
    Catalog, FieldKey, Index, IndexState, Operation, OperationId, OperationState, OperationTarget,
};
use watchfire_model::{DatabaseName, Value};
use watchfire_wire::admin::{
    FieldIndexState, FieldName, FieldResource, FieldUpdate, GroupName, IndexResource,
    OperationResource, OperationSubject, decode_field_name, decode_fields_parent,
    decode_group_name, decode_index_name, decode_index_shape, decode_operation_name,
    decode_update_field, encode_field_resource, encode_index_resource, encode_operation,
};
use watchfire_wire::pb::admin::firestore_admin_server::{FirestoreAdmin, FirestoreAdminServer};
use watchfire_wire::pb::longrunning::operations_server::{Operations, OperationsServer};
use watchfire_wire::pb::{admin, longrunning};

use crate::databases::{Database, Databases};
use crate::error::Error;
use crate::front::page_token;
use crate::indexes::words::{asked_definition, field_index, shape, wire_field_index};
use crate::service::indexes::{self, FieldView, FieldsOf, OPERATION_WAIT_MAX, OperationView, Page};
use crate::service::list::page_len;
use crate::status::REQUEST_SIZE_MAX;

/// The service that defines indexes, for the transport.
pub fn service(databases: Arc<Databases>) -> FirestoreAdminServer<Admin> {
    FirestoreAdminServer::new(methods(databases)).max_decoding_message_size(REQUEST_SIZE_MAX)
}

/// The service that follows operations, for the transport. Waiting ends when `shutdown` is cancelled.
pub fn operations(
    databases: Arc<Databases>,
    shutdown: CancellationToken,
) -> OperationsServer<LongRunning> {
    OperationsServer::new(operation_methods(databases, shutdown))
        .max_decoding_message_size(REQUEST_SIZE_MAX)
}

/// The methods on indexes alone, for fronts of other protocols.
pub fn methods(databases: Arc<Databases>) -> Admin {
    Admin { databases }
}

/// The methods on operations alone, likewise.
pub fn operation_methods(databases: Arc<Databases>, shutdown: CancellationToken) -> LongRunning {
    LongRunning {
        databases,
        shutdown,
    }
}

/// The methods on indexes and fields.
pub struct Admin {
    databases: Arc<Databases>,
}

/// The methods on operations.
pub struct LongRunning {
    databases: Arc<Databases>,
    shutdown: CancellationToken,
}

#[tonic::async_trait]
impl FirestoreAdmin for Admin {
    async fn create_index(
        &self,
        request: Request<admin::CreateIndexRequest>,
    ) -> Result<Response<longrunning::Operation>, Status> {
        let admin::CreateIndexRequest { parent, index } = request.into_inner();
        let GroupName { database, group } = decode_group_name(&parent).map_err(Error::from)?;
        let group = group.ok_or_else(|| {
            Error::invalid("An index belongs to one collection group; the parent must name it.")
        })?;
        let index = index.ok_or_else(|| Error::invalid("index must be set."))?;
        let shape = decode_index_shape(index).map_err(Error::from)?;
        let definition = asked_definition(group, shape).map_err(Error::from)?;
        let database = self.databases.get(&database).await?;
        let started = indexes::create(&database, definition).await?;
        Ok(Response::new(encode_view(&database, started)))
    }

    async fn list_indexes(
        &self,
        request: Request<admin::ListIndexesRequest>,
    ) -> Result<Response<admin::ListIndexesResponse>, Status> {
        let admin::ListIndexesRequest {
            parent,
            filter,
            page_size,
            page_token,
        } = request.into_inner();
        if !filter.is_empty() {
            return Err(Error::unsupported("ListIndexesRequest.filter").into());
        }
        let GroupName { database, group } = decode_group_name(&parent).map_err(Error::from)?;
        let bound_to = ["indexes", parent.as_str()];
        let after = position(&bound_to, &page_token, IndexId::parse)?;
        let len = page_len(page_size)?;
        let database = self.databases.get(&database).await?;
        let Page { entries, more } = indexes::list(&database, group.as_deref(), after, len).await?;
        let last = entries.last().map(|index| index.id.to_string());
        Ok(Response::new(admin::ListIndexesResponse {
            indexes: entries
                .iter()
                .map(|index| encode_index_resource(&index_resource(&database, index)))
                .collect(),
            next_page_token: next_token(&bound_to, last.filter(|_| more)),
        }))
    }

    async fn get_index(
        &self,
        request: Request<admin::GetIndexRequest>,
    ) -> Result<Response<admin::Index>, Status> {
        let admin::GetIndexRequest { name } = request.into_inner();
        let name = decode_index_name(&name).map_err(Error::from)?;
        let database = self.databases.get(&name.database).await?;
        let index = indexes::index(&database, &name).await?;
        let index = index_resource(&database, &index);
        Ok(Response::new(encode_index_resource(&index)))
    }

    async fn delete_index(
        &self,
        request: Request<admin::DeleteIndexRequest>,
    ) -> Result<Response<()>, Status> {
        let admin::DeleteIndexRequest { name } = request.into_inner();
        let name = decode_index_name(&name).map_err(Error::from)?;
        let database = self.databases.get(&name.database).await?;
        indexes::delete(&database, &name).await?;
        Ok(Response::new(()))
    }

    async fn get_field(
        &self,
        request: Request<admin::GetFieldRequest>,
    ) -> Result<Response<admin::Field>, Status> {
        let admin::GetFieldRequest { name } = request.into_inner();
        let name = decode_field_name(&name).map_err(Error::from)?;
        let (database, key) = field_key(name);
        let database = self.databases.get(&database).await?;
        let field = indexes::field(&database, &key).await?;
        let field = field_resource(&database, field);
        Ok(Response::new(encode_field_resource(&field)))
    }

    async fn update_field(
        &self,
        request: Request<admin::UpdateFieldRequest>,
    ) -> Result<Response<longrunning::Operation>, Status> {
        let FieldUpdate { name, indexes } =
            decode_update_field(request.into_inner()).map_err(Error::from)?;
        let (database, key) = field_key(name);
        let indexes = indexes.map(|indexes| indexes.into_iter().map(field_index).collect());
        let database = self.databases.get(&database).await?;
        let started = indexes::update_field(&database, key, indexes).await?;
        Ok(Response::new(encode_view(&database, started)))
    }

    async fn list_fields(
        &self,
        request: Request<admin::ListFieldsRequest>,
    ) -> Result<Response<admin::ListFieldsResponse>, Status> {
        let admin::ListFieldsRequest {
            parent,
            filter,
            page_size,
            page_token,
        } = request.into_inner();
        let overridden = asks_for_overridden(&filter)?;
        let (GroupName { database, group }, all_collections) =
            decode_fields_parent(&parent).map_err(Error::from)?;
        let of = match group {
            Some(group) => FieldsOf::Group(group),
            None if all_collections => FieldsOf::AllCollections,
            None => FieldsOf::Everything,
        };
        let bound_to = ["fields", parent.as_str(), filter.as_str()];
        let after = position(&bound_to, &page_token, |text| {
            decode_field_name(text).ok().map(|name| field_key(name).1)
        })?;
        let len = page_len(page_size)?;
        let database = self.databases.get(&database).await?;
        if !overridden {
            // Only fields with a time to live: there are none.
            return Ok(Response::new(admin::ListFieldsResponse::default()));
        }
        let Page { entries, more } =
            indexes::list_fields(&database, &of, after.as_ref(), len).await?;
        let last = entries
            .last()
            .map(|field| indexes::field_name(&database, field.key.clone()).to_string());
        Ok(Response::new(admin::ListFieldsResponse {
            fields: entries
                .into_iter()
                .map(|field| encode_field_resource(&field_resource(&database, field)))
                .collect(),
            next_page_token: next_token(&bound_to, last.filter(|_| more)),
        }))
    }
}

#[tonic::async_trait]
impl Operations for LongRunning {
    async fn list_operations(
        &self,
        request: Request<longrunning::ListOperationsRequest>,
    ) -> Result<Response<longrunning::ListOperationsResponse>, Status> {
        let longrunning::ListOperationsRequest {
            filter,
            page_size,
            page_token,
            name,
            // All parts can be reached.
            return_partial_success: _,
        } = request.into_inner();
        if !filter.is_empty() {
            return Err(Error::unsupported("ListOperationsRequest.filter").into());
        }
        // Some clients name the collection of operations instead of the database.
        let database = name.strip_suffix("/operations").unwrap_or(&name);
        let database = DatabaseName::parse(database).map_err(Error::from)?;
        let bound_to = ["operations", name.as_str()];
        let after = position(&bound_to, &page_token, |text| {
            IndexId::parse(text).map(|id| OperationId(id.0))
        })?;
        let len = page_len(page_size)?;
        let database = self.databases.get(&database).await?;
        let (Page { entries, more }, catalog) = indexes::operations(&database, after, len).await?;
        let last = entries
            .last()
            .map(|operation| indexes::operation_name(&database, operation.id).id);
        let encoded: Vec<longrunning::Operation> = entries
            .into_iter()
            .filter_map(|operation| operation_resource(&database, operation, &catalog))
            .map(|operation| encode_operation(&operation))
            .collect();
        Ok(Response::new(longrunning::ListOperationsResponse {
            operations: encoded,
            next_page_token: next_token(&bound_to, last.filter(|_| more)),
            unreachable: Vec::new(),
        }))
    }

    async fn get_operation(
        &self,
        request: Request<longrunning::GetOperationRequest>,
    ) -> Result<Response<longrunning::Operation>, Status> {
        let longrunning::GetOperationRequest { name } = request.into_inner();
        let name = decode_operation_name(&name).map_err(Error::from)?;
        let database = self.databases.get(&name.database).await?;
        let found = indexes::operation(&database, &name).await?;
        Ok(Response::new(encode_view(&database, found)))
    }

    async fn delete_operation(
        &self,
        request: Request<longrunning::DeleteOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let longrunning::DeleteOperationRequest { name } = request.into_inner();
        let name = decode_operation_name(&name).map_err(Error::from)?;
        let database = self.databases.get(&name.database).await?;
        indexes::forget(&database, &name).await?;
        Ok(Response::new(()))
    }

    async fn cancel_operation(
        &self,
        request: Request<longrunning::CancelOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let longrunning::CancelOperationRequest { name } = request.into_inner();
        let name = decode_operation_name(&name).map_err(Error::from)?;
        let database = self.databases.get(&name.database).await?;
        indexes::cancel(&database, &name).await?;
        Ok(Response::new(()))
    }

    async fn wait_operation(
        &self,
        request: Request<longrunning::WaitOperationRequest>,
    ) -> Result<Response<longrunning::Operation>, Status> {
        let longrunning::WaitOperationRequest { name, timeout } = request.into_inner();
        let time = match timeout {
            None => OPERATION_WAIT_MAX,
            Some(timeout) => Duration::try_from(timeout)
                .map_err(|_| Error::invalid("timeout must not be negative."))?,
        };
        let name = decode_operation_name(&name).map_err(Error::from)?;
        let database = self.databases.get(&name.database).await?;
        let found = indexes::wait(&database, &name, time, &self.shutdown).await?;
        Ok(Response::new(encode_view(&database, found)))
    }
}

/// Whether a listing of fields wants those with indexes of their own. Tools ask for them, for those with a
/// time to live, or for either.
fn asks_for_overridden(filter: &str) -> Result<bool, Error> {
    if filter.trim().is_empty() {
        return Err(Error::invalid(
            "filter must be set: only fields with a configuration of their own can be listed, with indexConfig.usesAncestorConfig:false or ttlConfig:*.",
        ));
    }
    let mut overridden = false;
    for part in filter.split(" OR ") {
        let part: String = part.chars().filter(|c| !c.is_whitespace()).collect();
        match part.as_str() {
            "indexConfig.usesAncestorConfig:false"
            | "indexConfig.usesAncestorConfig=false"
            | "index_config.uses_ancestor_config:false"
            | "index_config.uses_ancestor_config=false" => overridden = true,
            "ttlConfig:*" | "ttl_config:*" => {}
            _ => {
                return Err(Error::unsupported(&format!(
                    "ListFieldsRequest.filter \"{filter}\""
                )));
            }
        }
    }
    Ok(overridden)
}

/// Where the page before ended.
fn position<T>(
    bound_to: &[&str],
    token: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Error> {
    let invalid = || Error::invalid("Invalid page token.");
    match page_token::decode(bound_to, token)?.as_deref() {
        None => Ok(None),
        Some([Value::String(text)]) => read(text).map(Some).ok_or_else(invalid),
        Some(_) => Err(invalid()),
    }
}

fn next_token(bound_to: &[&str], last: Option<String>) -> String {
    last.map_or_else(String::new, |last| {
        page_token::encode(bound_to, &[Value::String(last)])
    })
}

fn field_key(name: FieldName) -> (DatabaseName, FieldKey) {
    let FieldName {
        database,
        group,
        path,
    } = name;
    (database, FieldKey { group, path })
}

fn index_resource(database: &Database, index: &Index) -> IndexResource {
    let ready = match index.state {
        IndexState::Creating => false,
        IndexState::Ready => true,
        // Never listed: its name is as good as gone.
        IndexState::Deleting => false,
    };
    defined_resource(database, index.id, &index.definition, ready)
}

fn defined_resource(
    database: &Database,
    id: IndexId,
    definition: &Definition,
    ready: bool,
) -> IndexResource {
    IndexResource {
        name: indexes::index_name(database, definition.group().to_owned(), id),
        shape: shape(definition),
        state: wire_state(ready),
    }
}

fn wire_state(ready: bool) -> watchfire_wire::admin::IndexState {
    if ready {
        watchfire_wire::admin::IndexState::Ready
    } else {
        watchfire_wire::admin::IndexState::Creating
    }
}

fn field_resource(database: &Database, field: FieldView) -> FieldResource {
    let FieldView {
        key,
        indexes,
        uses_ancestor,
        ancestor,
        reverting,
    } = field;
    let indexes = indexes.into_iter().map(|(index, ready)| {
        let (scope, mode) = wire_field_index(index);
        FieldIndexState {
            scope,
            mode,
            state: wire_state(ready),
        }
    });
    FieldResource {
        name: indexes::field_name(database, key),
        indexes: indexes.collect(),
        uses_ancestor,
        ancestor: ancestor.map(|key| indexes::field_name(database, key)),
        reverting,
    }
}

/// Operations that only remove entries are not shown: for these there is no answer.
fn operation_resource(
    database: &Database,
    operation: Operation,
    catalog: &Catalog,
) -> Option<OperationResource> {
    let Operation {
        id,
        target,
        state,
        started,
        ended,
        documents_done,
        documents_estimated,
        position: _,
    } = operation;
    let subject = match target {
        OperationTarget::Create { index, definition } => {
            let ready = state == OperationState::Successful;
            OperationSubject::Index(defined_resource(database, index, &definition, ready))
        }
        OperationTarget::Delete { index: _ } => return None,
        OperationTarget::Field {
            key,
            added,
            removed,
        } => OperationSubject::Field {
            field: field_resource(database, indexes::view_field(catalog, &key)),
            added: added.into_iter().map(wire_field_index).collect(),
            removed: removed.into_iter().map(wire_field_index).collect(),
        },
    };
    Some(OperationResource {
        name: indexes::operation_name(database, id),
        subject,
        state: match state {
            OperationState::Processing => watchfire_wire::admin::OperationState::Processing,
            OperationState::Successful => watchfire_wire::admin::OperationState::Successful,
            OperationState::Cancelled => watchfire_wire::admin::OperationState::Cancelled,
        },
        started,
        ended,
        documents_done,
        documents_estimated,
    })
}

fn encode_view(database: &Database, found: OperationView) -> longrunning::Operation {
    let OperationView { operation, catalog } = found;
    operation_resource(database, operation, &catalog)
        .map(|operation| encode_operation(&operation))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_tools_send() {
        for filter in [
            "indexConfig.usesAncestorConfig:false",
            "indexConfig.usesAncestorConfig=false OR ttlConfig:*",
            "ttlConfig:* OR index_config.uses_ancestor_config = false",
        ] {
            assert!(asks_for_overridden(filter).unwrap(), "{filter}");
        }
        assert!(!asks_for_overridden("ttlConfig:*").unwrap());
        for filter in ["", "name:a", "indexConfig.usesAncestorConfig:true"] {
            assert!(asks_for_overridden(filter).is_err(), "{filter}");
        }
    }
}
