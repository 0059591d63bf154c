//! Values and their size.

use std::collections::BTreeMap;

use crate::{DocumentName, Invalid, Timestamp};

/// Latitude −90..90 and longitude −180..180, in degrees.
#[derive(Copy, Clone, Debug)]
pub struct GeoPoint {
    pub latitude: f64,
    pub longitude: f64,
}

/// One value of a document. `compare` gives the total order; `==` is deliberately absent (see `compare`).
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    /// Every NaN is the same NaN.
    Double(f64),
    Timestamp(Timestamp),
    String(String),
    Bytes(Vec<u8>),
    Reference(DocumentName),
    GeoPoint(GeoPoint),
    Array(Vec<Value>),
    /// On the wire a map with `__type__: "__vector__"` and `value: [doubles]`.
    Vector(Vec<f64>),
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// Size in bytes as the service counts it.
    pub fn size(&self) -> usize {
        unimplemented!()
    }
    /// Depth of maps and arrays; a scalar has 0.
    pub fn depth(&self) -> usize {
        unimplemented!()
    }
    /// Refuses what may not be stored: an array directly in an array, too deep nesting, too long values, reserved names.
    /// `path` is the field, for the text.
    pub fn check_storable(&self, path: &str) -> Result<(), Invalid> {
        let _ = path;
        unimplemented!()
    }
}
