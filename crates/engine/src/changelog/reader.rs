//! Everything that was committed after a version, as stored; or "too old".

use std::sync::Arc;

use watchfire_storage::{Direction, Snapshot, Version};

use crate::changelog::entry::{CommitEntry, decode_entry};
use crate::changelog::tail::Published;
use crate::error::Error;
use crate::keyspace::{Catalogue, catalogue_key, changelog_range_after, changelog_version};

/// How many entries one page of the store may have; the store bounds its bytes.
const PAGE_ENTRIES: usize = 512;
/// A read stops after the page in which it passed this many stored bytes; the answer is then cut short.
pub const READ_BYTES_MAX: usize = 16 << 20;

/// Answer to "what happened after V".
#[derive(Clone, Debug)]
pub enum EntriesSince {
    /// Every commit after V up to the bound asked for, in order, and the version up to which they are complete
    /// (below the tail when a bound cut them short). For a V beyond the tail it is the tail.
    Entries {
        /// In order of version; possibly none.
        entries: Vec<Arc<CommitEntry>>,
        /// No other commit at or below this version and above V exists.
        complete_to: Version,
    },
    /// The changelog no longer reaches back to V.
    TooOld,
}

/// What the store holds after a version.
#[derive(Clone, Debug)]
pub enum Stored {
    /// As in `EntriesSince::Entries`, with stored lengths.
    Entries {
        entries: Vec<Published>,
        complete_to: Version,
    },
    /// Entries after the version have been trimmed.
    TooOld,
}

/// The commits after `version` in the snapshot: at most `limit` (at least one), and bounded by `READ_BYTES_MAX`.
pub async fn read_entries(
    snapshot: &dyn Snapshot,
    version: Version,
    limit: usize,
) -> Result<Stored, Error> {
    if trimmed_to(snapshot)
        .await?
        .is_some_and(|trimmed| version < trimmed)
    {
        return Ok(Stored::TooOld);
    }
    let limit = limit.max(1);
    let mut entries: Vec<Published> = Vec::new();
    let mut bytes = 0;
    let mut last = version;
    loop {
        let range = changelog_range_after(last);
        let page = snapshot
            .page(
                &range,
                Direction::Forward,
                PAGE_ENTRIES.min(limit - entries.len()),
            )
            .await?;
        for (key, value) in page.entries {
            let at = changelog_version(&key).ok_or_else(|| {
                Error::Corrupt("a changelog key does not end with a version".to_owned())
            })?;
            entries.push(Published {
                entry: Arc::new(decode_entry(at, &value)?),
                bytes: value.len(),
            });
            bytes += value.len();
            last = at;
        }
        if !page.more {
            return Ok(Stored::Entries {
                entries,
                complete_to: snapshot.version(),
            });
        }
        if entries.len() >= limit || bytes > READ_BYTES_MAX {
            return Ok(Stored::Entries {
                entries,
                complete_to: last,
            });
        }
    }
}

/// The newest version whose entry has been trimmed, if any was.
pub async fn trimmed_to(snapshot: &dyn Snapshot) -> Result<Option<Version>, Error> {
    let Some(bytes) = snapshot.get(&catalogue_key(Catalogue::TrimmedTo)).await? else {
        return Ok(None);
    };
    match <[u8; 8]>::try_from(bytes.as_ref()) {
        Ok(version) => Ok(Some(Version(u64::from_be_bytes(version)))),
        Err(_) => Err(Error::Corrupt(format!(
            "the trimmed version has {} bytes, expected 8",
            bytes.len()
        ))),
    }
}
