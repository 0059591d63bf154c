//! The database as it was, as a snapshot like any other: what the present holds that is old enough, and what the
//! history says was taken away since.
//!
//! Holds nothing but the present's snapshot. The changelog and the catalogue are those of the present.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use watchfire_model::order::decode_path;
use watchfire_storage::{
    Counted, Direction, Error, PAGE_BYTES_MAX, Page, Range, Snapshot, Version,
};

use super::cursor::{Gone, Pages, Taken};
use crate::changelog::entry::before_of;
use crate::keyspace::{Keyspace, changelog_key, has_history, history_of};
use crate::record::record_since;
use crate::stamp;

/// A database at a version that has passed.
pub struct PastSnapshot {
    present: Arc<dyn Snapshot>,
    version: Version,
}

impl PastSnapshot {
    /// What `present` held at `version`, which it must not be below, and from which on the history must be whole.
    pub fn new(present: Arc<dyn Snapshot>, version: Version) -> Self {
        Self { present, version }
    }

    /// What was taken away from the key first after the version, if it stood there then.
    async fn taken(&self, key: &[u8]) -> Result<Option<Taken>, Error> {
        let range = history_of(key, self.version);
        let page = self.present.page(&range, Direction::Forward, 1).await?;
        let Some((history, value)) = page.entries.into_iter().next() else {
            return Ok(None);
        };
        let taken = Taken::read(&history, value)?;
        Ok((stamp::since(&taken.value) <= self.version).then_some(taken))
    }

    fn merge(&self, range: &Range, direction: Direction, first: usize) -> Merge<'_> {
        let present = self.present.as_ref();
        Merge {
            direction,
            version: self.version,
            standing: Pages::new(present, direction, range.clone(), first),
            gone: Gone::new(present, direction, range, self.version),
            next_standing: None,
            next_gone: None,
        }
    }
}

/// Since when a value stands under a key; 0 where nobody asks.
fn since(key: &[u8], value: &[u8]) -> Result<Version, Error> {
    match key.first() {
        Some(first) if *first == Keyspace::Document.byte() => {
            record_since(value).ok_or_else(|| {
                Error::Corrupt(format!(
                    "the stored bytes under the key {} are not a record",
                    key.escape_ascii()
                ))
            })
        }
        Some(first) if has_history(*first) => Ok(stamp::since(value)),
        Some(_) | None => Ok(Version(0)),
    }
}

/// What a key held.
enum Held {
    Value(Bytes),
    Gone(Taken),
}

/// Keys of a range with what they held, in order. Neither side is followed further than the other one.
struct Merge<'a> {
    direction: Direction,
    version: Version,
    standing: Pages<'a>,
    gone: Gone<'a>,
    next_standing: Option<(Bytes, Bytes)>,
    next_gone: Option<Taken>,
}

impl Merge<'_> {
    async fn next(&mut self) -> Result<Option<(Bytes, Held)>, Error> {
        loop {
            if self.next_standing.is_none() {
                self.next_standing = self.standing.next().await?;
            }
            if self.next_gone.is_none() {
                let until = self.next_standing.as_ref().map(|(key, _)| key);
                self.next_gone = self.gone.next(until).await?;
            }
            let order = match (&self.next_standing, &self.next_gone) {
                (Some((standing, _)), Some(taken)) => match self.direction {
                    Direction::Forward => standing.cmp(&taken.key),
                    Direction::Backward => taken.key.cmp(standing),
                },
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return Ok(None),
            };
            let standing = match order {
                Ordering::Less | Ordering::Equal => self.next_standing.take(),
                Ordering::Greater => None,
            };
            let taken = match order {
                Ordering::Greater | Ordering::Equal => self.next_gone.take(),
                Ordering::Less => None,
            };
            if let Some((key, value)) = standing
                && since(&key, &value)? <= self.version
            {
                return Ok(Some((key, Held::Value(value))));
            }
            if let Some(taken) = taken {
                return Ok(Some((taken.key.clone(), Held::Gone(taken))));
            }
        }
    }
}

