//! Names: databases, collections and documents, and the order of document names.
//!
//! Paths are relative to their database and kept as one string with `/` between segments.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::Invalid;

/// `projects/{project}/databases/{database}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatabaseName {
    project: Arc<str>,
    database: Arc<str>,
}

impl DatabaseName {
    /// From the two ids.
    pub fn new(project: &str, database: &str) -> Result<Self, Invalid> {
        let _ = (project, database);
        unimplemented!()
    }
    /// Parses `projects/{p}/databases/{d}`; `%28default%29` is `(default)`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let _ = text;
        unimplemented!()
    }
    pub fn project(&self) -> &str {
        &self.project
    }
    pub fn database(&self) -> &str {
        &self.database
    }
}

impl std::fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "projects/{}/databases/{}", self.project, self.database)
    }
}

/// A document inside its database: `c1/d1/c2/d2`, an even number of segments, validated.
/// `Ord` is the order of `__name__`: segment by segment, numeric ids before strings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DocumentPath {
    text: Arc<str>,
}

impl DocumentPath {
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let _ = text;
        unimplemented!()
    }
    pub fn as_str(&self) -> &str {
        &self.text
    }
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.text.split('/')
    }
    /// The last segment.
    pub fn id(&self) -> &str {
        unimplemented!()
    }
    /// The collection that holds the document.
    pub fn collection(&self) -> CollectionPath {
        unimplemented!()
    }
}

impl Ord for DocumentPath {
    fn cmp(&self, other: &Self) -> Ordering {
        let _ = other;
        unimplemented!()
    }
}
impl PartialOrd for DocumentPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl std::fmt::Display for DocumentPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// A collection inside its database: `c1` or `c1/d1/c2`, an odd number of segments, validated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CollectionPath {
    text: Arc<str>,
}

impl CollectionPath {
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let _ = text;
        unimplemented!()
    }
    pub fn as_str(&self) -> &str {
        &self.text
    }
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.text.split('/')
    }
    /// The last segment: the id by which collection groups are formed.
    pub fn id(&self) -> &str {
        unimplemented!()
    }
    pub fn parent(&self) -> Parent {
        unimplemented!()
    }
    /// The document `id` in this collection; the id is validated.
    pub fn document(&self, id: &str) -> Result<DocumentPath, Invalid> {
        let _ = id;
        unimplemented!()
    }
}

impl std::fmt::Display for CollectionPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Under what collections hang: the root of the database, or a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Parent {
    Root,
    Document(DocumentPath),
}

impl Parent {
    /// The collection `id` below this parent; the id is validated.
    pub fn collection(&self, id: &str) -> Result<CollectionPath, Invalid> {
        let _ = id;
        unimplemented!()
    }
    /// Whether the document lies (at any depth) below this parent.
    pub fn contains(&self, path: &DocumentPath) -> bool {
        let _ = path;
        unimplemented!()
    }
}

/// A document with its database, as the protocol writes it:
/// `projects/{p}/databases/{d}/documents/{path}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DocumentName {
    pub database: DatabaseName,
    pub path: DocumentPath,
}

impl DocumentName {
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let _ = text;
        unimplemented!()
    }
}

impl Ord for DocumentName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.database.cmp(&other.database).then_with(|| self.path.cmp(&other.path))
    }
}
impl PartialOrd for DocumentName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::fmt::Display for DocumentName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/documents/{}", self.database, self.path)
    }
}

/// Parses `projects/{p}/databases/{d}/documents[/{document path}]`, the `parent` of queries and listings.
pub fn parse_parent(text: &str) -> Result<(DatabaseName, Parent), Invalid> {
    let _ = text;
    unimplemented!()
}

/// Whether `text` may be a collection id (see `limits`); the complaint has the protocol's text.
pub fn check_collection_id(text: &str) -> Result<(), Invalid> {
    let _ = text;
    unimplemented!()
}
