//! What an index is: for which collections, over which fields, in which order.
//!
//! Definitions are words only; which of them exist, and in which state, is known to `catalog`.
//!
//! A document has entries in an index when it has all of the index's fields. Behind the fields comes the document's
//! name, in the direction of the last ordered field, so that an index has one total order. Scans run both ways: an
//! index serves its own order and the reverse of it.

use std::fmt::{self, Display, Formatter};

use watchfire_model::limits::VECTOR_DIMENSIONS_MAX;
use watchfire_model::path::check_collection_id;
use watchfire_model::{FieldPath, Invalid};

/// Fields of one index, without the name that ends it.
pub const INDEX_FIELDS_MAX: usize = 100;

/// Names an index for its life; never used again afterwards. Shown to users as lower-case hexadecimal.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexId(pub u64);

impl Display for IndexId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl IndexId {
    /// Reads what `Display` writes, and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Self(u64::from_str_radix(text, 16).ok()?);
        (id.to_string() == text).then_some(id)
    }
}

/// Which documents share one sequence of entries.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Those of one collection: queries of a single collection.
    Collection,
    /// Those of all collections with one id: queries of a collection group.
    Group,
}

/// What an index keeps of one field.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Its value, smallest first.
    Ascending,
    /// Its value, largest first.
    Descending,
    /// Each distinct element of an array.
    Contains,
    /// A vector of this many numbers.
    Vector {
        /// How many numbers, at least 1 and at most `VECTOR_DIMENSIONS_MAX`.
        dimension: u32,
    },
}

/// One field of an index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexField {
    /// Never `__name__`.
    pub path: FieldPath,
    /// What is kept of it.
    pub mode: Mode,
}

/// An index over the collections of one id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Definition {
    group: String,
    scope: Scope,
    fields: Vec<IndexField>,
}

impl Definition {
    /// Fails for an id that no collection can have, no or too many fields, a field twice, more than one array field,
    /// a vector that is not the last field or has no dimension, and the name among the fields.
    pub fn new(group: String, scope: Scope, fields: Vec<IndexField>) -> Result<Self, Invalid> {
        check_collection_id(&group)?;
        if fields.is_empty() || fields.len() > INDEX_FIELDS_MAX {
            return Err(Invalid::new(format!(
                "An index must have between 1 and {INDEX_FIELDS_MAX} fields, but has {}.",
                fields.len()
            )));
        }
        let mut arrays = 0;
        for (position, field) in fields.iter().enumerate() {
            if field.path.is_document_name() {
                return Err(Invalid::new(
                    "__name__ can only be the last field of an index, in the direction of the field before it.",
                ));
            }
            let earlier = fields.iter().take(position);
            if earlier.clone().any(|other| other.path == field.path) {
                return Err(Invalid::new(format!(
                    "The index has the field {} twice.",
                    field.path
                )));
            }
            match field.mode {
                Mode::Ascending | Mode::Descending => {}
                Mode::Contains => arrays += 1,
                Mode::Vector { dimension } => {
                    if dimension == 0 || dimension as usize > VECTOR_DIMENSIONS_MAX {
                        return Err(Invalid::new(format!(
                            "The vector field {} must have between 1 and {VECTOR_DIMENSIONS_MAX} dimensions, but has {dimension}.",
                            field.path
                        )));
                    }
                    if position + 1 != fields.len() {
                        return Err(Invalid::new(format!(
                            "The vector field {} must be the last field of the index.",
                            field.path
                        )));
                    }
                }
            }
        }
        if arrays > 1 {
            return Err(Invalid::new("An index can have at most one array field."));
        }
        Ok(Self {
            group,
            scope,
            fields,
        })
    }

    /// The id of the collections.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Which documents share one sequence.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// In order, without the name.
    pub fn fields(&self) -> &[IndexField] {
        &self.fields
    }

    /// Whether the names at the end of the entries run downwards.
    pub fn name_descends(&self) -> bool {
        let directions = self
            .fields
            .iter()
            .rev()
            .filter_map(|field| match field.mode {
                Mode::Ascending => Some(false),
                Mode::Descending => Some(true),
                Mode::Contains | Mode::Vector { .. } => None,
            });
        directions.into_iter().next().unwrap_or(false)
    }
}

/// As users know it: `(a ASC, b CONTAINS, __name__ ASC)`.
impl Display for Definition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for field in &self.fields {
            let mode = match field.mode {
                Mode::Ascending => "ASC",
                Mode::Descending => "DESC",
                Mode::Contains => "CONTAINS",
                Mode::Vector { dimension } => {
                    write!(f, "{} VECTOR<{dimension}>, ", field.path)?;
                    continue;
                }
            };
            write!(f, "{} {mode}, ", field.path)?;
        }
        let name = if self.name_descends() { "DESC" } else { "ASC" };
        write!(f, "__name__ {name})")
    }
}
