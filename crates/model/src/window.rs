//! A limited, ordered result set: changes in, delta out; says when it must be refilled.

use std::sync::Arc;

use crate::{Change, Document, DocumentPath, Query};

/// What a batch of changes did to a window.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// Added, or still in and changed.
    pub upserted: Vec<Arc<Document>>,
    /// Were in and are not: with the document as it is now, `None` if it was deleted.
    pub removed: Vec<(DocumentPath, Option<Arc<Document>>)>,
}

/// Outcome of applying changes.
#[derive(Clone, Debug)]
pub enum Outcome {
    Delta(Delta),
    /// The window cannot know its new content from the changes alone: run the query again at the new
    /// version and call `replace`. The window is unchanged until then.
    Refill,
}

/// The result of one query, kept current. Keeps documents by query order.
#[derive(Debug)]
pub struct Window {}

impl Window {
    /// Starts with the query's result (in order, offset and limit applied).
    pub fn new(query: Arc<Query>, documents: Vec<Arc<Document>>) -> Self {
        let _ = (query, documents);
        unimplemented!()
    }
    pub fn query(&self) -> &Arc<Query> {
        unimplemented!()
    }
    pub fn len(&self) -> usize {
        unimplemented!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// In order.
    pub fn documents(&self) -> impl Iterator<Item = &Arc<Document>> {
        std::iter::empty()
    }
    /// Applies the changes of one or more commits (in order).
    pub fn apply(&mut self, changes: &[Change]) -> Outcome {
        let _ = changes;
        unimplemented!()
    }
    /// Installs a fresh result and tells the difference. `changes` are those that led to the refill
    /// (they say which document was deleted, and which left as what).
    pub fn replace(&mut self, documents: Vec<Arc<Document>>, changes: &[Change]) -> Delta {
        let _ = (documents, changes);
        unimplemented!()
    }
}
