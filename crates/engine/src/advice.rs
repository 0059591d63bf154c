//! What becomes of a query without an index: refused, reported, or the reason to build one.
//!
//! Queries that need the same index have the same shape: its collection group, its scope and its fields. Shapes are
//! counted as long as the database is open, each is reported once, and nothing is written down: what an operator
//! wants kept is in the log.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use watchfire_model::Query;

use crate::definition::Definition;
use crate::error::Error;
use crate::index::catalog::{Catalog, IndexState};
use crate::missing::MissingIndex;
use crate::settings::IndexMode;

/// How many shapes are told apart. Queries of any further one are only counted, and in mode `Create` nothing is
/// built for them.
pub const SHAPES_MAX: usize = 1_000;

/// In mode `Create` an index is asked for at most once in this time.
pub const ASK_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Decides for one open database.
#[derive(Debug)]
pub struct Advisor {
    mode: IndexMode,
    wanted: mpsc::Sender<Definition>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    shapes: HashMap<Definition, Shape>,
    others: u64,
}

#[derive(Debug, Default)]
struct Shape {
    queries: u64,
    reported: bool,
    asked: Option<Instant>,
}

/// The indexes that queries have wanted since the database was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissingIndexes {
    /// Each with the number of queries that wanted it, the most wanted first.
    pub shapes: Vec<(Definition, u64)>,
    /// Queries of shapes beyond `SHAPES_MAX`.
    pub others: u64,
    /// All queries that found no index, those whose index is ready by now included: it never goes back.
    pub queries: u64,
}

/// What is to be done about one query, found under the lock and done outside of it.
struct Due {
    report: bool,
    ask: bool,
}

impl Advisor {
    /// Definitions that are missing go to `wanted` in mode `Create`; when it is full they are dropped, and asked for
    /// again by the next query.
    pub fn new(mode: IndexMode, wanted: mpsc::Sender<Definition>) -> Self {
        Self {
            mode,
            wanted,
            seen: Mutex::default(),
        }
    }

    /// Fails with `IndexMissing` in mode `Enforce`; else notes what is missing, and the query may run.
    pub fn decide(&self, query: &Query, missing: &MissingIndex) -> Result<(), Error> {
        let due = self.seen().note(missing, Instant::now());
        match self.mode {
            IndexMode::Enforce => return Err(Error::IndexMissing(Box::new(missing.clone()))),
            IndexMode::Advise => {
                if due.report {
                    report(query, missing, "a query has no index; this would serve it");
                }
            }
            IndexMode::Create => {
                if due.report {
                    report(query, missing, "a query has no index; this one is built");
                }
                if due.ask && self.wanted.try_send(missing.definition.clone()).is_err() {
                    self.seen().forget_asking(&missing.definition);
                }
            }
        }
        Ok(())
    }

    /// What was wanted and is not ready by now.
    pub fn missing(&self, catalog: &Catalog) -> MissingIndexes {
        let seen = self.seen();
        let mut shapes: Vec<(Definition, u64)> = seen
            .shapes
            .iter()
            .filter(|(definition, _)| {
                !catalog.indexes_of(definition.group()).any(|index| {
                    index.state == IndexState::Ready && index.definition == **definition
                })
            })
            .map(|(definition, shape)| (definition.clone(), shape.queries))
            .collect();
        let others = seen.others;
        let queries = seen.shapes.values().map(|shape| shape.queries);
        let queries = queries.fold(others, u64::saturating_add);
        drop(seen);
        shapes.sort_by(|(a, often), (b, seldom)| seldom.cmp(often).then_with(|| a.cmp(b)));
        MissingIndexes {
            shapes,
            others,
            queries,
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn note(&mut self, missing: &MissingIndex, now: Instant) -> Due {
        let room = self.shapes.len() < SHAPES_MAX;
        let shape = match self.shapes.get_mut(&missing.definition) {
            Some(shape) => shape,
            None if room => self.shapes.entry(missing.definition.clone()).or_default(),
            None => {
                self.others = self.others.saturating_add(1);
                return Due {
                    report: false,
                    ask: false,
                };
            }
        };
        shape.queries = shape.queries.saturating_add(1);
        // One that is being built needs neither words nor work.
        let open = missing.building.is_none();
        let report = open && !shape.reported;
        shape.reported |= report;
        let ask = open
            && shape
                .asked
                .is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_AGAIN_AFTER);
        if ask {
            shape.asked = Some(now);
        }
        Due { report, ask }
    }

    fn forget_asking(&mut self, definition: &Definition) {
        if let Some(shape) = self.shapes.get_mut(definition) {
            shape.asked = None;
        }
    }
}

fn report(query: &Query, missing: &MissingIndex, text: &'static str) {
    tracing::warn!(
        database = %query.database(),
        collection_group = missing.definition.group(),
        index = missing.definition_json(),
        "{text}"
    );
}

#[cfg(test)]
mod tests {
    use watchfire_model::{DatabaseName, FieldPath, Parent, QueryParts, Selector};

