//! A server process of its own on a free port of the loopback, for as long as a measurement takes.
//!
//! It is killed when it is dropped, and a folder that was made for it goes with it; nothing here measures.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tonic::transport::{Channel, Endpoint};
use watchfire_wire::pb;
use watchfire_wire::pb::firestore_client::FirestoreClient;

/// The database that is measured.
pub const DATABASE: &str = "projects/bench/databases/(default)";

/// Milliseconds that a server may take to answer for the first time.
const START_MS_MAX: u32 = 60_000;

/// A running server.
pub struct Server {
    child: Child,
    data: PathBuf,
    address: String,
    /// From the start of the process to its first answer.
    pub started: Duration,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Server {
    /// Starts the binary on the folder, which it makes if there is none, and waits for its first answer.
    pub async fn start(binary: &Path, data: &Path) -> Result<Self> {
        // Free now, and in all likelihood still free when the server asks for it.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let begin = Instant::now();
        let child = std::process::Command::new(binary)
            .args(["serve", "--listen", &address, "--data"])
            .arg(data)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()
            .context("the server binary starts")?;
        let mut server = Self {
            child,
            data: data.to_owned(),
            address,
            started: Duration::ZERO,
        };
        for _ in 0..START_MS_MAX {
            if let Ok(channel) = server.connect().await {
                let answer = FirestoreClient::new(channel)
                    .list_collection_ids(pb::ListCollectionIdsRequest {
                        parent: format!("{DATABASE}/documents"),
                        ..Default::default()
                    })
                    .await;
                if answer.is_ok() {
                    server.started = begin.elapsed();
                    return Ok(server);
                }
            }
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended before its first answer: {status}");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bail!("the server did not answer on {}", server.address)
    }

    /// A connection of its own.
    pub async fn connect(&self) -> Result<Channel> {
        Ok(Endpoint::from_shared(format!("http://{}", self.address))?
            .tcp_nodelay(true)
            .connect()
            .await?)
    }

    /// Some connections.
    pub async fn connections(&self, count: usize) -> Result<Vec<Channel>> {
        let mut channels = Vec::with_capacity(count);
        for _ in 0..count {
            channels.push(self.connect().await?);
        }
        Ok(channels)
    }

    /// Its address and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where its data lies.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The number of its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Memory that it has in use, in MiB.
    pub fn memory_mib(&self) -> Result<f64> {
        memory_mib(&self.child.id().to_string())
    }

    /// Time that it has computed so far, on all cores together.
    pub fn computed(&self) -> Result<Duration> {
        computed(&self.child.id().to_string())
    }
}

/// Memory that a process has in use, in MiB.
pub fn memory_mib(process: &str) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let kib: f64 = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("VmRSS: in /proc")?
        .parse()
        .context("a number of KiB")?;
    Ok(kib / 1024.0)
}

/// Time that a process (`self` is this one) has computed so far, on all cores together.
pub fn computed(process: &str) -> Result<Duration> {
    /// Of `/proc`, on every Linux of the last twenty years.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name before may hold spaces; what is wanted are the 14th and the 15th field.
    let after = stat.rsplit(')').next().context("the name in stat")?;
    let ticks = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| Ok(field.parse::<f64>()?))
        .sum::<Result<f64>>()?;
    Ok(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
}
