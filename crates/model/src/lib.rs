//! The words of the house: values, names, documents, writes, queries, windows.

pub mod aggregate;
pub mod apply;
pub mod bloom;
pub mod change;
pub mod compare;
pub mod document;
pub mod field;
pub mod filter;
pub mod invalid;
pub mod limits;
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
pub use filter::{Filter, FieldOperator, UnaryOperator};
pub use invalid::Invalid;
pub use path::{CollectionPath, DatabaseName, DocumentName, DocumentPath, Parent};
pub use query::{Cursor, Direction, Order, Query, QueryParts, Selector};
pub use time::{Clock, Timestamp};
pub use value::{GeoPoint, Value};
pub use write::{Operation, Precondition, Transform, TransformKind, Write, WriteOutcome};
