//! The total order of values, and the equalities that are built on it.
//!
//! Three relations, each with its use: `compare` sorts, `equals` (equal in the order) decides filters and array
//! transforms, `identical` decides whether a write changes anything.
//! The same order as bytes is in `order`; a property test holds the two together.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::value::Value;

/// 2^63, the first double above every integer.
const INTEGERS_END: f64 = 9_223_372_036_854_775_808.0;

impl Value {
    /// The total order: type rank, then the rule of the type.
    ///
    /// Numbers compare by exact mathematical value, NaN lowest and −0 equal to 0; strings by their UTF-8 bytes;
    /// references by project, database and path; geo points by latitude and longitude; arrays element by
    /// element; vectors by dimension first; maps by their sorted pairs, key before value.
    pub fn compare(&self, other: &Value) -> Ordering {
        match (self, other) {
            (Value::Null, Value::Null) => Ordering::Equal,
            (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
            (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
            (Value::Double(a), Value::Double(b)) => compare_doubles(*a, *b),
            (Value::Integer(a), Value::Double(b)) => compare_integer_with_double(*a, *b),
            (Value::Double(a), Value::Integer(b)) => compare_integer_with_double(*b, *a).reverse(),
            (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (Value::Reference(a), Value::Reference(b)) => a.cmp(b),
            (Value::GeoPoint(a), Value::GeoPoint(b)) => compare_doubles(a.latitude, b.latitude)
                .then_with(|| compare_doubles(a.longitude, b.longitude)),
            (Value::Array(a), Value::Array(b)) => compare_sequences(a, b, Value::compare),
            (Value::Vector(a), Value::Vector(b)) => a
                .len()
                .cmp(&b.len())
                .then_with(|| compare_sequences(a, b, |a, b| compare_doubles(*a, *b))),
            (Value::Map(a), Value::Map(b)) => {
                compare_sequences(a, b, |a, b| a.0.cmp(b.0).then_with(|| a.1.compare(b.1)))
            }
            (_, _) => self.type_rank().cmp(&other.type_rank()),
        }
    }

    /// Equal in the total order: 3 == 3.0, 0 == −0, NaN == NaN, null == null.
    pub fn equals(&self, other: &Value) -> bool {
        self.compare(other) == Ordering::Equal
    }

    /// The same bytes: type and value, −0 differs from 0, 3 differs from 3.0. Decides whether a write changes anything.
    pub fn identical(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Double(a), Value::Double(b)) => identical_doubles(*a, *b),
            (Value::Integer(_), Value::Double(_)) | (Value::Double(_), Value::Integer(_)) => false,
            (Value::GeoPoint(a), Value::GeoPoint(b)) => {
                identical_doubles(a.latitude, b.latitude)
                    && identical_doubles(a.longitude, b.longitude)
            }
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.identical(b))
            }
            (Value::Vector(a), Value::Vector(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| identical_doubles(*a, *b))
            }
            (Value::Map(a), Value::Map(b)) => identical_fields(a, b),
            // The other types have one representation for each place in the order.
            (_, _) => self.equals(other),
        }
    }

    /// 0-based rank of the type in the total order; integers and doubles share one.
    pub fn type_rank(&self) -> u8 {
        match self {
            Value::Null => rank::NULL,
            Value::Boolean(_) => rank::BOOLEAN,
            Value::Integer(_) | Value::Double(_) => rank::NUMBER,
            Value::Timestamp(_) => rank::TIMESTAMP,
            Value::String(_) => rank::STRING,
            Value::Bytes(_) => rank::BYTES,
            Value::Reference(_) => rank::REFERENCE,
            Value::GeoPoint(_) => rank::GEO_POINT,
            Value::Array(_) => rank::ARRAY,
            Value::Vector(_) => rank::VECTOR,
            Value::Map(_) => rank::MAP,
        }
    }
}

/// Places of the types in the order of values.
pub mod rank {
    /// Null.
    pub const NULL: u8 = 0;
    /// Booleans.
    pub const BOOLEAN: u8 = 1;
    /// Integers and doubles.
    pub const NUMBER: u8 = 2;
    /// Timestamps.
    pub const TIMESTAMP: u8 = 3;
    /// Strings.
    pub const STRING: u8 = 4;
    /// Bytes.
    pub const BYTES: u8 = 5;
    /// References.
    pub const REFERENCE: u8 = 6;
    /// Geo points.
    pub const GEO_POINT: u8 = 7;
    /// Arrays.
    pub const ARRAY: u8 = 8;
    /// Vectors.
    pub const VECTOR: u8 = 9;
    /// Maps.
    pub const MAP: u8 = 10;
}

/// Whether two maps have the same names with identical values.
pub fn identical_fields(a: &BTreeMap<String, Value>, b: &BTreeMap<String, Value>) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| a.0 == b.0 && a.1.identical(b.1))
}

/// Item by item; the shorter first when one begins the other.
fn compare_sequences<T>(
    a: impl IntoIterator<Item = T>,
    b: impl IntoIterator<Item = T>,
    compare: impl Fn(T, T) -> Ordering,
) -> Ordering {
    let (mut a, mut b) = (a.into_iter(), b.into_iter());
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match compare(a, b) {
                Ordering::Equal => {}
                unequal => return unequal,
            },
        }
    }
}

/// NaN lowest and equal to itself; −0 equal to 0.
fn compare_doubles(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a
            .partial_cmp(&b)
            .expect("doubles that are not NaN are ordered"),
    }
}

/// Exact: the integer is never rounded to a double, which would merge neighbours beyond 2^53.
fn compare_integer_with_double(integer: i64, double: f64) -> Ordering {
    if double.is_nan() {
        Ordering::Greater
    } else if double >= INTEGERS_END {
        Ordering::Less
    } else if double < -INTEGERS_END {
        Ordering::Greater
    } else {
        // Within the range the whole part converts exactly, and only the fraction is left to decide.
        let whole = double.trunc();
        integer.cmp(&(whole as i64)).then_with(|| {
            whole
                .partial_cmp(&double)
                .expect("doubles that are not NaN are ordered")
        })
    }
}

fn identical_doubles(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

#[cfg(test)]
mod tests;
