//! Judges a history: what may not be, whatever the server is made of.
//!
//! It never looks at the server, only at what clients saw and at what was stored in the end.

use crate::history::History;

/// Something that may not be.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which law is broken: a short name.
    pub law: &'static str,
    /// What was expected and what was found, in a few lines.
    pub text: String,
}

/// Everything that is wrong with the history.
#[must_use]
pub fn judge(_history: &History) -> Vec<Violation> {
    Vec::new()
}
