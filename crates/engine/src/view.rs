//! A read at one version that records what it has read.
//!
//! A view holds one snapshot of the store and never sees anything newer. In a read-write transaction everything
//! that is asked is recorded first and read afterwards, so that a read that fails is still checked at the commit.

use std::sync::Arc;

use bytes::Bytes;
use watchfire_model::{
    Aggregation, CollectionPath, Document, DocumentPath, Parent, Query, Timestamp, Value,
};
use watchfire_storage::{Snapshot, Version};

use crate::directory::{self, Listed};
use crate::error::Error;
use crate::execute::{self, ExecutionStats};
use crate::keyspace::document_key;
use crate::record::decode_record;
use crate::transaction::{Missing, ReadSet, Transaction};
use crate::version::timestamp;

/// A consistent read of one database at one version. Inside a read-write transaction every read is recorded there.
pub struct View {
    snapshot: Arc<dyn Snapshot>,
    read_time: Timestamp,
    transaction: Option<Arc<Transaction>>,
}

impl View {
    /// What the snapshot holds; nothing is recorded.
    pub(crate) fn of_snapshot(snapshot: Arc<dyn Snapshot>) -> Result<Self, Error> {
        let read_time = timestamp(snapshot.version())?;
        Ok(Self {
            snapshot,
            read_time,
            transaction: None,
        })
    }

    /// What the transaction sees; reads are recorded in it.
    pub(crate) fn of_transaction(transaction: Arc<Transaction>) -> Result<Self, Error> {
        let mut view = Self::of_snapshot(Arc::clone(transaction.snapshot()))?;
        view.transaction = Some(transaction);
        Ok(view)
    }

    /// The version at which it reads.
    pub fn version(&self) -> Version {
        self.snapshot.version()
    }

    /// The version as users see it.
    pub fn read_time(&self) -> Timestamp {
        self.read_time
    }

    /// One document, `None` if it does not exist at this version.
    pub async fn document(&self, path: &DocumentPath) -> Result<Option<Arc<Document>>, Error> {
        self.record(|reads| {
            reads.documents.insert(path.clone());
        })?;
        let record = self.snapshot.get(&document_key(path)).await?;
        record
            .map(|record| decode_record(path, &record).map(Arc::new))
            .transpose()
    }

    /// Answers line up with the paths.
    pub async fn documents(
        &self,
        paths: &[DocumentPath],
    ) -> Result<Vec<Option<Arc<Document>>>, Error> {
        self.record(|reads| reads.documents.extend(paths.iter().cloned()))?;
        read_documents(self.snapshot.as_ref(), paths).await
    }

    /// The query's result in order, offset and limit applied, projection not applied.
    /// Bounded memory: past the limit, ResourceExhausted.
    pub async fn query(
        &self,
        query: &Query,
    ) -> Result<(Vec<Arc<Document>>, ExecutionStats), Error> {
        self.record(|reads| reads.add_query(query))?;
        execute::run(self.snapshot.as_ref(), query).await
    }

    /// Alias and result of each aggregation over the query's result.
    pub async fn aggregate(
        &self,
        query: &Query,
        aggregations: Vec<Aggregation>,
    ) -> Result<Vec<(String, Value)>, Error> {
        self.record(|reads| reads.add_query(query))?;
        execute::aggregate(self.snapshot.as_ref(), query, aggregations).await
    }

    /// One page of a collection by name, after `after`.
    pub async fn list_documents(
        &self,
        collection: &CollectionPath,
        after: Option<&DocumentPath>,
        limit: usize,
        show_missing: bool,
    ) -> Result<Listed, Error> {
        let missing = if show_missing {
            Missing::Shown
        } else {
            Missing::Hidden
        };
        self.record(|reads| {
            reads.listings.insert((collection.clone(), missing));
        })?;
        directory::list_documents(
            self.snapshot.as_ref(),
            collection,
            after,
            limit,
            show_missing,
        )
        .await
    }

    /// Ids of the collections directly below the parent, in byte order, after `after`; and whether there are more.
    pub async fn collection_ids(
        &self,
        parent: &Parent,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<String>, bool), Error> {
        self.record(|reads| {
            reads.parents.insert(parent.clone());
        })?;
        directory::collection_ids(self.snapshot.as_ref(), parent, after, limit).await
    }

    fn record(&self, read: impl FnOnce(&mut ReadSet)) -> Result<(), Error> {
        match &self.transaction {
            Some(transaction) => transaction.record(read),
            None => Ok(()),
        }
    }
}

/// The documents at the paths, as the snapshot has them; answers line up.
pub(crate) async fn read_documents(
    snapshot: &dyn Snapshot,
    paths: &[DocumentPath],
) -> Result<Vec<Option<Arc<Document>>>, Error> {
    let keys: Vec<Bytes> = paths.iter().map(document_key).collect();
    let records = snapshot.get_many(&keys).await?;
    let decode = |(path, record): (&DocumentPath, Option<Bytes>)| {
        record
            .map(|record| decode_record(path, &record).map(Arc::new))
            .transpose()
    };
    paths.iter().zip(records).map(decode).collect()
}
