//! Connections: taking them, bounding them, and dropping those that say nothing.
//!
//! A connection costs a socket and a small task until it speaks; one that has not sent what every client
//! of HTTP/2 begins with within `OPENING_MAX` is dropped. Afterwards the keep-alive of HTTP/2 finds out
//! who is gone.
//!
//! An encrypted one is taken in the same way, and goes on when keys have been exchanged. That happens in tasks of its own,
//! so that nobody waits for another's network, and is bounded in time and number.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long a connection may stay before it has sent `OPENING_LEN` bytes.
pub const OPENING_MAX: Duration = Duration::from_secs(30);

/// Bytes that every HTTP/2 client sends before it waits for anything: the preface, and the head of its
/// first frame. A caller of HTTP/1 that asks less than that is answered, and may then stay as long.
const OPENING_LEN: usize = 24 + 9;

/// Connections open at the same time, when the system allows as many files. Further ones wait in the
/// system's queue until one closes.
pub const CONNECTIONS_MAX: usize = 100_000;

/// Connections that the system may hold until they are taken. When it has no room, a client waits a second
/// before it tries again: the queue must hold a whole crowd that reconnects at once.
const CONNECTIONS_WAITING_MAX: u32 = 4_096;

/// Open files that are kept free for the stores, out of what the system allows.
const FILES_RESERVED: usize = 1_024;

/// Pause after the system could not give a connection, mostly for want of open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection may take to exchange keys.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Connections that exchange keys at the same time. One costs some tens of KiB meanwhile; further ones wait in the
/// system's queue until one is done or its time is over.
const HANDSHAKES_MAX: usize = 1_024;

/// How many connections this process takes: as many as its open files allow, after asking the
/// system for the most that it grants.
pub fn connections_max() -> usize {
    let files = files_max();
    let reserved = FILES_RESERVED.min(files / 2);
    files.saturating_sub(reserved).clamp(1, CONNECTIONS_MAX)
}

#[cfg(unix)]
fn files_max() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limits.maximum,
        maximum: limits.maximum,
    };
    let granted = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limits.maximum,
        Err(_) => limits.current,
    };
    // No limit at all is absent here.
    granted.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    })
}

#[cfg(not(unix))]
fn files_max() -> usize {
    usize::MAX
}

/// Opens the listener. Needs a Tokio runtime.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Else a restart would have to wait until the system has forgotten the connections before it. Elsewhere the
    // option means that two processes may share the address.
    if cfg!(unix) {
        socket.set_reuseaddr(true)?;
    }
    socket.bind(address)?;
    socket.listen(CONNECTIONS_WAITING_MAX)
}

