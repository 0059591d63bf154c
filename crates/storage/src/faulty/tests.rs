//! The faulty store keeps the contract while nothing is asked of it, and fails as asked.

use std::sync::Arc;

use bytes::Bytes;

use super::{Faults, FaultyStore, Flushed};
use crate::contract::trouble::Trouble;
use crate::memory::MemoryStore;
use crate::{Applied, Batch, Error, Operation, Store, Version};

async fn open() -> ((), Arc<dyn Store>) {
    ((), FaultyStore::new(MemoryStore::new(), Faults::default()))
}

crate::store_contract!(open);

async fn open_to_trouble() -> ((), Arc<dyn Store>, Arc<dyn Trouble>) {
    let store = FaultyStore::new(MemoryStore::new(), Faults::default());
    ((), store.clone(), store)
}

crate::trouble_contract!(open_to_trouble);

#[async_trait::async_trait]
impl Trouble for FaultyStore {
    fn fail_next_flush(&self, kept: bool) {
        self.fill(if kept { Flushed::Kept } else { Flushed::Lost });
    }

    async fn recover(&self) {
        self.free().await;
    }
}

fn put(version: u64) -> Batch {
    let key = Bytes::from(version.to_be_bytes().to_vec());
    Batch {
        version: Version(version),
        operations: vec![Operation::Put {
            key,
            value: Bytes::new(),
        }],
    }
}

/// Starts to apply the batches `1..=count` in a chain, one task each, in order, all held back.
async fn hold_back(
    store: &Arc<FaultyStore>,
    count: u64,
) -> Vec<tokio::task::JoinHandle<Result<Applied, Error>>> {
    store.hold();
    let mut tasks = Vec::new();
    for version in 1..=count {
        let applying = Arc::clone(store);
        tasks.push(tokio::spawn(async move {
            applying.apply(Version(version - 1), put(version)).await
        }));
        store.held(usize::try_from(version).unwrap()).await;
    }
    tasks
}

#[tokio::test]
async fn a_crash_loses_what_was_not_acknowledged() {
    let store = FaultyStore::new(MemoryStore::new(), Faults::default());
    let tasks = hold_back(&store, 3).await;
    store.crash(1).await;
    for task in tasks {
        assert!(matches!(task.await.unwrap(), Err(Error::Unavailable(_))));
    }
    assert!(matches!(store.snapshot().await, Err(Error::Unavailable(_))));
    assert!(matches!(
        store.apply(Version(1), put(2)).await,
        Err(Error::Unavailable(_))
    ));
    store.restart();
    assert_eq!(store.snapshot().await.unwrap().version(), Version(1));
    assert_eq!(
        store.apply(Version(1), put(2)).await.unwrap(),
        Applied::Applied
    );
}

#[tokio::test]
async fn released_batches_are_written_in_order() {
    let store = FaultyStore::new(MemoryStore::new(), Faults::default());
    let tasks = hold_back(&store, 3).await;
    store.release().await;
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), Applied::Applied);
    }
    assert_eq!(store.snapshot().await.unwrap().version(), Version(3));
}

#[tokio::test]
async fn chance_follows_the_seed() {
    async fn run(seed: u64) -> (Vec<bool>, Version) {
        let faults = Faults {
            seed,
            refused_applies_per_mille: 300,
            lost_answers_per_mille: 300,
            failed_reads_per_mille: 0,
        };
        let store = FaultyStore::new(MemoryStore::new(), faults);
        let mut answers = Vec::new();
        for version in 1..=100 {
            let head = store.snapshot().await.unwrap().version();
            answers.push(store.apply(head, put(version)).await.is_ok());
        }
        (answers, store.snapshot().await.unwrap().version())
    }
    assert_eq!(run(7).await, run(7).await);
    assert_ne!(run(7).await, run(8).await);
    let (answers, _) = run(7).await;
    assert!(answers.contains(&true) && answers.contains(&false));
}

#[tokio::test]
async fn the_next_apply_fails_as_asked() {
    let store = FaultyStore::new(
        MemoryStore::new(),
        Faults {
            failed_reads_per_mille: 1000,
            ..Faults::default()
        },
    );
    store.fail_next_apply(Error::Poisoned("disk".to_owned()));
    assert!(matches!(
        store.apply(Version(0), put(1)).await,
        Err(Error::Poisoned(_))
    ));
    assert_eq!(
        store.apply(Version(0), put(1)).await.unwrap(),
        Applied::Applied
    );
    assert!(matches!(store.snapshot().await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn the_next_read_fails_as_asked() {
    let store = FaultyStore::new(MemoryStore::new(), Faults::default());
    let snapshot = store.snapshot().await.unwrap();
    store.fail_next_read(Error::Corrupt("a table".to_owned()));
    assert!(matches!(snapshot.get(b"a").await, Err(Error::Corrupt(_))));
    assert!(snapshot.get(b"a").await.is_ok());
}
