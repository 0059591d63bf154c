//! Queries and aggregations.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use watchfire_engine::TransactionId;
use watchfire_model::{Aggregation, Document, Query, Timestamp, Value};

use crate::databases::Database;
use crate::error::Error;
use crate::service::read::{Consistency, Reading, open};

/// What a query came to.
pub struct Answer {
    pub begun: Option<TransactionId>,
    pub read_time: Timestamp,
    /// Documents that the offset passed over.
    pub skipped: u64,
    pub documents: Vec<Arc<Document>>,
    query: Query,
    _held: OwnedSemaphorePermit,
}

impl Answer {
    /// The document as the query's projection shows it.
    pub fn shown<'a>(&self, document: &'a Document) -> Cow<'a, Document> {
        match self.query.projection() {
            Some(_) => Cow::Owned(self.query.project(document)),
            None => Cow::Borrowed(document),
        }
    }
}

/// Runs a query at one version.
pub async fn run(
    database: &Database,
    query: Query,
    consistency: Consistency,
) -> Result<Answer, Error> {
    let turn = database.answers.turn().await;
    let Reading { view, begun } = open(database, consistency).await?;
    let result = async {
        let (documents, stats) = view.query(&query).await?;
        let held = database.answers.hold(&documents)?;
        Ok::<_, Error>((documents, stats.results_skipped, held))
    };
    let result = result.await;
    drop(turn);
    match result {
        Ok((documents, skipped, held)) => Ok(Answer {
            begun,
            read_time: view.read_time(),
            skipped,
            documents,
            query,
            _held: held,
        }),
        Err(error) => Err(abandon(database, begun, error)),
    }
}

/// What aggregations came to.
pub struct Aggregated {
    pub begun: Option<TransactionId>,
    pub read_time: Timestamp,
    /// By alias.
    pub values: Vec<(String, Value)>,
}

/// Runs aggregations over a query's result at one version.
pub async fn aggregate(
    database: &Database,
    query: Query,
    aggregations: Vec<Aggregation>,
    consistency: Consistency,
) -> Result<Aggregated, Error> {
    let _turn = database.answers.turn().await;
    let Reading { view, begun } = open(database, consistency).await?;
    match view.aggregate(&query, aggregations).await {
        Ok((values, _)) => Ok(Aggregated {
            begun,
            read_time: view.read_time(),
            values,
        }),
        Err(error) => Err(abandon(database, begun, error.into())),
    }
}

/// A transaction that the caller will never hear of must not wait for its expiry.
fn abandon(database: &Database, begun: Option<TransactionId>, error: Error) -> Error {
    if let Some(id) = begun {
        database.engine.rollback(&id);
    }
    error
}
