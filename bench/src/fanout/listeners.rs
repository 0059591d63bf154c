//! Listeners on one connection: many streams of a server that speaks gRPC, or one subscriber of Redis.
//!
//! One task for each connection, however many streams it carries. It reads as much as there is, counts what is in it,
//! and reports once.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::message::{self, Answer};
use super::receipts::{Receipts, Tally};
use crate::frames::{Connection, Heard, STREAM_WINDOW};

/// The target that every stream has from the start, and the one that may be added.
const FIRST_TARGET: i32 = 2;
const FURTHER_TARGET: i32 = 4;

/// Bytes of gRPC before a message: a flag and the length.
const PREFIX: usize = 5;

/// Bytes that one read of a subscriber takes.
const READ_MAX: usize = 8 << 10;

/// What is wanted of all listeners.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    Listen,
    /// One more target on each stream, of this shared document.
    Further(&'static str),
    /// Close the connection and hand over the tokens.
    End,
}

/// One listener, on a stream of its own.
#[derive(Clone, Default)]
pub struct Listener {
    pub paths: Arc<[String]>,
    /// Where it goes on; empty: from the beginning. Afterwards the newest one.
    pub token: Vec<u8>,
    /// Whether writes are waited for at it.
    pub follows: bool,
    /// The counts of the writers.
    newest: Vec<u64>,
    stream: u32,
    /// Bytes of a message that is not whole yet.
    rest: Vec<u8>,
    /// Bytes read since the server was last told.
    consumed: u32,
}

/// The listeners of one connection.
pub struct Group {
    pub address: String,
    pub index: usize,
    pub listeners: Vec<Listener>,
    pub receipts: Arc<Receipts>,
    pub wishes: watch::Receiver<Wish>,
}

impl Group {
    /// Listens until the end is wished for, and gives back the listeners with their tokens.
    pub async fn listen(mut self) -> Result<Vec<Listener>> {
        let listened = self.streams().await;
        self.ended(listened)
    }

    /// Subscribes until the end is wished for. A group is one listener.
    pub async fn subscribe(mut self) -> Result<Vec<Listener>> {
        let listened = self.channel().await;
        self.ended(listened)
    }

    fn ended(self, listened: Result<()>) -> Result<Vec<Listener>> {
        if let Err(error) = listened {
            self.receipts.fail(format!("{error:#}"));
            return Err(error);
        }
        Ok(self.listeners)
    }

