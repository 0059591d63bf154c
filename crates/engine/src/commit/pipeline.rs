//! Commits on their way: into the group that is formed, to the store, and back to their callers.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::JoinError;
use watchfire_model::{Document, DocumentPath};
use watchfire_storage::{Applied, Snapshot, Version};

use super::conflict::overtaken;
use super::forming::{Answered, Flight, Forming};
use super::group::{Formed, Group, Missed, Receipt, too_big};
use super::{
    Committer, HEAD_MOVED_RETRIES_MAX, LOADED_BYTES_MAX, LOST_GROUPS_MAX, Request, Turn,
    head::moved_too_often,
};
use crate::changelog::reader::{Stored, read_entries};
use crate::changelog::tail::RING_ENTRIES_MAX;
use crate::error::Error;
use crate::history::complete;
use crate::transaction::Transaction;
use crate::view::read_documents;

/// How many documents are read at once, so that `LOADED_BYTES_MAX` is not passed by much.
const LOAD_DOCUMENTS: usize = 16;

/// What came of adding a request.
enum Added {
    /// What its caller hears when the group has landed.
    Answer(Result<Receipt, Error>),
    /// Locks of others are in its way.
    Waits,
}

/// Why a request was not added to the group.
enum Stop {
    /// Its documents take more room than is left; it goes into the next group.
    Full,
    /// Others have moved the head.
    HeadMoved,
    /// The store does not answer.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<watchfire_storage::Error> for Stop {
    fn from(error: watchfire_storage::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Committer {
    /// Adds what waits to the group that is formed, until that is full.
    pub(super) async fn form(&mut self) {
        if self.head_unknown && !self.pending.is_empty() && self.flight.is_none() {
            // What was lost may have been written, and be read already: not even a commit that writes nothing may be
            // older than that.
            self.form_again();
            if let Err(error) = self.catch_up().await {
                self.refuse_pending(&error);
            }
        }
        if self.pending.is_empty() {
            return;
        }
        if let Some(forming) = &self.forming {
            forming.landing.open();
        }
        self.form_until_full().await;
        if let Some(forming) = &mut self.forming {
            let added = forming.group.entries_after(forming.known);
            forming.landing.close(added);
            forming.known = forming.group.entries_len();
        }
    }

    async fn form_until_full(&mut self) {
        while !self.stalled
            && !self.forming.as_ref().is_some_and(Forming::is_full)
            && let Some(mut request) = self.pending.pop_front()
        {
            if let Some(error) = &self.read_only {
                refuse(request, error.clone());
                continue;
            }
            let mut forming = self.forming.take().unwrap_or_else(|| self.open_group());
            match self.add(&mut forming, &mut request).await {
                Ok(Added::Waits) => {
                    request.give_back();
                    self.keep_unless_empty(forming);
                }
                Ok(Added::Answer(answer)) => {
                    forming.bytes = forming.bytes.saturating_add(request.bytes);
                    forming.answered.push(Answered { request, answer });
                    self.forming = Some(forming);
                }
                Err(Stop::Full) => {
                    self.pending.push_front(request);
                    self.forming = Some(forming);
                    return;
                }
                Err(Stop::HeadMoved) => {
                    self.pending.push_front(request);
                    self.keep_unless_empty(forming);
                    if self.flight.is_some() {
                        // Whatever has moved the head, the flight will not land: it has to be waited for.
                        self.stalled = true;
                    } else {
                        self.head_moved().await;
                    }
                }
                Err(Stop::Failed(error)) => {
                    refuse(request, error);
                    self.keep_unless_empty(forming);
                }
            }
        }
    }

    fn keep_unless_empty(&mut self, forming: Forming) {
        if !forming.answered.is_empty() {
            self.forming = Some(forming);
        }
    }

    fn open_group(&self) -> Forming {
        let head = self
            .flight
            .as_ref()
            .map_or_else(|| self.tail.version(), |flight| flight.version);
        let group = Group::new(
            self.database.clone(),
            Arc::clone(&self.clock),
            Arc::clone(&self.catalog),
            head,
        );
        Forming::new(group, self.locks.landings().begin(), head)
    }

    /// Adds one request; what it came to.
    async fn add(&self, forming: &mut Forming, request: &mut Request) -> Result<Added, Stop> {
        let mut asked = HashSet::new();
        let mut unknown: Vec<DocumentPath> = Vec::new();
        for write in &request.writes {
            if forming.group.has(&write.path) || !asked.insert(&write.path) {
                continue;
            }
            match self.remembered(&write.path) {
                Some(document) => forming.group.load(write.path.clone(), document),
                None => unknown.push(write.path.clone()),
            }
        }
        for paths in unknown.chunks(LOAD_DOCUMENTS) {
            let snapshot = self.snapshot_for(forming).await?;
            let read = read_documents(snapshot.as_ref(), paths).await?;
            for (path, document) in paths.iter().zip(read) {
                let memory = document.as_ref().map_or(0, |document| document.memory());
                forming.loaded_bytes = forming.loaded_bytes.saturating_add(memory);
                if forming.loaded_bytes > LOADED_BYTES_MAX {
                    return if forming.answered.is_empty() {
                        Ok(Added::Answer(Err(too_big())))
                    } else {
                        Err(Stop::Full)
                    };
                }
                forming.group.load(path.clone(), document);
            }
        }
        let missed = match &request.transaction {
            None => None,
            Some(transaction) => Some(self.missed(transaction).await?),
        };
        let transaction = request.transaction.as_deref().zip(missed.as_ref());
        let added = forming
            .group
            .add(&request.writes, transaction, &mut request.claim);
        Ok(match added {
            Ok(Some(receipt)) => Added::Answer(Ok(receipt)),
            Ok(None) => Added::Waits,
            Err(error) => Added::Answer(Err(error)),
        })
    }

    /// A document as the flight leaves it, or as it is at the tail; `None` where neither is remembered.
    fn remembered(&self, path: &DocumentPath) -> Option<Option<Arc<Document>>> {
        self.flight
            .as_ref()
            .and_then(|flight| flight.documents.get(path).cloned())
            .or_else(|| self.latest.get(path))
    }

    /// What documents are loaded from that nobody remembers: the tail, or what the flight has made of it, which are
    /// the same for documents that the flight does not name.
    async fn snapshot_for(&self, forming: &mut Forming) -> Result<Arc<dyn Snapshot>, Stop> {
        if let Some(snapshot) = &forming.snapshot {
            return Ok(Arc::clone(snapshot));
        }
        let snapshot = self.store.snapshot().await?;
        let version = snapshot.version();
        let flies = |flight: &Flight| flight.version == version;
        if version != self.tail.version() && !self.flight.as_ref().is_some_and(flies) {
            return Err(Stop::HeadMoved);
        }
        forming.snapshot = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// Every commit after the transaction's view, as far as it is in the ring or on its way. What is only in the
    /// store, which may be far more than fits in memory, is checked here and not kept.
    async fn missed(&self, transaction: &Transaction) -> Result<Missed, Error> {
        let Some((mut after, _)) = transaction.reads().versions() else {
            return Ok(Missed::Entries(Vec::new()));
        };
        let flying = self.flight.iter().flat_map(|flight| &flight.entries);
        let flying = flying.map(|published| Arc::clone(&published.entry));
        if let Some((mut entries, _)) = self.tail.since(after, usize::MAX) {
            entries.extend(flying);
            return Ok(Missed::Entries(entries));
        }
        let head = self.tail.version();
        let snapshot = self.store.snapshot().await?;
        while after < head {
            match read_entries(snapshot.as_ref(), after, RING_ENTRIES_MAX).await? {
                // A version that the snapshot does not have yet would be a head that was never stored.
                Stored::Entries { complete_to, .. } if complete_to <= after => break,
                Stored::Entries {
                    entries,
                    complete_to,
                } => {
                    let reads = transaction.reads();
                    let mut entries = entries.iter().map(|published| &published.entry);
                    if entries.any(|entry| overtaken(&reads, entry)) {
                        return Ok(Missed::Lost);
                    }
                    after = complete_to;
                }
                Stored::TooOld => return Ok(Missed::Lost),
            }
        }
        Ok(Missed::Entries(flying.collect()))
    }

    /// Sends the group that was formed. Nothing may be on its way. A group that changes nothing has landed already.
    pub(super) fn launch(&mut self) {
        assert!(self.flight.is_none(), "one group is on its way at a time");
        let Some(forming) = self.forming.take() else {
            return;
        };
        let Formed {
            batch,
            unknown,
            entries,
            documents,
        } = forming.group.finish();
        let Some(batch) = batch else {
            self.remember(documents);
            forming.answered.into_iter().for_each(Answered::tell);
            self.turn = Turn::Work;
            return;
        };
        let store = Arc::clone(&self.store);
        let version = batch.version;
        let head = forming.head;
        self.flight = Some(Flight {
            stored: tokio::spawn(async move {
                let batch = complete(store.as_ref(), head, batch, unknown).await?;
                store.apply(head, batch).await
            }),
            version,
            entries,
            documents,
            landing: forming.landing,
            answered: forming.answered,
        });
    }

    /// The flight has ended: publishes and answers, or sees what can be done.
    pub(super) async fn landed(
        &mut self,
        stored: Result<Result<Applied, watchfire_storage::Error>, JoinError>,
    ) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        self.stalled = false;
        let stored = stored.unwrap_or_else(|error| {
            Err(watchfire_storage::Error::Unavailable(format!(
                "storing a group was not finished: {error}"
            )))
        });
        match stored {
            Ok(Applied::Applied) => {
                self.store_answers();
                self.moves = 0;
                let bytes = flight.entries.iter().map(|published| published.bytes);
                self.landed_bytes = bytes.fold(self.landed_bytes, usize::saturating_add);
                self.tail.publish(flight.entries, flight.version);
                self.remember(flight.documents);
                drop(flight.landing);
                if let Some(forming) = &mut self.forming {
                    forming.snapshot = None;
                }
                flight.answered.into_iter().for_each(Answered::tell);
                self.settled(flight.version);
            }
            Ok(Applied::HeadMoved(_)) => {
                self.form_again();
                self.put_back(flight.answered);
                self.head_moved().await;
            }
            Err(error) => {
                if self.lost.len() < LOST_GROUPS_MAX {
                    self.lost.push(flight.landing);
                }
                let error = self.store_failed(error);
                for answered in flight.answered {
                    refuse(answered.request, error.clone());
                }
                self.form_again();
            }
        }
        self.turn = Turn::Work;
    }

    /// Catches up with what others have committed. What was formed is formed again. Nothing may be on its way.
    async fn head_moved(&mut self) {
        self.form_again();
        self.moves += 1;
        let caught_up = if self.moves > HEAD_MOVED_RETRIES_MAX {
            Err(moved_too_often())
        } else {
            self.catch_up().await
        };
        if let Err(error) = caught_up {
            self.moves = 0;
            self.refuse_pending(&error);
        }
    }

    fn refuse_pending(&mut self, error: &Error) {
        for request in std::mem::take(&mut self.pending) {
            refuse(request, error.clone());
        }
    }

    /// Takes the commits out of the group that is formed, to be added to another one.
    fn form_again(&mut self) {
        let Some(forming) = self.forming.take() else {
            return;
        };
        self.put_back(forming.answered);
    }

    /// The commits of a group that is given up, in their order before all others.
    fn put_back(&mut self, answered: Vec<Answered>) {
        for mut answered in answered.into_iter().rev() {
            answered.request.claim.removed();
            self.pending.push_front(answered.request);
        }
    }

    fn remember(&mut self, documents: super::forming::Documents) {
        for (path, document) in documents {
            self.latest.put(path, document);
        }
    }

    /// Answers those who wait for the tail to be at `version` or below.
    pub(super) fn settled(&mut self, version: Version) {
        // Who came later wants no less.
        while self
            .settles
            .front()
            .is_some_and(|(wanted, _)| *wanted <= version)
            && let Some((_, reply)) = self.settles.pop_front()
        {
            // Whoever asked may be gone.
            let _ = reply.send(version);
        }
    }
}

fn refuse(request: Request, error: Error) {
    Answered {
        request,
        answer: Err(error),
    }
    .tell();
}
