//! The load generator: starts the built server and measures it over real gRPC.
//!
//! Run by hand (`cargo xtask bench`); client and server share the machine, so read figures as ratios
//! within one run. Nothing here is a test. With `budgets` it measures each thing that has a budget, with a server or
//! without one.

mod budgets;
mod fanout;
mod frames;
mod server;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use watchfire_wire::pb;
use watchfire_wire::pb::firestore_client::FirestoreClient;

use crate::server::{DATABASE, Server};

/// The server's allocator, so that what is measured in this process is compared with the same.
#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures start-up, memory at rest, durable commits and notification latency.
#[derive(Parser)]
#[command(subcommand_negates_reqs = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The server binary.
    #[arg(long, env = "WATCHFIRE_BIN", required = true)]
    server: Option<PathBuf>,
    /// Seconds of each commit measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Writes of each notification measurement.
    #[arg(long, default_value_t = 200)]
    writes: usize,
}

#[derive(Subcommand)]
enum Command {
    /// What queries, writes and builds of indexes cost, each against its budget.
    Budgets(budgets::Arguments),
    /// Documents to very many listeners, beside other servers.
    Fanout(fanout::Arguments),
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Budgets(arguments)) => return budgets::run(arguments).await,
        Some(Command::Fanout(arguments)) => return fanout::run(arguments).await,
        None => {}
    }
    let binary = arguments.server.clone().context("a server is named")?;
    let size = std::fs::metadata(&binary)?.len();
    println!("binary: {:.1} MB", size as f64 / 1e6);

    let data = std::env::temp_dir().join(format!("watchfire-bench-{}", std::process::id()));
    let measured = measure(&arguments, &binary, &data).await;
    std::fs::remove_dir_all(&data).ok();
    measured
}

async fn measure(arguments: &Arguments, binary: &Path, data: &Path) -> Result<()> {
    let server = Server::start(binary, data).await?;
    let channel = server.connect().await?;
    println!("start to first answer: {:.1?}", server.started);
    println!("memory at rest: {:.1} MiB", server.memory_mib()?);

    for writers in [1, 16, 64] {
        commits(&channel, writers, Duration::from_secs(arguments.seconds)).await?;
    }
    for readers in [1, 64] {
        point_reads(&channel, readers, Duration::from_secs(arguments.seconds)).await?;
    }
    for listeners in [1, 100, 1_000] {
        notifications(arguments, &server, &channel, listeners).await?;
    }
    println!("memory at the end: {:.1} MiB", server.memory_mib()?);
    Ok(())
}

fn write(path: &str, number: i64) -> pb::Write {
    pb::Write {
        operation: Some(pb::write::Operation::Update(pb::Document {
            name: format!("{DATABASE}/documents/{path}"),
            fields: [
                ("n".to_owned(), integer(number)),
                (
                    "text".to_owned(),
                    text("a small document, as chats have them"),
                ),
            ]
            .into(),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn integer(number: i64) -> pb::Value {
    pb::Value {
        value_type: Some(pb::value::ValueType::IntegerValue(number)),
    }
}

fn text(text: &str) -> pb::Value {
    pb::Value {
        value_type: Some(pb::value::ValueType::StringValue(text.to_owned())),
    }
}

/// Durable commits of one document each, every writer waiting for its own.
async fn commits(channel: &Channel, writers: usize, length: Duration) -> Result<()> {
    let end = Instant::now() + length;
    let mut tasks = Vec::new();
    for writer in 0..writers {
        let mut client = FirestoreClient::new(channel.clone());
        tasks.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            let mut number = 0;
            while Instant::now() < end {
                let begin = Instant::now();
                client
                    .commit(pb::CommitRequest {
                        database: DATABASE.to_owned(),
                        writes: vec![write(&format!("commits/w{writer}-{number}"), number)],
                        ..Default::default()
                    })
                    .await?;
                taken.push(begin.elapsed());
                number += 1;
            }
            anyhow::Ok(taken)
        }));
    }
    let mut taken = Vec::new();
    for task in tasks {
        taken.extend(task.await??);
    }
    report(&format!("commits, {writers} writers"), &mut taken, length);
    Ok(())
}

async fn point_reads(channel: &Channel, readers: usize, length: Duration) -> Result<()> {
    let end = Instant::now() + length;
    let mut tasks = Vec::new();
    for _ in 0..readers {
        let mut client = FirestoreClient::new(channel.clone());
        tasks.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            while Instant::now() < end {
                let begin = Instant::now();
                client
                    .get_document(pb::GetDocumentRequest {
                        name: format!("{DATABASE}/documents/commits/w0-0"),
                        ..Default::default()
                    })
                    .await?;
                taken.push(begin.elapsed());
            }
            anyhow::Ok(taken)
        }));
    }
    let mut taken = Vec::new();
    for task in tasks {
        taken.extend(task.await??);
    }
    report(
        &format!("point reads, {readers} readers"),
        &mut taken,
        length,
    );
    Ok(())
}

