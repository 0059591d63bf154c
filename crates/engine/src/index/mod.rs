//! Automatic indexes: which entries a document has, and what a change does to them.
//!
//! For every field, and for every field of a map at any depth, a document has one ascending entry in the index of
//! its collection; for every array it has besides one `contains` entry for each distinct element. One entry per
//! field serves both directions, since scans run both ways. For its collection group a document has one entry that
//! only names it. Entries carry nothing: what they say is in the key.
//!
//! An index never decides whether a document belongs to a result. It may hold more than was asked for (long values
//! are cut), never less; whoever reads it looks at the document itself.

pub mod catalog;
pub mod definition;
pub mod diff;
pub mod entries;
pub mod key;
pub mod missing;
