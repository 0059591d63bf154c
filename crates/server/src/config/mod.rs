//! The command line and its environment variables, and nothing that acts on them.
//!
//! `serve` is how to serve, `emulator` how to be one, `ask` what the commands want that ask a running server or touch its files.

mod ask;
mod emulator;
mod serve;

use clap::{Parser, Subcommand};

pub use ask::{Asked, Backup, Check, DeployIndexes, Export, Import, Indexes, Remote, Restore};
pub use emulator::{Emulator, EmulatorCommand, Ignored};
pub use serve::{Concurrency, IndexMode, Serve};

const ABOUT: &str = "A realtime document database that speaks Firestore's gRPC protocol";

const EXAMPLES: &str = "\
Examples:
  watchfire
      Serves on 127.0.0.1:8080 and keeps its data in ./watchfire-data
  watchfire serve --listen 0.0.0.0:9000 --data /var/lib/watchfire --tls-cert cert.pem --tls-key key.pem
      Serves every network of this machine on port 9000, encrypted
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
  watchfire emulator exec -- npm test
      Runs tests with an emulator beside them

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
    /// Start a server for tests, in the place of the official emulator: in memory, and open to everybody
    Emulator(Emulator),
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

impl Config {
    /// What to do; `watchfire` alone means `serve`.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

#[cfg(test)]
mod tests;