/// How many bytes of commits are remembered while documents are read together; past it all but the last are forgotten.
const COMMITS_BYTES_MAX: usize = 16 << 20;

/// Reads documents as they were before commits. Remembers the commits, each of which may have changed many of the
/// documents that are read together.
struct Commits<'a> {
    present: &'a dyn Snapshot,
    remembered: HashMap<Version, Bytes>,
    bytes: usize,
}

impl<'a> Commits<'a> {
    fn new(present: &'a dyn Snapshot) -> Self {
        Self {
            present,
            remembered: HashMap::new(),
            bytes: 0,
        }
    }

    /// What the key held.
    async fn value(&mut self, taken: Taken) -> Result<Bytes, Error> {
        if taken.key.first() != Some(&Keyspace::Document.byte()) {
            return Ok(taken.value);
        }
        let lost = || {
            Error::Corrupt(format!(
                "the history says that the commit at version {} changed the document under the key {}, which the changelog does not",
                taken.at.0,
                taken.key.escape_ascii()
            ))
        };
        let path = taken.key.get(1..).and_then(decode_path);
        let (path, _) = path.ok_or_else(lost)?;
        let commit = match self.remembered.get(&taken.at) {
            Some(commit) => commit.clone(),
            None => {
                let commit = self.present.get(&changelog_key(taken.at)).await?;
                let commit = commit.ok_or_else(lost)?;
                self.remember(taken.at, commit.clone());
                commit
            }
        };
        before_of(&path, &commit).ok_or_else(lost)
    }

    fn remember(&mut self, at: Version, commit: Bytes) {
        self.bytes = self.bytes.saturating_add(commit.len());
        if self.bytes > COMMITS_BYTES_MAX {
            self.remembered.clear();
            self.bytes = commit.len();
        }
        self.remembered.insert(at, commit);
    }
}

#[async_trait]
impl Snapshot for PastSnapshot {
    fn version(&self) -> Version {
        self.version
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let present = self.present.get(key).await?;
        if let Some(value) = present
            && since(key, &value)? <= self.version
        {
            return Ok(Some(value));
        }
        match self.taken(key).await? {
            Some(taken) => Ok(Some(
                Commits::new(self.present.as_ref()).value(taken).await?,
            )),
            None => Ok(None),
        }
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Error> {
        let mut commits = Commits::new(self.present.as_ref());
        let mut held = self.present.get_many(keys).await?;
        for (key, held) in keys.iter().zip(&mut held) {
            if let Some(value) = held
                && since(key, value)? <= self.version
            {
                continue;
            }
            *held = match self.taken(key).await? {
                Some(taken) => Some(commits.value(taken).await?),
                None => None,
            };
        }
        Ok(held)
    }

    async fn page(&self, range: &Range, direction: Direction, limit: usize) -> Result<Page, Error> {
        assert!(limit > 0, "a page must have room for at least one entry");
        let mut commits = Commits::new(self.present.as_ref());
        // One more shows whether the range goes on.
        let mut merge = self.merge(range, direction, limit.saturating_add(1));
        let mut page = Page::default();
        let mut bytes = 0;
        while let Some((key, held)) = merge.next().await? {
            if page.entries.len() >= limit {
                page.more = true;
                break;
            }
            let value = match held {
                Held::Value(value) => value,
                Held::Gone(taken) => commits.value(taken).await?,
            };
            let size = key.len() + value.len();
            if bytes + size > PAGE_BYTES_MAX && !page.entries.is_empty() {
                page.more = true;
                break;
            }
            bytes += size;
            page.entries.push((key, value));
        }
        Ok(page)
    }

    async fn count(&self, range: &Range, limit: usize) -> Result<Counted, Error> {
        assert!(limit > 0, "counting up to nothing says nothing");
        let mut merge = self.merge(range, Direction::Forward, limit.saturating_add(1));
        let mut keys = 0;
        while let Some((key, _)) = merge.next().await? {
            if keys == limit {
                return Ok(Counted {
                    keys,
                    next: Some(key),
                });
            }
            keys += 1;
        }
        Ok(Counted { keys, next: None })
    }
}

#[cfg(test)]
mod tests;
