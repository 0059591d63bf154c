//! A read at one version that records what it has read.
//!
//! A view holds one snapshot of the store and never sees anything newer. In a read-write transaction everything
//! that is asked is recorded first and read afterwards, so that a read that fails is still checked at the commit.

use std::sync::Arc;

use bytes::Bytes;
use watchfire_model::{
    Aggregation, Clock, CollectionPath, DatabaseName, Document, DocumentPath, Parent, Query,
    Timestamp, Value,
};
use watchfire_storage::{Snapshot, Version};

use crate::advice::Advisor;
use crate::directory::{self, Listed};
use crate::error::Error;
use crate::execute::{self, ExecutionStats};
use crate::index::catalog::Catalogs;
use crate::keyspace::document_key;
use crate::planner::IndexUsed;
use crate::record::decode_record;
use crate::transaction::{Missing, ReadSet, Transaction};
use crate::version::timestamp;

mod nearest;

/// What every view of one open database shares.
pub(crate) struct Context {
    pub database: DatabaseName,
    pub clock: Arc<dyn Clock>,
    pub catalogs: Arc<Catalogs>,
    pub advisor: Arc<Advisor>,
}

/// A consistent read of one database at one version. Inside a read-write transaction every read is recorded there.
pub struct View {
    snapshot: Arc<dyn Snapshot>,
    read_time: Timestamp,
    transaction: Option<Arc<Transaction>>,
    context: Arc<Context>,
}

/// A query that is running. Holds its snapshot until it is dropped.
pub struct QueryRun {
    documents: Option<Vec<Arc<Document>>>,
    stats: ExecutionStats,
}

impl QueryRun {
    /// The next documents in order, at least one; `None` at the end. `DeadlineExceeded` when the query takes longer
    /// than `QUERY_TIME_MAX`, `ResourceExhausted` when it has to keep too much.
    pub async fn next(&mut self) -> Result<Option<Vec<Arc<Document>>>, Error> {
        Ok(self
            .documents
            .take()
            .filter(|documents| !documents.is_empty()))
    }

    /// What it cost so far.
    pub fn stats(&self) -> &ExecutionStats {
        &self.stats
    }
}

impl View {
    /// What the snapshot holds; nothing is recorded.
    pub(crate) fn of_snapshot(
        context: Arc<Context>,
        snapshot: Arc<dyn Snapshot>,
    ) -> Result<Self, Error> {
        let read_time = timestamp(snapshot.version())?;
        Ok(Self {
            snapshot,
            read_time,
            transaction: None,
            context,
        })
    }

    /// What the transaction sees; reads are recorded in it.
    pub(crate) fn of_transaction(
        context: Arc<Context>,
        transaction: Arc<Transaction>,
    ) -> Result<Self, Error> {
        let mut view = Self::of_snapshot(context, Arc::clone(transaction.snapshot()))?;
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

    /// As `query`, piece by piece: memory is bounded whatever the result's size, unless it has to be sorted.
    pub async fn run(&self, query: &Query) -> Result<QueryRun, Error> {
        let (documents, stats) = self.query(query).await?;
        Ok(QueryRun {
            documents: Some(documents),
            stats,
        })
    }

    /// Which indexes the query would use; nothing is read. Fails as the query would for want of an index.
    pub async fn explain(&self, _query: &Query) -> Result<Vec<IndexUsed>, Error> {
        Err(Error::Unavailable("not yet".to_owned()))
    }

    /// Alias and result of each aggregation over the query's result, and what it cost.
    pub async fn aggregate(
        &self,
        query: &Query,
        aggregations: Vec<Aggregation>,
    ) -> Result<(Vec<(String, Value)>, ExecutionStats), Error> {
        self.record(|reads| reads.add_query(query))?;
        let values = execute::aggregate(self.snapshot.as_ref(), query, aggregations).await?;
        Ok((values, ExecutionStats::default()))
    }

    /// Which indexes the aggregations would use; nothing is read.
    pub async fn explain_aggregate(
        &self,
        _query: &Query,
        _aggregations: &[Aggregation],
    ) -> Result<Vec<IndexUsed>, Error> {
        Err(Error::Unavailable("not yet".to_owned()))
    }

    /// Names that cut the query's result into at most `count` + 1 pieces of about the same size, ascending; each is
    /// the first name of a piece. For a collection group in order of `__name__` without anything else.
    pub async fn partition(
        &self,
        _query: &Query,
        _count: usize,
    ) -> Result<Vec<DocumentPath>, Error> {
        Err(Error::Unavailable("not yet".to_owned()))
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
