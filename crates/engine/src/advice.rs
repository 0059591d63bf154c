//! What becomes of a query without an index: refused, reported, or the reason to build one.

use tokio::sync::mpsc;
use watchfire_model::Query;

use crate::error::Error;
use crate::index::definition::Definition;
use crate::index::missing::MissingIndex;
use crate::settings::IndexMode;

/// Decides for one open database.
#[derive(Debug)]
pub struct Advisor {
    mode: IndexMode,
    wanted: mpsc::Sender<Definition>,
}

impl Advisor {
    /// Definitions that are missing go to `wanted` in mode `Create`; when it is full they are dropped, and asked for
    /// again by the next query.
    pub fn new(mode: IndexMode, wanted: mpsc::Sender<Definition>) -> Self {
        Self { mode, wanted }
    }

    /// Fails with `IndexMissing` in mode `Enforce`; else notes what is missing, and the query may run.
    pub fn decide(&self, _query: &Query, missing: &MissingIndex) -> Result<(), Error> {
        match self.mode {
            IndexMode::Enforce => Err(Error::IndexMissing(Box::new(missing.clone()))),
            IndexMode::Advise => Ok(()),
            IndexMode::Create => {
                let _ = self.wanted.try_send(missing.definition.clone());
                Ok(())
            }
        }
    }
}
