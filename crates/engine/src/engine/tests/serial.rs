//! Random commits, many at a time, against a map to which they are applied one by one.

use std::collections::BTreeMap;

use proptest::prelude::*;
use watchfire_model::apply::{Applied, apply};

use super::*;

type Documents = BTreeMap<DocumentPath, Document>;

fn any_write() -> impl Strategy<Value = Write> {
    let at = prop_oneof![Just("c/a"), Just("c/b"), Just("c/a/d/x"), Just("e/f")];
    let precondition = prop_oneof![6 => Just(Precondition::None), 1 => Just(Precondition::Exists(true)), 1 => Just(Precondition::Exists(false))];
    (at, precondition, 0..6_i64).prop_map(|(at, precondition, kind)| {
        let write = match kind {
            0 => delete(at),
            1 | 2 => increment(at),
            n => set(at, n / 2),
        };
        require(precondition, write)
    })
}

/// Commits in rounds; those of one round wait together.
fn any_rounds() -> impl Strategy<Value = Vec<(i64, Vec<Vec<Write>>)>> {
    let commit = proptest::collection::vec(any_write(), 0..4);
    let round = (-5..50_i64, proptest::collection::vec(commit, 1..6));
    proptest::collection::vec(round, 1..6)
}

/// The map after the commit, or `None` if a write is refused.
fn serially(documents: &Documents, writes: &[Write], version: Version) -> Option<Documents> {
    let mut after = documents.clone();
    let time = timestamp(version);
    for write in writes {
        let Applied {
            after: document, ..
        } = apply(write, after.get(&write.path), time).ok()?;
        match document {
            Some(document) => after.insert(write.path.clone(), document),
            None => after.remove(&write.path),
        };
    }
    // A document whose content is what it was before the commit was not touched.
    for (path, before) in documents {
        let Some(now) = after.get_mut(path) else {
            continue;
        };
        if now.create_time == before.create_time
            && Value::Map(now.fields.clone()).identical(&Value::Map(before.fields.clone()))
        {
            *now = before.clone();
        }
    }
    Some(after)
}

fn timestamp(version: Version) -> Timestamp {
    Timestamp::from_micros(version.0 as i64).unwrap()
}

fn shown<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Vec<String> {
    documents
        .into_iter()
        .map(|document| format!("{document:?}"))
        .collect()
}

async fn check(rounds: Vec<(i64, Vec<Vec<Write>>)>) {
    let (engine, store, clock) = fresh().await;
    let start = *engine.tail().borrow();
    let mut expected = Documents::new();
    let mut changed = 0;
    for (step, commits) in rounds {
        clock.advance(step);
        let tasks: Vec<_> = commits
            .iter()
            .map(|writes| {
                let (engine, writes) = (engine.clone(), writes.clone());
                tokio::spawn(async move { commit(&engine, writes).await })
            })
            .collect();
        for (writes, task) in commits.iter().zip(tasks) {
            let receipt = task.await.unwrap();
            let version = receipt
                .as_ref()
                .map_or(Version(START as u64), |receipt| receipt.version);
            let after = serially(&expected, writes, version);
            assert_eq!(
                receipt.is_ok(),
                after.is_some(),
                "{receipt:?} for {writes:?}"
            );
            if let Some(after) = after {
                changed += usize::from(shown(after.values()) != shown(expected.values()));
                expected = after;
            }
        }
    }

    // The documents.
    let view = engine.view().await.unwrap();
    let paths = ["c/a", "c/b", "c/a/d/x", "e/f"].map(path);
    let found: Documents = view
        .documents(&paths)
        .await
        .unwrap()
        .into_iter()
        .flatten()
        .map(|document| (document.path.clone(), (*document).clone()))
        .collect();
    assert_eq!(shown(found.values()), shown(expected.values()));

    // The changelog from the ring and, after reopening, from the store: played onto nothing it gives the documents.
    let reopened = open(&store, &clock).await;
    for engine in [&engine, &reopened] {
        let (entries, _) = since(engine, start, usize::MAX).await;
        assert_eq!(entries.len(), changed);
        let mut replayed = Documents::new();
        for change in entries.iter().flat_map(|entry| &entry.changes) {
            let before = replayed.remove(&change.path);
            assert_eq!(shown(&before), shown(change.before.as_deref()));
            if let Some(after) = change.after.as_deref() {
                replayed.insert(change.path.clone(), after.clone());
            }
        }
        assert_eq!(shown(replayed.values()), shown(expected.values()));
    }

    // The index entries are those of the documents, as if each had been written once.
    let snapshot = store.snapshot().await.unwrap();
    let mut stored = Vec::new();
    for part in [Keyspace::Index, Keyspace::Group] {
        let page = snapshot
            .page(&part.range(), Direction::Forward, 10_000)
            .await
            .unwrap();
        stored.extend(page.entries.into_iter().map(|(key, _)| key));
    }
    let mut wanted = Vec::new();
    for document in expected.values() {
        for operation in
            crate::index::diff::operations(None, Some(document), &Default::default()).unwrap()
        {
            match operation {
                Operation::Put { key, .. } => wanted.push(key),
                Operation::Delete { key } => panic!("a new document deletes {key:?}"),
            }
        }
    }
    wanted.sort();
    wanted.dedup();
    assert_eq!(stored, wanted);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_group_is_the_same_as_one_commit_after_the_other(rounds in any_rounds()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(check(rounds));
    }
}
