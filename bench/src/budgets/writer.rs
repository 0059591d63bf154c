//! Clients that commit through gRPC, by either of the two ways that the protocol has for it.
//!
//! The SDKs of servers call `Commit`, which is one HTTP/2 stream for each commit; those of browsers and phones keep one
//! `Write` stream and send a message for each. Either way each writer has one commit on its way and waits for it.
//! The writers of a connection are one task that reads and writes frames (`frames`), since they compute on the cores of
//! the server that is measured. Why a commit failed is not told.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use prost::Message as _;
use watchfire_wire::pb;

use crate::frames::{Connection, Heard, STREAM_WINDOW};
use crate::server::DATABASE;

const COMMIT: &str = "/google.firestore.v1.Firestore/Commit";
const WRITE: &str = "/google.firestore.v1.Firestore/Write";

/// Bytes of gRPC before a message: a flag and the length.
const PREFIX: usize = 5;

/// What stands before a write in a `CommitRequest` and in a `WriteRequest`: a field of bytes.
const WRITES_OF_COMMIT: u8 = 2 << 3 | 2;
const WRITES_OF_STREAM: u8 = 3 << 3 | 2;

/// How a writer commits.
#[derive(Copy, Clone, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// A call of `Commit` for each.
    Unary,
    /// A message on a `Write` stream for each.
    Stream,
}

impl By {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unary => "calls of Commit",
            Self::Stream => "Write streams",
        }
    }
}

/// The writers of one connection.
pub struct Writers {
    connection: Connection,
    by: By,
    writers: Vec<Writer>,
    /// Whose each stream is, from `first_stream` on; those before have ended.
    owners: Vec<usize>,
    first_stream: u32,
}

#[derive(Default)]
struct Writer {
    /// Its `Write` stream.
    stream: u32,
    /// Of the newest answer; it goes back with the next message, as the SDKs do it.
    token: Vec<u8>,
    /// Of an answer that is not whole.
    heard: Vec<u8>,
    /// Bytes of answers since the server was last told that there is room for more.
    taken: u32,
    /// Commits that were acknowledged.
    done: usize,
}

impl Writers {
    /// So many, each with its stream if they are to have one.
    pub async fn open(address: &str, count: usize, by: By) -> Result<Self> {
        let mut opened = Self {
            connection: Connection::open(address).await?,
            by,
            writers: Vec::new(),
            owners: Vec::new(),
            first_stream: 1,
        };
        opened.writers.resize_with(count, Writer::default);
        if by == By::Stream {
            let first = pb::WriteRequest {
                database: DATABASE.to_owned(),
                ..Default::default()
            };
            let first = first.encode_to_vec();
            for (at, writer) in opened.writers.iter_mut().enumerate() {
                writer.stream = opened.connection.call(WRITE, &first, false)?;
                opened.owners.push(at);
            }
            let mut answered = Vec::new();
            let mut unanswered = count;
            while unanswered > 0 {
                opened.hear(&mut answered).await?;
                unanswered -= answered.drain(..).count();
            }
        }
        Ok(opened)
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.writers.len()
    }

    /// Commits from all of them until then; how many were acknowledged. `compose` appends the bytes of a `pb::Write`,
    /// given the writer and how many it has done.
    pub async fn commit(
        &mut self,
        until: Instant,
        compose: impl Fn(usize, usize, &mut Vec<u8>),
    ) -> Result<usize> {
        for writer in &mut self.writers {
            writer.done = 0;
        }
        let mut message = Vec::new();
        let mut write = Vec::new();
        let mut ready: Vec<usize> = (0..self.writers.len()).collect();
        let mut answered = Vec::new();
        let mut under_way = 0;
        loop {
            let over = Instant::now() >= until;
            while let Some(at) = ready.pop() {
                if over {
                    continue;
                }
                let writer = self.writers.get_mut(at).context("a writer")?;
                write.clear();
                compose(at, writer.done, &mut write);
                self.send(at, &write, &mut message)?;
                under_way += 1;
            }
            if under_way == 0 {
                break;
            }
            self.hear(&mut answered).await?;
            under_way -= answered.len();
            for at in answered.drain(..) {
                let writer = self.writers.get_mut(at).context("a writer")?;
                writer.done += 1;
                ready.push(at);
            }
        }
        Ok(self.writers.iter().map(|writer| writer.done).sum())
    }

