//! Worlds that move: documents change and indexes come and go while questions are asked, and now and then the
//! database is closed, or dies, and is opened again.
//!
//! Commits are under way while questions are asked. What a question must be answered is known once all commits up
//! to its version are: it is compared then.

use std::sync::Arc;

use tokio::task::JoinHandle;
use watchfire_engine::index::catalog::OperationState;
use watchfire_engine::{Engine, Error, IndexMode, Receipt, Settings, Version};
use watchfire_model::{Document, DocumentPath, Query};
use watchfire_storage::Store;

use crate::choices::Choices;
use crate::data::{self, Taste, database};
use crate::indexes;
use crate::queries::Maker;
use crate::still::compare;
use crate::world::{self, History, Kept, Ticking};

/// What was answered, and when it was true.
struct Answer {
    query: Query,
    version: Version,
    found: Vec<Arc<Document>>,
}

/// What a commit wrote to, and what became of it.
type Committed = Result<(Vec<DocumentPath>, Receipt), Error>;

struct Life<'a> {
    seed: u64,
    choices: &'a mut Choices,
    taste: Taste,
    engine: Engine,
    index_mode: IndexMode,
    history: &'a mut History,
    commits: Vec<JoinHandle<Committed>>,
    answers: Vec<Answer>,
    asked: usize,
}

pub fn world(seed: u64) -> usize {
    let mut choices = Choices::new(seed ^ 0x6D6F_7669_6E67);
    let taste = data::taste(&mut choices);
    let store = Kept::new();
    let clock = Ticking::new();
    let mut history = History::new();
    let mut asked = 0;
    let lives = choices.between(2, 5);
    for life in 1..=lives {
        // Dropped, it takes the committer with it wherever that stands.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let index_mode = [IndexMode::Advise, IndexMode::Enforce, IndexMode::Create]
                [choices.weighted(&[5, 3, 3])];
            let engine = Engine::open_with(
                database(),
                Arc::clone(&store) as Arc<dyn Store>,
                Arc::clone(&clock) as Arc<dyn watchfire_model::Clock>,
                Settings {
                    index_mode,
                    ..Settings::default()
                },
            )
            .await
            .unwrap();
            let mut now = Life {
                seed,
                choices: &mut choices,
                taste,
                engine,
                index_mode,
                history: &mut history,
                commits: Vec::new(),
                answers: Vec::new(),
                asked: 0,
            };
            if life == 1 && now.choices.percent(10) {
                // So many that a build takes several pieces.
                now.fill(1_500).await;
            }
            now.live().await;
            if life < lives && now.choices.percent(40) {
                // Work that the next life has to go on with.
                now.create_index().await;
                now.update_field().await;
                for _ in 0..now.choices.below(12) {
                    tokio::task::yield_now().await;
                }
            }
            asked += now.asked;
            let engine = now.engine;
            if life == lives {
                world::check_index(seed, &engine, store.as_ref(), &history.newest()).await;
            } else if choices.percent(40) {
                engine.close().await.unwrap();
            }
        });
    }
    asked
}

