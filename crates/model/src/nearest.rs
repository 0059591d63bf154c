//! Nearest-neighbour search: what is asked, how far two vectors are apart, and the plain answer.

use crate::field::FieldPath;

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
