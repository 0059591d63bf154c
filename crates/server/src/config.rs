//! The command line and its environment variables, and nothing that acts on them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const ABOUT: &str = "A realtime document database that speaks Firestore's gRPC protocol";

const EXAMPLES: &str = "\
Examples:
  watchfire
      Serves on 127.0.0.1:8080 and keeps its data in ./watchfire-data
  watchfire serve --listen 0.0.0.0:9000 --data /var/lib/watchfire
      Serves every network of this machine on port 9000
  WATCHFIRE_LISTEN=127.0.0.1:8081 watchfire
      The same flags, from the environment

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

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server (what `watchfire` alone does)
    #[command(after_help = EXAMPLES)]
    Serve(Serve),
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
}

impl Config {
    /// The settings of the server, whether `serve` was written or not.
    pub fn into_serve(self) -> Serve {
        match self.command {
            Some(Command::Serve(serve)) => serve,
            None => self.serve,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: &[&str], listen: &str, data: &str, memory: bool) {
        let serve = Config::try_parse_from(arguments).unwrap().into_serve();
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
    fn nonsense_is_refused() {
        assert!(Config::try_parse_from(["watchfire", "--listen", "nowhere"]).is_err());
        assert!(Config::try_parse_from(["watchfire", "sing"]).is_err());
    }
}
