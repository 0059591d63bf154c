//! Where a collection group can be cut into pieces that are read side by side.
//!
//! The cuts are names, ascending. Each page works them out anew and goes on after the last name of the
//! page before: whatever was written in between, the names of all pages are in order and none comes twice.

use watchfire_model::{DocumentPath, Query};

use crate::databases::Database;
use crate::error::Error;
use crate::service::read::{Consistency, Reading, open};

/// Cuts at most, whatever the caller names: fewer are always a good answer.
pub const PARTITIONS_MAX: usize = 10_000;

/// The longest page, and the length of a page when the caller names none.
pub const PAGE_LEN_MAX: usize = 1_000;

/// Which cuts are asked for.
pub struct Partitioning {
    /// A collection group in the order of names.
    pub query: Query,
    /// How many, over all pages.
    pub count: usize,
    pub page_len: usize,
    /// Where the page before ended.
    pub after: Option<Position>,
}

/// The end of a page.
#[derive(Clone, Debug)]
pub struct Position {
    /// The last name.
    pub last: DocumentPath,
    /// How many there were, over all pages.
    pub given: usize,
}

/// One page.
pub struct PartitionPage {
    pub cuts: Vec<DocumentPath>,
    /// Where the page ends, if there are more.
    pub next: Option<Position>,
}

/// How many cuts are made for what the caller wrote.
pub fn count(requested: i64) -> Result<usize, Error> {
    if requested < 1 {
        return Err(Error::invalid(format!(
            "partition_count must be positive, but is {requested}."
        )));
    }
    Ok(usize::try_from(requested).map_or(PARTITIONS_MAX, |count| count.min(PARTITIONS_MAX)))
}

/// The page length for what the caller wrote: 0 means the default.
pub fn page_len(requested: i32) -> Result<usize, Error> {
    match usize::try_from(requested) {
        Ok(0) => Ok(PAGE_LEN_MAX),
        Ok(len) => Ok(len.min(PAGE_LEN_MAX)),
        Err(_) => Err(Error::invalid(format!(
            "page_size must not be negative, but is {requested}."
        ))),
    }
}

/// One page of cuts.
pub async fn page(
    database: &Database,
    partitioning: Partitioning,
    consistency: Consistency,
) -> Result<PartitionPage, Error> {
    let Partitioning {
        query,
        count,
        page_len,
        after,
    } = partitioning;
    let _turn = database.answers.turn().await;
    database.metrics.query_began();
    let Reading { view, begun: _ } = open(database, consistency).await?;
    let cuts = view.partition(&query, count).await?;
    let given = after.as_ref().map_or(0, |after| after.given);
    let mut left = cuts
        .into_iter()
        .skip_while(|cut| after.as_ref().is_some_and(|after| *cut <= after.last))
        .take(count.saturating_sub(given));
    let cuts: Vec<DocumentPath> = left.by_ref().take(page_len).collect();
    let more = left.next().is_some();
    let next = cuts.last().filter(|_| more).map(|last| Position {
        last: last.clone(),
        given: given.saturating_add(cuts.len()),
    });
    Ok(PartitionPage { cuts, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_lengths_have_bounds() {
        assert_eq!(count(1).unwrap(), 1);
        assert_eq!(count(i64::MAX).unwrap(), PARTITIONS_MAX);
        assert!(count(0).is_err() && count(-1).is_err());
        assert_eq!(page_len(0).unwrap(), PAGE_LEN_MAX);
        assert_eq!(page_len(7).unwrap(), 7);
        assert_eq!(page_len(i32::MAX).unwrap(), PAGE_LEN_MAX);
        assert!(page_len(-1).is_err());
    }
}
