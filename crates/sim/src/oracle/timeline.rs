//! Every state that ever was, from the entries of the changelog, by brute force.
//!
//! It trusts the entries' `after` alone; whether `before` fits is for `serial` to judge.
//! Results of queries are kept by the number of changes that could concern them, so that asking often is cheap.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use watchfire_engine::{CommitEntry, Version};
use watchfire_model::aggregate::Aggregator;
use watchfire_model::{Aggregation, Document, DocumentPath, Query, Timestamp, Value};

use crate::history::{Asked, Found, History};

/// One document through all versions.
#[derive(Debug, Default)]
pub struct Chain {
    /// What it became, and when, in order.
    pub states: Vec<(Version, Option<Arc<Document>>)>,
}

impl Chain {
    /// As it was at the version.
    pub fn at(&self, version: Version) -> Option<&Arc<Document>> {
        let place = self.states.partition_point(|(at, _)| *at <= version);
        self.states.get(place.checked_sub(1)?)?.1.as_ref()
    }
}

/// The documents of one collection.
#[derive(Debug, Default)]
pub struct Collection {
    /// By path.
    pub documents: BTreeMap<DocumentPath, Chain>,
    /// The versions at which one of them changed, rising; with repetitions.
    changed: Vec<Version>,
}

/// Names a query, however often it was asked.
pub type QueryNumber = usize;

/// What a query gives, in order, not projected.
pub type QueryResult = Rc<Vec<Arc<Document>>>;

/// All states of the run.
pub struct Timeline<'a> {
    entries: &'a [Arc<CommitEntry>],
    collections: BTreeMap<String, Collection>,
    /// Query numbers by address: the history holds the queries as long as this lives.
    numbers: RefCell<HashMap<*const Query, QueryNumber>>,
    identities: RefCell<HashMap<Vec<u8>, QueryNumber>>,
    results: RefCell<HashMap<(QueryNumber, usize), QueryResult>>,
}

impl<'a> Timeline<'a> {
    /// Follows all entries.
    pub fn new(history: &'a History) -> Self {
        let entries = history.stored.entries.as_slice();
        let mut collections: BTreeMap<String, Collection> = BTreeMap::new();
        for entry in entries {
            for change in &entry.changes {
                let collection = collections
                    .entry(change.path.collection_str().to_owned())
                    .or_default();
                collection.changed.push(entry.version);
                let chain = collection.documents.entry(change.path.clone()).or_default();
                chain.states.push((entry.version, change.after.clone()));
            }
        }
        for collection in collections.values_mut() {
            // Only a history that `serial` complains about is not in order already.
            collection.changed.sort_unstable();
            for chain in collection.documents.values_mut() {
                chain.states.sort_by_key(|(version, _)| *version);
            }
        }
        Self {
            entries,
            collections,
            numbers: RefCell::default(),
            identities: RefCell::default(),
            results: RefCell::default(),
        }
    }

    /// The number of the entry with this version.
    pub fn entry_at(&self, version: Version) -> Option<usize> {
        self.entries
            .binary_search_by_key(&version, |entry| entry.version)
            .ok()
    }

    /// The document through all versions; `None` if it never was.
    pub fn chain(&self, path: &DocumentPath) -> Option<&Chain> {
        self.collections
            .get(path.collection_str())?
            .documents
            .get(path)
    }

    /// All documents that ever were.
    pub fn chains(&self) -> impl Iterator<Item = (&DocumentPath, &Chain)> {
        self.collections
            .values()
            .flat_map(|collection| &collection.documents)
    }

    /// As it was at the version.
    pub fn document(&self, path: &DocumentPath, version: Version) -> Option<&Arc<Document>> {
        self.chain(path)?.at(version)
    }

    /// The version just before this one, as far as states are concerned.
    pub fn before(version: Version) -> Version {
        Version(version.0.saturating_sub(1))
    }

