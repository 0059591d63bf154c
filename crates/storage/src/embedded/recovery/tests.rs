//! A folder whose writes fail as asked recovers without being closed.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::contract::trouble::Trouble;
use crate::embedded::Embedded;
use crate::{Applied, Batch, Operation, State, Store, Version};

#[test]
fn pauses_grow_to_a_bound_and_begin_again_after_a_steady_time() {
    let second = Duration::from_secs(1);
    let mut pauses = Pauses::new(second);
    let mut now = Instant::now();
    for pause in [1, 2, 4, 8, 10, 10] {
        assert!(pauses.is_over(now));
        pauses.failed(now);
        now += second * pause - Duration::from_millis(1);
        assert!(!pauses.is_over(now));
        now += Duration::from_millis(1);
    }
    pauses.recovered(now);
    pauses.well(now + STEADY_AFTER - second);
    assert_eq!(pauses.next, TRY_PAUSE_MAX);
    pauses.well(now + STEADY_AFTER);
    assert_eq!(pauses.next, second);
}

fn settings() -> Settings {
    Settings {
        disk_check_interval: Duration::from_millis(2),
        ..Settings::default()
    }
}

fn open_in(directory: &TempDir) -> (Arc<Embedded>, Arc<dyn Store>) {
    let embedded = Embedded::open_with(directory.path(), &settings()).unwrap();
    embedded.database("neighbour").unwrap();
    let store = embedded.database("subject").unwrap();
    (embedded, store)
}

async fn open() -> ((TempDir, Arc<Embedded>), Arc<dyn Store>, Arc<dyn Trouble>) {
    let directory = tempfile::tempdir().unwrap();
    let (embedded, store) = open_in(&directory);
    ((directory, Arc::clone(&embedded)), store, embedded)
}

crate::trouble_contract!(open);

#[async_trait]
impl Trouble for Embedded {
    fn fail_next_flush(&self, kept: bool) {
        let faults = &self.shared.current.faults;
        faults.disk_refuses.store(true, Ordering::Release);
        faults.fail_next_write(kept);
    }

    async fn recover(&self) {
        let faults = &self.shared.current.faults;
        faults.disk_refuses.store(false, Ordering::Release);
        until(self, |state| *state == State::Up).await;
    }
}

async fn until(embedded: &Embedded, wanted: impl Fn(&State) -> bool) {
    let mut condition = embedded.condition();
    let found = condition.wait_for(|condition| wanted(&condition.state));
    found.await.unwrap();
}

fn put(version: u64) -> Batch {
    let key = Bytes::copy_from_slice(&version.to_be_bytes());
    let value = Bytes::new();
    Batch {
        version: Version(version),
        operations: vec![Operation::Put { key, value }],
    }
}

