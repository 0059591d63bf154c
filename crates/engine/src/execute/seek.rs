//! Steps through document keys, where the documents of a collection lie among all that is below them.

use bytes::Bytes;
use watchfire_model::order::{decode_path, encode_path_prefix};
use watchfire_model::{CollectionPath, DocumentPath};

use crate::error::Error;
use crate::keyspace::{Keyspace, document_range};

/// The document whose key this is. `Corrupt` if it is none.
pub fn document_path(key: &[u8]) -> Result<DocumentPath, Error> {
    match key.split_first() {
        Some((first, rest)) if *first == Keyspace::Document.byte() => decode_path(rest)
            .map(|(path, _)| path)
            .ok_or_else(|| malformed(key)),
        _ => Err(malformed(key)),
    }
}

/// The complaint about a key that says nothing.
pub fn malformed(key: &[u8]) -> Error {
    Error::Corrupt(format!(
        "a stored key cannot be read: {}",
        key.escape_ascii()
    ))
}

/// The first key after everything at or below a document or collection.
pub fn subtree_end(path: &str) -> Bytes {
    let mut prefix = Vec::new();
    encode_path_prefix(path, &mut prefix);
    // The keyspaces after the documents' see to it that there is an end.
    document_range(&prefix)
        .end
        .unwrap_or_else(|| Bytes::from_static(&[u8::MAX]))
}

/// The child of the collection at or above `path`, which lies in the collection or below it.
/// `None` if it does neither.
pub fn child_of(collection: &CollectionPath, path: &DocumentPath) -> Option<DocumentPath> {
    let rest = path
        .as_str()
        .strip_prefix(collection.as_str())?
        .strip_prefix('/')?;
    match rest.split_once('/') {
        None => Some(path.clone()),
        Some((id, _)) => collection.document(id).ok(),
    }
}
