//! The two kinds of files that say what an export consists of.

use prost::Message;

/// The first record of an overall file: the version of its format. The second one is the message.
pub const OVERALL_VERSION: &[u8] = b"3";

/// Every document, whatever its collection.
const ALL_KINDS: i32 = 2;
/// The documents of one collection group.
const ONE_KIND: i32 = 1;
/// Firestore has one namespace.
const ALL_NAMESPACES: i32 = 3;

/// Which documents a set has.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EntitySetSpec {
    #[prost(int32, optional, tag = "1")]
    pub kind_type: Option<i32>,
    /// The collection id, when it is one.
    #[prost(string, optional, tag = "2")]
    pub kind: Option<String>,
    #[prost(int32, optional, tag = "3")]
    pub namespace_type: Option<i32>,
    #[prost(string, optional, tag = "4")]
    pub namespace: Option<String>,
}

impl EntitySetSpec {
    /// Those of one collection group, or all.
    pub fn new(kind: Option<&str>) -> Self {
        Self {
            kind_type: Some(if kind.is_some() { ONE_KIND } else { ALL_KINDS }),
            kind: kind.map(str::to_owned),
            namespace_type: Some(ALL_NAMESPACES),
            namespace: None,
        }
    }
}

/// The record of the overall file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OverallExportMetadata {
    #[prost(message, repeated, tag = "1")]
    pub export_pointers: Vec<ExportPointer>,
}

/// One set of documents.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExportPointer {
    #[prost(message, optional, tag = "1")]
    pub entity_set_spec: Option<EntitySetSpec>,
    /// Relative to the overall file.
    #[prost(string, optional, tag = "2")]
    pub export_metadata_file: Option<String>,
    #[prost(int64, optional, tag = "3")]
    pub num_entities: Option<i64>,
    /// Of the output files together.
    #[prost(int64, optional, tag = "4")]
    pub num_bytes: Option<i64>,
}

/// The whole file of one set; no log.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExportMetadata {
    #[prost(message, optional, tag = "1")]
    pub export: Option<ExportRun>,
    #[prost(message, repeated, tag = "2")]
    pub outputs: Vec<OutputFile>,
}

/// When it was made, in microseconds since 1970, and its name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExportRun {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(int64, optional, tag = "2")]
    pub start_micros: Option<i64>,
    #[prost(int64, optional, tag = "3")]
    pub end_micros: Option<i64>,
}

/// A file with documents.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OutputFile {
    /// Empty wherever we have met it.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub prefix: Option<Vec<u8>>,
    /// Relative to the metadata file.
    #[prost(string, optional, tag = "2")]
    pub file: Option<String>,
}

/// Reads a message; the complaint is a sentence without its place.
pub(crate) fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, String> {
    M::decode(bytes).map_err(|error| format!("it is no metadata of an export: {error}"))
}
