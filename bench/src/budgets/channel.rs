//! How late listeners of a browser's kind are told, beside those that speak gRPC, and what one costs that hears nothing.
//!
//! A hundred of each listen to a document of their own kind on one server. A writer writes the two by turns, and what is
//! measured is the time from the beginning of a write until a listener has read it. The clients are not alike, as in
//! `rest`: those of gRPC are a library, the others look for the end of a chunk.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use watchfire_wire::pb;
use watchfire_wire::pb::listen_response::ResponseType;

use super::served::{Client, Setting};
use super::{at_most, median};
use crate::server::{DATABASE, Server};

/// Listeners of each kind.
const LISTENERS: usize = 100;

/// Writes of each document.
const WRITES: i64 = 200;

/// How late a browser may be told, of how late one of gRPC is.
const BUDGET: f64 = 1.5;

/// Sessions that hear nothing, and what one may cost with its connection, in KiB.
const IDLE: usize = 1_000;
const IDLE_BUDGET_KIB: f64 = 48.0;

/// How long a listener may take to hear of a write.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of an answer's head, and of what waits until a chunk is whole.
const RECEIVED_MAX: usize = 1 << 20;

const PATH: &str = "/google.firestore.v1.Firestore/Listen/channel?VER=8";

fn name(kind: &str) -> String {
    format!("{DATABASE}/documents/board/{kind}")
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The back channel of one session.
struct Back {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Back {
    /// Opens a session that listens to the document.
    async fn open(server: &Server, document: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(server.address()).await?;
        stream.set_nodelay(true)?;
        let message = format!(
            "{{\"database\":\"{DATABASE}\",\"addTarget\":{{\"targetId\":2,\"documents\":{{\"documents\":[\"{document}\"]}}}}}}"
        );
        let form = format!("count=1&ofs=0&req0___data__={}", percent_encoded(&message));
        let request = format!(
            "POST {PATH}&RID=1&CVER=22 HTTP/1.1\r\nhost: bench\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
            form.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut back = Self {
            stream,
            received: Vec::new(),
        };
        back.until(b"]]]").await?;
        let text = String::from_utf8_lossy(&back.received).into_owned();
        let sid = text
            .split("\"c\",\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .context("a handshake names its session")?;
        back.received.clear();
        let request = format!(
            "GET {PATH}&RID=rpc&SID={sid}&AID=0&CI=0&TYPE=xmlhttp HTTP/1.1\r\nhost: bench\r\n\r\n"
        );
        back.stream.write_all(request.as_bytes()).await?;
        back.until(b"CURRENT").await?;
        Ok(back)
    }

    /// Reads until this has come, and forgets what was before it.
    async fn until(&mut self, text: &[u8]) -> Result<()> {
        loop {
            if let Some(found) = memchr::memmem::find(&self.received, text) {
                if text != b"]]]" {
                    self.received.drain(..found + text.len());
                }
                return Ok(());
            }
            if self.received.len() > RECEIVED_MAX
                || self.stream.read_buf(&mut self.received).await? == 0
            {
                bail!("a channel says something else than was expected, or no more");
            }
        }
    }

    /// Hears every write, and says when.
    async fn hear(mut self, heard: mpsc::Sender<Instant>) -> Result<()> {
        for number in 0..WRITES {
            self.until(format!("\"integerValue\":\"{number}\"").as_bytes())
                .await?;
            heard.send(Instant::now()).await?;
        }
        Ok(())
    }
}

/// One listener of gRPC, which hears every write and says when.
async fn hear(mut client: Client, document: String, heard: mpsc::Sender<Instant>) -> Result<()> {
    let request = pb::ListenRequest {
        database: DATABASE.to_owned(),
        target_change: Some(pb::listen_request::TargetChange::AddTarget(pb::Target {
            target_id: 2,
            target_type: Some(pb::target::TargetType::Documents(
                pb::target::DocumentsTarget {
                    documents: vec![document],
                },
            )),
            ..Default::default()
        })),
        ..Default::default()
    };
    let requests = tokio_stream::iter([request]).chain(tokio_stream::pending());
    let mut answers = client.listen(requests).await?.into_inner();
    let mut expected = 0;
    while expected < WRITES {
        let answer = answers.message().await?.context("a stream goes on")?;
        if let Some(ResponseType::DocumentChange(_)) = answer.response_type {
            heard.send(Instant::now()).await?;
            expected += 1;
        }
    }
    Ok(())
}

async fn write(client: &mut Client, document: &str, number: i64) -> Result<()> {
    let value = pb::Value {
        value_type: Some(pb::value::ValueType::IntegerValue(number)),
    };
    let write = pb::Write {
        operation: Some(pb::write::Operation::Update(pb::Document {
            name: document.to_owned(),
            fields: [("n".to_owned(), value)].into(),
            ..Default::default()
        })),
        ..Default::default()
    };
    client
        .commit(pb::CommitRequest {
            database: DATABASE.to_owned(),
            writes: vec![write],
            ..Default::default()
        })
        .await?;
    Ok(())
}

/// How long until all have heard of a write, of each of them.
async fn told(
    client: &mut Client,
    document: &str,
    number: i64,
    heard: &mut mpsc::Receiver<Instant>,
) -> Result<Vec<Duration>> {
    let begin = Instant::now();
    write(client, document, number).await?;
    let mut taken = Vec::with_capacity(LISTENERS);
    while taken.len() < LISTENERS {
        let at = tokio::time::timeout(PATIENCE, heard.recv()).await?;
        taken.push(at.context("all listen")?.duration_since(begin));
    }
    Ok(taken)
}

pub async fn delivery(setting: &Setting<'_>) -> Result<()> {
    let server = setting.server("channel").await?;
    let mut writer = Client::new(server.connect().await?);
    let (of_grpc, of_channel) = (name("grpc"), name("channel"));
    let (grpc_sender, mut grpc_heard) = mpsc::channel(LISTENERS);
    let (channel_sender, mut channel_heard) = mpsc::channel(LISTENERS);
    let connections = server.connections(setting.connections).await?;
    let mut tasks = Vec::new();
    for connection in connections.iter().cycle().take(LISTENERS) {
        let client = Client::new(connection.clone());
        tasks.push(tokio::spawn(hear(
            client,
            of_grpc.clone(),
            grpc_sender.clone(),
        )));
        let back = Back::open(&server, &of_channel).await?;
        tasks.push(tokio::spawn(back.hear(channel_sender.clone())));
    }
    let (mut grpc, mut channel) = (Vec::new(), Vec::new());
    let (mut grpc_cost, mut channel_cost) = (Duration::ZERO, Duration::ZERO);
    for number in 0..WRITES {
        let before = server.computed()?;
        grpc.extend(told(&mut writer, &of_grpc, number, &mut grpc_heard).await?);
        let between = server.computed()?;
        channel.extend(told(&mut writer, &of_channel, number, &mut channel_heard).await?);
        grpc_cost += between - before;
        channel_cost += server.computed()? - between;
    }
    for task in tasks {
        task.await??;
    }
    let (grpc, channel) = (median(&mut grpc)?, median(&mut channel)?);
    println!(
        "channel: {LISTENERS} listeners are told within {:.2} ms over WebChannel, {:.2} ms over gRPC (median)",
        channel.as_secs_f64() * 1e3,
        grpc.as_secs_f64() * 1e3,
    );
    println!(
        "  of the server's processor a write and its tellings take {:.2} ms over WebChannel, {:.2} ms over gRPC",
        channel_cost.as_secs_f64() * 1e3 / WRITES as f64,
        grpc_cost.as_secs_f64() * 1e3 / WRITES as f64,
    );
    at_most(
        "WebChannel to gRPC",
        channel.as_secs_f64() / grpc.as_secs_f64(),
        BUDGET,
    );
    let before = server.memory_mib()?;
    let mut idle = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        idle.push(Back::open(&server, &of_channel).await?);
    }
    let each = (server.memory_mib()? - before) * 1024.0 / idle.len() as f64;
    println!(
        "channel: {IDLE} sessions that hear nothing take {each:.1} KiB each, with their connections"
    );
    at_most("KiB of an idle session", each, IDLE_BUDGET_KIB);
    Ok(())
}
