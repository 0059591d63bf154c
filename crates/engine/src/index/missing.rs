//! What a query would need, in words that people and tools act on.

use std::fmt::{self, Display, Formatter};

use watchfire_model::DatabaseName;

use crate::index::definition::{Definition, IndexId};

/// An index that a query needs and cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingIndex {
    /// Whose.
    pub database: DatabaseName,
    /// What would serve the query. One field without a vector is an automatic index that is switched off.
    pub definition: Definition,
    /// It exists and is not complete yet.
    pub building: Option<IndexId>,
    /// The query has inequalities on several fields, about which there is more to read.
    pub several_inequalities: bool,
}

impl Display for MissingIndex {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "The query requires an index. {}", self.definition)
    }
}
