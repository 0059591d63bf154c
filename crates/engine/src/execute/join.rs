//! The entries that several scans have in common.
//!
//! Scans of a join end alike: behind the bytes that each of them fixes stand the same columns and the same name. So
//! they are followed side by side by those bytes, and whichever is behind jumps to where the others are. One scan is
//! a join of its own.

use bytes::Bytes;
use watchfire_storage::Direction;

use super::pages::Pages;
use super::seek::malformed;
use crate::error::Error;
use crate::stamp::contents;

/// One scan and the bytes that it fixes.
pub struct Side {
    pub pages: Pages,
    pub start: Bytes,
}

/// Scans that are followed side by side.
pub struct Join {
    direction: Direction,
    /// What entries hold is wanted.
    payloads: bool,
    first: Side,
    others: Vec<Side>,
    /// Where a scan is sent; kept for its memory.
    bound: Vec<u8>,
}

impl Join {
    pub fn new(direction: Direction, payloads: bool, first: Side, others: Vec<Side>) -> Self {
        Self {
            direction,
            payloads,
            first,
            others,
            bound: Vec::new(),
        }
    }

    /// Entries that were read.
    pub fn read(&self) -> u64 {
        let others = self.others.iter().map(|side| side.pages.read);
        self.first.pages.read + others.sum::<u64>()
    }

    /// How many bytes of the entries are fixed.
    pub fn start_len(&self) -> usize {
        self.first.start.len()
    }

    /// The next key, as the first scan has it, and what the entries of all scans hold; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<(Bytes, Vec<Bytes>)>, Error> {
        if !self.first.pages.fill().await? {
            return Ok(None);
        }
        if !self.others.is_empty() && !self.agree().await? {
            return Ok(None);
        }
        let mut held = Vec::new();
        let Some((key, payload)) = self.first.pages.pop() else {
            return Ok(None);
        };
        let others = self.others.iter_mut().map(|side| side.pages.pop());
        if self.payloads {
            held.push(contents(&payload));
            held.extend(others.flatten().map(|(_, payload)| contents(&payload)));
        } else {
            others.for_each(drop);
        }
        Ok(Some((key, held)))
    }

    /// Goes to the next entry that all have; false if there is none.
    async fn agree(&mut self) -> Result<bool, Error> {
        let mut target = self.first.suffix()?;
        'agree: loop {
            for side in &mut self.others {
                let Some(found) = side
                    .follow(&target, self.direction, &mut self.bound)
                    .await?
                else {
                    return Ok(false);
                };
                if found != target {
                    // The first scan catches up, and everybody is asked again.
                    let Some(caught) = self
                        .first
                        .follow(&found, self.direction, &mut self.bound)
                        .await?
                    else {
                        return Ok(false);
                    };
                    target = caught;
                    continue 'agree;
                }
            }
            break;
        }
        Ok(true)
    }
}

impl Side {
    /// What stands behind the fixed bytes of the entry at hand.
    fn suffix(&self) -> Result<Bytes, Error> {
        let key = self.pages.front().expect("the page was filled");
        if key.len() < self.start.len() {
            return Err(malformed(key));
        }
        Ok(key.slice(self.start.len()..))
    }

    /// Goes to the target or to the first entry behind it, and says which one that is.
    async fn follow(
        &mut self,
        target: &[u8],
        direction: Direction,
        bound: &mut Vec<u8>,
    ) -> Result<Option<Bytes>, Error> {
        bound.clear();
        bound.extend_from_slice(&self.start);
        bound.extend_from_slice(target);
        match direction {
            Direction::Forward => {}
            // The target itself is still wanted.
            Direction::Backward => bound.push(0),
        }
        self.pages.seek(bound);
        if !self.pages.fill().await? {
            return Ok(None);
        }
        self.suffix().map(Some)
    }
}
