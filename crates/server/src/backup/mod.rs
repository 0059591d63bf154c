//! Copies of everything that a server keeps: making them while it runs, and putting one in an empty place.
//!
//! # What a backup is
//!
//! A folder with `data/`, which is a data folder as the store writes it, and `manifest.json`, which names every file of
//! it with its size and checksum, and every database with its version. The manifest is written last, and the folder gets
//! its name when all of it is on the disk: what has the name is whole, or was damaged later, and then the manifest tells.
//!
//! # Parts
//!
//! `manifest` is that file; `files` copies, checks and flushes; `take` makes a backup of an open store, at the speed that
//! `pace` allows; `restore` makes a data folder of a backup.
//!
//! # What is not done
//!
//! Every backup is whole: nothing is built on an earlier one. Nothing is sent anywhere, encrypted, or deleted when it is
//! old.

mod error;
pub mod files;
pub mod manifest;
#[cfg(feature = "embedded")]
pub mod pace;
#[cfg(feature = "embedded")]
pub mod restore;
#[cfg(feature = "embedded")]
pub mod take;

pub use error::BackupError;
