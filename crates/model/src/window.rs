//! A limited, ordered result set: changes in, delta out; says when it must be refilled.
//!
//! # What a window knows
//!
//! A window holds the result of its query: the matching documents from `offset` on, `limit` of them at most.
//! Of the documents outside it knows only this much:
//!
//! - When it is *full* (`limit` documents), every other matching document lies after its last one, or
//!   belongs to the `offset` documents before its first one.
//! - When it is not full, nothing matching lies after its last one.
//!
//! # What it does with changes
//!
//! Only the net effect of a batch counts: the first `before` and the last `after` of each document.
//! The new result is drawn from the documents that stayed and those of the batch that match now. In a full
//! window a candidate after the old last document proves nothing, because unknown documents may lie between;
//! when the candidates up to the old last one no longer fill the window, it must be refilled. When they
//! more than fill it, the surplus is pushed out and appears in the delta with its current contents.
//! With an offset, whatever enters, leaves or moves within the hidden documents before the window calls for
//! a refill, since every position may shift. A window without limit and offset never needs one.
//!
//! Each change costs a lookup by name and a search in an ordered set, so that windows may be large.
//!
//! # What is not done here
//!
//! No reading: who owns the window runs the query and calls `replace`. No versions: who owns the window
//! feeds it every change once and in order.

use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::change::Change;
use crate::document::Document;
use crate::path::DocumentPath;
use crate::query::Query;

#[cfg(test)]
mod tests;

/// What a batch of changes did to a window.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// Added, or still in and changed.
    pub upserted: Vec<Arc<Document>>,
    /// Were in and are not: with the document as it is now, `None` if it was deleted.
    pub removed: Vec<(DocumentPath, Option<Arc<Document>>)>,
}

impl Delta {
    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.upserted.is_empty() && self.removed.is_empty()
    }
}

/// Outcome of applying changes.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The window holds the new result; this is the difference.
    Delta(Delta),
    /// The window cannot know its new content from the changes alone: run the query again at the new
    /// version and call `replace`. The window is unchanged until then.
    Refill,
}

/// The result of one query, kept current. Keeps documents by query order.
#[derive(Debug)]
pub struct Window {
    query: Arc<Query>,
    /// Invariant: the same documents as `by_path`.
    ordered: BTreeSet<Positioned>,
    by_path: HashMap<DocumentPath, Arc<Document>>,
}

/// A document that knows its place in the result of the query.
#[derive(Clone, Debug)]
struct Positioned {
    query: Arc<Query>,
    document: Arc<Document>,
}

impl Ord for Positioned {
    fn cmp(&self, other: &Self) -> Ordering {
        self.query.compare(&self.document, &other.document)
    }
}
impl PartialOrd for Positioned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Positioned {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Positioned {}

/// What a batch made of one document.
struct Net<'a> {
    path: &'a DocumentPath,
    before: Option<&'a Arc<Document>>,
    after: Option<&'a Arc<Document>>,
}

impl Window {
    /// Starts with the query's result (in order, offset and limit applied).
    pub fn new(query: Arc<Query>, documents: Vec<Arc<Document>>) -> Self {
        let mut window = Self {
            query,
            ordered: BTreeSet::new(),
            by_path: HashMap::with_capacity(documents.len()),
        };
        for document in documents {
            window.insert(document);
        }
        window
    }

    /// Whose result this is.
    pub fn query(&self) -> &Arc<Query> {
        &self.query
    }

    /// Documents in the result.
    pub fn len(&self) -> usize {
        self.by_path.len()
    }

    /// Whether the result is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In order.
    pub fn documents(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.ordered.iter().map(|positioned| &positioned.document)
    }

    /// The document if it is in the result.
    pub fn get(&self, path: &DocumentPath) -> Option<&Arc<Document>> {
        self.by_path.get(path)
    }

