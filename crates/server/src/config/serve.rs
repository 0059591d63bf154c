//! How to serve.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use watchfire_engine::settings::{HISTORY_MAX, HISTORY_MIN};
use watchfire_model::DatabaseName;

use crate::origin::AllowedOrigin;

/// What happens to queries for which there is no index.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IndexMode {
    /// They are refused, with the index that they need
    Enforce,
    /// They are served as well as possible, and reported once
    #[default]
    Advise,
    /// They are served as well as possible, and the index is defined meanwhile
    Create,
}

/// How transactions that do not say it themselves deal with each other.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Concurrency {
    /// What they read is checked at the commit
    #[default]
    Optimistic,
    /// What they read is locked until they end
    Pessimistic,
}

/// How to serve.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Address and port to listen on; port 0 takes any free one. There is no
    /// authentication yet: do not listen where strangers can connect
    #[arg(
        long,
        env = "WATCHFIRE_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: SocketAddr,
    /// File of the server's certificate, and after it those that lead to one that callers know (PEM): the port of
    /// --listen is then encrypted. The files are looked at every few seconds and at SIGHUP, and new ones are used without
    /// a restart
    #[arg(
        long,
        env = "WATCHFIRE_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub tls_cert: Option<PathBuf>,
    /// File of the certificate's private key (PEM, without a password)
    #[arg(
        long,
        env = "WATCHFIRE_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,
    /// Serve without encryption where other machines can connect, because the network can be trusted or something before
    /// this server encrypts. Without it that is refused
    #[arg(long, env = "WATCHFIRE_ALLOW_PLAINTEXT")]
    pub allow_plaintext: bool,
    /// Origin whose web pages may use the server, as in https://app.example; may be said several times, or once with
    /// commas between, and * means any page of any browser that reaches the server. When none is said, pages of this
    /// machine may while --listen is an address of this machine alone (127.0.0.1 or [::1]), and no others. Only web
    /// pages are held to it, and those that the server itself sends always may
    #[arg(
        long = "allow-origin",
        env = "WATCHFIRE_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub allow_origins: Vec<AllowedOrigin>,
    /// Address and port, or only a port of 127.0.0.1, for /metrics and /health: those who watch the server need not
    /// reach its data, and its users not its numbers. /metrics is then not answered on the port of --listen any more,
    /// where /health stays
    #[arg(
        long,
        env = "WATCHFIRE_ADMIN_LISTEN",
        value_name = "ADDR",
        value_parser = parse_admin_listen
    )]
    pub admin_listen: Option<SocketAddr>,
    /// Folder that holds the data; made if it is missing. One process at a time
    #[arg(
        long,
        env = "WATCHFIRE_DATA",
        value_name = "DIR",
        default_value = "watchfire-data"
    )]
    pub data: PathBuf,
    /// Keep everything in memory and forget it at the end; `--data` is then not touched
    #[arg(long, env = "WATCHFIRE_MEMORY")]
    pub memory: bool,
    /// What happens to queries for which there is no index
    #[arg(
        long,
        env = "WATCHFIRE_INDEX_MODE",
        value_enum,
        value_name = "MODE",
        default_value = "advise"
    )]
    pub index_mode: IndexMode,
    /// Index definitions (a firestore.indexes.json) that every database gets when it is opened.
    /// What a database has besides is kept
    #[arg(long, env = "WATCHFIRE_INDEXES", value_name = "FILE")]
    pub indexes: Option<PathBuf>,
    /// The only database that gets them, at the start: projects/{project}/databases/{id}
    #[arg(
        long,
        env = "WATCHFIRE_INDEXES_DATABASE",
        value_name = "NAME",
        value_parser = DatabaseName::parse,
        requires = "indexes"
    )]
    pub indexes_database: Option<DatabaseName>,
    /// How transactions that do not say it themselves deal with each other
    #[arg(
        long,
        env = "WATCHFIRE_CONCURRENCY",
        value_enum,
        value_name = "MODE",
        default_value = "optimistic"
    )]
    pub concurrency: Concurrency,
    /// How far back reads can go: from 1h to 7d. Beyond the last hour, at whole minutes
    #[arg(
        long,
        env = "WATCHFIRE_HISTORY",
        value_name = "TIME",
        value_parser = parse_history,
        default_value = "1h"
    )]
    pub history: Duration,
}

/// An address with a port, or a port of this machine.
fn parse_admin_listen(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port| (Ipv4Addr::LOCALHOST, port).into());
    port.or_else(|_| text.parse()).map_err(|_| {
        "expected a port, or an address with a port, as in 9090 or 0.0.0.0:9090".to_owned()
    })
}

/// Hours or days: `1h`, `36h`, `7d`.
fn parse_history(text: &str) -> Result<Duration, String> {
    let hours = match (text.strip_suffix('h'), text.strip_suffix('d')) {
        (Some(hours), _) => hours.parse().ok(),
        (None, Some(days)) => days.parse().ok().and_then(|days: u64| days.checked_mul(24)),
        (None, None) => None,
    };
    hours
        .and_then(|hours| hours.checked_mul(60 * 60))
        .map(Duration::from_secs)
        .filter(|history| (HISTORY_MIN..=HISTORY_MAX).contains(history))
        .ok_or_else(|| "expected a number of hours or days from 1h to 7d, as in 36h".to_owned())
}

impl Serve {
    /// Everything in memory, the rest as when nothing is said.
    pub fn in_memory(listen: SocketAddr) -> Self {
        Self {
            listen,
            tls_cert: None,
            tls_key: None,
            allow_plaintext: false,
            allow_origins: Vec::new(),
            admin_listen: None,
            data: PathBuf::from("watchfire-data"),
            memory: true,
            index_mode: IndexMode::default(),
            indexes: None,
            indexes_database: None,
            concurrency: Concurrency::default(),
            history: HISTORY_MIN,
        }
    }
}
