//! Encryption through the socket: what is agreed on, when it is refused to start, and how certificates are replaced.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_stream::StreamExt;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use watchfire_server::accept;
use watchfire_server::assemble::Server;
use watchfire_server::config::{Asked, Config, Export, Remote, Serve};
use watchfire_server::tls::{Tls, TlsFiles};
use watchfire_wire::pb::firestore_client::FirestoreClient;

mod support;

use support::{commit, in_memory, integer, set};

/// A folder with a certificate of `localhost` and 127.0.0.1, and its key.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.renew();
        files
    }

    fn certificates(&self) -> PathBuf {
        self.0.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }

    /// Makes new ones.
    fn renew(&self) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        fs::write(self.certificates(), made.cert.pem()).unwrap();
        fs::write(self.key(), made.signing_key.serialize_pem()).unwrap();
    }

    fn serve(&self) -> Serve {
        Serve {
            tls_cert: Some(self.certificates()),
            tls_key: Some(self.key()),
            ..in_memory()
        }
    }
}

async fn start(files: &Files) -> (Server, SocketAddr) {
    let server = Server::start(files.serve()).await.unwrap();
    let address = server.address();
    (server, address)
}

/// A connection of somebody who knows these certificates, and speaks these protocols.
async fn connect(
    address: SocketAddr,
    known: &Path,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(known).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

async fn channel(address: SocketAddr, known: &Path) -> Channel {
    let known = Certificate::from_pem(fs::read(known).unwrap());
    let tls = ClientTlsConfig::new()
        .ca_certificate(known)
        .domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await.unwrap()
}

async fn refusal(serve: Serve) -> String {
    let Err(failure) = Server::start(serve).await.map(|_| ()) else {
        panic!("it has started");
    };
    format!("{:#}", anyhow::Error::from(failure))
}

#[tokio::test]
async fn both_protocols_are_spoken_on_the_same_port() {
    let files = Files::new();
    let (server, address) = start(&files).await;
    for (offered, agreed) in [
        (&[b"h2".as_slice(), b"http/1.1"][..], Some(&b"h2"[..])),
        (&[b"http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let mut connection = connect(address, &files.certificates(), offered)
            .await
            .unwrap();
        assert_eq!(connection.get_ref().1.alpn_protocol(), agreed);
        if agreed == Some(b"h2") {
            continue;
        }
        let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        connection.write_all(request).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("{\"status\":\"ok\"}"), "{answer}");
    }
    let foreign = connect(address, &files.certificates(), &[b"http/1.0"]).await;
    assert!(foreign.is_err());

    let mut client = FirestoreClient::new(channel(address, &files.certificates()).await);
    let large = "x".repeat(900_000);
    commit(
        &mut client,
        vec![set("a/large", &[("text", support::text(&large))])],
    )
    .await;
    commit(&mut client, vec![set("a/small", &[("n", integer(1))])]).await;
    let query = support::run_query(support::from("a"));
    let answers = support::responses(&mut client, query).await.unwrap();
    assert_eq!(support::ids(&answers), ["large", "small"]);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn who_says_nothing_or_nonsense_keeps_nobody_waiting() {
    let files = Files::new();
    let (server, address) = start(&files).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    connect(address, &files.certificates(), &[b"h2"])
        .await
        .unwrap();
    server.stop().await.unwrap();
}

/// The clock is moved on as long as nothing else is to do.
#[tokio::test(start_paused = true)]
async fn who_exchanges_no_keys_is_dropped_in_time() {
    let files = Files::new();
    let tls = Tls::read(TlsFiles {
        certificates: files.certificates(),
        key: files.key(),
    });
    let listener = accept::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let connections = accept::connections(listener, 2);
    let connections = accept::encrypted(connections, tls.unwrap().acceptor().unwrap());
    let mut connections = pin!(connections);
    let mut silent = TcpStream::connect(address).await.unwrap();
    let began = tokio::time::Instant::now();
    tokio::select! {
        _ = connections.next() => panic!("nothing was encrypted"),
        read = silent.read_u8() => assert!(read.is_err()),
    }
    assert!(began.elapsed() >= accept::HANDSHAKE_MAX);
}

/// By the signal: the time between two looks is not waited for in tests.
#[cfg(unix)]
#[tokio::test]
async fn a_new_certificate_is_shown_without_a_restart_and_a_bad_one_is_not() {
    let files = Files::new();
    let (server, address) = start(&files).await;
    let first = files.0.path().join("first.pem");
    fs::copy(files.certificates(), &first).unwrap();
    let open = connect(address, &first, &[b"h2"]).await.unwrap();

    // The key of somebody else.
    let others = Files::new();
    fs::copy(others.certificates(), files.certificates()).unwrap();
    hang_up();
    for _ in 0..20 {
        connect(address, &first, &[b"h2"]).await.unwrap();
    }
    fs::copy(others.key(), files.key()).unwrap();
    hang_up();
    // The server looks in a thread of its own. Each attempt is a network round trip; the bound is far beyond what it takes.
    let mut attempts = 0;
    while let Err(error) = connect(address, &others.certificates(), &[b"h2"]).await {
        attempts += 1;
        assert!(attempts < 100_000, "{error}");
    }
    assert!(connect(address, &first, &[b"h2"]).await.is_err());
    assert_eq!(open.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    server.stop().await.unwrap();
}

#[cfg(unix)]
fn hang_up() {
    let me = rustix::process::getpid();
    rustix::process::kill_process(me, rustix::process::Signal::HUP).unwrap();
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let files = Files::new();
    let others = Files::new();
    let mixed = Serve {
        tls_key: Some(others.key()),
        ..files.serve()
    };
    let text = refusal(mixed).await;
    for file in [files.certificates(), others.key()] {
        assert!(text.contains(&file.display().to_string()), "{text}");
    }
    let missing = Serve {
        tls_cert: Some(PathBuf::from("/nowhere/cert.pem")),
        ..files.serve()
    };
    let text = refusal(missing).await;
    assert!(
        text.contains("cannot read the certificates of /nowhere/cert.pem"),
        "{text}"
    );
    let swapped = Serve {
        tls_cert: Some(files.key()),
        tls_key: Some(files.certificates()),
        ..in_memory()
    };
    let text = refusal(swapped).await;
    assert!(text.contains("key.pem holds no certificate"), "{text}");
    let half = Serve {
        tls_key: None,
        ..files.serve()
    };
    assert!(
        refusal(half)
            .await
            .contains("--tls-cert and --tls-key belong together")
    );
}

#[tokio::test]
async fn plaintext_leaves_this_machine_only_when_that_is_said() {
    let everywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let text = refusal(Serve {
        listen: everywhere,
        ..in_memory()
    })
    .await;
    for way in [
        "--listen 0.0.0.0:0",
        "--tls-cert FILE",
        "--listen 127.0.0.1:0",
        "--allow-plaintext",
    ] {
        assert!(text.contains(way), "{text}");
    }
    let files = Files::new();
    let text = refusal(Serve {
        admin_listen: Some(everywhere),
        ..files.serve()
    })
    .await;
    assert!(text.contains("--admin-listen 0.0.0.0:0"), "{text}");
}

#[tokio::test]
async fn commands_reach_a_server_that_encrypts() {
    let files = Files::new();
    let (server, address) = start(&files).await;
    let mut client = FirestoreClient::new(channel(address, &files.certificates()).await);
    commit(&mut client, vec![set("a/b", &[("n", integer(1))])]).await;
    let folder = tempfile::tempdir().unwrap();
    let export = |ca: Option<PathBuf>, name: &str| Export {
        directory: folder.path().join(name),
        remote: Remote {
            asked: Asked {
                server: format!("https://localhost:{}", address.port()),
                tls_ca: ca,
            },
            project: Some("p".to_owned()),
            database: "(default)".to_owned(),
        },
        collections: Vec::new(),
        read_time: None,
    };
    let mut out = Vec::new();
    let mut progress = watchfire_server::client::exchange::progress::Progress::new(Vec::new());
    let clock = watchfire_server::assemble::SystemClock;
    let run = watchfire_server::client::exchange::export::run;
    run(
        export(Some(files.certificates()), "known"),
        &clock,
        &mut out,
        &mut progress,
    )
    .await
    .unwrap();
    assert!(
        String::from_utf8(out)
            .unwrap()
            .starts_with("Exported 1 documents")
    );
    let unknown = run(
        export(None, "unknown"),
        &clock,
        &mut Vec::new(),
        &mut progress,
    )
    .await;
    assert!(unknown.is_err());
    server.stop().await.unwrap();
}

#[test]
fn the_two_files_are_named_together() {
    use clap::Parser;
    assert!(Config::try_parse_from(["watchfire", "--tls-cert", "a"]).is_err());
    assert!(Config::try_parse_from(["watchfire", "--tls-key", "a"]).is_err());
    let both = ["watchfire", "--tls-cert", "a", "--tls-key", "b"];
    assert!(Config::try_parse_from(both).is_ok());
}
