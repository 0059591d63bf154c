//! Count, sum and average.

use crate::{Document, FieldPath, Value};

#[derive(Clone, Debug)]
pub enum AggregationOperator {
    /// Counts up to the bound, if there is one.
    Count { up_to: Option<u64> },
    Sum(FieldPath),
    Average(FieldPath),
}

#[derive(Clone, Debug)]
pub struct Aggregation {
    pub alias: String,
    pub operator: AggregationOperator,
}

/// Runs several aggregations over one pass of documents.
#[derive(Debug)]
pub struct Aggregator {}

impl Aggregator {
    pub fn new(aggregations: Vec<Aggregation>) -> Self {
        let _ = aggregations;
        unimplemented!()
    }
    pub fn add(&mut self, document: &Document) {
        let _ = document;
        unimplemented!()
    }
    /// Alias and result.
    pub fn finish(self) -> Vec<(String, Value)> {
        unimplemented!()
    }
}
