//! One document before and after a commit.
//!
//! It says nothing of the write that led there; who listens only wants both sides.

use std::sync::Arc;

use crate::document::Document;
use crate::path::DocumentPath;

/// What one commit made of one document. At least one side exists; a no-op write makes no change.
#[derive(Clone, Debug)]
pub struct Change {
    /// The document that both sides are states of.
    pub path: DocumentPath,
    /// As it was; `None` if it has been created.
    pub before: Option<Arc<Document>>,
    /// As it is; `None` if it has been deleted.
    pub after: Option<Arc<Document>>,
}
