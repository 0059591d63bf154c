//! Damage of every kind is found, counted exactly, and repaired.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::past::{any_history, indexes_settle, take_step};
use super::*;
use crate::check::{EXAMPLES_MAX, Fault, Repaired, Report};

/// What is done to one key of an index.
#[derive(Copy, Clone, Debug)]
enum Damage {
    Delete,
    Change,
    /// The same entry once more, of another document or another value.
    Forge,
    Rubbish,
}

fn any_damage() -> impl Strategy<Value = Vec<(u64, Damage)>> {
    let damage = prop::sample::select(vec![
        Damage::Delete,
        Damage::Change,
        Damage::Forge,
        Damage::Rubbish,
    ]);
    prop::collection::vec((any::<u64>(), damage), 0..6)
}

async fn stored_entries(store: &MemoryStore) -> BTreeMap<Bytes, Bytes> {
    let snapshot = store.snapshot().await.unwrap();
    let mut stored = BTreeMap::new();
    for part in [
        Keyspace::Index,
        Keyspace::Group,
        Keyspace::GroupIndex,
        Keyspace::Defined,
    ] {
        let page = snapshot
            .page(&part.range(), Direction::Forward, 100_000)
            .await
            .unwrap();
        let entries = page.entries.into_iter();
        stored.extend(entries.map(|(key, value)| (key, crate::stamp::contents(&value))));
    }
    stored
}

async fn apply(store: &MemoryStore, operations: Vec<Operation>) {
    let head = store.snapshot().await.unwrap().version();
    let version = Version(head.0 + 1);
    let batch = Batch {
        version,
        operations,
    };
    assert_eq!(store.apply(head, batch).await.unwrap(), Applied::Applied);
}

/// The operations, one for each key, and what they must be found to be.
fn damages(
    good: &BTreeMap<Bytes, Bytes>,
    wanted: &[(u64, Damage)],
) -> BTreeMap<Bytes, (Operation, Fault)> {
    let keys: Vec<&Bytes> = good.keys().collect();
    let mut damages = BTreeMap::new();
    for (choice, damage) in wanted {
        let Some(key) = keys.get(*choice as usize % keys.len().max(1)) else {
            continue;
        };
        let key = Bytes::clone(key);
        let value = Bytes::from_static(b"x");
        let (key, operation, fault) = match damage {
            Damage::Delete => (key.clone(), Operation::Delete { key }, Fault::Missing),
            Damage::Change => (key.clone(), Operation::Put { key, value }, Fault::Wrong),
            Damage::Forge => {
                let mut forged = key.to_vec();
                let at = forged.len() - 4;
                forged[at] ^= 1;
                let key = Bytes::from(forged);
                (key.clone(), Operation::Put { key, value }, Fault::Surplus)
            }
            Damage::Rubbish => {
                let key = Bytes::from([&key[..1], &choice.to_be_bytes()].concat());
                (key.clone(), Operation::Put { key, value }, Fault::Surplus)
            }
        };
        if fault != Fault::Surplus || !good.contains_key(&key) {
            damages.insert(key, (operation, fault));
        }
    }
    damages
}

async fn check(history: Vec<(i64, super::past::Step)>, wanted: Vec<(u64, Damage)>) {
    let (engine, store, clock) = fresh().await;
    let mut documents = 0;
    for (micros, step) in history {
        clock.advance(micros);
        take_step(&engine, micros, step).await;
        documents = engine.check().await.unwrap().documents;
        assert!(engine.check().await.unwrap().is_sound());
    }
    indexes_settle(&engine).await;
    let good = stored_entries(&store).await;
    let sound = Report {
        documents,
        entries: good.len() as u64,
        ..Report::default()
    };
    assert_eq!(engine.check().await.unwrap(), sound);
    assert_eq!(engine.repair().await.unwrap(), Repaired::default());

    let damages = damages(&good, &wanted);
    let operations: Vec<Operation> = damages.values().map(|(done, _)| done.clone()).collect();
    apply(&store, operations).await;
    let found = engine.check().await.unwrap();
    let count = |wanted: Fault| {
        damages
            .values()
            .filter(|(_, fault)| *fault == wanted)
            .count() as u64
    };
    assert_eq!(
        (found.missing, found.wrong, found.surplus, found.unreadable),
        (
            count(Fault::Missing),
            count(Fault::Wrong),
            count(Fault::Surplus),
            0
        )
    );
    assert_eq!(found.is_sound(), damages.is_empty());
    for example in &found.examples {
        assert_eq!(damages[&example.key].1, example.fault, "{example}");
    }
    let repaired = engine.repair().await.unwrap();
    assert_eq!(repaired.put, found.missing + found.wrong);
    assert_eq!(repaired.deleted, found.surplus);
    assert_eq!(engine.check().await.unwrap(), sound);
    assert_eq!(stored_entries(&store).await, good);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn damage_is_found_counted_and_repaired(history in any_history(), damages in any_damage()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(check(history, damages));
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_left_alone() {
    let (engine, store, _) = fresh().await;
    commit(&engine, vec![set("c/a", 1), set("c/b", 1)])
        .await
        .unwrap();
    let good = stored_entries(&store).await;
    let key = crate::keyspace::document_key(&path("c/a"));
    let value = Bytes::from_static(b"\xffrubbish");
    apply(&store, vec![Operation::Put { key, value }]).await;
    let found = engine.check().await.unwrap();
    assert_eq!(
        (found.unreadable, found.missing, found.surplus, found.wrong),
        (1, 0, 0, 0)
    );
    let text = found.examples[0].to_string();
    assert!(
        text.starts_with("unreadable document of c/a (key 01"),
        "{text}"
    );
    assert_eq!(engine.repair().await.unwrap(), Repaired::default());
    assert_eq!(stored_entries(&store).await, good);
}

#[tokio::test]
async fn examples_are_bounded_and_counts_are_not() {
    let (engine, store, _) = fresh().await;
    let writes = (0..100).map(|n| set(&format!("c/{n}"), n)).collect();
    commit(&engine, writes).await.unwrap();
    let good = stored_entries(&store).await;
    let operations = good
        .keys()
        .map(|key| Operation::Delete { key: key.clone() });
    apply(&store, operations.collect()).await;
    let found = engine.check().await.unwrap();
    assert_eq!((found.missing, found.entries), (good.len() as u64, 0));
    assert_eq!(found.examples.len(), EXAMPLES_MAX);
    engine.repair().await.unwrap();
    assert_eq!(stored_entries(&store).await, good);
}

#[tokio::test]
async fn an_empty_store_is_sound() {
    let store = MemoryStore::new();
    let snapshot = store.snapshot().await.unwrap();
    let report = crate::check::check(snapshot.as_ref()).await.unwrap();
    assert_eq!(report, Report::default());
    let (engine, _, _) = fresh().await;
    assert_eq!(engine.repair().await.unwrap(), Repaired::default());
}
