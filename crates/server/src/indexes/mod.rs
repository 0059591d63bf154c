//! Index definitions outside the protocol: as a file, as a set that can be compared, and the command
//! that makes a running server have those of a file.
//!
//! Nothing here serves requests, and no rule about indexes is made here: what may be defined is the
//! engine's decision. `words` is the one place where the protocol's words for indexes meet the engine's.

pub mod command;
pub mod file;
pub mod first;
pub mod remote;
pub mod set;
pub mod words;
