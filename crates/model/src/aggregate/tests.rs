//! Tables of documents and what they come to.

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
