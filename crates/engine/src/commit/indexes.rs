//! The committer's work on indexes: what somebody alters, and bringing stored documents up to date.
//!
//! A piece of that work is read from a snapshot at the head and stored as one batch, with how far it has come. As
//! the committer is the only one who writes, no commit comes in between. Before the next piece, commits have four
//! times as long as the last piece took; when there are none, the next piece follows at once. After a failure it is
//! tried again a little later. Whatever was stored stays: after a restart the work goes on where it was.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::head::moved_too_often;
use super::{Committer, HEAD_MOVED_RETRIES_MAX, Outcome};
use crate::definition::Definition;
use crate::error::Error;
use crate::index::build::{self, Bounds, Piece};
use crate::index::catalog::alter::Alteration;
use crate::index::catalog::{OperationId, stored};

/// How many times as long as a piece took commits have before the next one: a fifth of the time is the most that
/// pieces take while there are commits.
const REST_FACTOR: u32 = 4;

/// How long nothing is tried after a piece that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// How many documents the committer counts for an estimate, while commits wait.
const ESTIMATE_HERE_MAX: u64 = 10_000;

/// When the next piece may begin.
#[derive(Debug, Default)]
pub struct Pace {
    /// When it may begin though there are commits. `None` before the first piece.
    rested: Option<Instant>,
    /// When it may begin, commits or not; after a failure.
    retry: Option<Instant>,
    /// Whether there were commits since the last piece.
    busy: bool,
    /// It was said that there is no room for more indexes.
    full: bool,
}

impl Pace {
    /// There were commits.
    pub(super) fn commits_came(&mut self) {
        self.busy = true;
    }

    fn due_at(&self) -> Option<Instant> {
        let rested = self.rested.filter(|_| self.busy);
        rested.max(self.retry)
    }

    fn piece_done(&mut self, began: Instant, ended: Instant) {
        let took = ended.saturating_duration_since(began);
        self.rested = Some(ended + took * REST_FACTOR);
        self.retry = None;
        self.busy = false;
    }

    fn piece_failed(&mut self, now: Instant) {
        self.retry = Some(now + RETRY_PAUSE);
    }
}

impl Committer {
    /// Alters the indexes at the head. See `Catalog::altered`.
    pub(super) async fn alter(
        &mut self,
        alteration: Alteration,
        estimated: u64,
    ) -> Result<OperationId, Error> {
        if let Some(error) = &self.read_only {
            return Err(error.clone());
        }
        for _ in 0..=HEAD_MOVED_RETRIES_MAX {
            self.snapshot_at_head().await?;
            let now = self.clock.now();
            let (catalog, operation) = self.catalog.altered(alteration.clone(), now, estimated)?;
            let changes = stored::changes(&self.catalog, &catalog);
            if changes.is_empty() {
                return Ok(operation);
            }
            match self.maintain_once(changes).await? {
                Outcome::Stored => {
                    self.catalog = Arc::new(catalog);
                    return Ok(operation);
                }
                Outcome::HeadMoved => self.catch_up().await?,
            }
        }
        Err(moved_too_often())
    }

    /// Defines an index that a query would have needed, unless it is there. When there is no room it is ignored, and
    /// said once.
    pub(super) async fn define(&mut self, definition: Definition) {
        let text = format!("{} {definition}", definition.group());
        let group = definition.group().to_owned();
        let Some(alteration) = self.catalog.wanted(definition) else {
            return;
        };
        let altered = match self.estimate_here(&group).await {
            Ok(estimated) => self.alter(alteration, estimated).await,
            Err(error) => Err(error),
        };
        match altered {
            Ok(_) => {
                tracing::info!(database = %self.database, index = %text, "a query needs an index; it is built");
            }
            Err(Error::IndexExists(_)) => {}
            Err(Error::ResourceExhausted(why)) => {
                if !std::mem::replace(&mut self.pace.full, true) {
                    tracing::warn!(database = %self.database, index = %text, %why, "a query needs an index that cannot be defined");
                }
            }
            Err(error) => {
                tracing::warn!(database = %self.database, index = %text, %error, "a query needs an index that could not be defined");
            }
        }
    }

    async fn estimate_here(&self, group: &str) -> Result<u64, Error> {
        let snapshot = self.store.snapshot().await?;
        build::estimate(snapshot.as_ref(), Some(group), ESTIMATE_HERE_MAX).await
    }

    /// How long it is until a piece may begin; `None` when there is nothing to do.
    pub(super) fn index_work_due_in(&self, now: Instant) -> Option<Duration> {
        if self.read_only.is_some() {
            return None;
        }
        self.catalog.next_work()?;
        let due_at = self.pace.due_at();
        Some(due_at.map_or(Duration::ZERO, |due| due.saturating_duration_since(now)))
    }

    /// Whether a piece may begin.
    pub(super) fn index_work_is_due(&self, now: Instant) -> bool {
        self.index_work_due_in(now) == Some(Duration::ZERO)
    }

    /// Does a piece of work when the time has come.
    pub(super) async fn work_on_indexes_if_due(&mut self) {
        let began = Instant::now();
        if !self.index_work_is_due(began) {
            return;
        }
        match self.work_on_indexes().await {
            Ok(()) => self.pace.piece_done(began, Instant::now()),
            Err(error) => {
                self.pace.piece_failed(Instant::now());
                tracing::warn!(database = %self.database, %error, "work on an index failed; it is tried again");
            }
        }
    }

    async fn work_on_indexes(&mut self) -> Result<(), Error> {
        let snapshot = self.snapshot_at_head().await?;
        let Some(operation) = self.catalog.next_work() else {
            return Ok(());
        };
        let id = operation.id;
        let piece =
            build::piece(snapshot.as_ref(), &self.catalog, operation, Bounds::PIECE).await?;
        let head = snapshot.version();
        // Commits need not keep what it read.
        drop(snapshot);
        let Piece {
            mut operations,
            position,
            documents,
            finished,
        } = piece;
        let mut catalog = Arc::clone(&self.catalog);
        if finished {
            catalog = Arc::new(self.catalog.finished(id, documents, self.clock.now(), head));
            operations.extend(stored::changes(&self.catalog, &catalog));
        } else {
            let mut operation = operation.clone();
            operation.advance(position.clone(), documents);
            operations.push(stored::operation_change(&operation));
        }
        match self.maintain_once(operations).await? {
            Outcome::Stored if finished => self.catalog = catalog,
            Outcome::Stored => {
                drop(catalog);
                Arc::make_mut(&mut self.catalog).note_progress(id, position, documents);
            }
            Outcome::HeadMoved => self.catch_up().await?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_take_a_fifth_of_the_time_at_most_while_there_are_commits() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::default();
        assert_eq!(pace.due_at(), None, "the first piece waits for nothing");
        pace.commits_came();
        assert_eq!(pace.due_at(), None);
        pace.piece_done(start, after(10));
        assert_eq!(pace.due_at(), None, "nobody else wants anything");
        pace.commits_came();
        assert_eq!(pace.due_at(), Some(after(50)));
        pace.piece_done(after(50), after(52));
        assert_eq!(pace.due_at(), None);
        pace.piece_failed(after(60));
        assert_eq!(pace.due_at(), Some(after(60) + RETRY_PAUSE));
        pace.commits_came();
        assert_eq!(pace.due_at(), Some(after(60) + RETRY_PAUSE));
        pace.piece_done(after(6_000), after(6_001));
        assert_eq!(pace.due_at(), None);
    }
}
