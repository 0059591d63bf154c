//! One document before and after a commit.

use std::sync::Arc;

use crate::{Document, DocumentPath};

/// What one commit made of one document. At least one side exists; a no-op write makes no change.
#[derive(Clone, Debug)]
pub struct Change {
    pub path: DocumentPath,
    pub before: Option<Arc<Document>>,
    pub after: Option<Arc<Document>>,
}
