//! The way to a running server, and what may be wrong with it or with its answers.

use std::time::Duration;

use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use watchfire_model::Invalid;
use watchfire_wire::Refusal;

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Pages of one listing; more than a server within its limits can have.
pub(super) const PAGES_MAX: usize = 1_000;

/// Why a server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Nobody is there.
    #[error(
        "cannot connect to {server}: is a server running there? Name another one with --server"
    )]
    Connect {
        server: String,
        #[source]
        error: tonic::transport::Error,
    },
    /// The server said no.
    #[error("the server refused: {}", .0.message())]
    Refused(Box<Status>),
    /// The server did not answer, or not to the end.
    #[error("the connection to the server broke: {}", .0.message())]
    Broken(Box<Status>),
    /// The server has what this version of the command does not understand.
    #[error("the server's answer is not understood: {0}")]
    NotUnderstood(Refusal),
    /// The server's listing does not end.
    #[error("the server's listing has more than {PAGES_MAX} pages")]
    Endless,
}

impl From<Status> for RemoteError {
    fn from(status: Status) -> Self {
        // No answer of a server has a source.
        if std::error::Error::source(&status).is_some() {
            Self::Broken(Box::new(status))
        } else {
            Self::Refused(Box::new(status))
        }
    }
}

impl From<Refusal> for RemoteError {
    fn from(refusal: Refusal) -> Self {
        Self::NotUnderstood(refusal)
    }
}

impl From<Invalid> for RemoteError {
    fn from(invalid: Invalid) -> Self {
        Self::NotUnderstood(invalid.into())
    }
}

/// Connects. `server` is an address and port, or such an URL.
pub async fn connect(server: &str) -> Result<Channel, RemoteError> {
    let cannot = |error| RemoteError::Connect {
        server: server.to_owned(),
        error,
    };
    let url = if server.contains("://") {
        server.to_owned()
    } else {
        format!("http://{server}")
    };
    let endpoint = Endpoint::from_shared(url).map_err(cannot)?;
    endpoint
        .connect_timeout(CONNECT_MAX)
        .connect()
        .await
        .map_err(cannot)
}
