//! Names: databases, collections and documents, and the order of document names.
//!
//! Paths are relative to their database and kept as one string with `/` between segments, because that
//! is how they are stored, hashed and shown; a path that exists has been checked.
//! Nothing here knows how a path looks as a key (see `order`).

use std::cmp::Ordering;
use std::sync::Arc;

use crate::invalid::Invalid;
use crate::limits::{COLLECTION_DEPTH_MAX, DATABASE_ID_BYTES_MAX, ID_BYTES_MAX, NAME_BYTES_MAX};

/// Bytes that a name costs beyond its ids.
const NAME_SIZE_BASE: usize = 16;

/// Length in bytes of the longest full name: a path and the database before it, however the latter is escaped.
const FULL_NAME_BYTES_MAX: usize = NAME_BYTES_MAX + 2 * DATABASE_ID_BYTES_MAX + 64;

/// `projects/{project}/databases/{database}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatabaseName {
    project: Arc<str>,
    database: Arc<str>,
}

impl DatabaseName {
    /// From the two ids: not empty, no `/`, not `.` or `..`, at most 500 bytes.
    pub fn new(project: &str, database: &str) -> Result<Self, Invalid> {
        for (what, id) in [("Project", project), ("Database", database)] {
            let reason = match id {
                "" => Some("it is empty"),
                "." | ".." => Some("it is reserved"),
                _ if id.contains('/') => Some("it contains \"/\""),
                _ if id.len() > DATABASE_ID_BYTES_MAX => {
                    return Err(Invalid::new(format!(
                        "{what} id is longer than {DATABASE_ID_BYTES_MAX} bytes."
                    )));
                }
                _ => None,
            };
            if let Some(reason) = reason {
                return Err(Invalid::new(format!(
                    "{what} id \"{id}\" is invalid because {reason}."
                )));
            }
        }
        Ok(Self {
            project: project.into(),
            database: database.into(),
        })
    }

    /// Parses `projects/{p}/databases/{d}`; `%28default%29` is `(default)`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (name, rest) = split_database("Database name", text)?;
        if rest.is_empty() {
            Ok(name)
        } else {
            Err(Invalid::new(format!(
                "Database name \"{text}\" has unexpected text at index {}.",
                text.len() - rest.len()
            )))
        }
    }

    /// The id of the project.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The id of the database, `(default)` for the one without a name.
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
    /// Fails when a segment may not be an id, and when the number of segments is odd or the path is too long.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let count = check_path(text)?;
        if count % 2 != 0 {
            return Err(Invalid::new(format!(
                "Document path \"{text}\" must have an even number of segments, found {count}."
            )));
        }
        Ok(Self { text: text.into() })
    }

    /// The path without the name of the database.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Collection id, document id, collection id, …
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.text.split('/')
    }

    /// The last segment.
    pub fn id(&self) -> &str {
        self.split().1
    }

    /// The collection that holds the document.
    pub fn collection(&self) -> CollectionPath {
        CollectionPath {
            text: self.collection_str().into(),
        }
    }

    /// The path of the collection that holds the document, as text.
    pub fn collection_str(&self) -> &str {
        self.split().0
    }

    /// The id of the collection that holds the document.
    pub fn collection_id(&self) -> &str {
        last_segment(self.collection_str())
    }

    /// Size of the name in bytes as the service counts it; it is the same in every database.
    pub fn size(&self) -> usize {
        let ids: usize = self
            .segments()
            .map(|id| match numeric_id(id) {
                Some(_) => 8,
                None => id.len() + 1,
            })
            .sum();
        ids + NAME_SIZE_BASE
    }

    fn split(&self) -> (&str, &str) {
        self.text
            .rsplit_once('/')
            .expect("a checked document path has at least two segments")
    }
}

impl Ord for DocumentPath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_paths(&self.text, &other.text)
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
/// `Ord` is that of document names, segment by segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CollectionPath {
    text: Arc<str>,
}

impl CollectionPath {
    /// Fails when a segment may not be an id, and when the number of segments is even or the path is too long.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let count = check_path(text)?;
        if count % 2 == 0 {
            return Err(Invalid::new(format!(
                "Collection path \"{text}\" must have an odd number of segments, found {count}."
            )));
        }
        Ok(Self { text: text.into() })
    }

    /// The path without the name of the database.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Collection id, document id, …, collection id.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.text.split('/')
    }

    /// The last segment: the id by which collection groups are formed.
    pub fn id(&self) -> &str {
        last_segment(&self.text)
    }

    /// What the collection hangs under.
    pub fn parent(&self) -> Parent {
        match self.text.rsplit_once('/') {
            None => Parent::Root,
            Some((parent, _)) => Parent::Document(DocumentPath {
                text: parent.into(),
            }),
        }
    }

    /// The document `id` in this collection; the id is validated.
    pub fn document(&self, id: &str) -> Result<DocumentPath, Invalid> {
        check_document_id(id)?;
        let text = format!("{}/{id}", self.text);
        check_path_length(&text)?;
        Ok(DocumentPath { text: text.into() })
    }

    /// Whether the document lies directly in this collection.
    pub fn holds(&self, path: &DocumentPath) -> bool {
        path.collection_str() == self.as_str()
    }
}

