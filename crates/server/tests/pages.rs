//! Web pages and the server, through the socket: whose requests are answered, and that those of others do nothing.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use watchfire_server::config::Serve;

mod support;

use support::{commit, in_memory, integer, set, start};

/// The whole answer, as text.
async fn ask(address: SocketAddr, head: &str, headers: &[(&str, &str)]) -> String {
    let mut request = format!("{head} HTTP/1.1\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn pages_of_this_machine_may_ask_and_strange_ones_may_not() {
    let (server, mut client) = start(in_memory()).await;
    let address = server.address();
    let host = address.to_string();
    let allowed = ["http://localhost:5173".to_owned(), format!("http://{host}")];
    for origin in &allowed {
        let headers = [("host", host.as_str()), ("origin", origin)];
        let answer = ask(address, "GET /health", &headers).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let told = format!("access-control-allow-origin: {origin}\r\n");
        assert!(answer.contains(&told), "{answer}");
        let first = [&headers[..], &[("access-control-request-method", "POST")]].concat();
        let answer = ask(address, "OPTIONS /v1/projects/p", &first).await;
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    }
    for origin in [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
    ] {
        let headers = [("host", host.as_str()), ("origin", origin)];
        let answer = ask(address, "GET /health", &headers).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(
            answer.contains(&format!("--allow-origin {origin}")),
            "{answer}"
        );
        assert!(
            answer.contains("\"status\":\"PERMISSION_DENIED\""),
            "{answer}"
        );
        assert!(!answer.contains("access-control-allow-origin"), "{answer}");
    }
    // Who is no page is not asked.
    commit(&mut client, vec![set("a/b", &[("n", integer(1))])]).await;
    let answer = ask(address, "GET /health", &[("host", &host)]).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn named_pages_may_ask_and_then_no_others() {
    let serve = Serve {
        allow_origins: vec!["https://app.example".parse().unwrap()],
        ..in_memory()
    };
    let (server, _client) = start(serve).await;
    let address = server.address();
    for (origin, status) in [
        ("https://app.example", "200"),
        ("http://localhost:5173", "403"),
        ("http://app.example", "403"),
    ] {
        let answer = ask(address, "GET /health", &[("host", "x"), ("origin", origin)]).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
    server.stop().await.unwrap();
}
