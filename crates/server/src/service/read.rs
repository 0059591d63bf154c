//! Documents by name, and the views from which everything is read.

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt};
use watchfire_engine::{TransactionId, TransactionOptions, View};
use watchfire_model::{Document, DocumentName, DocumentPath, FieldMask, Timestamp};

use crate::databases::Database;
use crate::error::Error;

/// Documents loaded by one call of the engine while a batch is answered: what a batch may hold in
/// memory at a time is bounded by it, however many names it has.
const DOCUMENTS_PER_LOAD_MAX: usize = 128;

/// As of when a request reads.
#[derive(Clone, Debug)]
pub enum Consistency {
    /// The present.
    Latest,
    /// Inside a transaction that was begun earlier.
    Transaction(TransactionId),
    /// Inside a transaction that this read begins.
    Begin(TransactionOptions),
    /// The database as it was.
    ReadTime(Timestamp),
}

/// A view, and the transaction that was begun with it, if one was asked for.
pub struct Reading {
    pub view: View,
    pub begun: Option<TransactionId>,
}

/// Opens the view that a request asks for.
pub async fn open(database: &Database, consistency: Consistency) -> Result<Reading, Error> {
    let engine = &database.engine;
    match consistency {
        Consistency::Latest => Ok(Reading {
            view: engine.view().await?,
            begun: None,
        }),
        Consistency::Transaction(id) => Ok(Reading {
            view: engine.transaction_view(&id).await?,
            begun: None,
        }),
        Consistency::ReadTime(time) => Ok(Reading {
            view: engine.view_at(time).await?,
            begun: None,
        }),
        Consistency::Begin(options) => {
            let id = engine.begin(options).await?;
            match engine.transaction_view(&id).await {
                Ok(view) => Ok(Reading {
                    view,
                    begun: Some(id),
                }),
                Err(error) => {
                    // The caller will never hear of it.
                    engine.rollback(&id);
                    Err(error.into())
                }
            }
        }
    }
}

/// The document with only the fields of the mask.
pub fn masked(document: &Document, mask: Option<&FieldMask>) -> Document {
    match mask {
        None => document.clone(),
        Some(mask) => mask.project_document(document),
    }
}

/// One document that must exist.
pub async fn document(
    database: &Database,
    path: DocumentPath,
    mask: Option<&FieldMask>,
    consistency: Consistency,
) -> Result<Document, Error> {
    let Reading { view, begun: _ } = open(database, consistency).await?;
    match view.document(&path).await? {
        Some(document) => Ok(masked(&document, mask)),
        None => Err(Error::DocumentMissing(DocumentName {
            database: database.name.clone(),
            path,
        })),
    }
}

/// Many documents at one version.
pub struct Batch<S> {
    pub begun: Option<TransactionId>,
    pub read_time: Timestamp,
    /// Every name once, in the order in which they were first asked for.
    pub documents: S,
}

/// Loads documents piece by piece, as the answer is taken.
pub async fn documents(
    database: &Database,
    mut paths: Vec<DocumentPath>,
    mask: Option<FieldMask>,
    consistency: Consistency,
) -> Result<
    Batch<impl Stream<Item = Result<(DocumentPath, Option<Document>), Error>> + Send + use<>>,
    Error,
> {
    let Reading { view, begun } = open(database, consistency).await?;
    let read_time = view.read_time();
    let mut seen = HashSet::with_capacity(paths.len());
    paths.retain(|path| seen.insert(path.clone()));
    let loads: Vec<Vec<DocumentPath>> = paths
        .chunks(DOCUMENTS_PER_LOAD_MAX)
        .map(<[DocumentPath]>::to_vec)
        .collect();
    let reader = Arc::new((view, mask));
    let documents = stream::iter(loads)
        .then(move |paths| {
            let reader = reader.clone();
            async move { load(&reader.0, reader.1.as_ref(), paths).await }
        })
        .flat_map(|load| {
            stream::iter(match load {
                Ok(found) => found.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
        });
    Ok(Batch {
        begun,
        read_time,
        documents,
    })
}

async fn load(
    view: &View,
    mask: Option<&FieldMask>,
    paths: Vec<DocumentPath>,
) -> Result<Vec<(DocumentPath, Option<Document>)>, Error> {
    let documents = view.documents(&paths).await?;
    Ok(paths
        .into_iter()
        .zip(documents)
        .map(|(path, document)| (path, document.map(|document| masked(&document, mask))))
        .collect())
}
