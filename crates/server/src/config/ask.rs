//! What the commands want that ask a running server, or touch its files.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use watchfire_model::path::check_collection_id;
use watchfire_model::{DatabaseName, Invalid, Timestamp};

/// What to back up, and where.
#[derive(Clone, Debug, Args)]
pub struct Backup {
    /// The new folder, on the disk of the server. It must not exist, and its parent must
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    #[command(flatten)]
    pub asked: Asked,
}

/// What to restore, and where.
#[derive(Clone, Debug, Args)]
pub struct Restore {
    /// The backup
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// The data folder to make. It must not exist, or be empty
    #[arg(long, value_name = "FOLDER")]
    pub data: PathBuf,
}

/// What to export, and where.
#[derive(Clone, Debug, Args)]
pub struct Export {
    /// The new folder, on this machine. It must not exist, and its parent must
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    #[command(flatten)]
    pub remote: Remote,
    /// Only the documents of collections with this id, wherever they are; may be said several times
    #[arg(long = "collection", value_name = "ID", value_parser = parse_collection)]
    pub collections: Vec<String>,
    /// As it was at this time, as in 2026-01-31T12:00:00Z. Beyond the last hour, a whole minute
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub read_time: Option<Timestamp>,
}

/// What to import.
#[derive(Clone, Debug, Args)]
pub struct Import {
    /// The folder of the export, or its file *.overall_export_metadata, on this machine
    #[arg(value_name = "DIR")]
    pub path: PathBuf,
    #[command(flatten)]
    pub remote: Remote,
    /// Only the documents of collections with this id, wherever they are; may be said several times
    #[arg(long = "collection", value_name = "ID", value_parser = parse_collection)]
    pub collections: Vec<String>,
    /// Only check the export
    #[arg(long)]
    pub dry_run: bool,
}

fn parse_collection(text: &str) -> Result<String, Invalid> {
    check_collection_id(text).map(|()| text.to_owned())
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    text.parse::<prost_types::Timestamp>()
        .ok()
        .and_then(|time| Timestamp::from_parts(time.seconds, time.nanos).ok())
        .ok_or_else(|| "expected a time as in 2026-01-31T12:00:00Z".to_owned())
}

/// What to check.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// Folder that holds the data. No server may have it open. Not touched with --server
    #[arg(
        long,
        env = "WATCHFIRE_DATA",
        value_name = "DIR",
        default_value = "watchfire-data"
    )]
    pub data: PathBuf,
    /// Write entries that are missing or wrong, and delete those that no document has
    #[arg(long)]
    pub repair: bool,
    /// Address and port of a running server that looks at one of its databases itself.
    /// Only said here, never taken from the environment: it decides what is checked
    #[arg(long, value_name = "ADDR", requires = "database")]
    pub server: Option<String>,
    /// File of the certificates (PEM) of which one stands behind that server's, when it is https://. Without it those that
    /// this system trusts
    #[arg(long, env = "WATCHFIRE_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// The database of that server: projects/{project}/databases/{id}
    #[arg(
        long,
        value_name = "NAME",
        value_parser = DatabaseName::parse,
        requires = "server"
    )]
    pub database: Option<DatabaseName>,
}

/// What there is to do with the indexes of a running server.
#[derive(Clone, Debug, Subcommand)]
pub enum Indexes {
    /// Make the indexes of a database those of a file
    ///
    /// Shows first what changes: `+` is added, `~` changed, `-` is not in the file and deleted, `=` stays.
    Deploy(DeployIndexes),
    /// Print the indexes of a database as a firestore.indexes.json
    List(Remote),
}

/// Which running server.
#[derive(Clone, Debug, Args)]
pub struct Asked {
    /// Address and port of the server, or https:// and both when it encrypts. A backup is made only for callers on its machine
    #[arg(
        long,
        env = "WATCHFIRE_SERVER",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080"
    )]
    pub server: String,
    /// File of the certificates (PEM) of which one stands behind the server's. Without it those that this system trusts
    #[arg(long, env = "WATCHFIRE_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
}

/// Which database of which server.
#[derive(Clone, Debug, Args)]
pub struct Remote {
    #[command(flatten)]
    pub asked: Asked,
    /// The project, when --database is not a full name
    #[arg(long, env = "WATCHFIRE_PROJECT", value_name = "ID")]
    pub project: Option<String>,
    /// The database: an id, or projects/{project}/databases/{id}
    #[arg(
        long,
        env = "WATCHFIRE_DATABASE",
        value_name = "NAME",
        default_value = "(default)"
    )]
    pub database: String,
}

/// How to deploy a file.
#[derive(Clone, Debug, Args)]
pub struct DeployIndexes {
    /// The file, as Firebase writes it: firestore.indexes.json
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub remote: Remote,
    /// Delete what the file does not have without asking
    #[arg(long)]
    pub force: bool,
    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Do not wait until new indexes are built
    #[arg(long)]
    pub no_wait: bool,
}

impl Remote {
    /// The database's full name.
    pub fn database(&self) -> Result<DatabaseName, Invalid> {
        if self.database.contains('/') {
            return DatabaseName::parse(&self.database);
        }
        match &self.project {
            Some(project) => DatabaseName::new(project, &self.database),
            None => Err(Invalid::new(
                "say which project: --project ID, or --database projects/{project}/databases/{database}",
            )),
        }
    }
}
