//! What a database must forget when an older state of it is put in its place.
//!
//! Between that state and now it may have had other commits, which are gone. Whoever has seen them (a listener that
//! comes back with its token, a read at an earlier time) must not hear that nothing has happened since: the past begins
//! anew, now, and with it the epoch. Used on a store that nobody else has open.

use bytes::Bytes;
use watchfire_storage::range::just_after;
use watchfire_storage::{Applied, Batch, Direction, Operation, Store, Version};

use crate::epoch::{epoch_from, note_epoch};
use crate::error::Error;
use crate::keyspace::{Catalogue, FORMAT, Keyspace, catalogue_key};

/// Keys that are deleted at once.
const PIECE_KEYS_MAX: usize = 1024;

/// Deletes the changelog and the history, and notes that nothing is known of the time before `now`, or before the head
/// if that is later. `chance` is a random number, for the new epoch.
///
/// Ended in between, it leaves a database that can be opened but remembers part of what it should not. Fails with
/// `FailedPrecondition` for a format from the future, and with `Unavailable` when somebody else writes.
pub async fn forget_past(store: &dyn Store, now: Version, chance: u64) -> Result<(), Error> {
    let format = store
        .snapshot()
        .await?
        .get(&catalogue_key(Catalogue::Format))
        .await?;
    if let Some(newer) = format.filter(|format| format.first().is_some_and(|byte| *byte > FORMAT)) {
        return Err(Error::FailedPrecondition(format!(
            "the database is stored in format {:?}; this version of Watchfire reads format [{FORMAT}]",
            newer.as_ref()
        )));
    }
    // First: what is forgotten afterwards is of no use to whoever comes with an earlier epoch.
    write(store, now, |version| {
        vec![note_epoch(epoch_from(version, chance))]
    })
    .await?;
    for part in [Keyspace::Changelog, Keyspace::History] {
        clear(store, now, part).await?;
    }
    write(store, now, |version| {
        vec![Operation::Put {
            key: catalogue_key(Catalogue::TrimmedTo),
            value: Bytes::copy_from_slice(&version.0.to_be_bytes()),
        }]
    })
    .await
}

/// Deletes every key of a part, piece by piece.
async fn clear(store: &dyn Store, now: Version, part: Keyspace) -> Result<(), Error> {
    let mut range = part.range();
    loop {
        let page = store
            .snapshot()
            .await?
            .page(&range, Direction::Forward, PIECE_KEYS_MAX)
            .await?;
        let Some((last, _)) = page.entries.last() else {
            return Ok(());
        };
        // A store may need long to pass over what was deleted.
        range.start = just_after(last);
        let keys = page.entries.into_iter().map(|(key, _)| key);
        let deletes: Vec<Operation> = keys.map(|key| Operation::Delete { key }).collect();
        write(store, now, |_| deletes).await?;
        if !page.more {
            return Ok(());
        }
    }
}

/// Writes one batch at a version that is not before `now`.
async fn write(
    store: &dyn Store,
    now: Version,
    operations: impl FnOnce(Version) -> Vec<Operation>,
) -> Result<(), Error> {
    let head = store.snapshot().await?.version();
    let version = now.max(Version(head.0 + 1));
    let batch = Batch {
        version,
        operations: operations(version),
    };
    match store.apply(head, batch).await? {
        Applied::Applied => Ok(()),
        Applied::HeadMoved(_) => Err(Error::Unavailable(
            "somebody else writes to the database".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use watchfire_model::{
        Clock, DatabaseName, DocumentPath, Fields, Operation as WriteOperation, Precondition,
        Timestamp, Value, Write,
    };
    use watchfire_storage::memory::MemoryStore;

    use super::*;
    use crate::changelog::reader::{Stored, read_entries};
    use crate::{Engine, Start};

    const NOW: i64 = 1_700_000_000_000_000;

    struct Still(i64);

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.0).unwrap()
        }
    }

    async fn open(store: &Arc<MemoryStore>, now: i64) -> Engine {
        let name = DatabaseName::new("p", "d").unwrap();
        let store: Arc<dyn Store> = store.clone();
        Engine::open(name, store, Arc::new(Still(now)))
            .await
            .unwrap()
    }

    async fn count(store: &MemoryStore, part: Keyspace) -> usize {
        let snapshot = store.snapshot().await.unwrap();
        let counted = snapshot.count(&part.range(), usize::MAX).await.unwrap();
        counted.keys
    }

    #[tokio::test]
    async fn documents_stay_and_the_past_is_gone() {
        let store = MemoryStore::new();
        let engine = open(&store, NOW).await;
        for n in 0..1_500 {
            let write = Write {
                path: DocumentPath::parse(&format!("c/{}", n % 7)).unwrap(),
                operation: WriteOperation::Set(Fields::from([("n".to_owned(), Value::Integer(n))])),
                precondition: Precondition::None,
                transforms: Vec::new(),
            };
            let staged = engine.stage(vec![write], Start::Now).await.unwrap();
            engine.commit(staged).await.unwrap();
        }
        let seen = engine.view().await.unwrap().read_time();
        assert!(count(&store, Keyspace::Changelog).await > PIECE_KEYS_MAX);
        assert!(count(&store, Keyspace::History).await > PIECE_KEYS_MAX);
        let documents = count(&store, Keyspace::Document).await;
        let epoch = engine.epoch();
        drop(engine);

        let later = NOW + 60_000_000;
        forget_past(store.as_ref(), Version(later.cast_unsigned()), 7)
            .await
            .unwrap();
        assert_eq!(count(&store, Keyspace::Changelog).await, 0);
        assert_eq!(count(&store, Keyspace::History).await, 0);
        assert_eq!(count(&store, Keyspace::Document).await, documents);
        let snapshot = store.snapshot().await.unwrap();
        assert!(snapshot.version() >= Version(later.cast_unsigned()));
        let seen_version = Version(seen.micros().cast_unsigned());
        let since = read_entries(snapshot.as_ref(), seen_version, 1).await;
        assert!(matches!(since.unwrap(), Stored::TooOld));

        // The clock is behind: versions rise all the same.
        let engine = open(&store, NOW).await;
        assert!(engine.view().await.unwrap().read_time().micros() > later);
        assert_ne!(engine.epoch(), epoch);
        assert!(engine.check().await.unwrap().is_sound());
        let past = engine.view_at(seen).await;
        assert!(matches!(past, Err(Error::FailedPrecondition(_))));
    }

    #[tokio::test]
    async fn what_is_not_known_is_left_alone() {
        let store = MemoryStore::new();
        let head = Version(7);
        let newer = vec![Operation::Put {
            key: catalogue_key(Catalogue::Format),
            value: Bytes::from_static(&[FORMAT + 1]),
        }];
        write(store.as_ref(), head, |_| newer).await.unwrap();
        let refused = forget_past(store.as_ref(), Version(9), 7).await;
        assert!(matches!(refused, Err(Error::FailedPrecondition(_))));
        assert_eq!(store.snapshot().await.unwrap().version(), head);
    }
}
