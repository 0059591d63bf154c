//! `watchfire export` and `watchfire import`: documents between a running server and files in Firestore's own format.
//!
//! The files are on the machine of the command. The server is asked through the ordinary protocol: documents are read by
//! queries at one version, and written by commits like any others, so that rules of the database hold for them, and other
//! machines can be asked too. The format itself is in the crate `exchange`.
//!
//! # What is not done
//!
//! Indexes do not travel, as they do not in the real service: `watchfire indexes` carries them. Nothing is deleted.

mod error;
pub mod export;
pub mod import;
pub mod progress;

pub use error::ExchangeError;
