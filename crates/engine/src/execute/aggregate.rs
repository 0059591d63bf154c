//! Count, sum and average over a query's result.
//!
//! Without offset and limit the order does not matter, so documents are added as they come and none is kept.

use watchfire_model::aggregate::Aggregator;
use watchfire_model::{Aggregation, AggregationOperator, Query, Value};
use watchfire_storage::Snapshot;

use super::run::run;
use super::scan::Scan;
use crate::error::Error;
use crate::plan;

/// Alias and result of each aggregation. Fails as `run` does when the query has an offset or a limit.
pub async fn aggregate(
    snapshot: &dyn Snapshot,
    query: &Query,
    aggregations: Vec<Aggregation>,
) -> Result<Vec<(String, Value)>, Error> {
    let enough = enough(&aggregations);
    let mut aggregator = Aggregator::new(aggregations);
    if query.offset() > 0 || query.limit().is_some() {
        let (documents, _) = run(snapshot, query).await?;
        documents
            .iter()
            .for_each(|document| aggregator.add(document));
        return Ok(aggregator.finish());
    }
    let mut added = 0_u64;
    let mut scan = Scan::new(
        snapshot,
        plan::choose(query)?,
        enough.and_then(|enough| usize::try_from(enough).ok()),
    );
    while enough.is_none_or(|enough| added < enough)
        && let Some(candidates) = scan.next().await?
    {
        for candidate in candidates
            .iter()
            .filter(|candidate| query.matches(&candidate.document))
        {
            aggregator.add(&candidate.document);
            added += 1;
        }
    }
    Ok(aggregator.finish())
}

/// How many documents settle the result; `None` if all of them are needed.
fn enough(aggregations: &[Aggregation]) -> Option<u64> {
    aggregations
        .iter()
        .map(|aggregation| match aggregation.operator {
            AggregationOperator::Count { up_to } => up_to,
            AggregationOperator::Sum(_) | AggregationOperator::Average(_) => None,
        })
        .try_fold(0, |most, up_to| up_to.map(|up_to| most.max(up_to)))
}
