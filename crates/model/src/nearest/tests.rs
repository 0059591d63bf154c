//! Distances worked out by hand, what is left out, and laws that hold for all vectors.

use proptest::prelude::*;

use super::*;
use crate::path::DocumentPath;
use crate::time::Timestamp;

fn search(measure: DistanceMeasure, vector: &[f64]) -> Nearest {
    let field = FieldPath::parse("v").unwrap();
    Nearest::new(field, vector.to_vec(), measure, 10, None, None).unwrap()
}

fn document(id: &str, value: Value) -> Document {
    Document {
        path: DocumentPath::parse(&format!("c/{id}")).unwrap(),
        create_time: Timestamp::EPOCH,
        update_time: Timestamp::EPOCH,
        fields: [("v".to_owned(), value)].into(),
    }
}

fn ids<'a>(found: &[(&'a Document, f64)]) -> Vec<&'a str> {
    found
        .iter()
        .map(|(document, _)| document.path.as_str().trim_start_matches("c/"))
        .collect()
}

fn refused(
    vector: Vec<f64>,
    measure: DistanceMeasure,
    limit: u32,
    threshold: Option<f64>,
) -> String {
    let field = FieldPath::parse("v").unwrap();
    Nearest::new(field, vector, measure, limit, None, threshold)
        .unwrap_err()
        .to_string()
}

#[test]
fn distances_are_those_worked_out_by_hand() {
    let to = [3.0, 4.0];
    let of = |measure, from: [f64; 2]| search(measure, &from).distance(&to);
    assert_eq!(of(DistanceMeasure::Euclidean, [0.0, 0.0]), Some(5.0));
    assert_eq!(of(DistanceMeasure::DotProduct, [2.0, -1.0]), Some(2.0));
    assert_eq!(of(DistanceMeasure::Cosine, [6.0, 8.0]), Some(0.0));
    assert_eq!(of(DistanceMeasure::Cosine, [-3.0, -4.0]), Some(2.0));
    assert_eq!(of(DistanceMeasure::Cosine, [4.0, -3.0]), Some(1.0));
}

#[test]
fn the_nearest_come_first_and_equally_near_ones_by_name() {
    let vector = |a: f64, b: f64| Value::Vector(vec![a, b]);
    let documents = [
        document("b", vector(1.0, 0.0)),
        document("a", vector(0.0, 1.0)),
        document("far", vector(9.0, 9.0)),
        document("near", vector(0.0, 0.0)),
        document("short", Value::Vector(vec![0.0])),
        document(
            "array",
            Value::Array(vec![Value::Double(0.0), Value::Double(0.0)]),
        ),
        document("null", Value::Null),
    ];
    let mut nearest = search(DistanceMeasure::Euclidean, &[0.0, 0.0]);
    assert_eq!(ids(&nearest.nearest(&documents)), ["near", "a", "b", "far"]);
    nearest.limit = 2;
    assert_eq!(ids(&nearest.nearest(&documents)), ["near", "a"]);
    nearest.limit = 10;
    nearest.threshold = Some(1.0);
    assert_eq!(ids(&nearest.nearest(&documents)), ["near", "a", "b"]);

    let mut largest = search(DistanceMeasure::DotProduct, &[1.0, 1.0]);
    assert_eq!(ids(&largest.nearest(&documents)), ["far", "a", "b", "near"]);
    largest.threshold = Some(1.0);
    assert_eq!(ids(&largest.nearest(&documents)), ["far", "a", "b"]);
}

#[test]
fn what_has_no_distance_takes_no_part() {
    let cosine = search(DistanceMeasure::Cosine, &[1.0, 0.0]);
    assert_eq!(cosine.distance(&[0.0, -0.0]), None);
    assert_eq!(cosine.distance(&[f64::NAN, 1.0]), None);
    assert_eq!(cosine.distance(&[f64::MAX, f64::MAX]), None);
    let euclidean = search(DistanceMeasure::Euclidean, &[1.0, 0.0]);
    assert_eq!(euclidean.distance(&[f64::NAN, 1.0]), None);
    assert_eq!(
        euclidean.distance(&[f64::INFINITY, 1.0]),
        Some(f64::INFINITY)
    );
    let product = search(DistanceMeasure::DotProduct, &[0.0, 1.0]);
    assert_eq!(product.distance(&[f64::INFINITY, 1.0]), None);
}

