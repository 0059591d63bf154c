//! As much of HTTP/2 as a load generator needs: it opens streams, answers what must be answered, and reads frames.
//!
//! The generator computes on the same cores as the server, so a frame costs it a look at nine bytes: there are no
//! tasks, locks or queues for each stream, and headers of answers are not decoded. A call that fails shows as a stream
//! that ends without a message; why it failed is not told. It is no client for anything else.

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::DATABASE;

/// Bytes that a server may have on its way to one stream. It is the same for every server that is measured.
pub const STREAM_WINDOW: u32 = 1 << 20;

/// Bytes that a server may have on its way to one connection. It is the same for every server that is measured.
pub const CONNECTION_WINDOW: u32 = 16 << 20;

/// Bytes of one request: it must fit one frame of the size that every server takes.
pub const REQUEST_MAX: usize = 16_000;

/// Bytes that are read at once at most.
const READ_MAX: usize = 128 << 10;

/// A window as HTTP/2 begins with it.
const WINDOW_AT_FIRST: u32 = 65_535;

/// Of a frame, before its payload.
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 0x1;
const ACKNOWLEDGED: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

/// What a frame means to whoever reads.
pub enum Heard<'a> {
    /// Bytes of messages, with their five bytes of gRPC before each.
    Data { stream: u32, bytes: &'a [u8] },
    /// Nothing will come on the stream any more.
    End { stream: u32 },
}

/// One connection.
pub struct Connection {
    socket: TcpStream,
    read: Vec<u8>,
    outgoing: Vec<u8>,
    /// Bytes that may still be sent.
    window: i64,
    /// Bytes of data that have been read since the server was last told.
    consumed: u32,
    next_stream: u32,
    authority: String,
}

