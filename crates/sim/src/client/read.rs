//! Reads outside of transactions, and the calls that all reads are made of.

use futures::TryStreamExt;
use watchfire_engine::{TransactionId, Version};
use watchfire_model::{Aggregation, AggregationOperator, Timestamp};
use watchfire_server::service::query::{self, Explain, Part, Search};
use watchfire_server::service::read::{self, Consistency};

use super::{Client, outcome};
use crate::chance::Chance;
use crate::data;
use crate::history::{Answer, Asked, Found, OperationKind, ReadAt};
use crate::network::{Failed, Network};

impl Client {
    /// Reads something, at the present or in the past.
    pub(super) async fn read(&mut self) {
        let asked = any_question(&mut self.chance);
        let past = self.chance.happens(250).then(|| self.past()).flatten();
        let (at, consistency) = match past {
            Some((version, time)) => (ReadAt::Past(version), Consistency::ReadTime(time)),
            None => (ReadAt::Latest, Consistency::Latest),
        };
        let shared = self.shared.clone();
        let started = shared.recorder.moment();
        let answered = ask(&shared.network, asked.clone(), consistency).await;
        let answered = answered.map(|(answer, _)| answer);
        if let Ok(answer) = &answered {
            shared.saw(answer.read_time);
        }
        let kind = OperationKind::Read {
            transaction: None,
            at,
            asked,
            outcome: outcome(&answered),
        };
        shared.recorder.operation(self.id, started, kind);
    }

    /// A version that somebody has seen, or one near it, with its time.
    pub(super) fn past(&mut self) -> Option<(Version, Timestamp)> {
        let version = {
            let versions = self.shared.versions.borrow();
            if versions.is_empty() {
                return None;
            }
            *self.chance.pick(&versions)
        };
        let version = match self.chance.below(4) {
            0 => Version(version.0.saturating_sub(self.chance.below(5_000))),
            1 => Version(version.0.saturating_sub(1)),
            _ => version,
        };
        let time = Timestamp::from_micros(i64::try_from(version.0).ok()?).ok()?;
        Some((version, time))
    }
}

/// Something to read.
pub(super) fn any_question(chance: &mut Chance) -> Asked {
    match chance.below(6) {
        0 | 1 => {
            let mut paths: Vec<_> = (0..chance.within(1, 4))
                .map(|_| data::any_document(chance))
                .collect();
            paths.sort();
            paths.dedup();
            Asked::Documents(paths)
        }
        2 => any_totals(chance),
        _ => Asked::Query(data::any_query(chance)),
    }
}

fn any_totals(chance: &mut Chance) -> Asked {
    let mut aggregations = vec![Aggregation {
        alias: "count".to_owned(),
        operator: AggregationOperator::Count {
            up_to: chance.happens(200).then_some(3),
        },
    }];
    let (query, name) = if chance.happens(400) {
        (data::all_accounts(), "balance")
    } else {
        (data::any_query(chance), "rank")
    };
    if chance.happens(500) {
        aggregations.push(Aggregation {
            alias: "sum".to_owned(),
            operator: AggregationOperator::Sum(data::field(name)),
        });
    }
    Asked::Aggregate(query, aggregations)
}

/// Asks the server, and gives the transaction that the read has begun, if it was to begin one.
pub(super) async fn ask(
    network: &Network,
    asked: Asked,
    consistency: Consistency,
) -> Result<(Answer, Option<TransactionId>), Failed> {
    match asked {
        Asked::Documents(paths) => {
            let work = move |database: std::sync::Arc<watchfire_server::databases::Database>| async move {
                let batch = read::documents(&database, paths, None, consistency).await?;
                let documents: Vec<_> = batch.documents.try_collect().await?;
                let documents = documents.into_iter();
                let found = documents.map(|(_, document)| document.map(std::sync::Arc::new));
                let answer = answer(batch.read_time, Found::Documents(found.collect()));
                Ok((answer, batch.begun))
            };
            network.call(work).await
        }
        Asked::Query(query) => {
            let search = Search {
                query: query.as_ref().clone(),
                nearest: None,
            };
            let work = move |database: std::sync::Arc<watchfire_server::databases::Database>| async move {
                let run = query::run(&database, search, consistency, Explain::No).await?;
                let query::Found::Results { parts, .. } = run.found else {
                    return Ok((answer(run.read_time, Found::Query(Vec::new())), run.begun));
                };
                let parts: Vec<Part> = parts.try_collect().await?;
                let documents = parts.into_iter().filter_map(|part| match part {
                    Part::Document(document) => Some(document),
                    Part::Explanation(_) => None,
                });
                let answer = answer(run.read_time, Found::Query(documents.collect()));
                Ok((answer, run.begun))
            };
            network.call(work).await
        }
        Asked::Aggregate(query, aggregations) => {
            let query = query.as_ref().clone();
            let work = move |database: std::sync::Arc<watchfire_server::databases::Database>| async move {
                let done =
                    query::aggregate(&database, query, aggregations, consistency, Explain::No)
                        .await?;
                let values = done.values.unwrap_or_default();
                let answer = answer(done.read_time, Found::Aggregate(values));
                Ok((answer, done.begun))
            };
            network.call(work).await
        }
    }
}

fn answer(read_time: Timestamp, found: Found) -> Answer {
    Answer {
        read_time: version(read_time),
        found,
    }
}

/// A time that the server told, as the version that it is.
pub(super) fn version(time: Timestamp) -> Version {
    Version(u64::try_from(time.micros()).unwrap_or(0))
}
