//! The command line and its environment variables, and nothing that acts on them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use watchfire_engine::settings::{HISTORY_MAX, HISTORY_MIN};
use watchfire_model::path::check_collection_id;
use watchfire_model::{DatabaseName, Invalid, Timestamp};

const ABOUT: &str = "A realtime document database that speaks Firestore's gRPC protocol";

const EXAMPLES: &str = "\
Examples:
  watchfire
      Serves on 127.0.0.1:8080 and keeps its data in ./watchfire-data
  watchfire serve --listen 0.0.0.0:9000 --data /var/lib/watchfire
      Serves every network of this machine on port 9000
  WATCHFIRE_LISTEN=127.0.0.1:8081 watchfire
      The same flags, from the environment
  watchfire --indexes firestore.indexes.json --index-mode enforce
      Has the indexes of a Firebase project, and refuses queries that need more
  watchfire indexes deploy firestore.indexes.json --project demo
      Changes the indexes of a running server to those of the file
  watchfire check --data /var/lib/watchfire
      Looks at all data of a stopped server, and says whether it is sound
  watchfire check --server 127.0.0.1:8080 --database 'projects/demo/databases/(default)'
      The same for one database of a running server
  watchfire backup /backups/monday
      Has a running server copy all that it keeps, while it goes on
  watchfire restore /backups/monday --data /var/lib/watchfire
      Makes a data folder of the copy
  watchfire export /tmp/demo --project demo
      Writes the documents of a database to files in Firestore's own format
  watchfire import /tmp/demo --project other
      Writes the documents of such files to a database

Point any official SDK at it by setting FIRESTORE_EMULATOR_HOST=127.0.0.1:8080.
Projects and databases need no setup: each is created when it is first used.
SIGTERM or Ctrl-C stops the server cleanly: streams are told to reconnect, and
commits in flight are finished.
RUST_LOG=watchfire=debug shows more of what it does.";

/// What the process was asked to do.
#[derive(Debug, Parser)]
#[command(name = "watchfire", version, about = ABOUT, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Config {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the server (what `watchfire` alone does)
    #[command(after_help = EXAMPLES)]
    Serve(Serve),
    /// Show or change the indexes of a running server
    #[command(subcommand)]
    Indexes(Indexes),
    /// Check that index entries agree with their documents: in a stopped server's data, or in a running server
    ///
    /// Ends with exit code 1 when something is wrong, with 0 when all is sound or was repaired.
    Check(Check),
    /// Have a running server copy all that it keeps to a new folder on its disk, while it goes on
    Backup(Backup),
    /// Make a data folder of a backup
    ///
    /// The whole backup is checked before anything is written.
    Restore(Restore),
    /// Write the documents of a database to a new folder, in Firestore's own export format
    Export(Export),
    /// Write the documents of an export to a database: those of the same names are replaced, others stay
    ///
    /// The whole export is checked before anything is written to the database.
    Import(Import),
}

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
    /// Address and port of the server. A backup is made only for callers on its machine
    #[arg(
        long,
        env = "WATCHFIRE_SERVER",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080"
    )]
    pub server: String,
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

