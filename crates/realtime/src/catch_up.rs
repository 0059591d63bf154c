//! What a client needs that stood at one version to stand at a later one.
//!
//! # The ways, from the best to the last
//!
//! 1. A target whose members do not depend on each other, within the changelog: what was touched since says
//!    everything (`resume::touched`).
//! 2. A limited target, or one of which too much was touched, within the history: the result is read as it was then and
//!    compared with the present one. Whoever stood exactly there stands exactly here afterwards. A client may hold more
//!    than its token says, though, and a document that has only passed through a limited result meanwhile was not
//!    touched by that: so what was touched is told too, and an existence filter follows.
//! 3. Beyond that, a target that is not limited: the documents that have changed by their times, and an existence filter,
//!    by which the client finds out what has gone. Times say nothing to who stood in another history, as before a backup
//!    was restored: a token shows that, a bare time does not.
//! 4. Else everything, after a reset.
//!
//! # The existence filter
//!
//! It says how many documents are in the target. A client that holds another number removes those of its own that the
//! names in the filter (`BloomFilter`) do not have, and asks for everything anew if that does not help. Names are told to
//! who sent how many it expects, which is how clients say that they use them.
//!
//! # Sharing
//!
//! After a failure everybody comes back at once, with tokens of about the same version. One catching up serves all of
//! them (`Shared`): what has happened since an earlier version includes what has happened since a later one. Who stood at
//! the later one is spared the documents that it holds as they are, and is told once more what has left.
//!
//! # What is not done
//!
//! No state of a stream is known here, and nothing is sent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::{OnceCell, Semaphore};
use watchfire_engine::{Engine, Error, Version};
use watchfire_model::watch::WatchEvent;
use watchfire_model::{DatabaseName, Document, DocumentPath};

use crate::result::{self, Shown, Standing};
use crate::resume::{self, Touched};
use crate::target::{Interest, SharedId, read_time};

/// Who stood at most this much later than others, in microseconds, is told what they are told.
pub const NEAR_MICROS: u64 = 10_000_000;
/// Catchings up that are remembered at once; past it the oldest is forgotten, which costs another reading.
pub const SHARED_MAX: usize = 32;

/// What brings a client that stood at one version to another.
#[derive(Clone, Debug)]
pub struct CaughtUp {
    /// To tell.
    pub shown: Shown,
    /// Whether that is enough for whoever stood there or somewhere after. If not, an existence filter must follow.
    pub certain: bool,
    /// Whether it rests on the times of documents alone: it is for who is known to have stood in this history.
    pub by_times: bool,
}

/// What the client needs that stood at `from` to stand at `to`, at which `result` is the target's result. `None`: a
/// reset, and everything. Fails when the changelog cannot be read.
pub async fn catch_up(
    engine: &Engine,
    interest: &Interest,
    from: Version,
    to: Version,
    result: &[Arc<Document>],
) -> Result<Option<CaughtUp>, Error> {
    let touched = resume::touched(engine, interest, from, to).await?;
    let touched = match touched {
        Some(touched) if !interest.limited() => {
            return Ok(Some(CaughtUp {
                shown: resume::told(interest, touched, to),
                certain: true,
                by_times: false,
            }));
        }
        touched => touched,
    };
    if let Some(past) = read_at(engine, interest, from).await {
        let gone = gone(engine, past.clone(), touched, to, result).await;
        if let Some(gone) = gone {
            let past: BTreeMap<&DocumentPath, &Arc<Document>> = past
                .iter()
                .map(|document| (&document.path, document))
                .collect();
            let new = |document: &&Arc<Document>| {
                past.get(&document.path)
                    .is_none_or(|old| old.update_time != document.update_time)
            };
            return Ok(Some(CaughtUp {
                shown: Shown {
                    as_of: to,
                    upserted: result
                        .iter()
                        .filter(new)
                        .map(|document| interest.show(document))
                        .collect(),
                    removed: gone
                        .into_iter()
                        .map(|(path, now)| (path, now.map(|now| interest.show(&now))))
                        .collect(),
                },
                certain: false,
                by_times: false,
            }));
        }
    }
    if interest.limited() {
        return Ok(None);
    }
    let since = read_time(from);
    Ok(Some(CaughtUp {
        shown: Shown {
            as_of: to,
            upserted: result
                .iter()
                .filter(|document| document.update_time > since)
                .map(|document| interest.show(document))
                .collect(),
            removed: Vec::new(),
        },
        certain: false,
        by_times: true,
    }))
}

/// The result as it was. `None` when it cannot be read any more, for whatever reason: there are other ways.
async fn read_at(
    engine: &Engine,
    interest: &Interest,
    version: Version,
) -> Option<Vec<Arc<Document>>> {
    let view = engine.view_at(read_time(version)).await.ok()?;
    result::read(&view, interest).await.ok()
}

