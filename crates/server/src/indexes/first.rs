//! Indexes that databases get when they are opened: only what is missing is added, nothing is changed or deleted.

use watchfire_engine::{Engine, Error};
use watchfire_model::DatabaseName;

use crate::indexes::set::IndexSet;

/// What to define, and for whom.
#[derive(Clone, Debug)]
pub struct FirstIndexes {
    set: IndexSet,
    only: Option<DatabaseName>,
}

impl FirstIndexes {
    /// For one database, or for every one.
    pub fn new(set: IndexSet, only: Option<DatabaseName>) -> Self {
        Self { set, only }
    }

    /// Defines what the database lacks, if it is one of those that are meant. What cannot be defined is
    /// reported and left out: the database is of use without it.
    pub async fn define(&self, engine: &Engine) {
        let database = engine.database();
        if self.only.as_ref().is_some_and(|only| only != database) {
            return;
        }
        if let Err(error) = self.define_missing(engine).await {
            tracing::error!(%database, %error, "the indexes of --indexes could not be defined");
        }
    }

    async fn define_missing(&self, engine: &Engine) -> Result<(), Error> {
        let database = engine.database();
        let catalog = engine.catalog().await?;
        for definition in &self.set.indexes {
            if catalog
                .indexes()
                .any(|index| index.definition == *definition)
            {
                continue;
            }
            match engine.create_index(definition.clone()).await {
                Ok(_) => {
                    let group = definition.group();
                    tracing::info!(%database, group, index = %definition, "index defined");
                }
                Err(Error::IndexExists(_)) => {}
                Err(error) => {
                    let group = definition.group();
                    tracing::error!(%database, group, index = %definition, %error, "an index of --indexes could not be defined");
                }
            }
        }
        for (key, indexes) in &self.set.fields {
            match catalog.fields().find(|(other, _)| *other == key) {
                None => {
                    let indexes = indexes.iter().copied().collect();
                    match engine.update_field(key.clone(), Some(indexes)).await {
                        Ok(_) => tracing::info!(%database, field = ?key, "field configured"),
                        Err(error) => {
                            tracing::error!(%database, field = ?key, %error, "a field of --indexes could not be configured");
                        }
                    }
                }
                Some((_, config)) if config.indexes.iter().eq(indexes.iter()) => {}
                Some(_) => {
                    tracing::warn!(%database, field = ?key, "the field is configured otherwise than in --indexes and stays so");
                }
            }
        }
        Ok(())
    }
}
