//! Documents behind what was found, in batches of bounded size.

use std::sync::Arc;

use bytes::Bytes;
use watchfire_model::{Document, Filter, Query};

use super::branch::Found;
use super::pace::Reading;
use crate::error::Error;
use crate::planner::Plan;
use crate::record::{decode_record, decode_times};

/// Documents in one batch.
pub const BATCH_MAX: usize = 256;

/// Documents in the first batch when nobody knows how many are needed.
pub const BATCH_FIRST: usize = 32;

/// Documents that are asked for at once.
const CHUNK_MAX: usize = 32;

/// Stored bytes after which a batch ends early.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// What one batch brought.
pub struct Loaded {
    /// Lines up with the first of what was asked for; `None` for a document that does not exist.
    pub documents: Vec<Option<Arc<Document>>>,
    /// How many were read from the store here.
    pub read: u64,
    /// They were so large that the batch ended early, or should have.
    pub large: bool,
}

/// Loads the first of the documents, as many as have room; at least one. Where `times_only` says so, fields are left
/// out.
pub async fn load(
    reading: &Reading,
    found: &[Found],
    times_only: impl Fn(&Found) -> bool,
) -> Result<Loaded, Error> {
    let mut loaded = Loaded {
        documents: Vec::with_capacity(found.len()),
        read: 0,
        large: false,
    };
    let mut bytes = 0;
    for chunk in found.chunks(CHUNK_MAX) {
        if bytes > BATCH_BYTES {
            break;
        }
        let keys: Vec<Bytes> = chunk
            .iter()
            .filter(|found| found.record.is_none())
            .map(Found::document_key)
            .collect();
        loaded.read += keys.len() as u64;
        let mut records = if keys.is_empty() {
            Vec::new().into_iter()
        } else {
            reading.snapshot.get_many(&keys).await?.into_iter()
        };
        for found in chunk {
            let record = match &found.record {
                Some(record) => Some(record.clone()),
                None => records.next().flatten(),
            };
            let path = found.path()?;
            loaded.documents.push(match record {
                Some(record) => {
                    bytes += record.len();
                    let document = if times_only(found) {
                        decode_times(&path, &record)?
                    } else {
                        decode_record(&path, &record)?
                    };
                    Some(Arc::new(document))
                }
                None if found.must_exist => {
                    return Err(Error::Corrupt(format!(
                        "the index names document {path}, which is not stored"
                    )));
                }
                None => None,
            });
        }
    }
    loaded.large = bytes > BATCH_BYTES;
    reading.pause().await?;
    Ok(loaded)
}

/// Which documents are part of the result, and which branch of the plan answers for them.
pub struct Judge {
    query: Arc<Query>,
    /// By branch.
    filters: Vec<Option<Filter>>,
}

impl Judge {
    /// Takes the filters out of the plan's branches.
    pub fn new(query: Arc<Query>, plan: &mut Plan) -> Self {
        let branches = plan.branches.iter_mut();
        Self {
            query,
            filters: branches.map(|branch| branch.filter.take()).collect(),
        }
    }

    /// Whether the document matches, and a branch that brings it here answers for it.
    pub fn accepts(&self, found: &Found, document: &Document) -> bool {
        self.query.matches(document)
            && (found.alone || {
                let owner = self.owner(document);
                found.branch == owner || found.others.contains(&owner)
            })
    }

    fn owner(&self, document: &Document) -> usize {
        let satisfied = |filter: &Option<Filter>| {
            filter
                .as_ref()
                .is_none_or(|filter| filter.matches(document, self.query.database()))
        };
        // A document that satisfies none of them would be a fault of the plan: better to show it twice than not at all.
        self.filters.iter().position(satisfied).unwrap_or_default()
    }
}
