//! A read at one version that records what it has read.

use std::sync::Arc;

use watchfire_model::{Aggregation, CollectionPath, Document, DocumentPath, FieldPath, Parent, Query, Timestamp, Value};
use watchfire_storage::Version;

use crate::Error;

/// What a query cost.
#[derive(Clone, Debug, Default)]
pub struct ExecutionStats {
    pub results_returned: u64,
    pub index_entries_scanned: u64,
    pub documents_scanned: u64,
    /// Field paths with directions of the index used, e.g. `(a ASC, __name__ ASC)`; none for a scan.
    pub index_used: Option<String>,
}

/// A consistent read of one database at one version. Inside a read-write transaction every read is recorded there.
pub struct View {}

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// In order of `__name__`. `None` for a missing document that has descendants (only with `show_missing`).
    pub documents: Vec<(DocumentPath, Option<Arc<Document>>)>,
    pub more: bool,
}

impl View {
    pub fn version(&self) -> Version {
        unimplemented!()
    }
    /// The version as users see it.
    pub fn read_time(&self) -> Timestamp {
        unimplemented!()
    }
    pub async fn document(&self, path: &DocumentPath) -> Result<Option<Arc<Document>>, Error> {
        let _ = path;
        unimplemented!()
    }
    /// Answers line up with the paths.
    pub async fn documents(&self, paths: &[DocumentPath]) -> Result<Vec<Option<Arc<Document>>>, Error> {
        let _ = paths;
        unimplemented!()
    }
    /// The query's result in order, offset and limit applied, projection not applied.
    /// Bounded memory: past the limit, ResourceExhausted.
    pub async fn query(&self, query: &Query) -> Result<(Vec<Arc<Document>>, ExecutionStats), Error> {
        let _ = query;
        unimplemented!()
    }
    pub async fn aggregate(&self, query: &Query, aggregations: Vec<Aggregation>) -> Result<Vec<(String, Value)>, Error> {
        let _ = (query, aggregations);
        unimplemented!()
    }
    /// One page of a collection by name, after `after`.
    pub async fn list_documents(&self, collection: &CollectionPath, after: Option<&DocumentPath>, limit: usize, show_missing: bool) -> Result<Listed, Error> {
        let _ = (collection, after, limit, show_missing);
        unimplemented!()
    }
    /// Ids of the collections directly below the parent, in byte order, after `after`; and whether there are more.
    pub async fn collection_ids(&self, parent: &Parent, after: Option<&str>, limit: usize) -> Result<(Vec<String>, bool), Error> {
        let _ = (parent, after, limit);
        unimplemented!()
    }
}

#[expect(dead_code, reason = "skeleton")]
fn uses(_: FieldPath) {}