async fn apply(store: &Arc<dyn Store>, version: u64) -> Result<Applied, Error> {
    store.apply(Version(version - 1), put(version)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_databases_recover_and_a_restart_finds_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (embedded, store) = open_in(&directory);
    let neighbour = embedded.database("neighbour").unwrap();
    apply(&store, 1).await.unwrap();
    apply(&neighbour, 1).await.unwrap();
    embedded.fail_next_flush(true);
    assert!(matches!(apply(&store, 2).await, Err(Error::Poisoned(_))));
    assert!(matches!(
        apply(&neighbour, 2).await,
        Err(Error::Poisoned(_))
    ));
    // An old database can be read, and a new one cannot be made.
    assert!(matches!(embedded.database("new"), Err(Error::Poisoned(_))));
    assert_eq!(embedded.names().unwrap(), ["neighbour", "subject"]);
    embedded.recover().await;
    let head = async |store: &Arc<dyn Store>| store.snapshot().await.unwrap().version().0;
    assert_eq!((head(&store).await, head(&neighbour).await), (2, 1));
    apply(&store, 3).await.unwrap();
    apply(&neighbour, 2).await.unwrap();
    apply(&embedded.database("new").unwrap(), 1).await.unwrap();
    embedded.close().await.unwrap();

    let (embedded, store) = open_in(&directory);
    assert_eq!(head(&store).await, 3);
    embedded.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_on_while_snapshots_keep_the_folder_from_recovering() {
    let directory = tempfile::tempdir().unwrap();
    let (embedded, store) = open_in(&directory);
    apply(&store, 1).await.unwrap();
    let held = store.snapshot().await.unwrap();
    embedded.fail_next_flush(false);
    assert!(apply(&store, 2).await.is_err());
    let faults = &embedded.shared.current.faults;
    faults.disk_refuses.store(false, Ordering::Release);
    until(&embedded, |state| matches!(state, State::Recovering(_))).await;
    assert!(matches!(store.snapshot().await, Err(Error::Unavailable(_))));
    assert!(matches!(apply(&store, 2).await, Err(Error::Poisoned(_))));
    // Its holder reads on, and the same handle is given for the same name.
    assert!(held.get(&1u64.to_be_bytes()).await.unwrap().is_some());
    assert!(Arc::ptr_eq(&store, &embedded.database("subject").unwrap()));
    until(&embedded, |state| matches!(state, State::Refusing(_))).await;
    assert_eq!(store.snapshot().await.unwrap().version(), Version(1));
    drop(held);
    embedded.recover().await;
    apply(&store, 2).await.unwrap();
    embedded.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_found_damaged_is_named_and_stays_closed() {
    let directory = tempfile::tempdir().unwrap();
    let (embedded, store) = open_in(&directory);
    apply(&store, 1).await.unwrap();
    embedded.fail_next_flush(false);
    assert!(apply(&store, 2).await.is_err());
    let current = directory.path().join("CURRENT");
    let moved = directory.path().join("moved");
    std::fs::rename(&current, &moved).unwrap();
    let faults = &embedded.shared.current.faults;
    faults.disk_refuses.store(false, Ordering::Release);
    until(&embedded, |state| matches!(state, State::Failed(_))).await;
    let Err(Error::Corrupt(text)) = store.snapshot().await else {
        panic!("not corrupt")
    };
    assert!(text.contains("CURRENT"), "{text}");
    assert!(apply(&store, 2).await.is_err());
    embedded.close().await.unwrap();
    assert!(matches!(store.snapshot().await, Err(Error::Closed)));

    std::fs::rename(&moved, &current).unwrap();
    let (embedded, store) = open_in(&directory);
    apply(&store, 2).await.unwrap();
    embedded.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_went_back_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let (embedded, store) = open_in(&directory);
    apply(&store, 1).await.unwrap();
    embedded.fail_next_flush(false);
    assert!(apply(&store, 2).await.is_err());
    // As if a commit after the first had been acknowledged.
    let database = Arc::clone(&embedded.databases.lock().unwrap()["subject"]);
    database.head.set(Version(9));
    let faults = &embedded.shared.current.faults;
    faults.disk_refuses.store(false, Ordering::Release);
    until(
        &embedded,
        |state| matches!(state, State::Failed(reason) if reason.contains("was at version 9 and is at 1")),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_folder_closes_and_is_free() {
    let directory = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        let (embedded, store) = open_in(&directory);
        apply(&store, round).await.unwrap();
        embedded.fail_next_flush(false);
        assert!(apply(&store, round + 1).await.is_err());
        store.close().await.unwrap();
        embedded.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_disk_nearly_full_refuses_all_but_what_makes_space() {
    let directory = tempfile::tempdir().unwrap();
    let free = disk::free_bytes(directory.path()).unwrap();
    let open = |free_bytes_min| {
        let settings = Settings {
            free_bytes_min,
            ..settings()
        };
        Embedded::open_with(directory.path(), &settings).unwrap()
    };
    let embedded = open(0);
    let store = embedded.database("subject").unwrap();
    apply(&store, 1).await.unwrap();
    embedded.close().await.unwrap();

    // More than is free, but not twice as much.
    let embedded = open(free / 2 * 3);
    let store = embedded.database("subject").unwrap();
    let mut commit = put(2);
    commit.operations.push(Operation::Put {
        key: Bytes::from_static(b"the smallest commit"),
        value: Bytes::from_static(b"with its changelog"),
    });
    let Err(Error::Unavailable(text)) = store.apply(Version(1), commit).await else {
        panic!("not refused")
    };
    assert!(text.starts_with("the disk is full: "), "{text}");
    assert!(matches!(
        embedded.database("new"),
        Err(Error::Unavailable(_))
    ));
    assert_eq!(store.snapshot().await.unwrap().version(), Version(1));
    let condition = embedded.condition().borrow().clone();
    assert!(matches!(condition.state, State::Refusing(_)));
    assert!(condition.free_bytes.is_some());
    // As trimming does: what is old goes, and how far that has come is noted.
    let delete = Operation::Delete {
        key: Bytes::from_static(b"old"),
    };
    let note = Operation::Put {
        key: Bytes::from_static(b"\x05trimmed-to"),
        value: Bytes::copy_from_slice(&1_u64.to_be_bytes()),
    };
    for (version, operations) in [(2, vec![delete, note]), (3, Vec::new())] {
        let version = Version(version);
        let batch = Batch {
            version,
            operations,
        };
        let applied = store.apply(Version(version.0 - 1), batch).await;
        assert_eq!(applied.unwrap(), Applied::Applied);
    }
    embedded.close().await.unwrap();
}
