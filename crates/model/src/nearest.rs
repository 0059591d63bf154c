//! Nearest-neighbour search: what is asked, how far two vectors are apart, and the plain answer.
//!
//! A document takes part when the field holds a vector with as many numbers as the asked one and the two have a
//! distance. They have none where it would not be a number, and by the cosine none from a vector without a direction:
//! one whose squares add up to zero or to more than a double holds. Such documents are left out of the answer, as
//! those without a vector are.
//!
//! A distance depends on the bits of both vectors alone: numbers are added up from first to last.

use std::cmp::Ordering;

use crate::document::Document;
use crate::field::FieldPath;
use crate::invalid::Invalid;
use crate::limits::{NEAREST_LIMIT_MAX, VECTOR_DIMENSIONS_MAX};
use crate::value::Value;

#[cfg(test)]
mod tests;

/// How far two vectors are apart.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum DistanceMeasure {
    /// The straight line; nearest is smallest.
    Euclidean,
    /// One less the cosine of the angle; nearest is smallest.
    Cosine,
    /// The dot product; nearest is largest.
    DotProduct,
}

/// A nearest-neighbour search over the result of a query.
#[derive(Clone, Debug)]
pub struct Nearest {
    /// The field with the vectors. Documents without a vector of the right dimension there are left out.
    pub field: FieldPath,
    /// From where distances are measured.
    pub vector: Vec<f64>,
    /// How they are measured.
    pub measure: DistanceMeasure,
    /// How many documents at most, from 1 to `NEAREST_LIMIT_MAX`.
    pub limit: u32,
    /// The field of the answer that gets the distance.
    pub distance_field: Option<FieldPath>,
    /// Documents farther away are left out: above it, or below it for the dot product.
    pub threshold: Option<f64>,
}

impl Nearest {
    /// Fails for a limit, a dimension or a number that may not be, for the name in the place of a field, and for a
    /// vector without a direction when directions are compared.
    pub fn new(
        field: FieldPath,
        vector: Vec<f64>,
        measure: DistanceMeasure,
        limit: u32,
        distance_field: Option<FieldPath>,
        threshold: Option<f64>,
    ) -> Result<Self, Invalid> {
        if field.is_document_name() {
            return Err(Invalid::new("The vector field cannot be __name__."));
        }
        if distance_field
            .as_ref()
            .is_some_and(FieldPath::is_document_name)
        {
            return Err(Invalid::new(
                "The distance result field cannot be __name__.",
            ));
        }
        if limit == 0 || limit > NEAREST_LIMIT_MAX {
            return Err(Invalid::new(format!(
                "The limit of a nearest neighbor search must be between 1 and {NEAREST_LIMIT_MAX}, but is {limit}."
            )));
        }
        if vector.is_empty() || vector.len() > VECTOR_DIMENSIONS_MAX {
            return Err(Invalid::new(format!(
                "The query vector must have between 1 and {VECTOR_DIMENSIONS_MAX} dimensions, but has {}.",
                vector.len()
            )));
        }
        if vector.iter().any(|number| !number.is_finite()) {
            return Err(Invalid::new(
                "The query vector must not have infinite numbers or NaN.",
            ));
        }
        if threshold.is_some_and(f64::is_nan) {
            return Err(Invalid::new("The distance threshold must not be NaN."));
        }
        let zero = vector.iter().all(|number| *number == 0.0);
        if zero && measure == DistanceMeasure::Cosine {
            return Err(Invalid::new(
                "Cannot compute cosine distance against a vector with a magnitude of zero.",
            ));
        }
        Ok(Self {
            field,
            vector,
            measure,
            limit,
            distance_field,
            threshold,
        })
    }

    /// How far the vector is from the asked one; `None` when it takes no part or is beyond the threshold.
    pub fn distance(&self, stored: &[f64]) -> Option<f64> {
        if stored.len() != self.vector.len() {
            return None;
        }
        self.distance_to(stored.iter().copied())
    }

    /// As `distance`, for exactly as many numbers as the asked vector has.
    pub fn distance_to(&self, stored: impl Iterator<Item = f64>) -> Option<f64> {
        let pairs = stored.zip(self.vector.iter().copied());
        let distance = match self.measure {
            DistanceMeasure::Euclidean => pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
            DistanceMeasure::DotProduct => pairs.map(|(a, b)| a * b).sum(),
            DistanceMeasure::Cosine => {
                let (mut product, mut stored, mut asked) = (0.0, 0.0, 0.0);
                for (a, b) in pairs {
                    product += a * b;
                    stored += a * a;
                    asked += b * b;
                }
                let direction = |squares: f64| squares > 0.0 && squares.is_finite();
                if !direction(stored) || !direction(asked) {
                    return None;
                }
                // One root for each: the product of small squares could be lost.
                let cosine: f64 = product / (f64::sqrt(stored) * f64::sqrt(asked));
                // Rounding may take it a little beyond what a cosine can be.
                1.0 - cosine.clamp(-1.0, 1.0)
            }
        };
        let within = match (self.threshold, self.measure) {
            (None, _) => true,
            (Some(threshold), DistanceMeasure::Euclidean | DistanceMeasure::Cosine) => {
                distance <= threshold
            }
            (Some(threshold), DistanceMeasure::DotProduct) => distance >= threshold,
        };
        (within && !distance.is_nan()).then_some(distance)
    }

    /// How far the document is from the asked vector; `None` when it takes no part or is beyond the threshold.
    pub fn distance_of(&self, document: &Document) -> Option<f64> {
        match self.field.get(&document.fields)? {
            Value::Vector(stored) => self.distance(stored),
            Value::Null
            | Value::Boolean(_)
            | Value::Integer(_)
            | Value::Double(_)
            | Value::Timestamp(_)
            | Value::String(_)
            | Value::Bytes(_)
            | Value::Reference(_)
            | Value::GeoPoint(_)
            | Value::Array(_)
            | Value::Map(_) => None,
        }
    }

    /// Which of two distances is nearer: that one is less. Both zeros are equally near.
    pub fn compare(&self, a: f64, b: f64) -> Ordering {
        let ordering = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
        match self.measure {
            DistanceMeasure::Euclidean | DistanceMeasure::Cosine => ordering,
            DistanceMeasure::DotProduct => ordering.reverse(),
        }
    }

    /// The plain answer over the result of the query: the nearest documents, nearest first, by name where they are
    /// equally near, each with its distance. The oracle of every test.
    pub fn nearest<'a>(
        &self,
        documents: impl IntoIterator<Item = &'a Document>,
    ) -> Vec<(&'a Document, f64)> {
        let mut found: Vec<(&Document, f64)> = documents
            .into_iter()
            .filter_map(|document| Some((document, self.distance_of(document)?)))
            .collect();
        found.sort_by(|(a, near), (b, far)| {
            self.compare(*near, *far).then_with(|| a.path.cmp(&b.path))
        });
        found.truncate(self.limit as usize);
        found
    }
}
