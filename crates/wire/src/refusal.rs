//! Why a message is not accepted: it is wrong, or it asks for what this server does not do.

use watchfire_model::Invalid;

/// The answer to a message that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The protocol forbids it: INVALID_ARGUMENT, with this text.
    Invalid(Invalid),
    /// As `Invalid`, with a reason that programs compare.
    Reasoned {
        /// What the caller reads.
        invalid: Invalid,
        /// The reason, in capitals.
        reason: &'static str,
        /// What belongs to the reason, by name.
        metadata: Vec<(&'static str, String)>,
    },
    /// Legal, but not done here: UNIMPLEMENTED. Holds the name of the field or feature.
    Unimplemented(String),
}

impl Refusal {
    /// A refusal of wrong input; the text is what the caller reads.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(Invalid::new(message))
    }

    /// A refusal of a field or feature by its name.
    pub fn unimplemented(name: impl Into<String>) -> Self {
        Self::Unimplemented(name.into())
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid(invalid)
            | Self::Reasoned {
                invalid,
                reason: _,
                metadata: _,
            } => invalid.fmt(f),
            Self::Unimplemented(name) => write!(f, "{name} is not supported by this server"),
        }
    }
}

impl std::error::Error for Refusal {}
