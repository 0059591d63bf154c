//! The indexes of a running server, over gRPC.

use std::collections::BTreeMap;

use tonic::transport::Channel;
use watchfire_engine::definition::Definition;
use watchfire_engine::index::catalog::{FieldIndex, FieldKey};
use watchfire_model::DatabaseName;
use watchfire_wire::admin::{
    FieldName, FieldUpdate, GroupName, IndexName, IndexState, OperationProgress,
    decode_field_resource, decode_index_resource, decode_operation_progress, encode_index_shape,
    encode_update_field,
};
use watchfire_wire::pb::admin::firestore_admin_client::FirestoreAdminClient;
use watchfire_wire::pb::longrunning::operations_client::OperationsClient;
use watchfire_wire::pb::{admin, longrunning};

use crate::client::connect::{PAGES_MAX, RemoteError, connect};
use crate::config::Asked;
use crate::indexes::set::{IndexSet, built_in};
use crate::indexes::words::{field_index, shape, told_definition, wire_field_index};

/// Only fields with a configuration of their own.
const OVERRIDDEN: &str = "indexConfig.usesAncestorConfig:false";

/// What a database of a server has.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub set: IndexSet,
    /// What each defined index is called.
    pub names: BTreeMap<Definition, IndexName>,
    /// How many of them are not complete yet.
    pub creating: usize,
}

/// One database of a running server.
pub struct RemoteDatabase {
    name: DatabaseName,
    admin: FirestoreAdminClient<Channel>,
    operations: OperationsClient<Channel>,
}

impl RemoteDatabase {
    /// Connects to the server of a database.
    pub async fn connect(server: &Asked, name: DatabaseName) -> Result<Self, RemoteError> {
        let channel = connect(server).await?;
        Ok(Self {
            name,
            admin: FirestoreAdminClient::new(channel.clone()),
            operations: OperationsClient::new(channel),
        })
    }

    /// Everything that is defined. The configuration of all fields counts when it is not the built-in one.
    pub async fn find(&mut self) -> Result<Found, RemoteError> {
        let parent = GroupName {
            database: self.name.clone(),
            group: None,
        }
        .to_string();
        let mut found = Found::default();
        let mut page_token = String::new();
        for _ in 0..PAGES_MAX {
            let request = admin::ListIndexesRequest {
                parent: parent.clone(),
                page_token,
                ..admin::ListIndexesRequest::default()
            };
            let page = self.admin.list_indexes(request).await?.into_inner();
            for index in page.indexes {
                let index = decode_index_resource(index)?;
                found.creating += usize::from(index.state != IndexState::Ready);
                let definition = told_definition(index.name.group.clone(), index.shape)?;
                found.set.indexes.insert(definition.clone());
                found.names.insert(definition, index.name);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return self.find_fields(parent, found).await;
            }
        }
        Err(RemoteError::Endless)
    }

    async fn find_fields(
        &mut self,
        parent: String,
        mut found: Found,
    ) -> Result<Found, RemoteError> {
        let mut page_token = String::new();
        for _ in 0..PAGES_MAX {
            let request = admin::ListFieldsRequest {
                parent: parent.clone(),
                filter: OVERRIDDEN.to_owned(),
                page_token,
                ..admin::ListFieldsRequest::default()
            };
            let page = self.admin.list_fields(request).await?.into_inner();
            for field in page.fields {
                let field = decode_field_resource(field)?;
                if field.uses_ancestor || field.reverting {
                    continue;
                }
                let FieldName {
                    database: _,
                    group,
                    path,
                } = field.name;
                let indexes = field.indexes.iter();
                let indexes = indexes
                    .map(|index| field_index((index.scope, index.mode)))
                    .collect();
                if group.is_some() || indexes != built_in() {
                    found.set.fields.insert(FieldKey { group, path }, indexes);
                }
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(found);
            }
        }
        Err(RemoteError::Endless)
    }

    /// Defines an index.
    pub async fn create(&mut self, index: &Definition) -> Result<OperationProgress, RemoteError> {
        let parent = GroupName {
            database: self.name.clone(),
            group: Some(index.group().to_owned()),
        };
        let request = admin::CreateIndexRequest {
            parent: parent.to_string(),
            index: Some(encode_index_shape(&shape(index))),
        };
        let started = self.admin.create_index(request).await?.into_inner();
        Ok(decode_operation_progress(started)?)
    }

    /// Deletes an index.
    pub async fn delete(&mut self, index: &IndexName) -> Result<(), RemoteError> {
        let request = admin::DeleteIndexRequest {
            name: index.to_string(),
        };
        self.admin.delete_index(request).await?;
        Ok(())
    }

    /// Gives a field indexes of its own, or takes them back.
    pub async fn update(
        &mut self,
        key: &FieldKey,
        indexes: Option<Vec<FieldIndex>>,
    ) -> Result<OperationProgress, RemoteError> {
        let FieldKey { group, path } = key.clone();
        let update = FieldUpdate {
            name: FieldName {
                database: self.name.clone(),
                group,
                path,
            },
            indexes: indexes.map(|indexes| indexes.into_iter().map(wire_field_index).collect()),
        };
        let request: admin::UpdateFieldRequest = encode_update_field(&update);
        let started = self.admin.update_field(request).await?.into_inner();
        Ok(decode_operation_progress(started)?)
    }

    /// How an operation stands.
    pub async fn operation(&mut self, name: &str) -> Result<OperationProgress, RemoteError> {
        let request = longrunning::GetOperationRequest {
            name: name.to_owned(),
        };
        let operation = self.operations.get_operation(request).await?.into_inner();
        Ok(decode_operation_progress(operation)?)
    }
}
