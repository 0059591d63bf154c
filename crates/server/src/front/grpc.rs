//! The gRPC front: decode, one call of a service, encode.
//!
//! Every request is taken apart completely, so that a field added to the protocol stops the build
//! until somebody decides what it means. Labels and request tags are for a caller's own statistics
//! and have no effect; whatever else is not honoured is refused by its name. How the operations
//! behave is said in `service`.

use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};
use watchfire_engine::definition::Scope;
use watchfire_engine::{ConcurrencyMode, Receipt, TransactionId, TransactionOptions};
use watchfire_model::path::parse_parent;
use watchfire_model::{
    CollectionPath, Cursor, DatabaseName, DocumentName, DocumentPath, FieldMask, Parent, Selector,
    Value, Write,
};
use watchfire_wire::consistency::Selector as Selects;
use watchfire_wire::document::encode_document_name;
use watchfire_wire::explain::{QueryScope, encode_explanation};
use watchfire_wire::pb::firestore_server::{Firestore, FirestoreServer};
use watchfire_wire::query::{encode_aggregation_result, encode_cursor};
use watchfire_wire::write::decode_name;
use watchfire_wire::{
    Code, Concurrency, ReadAt, TransactionMode, decode_aggregation_query, decode_mask,
    decode_order_by_text, decode_partition_query, decode_read_at, decode_search,
    decode_transaction_options, decode_write, encode_document, encode_status, encode_timestamp,
    encode_write_result, pb,
};

use crate::auth::Caller;
use crate::databases::Databases;
use crate::error::Error;
use crate::front::listen::ListenFront;
use crate::front::page_token;
use crate::service::list::{self, Listing};
use crate::service::partition::{self, Partitioning, Position};
use crate::service::query::{Explain, Explanation, Found, Part, Search};
use crate::service::read::{self, Consistency};
use crate::service::write_stream::{self, WriteAnswer, WriteMessage};
use crate::service::{commit, query};
use crate::status::REQUEST_SIZE_MAX;

/// The service for the transport. Streams end when `shutdown` is cancelled.
pub fn service(
    databases: Arc<Databases>,
    shutdown: CancellationToken,
) -> ListenFront<FirestoreServer<Grpc>> {
    let service = FirestoreServer::new(methods(Arc::clone(&databases), shutdown.clone()))
        .max_decoding_message_size(REQUEST_SIZE_MAX)
        .max_encoding_message_size(usize::MAX);
    ListenFront::new(service, databases, shutdown)
}

/// The methods alone, for fronts of other protocols.
pub fn methods(databases: Arc<Databases>, shutdown: CancellationToken) -> Grpc {
    Grpc {
        databases,
        shutdown,
    }
}

/// The methods of the protocol.
pub struct Grpc {
    databases: Arc<Databases>,
    shutdown: CancellationToken,
}

#[tonic::async_trait]
impl Firestore for Grpc {
    type BatchGetDocumentsStream = BoxStream<pb::BatchGetDocumentsResponse>;
    type RunQueryStream = BoxStream<pb::RunQueryResponse>;
    type RunAggregationQueryStream = BoxStream<pb::RunAggregationQueryResponse>;
    type ExecutePipelineStream = BoxStream<pb::ExecutePipelineResponse>;
    type WriteStream = BoxStream<pb::WriteResponse>;
    type ListenStream = BoxStream<pb::ListenResponse>;

    async fn get_document(
        &self,
        request: Request<pb::GetDocumentRequest>,
    ) -> Result<Response<pb::Document>, Status> {
        let pb::GetDocumentRequest {
            name,
            mask,
            request_options: _,
            consistency_selector,
        } = request.into_inner();
        let consistency = consistency(consistency_selector)?;
        let name = document_name(&name)?;
        let mask = optional_mask(mask)?;
        let database = self.databases.get(&name.database).await?;
        let document = read::document(&database, name.path, mask.as_ref(), consistency).await?;
        Ok(Response::new(encode_document(&database.name, &document)))
    }

