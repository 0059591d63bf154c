//! How an emulator begins and ends: what is read before, what is said, and what is exported after.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use watchfire_model::{DatabaseName, Invalid};

use crate::assemble::{self, Server, Tests, reached};
use crate::config::{Emulator, EmulatorCommand};
use crate::emulator::export_on_exit::ExportOnExit;
use crate::emulator::programs::{Program, code};
use crate::front::emulator::{RULES_BYTES_MAX, RULES_NOT_ENFORCED};
use crate::seed::Seed;

/// Why an emulator did not begin, go on or end well.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The place to listen on cannot be understood or found.
    #[error(
        "cannot listen on {place}: expected a host and a port of this machine, as in 127.0.0.1:8080"
    )]
    Place {
        place: String,
        #[source]
        error: Option<io::Error>,
    },
    /// The file of --rules cannot be read.
    #[error("cannot read the rules of {}", .file.display())]
    Rules {
        file: PathBuf,
        #[source]
        error: io::Error,
    },
    /// The export of --import cannot be used.
    #[error("cannot use the export of --import")]
    Import(#[from] watchfire_exchange::Error),
    /// What is to be replaced at the end is something else.
    #[error(
        "--export-on-exit {} is there already and no export: expected a folder that does not exist, is empty, or has an export and nothing else, found {}",
        .folder.display(),
        .found.display()
    )]
    NoExport { folder: PathBuf, found: PathBuf },
    /// Nothing can be put beside what is to be replaced.
    #[error(
        "--export-on-exit {} cannot be replaced: expected a folder that ends with a name, as in ./saved",
        .0.display()
    )]
    NoName(PathBuf),
    /// The export at the end did not succeed.
    #[error("the data could not be exported to {}: {complaint}", .folder.display())]
    Export { folder: PathBuf, complaint: String },
    /// The project is none.
    #[error(transparent)]
    Project(#[from] Invalid),
    /// No program was named.
    #[error("expected a program to run: watchfire emulator exec -- COMMAND")]
    NoProgram,
    /// The program is not there, or cannot be run.
    #[error("cannot run {}", .name.display())]
    Program {
        name: OsString,
        #[source]
        error: io::Error,
    },
    /// The program was lost sight of.
    #[error("cannot wait for the program")]
    Waiting(#[source] io::Error),
    /// What stands for `java` could not be made.
    #[error("cannot make a folder for what stands in for java")]
    StandIn(#[source] io::Error),
    /// The server itself did not start, go on or end.
    #[error(transparent)]
    Server(#[from] assemble::Failure),
}

/// How it was told to stop.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Terminate,
    /// By somebody who interrupts.
    Interrupt {
        /// At a terminal, which tells the program itself.
        at_terminal: bool,
    },
}

/// A running emulator.
pub struct Started {
    server: Server,
    program: Option<Vec<OsString>>,
    project: Option<String>,
    export: Option<ExportOnExit>,
}

/// Reads what it is to begin with, and starts it.
pub async fn start(emulator: Emulator) -> Result<Started, Failure> {
    let listen = listen(&emulator).await?;
    let rules = emulator.rules.as_deref().map(read_rules).transpose()?;
    let seed = match &emulator.import {
        None => None,
        Some(path) => {
            let path = path.clone();
            let reading = tokio::task::spawn_blocking(move || Seed::read(&path));
            Some(reading.await.map_err(assemble::Failure::from)??)
        }
    };
    let export = match (&emulator.export_on_exit, &emulator.project) {
        (Some(folder), Some(project)) => {
            let database = DatabaseName::new(project, "(default)")?;
            Some(ExportOnExit::new(folder, database)?)
        }
        (None, _) | (_, None) => None,
    };
    for flag in emulator.ignored.said() {
        tracing::warn!("{flag} has no effect in this emulator");
    }
    if rules.is_some() {
        tracing::warn!("{RULES_NOT_ENFORCED}");
    }
    if !listen.ip().is_loopback() {
        tracing::warn!(
            "other machines can connect to this emulator, without encryption and without being asked who they are"
        );
    }
    if let Some(seed) = &seed {
        tracing::info!(export = %seed.path().display(), documents = seed.documents(), "empty databases begin with an export");
    }
    let serve = emulator.serve(listen);
    let server = Server::start_for_tests(serve, Tests { rules, seed }).await?;
    let program = emulator
        .command
        .map(|EmulatorCommand::Exec { command }| command);
    Ok(Started {
        server,
        program,
        project: emulator.project,
        export,
    })
}

async fn listen(emulator: &Emulator) -> Result<SocketAddr, Failure> {
    let (host, port) = emulator
        .place()
        .map_err(|place| Failure::Place { place, error: None })?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    let cannot = |error| Failure::Place {
        place: format!("{host}:{port}"),
        error,
    };
    let found = tokio::net::lookup_host((bare, port)).await;
    let addresses: Vec<SocketAddr> = found.map_err(|error| cannot(Some(error)))?.collect();
    // By name, most tools mean the older protocol, which all can speak.
    let first = addresses.iter().find(|address| address.is_ipv4());
    let first = first.or(addresses.first()).copied();
    first.ok_or_else(|| cannot(None))
}

/// The name and the text.
fn read_rules(file: &Path) -> Result<(String, String), Failure> {
    let unreadable = |error| Failure::Rules {
        file: file.to_owned(),
        error,
    };
    let bytes = std::fs::metadata(file).map_err(unreadable)?.len();
    if bytes > RULES_BYTES_MAX as u64 {
        let text = format!("{bytes} bytes, expected at most {RULES_BYTES_MAX}");
        return Err(unreadable(io::Error::other(text)));
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    Ok((name.into_owned(), text))
}

impl Started {
    /// Whether there is a program to run beside it.
    pub fn has_program(&self) -> bool {
        self.program.is_some()
    }

    /// The lines that tools wait for.
    pub fn greeting(&self) -> String {
        let address = self.reached();
        format!(
            "API endpoint: http://{address}
Watchfire is an emulator here: for tests, open to every page and every token.

   export FIRESTORE_EMULATOR_HOST={address}

Dev App Server is now running.
"
        )
    }

    /// Where this machine reaches it.
    pub fn reached(&self) -> SocketAddr {
        reached(self.server.address())
    }

    /// Runs until it is told to stop, or until the program that runs beside it has ended, whose exit code it then has.
    /// `told` may be asked again and again.
    pub async fn run(&mut self, mut told: impl AsyncFnMut() -> Told) -> Result<u8, Failure> {
        let Some(command) = self.program.take() else {
            tokio::select! {
                _ = told() => {}
                ended = self.server.ended() => ended?,
            }
            return Ok(0);
        };
        let started = Program::start(&command, self.reached(), self.project.as_deref());
        if started.is_err() {
            // Nobody has written anything: an export would replace what is kept by nothing.
            self.export = None;
        }
        let mut program = started?;
        loop {
            tokio::select! {
                status = program.ended() => return Ok(code(status.map_err(Failure::Waiting)?)),
                // It decides when it is done.
                told = told() => program.tell(told),
            }
        }
    }

    /// Exports if that was asked for, and ends it.
    pub async fn stop(self) -> Result<(), Failure> {
        let address = self.reached();
        let exported = match &self.export {
            None => Ok(()),
            Some(export) => export.make(address).await,
        };
        self.server.stop().await?;
        exported
    }
}
