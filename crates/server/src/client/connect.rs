//! The way to a running server, and what may be wrong with it or with its answers.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use watchfire_model::Invalid;
use watchfire_wire::Refusal;

use crate::config::Asked;

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
    /// Without them it cannot be known whether it is the server that answers.
    #[error("cannot read the certificates of --tls-ca {}", .file.display())]
    Certificates {
        file: PathBuf,
        #[source]
        error: std::io::Error,
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

/// Connects. The server is an address and port, or such an URL; `https://` means that it encrypts.
pub async fn connect(asked: &Asked) -> Result<Channel, RemoteError> {
    let Asked { server, tls_ca } = asked;
    let cannot = |error| RemoteError::Connect {
        server: server.clone(),
        error,
    };
    let url = if server.contains("://") {
        server.clone()
    } else {
        format!("http://{server}")
    };
    let encrypts = url.starts_with("https://");
    let mut endpoint = Endpoint::from_shared(url).map_err(cannot)?;
    if encrypts {
        let tls = match tls_ca {
            None => ClientTlsConfig::new().with_native_roots(),
            Some(file) => {
                let known = fs::read(file).map_err(|error| RemoteError::Certificates {
                    file: file.clone(),
                    error,
                })?;
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(known))
            }
        };
        endpoint = endpoint.tls_config(tls).map_err(cannot)?;
    }
    endpoint
        .connect_timeout(CONNECT_MAX)
        .connect()
        .await
        .map_err(cannot)
}
