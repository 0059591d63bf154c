//! What can go wrong with a store, by what the caller must do.
//!
//! A variant exists only where a caller acts differently on it; engines put their own words into the text.

/// Errors of a store.
#[derive(Debug, thiserror::Error, Clone)]
pub enum Error {
    /// Try again later; nothing is known to be wrong with the data. A full disk is told so, before it is full.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The bytes are damaged; the text names the file where the engine can tell. Stop and repair.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// A write or its flush failed earlier; the text is the first reason. Whether that batch was written is not
    /// known until the store has recovered, which it does by itself where it can: try again later, and read the
    /// head first. Reads go on.
    #[error("the store takes no writes since one failed: {0}")]
    Poisoned(String),
    /// Another process holds the folder.
    #[error("{0}")]
    Locked(String),
    /// The handle was closed.
    #[error("the store is closed")]
    Closed,
}