    async fn list_documents(
        &self,
        request: Request<pb::ListDocumentsRequest>,
    ) -> Result<Response<pb::ListDocumentsResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let pb::ListDocumentsRequest {
            parent,
            collection_id,
            page_size,
            page_token,
            order_by,
            mask,
            show_missing,
            request_options: _,
            consistency_selector,
        } = request.into_inner();
        if show_missing && !caller.may_list_names() {
            return Err(Error::OwnersOnly.into());
        }
        let consistency = consistency(consistency_selector)?;
        let bound_to = [
            "documents",
            &parent,
            &collection_id,
            &order_by,
            if show_missing { "missing" } else { "" },
        ];
        let (name, parent) = parent_name(&parent)?;
        let listing = Listing {
            collection: if collection_id.is_empty() {
                None
            } else {
                Some(collection(&parent, &collection_id)?)
            },
            parent,
            order: decode_order_by_text(&order_by).map_err(Error::from)?,
            mask: optional_mask(mask)?,
            show_missing,
            page_len: list::page_len(page_size)?,
            after: page_token::decode(&bound_to, &page_token)?,
        };
        let database = self.databases.get(&name).await?;
        let page = list::documents(&database, listing, consistency).await?;
        let documents = page
            .documents
            .iter()
            .map(|(path, document)| match document {
                Some(document) => encode_document(&name, document),
                None => pb::Document {
                    name: encode_document_name(&name, path),
                    ..pb::Document::default()
                },
            });
        Ok(Response::new(pb::ListDocumentsResponse {
            documents: documents.collect(),
            next_page_token: page
                .next
                .map_or_else(String::new, |next| page_token::encode(&bound_to, &next)),
        }))
    }

    async fn create_document(
        &self,
        request: Request<pb::CreateDocumentRequest>,
    ) -> Result<Response<pb::Document>, Status> {
        let pb::CreateDocumentRequest {
            parent,
            collection_id,
            document_id,
            document,
            mask,
            request_options: _,
        } = request.into_inner();
        let (name, parent) = parent_name(&parent)?;
        let id = if document_id.is_empty() {
            commit::fresh_id()
        } else {
            document_id
        };
        let path = collection(&parent, &collection_id)?
            .document(&id)
            .map_err(Error::from)?;
        let full_name = encode_document_name(&name, &path);
        let document = document.unwrap_or_default();
        if !document.name.is_empty() && document.name != full_name {
            return Err(Error::invalid(
                "document.name must not be set: parent, collection_id and document_id name it.",
            )
            .into());
        }
        let write = pb::Write {
            operation: Some(pb::write::Operation::Update(pb::Document {
                name: full_name,
                ..document
            })),
            update_mask: None,
            update_transforms: Vec::new(),
            current_document: Some(pb::Precondition {
                condition_type: Some(pb::precondition::ConditionType::Exists(false)),
            }),
        };
        self.write_document(&name, write, mask).await
    }

    async fn update_document(
        &self,
        request: Request<pb::UpdateDocumentRequest>,
    ) -> Result<Response<pb::Document>, Status> {
        let pb::UpdateDocumentRequest {
            document,
            update_mask,
            mask,
            current_document,
            request_options: _,
        } = request.into_inner();
        let Some(document) = document else {
            return Err(Error::invalid("document must be set.").into());
        };
        let name = document_name(&document.name)?.database;
        let write = pb::Write {
            operation: Some(pb::write::Operation::Update(document)),
            update_mask,
            update_transforms: Vec::new(),
            current_document,
        };
        self.write_document(&name, write, mask).await
    }

    async fn delete_document(
        &self,
        request: Request<pb::DeleteDocumentRequest>,
    ) -> Result<Response<()>, Status> {
        let pb::DeleteDocumentRequest {
            name,
            current_document,
            request_options: _,
        } = request.into_inner();
        let database = self.databases.get(&document_name(&name)?.database).await?;
        let write = pb::Write {
            operation: Some(pb::write::Operation::Delete(name)),
            update_mask: None,
            update_transforms: Vec::new(),
            current_document,
        };
        let write = decode_write(write, &database.name).map_err(Error::from)?;
        commit::delete_document(&database, write).await?;
        Ok(Response::new(()))
    }

    async fn batch_get_documents(
        &self,
        request: Request<pb::BatchGetDocumentsRequest>,
    ) -> Result<Response<Self::BatchGetDocumentsStream>, Status> {
        Ok(begun_first(
            self.answer_batch_get_documents(request.into_inner()).await,
        ))
    }

    async fn begin_transaction(
        &self,
        request: Request<pb::BeginTransactionRequest>,
    ) -> Result<Response<pb::BeginTransactionResponse>, Status> {
        let pb::BeginTransactionRequest {
            database,
            options,
            request_options: _,
        } = request.into_inner();
        let database = self.databases.get(&database_name(&database)?).await?;
        let mode = decode_transaction_options(options.unwrap_or_default()).map_err(Error::from)?;
        let options = transaction_options(mode, READ_WRITE);
        let id = commit::begin(&database, options).await?;
        Ok(Response::new(pb::BeginTransactionResponse {
            transaction: id.0,
        }))
    }

    async fn commit(
        &self,
        request: Request<pb::CommitRequest>,
    ) -> Result<Response<pb::CommitResponse>, Status> {
        let pb::CommitRequest {
            database,
            writes,
            transaction,
            request_options: _,
        } = request.into_inner();
        let name = database_name(&database)?;
        let writes = decode_writes(&name, writes)?;
        let transaction = (!transaction.is_empty()).then_some(TransactionId(transaction));
        let database = self.databases.get(&name).await?;
        let receipt = commit::commit(&database, writes, transaction).await?;
        Ok(Response::new(pb::CommitResponse {
            write_results: write_results(&receipt),
            commit_time: Some(encode_timestamp(receipt.commit_time)),
        }))
    }

    async fn rollback(
        &self,
        request: Request<pb::RollbackRequest>,
    ) -> Result<Response<()>, Status> {
        let pb::RollbackRequest {
            database,
            transaction,
            request_options: _,
        } = request.into_inner();
        let database = self.databases.get(&database_name(&database)?).await?;
        database.engine.rollback(&TransactionId(transaction));
        Ok(Response::new(()))
    }

    async fn run_query(
        &self,
        request: Request<pb::RunQueryRequest>,
    ) -> Result<Response<Self::RunQueryStream>, Status> {
        Ok(begun_first(
            self.answer_run_query(request.into_inner()).await,
        ))
    }

    async fn run_aggregation_query(
        &self,
        request: Request<pb::RunAggregationQueryRequest>,
    ) -> Result<Response<Self::RunAggregationQueryStream>, Status> {
        Ok(begun_first(
            self.answer_run_aggregation_query(request.into_inner())
                .await,
        ))
    }

    async fn partition_query(
        &self,
        request: Request<pb::PartitionQueryRequest>,
    ) -> Result<Response<pb::PartitionQueryResponse>, Status> {
        use pb::partition_query_request::QueryType;
        let pb::PartitionQueryRequest {
            parent,
            partition_count,
            page_token,
            page_size,
            request_options: _,
            query_type,
            consistency_selector,
        } = request.into_inner();
        let consistency = consistency(consistency_selector)?;
        let Some(QueryType::StructuredQuery(structured)) = query_type else {
            return Err(Error::invalid("structured_query must be set.").into());
        };
        let asked = decode_partition_query(&parent, structured).map_err(Error::from)?;
        let count = partition::count(partition_count)?;
        let page_len = partition::page_len(page_size)?;
        // Nothing else is in such a query; the moment is a number.
        let group = match asked.selector() {
            Selector::Group(group) => group.clone(),
            Selector::Collection(_) | Selector::Everything => String::new(),
        };
        let at = match &consistency {
            Consistency::ReadTime(time) => time.micros().to_string(),
            Consistency::Latest | Consistency::Transaction(_) | Consistency::Begin(_) => {
                String::new()
            }
        };
        let bound_to = ["partitions", &parent, &group, &count.to_string(), &at];
        let after = match page_token::decode(&bound_to, &page_token)?.as_deref() {
            None => None,
            Some([Value::Reference(last), Value::Integer(given)]) => Some(Position {
                last: last.path.clone(),
                given: usize::try_from(*given)
                    .map_err(|_| Error::invalid("Invalid page token."))?,
            }),
            Some(_) => return Err(Error::invalid("Invalid page token.").into()),
        };
        let database = self.databases.get(asked.database()).await?;
        let partitioning = Partitioning {
            query: asked,
            count,
            page_len,
            after,
        };
        let page = partition::page(&database, partitioning, consistency).await?;
        let reference = |path: DocumentPath| {
            Value::Reference(DocumentName {
                database: database.name.clone(),
                path,
            })
        };
        let next_page_token = page.next.map_or_else(String::new, |position| {
            let given = i64::try_from(position.given).unwrap_or(i64::MAX);
            let position = [reference(position.last), Value::Integer(given)];
            page_token::encode(&bound_to, &position)
        });
        let partitions = page.cuts.into_iter().map(|cut| {
            encode_cursor(&Cursor {
                values: vec![reference(cut)],
                before: true,
            })
        });
        Ok(Response::new(pb::PartitionQueryResponse {
            partitions: partitions.collect(),
            next_page_token,
        }))
    }

    async fn execute_pipeline(
        &self,
        _: Request<pb::ExecutePipelineRequest>,
    ) -> Result<Response<Self::ExecutePipelineStream>, Status> {
        Err(Error::PipelinesUnavailable.into())
    }

    async fn write(
        &self,
        request: Request<Streaming<pb::WriteRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let messages = write_messages(request.into_inner().map_err(Error::Transport));
        let answers = write_stream::serve(self.databases.clone(), self.shutdown.clone(), messages);
        Ok(Response::new(Box::pin(
            answers.map_ok(encode_write_answer).map_err(Status::from),
        )))
    }

    /// `front::listen` stands before this service and answers every call of this method.
    async fn listen(
        &self,
        _: Request<Streaming<pb::ListenRequest>>,
    ) -> Result<Response<Self::ListenStream>, Status> {
        Err(Status::internal("a Listen call has missed its front"))
    }

    async fn list_collection_ids(
        &self,
        request: Request<pb::ListCollectionIdsRequest>,
    ) -> Result<Response<pb::ListCollectionIdsResponse>, Status> {
        if !Caller::of(request.extensions()).may_list_names() {
            return Err(Error::OwnersOnly.into());
        }
        let pb::ListCollectionIdsRequest {
            parent,
            page_size,
            page_token,
            request_options: _,
            consistency_selector,
        } = request.into_inner();
        let consistency = consistency(consistency_selector)?;
        let bound_to = ["collections", parent.as_str()];
        let (name, under) = parent_name(&parent)?;
        let after = match page_token::decode(&bound_to, &page_token)?.as_deref() {
            None => None,
            Some([Value::String(id)]) => Some(id.clone()),
            Some(_) => return Err(Error::invalid("Invalid page token.").into()),
        };
        let len = list::page_len(page_size)?;
        let database = self.databases.get(&name).await?;
        let (collection_ids, next) =
            list::collection_ids(&database, &under, after.as_deref(), len, consistency).await?;
        Ok(Response::new(pb::ListCollectionIdsResponse {
            collection_ids,
            next_page_token: next.map_or_else(String::new, |id| {
                page_token::encode(&bound_to, &[Value::String(id)])
            }),
        }))
    }

    async fn batch_write(
        &self,
        request: Request<pb::BatchWriteRequest>,
    ) -> Result<Response<pb::BatchWriteResponse>, Status> {
        let pb::BatchWriteRequest {
            database,
            writes,
            labels: _,
            request_options: _,
        } = request.into_inner();
        let name = database_name(&database)?;
        let writes = decode_writes(&name, writes)?;
        let database = self.databases.get(&name).await?;
        let outcomes = commit::batch(&database, writes).await?;
        let (write_results, status) = outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Ok(outcome) => (encode_write_result(&outcome), encode_status(Code::Ok, "")),
                Err(error) => (pb::WriteResult::default(), embedded_status(error)),
            })
            .unzip();
        Ok(Response::new(pb::BatchWriteResponse {
            write_results,
            status,
        }))
    }
}

