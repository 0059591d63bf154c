//! Listings of a small database, page by page.

use std::collections::{BTreeMap, BTreeSet};

use watchfire_model::Timestamp;
use watchfire_storage::memory::MemoryStore;
use watchfire_storage::{Batch, Operation, Store, Version};

use super::*;
use crate::keyspace::document_key;
use crate::record::encode_record;

const PATHS: [&str; 12] = [
    "c/__id10__",
    "c/__id9__",
    "c/a",
    "c/a/s/1",
    "c/a/s/2",
    "c/a/t/1/u/1",
    "c/b/s/1",
    "c/b/s/2",
    "c/ab/s/1/s/1",
    "c/z",
    "c10/a",
    "d/x/e/y",
];

async fn snapshot(paths: &[&str]) -> Arc<dyn Snapshot> {
    let store = MemoryStore::new();
    let time = Timestamp::from_micros(1).unwrap();
    let operations = paths
        .iter()
        .map(|path| {
            let document = Document {
                path: DocumentPath::parse(path).unwrap(),
                create_time: time,
                update_time: time,
                fields: BTreeMap::new(),
            };
            Operation::Put {
                key: document_key(&document.path),
                value: encode_record(&document),
            }
        })
        .collect();
    store
        .apply(
            Version(0),
            Batch {
                version: Version(1),
                operations,
            },
        )
        .await
        .unwrap();
    store.snapshot().await.unwrap()
}

/// Every page of the collection, as text; missing documents with a question mark.
async fn listing(
    snapshot: &dyn Snapshot,
    collection: &str,
    limit: usize,
    show_missing: bool,
) -> Vec<String> {
    let collection = CollectionPath::parse(collection).unwrap();
    let mut all: Vec<String> = Vec::new();
    let mut after: Option<DocumentPath> = None;
    loop {
        let page = list_documents(snapshot, &collection, after.as_ref(), limit, show_missing)
            .await
            .unwrap();
        assert!(page.documents.len() <= limit);
        all.extend(page.documents.iter().map(|(path, document)| {
            format!("{path}{}", if document.is_some() { "" } else { "?" })
        }));
        if !page.more {
            return all;
        }
        after = Some(page.documents.last().unwrap().0.clone());
    }
}

#[tokio::test]
async fn lists_children_in_pages_and_shows_missing_ones() {
    let snapshot = snapshot(&PATHS).await;
    for limit in [1, 2, 3, 100] {
        assert_eq!(
            listing(&*snapshot, "c", limit, false).await,
            ["c/__id9__", "c/__id10__", "c/a", "c/z"]
        );
        assert_eq!(
            listing(&*snapshot, "c", limit, true).await,
            ["c/__id9__", "c/__id10__", "c/a", "c/ab?", "c/b?", "c/z"]
        );
        assert_eq!(
            listing(&*snapshot, "c/a/s", limit, true).await,
            ["c/a/s/1", "c/a/s/2"]
        );
        assert_eq!(
            listing(&*snapshot, "d", limit, false).await,
            Vec::<String>::new()
        );
        assert_eq!(listing(&*snapshot, "d", limit, true).await, ["d/x?"]);
        assert_eq!(
            listing(&*snapshot, "nothing", limit, true).await,
            Vec::<String>::new()
        );
    }
}

#[tokio::test]
async fn a_large_subtree_hides_no_sibling() {
    let below: Vec<String> = (0..700).map(|n| format!("c/a/s/{n:04}")).collect();
    let mut paths: Vec<&str> = below.iter().map(String::as_str).collect();
    paths.extend(["c/a", "c/b", "c/c/s/1", "c/d"]);
    let snapshot = snapshot(&paths).await;
    assert_eq!(
        listing(&*snapshot, "c", 50, true).await,
        ["c/a", "c/b", "c/c?", "c/d"]
    );
}

#[tokio::test]
async fn collection_ids_of_parents_that_exist_and_that_do_not() {
    let snapshot = snapshot(&PATHS).await;
    let cases = [
        ("", vec!["c", "c10", "d"]),
        ("c/a", vec!["s", "t"]),
        ("c/b", vec!["s"]),
        ("c/ab", vec!["s"]),
        ("d/x", vec!["e"]),
        ("c/z", vec![]),
        ("c/a/t/1", vec!["u"]),
    ];
    for (parent, expected) in cases {
        let parent = if parent.is_empty() {
            Parent::Root
        } else {
            Parent::Document(DocumentPath::parse(parent).unwrap())
        };
        for limit in 1..4 {
            let mut all = Vec::new();
            loop {
                let after = all.last().cloned();
                let (ids, more) = collection_ids(&*snapshot, &parent, after.as_deref(), limit)
                    .await
                    .unwrap();
                all.extend(ids);
                if !more {
                    break;
                }
            }
            assert_eq!(all, expected);
        }
        assert_eq!(all_unique(&expected), expected.len());
    }
}

fn all_unique(ids: &[&str]) -> usize {
    ids.iter().collect::<BTreeSet<_>>().len()
}
