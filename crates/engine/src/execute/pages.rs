//! One sorted sequence of keys, read page by page in either direction.
//!
//! The first page is as long as the reader hopes to need; pages double while they are read one after the other. After
//! a jump over what was not read yet they begin again with a single key, unless the page before was worth its length.

use std::collections::VecDeque;

use bytes::Bytes;
use watchfire_storage::{Direction, Range};

use super::pace::{Reading, Work};
use super::seek::just_after;
use crate::error::Error;

/// What asking for a page costs beside its entries, in units of work.
const PAGE_WORK: usize = 16;

/// After this many jumps a longer page is tried: perhaps they have become short.
const JUMPS_PER_PROBE: usize = 32;

/// Keys in such a page.
const PROBE_LEN: usize = 16;

/// A place in the keys of some ranges.
pub struct Pages {
    reading: Reading,
    direction: Direction,
    /// Still to be read, in the direction of the reading.
    ranges: VecDeque<Range>,
    buffer: VecDeque<(Bytes, Bytes)>,
    /// Keys in the next page.
    len: usize,
    len_max: usize,
    /// Keys in the page at hand, and how often it answered.
    page_len: usize,
    used: usize,
    jumps: usize,
    work: Work,
    /// Keys that were read, wanted or not.
    pub read: u64,
}

impl Pages {
    /// `ranges` ascend and do not overlap. Pages begin with `first` keys and never have more than `len_max`.
    pub fn new(
        reading: Reading,
        direction: Direction,
        ranges: Vec<Range>,
        first: usize,
        len_max: usize,
    ) -> Self {
        let mut ranges = VecDeque::from(ranges);
        if direction == Direction::Backward {
            ranges.make_contiguous().reverse();
        }
        ranges.retain(|range| !range.is_empty());
        Self {
            reading,
            direction,
            ranges,
            buffer: VecDeque::new(),
            len: first.clamp(1, len_max),
            len_max,
            page_len: 0,
            used: 0,
            jumps: 0,
            work: Work::default(),
            read: 0,
        }
    }

    /// Reads on if nothing is at hand; false at the end.
    pub async fn fill(&mut self) -> Result<bool, Error> {
        while self.buffer.is_empty() {
            let Some(range) = self.ranges.pop_front() else {
                return Ok(false);
            };
            let page = self
                .reading
                .snapshot
                .page(&range, self.direction, self.len)
                .await?;
            if page.more
                && let Some((last, _)) = page.entries.last()
            {
                let rest = match self.direction {
                    Direction::Forward => Range {
                        start: just_after(last),
                        end: range.end,
                    },
                    Direction::Backward => Range {
                        start: range.start,
                        end: Some(last.clone()),
                    },
                };
                self.ranges.push_front(rest);
            }
            self.page_len = page.entries.len();
            self.used = 0;
            self.read += self.page_len as u64;
            self.len = self.len.saturating_mul(2).min(self.len_max);
            self.buffer = page.entries.into();
            self.work
                .add(self.page_len.saturating_add(PAGE_WORK), &self.reading)
                .await?;
        }
        Ok(true)
    }

    /// The key at hand; `fill` first.
    pub fn front(&self) -> Option<&Bytes> {
        self.buffer.front().map(|(key, _)| key)
    }

    /// Takes the key at hand, with its value.
    pub fn pop(&mut self) -> Option<(Bytes, Bytes)> {
        self.used += 1;
        self.buffer.pop_front()
    }

    /// Passes over everything before the bound: forwards the keys below it, backwards the keys at it and above. Costs
    /// nothing when the bound lies in the page at hand.
    pub fn seek(&mut self, bound: &[u8]) {
        let direction = self.direction;
        let before = |key: &Bytes| match direction {
            Direction::Forward => key.as_ref() < bound,
            Direction::Backward => key.as_ref() >= bound,
        };
        match self.buffer.back() {
            Some((last, _)) if !before(last) => {
                let passed = self.buffer.partition_point(|(key, _)| before(key));
                self.buffer.drain(..passed);
                self.used += usize::from(passed > 0);
                return;
            }
            Some(_) => {
                self.buffer.clear();
                self.jumps += 1;
                self.len = if self.page_len >= 4 && self.used * 2 >= self.page_len {
                    self.len
                } else if self.jumps.is_multiple_of(JUMPS_PER_PROBE) {
                    PROBE_LEN.min(self.len_max)
                } else {
                    1
                };
            }
            // The page was read to its end.
            None => {}
        }
        while let Some(range) = self.ranges.front_mut() {
            let passed = match direction {
                Direction::Forward => range.end.as_ref().is_some_and(|end| end.as_ref() <= bound),
                Direction::Backward => range.start.as_ref() >= bound,
            };
            if passed {
                self.ranges.pop_front();
                continue;
            }
            match direction {
                Direction::Forward if range.start.as_ref() < bound => {
                    range.start = Bytes::copy_from_slice(bound);
                }
                Direction::Backward
                    if range.end.as_ref().is_none_or(|end| end.as_ref() > bound) =>
                {
                    range.end = Some(Bytes::copy_from_slice(bound));
                }
                Direction::Forward | Direction::Backward => {}
            }
            break;
        }
    }

    /// Passes over everything.
    pub fn end(&mut self) {
        self.buffer.clear();
        self.ranges.clear();
    }
}
