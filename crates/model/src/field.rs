//! Field paths with their quoting, and masks.

use crate::{Fields, Invalid, Value};

/// A path to a field: raw (unquoted) segments, at least one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldPath {
    segments: Vec<String>,
}

impl FieldPath {
    /// Parses the protocol's syntax: simple segments, or any segment in backticks.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let _ = text;
        unimplemented!()
    }
    /// The pseudo field `__name__`.
    pub fn document_name() -> Self {
        Self { segments: vec!["__name__".to_owned()] }
    }
    pub fn is_document_name(&self) -> bool {
        self.segments.len() == 1 && self.segments.first().is_some_and(|s| s == "__name__")
    }
    /// From raw segments, which are checked.
    pub fn from_segments(segments: Vec<String>) -> Result<Self, Invalid> {
        let _ = segments;
        unimplemented!()
    }
    pub fn segments(&self) -> &[String] {
        &self.segments
    }
    /// Whether this path equals the other or is an ancestor of it.
    pub fn is_prefix_of(&self, other: &FieldPath) -> bool {
        other.segments.starts_with(&self.segments)
    }
    /// The value at this path, `None` where a parent is missing or no map.
    pub fn get<'a>(&self, fields: &'a Fields) -> Option<&'a Value> {
        let _ = fields;
        unimplemented!()
    }
    /// Sets the value, creating parents; a parent that is no map is overwritten.
    pub fn set(&self, fields: &mut Fields, value: Value) {
        let _ = (fields, value);
        unimplemented!()
    }
    /// Removes the value if it is there; parents stay.
    pub fn remove(&self, fields: &mut Fields) {
        let _ = fields;
        unimplemented!()
    }
}

/// Prints the protocol's syntax, quoted where needed.
impl std::fmt::Display for FieldPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let _ = f;
        unimplemented!()
    }
}

/// A set of field paths (normal form: sorted, none covered by another).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct FieldMask {
    paths: Vec<FieldPath>,
}

impl FieldMask {
    pub fn new(paths: Vec<FieldPath>) -> Self {
        let _ = paths;
        unimplemented!()
    }
    pub fn paths(&self) -> &[FieldPath] {
        &self.paths
    }
    /// The fields that the mask names, with the maps that lead to them. `__name__` alone gives none.
    pub fn project(&self, fields: &Fields) -> Fields {
        let _ = fields;
        unimplemented!()
    }
}
