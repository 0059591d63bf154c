//! The one complaint about input: a sentence that says what was expected and what was found.
//!
//! It has no kinds: nobody acts differently on two bad inputs, and fronts answer each of them alike.

/// Input that the protocol forbids. Fronts answer it as INVALID_ARGUMENT with this text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    message: String,
}

impl Invalid {
    /// The text is what the caller of the API reads.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Invalid {}
