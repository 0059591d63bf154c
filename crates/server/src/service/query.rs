//! Queries, searches and aggregations.
//!
//! The answer of a query is produced while it is read: see `answers`. Its first portion is produced before
//! anything is sent, so that whatever is wrong with a query is said instead of an answer and not after its
//! beginning. The later ones are produced by a task, each when the one before it has been taken; a reader who
//! takes nothing for too long is told so, and keeps no memory meanwhile.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use watchfire_engine::{Asked, ExecutionStats, IndexUsed, QueryRun, TransactionId, View};
use watchfire_model::{Aggregation, Document, Nearest, Query, Timestamp, Value};
use watchfire_wire::explain::{Billing, Costs};

use crate::answers::{Answers, OPEN_BYTES};
use crate::databases::Database;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::service::read::{Begun, Consistency, Reading, open};

/// Memory of a portion, in bytes: it ends with the batch of the engine with which it passes this.
const PORTION_BYTES: usize = 256 * 1024;

/// How long a portion may take: it ends with the first batch after this. What is found seldom goes out all
/// the same.
const PORTION_TIME: Duration = Duration::from_millis(20);

/// How long a portion may wait for its reader.
const READ_WAIT_MAX: Duration = Duration::from_secs(60);

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
    let (Reading { view, begun }, turn) =
        enter(database, consistency, &search.query, explain).await?;
    let read_time = view.read_time();
    let found = find(database, &view, search, explain, turn).await?;
    Ok(Answer {
        begun: begun.and_then(Begun::told),
        read_time,
        found,
    })
}

