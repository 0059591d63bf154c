//! The head: batches that are no commits, what others have committed, and a store that fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchfire_storage::{Applied, Batch, Snapshot, Version};

use super::{
    Committer, HEAD_MOVED_RETRIES_MAX, Outcome, PROBE_PAUSES, TRIM_FACTOR, TRIM_INTERVAL, Trim,
};
use crate::changelog::reader::{Stored, read_entries};
use crate::changelog::tail::RING_ENTRIES_MAX;
use crate::changelog::trim::{self, Piece};
use crate::error::Error;
use crate::index::catalog::stored;
use crate::version::{next, present};

impl Committer {
    /// The store has taken a batch.
    pub(super) fn store_answers(&mut self) {
        // It was at the head that was expected, so that what was lost is either known or never written.
        self.lost.clear();
        self.probe = None;
        if std::mem::take(&mut self.failing) {
            tracing::info!(database = %self.database, "the store takes writes again");
        }
    }

    /// The store has refused a batch, or lost it: nothing that is remembered can be relied on. What callers hear.
    pub(super) fn store_failed(&mut self, error: watchfire_storage::Error) -> Error {
        self.latest.clear();
        self.head_unknown = true;
        self.probe_later();
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(database = %self.database, %error, "commits could not be stored");
        }
        let answer = Error::Unavailable(error.to_string());
        match error {
            watchfire_storage::Error::Corrupt(_) | watchfire_storage::Error::Closed => {
                self.read_only = Some(answer.clone());
                self.lost.clear();
                self.probe = None;
            }
            watchfire_storage::Error::Unavailable(_)
            | watchfire_storage::Error::Poisoned(_)
            | watchfire_storage::Error::Locked(_) => {}
        }
        answer
    }

    /// Gives the store a batch and waits for it.
    async fn apply(&mut self, head: Version, batch: Batch) -> Result<Outcome, Error> {
        match self.store.apply(head, batch).await {
            Ok(Applied::Applied) => {
                self.store_answers();
                Ok(Outcome::Stored)
            }
            Ok(Applied::HeadMoved(_)) => Ok(Outcome::HeadMoved),
            Err(error) => Err(self.store_failed(error)),
        }
    }

    /// The state at the head, which the tail has reached then.
    pub(super) async fn snapshot_at_head(&mut self) -> Result<Arc<dyn Snapshot>, Error> {
        let snapshot = self.store.snapshot().await?;
        if snapshot.version() != self.tail.version() {
            self.catch_up_to(snapshot.as_ref()).await?;
        }
        Ok(snapshot)
    }

    /// Publishes what others have committed. Nothing of ours may be formed or on its way.
    pub(super) async fn catch_up(&mut self) -> Result<(), Error> {
        let snapshot = self.store.snapshot().await?;
        self.catch_up_to(snapshot.as_ref()).await
    }

    async fn catch_up_to(&mut self, snapshot: &dyn Snapshot) -> Result<(), Error> {
        self.latest.clear();
        let target = snapshot.version();
        let tail = self.tail.version();
        if target < tail {
            return Err(Error::Corrupt(format!(
                "the store's head went back from version {} to {}",
                tail.0, target.0
            )));
        }
        // Others may have altered the indexes, or worked on them.
        let catalog = stored::load(snapshot).await?;
        match read_entries(snapshot, tail, RING_ENTRIES_MAX).await? {
            Stored::Entries {
                entries,
                complete_to,
            } if complete_to == target => self.tail.publish(entries, target),
            // Too much to keep: whoever needs it reads it from the store.
            Stored::Entries { .. } | Stored::TooOld => self.tail.skip_to(target),
        }
        self.catalog = Arc::new(catalog);
        self.head_unknown = false;
        Ok(())
    }

    /// Moves the tail to the present with an empty batch for those who wait for it, unless it is there already, and
    /// answers them. After a failure it is where it was.
    pub(super) async fn settle(&mut self) {
        let Some(wanted) = self.settles.iter().map(|(wanted, _)| *wanted).max() else {
            return;
        };
        if self.read_only.is_none()
            && self.tail.version() < wanted
            && let Err(error) = self.move_tail().await
        {
            tracing::debug!(database = %self.database, %error, "the tail could not be moved to the present");
        }
        let version = self.tail.version();
        for (_, reply) in std::mem::take(&mut self.settles) {
            // Whoever asked may be gone.
            let _ = reply.send(version);
        }
    }

    /// After a failure, finds out by an empty batch whether the store takes batches again and what became of the one that
    /// was lost: listeners and those who wait for locks need not wait for the next commit.
    pub(super) async fn probe_if_due(&mut self) {
        let due = |(at, _): (Instant, Duration)| at <= Instant::now();
        if self.read_only.is_none()
            && self.probe.is_some_and(due)
            && let Err(error) = self.move_tail().await
        {
            if self.probe.is_some_and(due) {
                // It was not the batch that failed, but finding out who has moved the head.
                self.probe_later();
            }
            tracing::debug!(database = %self.database, %error, "the store takes no batches yet");
        }
    }

    fn probe_later(&mut self) {
        let (_, pause) = self.probe.unwrap_or((Instant::now(), PROBE_PAUSES.0));
        let next = (pause * 2).min(PROBE_PAUSES.1);
        self.probe = Some((Instant::now() + pause, next));
    }

    /// Whether there may be something to trim.
    pub(super) fn trim_is_due(&self) -> bool {
        let now = present(self.clock.as_ref());
        let interval = u64::try_from(TRIM_INTERVAL.as_micros()).unwrap_or(u64::MAX);
        self.read_only.is_none() && now.0.saturating_sub(self.trimmed_at.0) >= interval
    }

    /// Trims when the time has come: one piece, and more while that is less than what was committed meanwhile, or the
    /// changelog would grow for as long as commits keep coming. Many pieces take many rounds, with commits in between.
    pub(super) async fn trim_if_due(&mut self) {
        let landed_bytes = std::mem::take(&mut self.landed_bytes);
        if !self.trim_is_due() {
            self.trim = Trim::Rests;
            return;
        }
        let now = present(self.clock.as_ref());
        let mut trimmed_bytes = 0_usize;
        loop {
            match self.trim(now).await {
                Ok(piece) if piece.more => {
                    trimmed_bytes = trimmed_bytes.saturating_add(piece.bytes);
                    if trimmed_bytes / TRIM_FACTOR >= landed_bytes {
                        // More of it at the next round.
                        self.trim = Trim::GoesOn;
                        return;
                    }
                }
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(database = %self.database, %error, "the changelog could not be trimmed");
                    break;
                }
            }
        }
        self.trim = Trim::Rests;
        self.trimmed_at = now;
    }

    /// Trims one piece.
    async fn trim(&mut self, now: Version) -> Result<Piece, Error> {
        for _ in 0..=HEAD_MOVED_RETRIES_MAX {
            let snapshot = self.snapshot_at_head().await?;
            let mut piece =
                trim::piece(snapshot.as_ref(), &self.catalog, now, self.kept_micros).await?;
            drop(snapshot);
            if piece.operations.is_empty() {
                return Ok(piece);
            }
            match self
                .maintain_once(std::mem::take(&mut piece.operations))
                .await?
            {
                Outcome::Stored => return Ok(piece),
                // Others may have trimmed further: what was read before must not be noted over that.
                Outcome::HeadMoved => self.catch_up().await?,
            }
        }
        Err(moved_too_often())
    }

    /// Moves the tail to the present, whoever else moves the head.
    async fn move_tail(&mut self) -> Result<(), Error> {
        for _ in 0..=HEAD_MOVED_RETRIES_MAX {
            match self.maintain_once(Vec::new()).await? {
                Outcome::Stored => return Ok(()),
                Outcome::HeadMoved => self.catch_up().await?,
            }
        }
        Err(moved_too_often())
    }

    /// Stores a batch that is no commit, and moves the tail, if nobody else moved the head.
    pub(super) async fn maintain_once(
        &mut self,
        operations: Vec<watchfire_storage::Operation>,
    ) -> Result<Outcome, Error> {
        let head = self.tail.version();
        let version = next(self.clock.as_ref(), head);
        let batch = Batch {
            version,
            operations,
        };
        let outcome = self.apply(head, batch).await?;
        if let Outcome::Stored = outcome {
            self.tail.publish(Vec::new(), version);
        }
        Ok(outcome)
    }
}

