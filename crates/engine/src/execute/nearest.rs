//! The nearest of many documents, in memory for as many as are asked for.
//!
//! `Best` keeps them; `scan_vectors` finds them in a vector index, where every entry holds its vector, so that no
//! document is read.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use bytes::Bytes;
use watchfire_model::{DistanceMeasure, DocumentPath, Nearest, Query};
use watchfire_storage::{Direction, Range};

use crate::error::Error;
use crate::execute::pace::Reading;
use crate::execute::pages::Pages;
use crate::index::key::read_entry;
use crate::planner::nearest::VectorScan;
use crate::stamp::contents;

/// Entries read at once.
const PAGE_MAX: usize = 1_024;

/// The nearest so far, at most as many as the search asks for.
pub struct Best<'n, T> {
    nearest: &'n Nearest,
    /// The farthest is on top.
    kept: BinaryHeap<Ranked<T>>,
}

/// Something at a distance. It is less than what is farther away, or as far and later by name.
struct Ranked<T> {
    far: f64,
    path: DocumentPath,
    distance: f64,
    what: T,
}

impl<T> Ord for Ranked<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.far
            .partial_cmp(&other.far)
            .unwrap_or(Ordering::Equal)
            .then_with(|| self.path.cmp(&other.path))
    }
}

impl<T> PartialOrd for Ranked<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Ranked<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Ranked<T> {}

impl<'n, T> Best<'n, T> {
    /// None yet.
    pub fn new(nearest: &'n Nearest) -> Self {
        Self {
            nearest,
            kept: BinaryHeap::new(),
        }
    }

    /// Whether something at this distance may be among the nearest; the name may still decide against it.
    pub fn may_enter(&self, distance: f64) -> bool {
        self.kept.len() < self.nearest.limit as usize
            || self
                .kept
                .peek()
                .is_some_and(|worst| self.far(distance) <= worst.far)
    }

    /// Adds something; what falls out, which may be the same.
    pub fn add(&mut self, path: DocumentPath, distance: f64, what: T) -> Option<T> {
        self.kept.push(Ranked {
            far: self.far(distance),
            path,
            distance,
            what,
        });
        if self.kept.len() > self.nearest.limit as usize {
            self.kept.pop().map(|ranked| ranked.what)
        } else {
            None
        }
    }

    /// Nearest first.
    pub fn finish(self) -> Vec<(DocumentPath, f64, T)> {
        let kept = self.kept.into_sorted_vec().into_iter();
        kept.map(|ranked| (ranked.path, ranked.distance, ranked.what))
            .collect()
    }

    fn far(&self, distance: f64) -> f64 {
        match self.nearest.measure {
            DistanceMeasure::Euclidean | DistanceMeasure::Cosine => distance,
            DistanceMeasure::DotProduct => -distance,
        }
    }
}

/// The names and distances of the nearest documents, nearest first, and how many entries were read. Fails with
/// `DeadlineExceeded` when the time is up.
pub async fn scan_vectors(
    reading: &Reading,
    scan: &VectorScan,
    query: &Query,
    nearest: &Nearest,
) -> Result<(Vec<(DocumentPath, f64)>, u64), Error> {
    let mut best = Best::new(nearest);
    let mut entries = 0_u64;
    for start in &scan.starts {
        let ranges = vec![Range::prefix(start)];
        let mut pages = Pages::new(
            reading.clone(),
            Direction::Forward,
            ranges,
            PAGE_MAX,
            PAGE_MAX,
        );
        while pages.fill().await? {
            while let Some((key, vector)) = pages.pop() {
                let vector = contents(&vector);
                add_entry(scan, start.len(), query, &key, &vector, &mut best)?;
            }
        }
        entries = entries.saturating_add(pages.read);
    }
    let found = best.finish().into_iter();
    let found = found.map(|(path, distance, ())| (path, distance));
    Ok((found.collect(), entries))
}

fn add_entry(
    scan: &VectorScan,
    start_len: usize,
    query: &Query,
    key: &Bytes,
    vector: &Bytes,
    best: &mut Best<'_, ()>,
) -> Result<(), Error> {
    let malformed = || Error::Corrupt("an entry of a vector index cannot be read".to_owned());
    let (numbers, []) = vector.as_chunks::<8>() else {
        return Err(malformed());
    };
    if numbers.len() != scan.dimension {
        return Err(malformed());
    }
    let numbers = numbers.iter().map(|bytes| f64::from_be_bytes(*bytes));
    let Some(distance) = best.nearest.distance_to(numbers) else {
        return Ok(());
    };
    if !best.may_enter(distance) {
        return Ok(());
    }
    let path = read_entry(&scan.place, start_len, scan.names_inverted, key)
        .ok_or_else(malformed)?
        .document;
    // An index of a group also has documents that are not below the query's parent.
    if query.selects(&path) {
        best.add(path, distance, ());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use watchfire_model::FieldPath;

    use super::*;

    fn check(measure: DistanceMeasure, limit: u32, expected: &[(&str, f64)]) {
        let field = FieldPath::parse("v").unwrap();
        let nearest = Nearest::new(field, vec![1.0], measure, limit, None, None).unwrap();
        let mut best = Best::new(&nearest);
        let all = [("b", 1.0), ("d", 3.0), ("a", 1.0), ("c", -0.0), ("e", 0.0)];
        let mut fallen = 0;
        for (id, distance) in all {
            let path = DocumentPath::parse(&format!("c/{id}")).unwrap();
            if best.may_enter(distance) {
                fallen += usize::from(best.add(path, distance, ()).is_some());
            } else {
                fallen += 1;
            }
        }
        assert_eq!(fallen, all.len() - expected.len());
        let found = best.finish();
        let found: Vec<(&str, f64)> = found
            .iter()
            .map(|(path, distance, ())| (path.as_str().trim_start_matches("c/"), *distance))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_nearest_are_kept_in_order_and_names_decide_between_equals() {
        let all = [("c", 0.0), ("e", 0.0), ("a", 1.0), ("b", 1.0), ("d", 3.0)];
        check(DistanceMeasure::Euclidean, 9, &all);
        check(DistanceMeasure::Euclidean, 3, &all[..3]);
        check(DistanceMeasure::Euclidean, 1, &all[..1]);
        let turned = [("d", 3.0), ("a", 1.0), ("b", 1.0), ("c", 0.0), ("e", 0.0)];
        check(DistanceMeasure::DotProduct, 9, &turned);
        check(DistanceMeasure::DotProduct, 4, &turned[..4]);
        check(DistanceMeasure::DotProduct, 2, &turned[..2]);
    }
}
