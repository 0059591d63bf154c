//! A document as it is stored and shown.

use std::collections::BTreeMap;

use crate::{DocumentPath, Timestamp, Value};

/// Top-level fields by raw name.
pub type Fields = BTreeMap<String, Value>;

/// A document that exists.
#[derive(Clone, Debug)]
pub struct Document {
    pub path: DocumentPath,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
    pub fields: Fields,
}

impl Document {
    /// Size in bytes as the service counts it.
    pub fn size(&self) -> usize {
        unimplemented!()
    }
}
