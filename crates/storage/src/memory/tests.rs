//! The memory store passes the contract, follows the model, and forgets what nobody can see.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::MemoryStore;
use crate::contract::{self, Step};
use crate::{Batch, Operation, Store, Version};

async fn open() -> ((), Arc<dyn Store>) {
    ((), MemoryStore::new())
}

crate::store_contract!(open);

proptest! {
    #[test]
    fn follows_the_model(steps in prop::collection::vec(step(), 0..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(contract::follows_model(MemoryStore::new(), steps));
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::collection::vec((key(), prop::option::of(0..9u8)), 0..4).prop_map(Step::Apply),
        1 => Just(Step::Snapshot),
        1 => any::<usize>().prop_map(Step::Release),
        3 => (any::<usize>(), key(), prop::option::of(key()), any::<bool>(), 1..6usize)
            .prop_map(|(snapshot, start, end, backward, limit)| Step::Page { snapshot, start, end, backward, limit }),
    ]
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..3)
}

fn batch(version: u64, operation: Operation) -> Batch {
    Batch {
        version: Version(version),
        operations: vec![operation],
    }
}

#[tokio::test]
async fn forgets_what_no_snapshot_sees() {
    let store = MemoryStore::new();
    let key = Bytes::from_static(b"k");
    for version in 1..=100 {
        let put = Operation::Put {
            key: key.clone(),
            value: Bytes::from_static(b"v"),
        };
        store
            .apply(Version(version - 1), batch(version, put))
            .await
            .unwrap();
    }
    assert_eq!(store.shared.read().keys[&key].len(), 1);

    let snapshot = store.snapshot().await.unwrap();
    for version in 101..=200 {
        let put = Operation::Put {
            key: key.clone(),
            value: Bytes::from_static(b"w"),
        };
        store
            .apply(Version(version - 1), batch(version, put))
            .await
            .unwrap();
    }
    store
        .apply(
            Version(200),
            batch(201, Operation::Delete { key: key.clone() }),
        )
        .await
        .unwrap();
    assert_eq!(
        snapshot.get(&key).await.unwrap(),
        Some(Bytes::from_static(b"v"))
    );
    drop(snapshot);
    let state = store.shared.read();
    assert!(state.keys.is_empty() && state.replaced.is_empty());
    assert!(store.shared.live().is_empty());
}
