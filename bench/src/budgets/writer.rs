//! A client that commits through gRPC, by either of the two ways that the protocol has for it.
//!
//! The SDKs of servers call `Commit`, which is one HTTP/2 stream for each commit; those of browsers and phones keep one
//! `Write` stream and send a message for each. Either way a writer here has one commit on its way and waits for it.

use anyhow::{Context, Result};
use clap::ValueEnum;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use watchfire_wire::pb;

use super::served::Client;
use crate::server::DATABASE;

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

/// One client with one commit on its way at a time.
pub enum Writer {
    Unary(Client),
    Stream(WriteStream),
}

/// An open `Write` stream.
pub struct WriteStream {
    requests: mpsc::Sender<pb::WriteRequest>,
    answers: Streaming<pb::WriteResponse>,
    /// Of the newest answer; it goes back with the next message, as the SDKs do it.
    token: Vec<u8>,
}

impl Writer {
    /// Opens the stream, if it is to have one.
    pub async fn open(mut client: Client, by: By) -> Result<Self> {
        if by == By::Unary {
            return Ok(Self::Unary(client));
        }
        let (requests, sent) = mpsc::channel(1);
        let first = pb::WriteRequest {
            database: DATABASE.to_owned(),
            ..Default::default()
        };
        requests.send(first).await?;
        let answers = client.write(ReceiverStream::new(sent)).await?.into_inner();
        let mut stream = WriteStream {
            requests,
            answers,
            token: Vec::new(),
        };
        stream.answer().await?;
        Ok(Self::Stream(stream))
    }

    /// Returns when the commit is acknowledged.
    pub async fn commit(&mut self, writes: Vec<pb::Write>) -> Result<()> {
        match self {
            Self::Unary(client) => {
                let request = pb::CommitRequest {
                    database: DATABASE.to_owned(),
                    writes,
                    ..Default::default()
                };
                client.commit(request).await?;
            }
            Self::Stream(stream) => {
                let request = pb::WriteRequest {
                    writes,
                    stream_token: std::mem::take(&mut stream.token),
                    ..Default::default()
                };
                stream.requests.send(request).await?;
                stream.answer().await?;
            }
        }
        Ok(())
    }
}

impl WriteStream {
    async fn answer(&mut self) -> Result<()> {
        let answer = self.answers.message().await?;
        self.token = answer.context("the stream goes on")?.stream_token;
        Ok(())
    }
}
