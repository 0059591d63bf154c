//! `watchfire export`: the documents of a database at one version, written as they come.
//!
//! A query may take only so long, and connections end. So each set of documents is asked for in the order of their names,
//! and what ends early goes on after the last name, at the same version. One document is held at a time, and the server
//! keeps no more than it sends.

use std::collections::BTreeSet;
use std::io::Write;

use tonic::transport::Channel;
use watchfire_exchange::{ExportWriter, Totals};
use watchfire_model::{Clock, DatabaseName, DocumentName};
use watchfire_wire::pb::firestore_client::FirestoreClient;
use watchfire_wire::pb::run_query_request::{ConsistencySelector, QueryType};
use watchfire_wire::pb::structured_query::{CollectionSelector, Direction, FieldReference, Order};
use watchfire_wire::pb::value::ValueType;
use watchfire_wire::{Refusal, decode_fields, decode_timestamp, encode_timestamp, pb};

use crate::client::connect::connect;
use crate::client::exchange::error::ExchangeError;
use crate::client::exchange::progress::{Attempts, Progress};
use crate::config::Export;

/// The largest answer about one document that is understood, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Writes the export, and says how much was written and of when.
pub async fn run(
    settings: Export,
    clock: &dyn Clock,
    out: &mut impl Write,
    progress: &mut Progress<impl Write>,
) -> Result<(), ExchangeError> {
    let Export {
        directory,
        remote,
        collections,
        read_time,
    } = settings;
    let database = remote.database()?;
    let channel = connect(&remote.asked).await?;
    let mut writer = ExportWriter::create(&directory, database.clone(), clock.now())?;
    let mut reading = Reading {
        client: FirestoreClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX),
        database,
        read_time: read_time.map(encode_timestamp),
    };
    if collections.is_empty() {
        reading.copy(None, &mut writer, progress).await?;
    }
    for collection in collections.iter().collect::<BTreeSet<_>>() {
        reading
            .copy(Some(collection), &mut writer, progress)
            .await?;
    }
    let Totals { documents, bytes } = writer.finish(clock.now())?;
    let time = match reading.read_time {
        Some(time) => decode_timestamp(time)?.to_string(),
        None => return Err(no_time()),
    };
    writeln!(
        out,
        "Exported {documents} documents, {bytes} bytes, as they were at {time}, to {}",
        directory.display()
    )?;
    Ok(())
}

/// Queries at one version.
struct Reading {
    client: FirestoreClient<Channel>,
    database: DatabaseName,
    /// Unknown until the first answer, when the present is asked for.
    read_time: Option<prost_types::Timestamp>,
}

impl Reading {
    /// All documents, or those of the collections with an id.
    async fn copy(
        &mut self,
        collection: Option<&str>,
        writer: &mut ExportWriter,
        progress: &mut Progress<impl Write>,
    ) -> Result<(), ExchangeError> {
        writer.begin(collection)?;
        let mut last: Option<DocumentName> = None;
        let mut attempts = Attempts::default();
        loop {
            let request = self.request(collection, last.as_ref());
            let status = match self.client.run_query(request).await {
                Err(status) => status,
                Ok(answers) => {
                    let mut answers = answers.into_inner();
                    loop {
                        match answers.message().await {
                            Ok(None) => return Ok(()),
                            Err(status) => break status,
                            Ok(Some(answer)) => {
                                attempts.reset();
                                if self.read_time.is_none() {
                                    self.read_time = answer.read_time;
                                }
                                if self.read_time.is_none() {
                                    return Err(no_time());
                                }
                                if let Some(document) = answer.document {
                                    last = Some(put(document, writer)?);
                                    let documents = writer.totals().documents;
                                    progress.documents("Exported", documents, None);
                                }
                            }
                        }
                    }
                }
            };
            attempts.again(status).await?;
        }
    }

    fn request(
        &self,
        collection: Option<&str>,
        after: Option<&DocumentName>,
    ) -> pb::RunQueryRequest {
        let query = pb::StructuredQuery {
            from: vec![CollectionSelector {
                collection_id: collection.unwrap_or_default().to_owned(),
                all_descendants: true,
            }],
            order_by: vec![Order {
                field: Some(FieldReference {
                    field_path: "__name__".to_owned(),
                }),
                direction: Direction::Ascending.into(),
            }],
            start_at: after.map(|name| pb::Cursor {
                values: vec![pb::Value {
                    value_type: Some(ValueType::ReferenceValue(name.to_string())),
                }],
                before: false,
            }),
            ..pb::StructuredQuery::default()
        };
        pb::RunQueryRequest {
            parent: format!("{}/documents", self.database),
            query_type: Some(QueryType::StructuredQuery(query)),
            consistency_selector: self.read_time.map(ConsistencySelector::ReadTime),
            ..pb::RunQueryRequest::default()
        }
    }
}

/// Without the time of the first answer a second question might be about another version.
fn no_time() -> ExchangeError {
    Refusal::invalid("RunQueryResponse.read_time must be set in the first answer.").into()
}

fn put(document: pb::Document, writer: &mut ExportWriter) -> Result<DocumentName, ExchangeError> {
    let pb::Document {
        name,
        fields,
        // The format has no place for them.
        create_time: _,
        update_time: _,
    } = document;
    let name = DocumentName::parse(&name)?;
    writer.put(&name.path, &decode_fields(fields)?)?;
    Ok(name)
}