/// Connections as they come. Never ends and never fails: what the system refuses is tried again.
pub fn connections(
    listener: TcpListener,
    connections_max: usize,
) -> impl Stream<Item = io::Result<Connection>> {
    let permits = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
    stream::unfold((listener, permits), |(listener, permits)| async move {
        let permit = permits.clone().acquire_owned().await.ok()?;
        let stream = loop {
            match listener.accept().await {
                Ok((stream, _)) => break stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        // Answers are small and waited for: they must not wait for more to send.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps delaying small packets");
        }
        let connection = Connection::new(Transport::Plain(stream), permit);
        Some((Ok(connection), (listener, permits)))
    })
}

/// The same connections once they are encrypted, in the order in which they are ready; those that do not get so far are
/// dropped. Needs a Tokio runtime.
pub fn encrypted(
    connections: impl Stream<Item = io::Result<Connection>> + Send + 'static,
    acceptor: TlsAcceptor,
) -> impl Stream<Item = io::Result<Connection>> {
    let state = (connections.boxed(), JoinSet::new(), acceptor);
    stream::unfold(
        state,
        |(mut connections, mut handshakes, acceptor)| async move {
            loop {
                tokio::select! {
                    Some(done) = handshakes.join_next() => match done {
                        Ok(Some(connection)) => {
                            return Some((Ok(connection), (connections, handshakes, acceptor)));
                        }
                        Ok(None) => {}
                        Err(error) => tracing::error!(%error, "the task of a connection failed"),
                    },
                    next = connections.next(), if handshakes.len() < HANDSHAKES_MAX => match next? {
                        Ok(connection) => {
                            handshakes.spawn(encrypt(connection, acceptor.clone()));
                        }
                        Err(error) => return Some((Err(error), (connections, handshakes, acceptor))),
                    },
                }
            }
        },
    )
}

/// Exchanges keys; nothing when that fails or takes too long.
async fn encrypt(connection: Connection, acceptor: TlsAcceptor) -> Option<Connection> {
    let Connection {
        transport,
        _permit: permit,
        ..
    } = connection;
    let Transport::Plain(stream) = transport else {
        return None;
    };
    match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(Connection::new(
            Transport::Encrypted(Box::new(stream)),
            permit,
        )),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection was not encrypted");
            None
        }
        Err(_) => {
            tracing::debug!("a connection took too long to exchange keys");
            None
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    /// Runs until `OPENING_LEN` bytes have come; absent afterwards.
    silence: Option<Pin<Box<Sleep>>>,
    /// Bytes that have come while `silence` runs.
    heard: usize,
    /// The writes since the last flush have waited their turn.
    gathered: bool,
    _permit: OwnedSemaphorePermit,
}

/// By what the bytes come and go.
#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// What both can do.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl Transport {
    fn duplex(&mut self) -> Pin<&mut dyn Duplex> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            Self::Encrypted(stream) => Pin::new(stream.as_mut()),
        }
    }
}

impl Connection {
    fn new(transport: Transport, permit: OwnedSemaphorePermit) -> Self {
        Self {
            transport,
            silence: Some(Box::pin(tokio::time::sleep(OPENING_MAX))),
            heard: 0,
            gathered: false,
            _permit: permit,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        match &self.transport {
            Transport::Plain(stream) => stream.connect_info(),
            Transport::Encrypted(stream) => stream.get_ref().0.connect_info(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        match self.transport.duplex().poll_read(cx, buffer) {
            Poll::Ready(read) => {
                if self.silence.is_some() {
                    self.heard += buffer.filled().len() - filled;
                    if self.heard >= OPENING_LEN {
                        self.silence = None;
                    }
                }
                Poll::Ready(read)
            }
            Poll::Pending => match self
                .silence
                .as_mut()
                .map(|silence| silence.as_mut().poll(cx))
            {
                Some(Poll::Ready(())) => Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the connection said nothing, or too little to begin with",
                ))),
                Some(Poll::Pending) | None => Poll::Pending,
            },
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // The first write after a flush lets the tasks run that wait for their turn, and comes back after them: those
        // that answer on the same connection add to it. Else the connection would be written to after each of a
        // hundred streams that hear of one change, since a task runs at once when another one wakes it.
        if !self.gathered {
            self.gathered = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.transport.duplex().poll_write(cx, bytes)
    }

    /// No: the protocol library then copies payloads below 1 KiB into its buffer and sends many in one write. With
    /// vectored writes it does so below 256 bytes only and makes a system call for each larger one, which was most of
    /// what it cost to tell a thousand streams of a change. Encrypted, one write is few records, and one system call.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.gathered = false;
        self.transport.duplex().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.duplex().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection_and_an_opening_saves_it() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = Box::pin(connections(listener, 2));
        for said in [b"".as_slice(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let mut silent = TcpStream::connect(address).await.unwrap();
            let mut first = connections.next().await.unwrap().unwrap();
            silent.write_all(said).await.unwrap();
            let error = first.read_to_end(&mut Vec::new()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }

        let mut talker = TcpStream::connect(address).await.unwrap();
        let mut second = connections.next().await.unwrap().unwrap();
        talker.write_all(&[b'x'; OPENING_LEN]).await.unwrap();
        second.read_exact(&mut [0; OPENING_LEN]).await.unwrap();
        assert!(second.silence.is_none());
    }

    #[test]
    fn some_connections_are_always_allowed() {
        assert!((1..=CONNECTIONS_MAX).contains(&connections_max()));
    }
}
