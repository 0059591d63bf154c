//! Every number that the protocol promises, in one place.
//!
//! These are promises to callers, not settings: a server that changes one stops being compatible.
//! Bounds that are only ours (queues, caches, pages) live beside the mechanism that they bound.

use std::time::Duration;

/// Size of a document in bytes, as [`crate::document::Document::size`] counts it: 1 MiB.
pub const DOCUMENT_BYTES_MAX: usize = 1_048_576;

/// Length of one string or bytes value: 1 MiB less 89 bytes.
pub const VALUE_BYTES_MAX: usize = 1_048_576 - 89;

/// Length in bytes of a document's name inside its database: 6 KiB.
pub const NAME_BYTES_MAX: usize = 6 * 1024;

/// Length in bytes of a project id or a database id; real ones are far shorter.
pub const DATABASE_ID_BYTES_MAX: usize = 500;

/// Length in bytes of a collection id or a document id.
pub const ID_BYTES_MAX: usize = 1_500;

/// Length in bytes of one field name.
pub const FIELD_NAME_BYTES_MAX: usize = 1_500;

/// Length in bytes of a field path: raw segments and the dots between them.
pub const FIELD_PATH_BYTES_MAX: usize = 1_500;

/// Levels of maps and arrays inside one another in a field's value.
pub const NESTING_DEPTH_MAX: usize = 20;

/// Collections on the way to a document, the first one included.
pub const COLLECTION_DEPTH_MAX: usize = 100;

/// Size of one request to the API in bytes: 10 MiB.
pub const REQUEST_BYTES_MAX: usize = 10 * 1024 * 1024;

/// How long a transaction may live.
pub const TRANSACTION_LIFETIME_MAX: Duration = Duration::from_secs(270);

/// How long a transaction may lie idle before it expires.
pub const TRANSACTION_IDLE_MAX: Duration = Duration::from_secs(60);

/// Transforms that one commit may apply to one document, over all its writes.
pub const TRANSFORMS_PER_DOCUMENT_MAX: usize = 500;

/// Disjunctions of a query in disjunctive normal form; also the values of `IN` and `ARRAY_CONTAINS_ANY`.
pub const DISJUNCTIONS_MAX: u64 = 30;

/// Values of a `NOT_IN` filter.
pub const NOT_IN_VALUES_MAX: usize = 10;

/// Distinct fields with inequality filters in one query.
pub const INEQUALITY_FIELDS_MAX: usize = 10;

/// Filters, orders and the parent of a query taken together.
pub const QUERY_TERMS_MAX: u64 = 100;

/// Levels of AND and OR in a filter, each of which holds at least one filter.
pub const FILTER_DEPTH_MAX: usize = 100;

/// Aggregations of one aggregation query.
pub const AGGREGATIONS_MAX: usize = 5;

/// Index entries of one document.
pub const INDEX_ENTRIES_MAX: usize = 40_000;

/// Size of one index entry in bytes: 7.5 KiB.
pub const INDEX_ENTRY_BYTES_MAX: usize = 7_680;

/// Size of all index entries of one document in bytes: 8 MiB.
pub const INDEX_ENTRIES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of a value that an index keeps; longer values are indexed by their beginning.
pub const INDEXED_VALUE_BYTES_MAX: usize = 1_500;

/// Dimensions of a vector.
pub const VECTOR_DIMENSIONS_MAX: usize = 2_048;

/// Documents that one nearest-neighbour search may ask for.
pub const NEAREST_LIMIT_MAX: u32 = 1_000;