    /// The collections in which the query looks.
    pub fn selected(&self, query: &Query) -> impl Iterator<Item = &Collection> {
        self.collections.values().filter(|collection| {
            collection
                .documents
                .keys()
                .next()
                .is_some_and(|path| query.selects(path))
        })
    }

    /// Equal for equal queries.
    pub fn number(&self, query: &Arc<Query>) -> QueryNumber {
        let mut numbers = self.numbers.borrow_mut();
        *numbers.entry(Arc::as_ptr(query)).or_insert_with(|| {
            let mut identities = self.identities.borrow_mut();
            let next = identities.len();
            *identities.entry(query.identity()).or_insert(next)
        })
    }

    /// How many changes up to the version could concern the query: with the same number, the result is the same.
    pub fn epoch(&self, query: &Query, version: Version) -> usize {
        self.selected(query)
            .map(|collection| collection.changed.partition_point(|at| *at <= version))
            .sum()
    }

    /// What the query gives at the version.
    pub fn result(&self, query: &Arc<Query>, version: Version) -> QueryResult {
        let key = (self.number(query), self.epoch(query, version));
        if let Some(result) = self.results.borrow().get(&key) {
            return Rc::clone(result);
        }
        let mut found: Vec<&Arc<Document>> = self
            .selected(query)
            .flat_map(|collection| collection.documents.values())
            .filter_map(|chain| chain.at(version))
            .filter(|document| query.matches(document))
            .collect();
        found.sort_by(|a, b| query.compare(a, b));
        let limit = query.limit().map_or(usize::MAX, |limit| limit as usize);
        let found = found.into_iter().skip(query.offset() as usize).take(limit);
        let result = Rc::new(found.cloned().collect::<Vec<_>>());
        self.results.borrow_mut().insert(key, Rc::clone(&result));
        result
    }

    /// What was to be found at the version.
    pub fn answer(&self, asked: &Asked, version: Version) -> Found {
        match asked {
            Asked::Documents(paths) => Found::Documents(
                paths
                    .iter()
                    .map(|path| self.document(path, version).cloned())
                    .collect(),
            ),
            Asked::Query(query) => Found::Query(shown(query, &self.result(query, version))),
            Asked::Aggregate(query, aggregations) => {
                Found::Aggregate(self.totals(query, aggregations, version))
            }
        }
    }

    /// Whether nothing that could concern the question happened after one version and up to the other.
    pub fn quiet_between(&self, asked: &Asked, from: Version, to: Version) -> bool {
        match asked {
            Asked::Documents(paths) => paths.iter().all(|path| {
                self.chain(path).is_none_or(|chain| {
                    let place = |version| chain.states.partition_point(|(at, _)| *at <= version);
                    place(from) == place(to)
                })
            }),
            Asked::Query(query) | Asked::Aggregate(query, _) => {
                self.epoch(query, from) == self.epoch(query, to)
            }
        }
    }

    fn totals(
        &self,
        query: &Arc<Query>,
        aggregations: &[Aggregation],
        version: Version,
    ) -> Vec<(String, Value)> {
        let mut aggregator = Aggregator::new(aggregations.to_vec());
        for document in self.result(query, version).iter() {
            aggregator.add(document);
        }
        aggregator.finish()
    }
}

/// The documents as an answer to the query shows them.
pub fn shown(query: &Query, documents: &[Arc<Document>]) -> Vec<Arc<Document>> {
    if query.projection().is_none() {
        return documents.to_vec();
    }
    documents
        .iter()
        .map(|document| Arc::new(query.project(document)))
        .collect()
}

/// The version as users see it.
pub fn time_of(version: Version) -> Timestamp {
    i64::try_from(version.0)
        .ok()
        .and_then(|micros| Timestamp::from_micros(micros).ok())
        .unwrap_or(Timestamp::MAX)
}

/// The time as a version; zero for one before 1970.
pub fn version_of(time: Timestamp) -> Version {
    Version(u64::try_from(time.micros()).unwrap_or(0))
}