/// The view from which the query is answered, and a turn. A transaction that locks has its locks before it gets a turn:
/// whoever waits for locks keeps nobody from working, and the answer's version is that of the view.
async fn enter(
    database: &Database,
    consistency: Consistency,
    query: &Query,
    explain: Explain,
) -> Result<(Reading, OwnedSemaphorePermit), Error> {
    match consistency {
        Consistency::Latest | Consistency::ReadTime(_) => {
            let turn = database.answers.turn().await;
            Ok((open(database, consistency).await?, turn))
        }
        Consistency::Transaction(_) | Consistency::Begin(_) => {
            let Reading { mut view, begun } = open(database, consistency).await?;
            if explain != Explain::Plan {
                view = view.locked(|| Asked::query(query).into()).await?;
            }
            Ok((Reading { view, begun }, database.answers.turn().await))
        }
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
        run,
        spent: began.elapsed(),
        kept: None,
    };
    let first = running.portion(turn).await?;
    Ok(Found::Results {
        skipped: first.skipped,
        empty: !first
            .parts
            .iter()
            .any(|part| matches!(part, Part::Document(_))),
        parts: running.stream(first),
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
    let portion = Portion {
        parts,
        skipped: stats.results_skipped,
        ended: true,
        held,
    };
    Ok(Found::Results {
        skipped: stats.results_skipped,
        empty,
        parts: portion.stream(),
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
    run: QueryRun,
    /// Time that the query has worked.
    spent: Duration,
    /// Room for what the query keeps.
    kept: Option<OwnedSemaphorePermit>,
}

struct Portion {
    parts: Vec<Part>,
    skipped: u64,
    /// Nothing follows.
    ended: bool,
    /// Room for the parts.
    held: OwnedSemaphorePermit,
}

impl Portion {
    fn stream(self) -> BoxStream<'static, Result<Part, Error>> {
        let held = self.held;
        stream::iter(self.parts)
            .map(move |part| {
                let _until_read = &held;
                Ok(part)
            })
            .boxed()
    }
}

impl Running {
    /// The first portion, then what a task produces.
    fn stream(self, first: Portion) -> BoxStream<'static, Result<Part, Error>> {
        if first.ended {
            return first.stream();
        }
        let (portions, taken) = mpsc::channel(1);
        tokio::spawn(self.produce(portions));
        let rest = stream::try_unfold((taken, false), |(mut taken, ended)| async move {
            match taken.recv().await {
                Some(portion) => {
                    let portion: Portion = portion?;
                    let ended = portion.ended;
                    Ok(Some((portion.stream(), (taken, ended))))
                }
                None if ended => Ok(None),
                None => Err(too_slow()),
            }
        });
        first.stream().chain(rest.try_flatten()).boxed()
    }

    /// Ends with the query, when nobody reads any more, and when nobody takes a portion for `READ_WAIT_MAX`.
    async fn produce(mut self, portions: mpsc::Sender<Result<Portion, Error>>) {
        while let Ok(Ok(place)) = tokio::time::timeout(READ_WAIT_MAX, portions.reserve()).await {
            let answers = self.answers.clone();
            let portion = async { self.portion(answers.turn().await).await };
            let portion = tokio::select! {
                biased;
                portion = portion => portion,
                // Nobody waits for it any more: neither a turn nor the store is kept busy with it.
                () = portions.closed() => return,
            };
            let ended = portion.as_ref().map_or(true, |portion| portion.ended);
            place.send(portion);
            if ended {
                return;
            }
        }
    }

    /// The next parts in order, in one turn.
    async fn portion(&mut self, turn: OwnedSemaphorePermit) -> Result<Portion, Error> {
        let began = Instant::now();
        let mut parts = Vec::new();
        let mut bytes = 0_usize;
        let ended = loop {
            match self.run.next().await {
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
        let stats = self.run.stats();
        let (entries, documents) = (stats.index_entries_scanned, stats.documents_scanned);
        self.metrics.query_scanned(
            entries.saturating_sub(self.counted.0),
            documents.saturating_sub(self.counted.1),
        );
        self.counted = (entries, documents);
        let ended = ended?;
        let skipped = stats.results_skipped;
        if ended && self.explain == Explain::Analyze {
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
        self.kept = None;
        if !ended {
            let kept = self.run.memory().saturating_add(OPEN_BYTES);
            self.kept = Some(self.answers.hold(kept)?);
        }
        Ok(Portion {
            parts,
            skipped,
            ended,
            held: self.answers.hold(bytes)?,
        })
    }
}

fn too_slow() -> Error {
    let text = format!(
        "nothing of the answer was read for {} seconds",
        READ_WAIT_MAX.as_secs()
    );
    Error::Engine(watchfire_engine::Error::DeadlineExceeded(text))
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
    let (Reading { view, begun }, _turn) = enter(database, consistency, &query, explain).await?;
    let read_time = view.read_time();
    let (values, explanation) = if explain == Explain::Plan {
        let indexes = view.explain_aggregate(&query, &aggregations).await?;
        let plan = Explanation {
            indexes,
            costs: None,
        };
        (None, Some(plan))
    } else {
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
        (Some(values), explanation)
    };
    Ok(Aggregated {
        begun: begun.and_then(Begun::told),
        read_time,
        values,
        explanation,
    })
}

#[cfg(test)]
mod tests {
    use watchfire_engine::{Settings, Start};
    use watchfire_model::{
        Clock, DatabaseName, DocumentPath, Operation, Parent, Precondition, QueryParts, Selector,
        Write,
    };
    use watchfire_storage::Store;
    use watchfire_storage::memory::MemoryStore;

    use super::*;
    use crate::answers::HELD_KIB_MAX;
    use crate::databases::{Databases, OpenStore};

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(1).unwrap()
        }
    }

    fn everything(name: &DatabaseName) -> Search {
        let parts = QueryParts {
            database: name.clone(),
            parent: Parent::Root,
            selector: Selector::Collection("c".to_owned()),
            filter: None,
            order: Vec::new(),
            start: None,
            end: None,
            offset: 0,
            limit: None,
            projection: None,
        };
        Search {
            query: Query::new(parts).unwrap(),
            nearest: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reads_is_given_up_and_frees_its_room() {
        let open: OpenStore = Box::new(|_| {
            Box::pin(async {
                let store: Arc<dyn Store> = MemoryStore::new();
                Ok(store)
            })
        });
        let databases = Databases::new(open, Arc::new(Still), Settings::default(), None);
        let name = DatabaseName::new("p", "d").unwrap();
        let database = databases.get(&name).await.unwrap();
        let filler = Value::Bytes(vec![0; 100_000]);
        for n in 0..300 {
            let write = Write {
                path: DocumentPath::parse(&format!("c/{n}")).unwrap(),
                operation: Operation::Set([("filler".to_owned(), filler.clone())].into()),
                precondition: Precondition::None,
                transforms: Vec::new(),
            };
            let staged = database.engine.stage(vec![write], Start::Now).await;
            database.engine.commit(staged.unwrap()).await.unwrap();
        }
        let run = || {
            run(
                &database,
                everything(&name),
                Consistency::Latest,
                Explain::No,
            )
        };
        let parts = |answer: Answer| match answer.found {
            Found::Results { parts, .. } => parts,
            Found::Plan(_) => panic!("not asked for"),
        };

        assert_eq!(parts(run().await.unwrap()).count().await, 300);

        let mut unread = parts(run().await.unwrap());
        assert!(unread.next().await.unwrap().is_ok());
        assert!(database.answers.hold(HELD_KIB_MAX << 10).is_err());
        tokio::time::sleep(READ_WAIT_MAX * 2).await;
        let rest: Vec<_> = unread.collect().await;
        assert!(rest.len() < 299);
        assert!(matches!(
            rest.last().unwrap(),
            Err(Error::Engine(watchfire_engine::Error::DeadlineExceeded(_)))
        ));
        drop(rest);
        assert!(database.answers.hold(HELD_KIB_MAX << 10).is_ok());
        databases.close().await.unwrap();
    }
}
