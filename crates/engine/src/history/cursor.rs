//! Ways through a range of keys: what stands there now, and what the history says was taken away since a version.
//!
//! A key costs a few pages of the history, however often it was changed: where a page is all about one key, the rest of
//! that key is jumped over.

use std::collections::VecDeque;

use bytes::Bytes;
use watchfire_storage::range::just_after;
use watchfire_storage::{Direction, Error, Range, Snapshot, Version};

use crate::keyspace::{history_key, history_of, history_past, history_range, read_history_key};
use crate::stamp;

/// Entries in one page.
const PAGE_MAX: usize = 512;

/// Entries in the first page of history, and in the first one after a jump: mostly there are none.
const HISTORY_PAGE_FIRST: usize = 4;

/// A page of at least this many entries of one key is followed by a jump.
const JUMP_MIN: usize = 16;

/// Entries of a range, page by page.
pub(super) struct Pages<'a> {
    snapshot: &'a dyn Snapshot,
    direction: Direction,
    rest: Option<Range>,
    buffer: VecDeque<(Bytes, Bytes)>,
    len: usize,
    first: usize,
}

impl<'a> Pages<'a> {
    pub fn new(
        snapshot: &'a dyn Snapshot,
        direction: Direction,
        range: Range,
        first: usize,
    ) -> Self {
        let first = first.clamp(1, PAGE_MAX);
        Self {
            snapshot,
            direction,
            rest: (!range.is_empty()).then_some(range),
            buffer: VecDeque::new(),
            len: first,
            first,
        }
    }

    pub async fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        while self.buffer.is_empty() {
            let Some(range) = self.rest.take() else {
                return Ok(None);
            };
            if self.len == PAGE_MAX {
                // Stores may read on the thread of the caller.
                tokio::task::yield_now().await;
            }
            let page = self.snapshot.page(&range, self.direction, self.len).await?;
            self.len = (self.len * 4).min(PAGE_MAX);
            if page.more
                && let Some((last, _)) = page.entries.last()
            {
                self.rest = Some(match self.direction {
                    Direction::Forward => Range {
                        start: just_after(last),
                        end: range.end,
                    },
                    Direction::Backward => Range {
                        start: range.start,
                        end: Some(last.clone()),
                    },
                });
            }
            self.buffer = page.entries.into();
        }
        Ok(self.buffer.pop_front())
    }

    /// Passes over everything before the bound: forwards the keys below it, backwards the keys at it and above.
    fn pass(&mut self, bound: &Bytes) {
        let direction = self.direction;
        let before = |key: &Bytes| match direction {
            Direction::Forward => key < bound,
            Direction::Backward => key >= bound,
        };
        if self.buffer.back().is_some_and(|(last, _)| !before(last)) {
            while self.buffer.front().is_some_and(|(key, _)| before(key)) {
                self.buffer.pop_front();
            }
            return;
        }
        self.buffer.clear();
        let Some(range) = &mut self.rest else { return };
        let jumped = match direction {
            Direction::Forward if range.start < *bound => {
                range.start = bound.clone();
                true
            }
            Direction::Backward if range.end.as_ref().is_none_or(|end| end > bound) => {
                range.end = Some(bound.clone());
                true
            }
            Direction::Forward | Direction::Backward => false,
        };
        if jumped {
            self.len = self.first;
        }
        if range.is_empty() {
            self.rest = None;
        }
    }
}

/// What was taken away from a key first after a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub key: Bytes,
    /// By which commit.
    pub at: Version,
    /// As the history has it.
    pub value: Bytes,
}

impl Taken {
    pub fn read(history: &Bytes, value: Bytes) -> Result<Self, Error> {
        let (key, at) = read_history_key(history).ok_or_else(|| unreadable(history))?;
        Ok(Self { key, at, value })
    }
}

