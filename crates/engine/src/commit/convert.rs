//! From older formats of the key space to the present one, before a database is served.
//!
//! Format 2 had no history: that history begins now is noted, and nothing else is written. What its index entries hold
//! counts as being there since before.
//!
//! Format 1 kept nothing in index entries; now they say what their keys lose. All entries are deleted and written
//! again, in batches of bounded size. Until the last batch the format is marked as unfinished, so that no other
//! version opens a database that is half converted; after a crash the conversion starts again.
//!
//! Nobody else may use the database meanwhile: when somebody moves the head, the conversion gives up.

use bytes::Bytes;
use watchfire_model::{Clock, DatabaseName};
use watchfire_storage::range::just_after;
use watchfire_storage::{Applied, Batch, Direction, Operation, Range, Store, Version};

use crate::error::Error;
use crate::index::build::rewrite_piece;
use crate::index::catalog::Catalog;
use crate::keyspace::{Catalogue, FORMAT, Keyspace, catalogue_key};
use crate::version::next;

/// Keys that one batch deletes.
const DELETES_MAX: usize = 10_000;

/// The format before, which had no history.
const WITHOUT_HISTORY: &[u8] = &[2];

/// The format before that, and what says that its conversion to the format before was not finished.
const OLD: [&[u8]; 2] = [&[1], &[2, 0]];

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
    let mut conversion = Conversion { store, clock };
    match format.as_deref() {
        Some(WITHOUT_HISTORY) => {
            tracing::info!(%database, "the database is converted to storage format {FORMAT}: the past can be read from now on");
            return conversion.finish().await;
        }
        Some(format) if OLD.contains(&format) || format == UNFINISHED => {}
        Some(_) | None => return Ok(()),
    }
    drop(snapshot);
    tracing::info!(%database, "the database is converted to storage format {FORMAT}; this happens once");
    conversion.mark(UNFINISHED).await?;
    for part in [Keyspace::Index, Keyspace::Group] {
        let mut rest = Some(part.range());
        while let Some(range) = rest {
            rest = conversion.delete_some(range).await?;
        }
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
    conversion.finish().await?;
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

    /// Notes the format, and that there is history from here on.
    async fn finish(&mut self) -> Result<(), Error> {
        let snapshot = self.store.snapshot().await?;
        let head = snapshot.version();
        let from = next(self.clock, head);
        let operations = vec![
            Operation::Put {
                key: catalogue_key(Catalogue::Format),
                value: Bytes::from_static(&[FORMAT]),
            },
            Operation::Put {
                key: catalogue_key(Catalogue::HistoryFrom),
                value: Bytes::copy_from_slice(&from.0.to_be_bytes()),
            },
        ];
        self.apply_at(head, from, operations).await
    }

    /// What is left of the range: a store may need long to pass over what was deleted.
    async fn delete_some(&mut self, mut range: Range) -> Result<Option<Range>, Error> {
        let snapshot = self.store.snapshot().await?;
        let page = snapshot
            .page(&range, Direction::Forward, DELETES_MAX)
            .await?;
        let rest = match page.entries.last() {
            Some((last, _)) if page.more => {
                range.start = just_after(last);
                Some(range)
            }
            Some(_) | None => None,
        };
        let deletes = page
            .entries
            .into_iter()
            .map(|(key, _)| Operation::Delete { key })
            .collect();
        self.apply(snapshot.version(), deletes).await?;
        tokio::task::yield_now().await;
        Ok(rest)
    }

    async fn apply(&mut self, head: Version, operations: Vec<Operation>) -> Result<(), Error> {
        let version = next(self.clock, head);
        self.apply_at(head, version, operations).await
    }

    async fn apply_at(
        &mut self,
        head: Version,
        version: Version,
        operations: Vec<Operation>,
    ) -> Result<(), Error> {
        let batch = Batch {
            version,
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