impl Grpc {
    async fn answer_run_aggregation_query(
        &self,
        request: pb::RunAggregationQueryRequest,
    ) -> Result<BoxStream<pb::RunAggregationQueryResponse>, Status> {
        use pb::run_aggregation_query_request::QueryType;
        let pb::RunAggregationQueryRequest {
            parent,
            explain_options,
            request_options: _,
            query_type,
            consistency_selector,
        } = request;
        let consistency = consistency(consistency_selector)?;
        let Some(QueryType::StructuredAggregationQuery(structured)) = query_type else {
            return Err(Error::invalid("structured_aggregation_query must be set.").into());
        };
        let (asked, aggregations) =
            decode_aggregation_query(&parent, structured).map_err(Error::from)?;
        let database = self.databases.get(asked.database()).await?;
        let explain = explain(explain_options);
        let answer = query::aggregate(&database, asked, aggregations, consistency, explain).await?;
        let mut transaction = answer.begun.map_or_else(Vec::new, |id| id.0);
        let read_time = answer
            .values
            .is_some()
            .then(|| encode_timestamp(answer.read_time));
        let mut responses = Vec::new();
        if let Some(values) = answer.values {
            responses.push(Ok(pb::RunAggregationQueryResponse {
                result: Some(encode_aggregation_result(&values)),
                transaction: std::mem::take(&mut transaction),
                read_time,
                explain_metrics: None,
            }));
        }
        if let Some(explanation) = answer.explanation {
            responses.push(Ok(pb::RunAggregationQueryResponse {
                result: None,
                transaction,
                read_time,
                explain_metrics: Some(encode_explained(&explanation)),
            }));
        }
        Ok(stream::iter(responses).boxed())
    }

