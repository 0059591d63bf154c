//! A read at one version that records what it has read.
//!
//! A view holds one snapshot of the store and never sees anything newer. In a read-write transaction everything
//! that is asked is recorded first and read afterwards, so that a read that fails is still checked at the commit.
//!
//! In a transaction that locks, a read first locks what it asks for and is then made on a fresh snapshot, as if on a view
//! of its own. Whoever has to know the version beforehand, or makes several reads at one version, asks `locked` for that
//! view and reads from it.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use watchfire_model::query::Direction::Ascending;
use watchfire_model::{
    Aggregation, Clock, CollectionPath, DatabaseName, Document, DocumentPath, FieldPath, Invalid,
    Parent, Query, Selector, Timestamp, Value,
};
use watchfire_storage::{Range, Snapshot, Store, Version};

use crate::advice::Advisor;
use crate::directory::{self, Listed};
use crate::error::Error;
use crate::execute::{self, Delivery, ExecutionStats, QUERY_BYTES_MAX, Reading, Run};
use crate::index::catalog::Catalogs;
use crate::index::entries::{group_start, group_start_below};
use crate::keyspace::document_key;
use crate::lock::Locked;
use crate::lock::asked::{Asked, AskedSet, Missing};
use crate::lock::table::Standing;
use crate::planner::{self, IndexUsed, Plan};
use crate::record::decode_record;
use crate::transaction::{Transaction, Transactions};
use crate::version::timestamp;

mod nearest;

/// What every view of one open database shares.
pub(crate) struct Context {
    pub database: DatabaseName,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub transactions: Transactions,
    pub catalogs: Arc<Catalogs>,
    pub advisor: Arc<Advisor>,
    pub seen: Seen,
}

/// The highest version that a read has shown.
#[derive(Debug, Default)]
pub(crate) struct Seen(AtomicU64);

impl Seen {
    /// Somebody is shown this version. Called before it is.
    pub fn show(&self, version: Version) {
        // Most versions were shown before, and then nothing is written: many threads read.
        if self.0.load(Ordering::Acquire) < version.0 {
            self.0.fetch_max(version.0, Ordering::AcqRel);
        }
    }

    pub fn version(&self) -> Version {
        Version(self.0.load(Ordering::Acquire))
    }
}

/// A consistent read of one database at one version. Inside a read-write transaction every read is recorded there.
#[derive(Clone)]
pub struct View {
    snapshot: Arc<dyn Snapshot>,
    read_time: Timestamp,
    transaction: Option<Arc<Transaction>>,
    /// What is locked for reads from this snapshot.
    locked: Arc<AskedSet>,
    context: Arc<Context>,
}

/// A query that is running. Holds its snapshot until it is dropped.
pub struct QueryRun {
    run: Run,
}

impl QueryRun {
    /// The next documents in order, at least one; `None` at the end. `DeadlineExceeded` when the query takes longer
    /// than `QUERY_TIME_MAX`, `ResourceExhausted` when it has to keep too much.
    pub async fn next(&mut self) -> Result<Option<Vec<Arc<Document>>>, Error> {
        self.run.next().await
    }

    /// What it cost so far.
    pub fn stats(&self) -> &ExecutionStats {
        self.run.stats()
    }

    /// Bytes of the documents that it keeps, found and not handed out.
    pub fn memory(&self) -> usize {
        self.run.memory()
    }
}

impl View {
    /// What the snapshot holds; nothing is recorded.
    pub(crate) fn of_snapshot(
        context: Arc<Context>,
        snapshot: Arc<dyn Snapshot>,
    ) -> Result<Self, Error> {
        let read_time = timestamp(snapshot.version())?;
        context.seen.show(snapshot.version());
        Ok(Self {
            snapshot,
            read_time,
            transaction: None,
            locked: Arc::default(),
            context,
        })
    }

    /// What the transaction sees; reads are recorded in it.
    pub(crate) async fn of_transaction(
        context: Arc<Context>,
        transaction: Arc<Transaction>,
    ) -> Result<Self, Error> {
        let snapshot = match transaction.snapshot() {
            Some(snapshot) => snapshot,
            None => context.store.snapshot().await?,
        };
        let mut view = Self::of_snapshot(context, snapshot)?;
        view.transaction = Some(transaction);
        Ok(view)
    }

