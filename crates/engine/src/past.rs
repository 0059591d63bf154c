//! Which versions of the past can be read, and the snapshot of one.
//!
//! Of the last hour every microsecond, further back every whole minute, as far as it is kept.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use watchfire_model::Invalid;
use watchfire_storage::{Snapshot, Version};

use crate::changelog::reader::trimmed_to;
use crate::error::Error;
use crate::history::snapshot::PastSnapshot;
use crate::keyspace::{Catalogue, catalogue_key};
use crate::settings::{HISTORY_MAX, HISTORY_MIN};

/// Further back than `HISTORY_MIN`, versions are whole multiples of this many microseconds.
const MINUTE_MICROS: u64 = 60_000_000;

/// How long the past is kept, in microseconds, for a setting.
pub fn kept_micros(history: Duration) -> u64 {
    u64::try_from(history.clamp(HISTORY_MIN, HISTORY_MAX).as_micros()).unwrap_or(u64::MAX)
}

/// Whether a version may be asked for at `now`, when `kept` microseconds are kept. Fails with `Invalid` for one that has
/// not come yet, or stands between two minutes more than an hour ago, and with `FailedPrecondition` for one that
/// is no longer kept.
pub fn check_version(version: Version, now: Version, kept: u64) -> Result<(), Error> {
    let Some(age) = now.0.checked_sub(version.0) else {
        return Err(Error::Invalid(Invalid::new(
            "read_time cannot be in the future",
        )));
    };
    if age > kept {
        return Err(too_old());
    }
    if age > kept_micros(HISTORY_MIN) && !version.0.is_multiple_of(MINUTE_MICROS) {
        return Err(Error::Invalid(Invalid::new(
            "read_time must be a whole minute when it is more than an hour ago",
        )));
    }
    Ok(())
}

/// The store as it was at `version`, which is not above the snapshot's. Fails with `FailedPrecondition` for a version
/// before what is kept.
pub async fn snapshot_at(
    present: Arc<dyn Snapshot>,
    version: Version,
) -> Result<Arc<dyn Snapshot>, Error> {
    if version == present.version() {
        return Ok(present);
    }
    let trimmed = trimmed_to(present.as_ref()).await?;
    let began = history_from(present.as_ref()).await?;
    if trimmed.max(began).is_some_and(|kept| version < kept) {
        return Err(too_old());
    }
    Ok(Arc::new(PastSnapshot::new(present, version)))
}

/// Since when there is history, in a database that is older than its history.
async fn history_from(snapshot: &dyn Snapshot) -> Result<Option<Version>, Error> {
    let Some(bytes) = snapshot.get(&catalogue_key(Catalogue::HistoryFrom)).await? else {
        return Ok(None);
    };
    match <[u8; 8]>::try_from(Bytes::as_ref(&bytes)) {
        Ok(version) => Ok(Some(Version(u64::from_be_bytes(version)))),
        Err(_) => Err(Error::Corrupt(format!(
            "the version at which history begins has {} bytes, expected 8",
            bytes.len()
        ))),
    }
}

fn too_old() -> Error {
    Error::FailedPrecondition("The requested snapshot version is too old.".to_owned())
}

#[cfg(test)]
mod tests;
