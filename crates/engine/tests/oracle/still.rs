//! Worlds that stand still: documents, then indexes, then questions.

use std::sync::Arc;

use watchfire_engine::index::catalog::FieldIndex;
use watchfire_engine::missing::MissingIndex;
use watchfire_engine::{Engine, Error, IndexMode, Settings, View};
use watchfire_model::aggregate::Aggregator;
use watchfire_model::{
    AggregationOperator, Cursor, Document, DocumentName, Nearest, Query, QueryParts, Value,
};
use watchfire_storage::Store;

use crate::choices::Choices;
use crate::data::{self, Taste, database};
use crate::indexes;
use crate::queries::Maker;
use crate::world::{self, History, Kept, State, Ticking, same_document, same_result};

/// How many indexes one query may ask for, one after the other, until it is served.
const MISSING_MAX: usize = 12;

pub fn world(seed: u64) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut choices = Choices::new(seed);
        let taste = data::taste(&mut choices);
        let index_mode = [IndexMode::Advise, IndexMode::Enforce, IndexMode::Create]
            [choices.weighted(&[5, 4, 1])];
        let store = Kept::new();
        let engine = Engine::open_with(
            database(),
            Arc::clone(&store) as Arc<dyn Store>,
            Ticking::new(),
            Settings {
                index_mode,
                ..Settings::default()
            },
        )
        .await
        .unwrap();
        let mut history = History::new();
        let early = choices.percent(50);
        if early {
            some_indexes(&mut choices, &engine, &history.newest(), taste).await;
        }
        some_documents(&mut choices, &engine, &mut history, taste).await;
        if !early || choices.percent(30) {
            some_indexes(&mut choices, &engine, &history.newest(), taste).await;
        }
        let mut asker = Asker {
            seed,
            engine,
            index_mode,
            taste,
        };
        let cases = 40;
        for _ in 0..cases {
            asker.ask(&mut choices, &history).await;
        }
        world::check_index(seed, &asker.engine, store.as_ref(), &history.newest()).await;
        cases
    })
}

async fn some_documents(
    choices: &mut Choices,
    engine: &Engine,
    history: &mut History,
    taste: Taste,
) {
    let len = match choices.weighted(&[5, 60, 30, 5]) {
        0 => choices.below(3),
        1 => choices.between(10, 60),
        2 => choices.between(60, 150),
        // More than a page of most readers.
        _ => choices.between(300, 700),
    };
    let mut left = len;
    while left > 0 {
        let piece = choices.between(1, 30).min(left);
        left -= piece;
        let known: Vec<_> = history.newest().keys().cloned().collect();
        let writes = (0..piece)
            .map(|_| data::write(choices, taste, &known))
            .collect();
        match world::commit(engine, writes).await {
            Ok(done) => history.note(vec![done]),
            // E.g. a document that would have too long entries.
            Err(Error::Invalid(_)) => {}
            Err(error) => panic!("a commit failed: {error:?}"),
        }
    }
}

async fn some_indexes(choices: &mut Choices, engine: &Engine, state: &State, taste: Taste) {
    let documents: Vec<&Document> = state.values().map(AsRef::as_ref).collect();
    for _ in 0..choices.below(7) {
        let definition = if choices.percent(60) {
            let query = Maker {
                choices,
                taste,
                documents: &documents,
            }
            .query();
            indexes::definition_for(choices, &query)
        } else {
            indexes::definition(choices)
        };
        match engine.create_index(definition).await {
            Ok(_) | Err(Error::IndexExists(_)) => {}
            Err(error) => panic!("an index was refused: {error:?}"),
        }
    }
    for _ in 0..choices.weighted(&[40, 25, 20, 10, 5]) {
        let key = indexes::field_key(choices);
        let indexes = Some(indexes::field_indexes(choices));
        engine.update_field(key, indexes).await.unwrap();
        // One after the other: a field may be within another one.
        world::settle(engine).await;
    }
    world::settle(engine).await;
}

