//! `Version`: the one number that orders everything in a database.
//!
//! It reads no clock; whoever writes a batch chooses its version.

/// Position in the store's order: microseconds since 1970. Zero is the empty store.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);
