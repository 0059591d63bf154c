//! Running a program beside the emulator.

use std::env;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::process::ExitStatus;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::emulator::run::{Failure, Told};

/// The name of the file that stands for the official emulator's archive; nothing is in it.
#[cfg(unix)]
const ARCHIVE: &str = "watchfire-firestore-emulator.jar";

/// A program that runs.
pub struct Program {
    child: Child,
    /// Holds what stands first on its path; gone at the end.
    _folder: Option<TempDir>,
}

impl Program {
    /// Starts it. It has this process' terminal, folder and variables, and hears of the emulator.
    pub fn start(
        command: &[OsString],
        emulator: SocketAddr,
        project: Option<&str>,
    ) -> Result<Self, Failure> {
        let (name, arguments) = command.split_first().ok_or(Failure::NoProgram)?;
        let mut child = Command::new(name);
        child
            .args(arguments)
            .env("FIRESTORE_EMULATOR_HOST", emulator.to_string())
            .kill_on_drop(true);
        if let Some(project) = project {
            child.env("GCLOUD_PROJECT", project);
        }
        let folder = stand_in_for_java(&mut child).map_err(Failure::StandIn)?;
        let child = child.spawn().map_err(|error| Failure::Program {
            name: name.clone(),
            error,
        })?;
        Ok(Self {
            child,
            _folder: folder,
        })
    }

    /// Waits until it ends.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks it to end, as this process was asked.
    pub fn tell(&self, told: Told) {
        #[cfg(unix)]
        let signal = match told {
            Told::Terminate => rustix::process::Signal::TERM,
            Told::Interrupt { at_terminal: false } => rustix::process::Signal::INT,
            // It has heard already, and many programs end at once when they hear twice.
            Told::Interrupt { at_terminal: true } => return,
        };
        #[cfg(not(unix))]
        tracing::debug!(?told, "the program decides when it ends");
        #[cfg(unix)]
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok())
            && let Some(id) = rustix::process::Pid::from_raw(id)
            && let Err(error) = rustix::process::kill_process(id, signal)
        {
            tracing::debug!(%error, "the program could not be told to end");
        }
    }
}

/// The exit code by which a shell would tell of it.
pub fn code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    let code = {
        use std::os::unix::process::ExitStatusExt;
        status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
    };
    #[cfg(not(unix))]
    let code = status.code();
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Puts this program on the path of a command by the name `java`, and says where tools find the emulator's archive.
#[cfg(unix)]
fn stand_in_for_java(command: &mut Command) -> io::Result<Option<TempDir>> {
    let folder = tempfile::Builder::new()
        .prefix("watchfire-java-")
        .tempdir()?;
    std::os::unix::fs::symlink(env::current_exe()?, folder.path().join("java"))?;
    let archive = folder.path().join(ARCHIVE);
    std::fs::write(&archive, b"")?;
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = [folder.path().to_owned()]
        .into_iter()
        .chain(env::split_paths(&path));
    let path = env::join_paths(folders).map_err(io::Error::other)?;
    command
        .env("PATH", path)
        .env("FIRESTORE_EMULATOR_BINARY_PATH", archive);
    Ok(Some(folder))
}

/// Elsewhere there is none: a program that starts emulators needs their own.
#[cfg(not(unix))]
fn stand_in_for_java(_: &mut Command) -> io::Result<Option<TempDir>> {
    Ok(None)
}