    async fn answer_run_query(
        &self,
        request: pb::RunQueryRequest,
    ) -> Result<BoxStream<pb::RunQueryResponse>, Status> {
        use pb::run_query_request::QueryType;
        let pb::RunQueryRequest {
            parent,
            explain_options,
            request_options: _,
            query_type,
            consistency_selector,
        } = request;
        let consistency = consistency(consistency_selector)?;
        let Some(QueryType::StructuredQuery(structured)) = query_type else {
            return Err(Error::invalid("structured_query must be set.").into());
        };
        let (asked, nearest) = decode_search(&parent, structured).map_err(Error::from)?;
        let database = self.databases.get(asked.database()).await?;
        let search = Search {
            query: asked,
            nearest,
        };
        let explain = explain(explain_options);
        let answer = query::run(&database, search, consistency, explain).await?;
        let begun = answer.begun.map(|id| id.0);
        let read_time = Some(encode_timestamp(answer.read_time));
        let (skipped, is_empty, parts) = match answer.found {
            Found::Plan(plan) => {
                let response = pb::RunQueryResponse {
                    transaction: begun.unwrap_or_default(),
                    explain_metrics: Some(encode_explained(&plan)),
                    ..pb::RunQueryResponse::default()
                };
                return Ok(stream::iter([Ok(response)]).boxed());
            }
            Found::Results {
                skipped,
                empty,
                parts,
            } => (i32::try_from(skipped).unwrap_or(i32::MAX), empty, parts),
        };
        let empty = pb::RunQueryResponse {
            read_time,
            ..pb::RunQueryResponse::default()
        };
        let mut first = Vec::new();
        if let Some(transaction) = begun {
            first.push(Ok(pb::RunQueryResponse {
                transaction,
                ..empty.clone()
            }));
        }
        if skipped > 0 || is_empty {
            first.push(Ok(pb::RunQueryResponse {
                skipped_results: skipped,
                ..empty.clone()
            }));
        }
        let parts = parts.map(move |part| {
            Ok(match part? {
                Part::Document(document) => pb::RunQueryResponse {
                    document: Some(encode_document(&database.name, &document)),
                    ..empty.clone()
                },
                Part::Explanation(explanation) => pb::RunQueryResponse {
                    explain_metrics: Some(encode_explained(&explanation)),
                    ..empty.clone()
                },
            })
        });
        Ok(stream::iter(first).chain(parts).boxed())
    }

