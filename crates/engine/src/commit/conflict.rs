//! Whether a commit touched what a transaction had read.
//!
//! The check may see a conflict where there is none (limits of queries are ignored), never the reverse.

use watchfire_model::Change;

use crate::transaction::{Missing, ReadSet};

/// Whether any of the changes could alter the answer of any of the reads.
pub fn conflicts(reads: &ReadSet, changes: &[Change]) -> bool {
    changes.iter().any(|change| conflicts_with(reads, change))
}

fn conflicts_with(reads: &ReadSet, change: &Change) -> bool {
    let sides = || [&change.before, &change.after].into_iter().flatten();
    // A document that came or went can make a missing ancestor, or a collection, appear or disappear.
    let appeared = change.before.is_some() != change.after.is_some();
    reads.documents.contains(&change.path)
        || reads
            .queries
            .iter()
            .any(|query| sides().any(|document| query.matches(document)))
        || reads.listings.iter().any(|(collection, missing)| {
            let below = change
                .path
                .as_str()
                .strip_prefix(collection.as_str())
                .and_then(|rest| rest.strip_prefix('/'));
            match (below, missing) {
                (None, Missing::Shown | Missing::Hidden) => false,
                (Some(rest), Missing::Hidden) => !rest.contains('/'),
                (Some(rest), Missing::Shown) => appeared || !rest.contains('/'),
            }
        })
        || (appeared
            && reads
                .parents
                .iter()
                .any(|parent| parent.contains(&change.path)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use watchfire_model::{CollectionPath, Document, DocumentPath, Parent, Timestamp};

    use super::*;

    fn path(text: &str) -> DocumentPath {
        DocumentPath::parse(text).unwrap()
    }

    fn change(text: &str, before: bool, after: bool) -> Vec<Change> {
        let time = Timestamp::from_micros(1).unwrap();
        let document = |there: bool| {
            there.then(|| {
                Arc::new(Document {
                    path: path(text),
                    create_time: time,
                    update_time: time,
                    fields: Default::default(),
                })
            })
        };
        vec![Change {
            path: path(text),
            before: document(before),
            after: document(after),
        }]
    }

    #[test]
    fn documents_conflict_by_name() {
        let mut reads = ReadSet::default();
        reads.documents.insert(path("a/b"));
        assert!(conflicts(&reads, &change("a/b", false, true)));
        assert!(!conflicts(&reads, &change("a/c", true, true)));
        assert!(!conflicts(&reads, &change("a/b/c/d", true, true)));
    }

    #[test]
    fn listings_conflict_below_their_collection() {
        let collection = CollectionPath::parse("a").unwrap();
        let mut reads = ReadSet::default();
        reads.listings.insert((collection.clone(), Missing::Hidden));
        assert!(conflicts(&reads, &change("a/b", true, true)));
        assert!(!conflicts(&reads, &change("ab/b", true, true)));
        assert!(!conflicts(&reads, &change("a/b/c/d", false, true)));
        reads.listings.insert((collection, Missing::Shown));
        assert!(conflicts(&reads, &change("a/b/c/d", false, true)));
        assert!(!conflicts(&reads, &change("a/b/c/d", true, true)));
    }

    #[test]
    fn collection_ids_conflict_when_documents_come_or_go() {
        let mut reads = ReadSet::default();
        reads.parents.insert(Parent::Document(path("a/b")));
        assert!(conflicts(&reads, &change("a/b/c/d", false, true)));
        assert!(conflicts(&reads, &change("a/b/c/d", true, false)));
        assert!(!conflicts(&reads, &change("a/b/c/d", true, true)));
        assert!(!conflicts(&reads, &change("a/x/c/d", false, true)));
    }
}