    async fn streams(&mut self) -> Result<()> {
        let mut connection = Connection::open(&self.address).await?;
        let mut tally = Tally::new(self.index);
        let mut opened = 0;
        for listener in &mut self.listeners {
            // Left over from a connection before, if there was one.
            listener.rest.clear();
            listener.consumed = 0;
        }
        // The wish that is being granted, and the listeners that it has been granted to.
        let mut further: Option<(&'static str, usize)> = None;
        loop {
            while let Some(listener) = self.listeners.get_mut(opened) {
                let request = message::listen(FIRST_TARGET, &listener.paths, &listener.token);
                if !connection.has_room(request.len()) {
                    break;
                }
                listener.stream = connection.call(message::LISTEN, &request, false)?;
                opened += 1;
            }
            if let Some((path, granted)) = &mut further {
                while let Some(listener) = self.listeners.get(*granted) {
                    let request = message::listen(FURTHER_TARGET, &[*path], &[]);
                    if !connection.has_room(request.len()) {
                        break;
                    }
                    connection.send(listener.stream, &request, false)?;
                    *granted += 1;
                }
            }
            connection.flush().await?;
            tokio::select! {
                biased;
                filled = connection.fill() => filled?,
                changed = self.wishes.changed() => {
                    changed.context("whoever wishes is there")?;
                    match *self.wishes.borrow_and_update() {
                        Wish::Listen => {}
                        Wish::Further(path) => further = Some((path, 0)),
                        Wish::End => return Ok(()),
                    }
                    continue;
                }
            }
            let now = self.receipts.now();
            let mut stood = 0;
            let listeners = &mut self.listeners;
            let mut released = Vec::new();
            connection.each(|heard| match heard {
                Heard::Data { stream, bytes } => {
                    // Streams are numbered 1, 3, 5 in the order in which they were opened.
                    let listener = listeners.get_mut(stream as usize / 2);
                    let listener = listener.context("a stream that was opened")?;
                    listener.consumed += bytes.len() as u32;
                    if listener.consumed >= STREAM_WINDOW / 2 {
                        released.push((stream, std::mem::take(&mut listener.consumed)));
                    }
                    stood += listener.bytes(bytes, &mut tally)?;
                    Ok(())
                }
                Heard::End { .. } => bail!("the server ended a stream"),
            })?;
            for (stream, bytes) in released {
                connection.release(stream, bytes);
            }
            self.receipts.stand(stood);
            tally.report(&self.receipts, now, |writer| self.reached(writer));
        }
    }

    /// The count of a writer that all who are waited for have.
    fn reached(&self, writer: usize) -> u64 {
        let follow = self.listeners.iter().filter(|listener| listener.follows);
        follow
            .map(|listener| listener.newest(writer))
            .min()
            .unwrap_or(u64::MAX)
    }

    async fn channel(&mut self) -> Result<()> {
        let mut socket = TcpStream::connect(&self.address).await?;
        socket.set_nodelay(true)?;
        let mut tally = Tally::new(self.index);
        let listener = self.listeners.first_mut().context("a subscriber")?;
        for path in &*listener.paths {
            let subscribe = super::redis::command(&["SUBSCRIBE", path]);
            socket.write_all(&subscribe).await?;
        }
        let mut subscribed = 0;
        loop {
            tokio::select! {
                biased;
                readable = socket.readable() => readable?,
                changed = self.wishes.changed() => {
                    changed.context("whoever wishes is there")?;
                    if *self.wishes.borrow_and_update() == Wish::End {
                        return Ok(());
                    }
                    continue;
                }
            }
            let mut stood = 0;
            let mut buffer = [0; READ_MAX];
            let bytes = match socket.try_read(&mut buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(size) => buffer.get(..size).unwrap_or_default(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            };
            let now = self.receipts.now();
            let newest = &mut listener.newest;
            super::redis::each(&mut listener.rest, bytes, |pushed| match pushed {
                super::redis::Pushed::Subscribed => {
                    subscribed += 1;
                    stood += usize::from(subscribed == listener.paths.len());
                }
                super::redis::Pushed::Message(text) => tally.document(text, newest),
            })?;
            self.receipts.stand(stood);
            let reached = |writer| match listener.follows {
                true => listener.newest(writer),
                false => u64::MAX,
            };
            tally.report(&self.receipts, now, reached);
        }
    }
}

impl Listener {
    /// On these documents, from the beginning.
    pub fn on(paths: Arc<[String]>, follows: bool) -> Self {
        Self {
            paths,
            follows,
            ..Self::default()
        }
    }

    fn newest(&self, writer: usize) -> u64 {
        self.newest.get(writer).copied().unwrap_or(0)
    }

    /// Takes bytes of the stream; how many targets have come to stand.
    fn bytes(&mut self, bytes: &[u8], tally: &mut Tally) -> Result<usize> {
        if self.rest.is_empty() {
            let (done, stood) = self.messages(bytes, tally)?;
            self.rest
                .extend_from_slice(bytes.get(done..).unwrap_or_default());
            return Ok(stood);
        }
        let mut joined = std::mem::take(&mut self.rest);
        joined.extend_from_slice(bytes);
        let (done, stood) = self.messages(&joined, tally)?;
        joined.drain(..done);
        self.rest = joined;
        Ok(stood)
    }

    /// How many bytes are whole messages, and how many targets have come to stand in them.
    fn messages(&mut self, bytes: &[u8], tally: &mut Tally) -> Result<(usize, usize)> {
        let (mut done, mut stood) = (0, 0);
        let mut rest = bytes;
        while let Some((&[flag, a, b, c, d], after)) = rest.split_first_chunk::<PREFIX>() {
            let size = u32::from_be_bytes([a, b, c, d]) as usize;
            let Some((message, after)) = after.split_at_checked(size) else {
                break;
            };
            if flag != 0 {
                bail!("expected messages that are not compressed");
            }
            match message::answer(message) {
                Answer::Document => tally.document(message, &mut self.newest),
                Answer::Target { current, token } => {
                    stood += usize::from(current);
                    if !token.is_empty() {
                        self.token.clear();
                        self.token.extend_from_slice(token);
                    }
                }
                Answer::Removed => bail!("the server removed a target"),
                Answer::Other => {}
            }
            rest = after;
            done += PREFIX + size;
        }
        Ok((done, stood))
    }
}