impl Life<'_> {
    async fn live(&mut self) {
        for _ in 0..self.choices.between(20, 60) {
            match self.choices.weighted(&[40, 30, 8, 4, 7, 3, 2, 10]) {
                0 => self.commit(),
                1 => self.ask().await,
                2 => self.create_index().await,
                3 => self.delete_index().await,
                4 => self.update_field().await,
                5 => self.past().await,
                6 => self.cancel().await,
                _ => {
                    for _ in 0..self.choices.below(30) {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
        self.join().await;
    }

    async fn fill(&mut self, documents: usize) {
        for piece in 0..documents / 100 {
            let writes = (0..100)
                .map(|number| {
                    let id = piece * 100 + number;
                    // Behind a document come those below it: a piece may end between them.
                    let path = match id % 3 {
                        0 => format!("c/f{id}"),
                        1 => format!("c/f{}/c/g", id - 1),
                        _ => format!("c/f{}/e/g", id - 2),
                    };
                    watchfire_model::Write {
                        path: DocumentPath::parse(&path).unwrap(),
                        operation: watchfire_model::Operation::Set(data::fields(
                            self.choices,
                            Taste::Usual,
                        )),
                        precondition: watchfire_model::Precondition::None,
                        transforms: Vec::new(),
                    }
                })
                .collect();
            let done = world::commit(&self.engine, writes).await.unwrap();
            self.history.note(vec![done]);
        }
    }

    fn commit(&mut self) {
        let known: Vec<DocumentPath> = self.history.newest().keys().cloned().collect();
        let writes = (0..self.choices.between(1, 8))
            .map(|_| data::write(self.choices, self.taste, &known))
            .collect();
        let engine = self.engine.clone();
        self.commits.push(tokio::spawn(
            async move { world::commit(&engine, writes).await },
        ));
    }

    /// Waits for all commits, and compares all answers.
    async fn join(&mut self) {
        let mut done = Vec::new();
        for commit in self.commits.drain(..) {
            match commit.await.unwrap() {
                Ok(commit) => done.push(commit),
                Err(Error::Invalid(_)) => {}
                Err(error) => panic!("seed {}: a commit failed: {error:?}", self.seed),
            }
        }
        self.history.note(done);
        for answer in self.answers.drain(..) {
            let state = self.history.at(answer.version);
            let documents: Vec<&Document> = state.values().map(AsRef::as_ref).collect();
            compare(self.seed, &answer.query, &documents, &answer.found);
        }
    }

    fn some_query(&mut self) -> Query {
        let state = self.history.newest();
        let documents: Vec<&Document> = state.values().map(AsRef::as_ref).collect();
        Maker {
            choices: self.choices,
            taste: self.taste,
            documents: &documents,
        }
        .query()
    }

    async fn ask(&mut self) {
        for _ in 0..self.choices.between(1, 4) {
            let query = self.some_query();
            let view = self.engine.view().await.unwrap();
            self.asked += 1;
            match view.query(&query).await {
                Ok((found, _)) => self.answers.push(Answer {
                    query,
                    version: view.version(),
                    found,
                }),
                Err(Error::IndexMissing(_)) if self.index_mode == IndexMode::Enforce => {}
                Err(error) => panic!("seed {}: {error:?}\n{query:#?}", self.seed),
            }
        }
    }

    async fn past(&mut self) {
        let versions = self.history.versions();
        if versions.is_empty() {
            return;
        }
        let version = *self.choices.pick(&versions);
        let query = self.some_query();
        let time = watchfire_engine::version::timestamp(version).unwrap();
        let view = self.engine.view_at(time).await;
        let view = view.unwrap_or_else(|error| panic!("seed {}: view_at: {error:?}", self.seed));
        self.asked += 1;
        match view.query(&query).await {
            Ok((found, _)) => self.answers.push(Answer {
                query,
                version: view.version(),
                found,
            }),
            Err(Error::IndexMissing(_)) if self.index_mode == IndexMode::Enforce => {}
            Err(error) => panic!("seed {}: {error:?}\n{query:#?}", self.seed),
        }
    }

    async fn create_index(&mut self) {
        let definition = if self.choices.percent(60) {
            let query = self.some_query();
            indexes::definition_for(self.choices, &query)
        } else {
            indexes::definition(self.choices)
        };
        match self.engine.create_index(definition).await {
            Ok(_) | Err(Error::IndexExists(_)) => {}
            Err(error) => panic!("seed {}: create_index: {error:?}", self.seed),
        }
    }

    async fn delete_index(&mut self) {
        let catalog = self.engine.catalog().await.unwrap();
        let ids: Vec<_> = catalog.indexes().map(|index| index.id).collect();
        if ids.is_empty() {
            return;
        }
        match self.engine.delete_index(*self.choices.pick(&ids)).await {
            // Gone since: a build that was cancelled.
            Ok(()) | Err(Error::NoSuch(_)) => {}
            Err(error) => panic!("seed {}: delete_index: {error:?}", self.seed),
        }
    }

    async fn update_field(&mut self) {
        let catalog = self.engine.catalog().await.unwrap();
        let known: Vec<_> = catalog.fields().map(|(key, _)| key.clone()).collect();
        let (key, indexes) = if !known.is_empty() && self.choices.percent(50) {
            let indexes = (self.choices.percent(40)).then(|| indexes::field_indexes(self.choices));
            (self.choices.pick(&known).clone(), indexes)
        } else {
            let key = indexes::field_key(self.choices);
            (key, Some(indexes::field_indexes(self.choices)))
        };
        match self.engine.update_field(key, indexes).await {
            Ok(_) => {}
            // While another change is under way.
            Err(Error::FailedPrecondition(_) | Error::NoSuch(_)) => {}
            Err(error) => panic!("seed {}: update_field: {error:?}", self.seed),
        }
    }

    async fn cancel(&mut self) {
        let catalog = self.engine.catalog().await.unwrap();
        let running: Vec<_> = catalog
            .operations()
            .filter(|operation| operation.state == OperationState::Processing)
            .map(|operation| operation.id)
            .collect();
        if running.is_empty() {
            return;
        }
        match self
            .engine
            .cancel_operation(*self.choices.pick(&running))
            .await
        {
            Ok(()) | Err(Error::NoSuch(_) | Error::FailedPrecondition(_)) => {}
            Err(error) => panic!("seed {}: cancel_operation: {error:?}", self.seed),
        }
    }
}
