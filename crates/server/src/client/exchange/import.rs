//! `watchfire import`: the documents of an export, written by ordinary commits.
//!
//! All files are read twice: once to see that every document can be had and may be stored, and then to write them. A
//! commit that fails for a passing reason is sent again, which is safe: it says what the documents are, not how they
//! change. The order of commits is not that of the files; an export has each document once.

use std::io::Write;

use futures::stream::{FuturesUnordered, StreamExt};
use prost::Message;
use tonic::Status;
use tonic::transport::Channel;
use watchfire_exchange::reader::Entities;
use watchfire_exchange::{Entity, Export, Found};
use watchfire_model::document::too_large;
use watchfire_model::limits::DOCUMENT_BYTES_MAX;
use watchfire_model::{DatabaseName, Document, DocumentName, Invalid, Timestamp};
use watchfire_wire::pb::firestore_client::FirestoreClient;
use watchfire_wire::pb::write::Operation;
use watchfire_wire::{encode_fields, pb};

use crate::client::connect::connect;
use crate::client::exchange::error::ExchangeError;
use crate::client::exchange::progress::{Attempts, Progress};
use crate::config::Import;

/// Documents of one commit.
const BATCH_DOCUMENTS: usize = 400;
/// A commit ends with the document with which it passes this many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// Commits under way at the same time. Together with the two above, this bounds the memory.
const COMMITS_MAX: usize = 8;

/// Checks the export, writes its documents unless told not to, and says how many there were.
pub async fn run(
    settings: Import,
    out: &mut impl Write,
    progress: &mut Progress<impl Write>,
) -> Result<(), ExchangeError> {
    let Import {
        path,
        remote,
        collections,
        dry_run,
    } = settings;
    let database = remote.database()?;
    let export = Export::open(&path)?;
    let mut checked = Chosen::of(&export, &database, &collections);
    let mut count = 0;
    while let Some(found) = checked.next_found()? {
        check(found)?;
        count += 1;
        progress.documents("Checked", count, export.documents());
    }
    if dry_run {
        writeln!(
            out,
            "{count} documents in {} can be imported; nothing was done (--dry-run)",
            export.overall().display()
        )?;
        return Ok(());
    }
    let client = FirestoreClient::new(connect(&remote.asked).await?);
    let chosen = Chosen::of(&export, &database, &collections);
    let documents = write(chosen, count, client, progress).await?;
    writeln!(out, "Imported {documents} documents into {database}")?;
    Ok(())
}

/// The documents of an export that are wanted, as documents of another database.
struct Chosen<'a> {
    entities: Entities,
    database: &'a DatabaseName,
    collections: &'a [String],
}

impl<'a> Chosen<'a> {
    /// Those of all collections when none is named.
    fn of(export: &Export, database: &'a DatabaseName, collections: &'a [String]) -> Self {
        Self {
            entities: export.entities(),
            database,
            collections,
        }
    }

    fn next_found(&mut self) -> Result<Option<Found>, ExchangeError> {
        while let Some(mut found) = self.entities.next_entity()? {
            let id = found.entity.path.collection_id();
            if self.collections.is_empty() || self.collections.iter().any(|wanted| wanted == id) {
                found.entity.move_to(self.database);
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Whether the document may be stored, as far as that can be known here.
fn check(found: Found) -> Result<(), ExchangeError> {
    let Found {
        entity: Entity {
            database,
            path,
            fields,
        },
        path: file,
        offset,
    } = found;
    let complaint = |invalid: Invalid| watchfire_exchange::Error::Damaged {
        path: file.clone(),
        offset,
        complaint: format!("document {path}: {invalid}"),
    };
    let document = Document {
        path: path.clone(),
        create_time: Timestamp::EPOCH,
        update_time: Timestamp::EPOCH,
        fields,
    };
    document.check_storable().map_err(complaint)?;
    let size = document.size();
    if size > DOCUMENT_BYTES_MAX {
        let path = path.clone();
        let name = DocumentName { database, path };
        return Err(complaint(too_large(&name, size)).into());
    }
    Ok(())
}

/// Writes all of them, and says how many. What fails on the way says how many were written before.
async fn write(
    mut chosen: Chosen<'_>,
    of: u64,
    client: FirestoreClient<Channel>,
    progress: &mut Progress<impl Write>,
) -> Result<u64, ExchangeError> {
    let database = chosen.database.to_string();
    let mut commits = FuturesUnordered::new();
    let mut documents = 0;
    let mut more = true;
    let mut failed: Option<ExchangeError> = None;
    loop {
        while more && commits.len() < COMMITS_MAX {
            match batch(&mut chosen) {
                Ok(writes) if writes.is_empty() => more = false,
                Ok(writes) => {
                    let request = pb::CommitRequest {
                        database: database.clone(),
                        writes,
                        ..pb::CommitRequest::default()
                    };
                    commits.push(commit(client.clone(), request));
                }
                Err(error) => {
                    more = false;
                    failed.get_or_insert(error);
                }
            }
        }
        match commits.next().await {
            None => break,
            Some(Ok(count)) => {
                documents += count;
                progress.documents("Imported", documents, Some(of));
            }
            // What is under way is waited for all the same, so that the count is right.
            Some(Err(status)) => {
                more = false;
                failed.get_or_insert(status.into());
            }
        }
    }
    match failed {
        None => Ok(documents),
        Some(error) => Err(ExchangeError::Partly {
            documents,
            of,
            error: Box::new(error),
        }),
    }
}

/// The next writes, none at the end.
fn batch(chosen: &mut Chosen<'_>) -> Result<Vec<pb::Write>, ExchangeError> {
    let mut writes = Vec::new();
    let mut bytes = 0;
    while writes.len() < BATCH_DOCUMENTS && bytes < BATCH_BYTES {
        let Some(found) = chosen.next_found()? else {
            break;
        };
        let Entity {
            database,
            path,
            fields,
        } = found.entity;
        let document = pb::Document {
            name: DocumentName { database, path }.to_string(),
            fields: encode_fields(&fields),
            create_time: None,
            update_time: None,
        };
        let write = pb::Write {
            operation: Some(Operation::Update(document)),
            ..pb::Write::default()
        };
        bytes += write.encoded_len();
        writes.push(write);
    }
    Ok(writes)
}

/// How many documents it has written.
async fn commit(
    mut client: FirestoreClient<Channel>,
    request: pb::CommitRequest,
) -> Result<u64, Status> {
    let mut attempts = Attempts::default();
    loop {
        match client.commit(request.clone()).await {
            Ok(_) => return Ok(request.writes.len() as u64),
            Err(status) => attempts.again(status).await?,
        }
    }
}
