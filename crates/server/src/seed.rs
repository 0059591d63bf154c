//! The documents that an emulator's databases begin with: those of an export, whatever the project.
//!
//! A database gets them when it is opened, before anybody sees it, if it is named as the one of the export and is empty. So
//! every project that a test makes up has them, as with the official emulator.

use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use watchfire_engine::{Engine, Start};
use watchfire_exchange::reader::Entities;
use watchfire_exchange::{Entity, Export};
use watchfire_model::value::fields_size;
use watchfire_model::{
    DatabaseName, Operation, Parent, Precondition, Query, QueryParts, Selector, Write,
};

use crate::error::Error;

/// Documents of one commit.
const BATCH_LEN: usize = 200;

/// A commit ends with the document with which it passes this many bytes. Together with the two others, this bounds the
/// memory that an export of any size takes.
const BATCH_BYTES: usize = 1 << 20;

/// Commits that are read ahead.
const BATCHES_AHEAD: usize = 2;

/// What tools put an export into, inside of the folder that people name.
const INNER: &str = "firestore_export";

/// An export that was read once, and can be had again.
#[derive(Clone, Debug)]
pub struct Seed {
    path: PathBuf,
    /// The id of the database that it is of; absent when it has no documents.
    database: Option<String>,
    documents: u64,
}

impl Seed {
    /// Reads all of it, which may take a while: what cannot be used is found now.
    pub fn read(path: &Path) -> Result<Self, watchfire_exchange::Error> {
        let inner = path.join(INNER);
        let path = if inner.is_dir() {
            inner
        } else {
            path.to_owned()
        };
        let mut entities = Export::open(&path)?.entities();
        let mut database = None;
        let mut documents = 0;
        while let Some(found) = entities.next_entity()? {
            documents += 1;
            database.get_or_insert_with(|| found.entity.database.database().to_owned());
        }
        Ok(Self {
            path,
            database,
            documents,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many documents it has.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Writes the documents into a database that is empty, if it is named as theirs.
    pub async fn plant(&self, name: &DatabaseName, engine: &Engine) -> Result<(), Error> {
        if self.database.as_deref() != Some(name.database()) || !is_empty(name, engine).await? {
            return Ok(());
        }
        let (batches, mut received) = mpsc::channel(BATCHES_AHEAD);
        let (path, name) = (self.path.clone(), name.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let mut entities = Export::open(&path)?.entities();
            loop {
                let batch = batch(&mut entities, &name)?;
                if batch.is_empty() || batches.blocking_send(batch).is_err() {
                    return Ok(());
                }
            }
        });
        while let Some(batch) = received.recv().await {
            let staged = engine.stage(batch, Start::Now).await?;
            engine.commit(staged).await?;
        }
        let read: Result<(), watchfire_exchange::Error> = match reading.await {
            Ok(read) => read,
            Err(error) => {
                let text = error.to_string();
                return Err(Error::Store(watchfire_storage::Error::Unavailable(text)));
            }
        };
        read.map_err(|error| {
            let text = format!("the export that databases begin with cannot be read: {error}");
            Error::Store(watchfire_storage::Error::Unavailable(text))
        })
    }
}

async fn is_empty(name: &DatabaseName, engine: &Engine) -> Result<bool, Error> {
    let first = Query::new(QueryParts {
        database: name.clone(),
        parent: Parent::Root,
        selector: Selector::Everything,
        filter: None,
        order: Vec::new(),
        start: None,
        end: None,
        offset: 0,
        limit: Some(1),
        projection: None,
    })?;
    let (documents, _) = engine.view().await?.query(&first).await?;
    Ok(documents.is_empty())
}

/// The next writes, none at the end.
fn batch(
    entities: &mut Entities,
    name: &DatabaseName,
) -> Result<Vec<Write>, watchfire_exchange::Error> {
    let mut writes = Vec::new();
    let mut bytes = 0;
    while writes.len() < BATCH_LEN && bytes < BATCH_BYTES {
        let Some(mut found) = entities.next_entity()? else {
            break;
        };
        found.entity.move_to(name);
        let Entity {
            database: _,
            path,
            fields,
        } = found.entity;
        bytes += fields_size(&fields);
        writes.push(Write {
            path,
            operation: Operation::Set(fields),
            precondition: Precondition::None,
            transforms: Vec::new(),
        });
    }
    Ok(writes)
}