    use super::*;
    use crate::definition::{IndexField, IndexId, Mode, Scope};
    use crate::index::catalog::Index;

    fn query() -> Query {
        Query::new(QueryParts {
            database: DatabaseName::new("p", "d").unwrap(),
            parent: Parent::Root,
            selector: Selector::Collection("c".to_owned()),
            filter: None,
            order: Vec::new(),
            start: None,
            end: None,
            offset: 0,
            limit: None,
            projection: None,
        })
        .unwrap()
    }

    fn missing(group: &str) -> MissingIndex {
        let fields = ["a", "b"].map(|path| IndexField {
            path: FieldPath::parse(path).unwrap(),
            mode: Mode::Ascending,
        });
        MissingIndex {
            database: DatabaseName::new("p", "d").unwrap(),
            definition: Definition::new(group.to_owned(), Scope::Collection, fields.into())
                .unwrap(),
            building: None,
            several_inequalities: false,
        }
    }

    #[test]
    fn enforcing_refuses_and_the_others_let_pass() {
        for (mode, passes) in [
            (IndexMode::Enforce, false),
            (IndexMode::Advise, true),
            (IndexMode::Create, true),
        ] {
            let advisor = Advisor::new(mode, mpsc::channel(1).0);
            let decided = advisor.decide(&query(), &missing("c"));
            assert_eq!(decided.is_ok(), passes, "{mode:?}");
            assert!(passes || matches!(decided, Err(Error::IndexMissing(_))));
            assert_eq!(
                advisor.missing(&Catalog::default()).shapes,
                [(missing("c").definition, 1)]
            );
        }
    }

    #[test]
    fn a_shape_is_reported_once_and_asked_for_once_a_minute() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        let first = seen.note(&missing("c"), now);
        assert!(first.report && first.ask);
        let second = seen.note(&missing("c"), now + ASK_AGAIN_AFTER / 2);
        assert!(!second.report && !second.ask);
        let third = seen.note(&missing("c"), now + ASK_AGAIN_AFTER);
        assert!(!third.report && third.ask);
        let other = seen.note(&missing("other"), now);
        assert!(other.report && other.ask);
        let building = MissingIndex {
            building: Some(IndexId(1)),
            ..missing("building")
        };
        let due = seen.note(&building, now);
        assert!(!due.report && !due.ask);
    }

    #[test]
    fn what_did_not_fit_is_asked_for_again() {
        let (sender, mut wanted) = mpsc::channel(1);
        let advisor = Advisor::new(IndexMode::Create, sender);
        advisor.decide(&query(), &missing("a")).unwrap();
        advisor.decide(&query(), &missing("b")).unwrap();
        advisor.decide(&query(), &missing("a")).unwrap();
        assert_eq!(wanted.try_recv().unwrap(), missing("a").definition);
        assert!(wanted.try_recv().is_err());
        advisor.decide(&query(), &missing("b")).unwrap();
        assert_eq!(wanted.try_recv().unwrap(), missing("b").definition);
    }

    #[test]
    fn past_the_bound_shapes_are_only_counted() {
        let mut seen = Seen::default();
        for number in 0..SHAPES_MAX + 5 {
            let due = seen.note(&missing(&format!("c{number}")), Instant::now());
            assert_eq!(due.report, number < SHAPES_MAX);
        }
        seen.note(&missing("c0"), Instant::now());
        assert_eq!((seen.shapes.len(), seen.others), (SHAPES_MAX, 5));
        assert_eq!(
            seen.shapes.get(&missing("c0").definition).unwrap().queries,
            2
        );
    }

    #[test]
    fn what_is_ready_by_now_is_not_missing() {
        let advisor = Advisor::new(IndexMode::Advise, mpsc::channel(1).0);
        for group in ["a", "b", "b"] {
            advisor.decide(&query(), &missing(group)).unwrap();
        }
        let mut catalog = Catalog::default();
        assert_eq!(
            advisor.missing(&catalog).shapes,
            [(missing("b").definition, 2), (missing("a").definition, 1)]
        );
        for (group, state) in [("a", IndexState::Ready), ("b", IndexState::Creating)] {
            let id = IndexId(catalog.indexes.len() as u64);
            let definition = missing(group).definition;
            catalog.indexes.insert(
                id,
                Index {
                    id,
                    definition,
                    state,
                },
            );
        }
        let still = advisor.missing(&catalog);
        assert_eq!(still.shapes, [(missing("b").definition, 2)]);
        assert_eq!(still.queries, 3);
    }
}
