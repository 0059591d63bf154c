//! `watchfire emulator`: a server for tests, in the place of the official emulator.
//!
//! `run` is how it begins and ends, `export_on_exit` what it leaves, `programs` runs programs beside it, and `java` is what this program does when other
//! tools call it by the name `java`, which is how they start emulators.

mod export_on_exit;
pub mod java;
mod programs;
mod run;

pub use run::{Failure, Started, Told, start};
