//! Which shared targets a changed document may concern.
//!
//! # How
//!
//! Targets are filed by what every one of their documents has in common: a documents target by each
//! path, a query by its collection's path, a collection group by its id.
//! Queries over every document below a parent have nothing in common but the parent and are few: they
//! form a short rest that is always asked.
//! The answer is a superset; the caller tests each candidate with `Interest::concerns`.
//!
//! # What is not done
//!
//! No index over filter values yet: many queries on one collection that differ in a value are all tested.

use std::collections::{BTreeSet, HashMap};

use watchfire_model::{DocumentPath, Parent, Selector};

use crate::target::{Interest, SharedId};

/// The index. Bounded by the targets that are registered.
#[derive(Debug, Default)]
pub struct Matcher {
    documents: HashMap<String, BTreeSet<SharedId>>,
    collections: HashMap<String, BTreeSet<SharedId>>,
    groups: HashMap<String, BTreeSet<SharedId>>,
    everything: BTreeSet<SharedId>,
}

impl Matcher {
    pub fn insert(&mut self, interest: &Interest, id: SharedId) {
        match interest {
            Interest::Documents(paths) => {
                for path in paths.iter() {
                    self.documents
                        .entry(path.as_str().to_owned())
                        .or_default()
                        .insert(id);
                }
            }
            Interest::Query(query) => match query.selector() {
                Selector::Collection(collection) => {
                    let text = collection_text(query.parent(), collection);
                    self.collections.entry(text).or_default().insert(id);
                }
                Selector::Group(group) => {
                    self.groups.entry(group.clone()).or_default().insert(id);
                }
                Selector::Everything => {
                    self.everything.insert(id);
                }
            },
        }
    }

    pub fn remove(&mut self, interest: &Interest, id: SharedId) {
        match interest {
            Interest::Documents(paths) => {
                for path in paths.iter() {
                    take(&mut self.documents, path.as_str(), id);
                }
            }
            Interest::Query(query) => match query.selector() {
                Selector::Collection(collection) => {
                    take(
                        &mut self.collections,
                        &collection_text(query.parent(), collection),
                        id,
                    );
                }
                Selector::Group(group) => take(&mut self.groups, group, id),
                Selector::Everything => {
                    self.everything.remove(&id);
                }
            },
        }
    }

    /// The targets that the document may concern, each once.
    pub fn candidates(&self, path: &DocumentPath) -> impl Iterator<Item = SharedId> {
        let text = path.as_str();
        let collection = text
            .rsplit_once('/')
            .map_or("", |(collection, _)| collection);
        let group = collection
            .rsplit_once('/')
            .map_or(collection, |(_, group)| group);
        // A target is filed in one place only, so nothing comes twice.
        [
            self.documents.get(text),
            self.collections.get(collection),
            self.groups.get(group),
            Some(&self.everything),
        ]
        .into_iter()
        .flatten()
        .flatten()
        .copied()
    }
}

fn collection_text(parent: &Parent, collection: &str) -> String {
    match parent {
        Parent::Root => collection.to_owned(),
        Parent::Document(path) => format!("{path}/{collection}"),
    }
}

fn take(index: &mut HashMap<String, BTreeSet<SharedId>>, key: &str, id: SharedId) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use watchfire_model::{DatabaseName, Query, QueryParts};

    use super::*;

    fn query(parent: Parent, selector: Selector) -> Interest {
        Interest::Query(Arc::new(
            Query::new(QueryParts {
                database: DatabaseName::new("p", "d").unwrap(),
                parent,
                selector,
                filter: None,
                order: Vec::new(),
                start: None,
                end: None,
                offset: 0,
                limit: None,
                projection: None,
            })
            .unwrap(),
        ))
    }

    fn path(text: &str) -> DocumentPath {
        DocumentPath::parse(text).unwrap()
    }

    #[test]
    fn finds_by_path_collection_group_and_rest() {
        let targets = [
            Interest::Documents(Arc::new([path("a/1"), path("a/2")].into_iter().collect())),
            query(Parent::Root, Selector::Collection("a".into())),
            query(
                Parent::Document(path("x/y")),
                Selector::Collection("a".into()),
            ),
            query(Parent::Root, Selector::Group("a".into())),
            query(Parent::Root, Selector::Everything),
        ];
        let mut matcher = Matcher::default();
        for (id, target) in (1..).map(SharedId).zip(&targets) {
            matcher.insert(target, id);
        }
        let found = |matcher: &Matcher, text: &str| -> BTreeSet<u64> {
            matcher.candidates(&path(text)).map(|id| id.0).collect()
        };
        assert_eq!(found(&matcher, "a/1"), [1, 2, 4, 5].into());
        assert_eq!(found(&matcher, "a/3"), [2, 4, 5].into());
        assert_eq!(found(&matcher, "x/y/a/1"), [3, 4, 5].into());
        assert_eq!(found(&matcher, "x/y"), [5].into());
        for (id, target) in (1..).map(SharedId).zip(&targets) {
            matcher.remove(target, id);
        }
        assert!(found(&matcher, "a/1").is_empty());
        assert!(
            matcher.documents.is_empty()
                && matcher.collections.is_empty()
                && matcher.groups.is_empty()
        );
    }
}
