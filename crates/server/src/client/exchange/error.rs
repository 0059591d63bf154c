//! Why documents could not be exported or imported, by what the caller should do about it.

use std::io;

use tonic::Status;
use watchfire_model::Invalid;
use watchfire_wire::Refusal;

use crate::client::connect::RemoteError;

/// Failures of the two commands.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Which database is meant is not clear.
    #[error(transparent)]
    Database(#[from] Invalid),
    /// The files could not be read or written, or are none.
    #[error(transparent)]
    Files(#[from] watchfire_exchange::Error),
    /// The server could not be asked, or refused.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// It ended after writing had begun. What is written stays; importing again is safe.
    #[error("{error}; {documents} of {of} documents are known to be written, and stay")]
    Partly {
        /// Those of commits that were acknowledged.
        documents: u64,
        of: u64,
        /// In the text already.
        error: Box<ExchangeError>,
    },
    /// The output could not be written.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

impl From<Status> for ExchangeError {
    fn from(status: Status) -> Self {
        Self::Remote(status.into())
    }
}

impl From<Refusal> for ExchangeError {
    fn from(refusal: Refusal) -> Self {
        Self::Remote(refusal.into())
    }
}
