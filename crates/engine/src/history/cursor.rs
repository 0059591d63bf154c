//! Ways through a range of keys: what stands there now, and what the history says was taken away since a version.
//!
//! A key of the history costs at most three pages, however often it was changed: what lies between the versions that matter is jumped
//! over.

use std::collections::VecDeque;

use bytes::Bytes;
use watchfire_storage::range::just_after;
use watchfire_storage::{Direction, Error, Range, Snapshot, Version};

use crate::keyspace::{history_key, history_of, history_past, history_range, read_history_key};

/// Entries in one page.
const PAGE_MAX: usize = 512;

/// Entries in the first page of history, and in the first one after a jump: mostly there are none.
const HISTORY_PAGE_FIRST: usize = 4;

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
        let (key, at) = read_history_key(history).ok_or_else(|| {
            Error::Corrupt(format!(
                "a key of the history cannot be read: {}",
                history.escape_ascii()
            ))
        })?;
        Ok(Self { key, at, value })
    }
}

/// What was taken away first after a version from the keys of a range.
pub(super) struct Gone<'a> {
    pages: Pages<'a>,
    version: Version,
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
        }
    }

    /// At the next key from which anything was.
    pub async fn next(&mut self) -> Result<Option<Taken>, Error> {
        while let Some((history, value)) = self.pages.next().await? {
            let taken = Taken::read(&history, value)?;
            match self.pages.direction {
                Direction::Forward if taken.at > self.version => {
                    self.pages.pass(&history_past(&taken.key));
                    return Ok(Some(taken));
                }
                Direction::Forward => {
                    self.pages.pass(&history_of(&taken.key, self.version).start);
                }
                Direction::Backward => {
                    let first = if taken.at > self.version {
                        Some(self.first_of(taken.clone()).await?)
                    } else {
                        None
                    };
                    self.pages.pass(&history_key(&taken.key, Version(0)));
                    if first.is_some() {
                        return Ok(first);
                    }
                }
            }
        }
        Ok(None)
    }

    /// The first one of a key after the version, where `last` is the last one.
    async fn first_of(&mut self, last: Taken) -> Result<Taken, Error> {
        let range = history_of(&last.key, self.version);
        let mut first = last;
        while let Some((history, value)) = self.pages.buffer.pop_front() {
            if history < range.start {
                self.pages.buffer.push_front((history, value));
                return Ok(first);
            }
            first = Taken::read(&history, value)?;
        }
        if self.pages.rest.is_none() {
            return Ok(first);
        }
        // There may be many more in between.
        let page = self
            .pages
            .snapshot
            .page(&range, Direction::Forward, 1)
            .await?;
        match page.entries.into_iter().next() {
            Some((history, value)) => Taken::read(&history, value),
            None => Ok(first),
        }
    }
}
