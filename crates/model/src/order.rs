//! The total order as bytes: comparing encodings as bytes equals comparing values.

use crate::{DocumentPath, Value};

/// Appends the encoding; no encoding is a prefix of another value's, so that encodings can be concatenated.
pub fn encode_value(value: &Value, out: &mut Vec<u8>) {
    let _ = (value, out);
    unimplemented!()
}

/// Appends the path so that bytes order as `DocumentPath` does; self-terminated.
/// The encoding of a document is a byte prefix of nothing but itself, but a descendant's encoding
/// without its terminator starts with `encode_path_prefix` of the ancestor.
pub fn encode_path(path: &DocumentPath, out: &mut Vec<u8>) {
    let _ = (path, out);
    unimplemented!()
}

/// Appends the segments of any slash-separated path without the terminator:
/// the common prefix of all documents at or below it.
pub fn encode_path_prefix(path: &str, out: &mut Vec<u8>) {
    let _ = (path, out);
    unimplemented!()
}

/// Reads a path back from the start of `bytes`; returns it and the number of bytes used. `None` if malformed.
pub fn decode_path(bytes: &[u8]) -> Option<(DocumentPath, usize)> {
    let _ = bytes;
    unimplemented!()
}
