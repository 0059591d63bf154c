//! Who asks: from the credentials of a request to a caller.
//!
//! What only an emulator honours (`Bearer owner`, tokens that nobody has signed) can be made into a caller by the
//! emulator's verifier alone: outside of `unsigned` nothing can make an [`Owner`] or a [`User`], so that no mistake
//! in `serve` gives anybody their rights.
//!
//! # What is not done
//!
//! There are no rules yet and no tokens that are verified: in `serve` every caller is [`Caller::Anyone`] and may everything.

mod unsigned;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Extensions, HeaderMap, header};

pub use unsigned::{Owner, User, Visitor};

/// Why credentials are refused. The caller should send others, or none.
#[derive(Clone, Debug, thiserror::Error)]
#[error("Invalid credentials in the Authorization header: {0}")]
pub struct TokenError(String);

/// Who asks.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Of a server that has no rules yet.
    Anyone,
    /// Of an emulator, without credentials.
    Visitor(Visitor),
    /// Of an emulator, as the user that a token names.
    User(User),
    /// Of an emulator, as the one for whom no rules hold.
    Owner(Owner),
}

impl Caller {
    /// Whose request it is; `Anyone` when nobody has looked.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or(Self::Anyone)
    }

    /// Whether it may ask which collections and which missing documents there are.
    pub fn may_list_names(&self) -> bool {
        match self {
            Self::Anyone | Self::Owner(_) => true,
            Self::Visitor(_) | Self::User(_) => false,
        }
    }
}

/// What the credentials of requests are worth.
#[derive(Clone, Debug)]
pub struct Tokens(Mode);

#[derive(Clone, Debug)]
enum Mode {
    Serve { told: Arc<AtomicBool> },
    Emulator,
}

impl Tokens {
    /// Nothing: nobody gets an identity or a right by them.
    pub fn of_server() -> Self {
        Self(Mode::Serve {
            told: Arc::default(),
        })
    }

    /// What tests need them to be.
    pub fn of_emulator() -> Self {
        Self(Mode::Emulator)
    }

    /// The caller of a request with these headers. A protocol that carries headers inside of its messages asks with those.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, TokenError> {
        let credentials = headers.get(header::AUTHORIZATION);
        match &self.0 {
            Mode::Serve { told } => {
                if credentials.is_some() && !told.swap(true, Ordering::Relaxed) {
                    tracing::info!(
                        "a caller has sent credentials, which mean nothing here: there are no rules yet, and everybody who reaches this server may everything (`Bearer owner` and unsigned tokens are for `watchfire emulator`)"
                    );
                }
                Ok(Caller::Anyone)
            }
            Mode::Emulator => unsigned::caller(credentials),
        }
    }
}