/// What stood under the keys of a range at a version and was taken away since.
///
/// Whether an entry says so can be told from it alone: it began at the version or before, and ended after it. There is
/// at most one for each key.
pub(super) struct Gone<'a> {
    pages: Pages<'a>,
    version: Version,
    /// Keys of the history: the first one of the page at hand, and the last one that was looked at.
    page_start: Option<Bytes>,
    last: Option<Bytes>,
    /// Entries that were looked at since the page began.
    looked_at: usize,
}

impl<'a> Gone<'a> {
    pub fn new(
        snapshot: &'a dyn Snapshot,
        direction: Direction,
        range: &Range,
        version: Version,
    ) -> Self {
        let range = if range.is_empty() {
            range.clone()
        } else {
            history_range(range)
        };
        Self {
            pages: Pages::new(snapshot, direction, range, HISTORY_PAGE_FIRST),
            version,
            page_start: None,
            last: None,
            looked_at: 0,
        }
    }

    /// The next one. Looks no further than at the key `until`: what lies behind it waits for another call.
    pub async fn next(&mut self, until: Option<&Bytes>) -> Result<Option<Taken>, Error> {
        let direction = self.pages.direction;
        let bound = until.map(|key| match direction {
            Direction::Forward => history_past(key),
            Direction::Backward => history_key(key, Version(0)),
        });
        loop {
            if self.pages.buffer.is_empty()
                && let Some(taken) = self.jump().await?
            {
                return Ok(Some(taken));
            }
            let fresh = self.pages.buffer.is_empty();
            let Some((history, value)) = self.pages.next().await? else {
                return Ok(None);
            };
            if fresh {
                self.page_start = Some(history.clone());
                self.looked_at = 0;
            }
            let is_beyond = bound.as_ref().is_some_and(|bound| match direction {
                Direction::Forward => history >= *bound,
                Direction::Backward => history < *bound,
            });
            if is_beyond {
                self.pages.buffer.push_front((history, value));
                return Ok(None);
            }
            self.looked_at += 1;
            self.last = Some(history.clone());
            let (_, at) = history_version(&history).ok_or_else(|| unreadable(&history))?;
            if at > self.version && stamp::since(&value) <= self.version {
                return Taken::read(&history, value).map(Some);
            }
        }
    }

    /// At the end of a page that was all about one key: passes over the rest of what the history has of that key, and
    /// answers what matters of it.
    async fn jump(&mut self) -> Result<Option<Taken>, Error> {
        let (Some(start), Some(last)) = (self.page_start.take(), self.last.take()) else {
            return Ok(None);
        };
        let is_one_key = self.looked_at >= JUMP_MIN
            && match (history_version(&start), history_version(&last)) {
                (Some((start, _)), Some((last, _))) => start == last,
                _ => false,
            };
        if !is_one_key || self.pages.rest.is_none() {
            return Ok(None);
        }
        let (key, at) = read_history_key(&last).ok_or_else(|| unreadable(&last))?;
        match self.pages.direction {
            Direction::Forward if at > self.version => self.pages.pass(&history_past(&key)),
            Direction::Forward => self.pages.pass(&history_of(&key, self.version).start),
            Direction::Backward => {
                self.pages.pass(&history_key(&key, Version(0)));
                if at > self.version {
                    let range = Range {
                        end: Some(last),
                        ..history_of(&key, self.version)
                    };
                    let snapshot = self.pages.snapshot;
                    let page = snapshot.page(&range, Direction::Forward, 1).await?;
                    if let Some((history, value)) = page.entries.into_iter().next()
                        && stamp::since(&value) <= self.version
                    {
                        return Taken::read(&history, value).map(Some);
                    }
                }
            }
        }
        Ok(None)
    }
}

/// What stands before the version in a key of the history, and the version.
fn history_version(history: &[u8]) -> Option<(&[u8], Version)> {
    let (key, version) = history.split_last_chunk::<8>()?;
    Some((key, Version(u64::from_be_bytes(*version))))
}

fn unreadable(history: &[u8]) -> Error {
    Error::Corrupt(format!(
        "a key of the history cannot be read: {}",
        history.escape_ascii()
    ))
}
