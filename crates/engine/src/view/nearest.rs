//! Nearest-neighbour searches of a view.

use std::sync::Arc;

use watchfire_model::{Document, Nearest, Query};

use super::{View, read_documents};
use crate::error::Error;
use crate::execute::nearest::{Best, scan_vectors};
use crate::execute::{Delivery, ExecutionStats, QUERY_BYTES_MAX, Run};
use crate::lock::asked::Asked;
use crate::planner::IndexUsed;
use crate::planner::nearest::{NearestPlan, VectorScan, choose};

/// Documents that are loaded at once, so that `QUERY_BYTES_MAX` is not passed by much.
const LOAD_DOCUMENTS: usize = 16;

impl View {
    /// The documents of the query's result that are nearest, nearest first (by name where they are equally near), each
    /// with its distance. Fails with `IndexMissing` where the database serves no search without its index, with
    /// `ResourceExhausted` when the documents take more than `QUERY_BYTES_MAX`, and as `run` does.
    pub async fn nearest(
        &self,
        query: &Query,
        nearest: &Nearest,
    ) -> Result<(Vec<(Arc<Document>, f64)>, ExecutionStats), Error> {
        let view = self.asking(|| Asked::query(query).into()).await?;
        match view.plan_nearest(query, nearest).await? {
            NearestPlan::Vectors(scan) => view.nearest_of_vectors(query, nearest, scan).await,
            NearestPlan::Result { missing: _ } => view.nearest_of_result(query, nearest).await,
        }
    }

    /// Which indexes the search would use; nothing is read. Fails as the search would for want of an index.
    pub async fn explain_nearest(
        &self,
        query: &Query,
        nearest: &Nearest,
    ) -> Result<Vec<IndexUsed>, Error> {
        match self.plan_nearest(query, nearest).await? {
            NearestPlan::Vectors(scan) => Ok(vec![scan.index_used]),
            NearestPlan::Result { missing: _ } => Ok(self.best_plan(query).await?.indexes_used),
        }
    }

    /// The plan, if the database serves the search.
    async fn plan_nearest(&self, query: &Query, nearest: &Nearest) -> Result<NearestPlan, Error> {
        let context = &self.context;
        let catalog = context.catalogs.at(self.snapshot.as_ref()).await?;
        let plan = choose(&catalog, &context.database, query, nearest)?;
        match &plan {
            NearestPlan::Result {
                missing: Some(missing),
            } => context.advisor.decide(query, missing)?,
            NearestPlan::Result { missing: None } | NearestPlan::Vectors(_) => {}
        }
        Ok(plan)
    }

    async fn nearest_of_vectors(
        &self,
        query: &Query,
        nearest: &Nearest,
        scan: VectorScan,
    ) -> Result<(Vec<(Arc<Document>, f64)>, ExecutionStats), Error> {
        let reading = self.reading();
        let (nearest, entries) = scan_vectors(&reading, &scan, query, nearest).await?;
        let mut found = Vec::with_capacity(nearest.len());
        let mut bytes = 0;
        for nearest in nearest.chunks(LOAD_DOCUMENTS) {
            let paths: Vec<_> = nearest.iter().map(|(path, _)| path.clone()).collect();
            for (document, (path, distance)) in read_documents(reading.snapshot.as_ref(), &paths)
                .await?
                .into_iter()
                .zip(nearest)
            {
                let document = document.ok_or_else(|| {
                    Error::Corrupt(format!(
                        "a vector index has an entry for {path}, which does not exist"
                    ))
                })?;
                bytes += document.memory();
                found.push((document, *distance));
            }
            check_bytes(bytes)?;
        }
        let stats = ExecutionStats {
            results_returned: found.len() as u64,
            index_entries_scanned: entries,
            documents_scanned: found.len() as u64,
            indexes_used: vec![scan.index_used],
            ..ExecutionStats::default()
        };
        Ok((found, stats))
    }

    async fn nearest_of_result(
        &self,
        query: &Query,
        nearest: &Nearest,
    ) -> Result<(Vec<(Arc<Document>, f64)>, ExecutionStats), Error> {
        let reading = self.reading();
        // The search has its own index; that the query would need one is not said.
        let plan = self.best_plan(query).await?;
        let query = Arc::new(query.clone());
        let mut run = Run::new(reading, query, plan, Delivery::Whole, QUERY_BYTES_MAX);
        let mut best: Best<'_, Arc<Document>> = Best::new(nearest);
        let mut bytes = 0;
        while let Some(documents) = run.next().await? {
            for document in documents {
                let Some(distance) = nearest.distance_of(&document) else {
                    continue;
                };
                if best.may_enter(distance) {
                    bytes += document.memory();
                    let fallen = best.add(document.path.clone(), distance, document);
                    bytes -= fallen.map_or(0, |document| document.memory());
                }
            }
            check_bytes(bytes)?;
        }
        let found = best.finish().into_iter();
        let found: Vec<_> = found
            .map(|(_, distance, document)| (document, distance))
            .collect();
        let stats = ExecutionStats {
            results_returned: found.len() as u64,
            ..run.stats().clone()
        };
        Ok((found, stats))
    }
}

fn check_bytes(bytes: usize) -> Result<(), Error> {
    if bytes > QUERY_BYTES_MAX {
        return Err(Error::ResourceExhausted(format!(
            "the nearest documents take more than {QUERY_BYTES_MAX} bytes; ask for fewer of them"
        )));
    }
    Ok(())
}
