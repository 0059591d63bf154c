//! One sorted sequence of keys, read page by page in either direction.
//!
//! The first page is as long as the reader hopes to need; pages double while they are read one after the other. After
//! a jump over what was not read yet they begin again with a single key, unless the page before was worth its length.

use std::collections::VecDeque;

use bytes::Bytes;
use watchfire_storage::range::just_after;
use watchfire_storage::{Direction, Range};

use super::pace::{Reading, Work};
use crate::error::Error;

/// What asking for a page costs beside its entries, in units of work.
const PAGE_WORK: usize = 16;

/// After this many jumps a longer page is tried: perhaps they have become short.
const JUMPS_PER_PROBE: usize = 32;

/// Keys in such a page.
const PROBE_LEN: usize = 16;

/// A page of at least this many keys was worth its length if one in `USEFUL_SHARE` of them was asked for.
const USEFUL_LEN: usize = 8;
const USEFUL_SHARE: usize = 4;

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
                self.len =
                    if self.page_len >= USEFUL_LEN && self.used * USEFUL_SHARE >= self.page_len {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use watchfire_model::{Clock, Timestamp};
    use watchfire_storage::memory::MemoryStore;
    use watchfire_storage::{Batch, Operation, Store, Version};

    use super::*;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::EPOCH
        }
    }

    fn key(number: u32) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    async fn pages(direction: Direction, first: usize) -> Pages {
        let store = MemoryStore::new();
        let operations = (0..10_000)
            .map(|number| Operation::Put {
                key: key(number),
                value: Bytes::new(),
            })
            .collect();
        let batch = Batch {
            version: Version(1),
            operations,
        };
        store.apply(Version(0), batch).await.unwrap();
        let reading = Reading::new(store.snapshot().await.unwrap(), Arc::new(Still));
        let ranges = [(0, 4_000), (4_000, 4_000), (6_000, 10_000)].map(|(start, end)| Range {
            start: key(start),
            end: Some(key(end)),
        });
        Pages::new(reading, direction, ranges.to_vec(), first, 1_024)
    }

    async fn at(pages: &mut Pages) -> Option<u32> {
        pages.fill().await.unwrap();
        let key = pages.front()?;
        Some(u32::from_be_bytes(key.as_ref().try_into().unwrap()))
    }

    #[tokio::test]
    async fn everything_is_read_once_in_either_direction() {
        for direction in [Direction::Forward, Direction::Backward] {
            let mut pages = pages(direction, 20).await;
            let mut expected: Vec<u32> = (0..4_000).chain(6_000..10_000).collect();
            if direction == Direction::Backward {
                expected.reverse();
            }
            for number in expected {
                assert_eq!(at(&mut pages).await, Some(number));
                pages.pop();
            }
            assert_eq!(at(&mut pages).await, None);
            assert_eq!(pages.read, 8_000);
        }
    }

    #[tokio::test]
    async fn a_jump_within_the_page_costs_nothing_and_another_one_little() {
        let mut forward = pages(Direction::Forward, 20).await;
        assert_eq!(at(&mut forward).await, Some(0));
        forward.seek(&key(19));
        assert_eq!((at(&mut forward).await, forward.read), (Some(19), 20));
        forward.seek(&key(5));
        assert_eq!((at(&mut forward).await, forward.read), (Some(19), 20));
        forward.seek(&key(3_000));
        assert_eq!((at(&mut forward).await, forward.read), (Some(3_000), 21));
        forward.seek(&key(5_000));
        assert_eq!((at(&mut forward).await, forward.read), (Some(6_000), 22));
        forward.seek(&key(20_000));
        assert_eq!((at(&mut forward).await, forward.read), (None, 22));

        let mut backward = pages(Direction::Backward, 20).await;
        assert_eq!(at(&mut backward).await, Some(9_999));
        backward.seek(&key(9_990));
        assert_eq!((at(&mut backward).await, backward.read), (Some(9_989), 20));
        backward.seek(&key(5_000));
        assert_eq!((at(&mut backward).await, backward.read), (Some(3_999), 21));
        backward.seek(&key(0));
        assert_eq!(at(&mut backward).await, None);
    }

    /// Where jumps are short, pages become long enough to hold the next one.
    #[tokio::test]
    async fn short_jumps_are_noticed() {
        let mut pages = pages(Direction::Forward, 1).await;
        let mut asked = 0;
        for number in (0..4_000).step_by(2) {
            pages.seek(&key(number));
            let before = pages.read;
            assert_eq!(at(&mut pages).await, Some(number));
            asked += u32::from(pages.read > before);
        }
        assert!(asked < 300, "{asked} pages for 2,000 jumps");
    }
}