struct Asker {
    seed: u64,
    engine: Engine,
    index_mode: IndexMode,
    taste: Taste,
}

impl Asker {
    async fn ask(&mut self, choices: &mut Choices, history: &History) {
        let (view, state) = self.some_view(choices, history).await;
        let documents: Vec<&Document> = state.values().map(AsRef::as_ref).collect();
        let mut maker = Maker {
            choices,
            taste: self.taste,
            documents: &documents,
        };
        match maker.choices.weighted(&[68, 20, 7, 5]) {
            0 => {
                let query = maker.query();
                if maker.choices.percent(40) {
                    let aggregations = maker.aggregations();
                    self.aggregate(&view, &query, aggregations, &documents)
                        .await;
                }
                let provide = choices.percent(40);
                self.query(view, &query, &documents, provide).await;
            }
            1 => {
                let (query, aggregations) = (maker.query(), maker.aggregations());
                self.aggregate(&view, &query, aggregations, &documents)
                    .await;
            }
            3 => {
                let (query, nearest) = (maker.query(), maker.nearest());
                let provide = choices.percent(50);
                self.nearest(view, &query, &nearest, &documents, provide)
                    .await;
            }
            _ => {
                let query = maker.group();
                let count = choices.between(1, 12);
                self.partition(&view, &query, count, &documents).await;
            }
        }
    }

    /// Mostly the present.
    async fn some_view(&self, choices: &mut Choices, history: &History) -> (View, Arc<State>) {
        let versions = history.versions();
        if versions.is_empty() || choices.percent(88) {
            return (self.engine.view().await.unwrap(), history.newest());
        }
        let version = *choices.pick(&versions);
        let time = watchfire_engine::version::timestamp(version).unwrap();
        let view = self.engine.view_at(time).await;
        let view = view.unwrap_or_else(|error| panic!("{}: view_at: {error:?}", self.seed));
        assert_eq!(view.version(), version, "{}", self.seed);
        (view, history.at(version))
    }

    /// What is missing is provided, if it is to be, until the query is served.
    async fn query(&self, view: View, query: &Query, documents: &[&Document], provide: bool) {
        let mut view = view;
        for _ in 0..MISSING_MAX {
            let missing = match view.query(query).await {
                Ok((found, stats)) => {
                    compare(self.seed, query, documents, &found);
                    self.check_stats(&view, query, documents, &stats).await;
                    self.check_stream(&view, query, documents).await;
                    return;
                }
                Err(Error::IndexMissing(missing)) => missing,
                Err(error) => panic!("{}: {error:?}\n{query:#?}", self.seed),
            };
            assert_eq!(
                self.index_mode,
                IndexMode::Enforce,
                "{}: refused\n{query:#?}",
                self.seed
            );
            let explained = view.explain(query).await;
            assert!(
                matches!(&explained, Err(Error::IndexMissing(other)) if *other == missing),
                "{}: refused with {missing:?}, explained with {explained:?}\n{query:#?}",
                self.seed
            );
            if !provide || view.version() < self.engine.view().await.unwrap().version() {
                return;
            }
            self.provide(&missing, query).await;
            view = self.engine.view().await.unwrap();
        }
        panic!(
            "{}: still not served after {MISSING_MAX} indexes\n{query:#?}",
            self.seed
        );
    }

    async fn provide(&self, missing: &MissingIndex, query: &Query) {
        let definition = &missing.definition;
        assert_eq!(missing.building, None, "{}: {definition}", self.seed);
        if let [only] = definition.fields()
            && !matches!(only.mode, watchfire_engine::definition::Mode::Vector { .. })
        {
            let catalog = self.engine.catalog().await.unwrap();
            let mut indexes: Vec<FieldIndex> = match catalog.field(definition.group(), &only.path) {
                Some((_, config)) => config.indexes.clone(),
                None => built_in(),
            };
            let index = FieldIndex {
                scope: definition.scope(),
                mode: only.mode,
            };
            assert!(
                !indexes.contains(&index),
                "{}: {definition} is there\n{query:#?}",
                self.seed
            );
            indexes.push(index);
            let key = watchfire_engine::index::catalog::FieldKey {
                group: Some(definition.group().to_owned()),
                path: Some(only.path.clone()),
            };
            self.engine.update_field(key, Some(indexes)).await.unwrap();
        } else {
            let created = self.engine.create_index(definition.clone()).await;
            assert!(
                created.is_ok(),
                "{}: {definition} is missing, but: {created:?}\n{query:#?}",
                self.seed
            );
        }
        world::settle(&self.engine).await;
    }

