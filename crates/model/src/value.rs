//! Values, their size, and what may be stored.
//!
//! `==` is deliberately absent: there are two equalities, and `compare` makes the caller choose.
//! Recursion is bounded by `NESTING_DEPTH_MAX` for what is stored; whoever decodes foreign values bounds
//! their depth before they become a `Value`.

use std::collections::BTreeMap;

use crate::invalid::Invalid;
use crate::limits::{
    FIELD_NAME_BYTES_MAX, NESTING_DEPTH_MAX, VALUE_BYTES_MAX, VECTOR_DIMENSIONS_MAX,
};
use crate::path::{DocumentName, is_reserved};
use crate::time::Timestamp;

/// Size of a vector beyond its numbers: the names `__type__` and `value` and the string `__vector__`,
/// which is how it travels.
const VECTOR_SIZE_BASE: usize = 9 + 11 + 6;

/// Latitude −90..90 and longitude −180..180, in degrees.
#[derive(Copy, Clone, Debug)]
pub struct GeoPoint {
    /// Degrees north, −90 to 90.
    pub latitude: f64,
    /// Degrees east, −180 to 180.
    pub longitude: f64,
}

/// One value of a document. `compare` gives the total order; `==` is deliberately absent (see `compare`).
#[derive(Clone, Debug)]
pub enum Value {
    /// The value that says "nothing", which differs from an absent field.
    Null,
    /// True or false.
    Boolean(bool),
    /// A whole number of 64 bits with sign.
    Integer(i64),
    /// Every NaN is the same NaN.
    Double(f64),
    /// A moment in microseconds.
    Timestamp(Timestamp),
    /// Unicode text.
    String(String),
    /// Any bytes.
    Bytes(Vec<u8>),
    /// The name of a document, which need not exist and may be in another database.
    Reference(DocumentName),
    /// A place on earth.
    GeoPoint(GeoPoint),
    /// Values in order; no array directly among them.
    Array(Vec<Value>),
    /// On the wire a map with `__type__: "__vector__"` and `value: [doubles]`.
    Vector(Vec<f64>),
    /// Values by raw name.
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// Size in bytes as the service counts it.
    pub fn size(&self) -> usize {
        match self {
            Value::Null | Value::Boolean(_) => 1,
            Value::Integer(_) | Value::Double(_) | Value::Timestamp(_) => 8,
            Value::String(text) => text.len() + 1,
            Value::Bytes(bytes) => bytes.len(),
            Value::Reference(name) => name.path.size(),
            Value::GeoPoint(_) => 16,
            Value::Array(values) => values.iter().map(Value::size).sum(),
            Value::Vector(numbers) => VECTOR_SIZE_BASE + 8 * numbers.len(),
            Value::Map(fields) => fields_size(fields),
        }
    }

