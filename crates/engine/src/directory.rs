//! Listings: the documents of a collection, the collections below a parent. Both walk the document keys and jump
//! over whatever lies below what they have named; neither looks at an index.

use std::sync::Arc;

use watchfire_model::order::{encode_collection_prefix, encode_path_prefix};
use watchfire_model::{CollectionPath, Document, DocumentPath, Parent};
use watchfire_storage::range::just_after;
use watchfire_storage::{Direction, Range, Snapshot};

use crate::error::Error;
use crate::execute::seek::{child_of, document_path, malformed, subtree_end};
use crate::keyspace::document_range;
use crate::record::decode_record;

/// Keys read at once.
const PAGE_MAX: usize = 128;

/// Stored bytes after which a listing ends early.
const LIST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// In order of `__name__`. `None` for a missing document that has descendants (only with `show_missing`).
    pub documents: Vec<(DocumentPath, Option<Arc<Document>>)>,
    /// Whether the collection goes on after the last one.
    pub more: bool,
}

/// One page of a collection by name, after `after`: at most `limit` documents, fewer (but not none) when they are
/// large. Only `more` tells whether there are others.
pub async fn list_documents(
    snapshot: &dyn Snapshot,
    collection: &CollectionPath,
    after: Option<&DocumentPath>,
    limit: usize,
    show_missing: bool,
) -> Result<Listed, Error> {
    let mut prefix = Vec::new();
    encode_collection_prefix(collection, &mut prefix);
    let mut range = document_range(&prefix);
    if let Some(after) = after {
        range.start = range.start.max(subtree_end(after.as_str()));
    }
    let mut documents: Vec<(DocumentPath, Option<Arc<Document>>)> = Vec::new();
    let mut bytes = 0;
    let mut batch = limit.saturating_add(1).min(PAGE_MAX);
    while !is_empty(&range) {
        let page = snapshot.page(&range, Direction::Forward, batch).await?;
        let mut seen: Option<DocumentPath> = None;
        let mut below = 0;
        for (key, record) in &page.entries {
            let path = document_path(key)?;
            let child = child_of(collection, &path).ok_or_else(|| malformed(key))?;
            let exists = child == path;
            below += usize::from(!exists);
            if exists || (show_missing && seen.as_ref() != Some(&child)) {
                if documents.len() >= limit || bytes > LIST_BYTES_MAX {
                    return Ok(Listed {
                        documents,
                        more: true,
                    });
                }
                bytes += record.len();
                let document = if exists {
                    Some(Arc::new(decode_record(&path, record)?))
                } else {
                    None
                };
                documents.push((child.clone(), document));
            }
            seen = Some(child);
        }
        match (page.entries.last(), seen) {
            (Some((key, _)), Some(child)) if page.more => {
                // A document's descendants may follow it, or its own key may have been the last.
                range.start = just_after(key).max(subtree_end(child.as_str()));
            }
            _ => break,
        }
        batch = if below * 2 > page.entries.len() {
            (batch / 4).max(2)
        } else {
            (batch * 2).min(PAGE_MAX)
        };
    }
    Ok(Listed {
        documents,
        more: false,
    })
}

/// Ids of the collections directly below the parent, in byte order, after `after`; and whether there are more.
/// A collection exists when any document lies in it or below it. One key is read for each id.
pub async fn collection_ids(
    snapshot: &dyn Snapshot,
    parent: &Parent,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<String>, bool), Error> {
    let mut prefix = Vec::new();
    let (parent_text, depth) = match parent {
        Parent::Root => (String::new(), 0),
        Parent::Document(path) => {
            encode_path_prefix(path.as_str(), &mut prefix);
            (format!("{path}/"), path.segments().count())
        }
    };
    let mut range = document_range(&prefix);
    if let Some(after) = after {
        range.start = range
            .start
            .max(subtree_end(&format!("{parent_text}{after}")));
    }
    let mut ids = Vec::new();
    while !is_empty(&range) {
        let page = snapshot.page(&range, Direction::Forward, 1).await?;
        let Some((key, _)) = page.entries.first() else {
            break;
        };
        let path = document_path(key)?;
        match path.segments().nth(depth) {
            // The parent itself.
            None => range.start = just_after(key),
            Some(_) if ids.len() >= limit => return Ok((ids, true)),
            Some(id) => {
                range.start = subtree_end(&format!("{parent_text}{id}"));
                ids.push(id.to_owned());
            }
        }
    }
    Ok((ids, false))
}

fn is_empty(range: &Range) -> bool {
    range.end.as_ref().is_some_and(|end| *end <= range.start)
}

#[cfg(test)]
mod tests;
