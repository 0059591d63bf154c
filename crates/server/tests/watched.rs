//! What those who watch the server see of it, through its sockets: the numbers of listeners, and the port that may be
//! set apart for them.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use watchfire_server::assemble::Server;
use watchfire_server::config::Serve;
use watchfire_wire::pb;
use watchfire_wire::pb::listen_response::ResponseType;

use support::{Client, DATABASE, ROOT, commit, from, in_memory, integer, set, start};

/// The whole answer about a page, as it comes.
async fn page(address: SocketAddr, path: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Asks for the numbers until all of these lines are among them: what was sent may be seen before it is counted.
async fn until_counted(address: SocketAddr, lines: &[String]) -> String {
    let mut answer = String::new();
    let asking = async {
        loop {
            answer = page(address, "/metrics").await;
            if lines
                .iter()
                .all(|line| answer.lines().any(|other| other == line))
            {
                return;
            }
        }
    };
    let counted = tokio::time::timeout(Duration::from_secs(20), asking).await;
    assert!(counted.is_ok(), "{lines:?}: {answer}");
    answer
}

/// The lines of one database.
fn lines(numbers: &[(&str, u64)]) -> Vec<String> {
    let line = |(name, number): &(&str, u64)| {
        format!("watchfire_listen_{name}{{database=\"{DATABASE}\"}} {number}")
    };
    numbers.iter().map(line).collect()
}

struct Listener {
    _requests: mpsc::Sender<pb::ListenRequest>,
    answers: Streaming<pb::ListenResponse>,
}

impl Listener {
    async fn begin(client: &mut Client, collection: &str) -> Self {
        let (requests, receiver) = mpsc::channel(8);
        let query = pb::target::QueryTarget {
            parent: ROOT.to_owned(),
            query_type: Some(pb::target::query_target::QueryType::StructuredQuery(from(
                collection,
            ))),
        };
        let target = pb::Target {
            target_id: 1,
            target_type: Some(pb::target::TargetType::Query(query)),
            ..pb::Target::default()
        };
        let request = pb::ListenRequest {
            database: DATABASE.to_owned(),
            target_change: Some(pb::listen_request::TargetChange::AddTarget(target)),
            ..pb::ListenRequest::default()
        };
        requests.send(request).await.unwrap();
        let answers = client.listen(ReceiverStream::new(receiver)).await;
        let mut listener = Self {
            _requests: requests,
            answers: answers.unwrap().into_inner(),
        };
        listener.until_snapshot().await;
        listener
    }

    async fn until_snapshot(&mut self) {
        loop {
            let answer = self.answers.message().await.unwrap().unwrap();
            if let Some(ResponseType::TargetChange(change)) = answer.response_type
                && change.target_ids.is_empty()
                && change.read_time.is_some()
            {
                return;
            }
        }
    }
}

#[tokio::test]
async fn listeners_are_counted() {
    let (server, mut client) = start(in_memory()).await;
    let address = server.address();
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(Listener::begin(&mut client, "c").await);
    }
    let standing = [
        ("streams", 3),
        ("sessions", 1),
        ("sessions_waiting", 0),
        ("targets", 3),
        ("targets_distinct", 1),
        ("streams_opened_total", 3),
        ("changes_matched_total", 0),
    ];
    until_counted(address, &lines(&standing)).await;

    let writes = vec![
        set("c/a", &[("n", integer(1))]),
        set("elsewhere/a", &[("n", integer(1))]),
    ];
    commit(&mut client, writes).await;
    for listener in &mut listeners {
        listener.until_snapshot().await;
    }
    let mut told = lines(&[
        ("changes_read_total", 2),
        ("changes_matched_total", 1),
        // The first results, of sessions of their own, and the commit.
        ("snapshots_told_total", 4),
        ("snapshots_delivered_total", 6),
        ("resets_delivered_total", 0),
        ("slow_readers_total", 0),
    ]);
    told.push(format!(
        "watchfire_listen_results_read_total{{database=\"{DATABASE}\",why=\"first\"}} 1"
    ));
    told.push("watchfire_listen_commit_to_first_send_seconds_count 1".to_owned());
    // Of each listener that it watches, that it is current, and a snapshot; then the document and a snapshot.
    told.push("watchfire_listen_messages_sent_total 15".to_owned());
    let answer = until_counted(address, &told).await;
    for help in [
        "# HELP watchfire_listen_targets_distinct ",
        "# HELP watchfire_listen_commit_to_send_seconds ",
        "# TYPE watchfire_listen_queue_events histogram",
        "# UNIT watchfire_listen_sent_bytes bytes",
    ] {
        assert!(answer.contains(help), "{help}: {answer}");
    }

    drop(listeners);
    let none = [
        ("streams", 0),
        ("sessions", 0),
        ("targets", 0),
        ("targets_distinct", 0),
        ("streams_opened_total", 3),
    ];
    until_counted(address, &lines(&none)).await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn numbers_have_a_port_of_their_own() {
    let (server, _client) = start(Serve {
        admin_listen: Some("127.0.0.1:0".parse().unwrap()),
        ..in_memory()
    })
    .await;
    let admin = server.admin_address().unwrap();
    assert_ne!(admin, server.address());
    let numbers = page(admin, "/metrics").await;
    assert!(numbers.starts_with("HTTP/1.1 200 OK\r\n"), "{numbers}");
    assert!(numbers.contains("watchfire_queries_total"), "{numbers}");
    let elsewhere = page(server.address(), "/metrics").await;
    assert!(!elsewhere.contains("watchfire_queries"), "{elsewhere}");
    for address in [admin, server.address()] {
        let health = page(address, "/health").await;
        assert!(health.ends_with("\r\n\r\n{\"status\":\"ok\"}"), "{health}");
    }
    assert!(
        server
            .greeting()
            .contains(&format!("http://{admin}/metrics"))
    );

    // Data is not to be had there.
    let mut client = Client::connect(format!("http://{admin}")).await.unwrap();
    let request = pb::CommitRequest {
        database: DATABASE.to_owned(),
        ..pb::CommitRequest::default()
    };
    let refused = client.commit(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    server.stop().await.unwrap();
    assert!(tokio::net::TcpStream::connect(admin).await.is_err());
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let started = Server::start(Serve {
        admin_listen: Some(address),
        ..in_memory()
    })
    .await;
    let text = started.err().unwrap().to_string();
    assert_eq!(
        text,
        format!(
            "cannot listen on {address} for /metrics: choose another address with --admin-listen"
        )
    );
}