    async fn check_stats(
        &self,
        view: &View,
        query: &Query,
        documents: &[&Document],
        stats: &watchfire_engine::ExecutionStats,
    ) {
        let expected = query.evaluate(documents.iter().copied()).len() as u64;
        assert_eq!(stats.results_returned, expected, "{}", self.seed);
        if query.limit() != Some(0) {
            let matching = documents
                .iter()
                .filter(|document| query.matches(document))
                .count() as u64;
            assert_eq!(
                stats.results_skipped,
                matching.min(u64::from(query.offset())),
                "{}: skipped\n{query:#?}",
                self.seed
            );
        }
        let explained = view.explain(query).await;
        let explained = explained
            .unwrap_or_else(|error| panic!("{}: explain: {error:?}\n{query:#?}", self.seed));
        assert_eq!(
            explained, stats.indexes_used,
            "{}: explained\n{query:#?}",
            self.seed
        );
    }

    async fn check_stream(&self, view: &View, query: &Query, documents: &[&Document]) {
        let mut run = view.run(query).await.unwrap();
        let mut found = Vec::new();
        while let Some(piece) = run.next().await.unwrap() {
            assert!(!piece.is_empty(), "{}: an empty piece", self.seed);
            found.extend(piece);
        }
        compare(self.seed, query, documents, &found);
        assert_eq!(
            run.stats().results_returned,
            found.len() as u64,
            "{}",
            self.seed
        );
    }

    async fn aggregate(
        &self,
        view: &View,
        query: &Query,
        aggregations: Vec<watchfire_model::Aggregation>,
        documents: &[&Document],
    ) {
        let (found, _) = match view.aggregate(query, aggregations.clone()).await {
            Ok(found) => found,
            Err(Error::IndexMissing(_)) if self.index_mode == IndexMode::Enforce => return,
            Err(error) => panic!("{}: {error:?}\n{aggregations:?}\n{query:#?}", self.seed),
        };
        let results = query.evaluate(documents.iter().copied());
        let mut aggregator = Aggregator::new(aggregations.clone());
        for document in &results {
            aggregator.add(document);
        }
        let expected = aggregator.finish();
        let same = found.len() == expected.len()
            && found.iter().zip(&expected).zip(&aggregations).all(
                |((found, expected), aggregation)| {
                    let magnitude = magnitude(&aggregation.operator, &results);
                    found.0 == expected.0 && same_result(&found.1, &expected.1, magnitude)
                },
            );
        assert!(
            same,
            "{}: {aggregations:?}\nfound {found:?}\nexpected {expected:?}\n{query:#?}",
            self.seed
        );
    }

    async fn nearest(
        &self,
        view: View,
        query: &Query,
        nearest: &Nearest,
        documents: &[&Document],
        provide: bool,
    ) {
        let mut view = view;
        for _ in 0..MISSING_MAX {
            let missing = match view.nearest(query, nearest).await {
                Ok((found, _)) => {
                    let expected = nearest.nearest(query.evaluate(documents.iter().copied()));
                    let same = found.len() == expected.len()
                        && found.iter().zip(&expected).all(|(found, expected)| {
                            found.0.path == expected.0.path
                                && (found.1.to_bits() == expected.1.to_bits()
                                    || found.1 == expected.1)
                        });
                    assert!(
                        same,
                        "{}: {nearest:?}\nfound {found:?}\nexpected {expected:?}\n{query:#?}",
                        self.seed
                    );
                    return;
                }
                Err(Error::IndexMissing(missing)) => missing,
                Err(error) => panic!("{}: nearest: {error:?}\n{nearest:?}\n{query:#?}", self.seed),
            };
            assert_eq!(
                self.index_mode,
                IndexMode::Enforce,
                "{}: refused",
                self.seed
            );
            if !provide || view.version() < self.engine.view().await.unwrap().version() {
                return;
            }
            self.provide(&missing, query).await;
            view = self.engine.view().await.unwrap();
        }
        panic!(
            "{}: still not served after {MISSING_MAX} indexes\n{nearest:?}\n{query:#?}",
            self.seed
        );
    }

