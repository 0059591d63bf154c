//! The result of one target, kept current: filled at a version, then changed by entries.
//! Does not know who watches.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use watchfire_engine::{Engine, Error, Version, View};
use watchfire_model::bloom::BloomFilter;
use watchfire_model::window::{Delta, Outcome, Window};
use watchfire_model::{Change, DatabaseName, Document, DocumentName, DocumentPath};

use crate::target::{Interest, SharedId};

/// Documents of a documents target that are read in one go.
pub const DOCUMENTS_PER_READ: usize = 128;
/// Memory that the documents of a documents target may take when they are read, in bytes; with more, the
/// target is refused. That of queries is bounded by the engine.
const DOCUMENTS_MEMORY_MAX: usize = 128 << 20;
/// How often a name that is not in a filter may seem to be.
pub const FALSE_POSITIVE_RATE: f64 = 1e-6;

/// A result as it was read.
#[derive(Debug)]
pub struct Filled {
    pub version: Version,
    /// In the query's order; for a documents target those that exist.
    pub documents: Vec<Arc<Document>>,
}

/// What watchers are told of a difference: documents as the target shows them.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// The version at which the documents named were in this state. What another target knows of a later
    /// version is newer.
    pub as_of: Version,
    /// Came in, or stayed in and changed.
    pub upserted: Vec<Arc<Document>>,
    /// Were in and are not, with the document as it is now; `None` if it does not exist.
    pub removed: Vec<(DocumentPath, Option<Arc<Document>>)>,
}

impl Shown {
    pub fn is_empty(&self) -> bool {
        self.upserted.is_empty() && self.removed.is_empty()
    }

    /// The number of documents named.
    pub fn len(&self) -> usize {
        self.upserted.len() + self.removed.len()
    }

    /// A difference as the target shows it.
    pub fn new(interest: &Interest, delta: Delta, as_of: Version) -> Self {
        Self {
            as_of,
            upserted: delta
                .upserted
                .iter()
                .map(|document| interest.show(document))
                .collect(),
            removed: delta
                .removed
                .into_iter()
                .map(|(path, now)| (path, now.map(|document| interest.show(&document))))
                .collect(),
        }
    }
}

/// What a session asks about the shared results when it speaks.
pub trait Results {
    /// Whether the target's result stands at the version that is being told.
    fn stands(&self, target: SharedId) -> bool;
    /// The whole result as the target shows it; empty unless it stands.
    fn documents(&self, target: SharedId) -> Vec<Arc<Document>>;
    /// The number of documents in the result.
    fn count(&self, target: SharedId) -> usize;
    /// The whole result with its documents whole, for who must compare; empty unless it stands.
    fn standing(&self, target: SharedId) -> Arc<Standing>;
}

/// A whole result. It is shared by all who need it before the result changes.
#[derive(Debug, Default)]
pub struct Standing {
    documents: Vec<Arc<Document>>,
    names: OnceLock<Arc<BloomFilter>>,
}

impl Standing {
    pub fn new(documents: Vec<Arc<Document>>) -> Self {
        Self {
            documents,
            names: OnceLock::new(),
        }
    }

    pub fn documents(&self) -> &[Arc<Document>] {
        &self.documents
    }

    /// The full names of the documents; made by the first who asks. All must ask for the same database.
    pub fn names(&self, database: &DatabaseName) -> Arc<BloomFilter> {
        let names = || {
            let names = self.documents.iter().map(|document| {
                DocumentName {
                    database: database.clone(),
                    path: document.path.clone(),
                }
                .to_string()
            });
            Arc::new(BloomFilter::new(names, FALSE_POSITIVE_RATE))
        };
        Arc::clone(self.names.get_or_init(names))
    }
}

#[derive(Debug)]
enum Members {
    Query(Window),
    /// Those of the named documents that exist.
    Documents(BTreeMap<DocumentPath, Arc<Document>>),
}

/// A result that stands at some version.
#[derive(Debug)]
pub struct ResultSet {
    members: Members,
    /// As it is, if somebody has asked since it changed.
    standing: OnceLock<Arc<Standing>>,
}

