//! Indexes: which there are, which entries a document has in them, and what a change does to those.
//!
//! For every field, and for every field of a map at any depth, a document has one ascending entry in the index of
//! its collection; for every array it has besides one `contains` entry for each distinct element. One entry per
//! field serves both directions, since scans run both ways. Configurations switch these off, or on for collection
//! groups. For its collection group a document has one entry that only names it. Beside them stand the indexes that
//! somebody defined. `catalog` knows what exists, `entries` what a document has, `diff` what a commit changes, and
//! `build` brings older documents up to date.
//!
//! An index never decides whether a document belongs to a result. It may hold more than was asked for (long values
//! are cut), never less.

pub mod build;
pub mod catalog;
pub mod diff;
pub mod entries;
pub mod key;