    async fn answer_batch_get_documents(
        &self,
        request: pb::BatchGetDocumentsRequest,
    ) -> Result<BoxStream<pb::BatchGetDocumentsResponse>, Status> {
        use pb::batch_get_documents_response::Result as Found;
        let pb::BatchGetDocumentsRequest {
            database,
            documents,
            mask,
            request_options: _,
            consistency_selector,
        } = request;
        let consistency = consistency(consistency_selector)?;
        let name = database_name(&database)?;
        let paths: Result<Vec<_>, _> = documents
            .iter()
            .map(|document| decode_name(document, &name))
            .collect();
        let paths = paths.map_err(Error::from)?;
        let mask = optional_mask(mask)?;
        let database = self.databases.get(&name).await?;
        let batch = read::documents(&database, paths, mask, consistency).await?;
        let read_time = Some(encode_timestamp(batch.read_time));
        let begun = batch.begun.map(|id| {
            Ok(pb::BatchGetDocumentsResponse {
                transaction: id.0,
                read_time,
                result: None,
            })
        });
        let documents = batch.documents.map(move |answer| {
            let (path, document) = answer?;
            let result = match document {
                Some(document) => Found::Found(encode_document(&name, &document)),
                None => Found::Missing(encode_document_name(&name, &path)),
            };
            Ok(pb::BatchGetDocumentsResponse {
                transaction: Vec::new(),
                read_time,
                result: Some(result),
            })
        });
        Ok(stream::iter(begun).chain(documents).boxed())
    }