    /// About how many bytes of memory the value takes, itself included. Bounds of memory count these and not the size:
    /// many small values take thirty times as much as the service charges.
    pub fn memory(&self) -> usize {
        let beyond = match self {
            Value::Null
            | Value::Boolean(_)
            | Value::Integer(_)
            | Value::Double(_)
            | Value::Timestamp(_)
            | Value::GeoPoint(_) => 0,
            Value::String(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Reference(name) => name.path.as_str().len(),
            Value::Array(values) => values.iter().map(Value::memory).sum(),
            Value::Vector(numbers) => size_of_val(numbers.as_slice()),
            Value::Map(fields) => fields_memory(fields),
        };
        size_of::<Value>() + beyond
    }

    /// Depth of maps and arrays; a scalar has 0, a vector counts as one level.
    pub fn depth(&self) -> usize {
        match self {
            Value::Array(values) => 1 + values.iter().map(Value::depth).max().unwrap_or(0),
            Value::Map(fields) => 1 + fields.values().map(Value::depth).max().unwrap_or(0),
            Value::Vector(_) => 1,
            Value::Null
            | Value::Boolean(_)
            | Value::Integer(_)
            | Value::Double(_)
            | Value::Timestamp(_)
            | Value::String(_)
            | Value::Bytes(_)
            | Value::Reference(_)
            | Value::GeoPoint(_) => 0,
        }
    }

    /// Refuses what may not be stored: an array directly in an array, too deep nesting, too long values, reserved names.
    /// `path` is the field, for the text.
    pub fn check_storable(&self, path: &str) -> Result<(), Invalid> {
        let place = Place {
            above: None,
            name: path,
        };
        self.check_at(&place, 0)
    }

    /// `depth` is the number of maps and arrays around this value.
    fn check_at(&self, path: &Place<'_>, depth: usize) -> Result<(), Invalid> {
        match self {
            Value::Null
            | Value::Boolean(_)
            | Value::Integer(_)
            | Value::Double(_)
            | Value::Timestamp(_)
            | Value::Reference(_) => Ok(()),
            Value::String(text) => check_length(path, text.len()),
            Value::Bytes(bytes) => check_length(path, bytes.len()),
            Value::GeoPoint(point) => point.check(),
            Value::Array(values) => {
                check_depth(path, depth)?;
                for value in values {
                    if matches!(value, Value::Array(_)) {
                        return Err(Invalid::new(
                            "Cannot convert an array value in an array value.",
                        ));
                    }
                    value.check_at(path, depth + 1)?;
                }
                Ok(())
            }
            Value::Vector(numbers) => {
                check_depth(path, depth)?;
                if numbers.len() > VECTOR_DIMENSIONS_MAX {
                    return Err(Invalid::new(format!(
                        "The vector of property \"{path}\" has {} dimensions, the maximum is {VECTOR_DIMENSIONS_MAX}.",
                        numbers.len()
                    )));
                }
                Ok(())
            }
            Value::Map(fields) => {
                check_depth(path, depth)?;
                for (name, value) in fields {
                    check_field_name(name)?;
                    let place = Place {
                        above: Some(path),
                        name,
                    };
                    value.check_at(&place, depth + 1)?;
                }
                Ok(())
            }
        }
    }
}

/// Where a value stands, for complaints. It is written out only when there is one: a document may have so many and
/// so deep fields that their paths would be thousands of times longer than itself.
struct Place<'a> {
    above: Option<&'a Place<'a>>,
    name: &'a str,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(above) = self.above {
            write!(f, "{above}.")?;
        }
        f.write_str(self.name)
    }
}

impl GeoPoint {
    /// Fails outside the ranges of latitude and longitude, and for NaN.
    pub fn check(&self) -> Result<(), Invalid> {
        for (what, degrees, bound) in [
            ("latitude", self.latitude, 90.0),
            ("longitude", self.longitude, 180.0),
        ] {
            if !(-bound..=bound).contains(&degrees) {
                return Err(Invalid::new(format!(
                    "The {what} of a geo point must lie between -{bound} and {bound}, found {degrees}."
                )));
            }
        }
        Ok(())
    }
}

/// Size of names and values together, as the service counts it.
pub fn fields_size(fields: &BTreeMap<String, Value>) -> usize {
    fields
        .iter()
        .map(|(name, value)| name.len() + 1 + value.size())
        .sum()
}

/// Memory of names and values together, as `Value::memory` counts it.
pub fn fields_memory(fields: &BTreeMap<String, Value>) -> usize {
    fields
        .iter()
        .map(|(name, value)| size_of::<String>() + name.len() + value.memory())
        .sum()
}

/// Whether `name` may be the name of a stored field, at the top or in a map.
pub fn check_field_name(name: &str) -> Result<(), Invalid> {
    if name.is_empty() {
        Err(Invalid::new("Invalid empty property path string."))
    } else if name.len() > FIELD_NAME_BYTES_MAX {
        Err(Invalid::new(format!(
            "property path is longer than {FIELD_NAME_BYTES_MAX} bytes."
        )))
    } else if is_reserved(name) {
        Err(Invalid::new(format!(
            "Invalid reserved name in field path {name}"
        )))
    } else {
        Ok(())
    }
}

fn check_length(path: &Place<'_>, bytes: usize) -> Result<(), Invalid> {
    if bytes > VALUE_BYTES_MAX {
        Err(Invalid::new(format!(
            "The value of property \"{path}\" is longer than {VALUE_BYTES_MAX} bytes."
        )))
    } else {
        Ok(())
    }
}

