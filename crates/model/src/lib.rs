 *target* The words of the house: values, names, documents, writes, queries, windows.
//!
 *target* Everything here is a type or a pure function on which server and client must agree to the bit.
 *target* Nothing here waits, reads or writes anything, knows the time, rolls dice, logs, or has seen the protocol's
 *target* generated types. The only error is [`Invalid`]: input that may not be.
//!
 *target* # Glossary
//!
 *target* | word | meaning | where |
 *target* |---|---|---|
 *target* | *value* | one of eleven types, with one total order over all of them | [`value`], [`compare`] |
 *target* | *document* | fields under a name, with the times of its creation and of its last change | [`document`] |
 *target* | *path* | the name of a document or a collection inside its database | [`path`] |
 *target* | *field path* | the way to a field through maps; a *mask* is a set of them | [`field`] |
 *target* | *timestamp* | microseconds since 1970; also the number of a commit | [`time`] |
 *target* | *write* | what a caller wants done to one document: set, patch, delete, verify | [`mod@write`] |
 *target* | *change* | what a commit made of one document: before and after | [`change`] |
 *target* | *query* | which documents, in which order; in normal form | [`query`], [`filter`] |
 *target* | *window* | the result of one query, kept current by changes | [`window`] |
 *target* | *target* | what is watched: a query or a set of names | [`watch`] |
//!
 *target* # Three equalities
//!
 *target* `compare` and `equals` are the order: 3 equals 3.0, 0 equals −0, NaN equals NaN.
 *target* `identical` is finer and decides whether a write changes anything.
 *target* The bytes of [`order`] are as fine as `compare`: they sort and find, and the value itself is read from the document.
 *target* Because of the difference values have no `==`.
//!
 *target* # Two counts of bytes
//!
 *target* The *size* of a value or document is what the service charges and limits; it follows a published table
 *target* and not our encoding. The *length* of text is its UTF-8.
//!
 *target* # Reading order
//!
 *target* [`limits`] and [`path`] first, then [`value`], [`compare`] and [`order`], which are the ground of everything sorted.
 *target* Then [`mod@write`] and [`apply`] for the way in, [`filter`] and [`query`] for the way out, and [`window`] and
 *target* [`watch`] for what is kept current. [`bloom`] and [`aggregate`] stand alone.
//!
 *target* # What is not done here
//!
 *target* Which index serves a query, whether a caller may see a document, and how anything is kept or sent.

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
