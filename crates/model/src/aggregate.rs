//! Count, sum and average.
//!
//! When several aggregations run together, only documents that have all of their fields are considered, so
//! a count beside a sum may be smaller than the count alone.
//! Never reads documents itself: they are added one by one, in any order, and the order of integers does not
//! matter.

use std::collections::HashSet;

use crate::document::Document;
use crate::field::FieldPath;
use crate::invalid::Invalid;
use crate::limits::AGGREGATIONS_MAX;
use crate::value::Value;

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

/// Refuses none, too many, equal aliases, and a count up to 0.
pub fn check_aggregations(aggregations: &[Aggregation]) -> Result<(), Invalid> {
    if aggregations.is_empty() {
        return Err(Invalid::new("Aggregations can not be empty"));
    }
    if aggregations.len() > AGGREGATIONS_MAX {
        return Err(Invalid::new(format!(
            "The maximum number of aggregations allowed in an aggregation query is {AGGREGATIONS_MAX}. Received: {}",
            aggregations.len()
        )));
    }
    let mut aliases = HashSet::new();
    for aggregation in aggregations {
        if !aliases.insert(&aggregation.alias) {
            return Err(Invalid::new(format!(
                "Aggregation aliases contain duplicate alias: {}",
                aggregation.alias
            )));
        }
        if let AggregationOperator::Count { up_to: Some(0) } = aggregation.operator {
            return Err(Invalid::new(
                "The up_to of a COUNT aggregation must be greater than zero.",
            ));
        }
    }
    Ok(())
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
    /// Starts with no document. Assumes `check_aggregations`.
    pub fn new(aggregations: Vec<Aggregation>) -> Self {
        Self {
            totals: aggregations.iter().map(|_| Total::default()).collect(),
            aggregations,
            count: 0,
        }
    }

    /// Takes one document of the query's result into account.
    pub fn add(&mut self, document: &Document) {
        let has_all = self
            .aggregations
            .iter()
            .filter_map(Aggregation::field)
            .all(|field| field.is_document_name() || field.get(&document.fields).is_some());
        if !has_all {
            return;
        }
        self.count += 1;
        for (aggregation, total) in self.aggregations.iter().zip(&mut self.totals) {
            if let Some(value) = aggregation
                .field()
                .and_then(|field| field.get(&document.fields))
            {
                total.add(value);
            }
        }
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
    fn field(&self) -> Option<&FieldPath> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::DocumentPath;
    use crate::time::Timestamp;

    fn field(name: &str) -> FieldPath {
        FieldPath::parse(name).unwrap()
    }

    fn document(fields: &[(&str, Value)]) -> Document {
        Document {
            path: DocumentPath::parse("c/d").unwrap(),
            create_time: Timestamp::from_micros(1).unwrap(),
            update_time: Timestamp::from_micros(1).unwrap(),
            fields: fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        }
    }

    fn run(operators: Vec<AggregationOperator>, documents: &[Document]) -> Vec<Value> {
        let aggregations: Vec<Aggregation> = operators
            .into_iter()
            .enumerate()
            .map(|(index, operator)| Aggregation {
                alias: format!("a{index}"),
                operator,
            })
            .collect();
        check_aggregations(&aggregations).unwrap();
        let mut aggregator = Aggregator::new(aggregations);
        for document in documents {
            aggregator.add(document);
        }
        aggregator
            .finish()
            .into_iter()
            .map(|(_, value)| value)
            .collect()
    }

    #[test]
    fn sums_and_averages() {
        use Value::{Double, Integer, Null};
        let text = Value::String("x".to_owned());
        let cases = [
            (vec![], Integer(0), Null),
            (vec![text.clone(), Null], Integer(0), Null),
            (vec![Integer(1), Integer(2), text], Integer(3), Double(1.5)),
            (vec![Integer(1), Double(2.0)], Double(3.0), Double(1.5)),
            (
                vec![Integer(i64::MAX), Integer(1)],
                Double(9_223_372_036_854_775_808.0),
                Double(4_611_686_018_427_387_904.0),
            ),
            // Overflowing on the way does not matter, only the result does.
            (
                vec![Integer(i64::MAX), Integer(1), Integer(-1)],
                Integer(i64::MAX),
                Double(i64::MAX as f64 / 3.0),
            ),
            (
                vec![Integer(1), Double(f64::NAN)],
                Double(f64::NAN),
                Double(f64::NAN),
            ),
            (
                vec![Double(f64::MAX), Double(f64::MAX)],
                Double(f64::INFINITY),
                Double(f64::INFINITY),
            ),
            (
                vec![Double(f64::INFINITY), Double(f64::NEG_INFINITY)],
                Double(f64::NAN),
                Double(f64::NAN),
            ),
            (vec![Double(-0.0)], Double(0.0), Double(0.0)),
        ];
        for (values, sum, average) in cases {
            let documents: Vec<Document> = values
                .iter()
                .map(|value| document(&[("f", value.clone())]))
                .collect();
            let found = run(
                vec![
                    AggregationOperator::Sum(field("f")),
                    AggregationOperator::Average(field("f")),
                ],
                &documents,
            );
            assert!(found[0].identical(&sum), "{values:?}: sum {:?}", found[0]);
            assert!(
                found[1].identical(&average),
                "{values:?}: average {:?}",
                found[1]
            );
        }
    }

    #[test]
    fn only_documents_with_all_fields_count() {
        let documents = [
            document(&[("a", Value::Integer(1)), ("b", Value::Integer(10))]),
            document(&[("a", Value::Integer(2))]),
            document(&[]),
        ];
        let count = || AggregationOperator::Count { up_to: None };
        let cases = [
            (vec![count()], vec![3]),
            (vec![AggregationOperator::Count { up_to: Some(2) }], vec![2]),
            (
                vec![count(), AggregationOperator::Sum(field("a"))],
                vec![2, 3],
            ),
            (
                vec![
                    count(),
                    AggregationOperator::Sum(field("a")),
                    AggregationOperator::Sum(field("b")),
                ],
                vec![1, 1, 10],
            ),
            (
                vec![
                    count(),
                    AggregationOperator::Sum(FieldPath::document_name()),
                ],
                vec![3, 0],
            ),
        ];
        for (operators, expected) in cases {
            let found = run(operators.clone(), &documents);
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    found.identical(&Value::Integer(*expected)),
                    "{operators:?}: {found:?} instead of {expected}"
                );
            }
        }
    }

    #[test]
    fn refusals() {
        let count = |alias: &str, up_to| Aggregation {
            alias: alias.to_owned(),
            operator: AggregationOperator::Count { up_to },
        };
        let cases = [
            (vec![], "Aggregations can not be empty"),
            (
                vec![count("a", None), count("a", None)],
                "Aggregation aliases contain duplicate alias: a",
            ),
            (
                (0..6).map(|n| count(&format!("a{n}"), None)).collect(),
                "The maximum number of aggregations allowed in an aggregation query is 5. Received: 6",
            ),
            (
                vec![count("a", Some(0))],
                "The up_to of a COUNT aggregation must be greater than zero.",
            ),
        ];
        for (aggregations, text) in cases {
            assert_eq!(
                check_aggregations(&aggregations).unwrap_err().to_string(),
                text
            );
        }
    }
}
