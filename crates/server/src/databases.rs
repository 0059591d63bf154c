//! From a name to an open database.
//!
//! A database is opened (and made, if it is new) when it is first named, once even when many ask
//! at the same moment, and stays open until the server ends. It knows no engine of storage: how a
//! store is opened is given to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::OnceCell;
use watchfire_engine::{Engine, Settings};
use watchfire_model::{Clock, DatabaseName};
use watchfire_realtime::Hub;
use watchfire_storage::Store;

use crate::answers::Answers;
use crate::error::Error;
use crate::indexes::first::FirstIndexes;
use crate::metrics::Metrics;
use crate::seed::Seed;

/// Databases open at the same time. One more is refused with `TooManyDatabases`: an open database
/// holds memory and two tasks (about 16 KiB when it is idle), and names cost a caller nothing.
pub const DATABASES_OPEN_MAX: usize = 10_000;

/// Opens the store of a database.
pub type OpenStore = Box<
    dyn Fn(DatabaseName) -> BoxFuture<'static, Result<Arc<dyn Store>, watchfire_storage::Error>>
        + Send
        + Sync,
>;

/// One open database: its engine, and the hub that feeds its listeners.
pub struct Database {
    pub name: DatabaseName,
    pub engine: Engine,
    pub hub: Hub,
    /// Shared by all databases.
    pub answers: Answers,
    /// Shared by all databases.
    pub metrics: Metrics,
}

type Slot = Arc<OnceCell<Arc<Database>>>;

/// All databases of the process.
pub struct Databases {
    open_store: OpenStore,
    clock: Arc<dyn Clock>,
    settings: Settings,
    first_indexes: Option<FirstIndexes>,
    seed: Option<Seed>,
    answers: Answers,
    metrics: Metrics,
    /// Invariant: at most `DATABASES_OPEN_MAX` slots. A slot is made by `get`, filled when opening
    /// succeeds, and taken out again when it fails.
    slots: Mutex<HashMap<DatabaseName, Slot>>,
}

impl Databases {
    /// Every database is opened with the settings, and gets the indexes that are meant for it.
    pub fn new(
        open_store: OpenStore,
        clock: Arc<dyn Clock>,
        settings: Settings,
        first_indexes: Option<FirstIndexes>,
    ) -> Self {
        Self {
            open_store,
            clock,
            settings,
            first_indexes,
            seed: None,
            answers: Answers::default(),
            metrics: Metrics::default(),
            slots: Mutex::new(HashMap::new()),
        }
    }

    /// The same, with documents that new databases begin with.
    pub fn with_seed(self, seed: Option<Seed>) -> Self {
        Self { seed, ..self }
    }

    /// The database of that name, opened now if it is not open.
    pub async fn get(&self, name: &DatabaseName) -> Result<Arc<Database>, Error> {
        let slot = self.slot(name)?;
        match slot.get_or_try_init(|| self.open(name)).await {
            Ok(database) => Ok(database.clone()),
            Err(error) => {
                let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
                // Who waits on the slot opens the database next, and must find later callers in the same
                // one: two slots would be two engines on one store. Slots are handed out under the lock,
                // so that two holders are the map and this call.
                if slots.get(name).is_some_and(|kept| Arc::ptr_eq(kept, &slot))
                    && !slot.initialized()
                    && Arc::strong_count(&slot) == 2
                {
                    slots.remove(name);
                }
                Err(error)
            }
        }
    }