    /// Applies the changes of one or more commits (in order).
    pub fn apply(&mut self, changes: &[Change]) -> Outcome {
        let limit = self.query.limit().map(|limit| limit as usize);
        if limit == Some(0) {
            return Outcome::Delta(Delta::default());
        }
        let mut nets = net_effects(changes);
        nets.retain(|net| {
            self.by_path.contains_key(net.path)
                || net.after.is_some_and(|after| self.query.matches(after))
                || (self.query.offset() > 0
                    && net.before.is_some_and(|before| self.query.matches(before)))
        });
        if nets.is_empty() {
            return Outcome::Delta(Delta::default());
        }
        if self.query.offset() > 0 && self.touches_hidden(&nets) {
            return Outcome::Refill;
        }
        let matching_after = |net: &Net<'_>| {
            net.after
                .filter(|after| self.query.matches(after))
                .map(Arc::clone)
        };
        let afters: Vec<Option<Arc<Document>>> = nets.iter().map(matching_after).collect();
        if let Some(limit) = limit
            && self.len() >= limit
            && let Some(last) = self.ordered.last()
        {
            let stayed = self.len()
                - nets
                    .iter()
                    .filter(|net| self.by_path.contains_key(net.path))
                    .count();
            let certain = afters
                .iter()
                .flatten()
                .filter(|after| self.query.compare(after, &last.document).is_le())
                .count();
            if stayed + certain < limit {
                return Outcome::Refill;
            }
        }
        Outcome::Delta(self.install(&nets, afters, limit))
    }

    /// Installs a fresh result and tells the difference. `changes` are those that led to the refill
    /// (they say which document was deleted, and which left as what).
    pub fn replace(&mut self, documents: Vec<Arc<Document>>, changes: &[Change]) -> Delta {
        let fresh = Self::new(Arc::clone(&self.query), documents);
        let current: HashMap<&DocumentPath, Option<&Arc<Document>>> = net_effects(changes)
            .into_iter()
            .map(|net| (net.path, net.after))
            .collect();
        let removed = self
            .documents()
            .filter(|document| !fresh.by_path.contains_key(&document.path))
            .map(|document| {
                // A document that left without a change of its own is still what it was.
                let now = current
                    .get(&document.path)
                    .map_or(Some(document), |after| *after);
                (document.path.clone(), now.cloned())
            })
            .collect();
        let upserted = fresh
            .documents()
            .filter(|document| {
                !self
                    .by_path
                    .get(&document.path)
                    .is_some_and(|old| is_same_revision(old, document))
            })
            .cloned()
            .collect();
        *self = fresh;
        Delta { upserted, removed }
    }

    /// Whether a net effect (of which all concern the query) may shift the documents before the window.
    fn touches_hidden(&self, nets: &[Net<'_>]) -> bool {
        let Some(first) = self.ordered.first() else {
            // How many of the documents to skip there are is unknown.
            return true;
        };
        nets.iter().any(|net| {
            [net.before, net.after].into_iter().flatten().any(|side| {
                self.query.matches(side) && self.query.compare(side, &first.document).is_lt()
            })
        })
    }

    /// Makes the change that `apply` has found possible. `afters` lines up with `nets`.
    fn install(
        &mut self,
        nets: &[Net<'_>],
        afters: Vec<Option<Arc<Document>>>,
        limit: Option<usize>,
    ) -> Delta {
        let mut delta = Delta::default();
        let mut were_in = Vec::with_capacity(nets.len());
        for net in nets {
            were_in.push(self.remove(net.path));
        }
        for after in afters.into_iter().flatten() {
            self.insert(after);
        }
        let mut pushed_out = HashMap::new();
        while limit.is_some_and(|limit| self.len() > limit) {
            let Some(last) = self.ordered.pop_last() else {
                break;
            };
            self.by_path.remove(&last.document.path);
            pushed_out.insert(last.document.path.clone(), last.document);
        }
        for (net, was_in) in nets.iter().zip(were_in) {
            pushed_out.remove(net.path);
            match self.by_path.get(net.path) {
                Some(document) => delta.upserted.push(Arc::clone(document)),
                None if was_in => delta.removed.push((net.path.clone(), net.after.cloned())),
                None => {}
            }
        }
        let mut pushed_out: Vec<_> = pushed_out.into_iter().collect();
        pushed_out.sort_by(|(a, _), (b, _)| a.cmp(b));
        delta.removed.extend(
            pushed_out
                .into_iter()
                .map(|(path, document)| (path, Some(document))),
        );
        delta
    }

    fn insert(&mut self, document: Arc<Document>) {
        self.by_path
            .insert(document.path.clone(), Arc::clone(&document));
        self.ordered.insert(Positioned {
            query: Arc::clone(&self.query),
            document,
        });
    }

    /// Whether the document was in.
    fn remove(&mut self, path: &DocumentPath) -> bool {
        let Some(document) = self.by_path.remove(path) else {
            return false;
        };
        let was_ordered = self.ordered.remove(&Positioned {
            query: Arc::clone(&self.query),
            document,
        });
        assert!(was_ordered, "a document by name is a document by position");
        true
    }
}

/// A document changes at most once per commit, so its times tell its contents.
fn is_same_revision(a: &Arc<Document>, b: &Arc<Document>) -> bool {
    Arc::ptr_eq(a, b) || (a.update_time == b.update_time && a.create_time == b.create_time)
}

/// The net effect of the changes on each document, by first appearance.
fn net_effects(changes: &[Change]) -> Vec<Net<'_>> {
    let mut nets: Vec<Net<'_>> = Vec::with_capacity(changes.len());
    let mut positions: HashMap<&DocumentPath, usize> = HashMap::with_capacity(changes.len());
    for change in changes {
        match positions.entry(&change.path) {
            Entry::Occupied(position) => {
                if let Some(net) = nets.get_mut(*position.get()) {
                    net.after = change.after.as_ref();
                }
            }
            Entry::Vacant(vacant) => {
                vacant.insert(nets.len());
                nets.push(Net {
                    path: &change.path,
                    before: change.before.as_ref(),
                    after: change.after.as_ref(),
                });
            }
        }
    }
    nets
}
