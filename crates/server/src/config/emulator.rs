//! How to be an emulator: the flags that other tools give theirs, and some of ours.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::{IndexMode, Serve};

/// How to be an emulator, and what to do beside.
#[derive(Clone, Debug, Args)]
pub struct Emulator {
    /// Address to listen on
    #[arg(
        long,
        env = "WATCHFIRE_EMULATOR_HOST",
        value_name = "HOST",
        default_value = "127.0.0.1"
    )]
    pub host: String,
    /// Port to listen on; 0 takes any free one. 8080 when nothing is said, and a free one for `exec`
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Both in one, as in 127.0.0.1:8080
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["host", "port"])]
    pub host_port: Option<String>,
    /// Security rules. They are kept and given back, and not enforced yet
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// Export whose documents every empty database begins with, whatever its project
    #[arg(
        long = "import",
        aliases = ["seed_from_export", "seed-from-export", "import-data"],
        value_name = "DIR"
    )]
    pub import: Option<PathBuf>,
    /// Export of the project's database (default) to make at the end; an export that is there already is replaced
    #[arg(long, value_name = "DIR", requires = "project")]
    pub export_on_exit: Option<PathBuf>,
    /// The project of --export-on-exit, and for `exec` of the programs
    #[arg(
        long = "project",
        aliases = ["project_id", "project-id"],
        env = "WATCHFIRE_PROJECT",
        value_name = "ID"
    )]
    pub project: Option<String>,
    /// Folder to keep the data in, in place of memory
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// What happens to queries for which there is no index
    #[arg(long, value_enum, value_name = "MODE", default_value = "advise")]
    pub index_mode: IndexMode,
    #[command(flatten)]
    pub ignored: Ignored,
    #[command(subcommand)]
    pub command: Option<EmulatorCommand>,
}

/// Flags of other emulators that have no effect here.
#[derive(Clone, Debug, Default, Args)]
pub struct Ignored {
    #[arg(long = "single_project_mode", alias = "single-project-mode", hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub single_project_mode: Option<String>,
    #[arg(long = "single_project_mode_error", hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub single_project_mode_error: Option<String>,
    #[arg(long = "websocket_port", alias = "websocket-port", hide = true)]
    pub websocket_port: Option<String>,
    #[arg(long = "webchannel_port", alias = "webchannel-port", hide = true)]
    pub webchannel_port: Option<String>,
    #[arg(long = "functions_emulator", alias = "functions-emulator", hide = true)]
    pub functions_emulator: Option<String>,
    #[arg(long = "database-edition", alias = "database_edition", hide = true)]
    pub database_edition: Option<String>,
    #[arg(long = "database-mode", alias = "database_mode", hide = true)]
    pub database_mode: Option<String>,
}

impl Ignored {
    /// What of them was said and changes nothing, by name.
    pub fn said(&self) -> Vec<&'static str> {
        let Self {
            single_project_mode,
            single_project_mode_error,
            websocket_port,
            webchannel_port,
            functions_emulator,
            database_edition,
            database_mode,
        } = self;
        let wanted = |value: &Option<String>, usual: &[&str]| {
            value
                .as_deref()
                .is_some_and(|value| !usual.iter().any(|usual| usual.eq_ignore_ascii_case(value)))
        };
        [
            (
                "--single_project_mode",
                wanted(single_project_mode, &["false"]),
            ),
            (
                "--single_project_mode_error",
                wanted(single_project_mode_error, &["false"]),
            ),
            ("--websocket_port", wanted(websocket_port, &[])),
            ("--webchannel_port", wanted(webchannel_port, &[])),
            ("--functions_emulator", wanted(functions_emulator, &[""])),
            (
                "--database-edition",
                wanted(database_edition, &["standard"]),
            ),
            (
                "--database-mode",
                wanted(database_mode, &["firestore-native", "cloud_firestore"]),
            ),
        ]
        .into_iter()
        .filter_map(|(name, said)| said.then_some(name))
        .collect()
    }
}

/// What to do beside.
#[derive(Clone, Debug, Subcommand)]
pub enum EmulatorCommand {
    /// Run a program with the emulator beside it, and end with the program's exit code
    ///
    /// FIRESTORE_EMULATOR_HOST names the emulator to it, and GCLOUD_PROJECT the --project. Emulators that it starts itself, as
    /// `firebase emulators:exec` does, are this one too: a `java` stands first on its PATH that runs Watchfire for Firestore.
    Exec {
        /// The program and its arguments
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            required = true,
            value_name = "COMMAND"
        )]
        command: Vec<OsString>,
    },
}

impl Emulator {
    /// Where to listen, as a host and a port.
    pub fn place(&self) -> Result<(String, u16), String> {
        match &self.host_port {
            None => {
                let free = match self.command {
                    Some(EmulatorCommand::Exec { command: _ }) => 0,
                    None => 8080,
                };
                Ok((self.host.clone(), self.port.unwrap_or(free)))
            }
            Some(both) => {
                let (host, port) = both.rsplit_once(':').unwrap_or((both, "8080"));
                let port = port.parse().map_err(|_| {
                    format!("expected --host-port as in 127.0.0.1:8080, found {both}")
                })?;
                Ok((host.to_owned(), port))
            }
        }
    }

    /// The settings that it shares with a server.
    pub fn serve(&self, listen: SocketAddr) -> Serve {
        Serve {
            memory: self.data.is_none(),
            data: self.data.clone().unwrap_or_default(),
            index_mode: self.index_mode,
            // It is for tests: what it has is nobody's secret.
            allow_plaintext: true,
            ..Serve::in_memory(listen)
        }
    }
}
