//! The one place where the parts meet: how the server starts, and in which order it stops.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::{self, Either};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport;
use watchfire_engine::{ConcurrencyMode, IndexMode, Settings};
use watchfire_model::{Clock, Timestamp};
use watchfire_storage::embedded::Embedded;
use watchfire_storage::memory::MemoryStore;
use watchfire_storage::{Error as StoreError, Store};

use crate::accept;
use crate::auth::Tokens;
use crate::backup::take::take;
use crate::config::{self, Serve};
use crate::databases::{Databases, OpenStore};
use crate::error::Error;
use crate::front::backup::Backups;
use crate::front::cors::Cors;
use crate::front::demo::Demo;
use crate::front::emulator::{Control, NoControl};
use crate::front::grpc_message::GrpcMessageLayer;
use crate::front::http::{HttpFront, HttpFrontsLayer};
use crate::front::pages::Pages;
use crate::front::rest::Rest;
use crate::front::webchannel::WebChannel;
use crate::front::{admin, check, grpc, health, metrics};
use crate::health::Health;
use crate::indexes::file::{self, FileError};
use crate::indexes::first::FirstIndexes;
use crate::origin::AllowedOrigins;
use crate::seed::Seed;
use crate::service::backup::TakeBackup;
use crate::service::commit::random;
use crate::tls::{Tls, TlsError, TlsFiles};

/// How long calls in flight may take after the order to stop. One connection that never finishes its
/// request uses all of it, so that it and `CLOSE_MAX` must end before those who run servers lose patience
/// and kill: 10 s in the most common container runtimes.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// How long closing databases and their store may take after that.
const CLOSE_MAX: Duration = Duration::from_secs(4);

/// How often a silent HTTP/2 connection is asked whether it is alive, and how long it may take to answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_ANSWER_MAX: Duration = Duration::from_secs(20);

/// Streams that one connection may have open. SDKs in one process share a connection, so that this
/// bounds the listeners of a whole application server.
const STREAMS_PER_CONNECTION_MAX: u32 = 10_000;

/// Calls of one connection that may be cancelled before the server has looked at them; one more ends the connection, and
/// with it whatever else an application listens to there. The protocol library's own bound of 20 is met by an application
/// that gives up a few dozen calls at once; this one still bounds who only opens and cancels.
const UNSEEN_CANCELLED_CALLS_MAX: usize = 1_000;

/// Bytes that a client may send ahead of being read, for one stream and for a whole connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Connections to the port of those who watch the server; one more waits until another ends.
const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Size of a request's headers, in bytes.
const HEADERS_MAX: u32 = 64 * 1024;