    async fn write_document(
        &self,
        name: &DatabaseName,
        write: pb::Write,
        mask: Option<pb::DocumentMask>,
    ) -> Result<Response<pb::Document>, Status> {
        let write = decode_write(write, name).map_err(Error::from)?;
        let mask = optional_mask(mask)?;
        let database = self.databases.get(name).await?;
        let document = commit::write_document(&database, write, mask.as_ref()).await?;
        Ok(Response::new(encode_document(name, &document)))
    }
}

/// The answer, or the error as one that comes after the headers. The Node SDK takes an error without
/// headers for a broken connection and asks twice more, seconds apart.
fn begun_first<T: Send + 'static>(answer: Result<BoxStream<T>, Status>) -> Response<BoxStream<T>> {
    Response::new(answer.unwrap_or_else(|status| stream::iter([Err(status)]).boxed()))
}

/// What a transaction without options is, when it is begun on its own.
const READ_WRITE: TransactionOptions = TransactionOptions::ReadWrite {
    retry: None,
    mode: None,
};

/// What a transaction without options is, when a read begins it.
const READ_ONLY: TransactionOptions = TransactionOptions::ReadOnly { read_time: None };

fn consistency(selector: Option<impl Selects>) -> Result<Consistency, Error> {
    Ok(match decode_read_at(selector)? {
        ReadAt::Latest => Consistency::Latest,
        ReadAt::Transaction(id) => Consistency::Transaction(TransactionId(id)),
        ReadAt::Begin(mode) => Consistency::Begin(transaction_options(mode, READ_ONLY)),
        ReadAt::Time(time) => Consistency::ReadTime(time),
    })
}

fn transaction_options(
    mode: TransactionMode,
    unspecified: TransactionOptions,
) -> TransactionOptions {
    match mode {
        TransactionMode::Unspecified => unspecified,
        TransactionMode::ReadOnly { read_time } => TransactionOptions::ReadOnly { read_time },
        TransactionMode::ReadWrite { retry, concurrency } => TransactionOptions::ReadWrite {
            retry: retry.map(TransactionId),
            mode: match concurrency {
                Concurrency::Unspecified => None,
                Concurrency::Optimistic => Some(ConcurrencyMode::Optimistic),
                Concurrency::Pessimistic => Some(ConcurrencyMode::Pessimistic),
            },
        },
    }
}

