//! From the key space's format 1 to the present one, before a database is served.
//!
//! Format 1 kept nothing in index entries; now they say what their keys lose. All entries are deleted and written
//! again, in batches of bounded size. Until the last batch the format is marked as unfinished, so that no other
//! version opens a database that is half converted; after a crash the conversion starts again.
//!
//! Nobody else may use the database meanwhile: when somebody moves the head, the conversion gives up.

use bytes::Bytes;
use watchfire_model::{Clock, DatabaseName};
use watchfire_storage::{Applied, Batch, Direction, Operation, Store};

use crate::error::Error;
use crate::index::build::rewrite_piece;
use crate::index::catalog::Catalog;
use crate::keyspace::{Catalogue, FORMAT, Keyspace, catalogue_key};
use crate::version::next;

/// Keys that one batch deletes.
const DELETES_MAX: usize = 10_000;

/// The format before.
const OLD: &[u8] = &[1];

/// The format while its conversion is not finished.
const UNFINISHED: &[u8] = &[FORMAT, 0];

/// Converts the database if it is stored in an older format, or if that was begun and not finished.
pub async fn convert_if_old(
    database: &DatabaseName,
    store: &dyn Store,
    clock: &dyn Clock,
) -> Result<(), Error> {
    let snapshot = store.snapshot().await?;
    let format = snapshot.get(&catalogue_key(Catalogue::Format)).await?;
    match format.as_deref() {
        Some(format) if format == OLD || format == UNFINISHED => {}
        Some(_) | None => return Ok(()),
    }
    drop(snapshot);
    tracing::info!(%database, "the database is converted to storage format {FORMAT}; this happens once");
    let mut conversion = Conversion { store, clock };
    conversion.mark(UNFINISHED).await?;
    for part in [Keyspace::Index, Keyspace::Group] {
        while conversion.delete_some(part).await? {}
    }
    let mut position = Vec::new();
    let mut documents = 0;
    let catalog = Catalog::default();
    loop {
        let snapshot = store.snapshot().await?;
        let piece = rewrite_piece(snapshot.as_ref(), &catalog, &position).await?;
        documents += piece.documents;
        position = piece.position;
        conversion
            .apply(snapshot.version(), piece.operations)
            .await?;
        if piece.finished {
            break;
        }
        tokio::task::yield_now().await;
    }
    conversion.mark(&[FORMAT]).await?;
    tracing::info!(%database, documents, "the database is converted");
    Ok(())
}

struct Conversion<'a> {
    store: &'a dyn Store,
    clock: &'a dyn Clock,
}

impl Conversion<'_> {
    async fn mark(&mut self, format: &[u8]) -> Result<(), Error> {
        let snapshot = self.store.snapshot().await?;
        let mark = Operation::Put {
            key: catalogue_key(Catalogue::Format),
            value: Bytes::copy_from_slice(format),
        };
        self.apply(snapshot.version(), vec![mark]).await
    }

    /// Whether there is more to delete.
    async fn delete_some(&mut self, part: Keyspace) -> Result<bool, Error> {
        let snapshot = self.store.snapshot().await?;
        let page = snapshot
            .page(&part.range(), Direction::Forward, DELETES_MAX)
            .await?;
        let deletes = page
            .entries
            .into_iter()
            .map(|(key, _)| Operation::Delete { key })
            .collect();
        self.apply(snapshot.version(), deletes).await?;
        tokio::task::yield_now().await;
        Ok(page.more)
    }

    async fn apply(
        &mut self,
        head: watchfire_storage::Version,
        operations: Vec<Operation>,
    ) -> Result<(), Error> {
        let batch = Batch {
            version: next(self.clock, head),
            operations,
        };
        match self.store.apply(head, batch).await? {
            Applied::Applied => Ok(()),
            Applied::HeadMoved(_) => Err(Error::Unavailable(
                "another server uses the database while it is converted; try again".to_owned(),
            )),
        }
    }
}