    fn send(&mut self, at: usize, write: &[u8], message: &mut Vec<u8>) -> Result<()> {
        message.clear();
        if !self.connection.has_room(write.len() + DATABASE.len() + 64) {
            bail!("the server's window is full though each writer has one commit on its way");
        }
        match self.by {
            By::Unary => {
                let database = pb::CommitRequest {
                    database: DATABASE.to_owned(),
                    ..Default::default()
                };
                database.encode(message)?;
                message.push(WRITES_OF_COMMIT);
                sized(message, write);
                let stream = self.connection.call(COMMIT, message, true)?;
                self.own(stream, at)
            }
            By::Stream => {
                let writer = self.writers.get_mut(at).context("a writer")?;
                let token = pb::WriteRequest {
                    stream_token: std::mem::take(&mut writer.token),
                    ..Default::default()
                };
                token.encode(message)?;
                message.push(WRITES_OF_STREAM);
                sized(message, write);
                let stream = writer.stream;
                self.connection.send(stream, message, false)
            }
        }
    }

    /// A call is this writer's. Streams are numbered by twos.
    fn own(&mut self, stream: u32, at: usize) -> Result<()> {
        if self.owners.len() >= 1 << 16 {
            // The older half ended long ago: each writer has one call at a time.
            let old = self.owners.len() / 2;
            self.owners.drain(..old);
            self.first_stream += 2 * old as u32;
        }
        self.owners.push(at);
        let next = self.first_stream + 2 * self.owners.len() as u32;
        if stream + 2 != next {
            bail!("expected the stream before {next}, found {stream}");
        }
        Ok(())
    }

    /// Sends what has been gathered, waits for bytes, and adds the writers that were answered.
    async fn hear(&mut self, answered: &mut Vec<usize>) -> Result<()> {
        self.connection.flush().await?;
        self.connection.fill().await?;
        let Self {
            connection,
            by,
            writers,
            owners,
            first_stream,
        } = self;
        let mut room = Vec::new();
        connection.each(|heard| {
            let stream = match heard {
                Heard::Data { stream, .. } | Heard::End { stream } => stream,
            };
            let at = (stream - *first_stream) as usize / 2;
            let at = *owners.get(at).context("a stream of ours")?;
            let writer = writers.get_mut(at).context("a writer")?;
            match (heard, *by) {
                (Heard::Data { bytes, .. }, By::Unary) => writer.heard.extend_from_slice(bytes),
                (Heard::End { .. }, By::Unary) => {
                    if writer.heard.len() <= PREFIX {
                        bail!("a call of {COMMIT} ended without an answer");
                    }
                    writer.heard.clear();
                    answered.push(at);
                }
                (Heard::Data { bytes, .. }, By::Stream) => {
                    writer.taken += bytes.len() as u32;
                    if writer.taken >= STREAM_WINDOW / 2 {
                        room.push((stream, std::mem::take(&mut writer.taken)));
                    }
                    writer.heard.extend_from_slice(bytes);
                    if let Some(message) = whole(&writer.heard) {
                        writer.token = pb::WriteResponse::decode(message)?.stream_token;
                        writer.heard.clear();
                        answered.push(at);
                    }
                }
                (Heard::End { .. }, By::Stream) => bail!("the server ended a Write stream"),
            }
            Ok(())
        })?;
        for (stream, taken) in room {
            self.connection.release(stream, taken);
        }
        Ok(())
    }
}

/// The message in these bytes, when they are all of it.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let (&[_, a, b, c, d], message) = bytes.split_first_chunk::<PREFIX>()?;
    (message.len() >= u32::from_be_bytes([a, b, c, d]) as usize).then_some(message)
}

/// Bytes behind their length, which is written in groups of seven bits.
fn sized(message: &mut Vec<u8>, bytes: &[u8]) {
    let mut len = bytes.len();
    while len >= 0x80 {
        message.push(len as u8 | 0x80);
        len >>= 7;
    }
    message.push(len as u8);
    message.extend_from_slice(bytes);
}
