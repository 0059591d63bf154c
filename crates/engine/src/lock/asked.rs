//! What a read asks for: that is what a transaction locks, and what is held against changes at the commit.
//!
//! Being touched may be seen where the answer would stay the same (limits of queries are ignored), never the reverse.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use watchfire_model::{Change, CollectionPath, DocumentPath, Parent, Query, Selector};

/// Whether a listing shows missing documents that have descendants.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Missing {
    /// They are listed.
    Shown,
    /// Only documents that exist are listed.
    Hidden,
}

/// What one read asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// A document, whether it exists or not.
    Document(DocumentPath),
    /// A query, an aggregation over it, a search in it, or its partitions.
    Query(AskedQuery),
    /// The documents of a collection.
    Listing(CollectionPath, Missing),
    /// The collections below a parent.
    Parent(Parent),
}

/// A query that is equal to every other of the same identity.
#[derive(Clone, Debug)]
pub struct AskedQuery {
    query: Arc<Query>,
    identity: Arc<[u8]>,
}

impl AskedQuery {
    /// The query.
    pub fn query(&self) -> &Arc<Query> {
        &self.query
    }

    /// Length of what tells it from other queries, in bytes.
    pub fn identity_len(&self) -> usize {
        self.identity.len()
    }
}

impl PartialEq for AskedQuery {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for AskedQuery {}

impl Hash for AskedQuery {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity.hash(state);
    }
}

impl Asked {
    /// A query's result.
    pub fn query(query: &Query) -> Self {
        Asked::Query(AskedQuery {
            query: Arc::new(query.clone()),
            identity: query.identity().into(),
        })
    }

    /// Whether the change could alter the answer.
    pub fn touched_by(&self, change: &Change) -> bool {
        match self {
            Asked::Document(path) => change.path == *path,
            Asked::Query(asked) => [&change.before, &change.after]
                .into_iter()
                .flatten()
                .any(|document| asked.query.matches(document)),
            Asked::Listing(collection, missing) => {
                let below = change
                    .path
                    .as_str()
                    .strip_prefix(collection.as_str())
                    .and_then(|rest| rest.strip_prefix('/'));
                match (below, missing) {
                    (None, Missing::Shown | Missing::Hidden) => false,
                    (Some(rest), Missing::Hidden) => !rest.contains('/'),
                    (Some(rest), Missing::Shown) => appeared(change) || !rest.contains('/'),
                }
            }
            Asked::Parent(parent) => appeared(change) && parent.contains(&change.path),
        }
    }

    /// The only collection id of documents whose changes can touch it; `None` when any can.
    pub fn collection_id(&self) -> Option<&str> {
        match self {
            Asked::Document(_) | Asked::Parent(_) | Asked::Listing(_, Missing::Shown) => None,
            Asked::Listing(collection, Missing::Hidden) => Some(collection.id()),
            Asked::Query(asked) => match asked.query.selector() {
                Selector::Collection(id) | Selector::Group(id) => Some(id),
                Selector::Everything => None,
            },
        }
    }
}

/// A document that came or went can make a missing ancestor, or a collection, appear or disappear.
fn appeared(change: &Change) -> bool {
    change.before.is_some() != change.after.is_some()
}

/// All that is asked for at once.
#[derive(Clone, Debug, Default)]
pub struct AskedSet {
    documents: HashSet<DocumentPath>,
    /// Everything else; seldom more than one.
    wide: Vec<Asked>,
}

impl AskedSet {
    /// Adds one.
    pub fn insert(&mut self, asked: Asked) {
        if let Asked::Document(path) = asked {
            self.documents.insert(path);
        } else if !self.wide.contains(&asked) {
            self.wide.push(asked);
        }
    }