fn database_name(text: &str) -> Result<DatabaseName, Error> {
    Ok(DatabaseName::parse(text)?)
}

fn document_name(text: &str) -> Result<DocumentName, Error> {
    Ok(DocumentName::parse(text)?)
}

fn parent_name(text: &str) -> Result<(DatabaseName, Parent), Error> {
    Ok(parse_parent(text)?)
}

fn collection(parent: &Parent, id: &str) -> Result<CollectionPath, Error> {
    Ok(parent.collection(id)?)
}

fn optional_mask(mask: Option<pb::DocumentMask>) -> Result<Option<FieldMask>, Error> {
    Ok(mask.map(decode_mask).transpose()?)
}

fn explain(options: Option<pb::ExplainOptions>) -> Explain {
    match options {
        None => Explain::No,
        Some(pb::ExplainOptions { analyze: false }) => Explain::Plan,
        Some(pb::ExplainOptions { analyze: true }) => Explain::Analyze,
    }
}

fn encode_explained(explanation: &Explanation) -> pb::ExplainMetrics {
    let Explanation { indexes, costs } = explanation;
    let indexes = indexes.iter().map(|used| {
        let scope = match used.scope {
            Scope::Collection => QueryScope::Collection,
            Scope::Group => QueryScope::CollectionGroup,
        };
        (scope, used.properties.as_str())
    });
    encode_explanation(indexes, costs.as_ref())
}

fn decode_writes(database: &DatabaseName, writes: Vec<pb::Write>) -> Result<Vec<Write>, Error> {
    let writes: Result<Vec<Write>, _> = writes
        .into_iter()
        .map(|write| decode_write(write, database))
        .collect();
    Ok(writes?)
}

fn write_results(receipt: &Receipt) -> Vec<pb::WriteResult> {
    receipt.outcomes.iter().map(encode_write_result).collect()
}

/// An error that travels inside an answer instead of ending it.
fn embedded_status(error: Error) -> pb::Status {
    let status = Status::from(error);
    pb::Status {
        code: i32::from(status.code()),
        message: status.message().to_owned(),
        details: Vec::new(),
    }
}

/// Decodes the messages of a write stream; the writes of a message belong to the database of the first.
pub fn write_messages(
    requests: impl Stream<Item = Result<pb::WriteRequest, Error>> + Send + Unpin + 'static,
) -> impl Stream<Item = Result<WriteMessage, Error>> + Send + Unpin + 'static {
    Box::pin(stream::try_unfold(
        (requests, None),
        |(mut requests, mut opened)| async move {
            let Some(request) = requests.next().await.transpose()? else {
                return Ok(None);
            };
            let pb::WriteRequest {
                database,
                stream_id,
                writes,
                stream_token,
                labels: _,
                request_options: _,
            } = request;
            let database = if database.is_empty() {
                None
            } else {
                Some(database_name(&database)?)
            };
            opened = opened.or_else(|| database.clone());
            let writes = match &opened {
                Some(name) => decode_writes(name, writes)?,
                None => Vec::new(),
            };
            Ok(Some((
                WriteMessage {
                    database,
                    stream_id,
                    stream_token,
                    writes,
                },
                (requests, opened),
            )))
        },
    ))
}

/// One message of a write stream.
pub fn encode_write_answer(answer: WriteAnswer) -> pb::WriteResponse {
    match answer {
        WriteAnswer::Opened {
            stream_id,
            stream_token,
        } => pb::WriteResponse {
            stream_id,
            stream_token,
            write_results: Vec::new(),
            commit_time: None,
        },
        WriteAnswer::Committed {
            stream_token,
            receipt,
        } => pb::WriteResponse {
            stream_id: String::new(),
            stream_token,
            write_results: write_results(&receipt),
            commit_time: Some(encode_timestamp(receipt.commit_time)),
        },
    }
}
