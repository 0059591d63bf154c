//! The servers that are measured, each a process of its own on the loopback, and connections that write to them.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use super::message;
use super::redis::Publisher;
use crate::frames::Connection;
use crate::server::{Server, computed, memory_mib};

/// Tenths of a second that a server may take to answer for the first time.
const START_TENTHS_MAX: usize = 600;

#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// This project's server, every commit on the disk.
    Watchfire,
    /// An emulator of Firestore in Rust, in memory: `cargo install hidane`.
    Hidane,
    /// Publish and subscribe of Redis, nothing stored.
    Redis,
    /// Google's own emulator, in memory.
    Emulator,
}

/// Where the programs are.
#[derive(Args)]
pub struct Programs {
    #[arg(long, env = "WATCHFIRE_BIN")]
    watchfire: Option<PathBuf>,
    #[arg(long, default_value = "hidane")]
    hidane: PathBuf,
    #[arg(long, default_value = "redis-server")]
    redis: PathBuf,
    /// The jar of the emulator; `java` starts it.
    #[arg(
        long,
        default_value = "/usr/lib/google-cloud-sdk/platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"
    )]
    emulator: PathBuf,
}

/// A running server.
pub struct Running {
    pub peer: Peer,
    pub address: String,
    process: Process,
    /// Dropped after the process that writes to it.
    _data: Folder,
}

enum Process {
    Own(Server),
    Other(Child),
}

impl Drop for Process {
    fn drop(&mut self) {
        match self {
            Self::Own(_) => {}
            Self::Other(child) => {
                child.kill().ok();
                child.wait().ok();
            }
        }
    }
}

/// An empty folder that goes with this.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("watchfire-fanout-{}", std::process::id()));
        std::fs::remove_dir_all(&path).ok();
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

impl Running {
    /// Starts it with nothing stored, and waits until it takes a write.
    pub async fn start(peer: Peer, programs: &Programs) -> Result<Self> {
        let data = Folder::make()?;
        // Free now, and in all likelihood still free when the server asks for it.
        let port = TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port()
            .to_string();
        let mut command = match peer {
            Peer::Watchfire => {
                let binary = programs
                    .watchfire
                    .as_ref()
                    .context("--watchfire is needed")?;
                let server = Server::start(binary, &data.0).await?;
                return Ok(Self {
                    peer,
                    address: server.address().to_owned(),
                    process: Process::Own(server),
                    _data: data,
                });
            }
            Peer::Hidane => {
                let mut command = Command::new(&programs.hidane);
                command.args(["--host", "127.0.0.1", "--port", &port]);
                command
            }
            Peer::Redis => {
                let mut command = Command::new(&programs.redis);
                command.args(["--bind", "127.0.0.1", "--port", &port, "--save", ""]);
                command.args(["--appendonly", "no", "--maxclients", "15000"]);
                command
            }
            Peer::Emulator => {
                let mut command = Command::new("java");
                command.arg("-cp").arg(&programs.emulator);
                command.arg("com.google.cloud.datastore.emulator.firestore.CloudFirestore");
                command.args(["--host", "127.0.0.1", "--port", &port]);
                command
            }
        };
        let child = command
            .current_dir(&data.0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{peer:?} starts"))?;
        let mut running = Self {
            peer,
            address: format!("127.0.0.1:{port}"),
            process: Process::Other(child),
            _data: data,
        };
        for _ in 0..START_TENTHS_MAX {
            if let Ok(mut writer) = running.writer().await
                && writer.write("started/first", "first").await.is_ok()
            {
                return Ok(running);
            }
            if let Process::Other(child) = &mut running.process
                && let Some(status) = child.try_wait()?
            {
                bail!("{peer:?} ended before its first answer: {status}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("{peer:?} did not answer")
    }

    /// A connection of its own that writes.
    pub async fn writer(&self) -> Result<Writer> {
        Ok(match self.peer {
            Peer::Redis => Writer::Redis(Publisher::open(&self.address).await?),
            Peer::Watchfire | Peer::Hidane | Peer::Emulator => {
                Writer::Firestore(Connection::open(&self.address).await?)
            }
        })
    }

    fn process(&self) -> String {
        match &self.process {
            Process::Own(server) => server.process(),
            Process::Other(child) => child.id(),
        }
        .to_string()
    }

    /// Memory that it has in use, in KiB.
    pub fn memory_kib(&self) -> Result<f64> {
        Ok(memory_mib(&self.process())? * 1024.0)
    }

    /// Time that it has computed so far, on all cores together.
    pub fn computed(&self) -> Result<Duration> {
        computed(&self.process())
    }
}

/// A connection that writes, one write at a time.
pub enum Writer {
    Firestore(Connection),
    Redis(Publisher),
}

impl Writer {
    /// Writes, and waits for the acknowledgement.
    pub async fn write(&mut self, path: &str, text: &str) -> Result<()> {
        match self {
            Self::Firestore(connection) => {
                let request = message::commit(&[(path, text)]);
                connection.unary(message::COMMIT, &request).await
            }
            Self::Redis(publisher) => publisher.publish(path, text).await,
        }
    }
}
