//! One query, from plan to answer. `Query::matches` decides about every document, whatever the plan says.

use std::sync::Arc;

use bytes::Bytes;
use watchfire_model::{Document, Query};
use watchfire_storage::Snapshot;

use super::finish::Answer;
use super::scan::Scan;
use crate::error::Error;
use crate::plan::{self, Grouping, Plan};
use crate::planner::IndexUsed;

/// Bytes of memory that the documents of one query may take at once, its answer included.
pub const QUERY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What a query cost.
#[derive(Clone, Debug, Default)]
pub struct ExecutionStats {
    pub results_returned: u64,
    /// Results that the offset passed over: all of it, or as many as there were.
    pub results_skipped: u64,
    pub index_entries_scanned: u64,
    /// Documents that were loaded, matching or not.
    pub documents_scanned: u64,
    pub index_used: Option<String>,
    /// In the order of the plan's branches, each once.
    pub indexes_used: Vec<IndexUsed>,
}

/// The query's result in order, offset and limit applied, projection not applied.
/// `ResourceExhausted` when it has to keep more than `QUERY_BYTES_MAX`.
pub async fn run(
    snapshot: &dyn Snapshot,
    query: &Query,
) -> Result<(Vec<Arc<Document>>, ExecutionStats), Error> {
    run_plan(snapshot, query, plan::choose(query)?, QUERY_BYTES_MAX).await
}

pub(super) async fn run_plan(
    snapshot: &dyn Snapshot,
    query: &Query,
    plan: Plan,
    bytes_max: usize,
) -> Result<(Vec<Arc<Document>>, ExecutionStats), Error> {
    let grouping = plan.grouping;
    let index_used = plan.index_used.clone();
    let mut answer = Answer::new(query, bytes_max);
    let mut scan = Scan::new(snapshot, plan, expected(query, grouping));
    'scan: while !answer.is_full()
        && let Some(candidates) = scan.next().await?
    {
        for candidate in candidates {
            if !query.matches(&candidate.document) {
                continue;
            }
            let run = match grouping {
                Grouping::Exact | Grouping::Runs => candidate.run,
                Grouping::Unordered => Some(Bytes::new()),
            };
            answer.add(candidate.document, run)?;
            if answer.is_full() {
                break 'scan;
            }
        }
    }
    let (documents, skipped) = answer.finish();
    let stats = ExecutionStats {
        results_returned: documents.len() as u64,
        results_skipped: skipped as u64,
        index_entries_scanned: scan.cost.entries,
        documents_scanned: scan.cost.documents,
        index_used,
        indexes_used: Vec::new(),
    };
    Ok((documents, stats))
}

/// How many documents are enough if all of them match.
fn expected(query: &Query, grouping: Grouping) -> Option<usize> {
    let needed = (query.offset() as usize).saturating_add(query.limit()? as usize);
    match grouping {
        Grouping::Exact => Some(needed),
        // One more shows that the last run has ended.
        Grouping::Runs => Some(needed.saturating_add(1)),
        Grouping::Unordered => None,
    }
}