impl Ord for CollectionPath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_paths(&self.text, &other.text)
    }
}

impl PartialOrd for CollectionPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
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
    /// The database itself.
    Root,
    /// A document, which need not exist.
    Document(DocumentPath),
}

impl Parent {
    /// The path without the name of the database; empty for the root.
    pub fn as_str(&self) -> &str {
        match self {
            Parent::Root => "",
            Parent::Document(path) => path.as_str(),
        }
    }

    /// The collection `id` below this parent; the id is validated.
    pub fn collection(&self, id: &str) -> Result<CollectionPath, Invalid> {
        check_collection_id(id)?;
        let text: Arc<str> = match self {
            Parent::Root => id.into(),
            Parent::Document(path) => {
                let text = format!("{path}/{id}");
                check_path_length(&text)?;
                check_depth(text.split('/').count())?;
                text.into()
            }
        };
        Ok(CollectionPath { text })
    }

    /// Whether the document lies (at any depth) below this parent; a document is not below itself.
    pub fn contains(&self, path: &DocumentPath) -> bool {
        match self {
            Parent::Root => true,
            Parent::Document(parent) => path
                .as_str()
                .strip_prefix(parent.as_str())
                .is_some_and(|rest| rest.starts_with('/')),
        }
    }
}

impl std::fmt::Display for Parent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A document with its database, as the protocol writes it:
/// `projects/{p}/databases/{d}/documents/{path}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DocumentName {
    /// Where the document lives.
    pub database: DatabaseName,
    /// The document inside its database.
    pub path: DocumentPath,
}

impl DocumentName {
    /// Fails with the index at which the text stops being a name, or with the complaint about its path.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (database, path) = split_documents("Document name", text)?;
        match path {
            None => Err(lacks("Document name", text, "/", text.len())),
            Some(path) => Ok(Self {
                database,
                path: parse_below("Document name", text, path)?,
            }),
        }
    }
}

impl Ord for DocumentName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.database
            .cmp(&other.database)
            .then_with(|| self.path.cmp(&other.path))
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
    let (database, path) = split_documents("Document parent name", text)?;
    let parent = match path {
        None => Parent::Root,
        Some(path) => Parent::Document(parse_below("Document parent name", text, path)?),
    };
    Ok((database, parent))
}

/// The document path at the end of `text`. A collection's path is one that stops too early.
fn parse_below(what: &str, text: &str, path: &str) -> Result<DocumentPath, Invalid> {
    if check_path(path)? % 2 == 0 {
        Ok(DocumentPath { text: path.into() })
    } else {
        Err(lacks(what, text, "/", text.len()))
    }
}

/// Whether `text` may be a collection id (see `limits`); the complaint has the protocol's text.
pub fn check_collection_id(text: &str) -> Result<(), Invalid> {
    if text.len() > ID_BYTES_MAX {
        return Err(Invalid::new(format!(
            "The query kind is longer than {ID_BYTES_MAX} bytes."
        )));
    }
    match complaint(text, is_reserved(text)) {
        None => Ok(()),
        Some(reason) => Err(Invalid::new(format!(
            "Collection id \"{text}\" is invalid because {reason}."
        ))),
    }
}

/// Whether `text` may be a document id: as a collection id, but numeric ids (`__id7__`) are allowed.
pub fn check_document_id(text: &str) -> Result<(), Invalid> {
    check_resource_id(text, is_reserved(text) && numeric_id(text).is_none())
}

/// Whether a name has the form `__…__`, which is kept for the service itself.
pub fn is_reserved(text: &str) -> bool {
    text.len() >= 4 && text.starts_with("__") && text.ends_with("__")
}

