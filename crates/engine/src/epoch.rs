//! Which history a database has: a number that no other has, and that changes where the past is forgotten.
//!
//! A version alone does not say in which history it was seen. When an older state of a database is put in its place, or
//! another database begins under its name, the same versions come to mean other commits. So whoever keeps a version for
//! later (a listener's token) keeps the epoch with it.
//!
//! Not a secret: it tells histories apart, and guards nothing.

use bytes::Bytes;
use watchfire_storage::{Operation, Snapshot, Version};

use crate::error::Error;
use crate::keyspace::{Catalogue, catalogue_key};

/// The epoch of a history that begins at `version`. `chance` is a random number; without one (0) epochs still differ as
/// far as versions do.
pub fn epoch_from(version: Version, chance: u64) -> u64 {
    scatter(scatter(version.0) ^ chance)
}

/// Notes the epoch.
pub fn note_epoch(epoch: u64) -> Operation {
    Operation::Put {
        key: catalogue_key(Catalogue::Epoch),
        value: Bytes::copy_from_slice(&epoch.to_be_bytes()),
    }
}

/// The epoch that is noted; `None` in a database that was written before there were epochs.
pub async fn read_epoch(snapshot: &dyn Snapshot) -> Result<Option<u64>, Error> {
    let Some(bytes) = snapshot.get(&catalogue_key(Catalogue::Epoch)).await? else {
        return Ok(None);
    };
    match <[u8; 8]>::try_from(Bytes::as_ref(&bytes)) {
        Ok(epoch) => Ok(Some(u64::from_be_bytes(epoch))),
        Err(_) => Err(Error::Corrupt(format!(
            "the epoch has {} bytes, expected 8",
            bytes.len()
        ))),
    }
}

/// One to one, and near numbers go far apart (the finalizer of splitmix64).
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn neither_the_version_nor_chance_alone_makes_two_alike() {
        let epochs: HashSet<u64> = (0..40)
            .flat_map(|version| {
                (0..40)
                    .map(move |chance| epoch_from(Version(1_700_000_000_000_000 + version), chance))
            })
            .collect();
        assert_eq!(epochs.len(), 40 * 40);
    }
}