impl Config {
    /// What to do; `watchfire` alone means `serve`.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(arguments: &[&str]) -> Serve {
        match Config::try_parse_from(arguments).unwrap().into_command() {
            Command::Serve(serve) => serve,
            other => panic!("{other:?}"),
        }
    }

    fn check(arguments: &[&str], listen: &str, data: &str, memory: bool) {
        let serve = serve(arguments);
        assert_eq!(serve.listen, listen.parse().unwrap());
        assert_eq!(serve.data, PathBuf::from(data));
        assert_eq!(serve.memory, memory);
    }

    #[test]
    fn alone_means_serve() {
        check(&["watchfire"], "127.0.0.1:8080", "watchfire-data", false);
        check(
            &["watchfire", "serve"],
            "127.0.0.1:8080",
            "watchfire-data",
            false,
        );
        check(
            &["watchfire", "--listen", "[::1]:1", "--memory"],
            "[::1]:1",
            "watchfire-data",
            true,
        );
        check(
            &[
                "watchfire",
                "serve",
                "--listen",
                "0.0.0.0:9",
                "--data",
                "/d",
            ],
            "0.0.0.0:9",
            "/d",
            false,
        );
    }

    #[test]
    fn numbers_may_have_a_port_of_their_own() {
        assert_eq!(serve(&["watchfire"]).admin_listen, None);
        for (said, meant) in [
            ("9090", "127.0.0.1:9090"),
            ("0.0.0.0:9090", "0.0.0.0:9090"),
            ("[::1]:0", "[::1]:0"),
        ] {
            let asked = serve(&["watchfire", "serve", "--admin-listen", said]);
            assert_eq!(asked.admin_listen, Some(meant.parse().unwrap()));
        }
        for wrong in ["", "here", "65536", "127.0.0.1"] {
            let arguments = ["watchfire", "--admin-listen", wrong];
            assert!(Config::try_parse_from(arguments).is_err(), "{wrong}");
        }
    }

    #[test]
    fn indexes_of_a_server() {
        assert_eq!(serve(&["watchfire"]).index_mode, IndexMode::Advise);
        let started = serve(&[
            "watchfire",
            "--index-mode",
            "enforce",
            "--indexes",
            "f.json",
            "--indexes-database",
            "projects/p/databases/d",
        ]);
        assert_eq!(started.index_mode, IndexMode::Enforce);
        assert_eq!(started.indexes, Some(PathBuf::from("f.json")));
        assert_eq!(started.indexes_database.unwrap().database(), "d");
        for wrong in [
            ["--index-mode", "maybe"],
            ["--indexes-database", "projects/p/databases/d"],
        ] {
            let arguments = [&["watchfire"], wrong.as_slice()].concat();
            assert!(Config::try_parse_from(arguments).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn transactions_and_history_are_settings() {
        let plain = serve(&["watchfire"]);
        assert_eq!(plain.concurrency, Concurrency::Optimistic);
        assert_eq!(plain.history, HISTORY_MIN);
        let chosen = serve(&[
            "watchfire",
            "--concurrency",
            "pessimistic",
            "--history",
            "7d",
        ]);
        assert_eq!(chosen.concurrency, Concurrency::Pessimistic);
        assert_eq!(chosen.history, HISTORY_MAX);
        for wrong in ["0h", "8d", "1", "h", "-1h", "90m", "99999999999999999999d"] {
            assert!(
                Config::try_parse_from(["watchfire", "--history", wrong]).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn which_database_is_meant() {
        let name = |arguments: &[&str]| {
            let arguments = [&["watchfire", "indexes", "list"], arguments].concat();
            match Config::try_parse_from(arguments).unwrap().into_command() {
                Command::Indexes(Indexes::List(remote)) => {
                    remote.database().map(|name| name.to_string()).ok()
                }
                other => panic!("{other:?}"),
            }
        };
        let default = "projects/p/databases/(default)".to_owned();
        assert_eq!(name(&["--project", "p"]), Some(default.clone()));
        assert_eq!(name(&["--database", &default]), Some(default));
        let other = "projects/p/databases/other".to_owned();
        assert_eq!(
            name(&["--project", "p", "--database", "other"]),
            Some(other)
        );
        assert_eq!(name(&["--database", "other"]), None);
    }

    #[test]
    fn a_check_repairs_only_when_it_is_told_to() {
        for (arguments, repairs) in [(&["--data", "/d"][..], false), (&["--repair"][..], true)] {
            let arguments = ["watchfire", "check"].iter().chain(arguments);
            match Config::try_parse_from(arguments).unwrap().into_command() {
                Command::Check(check) => assert_eq!(check.repair, repairs),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_check_of_a_server_names_the_server_and_the_database() {
        let name = "projects/p/databases/d";
        let check = |arguments: &[&str]| {
            let arguments = [&["watchfire", "check"], arguments].concat();
            Config::try_parse_from(arguments).map(Config::into_command)
        };
        match check(&["--server", "a:1", "--database", name]).unwrap() {
            Command::Check(check) => {
                assert_eq!(check.server.as_deref(), Some("a:1"));
                assert_eq!(check.database.unwrap().to_string(), name);
            }
            other => panic!("{other:?}"),
        }
        assert!(check(&["--server", "a:1"]).is_err());
        assert!(check(&["--database", name]).is_err());
        assert!(check(&["--server", "a:1", "--database", "d"]).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Config::try_parse_from(["watchfire", "indexes", "deploy"]).is_err());
        assert!(Config::try_parse_from(["watchfire", "--listen", "nowhere"]).is_err());
        assert!(Config::try_parse_from(["watchfire", "sing"]).is_err());
    }
}