/// What is answered when others always came first.
pub(super) fn moved_too_often() -> Error {
    Error::Unavailable("other servers kept committing first; try again".to_owned())
}

#[cfg(test)]
mod tests {
    use watchfire_model::{Clock, DatabaseName, Timestamp};
    use watchfire_storage::faulty::{Faults, FaultyStore};
    use watchfire_storage::memory::MemoryStore;
    use watchfire_storage::{Error as StoreError, Store};

    use super::*;
    use crate::changelog::tail::Tail;
    use crate::lock::Locks;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(1).unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_cannot_be_read_is_not_asked_again_at_once() {
        let inner = MemoryStore::new();
        let store = FaultyStore::new(Arc::<MemoryStore>::clone(&inner), Faults::default());
        let mut committer = Committer::new(
            DatabaseName::new("p", "d").unwrap(),
            Arc::<FaultyStore>::clone(&store),
            Arc::new(Still),
            Arc::new(Tail::new(Version(0))),
            Locks::new(),
            Arc::default(),
            1,
        );
        let trouble = || StoreError::Unavailable("on purpose".to_owned());
        committer.store_failed(trouble());
        let found = Batch {
            version: Version(1),
            operations: Vec::new(),
        };
        inner.apply(Version(0), found).await.unwrap();
        for _ in 0..20 {
            let (at, _) = committer.probe.unwrap();
            assert!(
                at > Instant::now(),
                "or the committer would do nothing else"
            );
            tokio::time::advance(PROBE_PAUSES.1).await;
            store.fail_next_read(trouble());
            committer.probe_if_due().await;
        }
        tokio::time::advance(PROBE_PAUSES.1).await;
        committer.probe_if_due().await;
        assert!(committer.probe.is_none() && committer.tail.version() == Version(2));
    }
}
