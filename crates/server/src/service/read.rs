//! Documents by name, and the views from which everything is read.

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt};
use watchfire_engine::{Asked, Engine, TransactionId, TransactionOptions, View};
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
    pub begun: Option<Begun>,
}

/// A transaction that a read has begun. It is rolled back when this is dropped before the caller can hear of it: at an
/// error, or when the caller has gone away.
pub struct Begun {
    engine: Engine,
    id: Option<TransactionId>,
}

impl Begun {
    /// Its id, for the caller, who ends it from now on.
    pub fn told(mut self) -> Option<TransactionId> {
        self.id.take()
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            self.engine.rollback(id);
        }
    }
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
            let begun = Begun {
                engine: engine.clone(),
                id: Some(id.clone()),
            };
            Ok(Reading {
                view: engine.transaction_view(&id).await?,
                begun: Some(begun),
            })
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
    let mut seen = HashSet::with_capacity(paths.len());
    paths.retain(|path| seen.insert(path.clone()));
    let Reading { view, begun } = open(database, consistency).await?;
    // All of them at once, so that the whole answer is of one version.
    let asked = || paths.iter().cloned().map(Asked::Document).collect();
    let view = view.locked(asked).await?;
    let read_time = view.read_time();
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
        begun: begun.and_then(Begun::told),
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

#[cfg(test)]
mod tests {
    use watchfire_model::{Clock, DatabaseName};
    use watchfire_storage::memory::MemoryStore;

    use super::*;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(1).unwrap()
        }
    }

    #[tokio::test]
    async fn only_a_transaction_that_the_caller_knows_outlives_the_read() {
        let name = DatabaseName::new("p", "d").unwrap();
        let engine = Engine::open(name, MemoryStore::new(), Arc::new(Still));
        let engine = engine.await.unwrap();
        for told in [true, false] {
            let options = TransactionOptions::ReadWrite {
                retry: None,
                mode: None,
            };
            let id = engine.begin(options).await.unwrap();
            let begun = Begun {
                engine: engine.clone(),
                id: Some(id.clone()),
            };
            if told {
                assert_eq!(begun.told(), Some(id.clone()));
            } else {
                drop(begun);
            }
            assert_eq!(engine.transaction_view(&id).await.is_ok(), told);
        }
        engine.close().await.unwrap();
    }
}
