//! Queries, searches and aggregations.
//!
//! The answer of a query is produced while it is read: see `answers`. Its first portion is produced before
//! anything is sent, so that whatever is wrong with a query is said instead of an answer and not after its
//! beginning.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use watchfire_engine::{ExecutionStats, IndexUsed, QueryRun, TransactionId, View};
use watchfire_model::{Aggregation, Document, Nearest, Query, Timestamp, Value};
use watchfire_wire::explain::{Billing, Costs};

use crate::answers::{Answers, OPEN_BYTES};
use crate::databases::Database;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::service::read::{Consistency, Reading, open};

/// Memory of a portion, in bytes: it ends with the batch of the engine with which it passes this.
const PORTION_BYTES: usize = 256 * 1024;

/// How long a portion may take: it ends with the first batch after this. What is found seldom goes out all
/// the same.
const PORTION_TIME: Duration = Duration::from_millis(20);

/// Index entries that the real service charges as one read, when they are counted.
const ENTRIES_COUNTED_PER_READ: u64 = 1_000;

/// The same, when vectors are searched.
const ENTRIES_SEARCHED_PER_READ: u64 = 100;

/// What the caller wants to hear.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Explain {
    /// The results.
    No,
    /// How they would be found; nothing is read.
    Plan,
    /// The results, then how they were found and what that cost.
    Analyze,
}

/// How results are found, and what that cost if they were looked for.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub indexes: Vec<IndexUsed>,
    pub costs: Option<Costs>,
}

/// What is to be found: the result of a query, or what is nearest in it.
#[derive(Clone, Debug)]
pub struct Search {
    pub query: Query,
    pub nearest: Option<Nearest>,
}

/// What a query comes to.
pub struct Answer {
    pub begun: Option<TransactionId>,
    pub read_time: Timestamp,
    pub found: Found,
}

/// What is found.
pub enum Found {
    /// Nothing was looked for.
    Plan(Explanation),
    Results {
        /// Documents that the offset passed over.
        skipped: u64,
        /// There is no document.
        empty: bool,
        /// Produced while it is read; ends at the first error.
        parts: BoxStream<'static, Result<Part, Error>>,
    },
}

/// A part of what is found.
pub enum Part {
    /// As the query's projection shows it, with the distance where that was asked for.
    Document(Arc<Document>),
    /// The last part, when it was asked for.
    Explanation(Explanation),
}

/// Runs a query at one version.
pub async fn run(
    database: &Database,
    search: Search,
    consistency: Consistency,
    explain: Explain,
) -> Result<Answer, Error> {
    let turn = database.answers.turn().await;
    let Reading { view, begun } = open(database, consistency).await?;
    let read_time = view.read_time();
    match find(database, &view, search, explain, turn).await {
        Ok(found) => Ok(Answer {
            begun,
            read_time,
            found,
        }),
        Err(error) => Err(abandon(database, begun, error)),
    }
}

