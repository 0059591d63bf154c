//! The words of the house: values, names, documents, writes, queries, windows.
//!
//! Everything here is a type or a pure function on which server and client must agree to the bit.
//! Nothing here waits, reads or writes anything, knows the time, rolls dice, logs, or has seen the protocol's
//! generated types. The only error is [`Invalid`]: input that may not be.
//!
//! # Glossary
//!
//! | word | meaning | where |
//! |---|---|---|
//! | *value* | one of eleven types, with one total order over all of them | [`value`], [`compare`] |
//! | *document* | fields under a name, with the times of its creation and of its last change | [`document`] |
//! | *path* | the name of a document or a collection inside its database | [`path`] |
//! | *field path* | the way to a field through maps; a *mask* is a set of them | [`field`] |
//! | *timestamp* | microseconds since 1970; also the number of a commit | [`time`] |
//! | *write* | what a caller wants done to one document: set, patch, delete, verify | [`mod@write`] |
//! | *change* | what a commit made of one document: before and after | [`change`] |
//! | *query* | which documents, in which order; in normal form | [`query`], [`filter`] |
//! | *window* | the result of one query, kept current by changes | [`window`] |
//! | *target* | what is watched: a query or a set of names | [`watch`] |
//!
//! # Three equalities
//!
//! `compare` and `equals` are the order: 3 equals 3.0, 0 equals −0, NaN equals NaN.
//! `identical` is finer and decides whether a write changes anything.
//! The bytes of [`order`] are as fine as `compare`: they sort and find, and the value itself is read from the document.
//! Because of the difference values have no `==`.
//!
//! # Two counts of bytes
//!
//! The *size* of a value or document is what the service charges and limits; it follows a published table
//! and not our encoding. The *length* of text is its UTF-8.
//!
//! # Reading order
//!
//! [`limits`] and [`path`] first, then [`value`], [`compare`] and [`order`], which are the ground of everything sorted.
//! Then [`mod@write`] and [`apply`] for the way in, [`filter`] and [`query`] for the way out, and [`window`] and
//! [`watch`] for what is kept current. [`bloom`], [`aggregate`] and [`nearest`] stand alone.
//!
//! # What is not done here
//!
//! Which index serves a query, whether a caller may see a document, and how anything is kept or sent.

pub mod aggregate;
pub mod apply;
pub mod bloom;
pub mod change;
pub mod compare;
pub mod document;
pub mod field;
pub mod filter;
#[cfg(test)]
mod generate;
pub mod invalid;
pub mod limits;
pub mod nearest;
pub mod order;
pub mod path;
pub mod query;
pub mod time;
pub mod value;
pub mod watch;
pub mod window;
pub mod write;

pub use aggregate::{Aggregation, AggregationOperator};
pub use change::Change;
pub use document::{Document, Fields};
pub use field::{FieldMask, FieldPath};
pub use filter::{FieldOperator, Filter, UnaryOperator};
pub use invalid::Invalid;
pub use nearest::{DistanceMeasure, Nearest};
pub use path::{CollectionPath, DatabaseName, DocumentName, DocumentPath, Parent};
pub use query::{Cursor, Direction, Order, Query, QueryParts, Selector};
pub use time::{Clock, Timestamp};
pub use value::{GeoPoint, Value};
pub use write::{Operation, Precondition, Transform, TransformKind, Write, WriteOutcome};