/// Why the server could not start, go on, or end cleanly.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Others could read and change what goes over the network, and nobody has said that they may.
    #[error(
        "{flag} {address} can be reached from other machines and would not be encrypted. Either encrypt (--tls-cert FILE \
         --tls-key FILE, for --listen), or listen on this machine alone (as in {flag} 127.0.0.1:{port}), or say that the \
         network can be trusted (--allow-plaintext)",
        port = .address.port(),
    )]
    Plaintext {
        flag: &'static str,
        address: SocketAddr,
    },
    /// Only one of the two was named.
    #[error("--tls-cert and --tls-key belong together: expected both, or none")]
    HalfTls,
    /// The certificate or its key cannot be used.
    #[error("cannot encrypt")]
    Tls(#[from] TlsError),
    /// Another process holds the data folder, or it cannot be read: see the source.
    #[error("cannot open the data folder {}", .folder.display())]
    Folder {
        folder: PathBuf,
        #[source]
        error: StoreError,
    },
    /// The file of index definitions cannot be used. Nothing was opened.
    #[error("cannot use the indexes of --indexes")]
    Indexes(#[from] FileError),
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}: choose another address with --listen")]
    Listen {
        address: SocketAddr,
        #[source]
        error: io::Error,
    },
    /// The same, for the port of those who watch the server.
    #[error("cannot listen on {address} for /metrics: choose another address with --admin-listen")]
    AdminListen {
        address: SocketAddr,
        #[source]
        error: io::Error,
    },
    /// Serving ended by itself.
    #[error("serving failed")]
    Serving(#[from] transport::Error),
    /// A bug: a task of ours panicked.
    #[error("a task of the server failed")]
    Task(#[from] JoinError),
    /// A database did not open or close.
    #[error("a database did not open or close")]
    Database(#[from] Error),
    /// The store did not close.
    #[error("the store did not close")]
    Store(#[from] StoreError),
}

/// What an emulator begins with.
#[derive(Debug, Default)]
pub struct Tests {
    /// The name and the text of the rules, which are kept and not enforced.
    pub rules: Option<(String, String)>,
    /// What empty databases begin with.
    pub seed: Option<Seed>,
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    encrypted: bool,
    admin_address: Option<SocketAddr>,
    data: Option<PathBuf>,
    shutdown: CancellationToken,
    serving: JoinHandle<Result<(), transport::Error>>,
    databases: Arc<Databases>,
    embedded: Option<Arc<Embedded>>,
}

impl Server {
    /// Reads the file of index definitions, opens the store, then the listener. Needs a Tokio runtime.
    pub async fn start(serve: Serve) -> Result<Self, Failure> {
        Self::start_as(serve, None).await
    }

    /// The same, open to every page and to the credentials of tests, and with what only an emulator has.
    pub async fn start_for_tests(serve: Serve, tests: Tests) -> Result<Self, Failure> {
        Self::start_as(serve, Some(tests)).await
    }

    async fn start_as(serve: Serve, tests: Option<Tests>) -> Result<Self, Failure> {
        let Serve {
            listen,
            tls_cert,
            tls_key,
            allow_plaintext,
            allow_origins,
            admin_listen,
            data,
            memory,
            index_mode,
            indexes,
            indexes_database,
            concurrency,
            history,
        } = serve;
        bear_file_limits();
        let tls = match (tls_cert, tls_key) {
            (Some(certificates), Some(key)) => Some(Tls::read(TlsFiles { certificates, key })?),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(Failure::HalfTls),
        };
        if !allow_plaintext {
            let plain = [
                ("--listen", Some(listen).filter(|_| tls.is_none())),
                ("--admin-listen", admin_listen),
            ];
            for (flag, address) in plain {
                if let Some(address) = address.filter(|address| !address.ip().is_loopback()) {
                    return Err(Failure::Plaintext { flag, address });
                }
            }
        }
        let settings = settings(index_mode, concurrency, history);
        let first_indexes = match indexes {
            None => None,
            Some(path) => Some(FirstIndexes::new(
                file::read(&path)?,
                indexes_database.clone(),
            )),
        };
        let (open_store, embedded, data) = if memory {
            (open_memory(), None, None)
        } else {
            let folder = data.clone();
            let opening = tokio::task::spawn_blocking(move || Embedded::open(&folder));
            let embedded = opening.await?.map_err(|error| Failure::Folder {
                folder: data.clone(),
                error,
            })?;
            let data = std::path::absolute(&data).unwrap_or(data);
            (open_embedded(embedded.clone()), Some(embedded), Some(data))
        };
        let health = match &embedded {
            Some(embedded) => Health::new(embedded.condition()),
            None => Health::untroubled(),
        };
        let cannot_listen = |error| Failure::Listen {
            address: listen,
            error,
        };
        let listener = accept::listen(listen).map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let (admin_listener, admin_address) = match admin_listen {
            None => (None, None),
            Some(admin_listen) => {
                let cannot_listen = |error| Failure::AdminListen {
                    address: admin_listen,
                    error,
                };
                let listener = accept::listen(admin_listen).map_err(cannot_listen)?;
                let address = listener.local_addr().map_err(cannot_listen)?;
                (Some(listener), Some(address))
            }
        };

        let (seed, rules, is_emulator) = match tests {
            None => (None, None, false),
            Some(Tests { rules, seed }) => (seed, rules, true),
        };
        let databases = Databases::new(open_store, Arc::new(SystemClock), settings, first_indexes);
        let databases = Arc::new(databases.with_seed(seed));
        if let Some(name) = &indexes_database {
            databases.get(name).await?;
        }
        let shutdown = CancellationToken::new();
        let backups = Backups::new(
            embedded.clone().map(take_backup),
            Arc::new(SystemClock),
            shutdown.clone(),
        );
        let (health_service, follow_health) = health::service(health.clone(), shutdown.clone());
        // It ends by itself at the shutdown.
        drop(tokio::spawn(follow_health));
        let metrics_page = || metrics::page(databases.clone(), health.clone());
        let mut pages = vec![health::page(health.clone())];
        let admin_serving = match admin_listener {
            None => {
                pages.push(metrics_page());
                Either::Left(future::ready(Ok(())))
            }
            Some(listener) => {
                let connections = accept::connections(listener, ADMIN_CONNECTIONS_MAX);
                let pages = Pages::new(vec![metrics_page(), health::page(health.clone())]);
                let no_strangers = Cors::new(AllowedOrigins::new(&[], false));
                let serving = transport::Server::builder()
                    .accept_http1(true)
                    .http2_max_header_list_size(HEADERS_MAX)
                    .layer(HttpFrontsLayer::new(
                        vec![Box::new(pages)],
                        no_strangers,
                        Tokens::of_server(),
                    ))
                    .add_service(health_service.clone())
                    .serve_with_incoming_shutdown(connections, shutdown.clone().cancelled_owned());
                Either::Right(serving)
            }
        };
        let (allowed, tokens) = if is_emulator {
            (AllowedOrigins::Any, Tokens::of_emulator())
        } else {
            let allowed = AllowedOrigins::new(&allow_origins, address.ip().is_loopback());
            (allowed, Tokens::of_server())
        };
        if allowed == AllowedOrigins::Any && !is_emulator {
            tracing::warn!(
                "--allow-origin * lets every web page, of every site that a user of this server's network visits, read and write"
            );
        }
        let channel = WebChannel::new(databases.clone(), tokens.clone(), shutdown.clone());
        let control: Box<dyn HttpFront> = if is_emulator {
            Box::new(Control::new(databases.clone(), reached(address), rules))
        } else {
            Box::new(NoControl)
        };
        let mut fronts: Vec<Box<dyn HttpFront>> =
            vec![Box::new(Pages::new(pages)), Box::new(channel), control];
        if address.ip().is_loopback() {
            fronts.push(Box::new(Demo::new()));
        }
        fronts.push(Box::new(Rest::new(&databases, &shutdown)));
        let connections = accept::connections(listener, accept::connections_max());
        let encrypted = tls.is_some();
        let connections = match tls {
            None => Either::Left(connections),
            Some(tls) => {
                let encrypted = accept::encrypted(connections, tls.acceptor()?);
                // It ends by itself at the shutdown.
                drop(tokio::spawn(tls.follow(shutdown.clone())));
                Either::Right(encrypted)
            }
        };
        let serving = transport::Server::builder()
            .accept_http1(true)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER_MAX))
            .http2_max_header_list_size(HEADERS_MAX)
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .http2_max_pending_accept_reset_streams(Some(UNSEEN_CANCELLED_CALLS_MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .layer(HttpFrontsLayer::new(fronts, Cors::new(allowed), tokens))
            .layer(GrpcMessageLayer)
            .add_service(grpc::service(databases.clone(), shutdown.clone()))
            .add_service(admin::service(databases.clone()))
            .add_service(admin::operations(databases.clone(), shutdown.clone()))
            .add_service(check::service(databases.clone(), backups, shutdown.clone()))
            .add_service(health_service)
            .serve_with_incoming_shutdown(connections, shutdown.clone().cancelled_owned());
        let serving = async move { future::try_join(serving, admin_serving).await.map(|_| ()) };
        Ok(Self {
            address,
            encrypted,
            admin_address,
            data,
            shutdown,
            serving: tokio::spawn(serving),
            databases,
            embedded,
        })
    }

    /// Where it listens; with the real port when port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it answers those who watch it, if that is another address; with the real port when port 0 was asked for.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// What a person who has just started it wants to know.
    pub fn greeting(&self) -> String {
        let reach = reached(self.address);
        let (host, port) = (reach.ip(), reach.port());
        let data = match &self.data {
            Some(folder) => format!("Data is kept in {}", folder.display()),
            None => "Data is kept in memory and forgotten at the end".to_owned(),
        };
        let scheme = if self.encrypted { "https" } else { "http" };
        let demo = match self.address.ip().is_loopback() {
            true => {
                format!("\nA shared board is at {scheme}://{reach}/demo: open it in two windows")
            }
            false => String::new(),
        };
        let admin = self.admin_address.map_or_else(String::new, |admin| {
            format!("\nMetrics and health are at http://{admin}/metrics and /health")
        });
        let (node, web) = if self.encrypted {
            (
                format!(
                    "  const {{ Firestore }} = require('@google-cloud/firestore'); const grpc = require('@grpc/grpc-js');
  const db = new Firestore({{ projectId: 'demo', host: '{reach}', ssl: true, sslCreds: grpc.credentials.createSsl() }});"
                ),
                format!(
                    "  import {{ initializeApp }} from 'firebase/app'; import {{ initializeFirestore }} from 'firebase/firestore';
  const db = initializeFirestore(initializeApp({{ projectId: 'demo' }}), {{ host: '{reach}', ssl: true }});
(By the name that the certificate has, in place of {host}.)"
                ),
            )
        } else {
            (
                format!(
                    "  process.env.FIRESTORE_EMULATOR_HOST = '{reach}';
  const {{ Firestore }} = require('@google-cloud/firestore');
  const db = new Firestore({{ projectId: 'demo' }});"
                ),
                format!(
                    "  import {{ initializeApp }} from 'firebase/app'; import {{ getFirestore, connectFirestoreEmulator }} from 'firebase/firestore';
  const db = getFirestore(initializeApp({{ projectId: 'demo' }}));
  connectFirestoreEmulator(db, '{host}', {port});"
                ),
            )
        };
        let encrypted = if self.encrypted { ", encrypted" } else { "" };
        format!(
            "Watchfire listens on {address}{encrypted}{admin}
{data}{demo}

Node SDK:
{node}

Web SDK:
{web}
",
            address = self.address,
        )
    }

    /// Returns when it has stopped serving without being told to, with the reason.
    pub async fn ended(&mut self) -> Result<(), Failure> {
        Ok((&mut self.serving).await??)
    }

    /// Ends streams, finishes calls in flight, closes databases and the store, in this order. Takes
    /// at most `DRAIN_MAX` and `CLOSE_MAX` together.
    pub async fn stop(self) -> Result<(), Failure> {
        let Self {
            serving,
            shutdown,
            databases,
            embedded,
            address: _,
            encrypted: _,
            admin_address: _,
            data: _,
        } = self;
        shutdown.cancel();
        let abort = serving.abort_handle();
        match tokio::time::timeout(DRAIN_MAX, serving).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "serving did not end cleanly"),
            Ok(Err(error)) => tracing::warn!(%error, "the serving task failed"),
            Err(_) => {
                tracing::warn!("some calls did not end in time and are cut off");
                abort.abort();
            }
        }
        let close = async {
            databases.close().await?;
            if let Some(embedded) = embedded {
                embedded.close().await?;
            }
            Ok(())
        };
        match tokio::time::timeout(CLOSE_MAX, close).await {
            Ok(closed) => closed,
            Err(_) => {
                // Every acknowledged commit is on the disk: the next start recovers.
                tracing::warn!("the store did not close in time");
                Ok(())
            }
        }
    }
}

/// Where this machine reaches what listens there.
pub fn reached(address: SocketAddr) -> SocketAddr {
    let host = match address.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(host, address.port())
}

fn settings(
    index_mode: config::IndexMode,
    concurrency: config::Concurrency,
    history: Duration,
) -> Settings {
    Settings {
        index_mode: match index_mode {
            config::IndexMode::Enforce => IndexMode::Enforce,
            config::IndexMode::Advise => IndexMode::Advise,
            config::IndexMode::Create => IndexMode::Create,
        },
        concurrency: match concurrency {
            config::Concurrency::Optimistic => ConcurrencyMode::Optimistic,
            config::Concurrency::Pessimistic => ConcurrencyMode::Pessimistic,
        },
        history,
        chance: random(),
    }
}

/// A file that may not grow further is an error for who writes it, and no reason to end the process, which is what
/// the system does unless somebody takes the signal. Once taken it stays taken.
fn bear_file_limits() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let kind = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
        if let Err(error) = signal(kind) {
            tracing::debug!(%error, "a limit on the size of files would end the process");
        }
    }
}

fn open_memory() -> OpenStore {
    Box::new(|_| {
        Box::pin(async {
            let store: Arc<dyn Store> = MemoryStore::new();
            Ok(store)
        })
    })
}

fn open_embedded(embedded: Arc<Embedded>) -> OpenStore {
    Box::new(move |name| {
        let embedded = embedded.clone();
        Box::pin(async move {
            // Opening reads and may write files.
            let opening = tokio::task::spawn_blocking(move || embedded.database(&name.to_string()));
            opening
                .await
                .unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
        })
    })
}

fn take_backup(embedded: Arc<Embedded>) -> TakeBackup {
    Box::new(move |directory, now, shutdown| {
        let stopped = move || shutdown.is_cancelled();
        Box::pin(take(embedded.clone(), directory, now, stopped))
    })
}

/// The clock of the system.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_1970 = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let micros = i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(micros).expect("the system's clock stands before the year 10000")
    }
}