    /// What is counted for all of them.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The clock of all of them.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Those that are open just now, in no order.
    pub fn opened(&self) -> Vec<Arc<Database>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = slots.values().filter_map(|slot| slot.get().cloned());
        opened.collect()
    }

    /// Ends listening, finishes commits and closes every store.
    pub async fn close(&self) -> Result<(), Error> {
        let slots: Vec<Slot> = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.drain().map(|(_, slot)| slot).collect()
        };
        let mut outcome = Ok(());
        for database in slots.iter().filter_map(|slot| slot.get()) {
            database.hub.close().await;
            if let Err(error) = database.engine.close().await {
                tracing::error!(database = %database.name, %error, "a database did not close");
                outcome = Err(error.into());
            }
        }
        outcome
    }

    fn slot(&self, name: &DatabaseName) -> Result<Slot, Error> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(name) {
            return Ok(slot.clone());
        }
        if slots.len() >= DATABASES_OPEN_MAX {
            return Err(Error::TooManyDatabases {
                max: DATABASES_OPEN_MAX,
            });
        }
        Ok(slots.entry(name.clone()).or_default().clone())
    }

    async fn open(&self, name: &DatabaseName) -> Result<Arc<Database>, Error> {
        let store = (self.open_store)(name.clone())
            .await
            .map_err(Error::Store)?;
        let clock = self.clock.clone();
        let engine = Engine::open_with(name.clone(), store, clock, self.settings).await?;
        if let Some(first) = &self.first_indexes {
            first.define(&engine).await;
        }
        if let Some(seed) = &self.seed {
            seed.plant(name, &engine).await?;
        }
        let hub = Hub::start(engine.clone());
        tracing::info!(database = %name, "database open");
        Ok(Arc::new(Database {
            name: name.clone(),
            engine,
            hub,
            answers: self.answers.clone(),
            metrics: self.metrics.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::{join, join_all};
    use futures::poll;
    use watchfire_model::Timestamp;
    use watchfire_storage::memory::MemoryStore;

    use super::*;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(1).unwrap()
        }
    }

    /// Fails the first `failures` openings; counts all of them.
    fn databases(failures: usize) -> (Databases, Arc<AtomicUsize>) {
        let openings = Arc::new(AtomicUsize::new(0));
        let counted = openings.clone();
        let open: OpenStore = Box::new(move |_| {
            let opening = counted.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                tokio::task::yield_now().await;
                if opening < failures {
                    return Err(watchfire_storage::Error::Unavailable("not yet".to_owned()));
                }
                let store: Arc<dyn Store> = MemoryStore::new();
                Ok(store)
            })
        });
        let databases = Databases::new(open, Arc::new(Still), Settings::default(), None);
        (databases, openings)
    }

    fn name(database: &str) -> DatabaseName {
        DatabaseName::new("p", database).unwrap()
    }

    #[tokio::test]
    async fn a_database_is_opened_once_however_many_ask() {
        let (databases, openings) = databases(0);
        let names = [name("(default)"), name("other")];
        let opened = join_all((0..20).map(|n| databases.get(&names[n % 2]))).await;
        assert!(opened.iter().all(Result::is_ok));
        assert_eq!(openings.load(Ordering::Relaxed), 2);
        databases.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_failed_opening_is_tried_again_and_holds_no_place() {
        let (databases, openings) = databases(1);
        assert!(databases.get(&name("(default)")).await.is_err());
        assert!(databases.slots.lock().unwrap().is_empty());
        assert!(databases.get(&name("(default)")).await.is_ok());
        assert_eq!(openings.load(Ordering::Relaxed), 2);
        databases.close().await.unwrap();
    }

    #[tokio::test]
    async fn after_a_failure_those_who_wait_and_those_who_come_get_the_same_database() {
        let (databases, openings) = databases(1);
        let name = name("(default)");
        let mut first = pin!(databases.get(&name));
        let mut waits = pin!(databases.get(&name));
        assert!(poll!(first.as_mut()).is_pending());
        assert!(poll!(waits.as_mut()).is_pending());
        assert!(first.await.is_err());
        assert!(poll!(waits.as_mut()).is_pending());
        let (waited, came) = join(waits, databases.get(&name)).await;
        assert!(Arc::ptr_eq(&waited.unwrap(), &came.unwrap()));
        assert_eq!(openings.load(Ordering::Relaxed), 2);
        databases.close().await.unwrap();
    }

    #[tokio::test]
    async fn one_database_too_many_is_refused() {
        let (databases, openings) = databases(0);
        let slots = (0..DATABASES_OPEN_MAX).map(|n| (name(&format!("d{n:05}")), Slot::default()));
        databases.slots.lock().unwrap().extend(slots);
        let refused = databases.get(&name("(default)")).await;
        assert!(matches!(refused, Err(Error::TooManyDatabases { .. })));
        assert_eq!(openings.load(Ordering::Relaxed), 0);
    }
}