async fn find(
    database: &Database,
    view: &View,
    search: Search,
    explain: Explain,
    turn: OwnedSemaphorePermit,
) -> Result<Found, Error> {
    let Search { query, nearest } = search;
    if explain == Explain::Plan {
        let indexes = match &nearest {
            Some(nearest) => view.explain_nearest(&query, nearest).await?,
            None => view.explain(&query).await?,
        };
        return Ok(Found::Plan(Explanation {
            indexes,
            costs: None,
        }));
    }
    if let Some(nearest) = nearest {
        return find_nearest(database, view, &query, &nearest, explain).await;
    }
    database.metrics.query_began();
    let began = Instant::now();
    let run = view.run(&query).await?;
    let mut running = Running {
        answers: database.answers.clone(),
        metrics: database.metrics.clone(),
        counted: (0, 0),
        query,
        explain,
        run: Some(run),
        spent: began.elapsed(),
        held: None,
    };
    let Portion { parts, skipped } = running.portion(turn).await?;
    let empty = !parts.iter().any(|part| matches!(part, Part::Document(_)));
    let rest = stream::try_unfold(running, |mut running| async move {
        let turn = running.answers.turn().await;
        let portion = running.portion(turn).await?;
        Ok((!portion.parts.is_empty()).then_some((portion.parts, running)))
    });
    let parts = stream::iter([Ok(parts)])
        .chain(rest)
        .flat_map(|portion| {
            stream::iter(match portion {
                Ok(parts) => parts.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
        })
        .boxed();
    Ok(Found::Results {
        skipped,
        empty,
        parts,
    })
}

/// All at once: there are never many that are nearest.
async fn find_nearest(
    database: &Database,
    view: &View,
    query: &Query,
    nearest: &Nearest,
    explain: Explain,
) -> Result<Found, Error> {
    database.metrics.query_began();
    let began = Instant::now();
    let (found, stats) = view.nearest(query, nearest).await?;
    let metrics = &database.metrics;
    metrics.query_scanned(stats.index_entries_scanned, stats.documents_scanned);
    let bytes = found.iter().map(|(document, _)| document.memory()).sum();
    let held = database.answers.hold(bytes)?;
    let empty = found.is_empty();
    let reads = Reads {
        documents: found.len() as u64,
        entries: stats.index_entries_scanned,
        entries_per_read: ENTRIES_SEARCHED_PER_READ,
    };
    let mut parts: Vec<Part> = found
        .into_iter()
        .map(|(document, distance)| {
            let mut document = shown(query, document);
            if let Some(field) = &nearest.distance_field {
                let fields = &mut Arc::make_mut(&mut document).fields;
                field.set(fields, Value::Double(distance));
            }
            Part::Document(document)
        })
        .collect();
    if explain == Explain::Analyze {
        parts.push(Part::Explanation(explanation(
            &stats,
            stats.results_returned,
            began.elapsed(),
            reads,
        )));
    }
    let parts = stream::iter(parts).map(move |part| {
        let _until_read = &held;
        Ok(part)
    });
    Ok(Found::Results {
        skipped: stats.results_skipped,
        empty,
        parts: parts.boxed(),
    })
}

/// A query between two portions.
struct Running {
    answers: Answers,
    metrics: Metrics,
    /// Index entries and documents that are counted already.
    counted: (u64, u64),
    query: Query,
    explain: Explain,
    /// `None` when everything has been produced.
    run: Option<QueryRun>,
    /// Time that the query has worked.
    spent: Duration,
    /// Room for what is on its way.
    held: Option<OwnedSemaphorePermit>,
}

struct Portion {
    /// Empty at the end.
    parts: Vec<Part>,
    skipped: u64,
}

impl Running {
    /// The next parts in order, in one turn.
    async fn portion(&mut self, turn: OwnedSemaphorePermit) -> Result<Portion, Error> {
        // What was on its way has been read.
        self.held = None;
        let mut parts = Vec::new();
        let Some(mut run) = self.run.take() else {
            return Ok(Portion { parts, skipped: 0 });
        };
        let began = Instant::now();
        let mut bytes = 0_usize;
        let ended = loop {
            match run.next().await {
                Ok(Some(documents)) => {
                    for document in documents {
                        bytes = bytes.saturating_add(document.memory());
                        parts.push(Part::Document(shown(&self.query, document)));
                    }
                    if bytes >= PORTION_BYTES || began.elapsed() >= PORTION_TIME {
                        break Ok(false);
                    }
                }
                Ok(None) => break Ok(true),
                Err(error) => break Err(error),
            }
        };
        drop(turn);
        self.spent += began.elapsed();
        let stats = run.stats();
        let (entries, documents) = (stats.index_entries_scanned, stats.documents_scanned);
        self.metrics.query_scanned(
            entries.saturating_sub(self.counted.0),
            documents.saturating_sub(self.counted.1),
        );
        self.counted = (entries, documents);
        let ended = ended?;
        let skipped = stats.results_skipped;
        if !ended {
            let kept = run.memory().saturating_add(OPEN_BYTES);
            bytes = bytes.saturating_add(kept);
            self.run = Some(run);
        } else if self.explain == Explain::Analyze {
            let reads = Reads {
                documents: stats.results_returned.saturating_add(skipped),
                entries: 0,
                entries_per_read: 1,
            };
            parts.push(Part::Explanation(explanation(
                stats,
                stats.results_returned,
                self.spent,
                reads,
            )));
        }
        self.held = Some(self.answers.hold(bytes)?);
        Ok(Portion { parts, skipped })
    }
}

/// The document as the query's projection shows it.
fn shown(query: &Query, document: Arc<Document>) -> Arc<Document> {
    match query.projection() {
        Some(_) => Arc::new(query.project(&document)),
        None => document,
    }
}

/// What is charged for.
struct Reads {
    documents: u64,
    entries: u64,
    entries_per_read: u64,
}

fn explanation(
    stats: &ExecutionStats,
    results_returned: u64,
    duration: Duration,
    reads: Reads,
) -> Explanation {
    let Reads {
        documents,
        entries,
        entries_per_read,
    } = reads;
    let charged = documents.saturating_add(entries.div_ceil(entries_per_read));
    Explanation {
        indexes: stats.indexes_used.clone(),
        costs: Some(Costs {
            results_returned,
            duration,
            index_entries_scanned: stats.index_entries_scanned,
            documents_scanned: stats.documents_scanned,
            billing: Billing {
                read_operations: charged.max(1),
                documents_billable: documents,
                index_entries_billable: entries,
                min_query_cost: u64::from(charged == 0),
            },
        }),
    }
}

/// What aggregations came to.
pub struct Aggregated {
    pub begun: Option<TransactionId>,
    pub read_time: Timestamp,
    /// By alias; `None` when only the plan was asked for.
    pub values: Option<Vec<(String, Value)>>,
    pub explanation: Option<Explanation>,
}

/// Runs aggregations over a query's result at one version.
pub async fn aggregate(
    database: &Database,
    query: Query,
    aggregations: Vec<Aggregation>,
    consistency: Consistency,
    explain: Explain,
) -> Result<Aggregated, Error> {
    let _turn = database.answers.turn().await;
    let Reading { view, begun } = open(database, consistency).await?;
    let read_time = view.read_time();
    let result = async {
        if explain == Explain::Plan {
            let indexes = view.explain_aggregate(&query, &aggregations).await?;
            let plan = Explanation {
                indexes,
                costs: None,
            };
            return Ok((None, Some(plan)));
        }
        database.metrics.query_began();
        let began = Instant::now();
        let (values, stats) = view.aggregate(&query, aggregations).await?;
        let metrics = &database.metrics;
        metrics.query_scanned(stats.index_entries_scanned, stats.documents_scanned);
        let explanation = (explain == Explain::Analyze).then(|| {
            let reads = Reads {
                documents: stats.documents_scanned,
                entries: stats.index_entries_scanned,
                entries_per_read: ENTRIES_COUNTED_PER_READ,
            };
            explanation(&stats, 1, began.elapsed(), reads)
        });
        Ok((Some(values), explanation))
    };
    match result.await {
        Ok((values, explanation)) => Ok(Aggregated {
            begun,
            read_time,
            values,
            explanation,
        }),
        Err(error) => Err(abandon(database, begun, error)),
    }
}

/// A transaction that the caller will never hear of must not wait for its expiry.
fn abandon(database: &Database, begun: Option<TransactionId>, error: Error) -> Error {
    if let Some(id) = begun {
        database.engine.rollback(&id);
    }
    error
}
