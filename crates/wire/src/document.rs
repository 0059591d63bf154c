//! Documents and masks: protocol ↔ model.

use watchfire_model::{DatabaseName, Document, DocumentPath, FieldMask, FieldPath};

use crate::pb;
use crate::refusal::Refusal;
use crate::value::{encode_fields, encode_timestamp};

/// The full name of a document.
pub fn encode_document_name(database: &DatabaseName, path: &DocumentPath) -> String {
    format!("{database}/documents/{path}")
}

/// Writes a document with its full name and its times.
pub fn encode_document(database: &DatabaseName, document: &Document) -> pb::Document {
    let Document {
        path,
        create_time,
        update_time,
        fields,
    } = document;
    pb::Document {
        name: encode_document_name(database, path),
        fields: encode_fields(fields),
        create_time: Some(encode_timestamp(*create_time)),
        update_time: Some(encode_timestamp(*update_time)),
    }
}

/// Reads a mask: field paths in quoted syntax. An absent mask and an empty one are different things
/// to most requests; this is for one that is present.
pub fn decode_mask(mask: pb::DocumentMask) -> Result<FieldMask, Refusal> {
    let pb::DocumentMask { field_paths } = mask;
    let paths: Result<Vec<FieldPath>, _> = field_paths
        .iter()
        .map(|text| FieldPath::parse(text))
        .collect();
    Ok(FieldMask::new(paths?))
}
