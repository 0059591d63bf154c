//! The newest state of the documents that were written last, so that a busy document is not read again for every
//! group. Only right while the committer knows every commit: it forgets everything when it does not.

use std::collections::HashMap;
use std::sync::Arc;

use watchfire_model::{Document, DocumentPath};

/// How many documents are remembered; past it everything is forgotten.
pub const LATEST_DOCUMENTS_MAX: usize = 4096;
/// How many bytes of memory they may take together; past it everything is forgotten.
pub const LATEST_BYTES_MAX: usize = 16 << 20;

/// Documents as they are at the head; `None` for one that does not exist.
#[derive(Debug, Default)]
pub struct Latest {
    documents: HashMap<DocumentPath, Option<Arc<Document>>>,
    bytes: usize,
}

impl Latest {
    /// The state at the head: the outer `None` is "not remembered", the inner one "does not exist".
    pub fn get(&self, path: &DocumentPath) -> Option<Option<Arc<Document>>> {
        self.documents.get(path).cloned()
    }

    /// Remembers the state at the head.
    pub fn put(&mut self, path: DocumentPath, document: Option<Arc<Document>>) {
        let size = |document: &Option<Arc<Document>>| {
            document.as_ref().map_or(0, |document| document.memory())
        };
        self.bytes += size(&document);
        if let Some(old) = self.documents.insert(path, document) {
            self.bytes = self.bytes.saturating_sub(size(&old));
        }
        if self.documents.len() > LATEST_DOCUMENTS_MAX || self.bytes > LATEST_BYTES_MAX {
            self.clear();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.documents.clear();
        self.bytes = 0;
    }
}