    async fn partition(&self, view: &View, query: &Query, count: usize, documents: &[&Document]) {
        let cuts = match view.partition(query, count).await {
            Ok(cuts) => cuts,
            Err(Error::IndexMissing(_)) if self.index_mode == IndexMode::Enforce => return,
            Err(error) => panic!("{}: partition: {error:?}\n{query:#?}", self.seed),
        };
        assert!(
            cuts.len() <= count,
            "{}: {count} cuts were asked for, {} came",
            self.seed,
            cuts.len()
        );
        assert!(
            cuts.is_sorted_by(|a, b| a < b),
            "{}: not ascending: {cuts:?}",
            self.seed
        );
        let position = |at: usize| {
            cuts.get(at).map(|path| Cursor {
                values: vec![Value::Reference(DocumentName {
                    database: database(),
                    path: path.clone(),
                })],
                before: true,
            })
        };
        let mut found = Vec::new();
        for piece in 0..=cuts.len() {
            let piece = Query::new(QueryParts {
                database: database(),
                parent: query.parent().clone(),
                selector: query.selector().clone(),
                filter: None,
                order: query.order().to_vec(),
                start: piece.checked_sub(1).and_then(position),
                end: position(piece),
                offset: 0,
                limit: None,
                projection: None,
            })
            .unwrap();
            found.extend(view.query(&piece).await.unwrap().0);
        }
        compare(self.seed, query, documents, &found);
    }
}

fn built_in() -> Vec<FieldIndex> {
    use watchfire_engine::definition::{Mode, Scope};
    [Mode::Ascending, Mode::Descending, Mode::Contains]
        .into_iter()
        .map(|mode| FieldIndex {
            scope: Scope::Collection,
            mode,
        })
        .collect()
}

/// The sum of what was added, without signs: how large an error of rounding may be.
#[expect(clippy::cast_precision_loss, reason = "only an order of magnitude")]
fn magnitude(operator: &AggregationOperator, documents: &[&Document]) -> f64 {
    match operator {
        AggregationOperator::Count { .. } => 0.0,
        AggregationOperator::Sum(field) | AggregationOperator::Average(field) => documents
            .iter()
            .filter_map(|document| field.get(&document.fields))
            .map(|value| match value {
                Value::Integer(integer) => (*integer as f64).abs(),
                Value::Double(double) if double.is_finite() => double.abs(),
                _ => 0.0,
            })
            .sum(),
    }
}

/// Fails unless the answer is that of the definition. What a projection hides may be there or not.
pub fn compare(seed: u64, query: &Query, documents: &[&Document], found: &[Arc<Document>]) {
    let expected = query.evaluate(documents.iter().copied());
    let same = found.len() == expected.len()
        && found.iter().zip(&expected).all(|(found, expected)| {
            same_document(&query.project(found), &query.project(expected))
        });
    if same {
        return;
    }
    let names = |documents: &mut dyn Iterator<Item = &Document>| {
        documents
            .map(|document| document.path.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let first = found
        .iter()
        .zip(&expected)
        .find(|(found, expected)| !same_document(&query.project(found), &query.project(expected)));
    panic!(
        "seed {seed}\nfound    {}\nexpected {}\nfirst difference {first:#?}\n{query:#?}",
        names(&mut found.iter().map(AsRef::as_ref)),
        names(&mut expected.iter().copied()),
    );
}
