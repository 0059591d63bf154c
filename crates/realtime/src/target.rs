//! What is watched: requests, the identity of equal targets, and what concerns one. Holds no result.

use std::collections::HashSet;
use std::sync::Arc;

use watchfire_engine::Version;
use watchfire_model::watch::Target;
use watchfire_model::{Change, Document, DocumentPath, Query, Timestamp};

/// Documents that one documents target may name.
pub const DOCUMENTS_PER_TARGET_MAX: usize = 10_000;

/// Documents up to which a documents target is read without waiting for a turn.
pub const QUICK_DOCUMENTS_MAX: usize = 16;

/// From where a target starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The caller knows nothing yet.
    None,
    /// A token of an earlier event for the same target.
    Token(Vec<u8>),
    /// The caller knows the result at this time.
    ReadTime(Timestamp),
}

/// A request to watch.
#[derive(Clone, Debug)]
pub struct AddTarget {
    /// Chosen by the caller, above zero; or zero, and the session chooses.
    pub target_id: i32,
    pub target: Target,
    pub resume: Resume,
    /// End the target after its first snapshot.
    pub once: bool,
    /// How many documents the caller believes to match; makes an exact resume carry the true count.
    pub expected_count: Option<i32>,
}

/// One listen stream; never used twice in one hub.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// One session, which one or more streams share; never used twice in one hub.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// One shared target; never zero, never used twice in one hub.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SharedId(pub u64);

/// A target in the form in which changes are tested against it. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Interest {
    Query(Arc<Query>),
    Documents(Arc<HashSet<DocumentPath>>),
}

impl Interest {
    pub fn new(target: &Target) -> Self {
        match target {
            Target::Query(query) => Interest::Query(Arc::clone(query)),
            Target::Documents(paths) => {
                Interest::Documents(Arc::new(paths.iter().cloned().collect()))
            }
        }
    }

    /// Whether the document, in this state, belongs to the target (limits not considered).
    pub fn matches(&self, path: &DocumentPath, document: Option<&Arc<Document>>) -> bool {
        match (self, document) {
            (_, None) => false,
            (Interest::Query(query), Some(document)) => query.matches(document),
            (Interest::Documents(paths), Some(_)) => paths.contains(path),
        }
    }

    /// Whether the change can make a difference to the target's result.
    pub fn concerns(&self, change: &Change) -> bool {
        self.matches(&change.path, change.before.as_ref())
            || self.matches(&change.path, change.after.as_ref())
    }

    /// Whether membership depends on other documents too.
    pub fn limited(&self) -> bool {
        match self {
            Interest::Query(query) => query.limit().is_some() || query.offset() > 0,
            Interest::Documents(_) => false,
        }
    }

    /// Whether reading the result takes one small step.
    pub fn is_quick(&self) -> bool {
        match self {
            Interest::Query(_) => false,
            Interest::Documents(paths) => paths.len() <= QUICK_DOCUMENTS_MAX,
        }
    }

    /// Whether documents are shown in part only.
    pub fn projected(&self) -> bool {
        match self {
            Interest::Query(query) => query.projection().is_some(),
            Interest::Documents(_) => false,
        }
    }

    /// The document as this target shows it.
    pub fn show(&self, document: &Arc<Document>) -> Arc<Document> {
        match self {
            Interest::Query(query) if query.projection().is_some() => {
                Arc::new(query.project(document))
            }
            Interest::Query(_) | Interest::Documents(_) => Arc::clone(document),
        }
    }
}

/// Equal for equal targets, different otherwise. The order of named documents does not matter.
pub fn identity(target: &Target) -> Vec<u8> {
    match target {
        Target::Query(query) => {
            let mut bytes = vec![b'q'];
            bytes.extend(query.identity());
            bytes
        }
        Target::Documents(paths) => {
            let mut texts: Vec<&str> = paths.iter().map(DocumentPath::as_str).collect();
            texts.sort_unstable();
            texts.dedup();
            let mut bytes = vec![b'd'];
            for text in texts {
                bytes.extend((text.len() as u64).to_be_bytes());
                bytes.extend(text.as_bytes());
            }
            bytes
        }
    }
}

/// FNV-1a: the same number in every release, which tokens kept by clients rely on.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A version as users see it.
pub fn read_time(version: Version) -> Timestamp {
    i64::try_from(version.0)
        .ok()
        .and_then(|micros| Timestamp::from_micros(micros).ok())
        .expect("the engine gives versions that are times")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(paths: &[&str]) -> Target {
        Target::Documents(
            paths
                .iter()
                .map(|p| DocumentPath::parse(p).unwrap())
                .collect(),
        )
    }

    #[test]
    fn sets_of_documents_are_equal_in_any_order() {
        assert_eq!(
            identity(&documents(&["a/1", "b/2"])),
            identity(&documents(&["b/2", "a/1", "b/2"]))
        );
        assert_ne!(
            identity(&documents(&["a/1", "b/2"])),
            identity(&documents(&["a/1"]))
        );
    }

    #[test]
    fn hash_is_the_published_one() {
        assert_eq!(stable_hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(stable_hash(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
