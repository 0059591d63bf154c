//! Count, sum and average.
//!
//! When several aggregations run together, only documents that have all of their fields are considered, so
//! a count beside a sum may be smaller than the count alone.
//! Never reads documents itself: they are added one by one, in any order, and the order of integers does not
//! matter.

use crate::document::Document;
use crate::field::FieldPath;
use crate::value::Value;

#[cfg(test)]
mod tests;

/// What is computed.
#[derive(Clone, Debug)]
pub enum AggregationOperator {
    /// Counts up to the bound, if there is one.
    Count {
        /// At least 1.
        up_to: Option<u64>,
    },
    /// An integer, or a double if a double took part or the integer would overflow; 0 of nothing.
    Sum(FieldPath),
    /// A double; null of nothing.
    Average(FieldPath),
}

/// One computation with the name of its result.
#[derive(Clone, Debug)]
pub struct Aggregation {
    /// Unique within a request.
    pub alias: String,
    /// What is computed.
    pub operator: AggregationOperator,
}

/// Runs several aggregations over one pass of documents.
#[derive(Debug)]
pub struct Aggregator {
    aggregations: Vec<Aggregation>,
    /// Lines up with `aggregations`; unused for counts.
    totals: Vec<Total>,
    count: u64,
}

/// The numbers of one field.
#[derive(Debug, Default)]
struct Total {
    /// Cannot overflow: at most 2^64 summands of 63 bits.
    integers: i128,
    doubles: f64,
    has_doubles: bool,
    count: u64,
}

impl Aggregator {
    /// Starts with no document. How many there may be, and under which names, is for the caller to check.
    pub fn new(aggregations: Vec<Aggregation>) -> Self {
        Self {
            totals: aggregations.iter().map(|_| Total::default()).collect(),
            aggregations,
            count: 0,
        }
    }

    /// Takes one document of the query's result into account.
    pub fn add(&mut self, document: &Document) {
        self.add_known(|field| field.get(&document.fields));
    }

    /// As `add`, for a document of which `get` knows the fields that are aggregated; it is asked for no others.
    pub fn add_known<'a>(&mut self, get: impl Fn(&FieldPath) -> Option<&'a Value>) {
        let has_all = self
            .fields()
            .all(|field| field.is_document_name() || get(field).is_some());
        if !has_all {
            return;
        }
        self.count += 1;
        for (aggregation, total) in self.aggregations.iter().zip(&mut self.totals) {
            if let Some(value) = aggregation.field().and_then(&get) {
                total.add(value);
            }
        }
    }

    /// Takes this many documents into account that have every field, where no field is added up.
    pub fn add_count(&mut self, documents: u64) {
        debug_assert!(self.fields().next().is_none(), "a field needs its values");
        self.count += documents;
    }

    /// The fields that are added up.
    pub fn fields(&self) -> impl Iterator<Item = &FieldPath> {
        self.aggregations.iter().filter_map(Aggregation::field)
    }

    /// Alias and result, in the order of the request.
    pub fn finish(self) -> Vec<(String, Value)> {
        let count = self.count;
        self.aggregations
            .into_iter()
            .zip(self.totals)
            .map(|(aggregation, total)| {
                let value = match aggregation.operator {
                    AggregationOperator::Count { up_to } => Value::Integer(
                        i64::try_from(up_to.map_or(count, |up_to| count.min(up_to)))
                            .unwrap_or(i64::MAX),
                    ),
                    AggregationOperator::Sum(_) => total.sum(),
                    AggregationOperator::Average(_) => total.average(),
                };
                (aggregation.alias, value)
            })
            .collect()
    }
}

impl Aggregation {
    /// The field that is added up.
    pub fn field(&self) -> Option<&FieldPath> {
        match &self.operator {
            AggregationOperator::Count { .. } => None,
            AggregationOperator::Sum(field) | AggregationOperator::Average(field) => Some(field),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "averages and overflowed sums are doubles by definition"
)]
impl Total {
    fn add(&mut self, value: &Value) {
        match value {
            Value::Integer(integer) => self.integers += i128::from(*integer),
            Value::Double(double) => {
                self.doubles += double;
                self.has_doubles = true;
            }
            _ => return,
        }
        self.count += 1;
    }

    fn as_double(&self) -> f64 {
        if self.has_doubles {
            self.integers as f64 + self.doubles
        } else {
            self.integers as f64
        }
    }

    fn sum(&self) -> Value {
        match i64::try_from(self.integers) {
            Ok(integer) if !self.has_doubles => Value::Integer(integer),
            Ok(_) | Err(_) => Value::Double(self.as_double()),
        }
    }

    fn average(&self) -> Value {
        if self.count == 0 {
            Value::Null
        } else {
            Value::Double(self.as_double() / self.count as f64)
        }
    }
}