#[test]
fn what_may_not_be_asked_is_named() {
    let measure = DistanceMeasure::Euclidean;
    assert_eq!(
        refused(vec![0.0, -0.0], DistanceMeasure::Cosine, 1, None),
        "Cannot compute cosine distance against a vector with a magnitude of zero."
    );
    assert!(refused(vec![1.0], measure, 0, None).contains("between 1 and 1000, but is 0"));
    assert!(refused(vec![1.0], measure, 1001, None).contains("but is 1001"));
    assert!(refused(vec![], measure, 1, None).contains("dimensions, but has 0"));
    assert!(refused(vec![1.0; 2049], measure, 1, None).contains("but has 2049"));
    assert!(refused(vec![f64::NAN], measure, 1, None).contains("NaN"));
    assert!(refused(vec![1.0], measure, 1, Some(f64::NAN)).contains("threshold"));
    let name = FieldPath::document_name();
    assert!(Nearest::new(name, vec![1.0], measure, 1, None, None).is_err());
    Nearest::new(
        FieldPath::parse("v").unwrap(),
        vec![1.0; 2048],
        measure,
        1000,
        Some(FieldPath::parse("d").unwrap()),
        Some(0.5),
    )
    .unwrap();
}

fn measures() -> impl Strategy<Value = DistanceMeasure> {
    prop::sample::select(vec![
        DistanceMeasure::Euclidean,
        DistanceMeasure::Cosine,
        DistanceMeasure::DotProduct,
    ])
}

fn numbers() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec((-4_i32..=4).prop_map(f64::from), 3)
}

proptest! {
    #[test]
    fn distances_are_symmetric_and_within_their_bounds(a in numbers(), b in numbers(), measure in measures()) {
        let field = FieldPath::parse("v").unwrap();
        let ask = |from: &[f64], to: &[f64]| {
            Nearest::new(field.clone(), from.to_vec(), measure, 1, None, None)
                .ok()
                .and_then(|nearest| nearest.distance(to))
        };
        let there = ask(&a, &b);
        prop_assert_eq!(there, ask(&b, &a));
        match (measure, there) {
            (DistanceMeasure::Euclidean, Some(distance)) => {
                prop_assert!(distance >= 0.0);
                prop_assert_eq!(distance == 0.0, a == b);
            }
            (DistanceMeasure::Cosine, Some(distance)) => prop_assert!((0.0..=2.0).contains(&distance)),
            (DistanceMeasure::Cosine, None) => prop_assert!([&a, &b].iter().any(|v| v.iter().all(|n| *n == 0.0))),
            (DistanceMeasure::DotProduct, Some(_)) => {}
            (DistanceMeasure::Euclidean | DistanceMeasure::DotProduct, None) => prop_assert!(false),
        }
    }

    #[test]
    fn the_answer_is_sorted_complete_and_within_the_limit(
        stored in prop::collection::vec(numbers(), 0..12),
        from in numbers(),
        measure in measures(),
        limit in 1..6_u32,
        threshold in prop::option::of(-2..8_i32),
    ) {
        let field = FieldPath::parse("v").unwrap();
        let threshold = threshold.map(f64::from);
        let Ok(nearest) = Nearest::new(field, from, measure, limit, None, threshold) else { return Ok(()) };
        let documents: Vec<Document> = stored
            .into_iter()
            .enumerate()
            .map(|(number, vector)| document(&format!("d{number}"), Value::Vector(vector)))
            .collect();
        let found = nearest.nearest(&documents);
        let possible = documents.iter().filter(|document| nearest.distance_of(document).is_some()).count();
        prop_assert_eq!(found.len(), possible.min(limit as usize));
        for pair in found.windows(2) {
            prop_assert!(nearest.compare(pair[0].1, pair[1].1).then(pair[0].0.path.cmp(&pair[1].0.path)).is_lt());
        }
        if let Some((_, last)) = found.last() {
            let nearer = documents
                .iter()
                .filter_map(|document| nearest.distance_of(document))
                .filter(|distance| nearest.compare(*distance, *last).is_lt())
                .count();
            prop_assert!(nearer < found.len());
        }
    }
}
