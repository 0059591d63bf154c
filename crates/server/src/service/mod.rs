//! Every operation once, in the words of the model, for all fronts.
//!
//! A service opens a view or stages a commit and says what came of it. It never sees a protocol's
//! bytes, and never evaluates a query itself.

pub mod backup;
pub mod check;
pub mod clear;
pub mod commit;
pub mod indexes;
pub mod list;
pub mod listen;
pub mod partition;
pub mod query;
pub mod read;
pub mod write_stream;