impl Connection {
    /// Connects and says which windows there are.
    pub async fn open(address: &str) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut outgoing = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // No pushes, no table of headers, and the stream's window.
        let settings = [(1_u16, 0), (2, 0), (4, STREAM_WINDOW)];
        head(&mut outgoing, settings.len() * 6, SETTINGS, 0, 0);
        for (name, value) in settings {
            outgoing.extend_from_slice(&name.to_be_bytes());
            outgoing.extend_from_slice(&value.to_be_bytes());
        }
        update(&mut outgoing, 0, CONNECTION_WINDOW - WINDOW_AT_FIRST);
        Ok(Self {
            socket,
            read: Vec::with_capacity(READ_MAX),
            outgoing,
            window: i64::from(WINDOW_AT_FIRST),
            consumed: 0,
            next_stream: 1,
            authority: address.to_owned(),
        })
    }

    /// Whether a request of so many bytes may be sent now. If not, reading brings room.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.window >= (bytes + 5) as i64
    }

    /// Begins a call with its first message, and says on which stream. Nothing is sent before `flush`.
    pub fn call(&mut self, path: &str, message: &[u8], ends: bool) -> Result<u32> {
        let stream = self.next_stream;
        self.next_stream += 2;
        // Static entries (POST, http), then literals that no table keeps.
        let mut block = vec![0x83, 0x86];
        literal(&mut block, &[0x04], path);
        literal(&mut block, &[0x01], &self.authority);
        literal(&mut block, &[0x0f, 0x10], "application/grpc");
        literal(&mut block, b"\0\x02te", "trailers");
        literal(&mut block, b"\0\x1cgoogle-cloud-resource-prefix", DATABASE);
        head(
            &mut self.outgoing,
            block.len(),
            HEADERS,
            END_HEADERS,
            stream,
        );
        self.outgoing.extend_from_slice(&block);
        self.send(stream, message, ends)?;
        Ok(stream)
    }

    /// One more message on an open stream. Nothing is sent before `flush`.
    pub fn send(&mut self, stream: u32, message: &[u8], ends: bool) -> Result<()> {
        if message.len() > REQUEST_MAX {
            bail!(
                "expected a request of at most {REQUEST_MAX} bytes, found {}",
                message.len()
            );
        }
        let size = message.len() + 5;
        self.window -= size as i64;
        let flags = if ends { END_STREAM } else { 0 };
        head(&mut self.outgoing, size, DATA, flags, stream);
        self.outgoing.push(0);
        self.outgoing
            .extend_from_slice(&(message.len() as u32).to_be_bytes());
        self.outgoing.extend_from_slice(message);
        Ok(())
    }

    /// Gives a stream back the room of what was read from it.
    pub fn release(&mut self, stream: u32, bytes: u32) {
        update(&mut self.outgoing, stream, bytes);
    }

    /// Sends what has been gathered.
    pub async fn flush(&mut self) -> Result<()> {
        if !self.outgoing.is_empty() {
            self.socket.write_all(&self.outgoing).await?;
            self.outgoing.clear();
        }
        Ok(())
    }

    /// Waits for bytes. It may be given up at any time without losing any.
    pub async fn fill(&mut self) -> Result<()> {
        self.read.reserve(READ_MAX.saturating_sub(self.read.len()));
        if self.socket.read_buf(&mut self.read).await? == 0 {
            bail!("the server closed a connection");
        }
        Ok(())
    }

    /// Hands over every whole frame that was read, and answers the server's own.
    pub fn each(&mut self, mut hear: impl FnMut(Heard<'_>) -> Result<()>) -> Result<()> {
        let mut rest = self.read.as_slice();
        while let Some((&[a, b, c, kind, flags, s0, s1, s2, s3], after)) = rest.split_first_chunk()
        {
            let size = u32::from_be_bytes([0, a, b, c]) as usize;
            let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
            let Some((payload, after)) = after.split_at_checked(size) else {
                break;
            };
            rest = after;
            match kind {
                DATA => {
                    self.consumed += size as u32;
                    let bytes = if flags & PADDED == 0 {
                        payload
                    } else {
                        let (&padding, padded) = payload.split_first().context("padding")?;
                        let end = padded.len().saturating_sub(usize::from(padding));
                        padded.get(..end).context("padding within a frame")?
                    };
                    hear(Heard::Data { stream, bytes })?;
                    if flags & END_STREAM != 0 {
                        hear(Heard::End { stream })?;
                    }
                }
                HEADERS if flags & END_STREAM != 0 => hear(Heard::End { stream })?,
                RESET => {
                    let code = payload.first_chunk().copied().map(u32::from_be_bytes);
                    bail!("the server reset stream {stream} with code {code:?}");
                }
                GO_AWAY => bail!(
                    "the server ends a connection: {:?}",
                    String::from_utf8_lossy(payload)
                ),
                SETTINGS if flags & ACKNOWLEDGED == 0 => {
                    head(&mut self.outgoing, 0, SETTINGS, ACKNOWLEDGED, 0);
                }
                PING if flags & ACKNOWLEDGED == 0 => {
                    head(&mut self.outgoing, size, PING, ACKNOWLEDGED, 0);
                    self.outgoing.extend_from_slice(payload);
                }
                WINDOW_UPDATE if stream == 0 => {
                    let more = payload.first_chunk().copied().map(u32::from_be_bytes);
                    self.window += i64::from(more.context("an update has four bytes")?);
                }
                _ => {}
            }
        }
        let done = self.read.len() - rest.len();
        self.read.drain(..done);
        if self.consumed >= CONNECTION_WINDOW / 2 {
            update(&mut self.outgoing, 0, self.consumed);
            self.consumed = 0;
        }
        Ok(())
    }

    /// One call with one answer, of which only is said that it came. Nothing else may be under way.
    pub async fn unary(&mut self, path: &str, message: &[u8]) -> Result<()> {
        while !self.has_room(message.len()) {
            self.flush().await?;
            self.fill().await?;
            self.each(|_| Ok(()))?;
        }
        let asked = self.call(path, message, true)?;
        self.flush().await?;
        let (mut answered, mut ended) = (false, false);
        while !ended {
            self.fill().await?;
            self.each(|heard| {
                match heard {
                    Heard::Data { stream, bytes } => {
                        answered |= stream == asked && !bytes.is_empty()
                    }
                    Heard::End { stream } => ended |= stream == asked,
                }
                Ok(())
            })?;
            self.flush().await?;
        }
        if !answered {
            bail!("a call of {path} ended without an answer");
        }
        Ok(())
    }
}

fn head(out: &mut Vec<u8>, size: usize, kind: u8, flags: u8, stream: u32) {
    let before = out.len();
    out.reserve(HEAD + size);
    out.extend_from_slice(&(size as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    debug_assert_eq!(out.len() - before, HEAD);
}

fn update(out: &mut Vec<u8>, stream: u32, more: u32) {
    head(out, 4, WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&more.to_be_bytes());
}

/// Values are shorter than 127 bytes, so their length is one byte.
fn literal(block: &mut Vec<u8>, name: &[u8], value: &str) {
    debug_assert!(value.len() < 127);
    block.extend_from_slice(name);
    block.push(value.len() as u8);
    block.extend_from_slice(value.as_bytes());
}
