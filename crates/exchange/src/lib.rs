//! Firestore's own export format: documents of a database in files that others read and write too.
//!
//! # The folder
//!
//! `NAME.overall_export_metadata` names one `….export_metadata` for each set of documents: all of them, or those of one
//! collection group. That one names the files with the documents, `output-0` and so on, beside it. [`metadata`] has the
//! words of both, [`writer`] makes a whole folder under a temporary name, and [`reader`] follows the names into one.
//!
//! # The files
//!
//! The overall file and the outputs are logs as LevelDB writes them: blocks, and pieces of records with checksums
//! ([`log`]). Each record of an output is one document in the words of the older product, Datastore: [`entity`] has the
//! messages, [`encode`] and [`decode`] go between them and the model.
//!
//! # What comes from elsewhere
//!
//! Everything that is read may have been made or damaged by anybody. No input makes this crate panic: sizes, counts and
//! depths are bounded where they are read, file names may not leave the folder, and a complaint says the file and the
//! byte at which the record stands.
//!
//! # What is not done
//!
//! No network, no database, no indexes: an export holds documents only. What only Datastore has (namespaces, users, the
//! special texts of its first years) is refused by its name.

pub mod decode;
pub mod encode;
pub mod entity;
pub mod error;
pub mod log;
pub mod metadata;
pub mod reader;
pub mod writer;

pub use decode::{Entity, decode_entity};
pub use encode::encode_entity;
pub use error::Error;
pub use reader::{Export, Found};
pub use writer::{ExportWriter, Totals};