impl ResultSet {
    pub fn new(interest: &Interest, documents: Vec<Arc<Document>>) -> Self {
        let members = match interest {
            Interest::Query(query) => Members::Query(Window::new(Arc::clone(query), documents)),
            Interest::Documents(_) => Members::Documents(by_path(documents)),
        };
        Self {
            members,
            standing: OnceLock::new(),
        }
    }

    pub fn len(&self) -> usize {
        match &self.members {
            Members::Query(window) => window.len(),
            Members::Documents(documents) => documents.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn documents(&self) -> Vec<Arc<Document>> {
        match &self.members {
            Members::Query(window) => window.documents().cloned().collect(),
            Members::Documents(documents) => documents.values().cloned().collect(),
        }
    }

    /// The whole result, copied once however many ask before it changes.
    pub fn standing(&self) -> Arc<Standing> {
        let standing = || Arc::new(Standing::new(self.documents()));
        Arc::clone(self.standing.get_or_init(standing))
    }

    /// Applies changes that concern the target, in order.
    pub fn apply(&mut self, changes: &[Change]) -> Outcome {
        self.standing.take();
        match &mut self.members {
            Members::Query(window) => window.apply(changes),
            Members::Documents(documents) => {
                // The last change of a document says all that matters.
                let last: BTreeMap<&DocumentPath, &Change> = changes
                    .iter()
                    .map(|change| (&change.path, change))
                    .collect();
                let mut delta = Delta::default();
                for (path, change) in last {
                    match &change.after {
                        Some(after) => {
                            documents.insert(path.clone(), Arc::clone(after));
                            delta.upserted.push(Arc::clone(after));
                        }
                        None => {
                            if documents.remove(path).is_some() {
                                delta.removed.push((path.clone(), None));
                            }
                        }
                    }
                }
                Outcome::Delta(delta)
            }
        }
    }

    /// Installs a result that was read again; `changes` are those since the last difference.
    pub fn replace(&mut self, fresh: Vec<Arc<Document>>, changes: &[Change]) -> Delta {
        self.standing.take();
        match &mut self.members {
            Members::Query(window) => window.replace(fresh, changes),
            Members::Documents(documents) => {
                let fresh = by_path(fresh);
                let mut delta = Delta::default();
                for (path, document) in &fresh {
                    if documents
                        .get(path)
                        .is_none_or(|old| old.update_time != document.update_time)
                    {
                        delta.upserted.push(Arc::clone(document));
                    }
                }
                for path in documents.keys().filter(|path| !fresh.contains_key(path)) {
                    delta.removed.push((path.clone(), None));
                }
                *documents = fresh;
                delta
            }
        }
    }
}

/// Reads the result at the present.
pub async fn fill(engine: &Engine, interest: &Interest) -> Result<Filled, Error> {
    let view = engine.view().await?;
    Ok(Filled {
        version: view.version(),
        documents: read(&view, interest).await?,
    })
}

/// Reads the result at the view's version.
pub async fn read(view: &View, interest: &Interest) -> Result<Vec<Arc<Document>>, Error> {
    match interest {
        Interest::Query(query) => Ok(view.query(query).await?.0),
        Interest::Documents(paths) => {
            let mut paths: Vec<DocumentPath> = paths.iter().cloned().collect();
            paths.sort();
            read_documents(view, &paths).await
        }
    }
}

/// Those of the documents that exist.
async fn read_documents(view: &View, paths: &[DocumentPath]) -> Result<Vec<Arc<Document>>, Error> {
    let mut documents = Vec::with_capacity(paths.len());
    let mut memory = 0_usize;
    for piece in paths.chunks(DOCUMENTS_PER_READ) {
        for document in view.documents(piece).await?.into_iter().flatten() {
            memory += document.memory();
            documents.push(document);
        }
        if memory > DOCUMENTS_MEMORY_MAX {
            return Err(Error::ResourceExhausted(format!(
                "the documents of one target take more than {DOCUMENTS_MEMORY_MAX} bytes of memory"
            )));
        }
        // Reading may run on this thread.
        tokio::task::yield_now().await;
    }
    Ok(documents)
}

fn by_path(documents: Vec<Arc<Document>>) -> BTreeMap<DocumentPath, Arc<Document>> {
    documents
        .into_iter()
        .map(|document| (document.path.clone(), document))
        .collect()
}
