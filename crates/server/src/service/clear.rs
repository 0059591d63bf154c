//! Deleting every document of a database, as clients would.
//!
//! In commits like any others, so that listeners hear of it and indexes follow. The names are gone through once, in their
//! order: what is written meanwhile behind that place stays.

use watchfire_model::{
    Cursor, Direction, DocumentName, FieldMask, FieldPath, Operation, Order, Parent, Precondition,
    Query, QueryParts, Selector, Value, Write,
};

use crate::databases::Database;
use crate::error::Error;
use crate::service::commit;

/// Documents of one commit. What they were is kept for reads of the past, so that this bounds what a commit holds.
const PIECE_LEN: u32 = 200;

/// Deletes them, and says how many there were.
pub async fn clear(database: &Database) -> Result<u64, Error> {
    let mut cleared = 0;
    let mut last = None;
    loop {
        let query = piece(database, last)?;
        let mut documents = Vec::new();
        let mut run = database.engine.view().await?.run(&query).await?;
        while let Some(more) = run.next().await? {
            documents.extend(more.iter().map(|document| document.path.clone()));
        }
        let Some(path) = documents.last() else {
            return Ok(cleared);
        };
        last = Some(Value::Reference(DocumentName {
            database: database.name.clone(),
            path: path.clone(),
        }));
        cleared += documents.len() as u64;
        let deletes = documents.into_iter().map(|path| Write {
            path,
            operation: Operation::Delete,
            precondition: Precondition::None,
            transforms: Vec::new(),
        });
        commit::commit(database, deletes.collect(), None).await?;
    }
}

/// The next documents in the order of their names, after that one.
fn piece(database: &Database, last: Option<Value>) -> Result<Query, Error> {
    let query = Query::new(QueryParts {
        database: database.name.clone(),
        parent: Parent::Root,
        selector: Selector::Everything,
        filter: None,
        order: vec![Order {
            field: FieldPath::document_name(),
            direction: Direction::Ascending,
        }],
        start: last.map(|name| Cursor {
            values: vec![name],
            before: false,
        }),
        end: None,
        offset: 0,
        limit: Some(PIECE_LEN),
        projection: Some(FieldMask::new(vec![FieldPath::document_name()])),
    })?;
    Ok(query)
}