    /// The view for reads of what is asked for. In a transaction that locks, it is locked now, all of it or nothing, and
    /// the view is as new as that; otherwise it is this view. Fails with `Contention` when others are in the way for
    /// longer than `LOCK_WAIT_MAX` or have taken the transaction's locks away, and with `ResourceExhausted` at the bounds
    /// of `lock::table`. Who stops waiting has locked nothing.
    pub async fn locked(&self, asked: impl FnOnce() -> AskedSet) -> Result<View, Error> {
        match &self.transaction {
            Some(transaction) if transaction.locks() => {
                Ok(self.lock(transaction, &asked()).await?.into_owned())
            }
            Some(_) | None => Ok(self.clone()),
        }
    }

    /// The view for one read, which is recorded.
    async fn asking(&self, asked: impl FnOnce() -> AskedSet) -> Result<Cow<'_, View>, Error> {
        let Some(transaction) = &self.transaction else {
            return Ok(Cow::Borrowed(self));
        };
        let asked = asked();
        let view = match transaction.locks() {
            true => self.lock(transaction, &asked).await?,
            false => Cow::Borrowed(self),
        };
        transaction.record(&asked, view.version())?;
        Ok(view)
    }

    async fn lock(
        &self,
        transaction: &Arc<Transaction>,
        asked: &AskedSet,
    ) -> Result<Cow<'_, View>, Error> {
        let Context {
            store,
            clock,
            transactions,
            ..
        } = self.context.as_ref();
        if self.locked.covers(asked) {
            transactions.standing(transaction)?;
            return Ok(Cow::Borrowed(self));
        }
        let locked = transactions
            .lock(transaction, asked, clock.as_ref())
            .await?;
        let mut snapshot = store.snapshot().await?;
        // Locks that are held now were held all the time, so that everything read before is true at this snapshot.
        let whole =
            locked == Locked::Held && transactions.standing(transaction)? == Standing::Whole;
        if whole {
            transaction.advance(&snapshot);
        } else {
            snapshot = transaction.settle_on(snapshot);
        }
        let mut view = View::of_snapshot(Arc::clone(&self.context), snapshot)?;
        view.transaction = Some(Arc::clone(transaction));
        view.locked = Arc::new(asked.clone());
        Ok(Cow::Owned(view))
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
        let asked = || Asked::Document(path.clone()).into();
        let view = self.asking(asked).await?;
        let record = view.snapshot.get(&document_key(path)).await?;
        record
            .map(|record| decode_record(path, &record).map(Arc::new))
            .transpose()
    }

    /// Answers line up with the paths.
    pub async fn documents(
        &self,
        paths: &[DocumentPath],
    ) -> Result<Vec<Option<Arc<Document>>>, Error> {
        let asked = || paths.iter().cloned().map(Asked::Document).collect();
        let view = self.asking(asked).await?;
        read_documents(view.snapshot.as_ref(), paths).await
    }

    /// The query's result in order, offset and limit applied, projection not applied. Fails with `IndexMissing` where
    /// the database serves no query without its index, with `ResourceExhausted` when the documents take more than
    /// `QUERY_BYTES_MAX`, with `DeadlineExceeded` after `QUERY_TIME_MAX`.
    pub async fn query(
        &self,
        query: &Query,
    ) -> Result<(Vec<Arc<Document>>, ExecutionStats), Error> {
        execute::collect(self.start(query, Delivery::Kept).await?).await
    }

    /// As `query`, piece by piece: memory is bounded whatever the result's size, unless it has to be sorted.
    /// Where the query projects to nothing but the name, documents may come without their fields.
    pub async fn run(&self, query: &Query) -> Result<QueryRun, Error> {
        let run = self.start(query, Delivery::Shown).await?;
        Ok(QueryRun { run })
    }

    async fn start(&self, query: &Query, delivery: Delivery) -> Result<Run, Error> {
        let view = self.asking(|| Asked::query(query).into()).await?;
        let reading = view.reading();
        let plan = view.plan(query).await?;
        Ok(Run::new(
            reading,
            Arc::new(query.clone()),
            plan,
            delivery,
            QUERY_BYTES_MAX,
        ))
    }

    fn reading(&self) -> Reading {
        Reading::new(Arc::clone(&self.snapshot), Arc::clone(&self.context.clock))
    }

    /// How the query is run, if the database serves it.
    async fn plan(&self, query: &Query) -> Result<Plan, Error> {
        let plan = self.best_plan(query).await?;
        self.decide(query, plan)
    }

    /// How the query is run as well as possible, whatever is missing.
    async fn best_plan(&self, query: &Query) -> Result<Plan, Error> {
        let snapshot = self.snapshot.as_ref();
        let context = &self.context;
        let catalog = context.catalogs.at(snapshot).await?;
        planner::choose(snapshot, &catalog, &context.database, query).await
    }

    /// How the aggregations are run, if the database serves them, and for how many orders that is.
    async fn plan_aggregate(
        &self,
        query: &Query,
        aggregations: &[Aggregation],
    ) -> Result<(Plan, usize), Error> {
        let snapshot = self.snapshot.as_ref();
        let context = &self.context;
        let catalog = context.catalogs.at(snapshot).await?;
        let fields: Vec<FieldPath> = aggregations
            .iter()
            .filter_map(Aggregation::field)
            .filter(|field| !field.is_document_name())
            .cloned()
            .collect();
        let orders = planner::field_orders(query, &fields).len();
        let plan =
            planner::choose_for_fields(snapshot, &catalog, &context.database, query, &fields)
                .await?;
        Ok((self.decide(query, plan)?, orders))
    }

    fn decide(&self, query: &Query, plan: Plan) -> Result<Plan, Error> {
        if let Some(missing) = &plan.missing {
            self.context.advisor.decide(query, missing)?;
        }
        Ok(plan)
    }

    /// Which indexes the query would use; nothing is read. Fails as the query would for want of an index.
    pub async fn explain(&self, query: &Query) -> Result<Vec<IndexUsed>, Error> {
        Ok(self.plan(query).await?.indexes_used)
    }

    /// Alias and result of each aggregation over the query's result, and what it cost. Fails as `query` does.
    pub async fn aggregate(
        &self,
        query: &Query,
        aggregations: Vec<Aggregation>,
    ) -> Result<(Vec<(String, Value)>, ExecutionStats), Error> {
        let view = self.asking(|| Asked::query(query).into()).await?;
        let reading = view.reading();
        let (plan, orders) = view.plan_aggregate(query, &aggregations).await?;
        execute::aggregate(reading, Arc::new(query.clone()), plan, orders, aggregations).await
    }

    /// Which indexes the aggregations would use; nothing is read. Fails as they would for want of an index.
    pub async fn explain_aggregate(
        &self,
        query: &Query,
        aggregations: &[Aggregation],
    ) -> Result<Vec<IndexUsed>, Error> {
        Ok(self
            .plan_aggregate(query, aggregations)
            .await?
            .0
            .indexes_used)
    }

    /// Names that cut the query's result into at most `count` + 1 pieces of about the same size, ascending; each is
    /// the first name of a piece. Fails with `Invalid` unless the query is a collection group in order of `__name__`
    /// without anything else.
    pub async fn partition(&self, query: &Query, count: usize) -> Result<Vec<DocumentPath>, Error> {
        let view = self.asking(|| Asked::query(query).into()).await?;
        let plain = query.filter().is_none()
            && query.start().is_none()
            && query.end().is_none()
            && query.offset() == 0
            && query.limit().is_none()
            && query
                .order()
                .iter()
                .all(|order| order.field.is_document_name() && order.direction == Ascending);
        let Selector::Group(id) = query.selector() else {
            return Err(not_partitioned());
        };
        if !plain {
            return Err(not_partitioned());
        }
        let range = Range::prefix(&group_start_below(id, query.parent()));
        execute::partition(&view.reading(), &range, group_start(id).len(), count).await
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
        let asked = || Asked::Listing(collection.clone(), missing).into();
        let view = self.asking(asked).await?;
        directory::list_documents(
            view.snapshot.as_ref(),
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
        let view = self.asking(|| Asked::Parent(parent.clone()).into()).await?;
        directory::collection_ids(view.snapshot.as_ref(), parent, after, limit).await
    }
}

fn not_partitioned() -> Error {
    Error::Invalid(Invalid::new(
        "only a collection group in order of __name__, without filters, cursors, offset and limit, can be partitioned",
    ))
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
