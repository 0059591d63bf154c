//! The branches of a plan as one sequence.
//!
//! Branches that come in the whole order of the query are merged by it, branches in order of the name by the name; a
//! document that several of them have falls together then. Branches that come in a part of the order are merged by
//! that, all others follow one another. Where a document may come more than once it belongs to the first branch whose
//! filter it satisfies: nothing is remembered for that.

use watchfire_storage::Direction;

use super::branch::{Found, Needs, Reader};
use super::pace::Reading;
use crate::error::Error;
use crate::planner::{Branch, Plan, Source};

/// How many documents a branch begins with when nobody knows how many are needed.
const FIRST: usize = 32;

/// What is asked of a union.
#[derive(Copy, Clone, Debug, Default)]
pub struct Wishes {
    /// How many documents are hoped to be enough.
    pub expected: Option<usize>,
    /// In which order they come does not matter.
    pub any_order: bool,
    /// `Found::columns` are wanted.
    pub columns: bool,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum By {
    Order,
    Name { backward: bool },
    Turns,
}

/// Running branches.
pub struct Union {
    readers: Vec<Reader>,
    /// The next of each branch; for merges.
    heads: Vec<Option<Found>>,
    begun: bool,
    by: By,
    /// The branch whose turn it is.
    turn: usize,
}

impl Union {
    /// `orders`: how many the query has.
    pub fn new(plan: Plan, orders: usize, wishes: Wishes, reading: &Reading) -> Self {
        let full = plan.ordered >= orders;
        let names = name_order(&plan.branches);
        let count = plan.branches.len();
        let by = match names {
            _ if count < 2 => By::Turns,
            _ if full => By::Order,
            Some(backward) if plan.ordered == 0 || wishes.any_order => By::Name { backward },
            _ if plan.ordered > 0 && !wishes.any_order => By::Order,
            _ => By::Turns,
        };
        let first = match (wishes.expected, by) {
            (None, _) => FIRST,
            (Some(expected), By::Turns) => expected,
            // Most of what is needed may come from one branch, but that is seen soon enough.
            (Some(expected), By::Order | By::Name { .. }) => expected.div_ceil(count.max(1)),
        };
        let needs = Needs {
            order: by == By::Order || (!full && plan.ordered > 0),
            columns: wishes.columns,
            full,
            first,
        };
        let readers = plan.branches.into_iter().enumerate();
        Self {
            readers: readers
                .map(|(position, branch)| Reader::new(position, branch, needs, reading))
                .collect(),
            heads: Vec::new(),
            begun: false,
            by,
            turn: 0,
        }
    }

    /// Entries that were read.
    pub fn entries(&self) -> u64 {
        self.readers.iter().map(Reader::entries).sum()
    }

    /// Documents that came along while their keys were read.
    pub fn documents(&self) -> u64 {
        self.readers.iter().map(Reader::documents).sum()
    }

    /// The next document that may match; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Found>, Error> {
        match self.by {
            By::Turns => self.next_in_turn().await,
            By::Order | By::Name { .. } => self.next_merged().await,
        }
    }

    /// Counts up to `wanted` documents, where keys alone say that they match; else nothing is read.
    pub async fn count_keys(&mut self, wanted: u64) -> Result<Option<u64>, Error> {
        match self.readers.as_mut_slice() {
            [reader] => reader.count_keys(wanted).await,
            _ => Ok(None),
        }
    }

    async fn next_in_turn(&mut self) -> Result<Option<Found>, Error> {
        let several = self.readers.len() > 1;
        while let Some(reader) = self.readers.get_mut(self.turn) {
            if let Some(mut found) = reader.next().await? {
                if several {
                    found.alone = false;
                    found.sure = false;
                }
                return Ok(Some(found));
            }
            self.turn += 1;
        }
        Ok(None)
    }

    async fn next_merged(&mut self) -> Result<Option<Found>, Error> {
        if !self.begun {
            self.begun = true;
            for reader in &mut self.readers {
                self.heads.push(reader.next().await?);
            }
        }
        let by = self.by;
        let least = self
            .heads
            .iter_mut()
            .zip(&mut self.readers)
            .filter(|(head, _)| head.is_some())
            .reduce(|least, other| {
                if comes_before(by, other.0.as_ref(), least.0.as_ref()) {
                    other
                } else {
                    least
                }
            });
        let Some((head, reader)) = least else {
            return Ok(None);
        };
        let next = reader.next().await?;
        let Some(mut found) = std::mem::replace(head, next) else {
            return Ok(None);
        };
        if by == By::Order {
            // Where a branch only guesses the place, another one brings the document again.
            found.alone = false;
            if !found.placed {
                found.sure = false;
                return Ok(Some(found));
            }
        }
        for (head, reader) in self.heads.iter_mut().zip(&mut self.readers) {
            while let Some(other) = head
                && falls_together(by, &found, other)
            {
                // One of them may know more than the other.
                found.sure |= other.sure;
                found.others.push(other.branch);
                *head = reader.next().await?;
            }
        }
        Ok(Some(found))
    }
}

fn comes_before(by: By, a: Option<&Found>, b: Option<&Found>) -> bool {
    let (Some(a), Some(b)) = (a, b) else {
        return false;
    };
    match by {
        By::Order => a.order < b.order,
        By::Name { backward: false } => a.name < b.name,
        By::Name { backward: true } => a.name > b.name,
        By::Turns => false,
    }
}

fn falls_together(by: By, a: &Found, b: &Found) -> bool {
    match by {
        By::Order => b.placed && a.order == b.order,
        By::Name { .. } => a.name == b.name,
        By::Turns => false,
    }
}

/// Whether all branches come in order of the name: which way.
fn name_order(branches: &[Branch]) -> Option<bool> {
    let mut ways = branches.iter().map(|branch| {
        let backward = branch.direction == Direction::Backward;
        match &branch.source {
            Source::Documents(_) | Source::Stored(_) | Source::Group { .. } => Some(backward),
            Source::Entries(scans) => scans
                .first()
                .filter(|scan| scan.columns.is_empty())
                .map(|scan| backward != scan.names_inverted),
        }
    });
    let first = ways.next()??;
    ways.all(|way| way == Some(first)).then_some(first)
}
