//! Reads of one document over plain HTTP with JSON, beside the same reads over gRPC.
//!
//! The turns of both take place one after the other on one server, by as many clients. The clients are not alike: one
//! is a library, the other is a loop that writes and reads bytes, and both have the machine together with the server. So what
//! the server itself needs for a read is told too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use watchfire_wire::{encode_fields, pb};

use super::served::{Client, Setting};
use super::{at_least, data, middle};
use crate::server::{DATABASE, Server};

/// Clients that read at the same time, each waiting for its own.
const CLIENTS: usize = 64;

/// Turns of each side.
const TURNS: usize = 9;

/// Into how many turns the length of a measurement is divided.
const TURNS_OF_LENGTH: u32 = 5;

/// Documents that are read.
const DOCUMENTS: usize = 512;

/// What a read over plain HTTP must reach of one over gRPC.
const BUDGET: f64 = 0.70;

/// Bytes of an answer's head; ours have a few lines.
const HEAD_LEN_MAX: usize = 4_096;

fn name(number: usize) -> String {
    format!("{DATABASE}/documents/read/d{:03}", number % DOCUMENTS)
}

/// One client over plain HTTP, which keeps its connection.
struct Plain {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Plain {
    async fn connect(server: &Server) -> Result<Self> {
        let stream = TcpStream::connect(server.address()).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
        })
    }

    /// Reads the document with this request, and says how long its text is.
    async fn read(&mut self, request: &[u8]) -> Result<usize> {
        self.stream.write_all(request).await?;
        self.received.clear();
        loop {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                bail!("the server has closed a connection");
            }
            let Some(head) = memchr::memmem::find(&self.received, b"\r\n\r\n") else {
                if self.received.len() > HEAD_LEN_MAX {
                    bail!("the head of an answer does not end");
                }
                continue;
            };
            let (head, rest) = self.received.split_at(head);
            let head = std::str::from_utf8(head)?.to_ascii_lowercase();
            if !head.starts_with("http/1.1 200") {
                bail!("a read was answered {head}");
            }
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .context("an answer says its length")?
                .parse()?;
            if rest.len() >= length + 4 {
                return Ok(length);
            }
        }
    }
}

fn request(number: usize) -> Vec<u8> {
    format!("GET /v1/{} HTTP/1.1\r\nhost: bench\r\n\r\n", name(number)).into_bytes()
}

/// Reads of all clients until the time is over: how many a second.
async fn over_grpc(clients: &[Client], length: Duration) -> Result<(usize, f64)> {
    let start = Instant::now();
    let mut tasks = Vec::with_capacity(clients.len());
    for (number, client) in clients.iter().enumerate() {
        let mut client = client.clone();
        tasks.push(tokio::spawn(async move {
            let mut done = 0;
            while start.elapsed() < length {
                let request = pb::GetDocumentRequest {
                    name: name(number * DOCUMENTS / CLIENTS + done),
                    ..Default::default()
                };
                client.get_document(request).await?;
                done += 1;
            }
            anyhow::Ok(done)
        }));
    }
    let mut count = 0;
    for task in tasks {
        count += task.await??;
    }
    Ok((count, count as f64 / start.elapsed().as_secs_f64()))
}

/// The same over plain HTTP.
async fn over_http(
    clients: &mut Vec<Plain>,
    requests: &Arc<Vec<Vec<u8>>>,
    length: Duration,
) -> Result<(usize, f64)> {
    let start = Instant::now();
    let mut tasks = Vec::with_capacity(clients.len());
    for (number, mut client) in clients.drain(..).enumerate() {
        let requests = Arc::clone(requests);
        tasks.push(tokio::spawn(async move {
            let mut done = 0;
            let mut all = requests.iter().cycle().skip(number * DOCUMENTS / CLIENTS);
            while start.elapsed() < length {
                client
                    .read(all.next().context("there are requests")?)
                    .await?;
                done += 1;
            }
            anyhow::Ok((client, done))
        }));
    }
    let mut count = 0;
    for task in tasks {
        let (client, done) = task.await??;
        clients.push(client);
        count += done;
    }
    Ok((count, count as f64 / start.elapsed().as_secs_f64()))
}

pub async fn reads(setting: &Setting<'_>) -> Result<()> {
    let server = setting.server("rest").await?;
    let mut first = Client::new(server.connect().await?);
    let writes = (0..DOCUMENTS).map(|number| pb::Write {
        operation: Some(pb::write::Operation::Update(pb::Document {
            name: name(number),
            fields: encode_fields(&data::fields(number)),
            ..Default::default()
        })),
        ..Default::default()
    });
    first
        .commit(pb::CommitRequest {
            database: DATABASE.to_owned(),
            writes: writes.collect(),
            ..Default::default()
        })
        .await?;
    let grpc = setting.clients(&server).await?;
    let mut plain = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        plain.push(Plain::connect(&server).await?);
    }
    let requests = Arc::new((0..DOCUMENTS).map(request).collect::<Vec<_>>());
    let text_len = match plain.first_mut() {
        Some(client) => client.read(&request(0)).await?,
        None => 0,
    };
    let length = setting.length / TURNS_OF_LENGTH;
    let (mut of_grpc, mut of_plain, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut grpc_cost, mut plain_cost) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let before = server.computed()?;
        let (count, rate) = over_grpc(&grpc, length).await?;
        let between = server.computed()?;
        let (plain_count, plain_rate) = over_http(&mut plain, &requests, length).await?;
        let after = server.computed()?;
        of_grpc.push(rate);
        of_plain.push(plain_rate);
        ratios.push(plain_rate / rate);
        grpc_cost.push((between - before).as_secs_f64() * 1e6 / count as f64);
        plain_cost.push((after - between).as_secs_f64() * 1e6 / plain_count as f64);
    }
    println!(
        "rest: {:.0} reads/s over plain HTTP, {:.0}/s over gRPC, {CLIENTS} clients each; a text of {text_len} bytes",
        middle(&mut of_plain)?,
        middle(&mut of_grpc)?,
    );
    println!(
        "  of the server's processor a read takes {:.1} µs over plain HTTP, {:.1} µs over gRPC",
        middle(&mut plain_cost)?,
        middle(&mut grpc_cost)?,
    );
    at_least("plain HTTP to gRPC", middle(&mut ratios)?, BUDGET);
    Ok(())
}