fn check_depth(path: &Place<'_>, depth: usize) -> Result<(), Invalid> {
    if depth >= NESTING_DEPTH_MAX {
        Err(Invalid::new(format!(
            "The value of property \"{path}\" is nested more than {NESTING_DEPTH_MAX} levels deep."
        )))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(name: &str, value: Value) -> Value {
        Value::Map(BTreeMap::from([(name.to_owned(), value)]))
    }

    fn refusal(value: &Value) -> String {
        value.check_storable("p").unwrap_err().to_string()
    }

    #[test]
    fn sizes() {
        let name =
            DocumentName::parse("projects/p/databases/d/documents/users/jeff/tasks/my_task_id")
                .unwrap();
        for (value, size) in [
            (Value::Null, 1),
            (Value::Boolean(true), 1),
            (Value::Integer(1), 8),
            (Value::Double(1.5), 8),
            (Value::Timestamp(Timestamp::EPOCH), 8),
            (Value::String("ü".to_owned()), 3),
            (Value::Bytes(vec![0; 5]), 5),
            (Value::Reference(name), 44),
            (
                Value::GeoPoint(GeoPoint {
                    latitude: 1.0,
                    longitude: 2.0,
                }),
                16,
            ),
            (Value::Array(vec![Value::Null, Value::Integer(1)]), 9),
            (Value::Vector(vec![1.0, 2.0]), 42),
            (map("ab", Value::Null), 4),
        ] {
            assert_eq!(value.size(), size, "{value:?}");
        }
    }

    #[test]
    fn memory_is_that_of_the_parts() {
        let one = size_of::<Value>();
        assert_eq!(Value::Array(vec![Value::Null; 9]).memory(), 10 * one);
        assert_eq!(Value::Vector(vec![0.0; 3]).memory(), one + 24);
        assert_eq!(
            map("ab", Value::String("xyz".to_owned())).memory(),
            2 * one + size_of::<String>() + 2 + 3
        );
    }

    #[test]
    fn arrays_hold_no_arrays() {
        let nested = Value::Array(vec![Value::Array(Vec::new())]);
        assert_eq!(
            refusal(&nested),
            "Cannot convert an array value in an array value."
        );
        let through_map = Value::Array(vec![map("a", Value::Array(Vec::new()))]);
        through_map.check_storable("p").unwrap();
    }

    #[test]
    fn nesting_ends_at_twenty() {
        let mut value = Value::Integer(1);
        for depth in 0..=NESTING_DEPTH_MAX {
            assert_eq!(value.depth(), depth);
            value.check_storable("p").unwrap();
            value = map("a", value);
        }
        assert!(refusal(&value).contains("nested more than 20 levels"));
        assert_eq!(Value::Vector(Vec::new()).depth(), 1);
    }

    #[test]
    fn deep_and_many_fields_are_checked_in_no_time() {
        // Written out for each of them, the paths would have some six gigabytes.
        let many = (0..200_000).map(|n| (n.to_string(), Value::String(String::new())));
        let mut value = Value::Map(many.collect());
        for _ in 1..NESTING_DEPTH_MAX {
            value = map(&"a".repeat(FIELD_NAME_BYTES_MAX), value);
        }
        value.check_storable("p").unwrap();
    }

    #[test]
    fn long_values_are_named() {
        Value::Bytes(vec![0; VALUE_BYTES_MAX])
            .check_storable("p")
            .unwrap();
        assert_eq!(
            refusal(&map("q", Value::Bytes(vec![0; VALUE_BYTES_MAX + 1]))),
            "The value of property \"p.q\" is longer than 1048487 bytes."
        );
        assert_eq!(
            refusal(&Value::String("x".repeat(VALUE_BYTES_MAX + 1))),
            "The value of property \"p\" is longer than 1048487 bytes."
        );
    }

    #[test]
    fn names_in_maps_are_checked() {
        assert_eq!(
            refusal(&map("__x__", Value::Null)),
            "Invalid reserved name in field path __x__"
        );
        assert!(map("", Value::Null).check_storable("p").is_err());
        assert!(
            map(&"x".repeat(1_501), Value::Null)
                .check_storable("p")
                .is_err()
        );
        map(&"x".repeat(1_500), Value::Null)
            .check_storable("p")
            .unwrap();
    }

    #[test]
    fn places_and_vectors_have_bounds() {
        let place = |latitude, longitude| {
            Value::GeoPoint(GeoPoint {
                latitude,
                longitude,
            })
        };
        place(-90.0, 180.0).check_storable("p").unwrap();
        for bad in [
            place(90.5, 0.0),
            place(0.0, -181.0),
            place(f64::NAN, 0.0),
            map("a", place(0.0, f64::INFINITY)),
            Value::Vector(vec![0.0; VECTOR_DIMENSIONS_MAX + 1]),
        ] {
            assert!(bad.check_storable("p").is_err(), "{bad:?}");
        }
    }
}
