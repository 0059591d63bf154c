//! The commands that ask a running server: the other end of the protocol.
//!
//! Together with `front` this is all of the crate that sees generated protocol types: `front` answers, and here is asked.
//! Each command says what it does in words, and takes what it needs to know as arguments: the output, and the clock.
//!
//! # Parts
//!
//! `connect` is the way to a server; `indexes` speaks with it about index definitions, for the command `index_command`;
//! `check` and `backup` ask for what their names say; `exchange` reads and writes documents.
//!
//! # What is not done
//!
//! Nothing here serves requests, and nothing opens a data folder. Callers do not say who they are.

pub mod backup;
pub mod check;
pub mod connect;
pub mod exchange;
pub mod index_command;
pub mod indexes;
