//! As much of the Redis protocol as publishing and subscribing need.

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A command of plain words.
pub fn command(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    out
}

/// What a subscriber is told.
pub enum Pushed<'a> {
    Subscribed,
    Message(&'a [u8]),
}

/// Hands over every whole message of what is left from before and what was read now, and keeps the rest.
pub fn each(rest: &mut Vec<u8>, read: &[u8], mut hear: impl FnMut(Pushed<'_>)) -> Result<()> {
    let joined;
    let mut bytes = read;
    if !rest.is_empty() {
        rest.extend_from_slice(read);
        joined = std::mem::take(rest);
        bytes = &joined;
    }
    while let Some((pushed, after)) = pushed(bytes)? {
        hear(pushed);
        bytes = after;
    }
    rest.extend_from_slice(bytes);
    Ok(())
}

fn pushed(bytes: &[u8]) -> Result<Option<(Pushed<'_>, &[u8])>> {
    let Some((parts, rest)) = number(bytes, b'*')? else {
        return Ok(None);
    };
    if parts != 3 {
        bail!("expected a message of three parts, found {parts}");
    }
    let Some((kind, rest)) = bulk(rest)? else {
        return Ok(None);
    };
    let Some((_, rest)) = bulk(rest)? else {
        return Ok(None);
    };
    if kind == b"subscribe" {
        return Ok(number(rest, b':')?.map(|(_, rest)| (Pushed::Subscribed, rest)));
    }
    Ok(bulk(rest)?.map(|(text, rest)| (Pushed::Message(text), rest)))
}

fn number(bytes: &[u8], kind: u8) -> Result<Option<(usize, &[u8])>> {
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return Ok(None);
    };
    let (line, rest) = bytes.split_at(end + 1);
    let digits = line
        .strip_prefix(&[kind])
        .and_then(|l| l.strip_suffix(b"\r\n"));
    let digits = digits.with_context(|| {
        format!(
            "expected a line of Redis, found {:?}",
            String::from_utf8_lossy(line)
        )
    })?;
    Ok(Some((std::str::from_utf8(digits)?.parse()?, rest)))
}

fn bulk(bytes: &[u8]) -> Result<Option<(&[u8], &[u8])>> {
    let Some((size, rest)) = number(bytes, b'$')? else {
        return Ok(None);
    };
    let Some((text, rest)) = rest.split_at_checked(size) else {
        return Ok(None);
    };
    Ok(rest.get(2..).map(|rest| (text, rest)))
}

/// A connection that publishes.
pub struct Publisher(TcpStream);

impl Publisher {
    pub async fn open(address: &str) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self(socket))
    }

    /// Publishes, and waits until Redis has said to how many.
    pub async fn publish(&mut self, channel: &str, text: &str) -> Result<()> {
        self.0
            .write_all(&command(&["PUBLISH", channel, text]))
            .await?;
        let mut answer = Vec::new();
        while number(&answer, b':')?.is_none() {
            if self.0.read_buf(&mut answer).await? == 0 {
                bail!("the server closed a connection");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_pieces() {
        let mut bytes = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n".to_vec();
        bytes.extend_from_slice(&command(&["message", "c", "first"]));
        bytes.extend_from_slice(&command(&["message", "c", ""]));
        for size in 1..bytes.len() {
            let (mut rest, mut heard) = (Vec::new(), Vec::new());
            for piece in bytes.chunks(size) {
                each(&mut rest, piece, |pushed| {
                    heard.push(match pushed {
                        Pushed::Subscribed => "subscribed".to_owned(),
                        Pushed::Message(text) => String::from_utf8_lossy(text).into_owned(),
                    });
                })
                .unwrap();
            }
            assert_eq!(heard, ["subscribed", "first", ""]);
            assert!(rest.is_empty());
        }
    }
}
