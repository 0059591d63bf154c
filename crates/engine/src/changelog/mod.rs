//! What happened, in order: one commit as bytes, the recent ring with the tail, reading what is stored, trimming it.
//!
//! Never writes by itself: entries and trims go into the committer's batches.

pub mod entry;
pub mod reader;
pub mod tail;
pub mod trim;