/// The documents that a client may hold and that are not in the result, as they are at `to`; `None` when that cannot
/// be read.
async fn gone(
    engine: &Engine,
    past: Vec<Arc<Document>>,
    touched: Option<Touched>,
    to: Version,
    result: &[Arc<Document>],
) -> Option<Touched> {
    let known = touched.is_some();
    let mut gone = touched.unwrap_or_default();
    for document in past {
        // What was not touched is as it was.
        gone.entry(document.path.clone()).or_insert(Some(document));
    }
    for document in result {
        gone.remove(&document.path);
    }
    if !known && !gone.is_empty() {
        let view = engine.view_at(read_time(to)).await.ok()?;
        let paths: Vec<DocumentPath> = gone.into_keys().collect();
        gone = Touched::new();
        for piece in paths.chunks(result::DOCUMENTS_PER_READ) {
            let now = view.documents(piece).await.ok()?;
            gone.extend(piece.iter().cloned().zip(now));
            tokio::task::yield_now().await;
        }
    }
    Some(gone)
}

/// The existence filter of a target with this result; with names if the client said that it expects documents.
pub fn existence_filter(
    database: &DatabaseName,
    target: i32,
    expected_count: Option<i32>,
    result: &Standing,
) -> WatchEvent {
    WatchEvent::Filter {
        target,
        count: i32::try_from(result.documents().len()).unwrap_or(i32::MAX),
        unchanged_names: expected_count
            .is_some_and(|expected| expected > 0)
            .then(|| result.names(database)),
    }
}

/// What a shared catching up has come to, and up to where; `None` when only a reset helps.
type Outcome = Option<Arc<(Version, CaughtUp)>>;

/// One catching up, for all that take part in it.
#[derive(Clone, Debug)]
pub struct Joint {
    target: SharedId,
    from: Version,
    /// Where the one stood that takes part; `from` or later.
    stood_at: Version,
    to: Version,
    outcome: Arc<OnceCell<Outcome>>,
}

/// The catchings up of late. Forgetting one costs another reading, never a wrong answer.
#[derive(Debug, Default)]
pub struct Shared {
    joint: VecDeque<Joint>,
}

impl Shared {
    /// The catching up from `from` to `to`: a new one, or one that others take part in.
    ///
    /// It serves who stood no earlier than it begins and at most `NEAR_MICROS` later, and who wants more than it tells
    /// reads the rest, which is short. One of a limited target must begin and end at the same versions: what came in and
    /// left again in between is not in a comparison.
    pub fn join(
        &mut self,
        target: SharedId,
        interest: &Interest,
        from: Version,
        to: Version,
    ) -> Joint {
        let serves = |joint: &&Joint| {
            let near = |earlier: Version, later: Version| {
                later
                    .0
                    .checked_sub(earlier.0)
                    .is_some_and(|micros| micros <= NEAR_MICROS)
            };
            joint.target == target
                && match interest.limited() {
                    true => (joint.from, joint.to) == (from, to),
                    false => near(joint.from, from) && near(joint.to, to),
                }
        };
        if let Some(joint) = self.joint.iter().find(serves) {
            return Joint {
                stood_at: from,
                ..joint.clone()
            };
        }
        let joint = Joint {
            target,
            from,
            stood_at: from,
            to,
            outcome: Arc::default(),
        };
        if self.joint.len() >= SHARED_MAX {
            self.joint.pop_front();
        }
        self.joint.push_back(joint.clone());
        joint
    }

    /// Forgets all, so that documents that nobody waits for are not kept.
    pub fn forget(&mut self) {
        self.joint.clear();
    }
}

impl Joint {
    /// What to tell, in order; as `catch_up`. The first who asks reads; when it stops waiting, the next one does.
    /// Who reads takes one of the `turns`, and who waits for another does not.
    pub async fn catch_up(
        &self,
        engine: &Engine,
        interest: &Interest,
        to: Version,
        result: &[Arc<Document>],
        turns: &Semaphore,
    ) -> Result<Option<Vec<CaughtUp>>, Error> {
        let read = async || {
            // Turns that nobody gives any more hold nobody up.
            let _turn = turns.acquire().await.ok();
            let caught_up = catch_up(engine, interest, self.from, to, result).await?;
            Ok::<Outcome, Error>(caught_up.map(|caught_up| Arc::new((to, caught_up))))
        };
        let Some(outcome) = self.outcome.get_or_try_init(read).await? else {
            return Ok(None);
        };
        let (reached, first) = outcome.as_ref();
        let mut told = Vec::new();
        if self.from == self.stood_at || self.stood_at < *reached {
            let mut first = first.clone();
            if self.from < self.stood_at {
                let held = read_time(self.stood_at);
                first
                    .shown
                    .upserted
                    .retain(|document| document.update_time > held);
            }
            told.push(first);
        }
        let at = self.stood_at.max(*reached);
        if at < to {
            let _turn = turns.acquire().await.ok();
            if interest.limited() {
                return catch_up(engine, interest, self.from, to, result)
                    .await
                    .map(|caught_up| caught_up.map(|caught_up| vec![caught_up]));
            }
            match resume::touched(engine, interest, at, to).await? {
                Some(touched) => told.push(CaughtUp {
                    shown: resume::told(interest, touched, to),
                    certain: true,
                    by_times: false,
                }),
                None => return Ok(None),
            }
        }
        Ok(Some(told))
    }
}

#[cfg(test)]
mod tests;
