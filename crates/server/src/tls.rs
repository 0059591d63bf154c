//! Encryption on the port that is listened on: the server's certificate and key, and how both are replaced while it runs.
//!
//! The files are looked at every few seconds and at SIGHUP, so that whatever renews certificates needs to tell nobody.
//! New ones hold for connections that begin then. Files that cannot be used are named in the log, and the old ones stay.
//!
//! # What is not done
//!
//! Callers are not asked for certificates. When a certificate ends is not looked at: browsers and SDKs say so.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_util::sync::CancellationToken;

/// What is spoken inside, as it is offered: gRPC and browsers take the first, everything else the second.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The size of a file of certificates or of a key, in bytes; a chain has a few thousand.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where certificate and key are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate of the server and then those that lead to one that callers know, as PEM.
    pub certificates: PathBuf,
    /// The key of the first, as PEM and without a password.
    pub key: PathBuf,
}

/// Why they cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not there, not readable, or no PEM.
    #[error("cannot read {what} of {}", .file.display())]
    Unreadable {
        what: &'static str,
        file: PathBuf,
        #[source]
        error: pem::Error,
    },
    /// Nothing of the kind is in it.
    #[error("{} holds no certificate: expected a block -----BEGIN CERTIFICATE-----", .file.display())]
    NoCertificate { file: PathBuf },
    /// It is something else.
    #[error("{} has {bytes} bytes, more than any file of certificates or keys: expected at most {FILE_BYTES_MAX}", .file.display())]
    TooLarge { file: PathBuf, bytes: u64 },
    /// One was renewed and not the other, or they were mixed up.
    #[error(
        "the private key of {} cannot be used with the first certificate of {}: expected a key that belongs to it",
        .key.display(),
        .certificates.display()
    )]
    Apart {
        certificates: PathBuf,
        key: PathBuf,
        #[source]
        error: rustls::Error,
    },
    /// The library of encryption cannot be set up.
    #[error("encryption cannot be set up")]
    Library(#[from] rustls::Error),
}

/// What the connections that begin now are encrypted with.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    identity: Arc<Identity>,
    /// The files as they were when `identity` was read.
    stamps: Stamps,
}

/// The certificate that is shown, and its key.
#[derive(Debug)]
struct Identity(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.0
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }
}

impl Tls {
    /// Reads the files, and checks that the key is the certificate's.
    pub fn read(files: TlsFiles) -> Result<Self, TlsError> {
        // Before the files: what changes meanwhile is then read again.
        let stamps = Stamps::of(&files);
        let identity = Arc::new(Identity(RwLock::new(Arc::new(read(&files)?))));
        Ok(Self {
            files,
            identity,
            stamps,
        })
    }

    /// What takes connections, with the newest certificate each.
    pub fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(self.identity.clone());
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // A crowd that comes back then costs no signatures.
        config.ticketer = ring::Ticketer::new()?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Replaces the certificate whenever the files change, until it is told to stop.
    pub async fn follow(mut self, shutdown: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hangups = Hangups::new();
        loop {
            let told = tokio::select! {
                () = shutdown.cancelled() => return,
                () = hangups.received() => true,
                _ = looks.tick() => false,
            };
            // Files may be on a network that does not answer.
            let looking = tokio::task::spawn_blocking(move || {
                self.look(told);
                self
            });
            match looking.await {
                Ok(tls) => self = tls,
                Err(error) => {
                    tracing::error!(%error, "the certificate is not renewed any more");
                    return;
                }
            }
        }
    }

    /// Reads the files again if they have changed or somebody asks for it.
    fn look(&mut self, told: bool) {
        let stamps = Stamps::of(&self.files);
        if stamps == self.stamps && !told {
            return;
        }
        // Files that cannot be used are complained of once.
        self.stamps = stamps;
        let certificates = self.files.certificates.display();
        match read(&self.files) {
            Ok(identity) => {
                let mut current = self
                    .identity
                    .0
                    .write()
                    .unwrap_or_else(PoisonError::into_inner);
                let same = current.cert == identity.cert;
                *current = Arc::new(identity);
                match same {
                    true => tracing::debug!(%certificates, "the certificate was read again"),
                    false => {
                        tracing::info!(%certificates, "a new certificate is shown from now on")
                    }
                }
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!("the new certificate cannot be used, the old one stays: {error:#}");
            }
        }
    }
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let TlsFiles { certificates, key } = files;
    for file in [certificates, key] {
        let bytes = fs::metadata(file).map_or(0, |metadata| metadata.len());
        if bytes > FILE_BYTES_MAX {
            let file = file.clone();
            return Err(TlsError::TooLarge { file, bytes });
        }
    }
    let unreadable = |what, file: &Path| {
        let file = file.to_owned();
        move |error| TlsError::Unreadable { what, file, error }
    };
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable("the certificates", certificates))?;
    if chain.is_empty() {
        let file = certificates.clone();
        return Err(TlsError::NoCertificate { file });
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(unreadable("the private key", key))?;
    CertifiedKey::from_der(chain, secret, &ring::default_provider()).map_err(|error| {
        TlsError::Apart {
            certificates: certificates.clone(),
            key: key.clone(),
            error,
        }
    })
}

/// By what is seen that files have changed; absent what cannot be seen.
#[derive(Debug, PartialEq, Eq)]
struct Stamps([Option<(SystemTime, u64)>; 2]);

impl Stamps {
    fn of(files: &TlsFiles) -> Self {
        Self([&files.certificates, &files.key].map(|file| {
            let metadata = fs::metadata(file).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        }))
    }
}

/// Times that somebody sends SIGHUP, which asks servers to read their files.
#[cfg(unix)]
struct Hangups(Option<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Hangups {
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self(signal(SignalKind::hangup()).ok())
    }

    async fn received(&mut self) {
        let received = match &mut self.0 {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if received.is_none() {
            std::future::pending().await
        }
    }
}

#[cfg(not(unix))]
struct Hangups;

#[cfg(not(unix))]
impl Hangups {
    fn new() -> Self {
        Self
    }

    async fn received(&mut self) {
        std::future::pending().await
    }
}