/// The number of a numeric id, `__id{signed 64-bit decimal}__`.
///
/// Only the shortest spelling of a number counts (`__id07__` and `__id-0__` do not), so that two
/// ids are the same text exactly if they are equal in the order.
pub fn numeric_id(segment: &str) -> Option<i64> {
    let number = segment.strip_prefix("__id")?.strip_suffix("__")?;
    let digits = number.strip_prefix('-').unwrap_or(number);
    let shortest = if digits.starts_with('0') {
        number == "0"
    } else {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    if shortest { number.parse().ok() } else { None }
}

/// The order of two slash-separated paths: numeric ids before strings, a parent before what is below it.
fn compare_paths(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        let ordering = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match (numeric_id(a), numeric_id(b)) {
                (Some(a), Some(b)) => a.cmp(&b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => a.cmp(b),
            },
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
}

fn last_segment(text: &str) -> &str {
    text.rsplit_once('/').map_or(text, |(_, last)| last)
}

/// Checks every segment and the length; returns the number of segments.
fn check_path(text: &str) -> Result<usize, Invalid> {
    // The length goes first: it bounds the work and the size of every later complaint.
    check_path_length(text)?;
    let mut count = 0;
    for (index, segment) in text.split('/').enumerate() {
        if index % 2 == 0 {
            check_resource_id(segment, is_reserved(segment))?;
        } else {
            check_document_id(segment)?;
        }
        count = index + 1;
    }
    check_depth(count)?;
    Ok(count)
}

fn check_path_length(text: &str) -> Result<(), Invalid> {
    if text.len() > NAME_BYTES_MAX {
        Err(Invalid::new(format!(
            "The name of a document is longer than {NAME_BYTES_MAX} bytes."
        )))
    } else {
        Ok(())
    }
}

fn check_depth(segments: usize) -> Result<(), Invalid> {
    if segments.div_ceil(2) > COLLECTION_DEPTH_MAX {
        Err(Invalid::new(format!(
            "The name of a document has more than {COLLECTION_DEPTH_MAX} collections."
        )))
    } else {
        Ok(())
    }
}

fn check_resource_id(text: &str, reserved: bool) -> Result<(), Invalid> {
    if text.len() > ID_BYTES_MAX {
        return Err(Invalid::new(format!(
            "Resource id is longer than {ID_BYTES_MAX} bytes."
        )));
    }
    match complaint(text, reserved) {
        None => Ok(()),
        Some(reason) => Err(Invalid::new(format!(
            "Resource id \"{text}\" is invalid because {reason}."
        ))),
    }
}

fn complaint(id: &str, reserved: bool) -> Option<&'static str> {
    if id.is_empty() {
        Some("it is empty")
    } else if reserved || id == "." || id == ".." {
        Some("it is reserved")
    } else if id.contains('/') {
        Some("it contains \"/\"")
    } else {
        None
    }
}

fn lacks(what: &str, text: &str, expected: &str, index: usize) -> Invalid {
    Invalid::new(format!(
        "{what} \"{text}\" lacks \"{expected}\" at index {index}."
    ))
}

/// Takes `projects/{p}/databases/{d}` off the front; returns the name and the rest.
fn split_database<'a>(what: &str, text: &'a str) -> Result<(DatabaseName, &'a str), Invalid> {
    // Bounds complaints; the path has its own limit, so that every path that exists can be named in full.
    if text.len() > FULL_NAME_BYTES_MAX {
        return Err(Invalid::new(format!(
            "{what} is longer than {FULL_NAME_BYTES_MAX} bytes."
        )));
    }
    let literal = |rest: &'a str, expected: &str| {
        rest.strip_prefix(expected)
            .ok_or_else(|| lacks(what, text, expected, text.len() - rest.len()))
    };
    let id = |rest: &'a str| rest.split_at(rest.find('/').unwrap_or(rest.len()));

    let rest = literal(literal(text, "projects")?, "/")?;
    let (project, rest) = id(rest);
    let rest = literal(literal(literal(rest, "/")?, "databases")?, "/")?;
    let (database, rest) = id(rest);
    let database = if database == "%28default%29" {
        "(default)"
    } else {
        database
    };
    Ok((DatabaseName::new(project, database)?, rest))
}

/// Takes `projects/{p}/databases/{d}/documents` apart; the path is `None` when nothing follows.
fn split_documents<'a>(
    what: &str,
    text: &'a str,
) -> Result<(DatabaseName, Option<&'a str>), Invalid> {
    let (database, rest) = split_database(what, text)?;
    let index = |rest: &str| text.len() - rest.len();
    let rest = rest
        .strip_prefix('/')
        .ok_or_else(|| lacks(what, text, "/", index(rest)))?;
    let rest = rest
        .strip_prefix("documents")
        .ok_or_else(|| lacks(what, text, "documents", index(rest)))?;
    if rest.is_empty() {
        return Ok((database, None));
    }
    let path = rest
        .strip_prefix('/')
        .ok_or_else(|| lacks(what, text, "/", index(rest)))?;
    if path.is_empty() || path.ends_with('/') {
        return Err(Invalid::new(format!(
            "{what} \"{text}\" has invalid trailing \"/\"."
        )));
    }
    Ok((database, Some(path)))
}

#[cfg(test)]
mod tests;