/// From sending a commit to each listener's snapshot mark that holds it.
async fn notifications(
    arguments: &Arguments,
    server: &Server,
    channel: &Channel,
    listeners: usize,
) -> Result<()> {
    let path = format!("watched/by{listeners}");
    let mut writer = FirestoreClient::new(channel.clone());
    commit(&mut writer, &path, -1).await?;
    let (seen, mut arrivals) = mpsc::channel::<(i64, Instant)>(100_000);
    let mut tasks = Vec::new();
    for listener in 0..listeners {
        // A connection carries at most a hundred streams or so: spread them.
        let channel = if listener % 50 == 0 || tasks.is_empty() {
            server.connect().await?
        } else {
            channel_of(&tasks)
        };
        let kept = channel.clone();
        let path = path.clone();
        let seen = seen.clone();
        let task = tokio::spawn(async move { listen(channel, path, seen).await });
        tasks.push((kept, task));
    }
    drop(seen);
    // Every listener reports the first state (-1) before the writes begin.
    for _ in 0..listeners {
        arrivals.recv().await.context("a listener ended early")?;
    }
    let mut taken = Vec::new();
    let start = Instant::now();
    for number in 0..arguments.writes {
        let begin = Instant::now();
        commit(&mut writer, &path, number as i64).await?;
        for _ in 0..listeners {
            let (got, at) = arrivals.recv().await.context("a listener ended early")?;
            if got != number as i64 {
                bail!("expected {number}, a listener saw {got}");
            }
            taken.push(at - begin);
        }
    }
    report(
        &format!("notifications, {listeners} listeners"),
        &mut taken,
        start.elapsed(),
    );
    for (_, task) in tasks {
        task.abort();
    }
    Ok(())
}

fn channel_of(tasks: &[(Channel, tokio::task::JoinHandle<Result<()>>)]) -> Channel {
    tasks.last().expect("there is a task before").0.clone()
}

async fn commit(client: &mut FirestoreClient<Channel>, path: &str, number: i64) -> Result<()> {
    client
        .commit(pb::CommitRequest {
            database: DATABASE.to_owned(),
            writes: vec![write(path, number)],
            ..Default::default()
        })
        .await?;
    Ok(())
}

async fn listen(channel: Channel, path: String, seen: mpsc::Sender<(i64, Instant)>) -> Result<()> {
    let (requests, stream) = mpsc::channel(4);
    requests
        .send(pb::ListenRequest {
            database: DATABASE.to_owned(),
            target_change: Some(pb::listen_request::TargetChange::AddTarget(pb::Target {
                target_id: 2,
                target_type: Some(pb::target::TargetType::Documents(
                    pb::target::DocumentsTarget {
                        documents: vec![format!("{DATABASE}/documents/{path}")],
                    },
                )),
                ..Default::default()
            })),
            ..Default::default()
        })
        .await?;
    let mut answers = FirestoreClient::new(channel)
        .listen(ReceiverStream::new(stream))
        .await?
        .into_inner();
    let mut newest = None;
    while let Some(answer) = answers.message().await? {
        match answer.response_type {
            Some(pb::listen_response::ResponseType::DocumentChange(change)) => {
                newest = change
                    .document
                    .and_then(|document| document.fields.get("n").cloned())
                    .and_then(|value| match value.value_type {
                        Some(pb::value::ValueType::IntegerValue(number)) => Some(number),
                        _ => None,
                    });
            }
            Some(pb::listen_response::ResponseType::TargetChange(change))
                if change.target_ids.is_empty() && change.read_time.is_some() =>
            {
                if let Some(number) = newest.take() {
                    seen.send((number, Instant::now())).await?;
                }
            }
            _ => {}
        }
    }
    drop(requests);
    Ok(())
}

fn report(name: &str, taken: &mut [Duration], length: Duration) {
    taken.sort_unstable();
    let at = |share: f64| {
        let index = ((taken.len() as f64 * share) as usize).min(taken.len().saturating_sub(1));
        taken.get(index).copied().unwrap_or_default()
    };
    println!(
        "{name}: {:.0}/s, p50 {:.2?}, p99 {:.2?}",
        taken.len() as f64 / length.as_secs_f64(),
        at(0.5),
        at(0.99)
    );
}