    /// Adds many.
    pub fn extend(&mut self, asked: impl IntoIterator<Item = Asked>) {
        for asked in asked {
            self.insert(asked);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.documents.len() + self.wide.len()
    }

    /// How many of them are on something else than a document.
    pub fn wide_len(&self) -> usize {
        self.wide.len()
    }

    /// About how many bytes it takes in memory.
    pub fn memory(&self) -> usize {
        let documents = self.documents.iter().map(|path| path.as_str().len());
        let wide = self.wide.iter().map(|asked| match asked {
            Asked::Document(path) => path.as_str().len(),
            Asked::Listing(collection, _) => collection.as_str().len(),
            Asked::Parent(parent) => parent.as_str().len(),
            // The query and its identity.
            Asked::Query(query) => query.identity_len().saturating_mul(4),
        });
        let texts = documents.chain(wide).fold(0, usize::saturating_add);
        texts.saturating_add(self.len().saturating_mul(size_of::<Asked>() * 2))
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty() && self.wide.is_empty()
    }

    /// Whether all of `other` is in here.
    pub fn covers(&self, other: &AskedSet) -> bool {
        other.documents.is_subset(&self.documents)
            && other.wide.iter().all(|asked| self.wide.contains(asked))
    }

    /// Each of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Asked> + '_ {
        let documents = self.documents.iter().cloned().map(Asked::Document);
        documents.chain(self.wide.iter().cloned())
    }

    /// Whether any of the changes could alter any of the answers.
    pub fn touched_by(&self, changes: &[Change]) -> bool {
        changes.iter().any(|change| {
            self.documents.contains(&change.path)
                || self.wide.iter().any(|asked| asked.touched_by(change))
        })
    }
}

impl FromIterator<Asked> for AskedSet {
    fn from_iter<I: IntoIterator<Item = Asked>>(asked: I) -> Self {
        let mut set = AskedSet::default();
        set.extend(asked);
        set
    }
}

impl From<Asked> for AskedSet {
    fn from(asked: Asked) -> Self {
        AskedSet::from_iter([asked])
    }
}

#[cfg(test)]
mod tests {
    use watchfire_model::{Document, Timestamp};

    use super::*;

    fn path(text: &str) -> DocumentPath {
        DocumentPath::parse(text).unwrap()
    }

    fn change(text: &str, before: bool, after: bool) -> Change {
        let time = Timestamp::from_micros(1).unwrap();
        let document = |there: bool| {
            there.then(|| {
                Arc::new(Document {
                    path: path(text),
                    create_time: time,
                    update_time: time,
                    fields: Default::default(),
                })
            })
        };
        Change {
            path: path(text),
            before: document(before),
            after: document(after),
        }
    }

    #[test]
    fn documents_are_touched_by_name() {
        let asked = Asked::Document(path("a/b"));
        assert!(asked.touched_by(&change("a/b", false, true)));
        assert!(!asked.touched_by(&change("a/c", true, true)));
        assert!(!asked.touched_by(&change("a/b/c/d", true, true)));
    }

    #[test]
    fn listings_are_touched_below_their_collection() {
        let collection = CollectionPath::parse("a").unwrap();
        let hidden = Asked::Listing(collection.clone(), Missing::Hidden);
        assert!(hidden.touched_by(&change("a/b", true, true)));
        assert!(!hidden.touched_by(&change("ab/b", true, true)));
        assert!(!hidden.touched_by(&change("a/b/c/d", false, true)));
        let shown = Asked::Listing(collection, Missing::Shown);
        assert!(shown.touched_by(&change("a/b/c/d", false, true)));
        assert!(!shown.touched_by(&change("a/b/c/d", true, true)));
    }

    #[test]
    fn collection_ids_are_touched_when_documents_come_or_go() {
        let asked = Asked::Parent(Parent::Document(path("a/b")));
        assert!(asked.touched_by(&change("a/b/c/d", false, true)));
        assert!(asked.touched_by(&change("a/b/c/d", true, false)));
        assert!(!asked.touched_by(&change("a/b/c/d", true, true)));
        assert!(!asked.touched_by(&change("a/x/c/d", false, true)));
    }

    #[test]
    fn a_set_holds_everything_once() {
        let asked = || {
            [
                Asked::Document(path("a/b")),
                Asked::Document(path("a/b")),
                Asked::Parent(Parent::Root),
                Asked::Parent(Parent::Root),
            ]
        };
        let set: AskedSet = asked().into_iter().collect();
        assert_eq!((set.len(), set.iter().count()), (2, 2));
        assert!(set.covers(&AskedSet::from(Asked::Document(path("a/b")))));
        assert!(!set.covers(&AskedSet::from(Asked::Document(path("a/c")))));
        assert!(set.touched_by(&[change("x/y", false, true)]));
        assert!(!set.touched_by(&[change("x/y", true, true)]));
    }
}
