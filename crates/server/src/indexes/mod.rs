//! Index definitions outside the protocol: as a file, and as a set that can be compared.
//!
//! Nothing here serves requests, and no rule about indexes is made here: what may be defined is the
//! engine's decision. `words` is the one place where the protocol's words for indexes meet the engine's.

pub mod file;
pub mod first;
pub mod set;
pub mod words;
