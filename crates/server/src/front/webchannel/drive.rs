//! The service behind a session: messages of the client in, texts for it out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::{BoxStream, Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use watchfire_model::watch::WatchEvent;
use watchfire_model::{Clock, DatabaseName};
use watchfire_wire::json::{self, Style};
use watchfire_wire::{encode_watch_event, pb};

use super::form::Map;
use super::framing;
use crate::databases::Databases;
use crate::error::Error;
use crate::front::grpc::{encode_write_answer, write_messages};
use crate::front::listen::listen_command;
use crate::metrics::listen::StreamSent;
use crate::service::listen::{self, Heard, Listening};
use crate::service::write_stream::{self, WriteAnswer};
use crate::status::code_name;

/// What a session is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Method {
    Listen,
    Write,
}

impl Method {
    /// The method whose channel is at this path.
    pub fn at(path: &str) -> Option<Self> {
        match path {
            "/google.firestore.v1.Firestore/Listen/channel" => Some(Method::Listen),
            "/google.firestore.v1.Firestore/Write/channel" => Some(Method::Write),
            _ => None,
        }
    }
}

/// What the service has said.
pub enum Said {
    /// JSON of messages in ASCII, in order.
    Messages(Vec<Bytes>),
    /// Nothing more, after this text if there is one.
    End(Option<Bytes>),
}

/// A stream of a service that is under way.
pub enum Drive {
    Listen {
        listening: Box<Listening>,
        clock: Arc<dyn Clock>,
        sent: StreamSent,
    },
    Write(BoxStream<'static, Result<WriteAnswer, Error>>),
    /// It may not begin, and says why.
    Refused(Option<Error>),
    Ended,
}

impl Drive {
    /// A stream that says this and ends.
    pub fn refused(error: Error) -> Self {
        Drive::Refused(Some(error))
    }

    /// Begins the method's stream. Its requests are what the client sends.
    pub fn begin(
        method: Method,
        databases: &Arc<Databases>,
        shutdown: CancellationToken,
        maps: impl Stream<Item = Map> + Send + Unpin + 'static,
    ) -> Self {
        let databases = Arc::clone(databases);
        match method {
            Method::Listen => {
                let commands = maps.map(|map| listen_command(decode_command(&map)?));
                Drive::Listen {
                    clock: Arc::clone(databases.clock()),
                    sent: databases.metrics().listen().begin(),
                    listening: Box::new(listen::serve(databases, shutdown, commands)),
                }
            }
            Method::Write => {
                let messages = write_messages(maps.map(|map| decode(&map)));
                Drive::Write(write_stream::serve(databases, shutdown, messages).boxed())
            }
        }
    }

    /// What the service says next. Carries out what the client has asked for.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Said> {
        let said = match self {
            Drive::Ended => Poll::Ready(Said::End(None)),
            Drive::Refused(error) => Poll::Ready(Said::End(error.take().map(error_text))),
            Drive::Listen {
                listening,
                clock,
                sent,
            } => Pin::new(listening).poll_next(cx).map(|heard| match heard {
                Some(Ok(heard)) => Said::Messages(texts(&heard, clock.as_ref(), sent)),
                Some(Err(error)) => Said::End(Some(error_text(error))),
                None => Said::End(None),
            }),
            Drive::Write(answers) => answers.poll_next_unpin(cx).map(|answer| match answer {
                Some(Ok(answer)) => Said::Messages(vec![text(&encode_write_answer(answer)).into()]),
                Some(Err(error)) => Said::End(Some(error_text(error))),
                None => Said::End(None),
            }),
        };
        if let Poll::Ready(Said::End(_)) = said {
            *self = Drive::Ended;
        }
        said
    }
}

/// The same for `Listen`. A page that has cut a text in the middle of a character asks for half of it, which JSON can say
/// and no document can hold: such a half is taken for the sign that stands for what is no character, so that the other
/// targets of the stream go on.
fn decode_command(map: &Map) -> Result<pb::ListenRequest, Error> {
    decode(map).or_else(|error| match map {
        Map::Text(text) => match whole_characters(text) {
            Some(text) => decode(&Map::Text(text.into())),
            None => Err(error),
        },
        Map::TooLarge => Err(error),
    })
}

/// A text of JSON in which each escape that is half of a character has become `\ufffd`; `None` when there is none.
fn whole_characters(text: &[u8]) -> Option<Vec<u8>> {
    let unit = |at: usize| {
        let escape = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(escape).ok()?, 16).ok()
    };
    let mut whole = Vec::with_capacity(text.len());
    let (mut at, mut mended) = (0, false);
    while let Some(byte) = text.get(at) {
        let taken = match (unit(at), unit(at + 6)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(0xd800..0xe000), _) => {
                whole.extend_from_slice(b"\\ufffd");
                mended = true;
                at += 6;
                continue;
            }
            // Whatever is escaped is no beginning of an escape.
            _ if *byte == b'\\' => 2,
            _ => 1,
        };
        whole.extend_from_slice(text.get(at..at + taken).unwrap_or_default());
        at += taken;
    }
    mended.then_some(whole)
}

/// The message of a map.
fn decode<M: json::Message>(map: &Map) -> Result<M, Error> {
    match map {
        Map::Text(text) => {
            json::decode(text).map_err(|refusal| Error::invalid(refusal.to_string()))
        }
        Map::TooLarge => Err(Error::invalid(format!(
            "Request payload size exceeds the limit: {} bytes.",
            super::form::MAP_SIZE_MAX
        ))),
    }
}

fn text<M: json::Message>(message: &M) -> String {
    let mut text = String::new();
    put(&mut text, message);
    text
}

fn put<M: json::Message>(text: &mut String, message: &M) {
    let style = Style {
        only_ascii: true,
        ..Style::default()
    };
    json::encode_onto(text, message, style);
}

/// What was heard, a text for each message. The texts of a telling are made once for all who are told it.
fn texts(heard: &Heard, clock: &dyn Clock, sent: &mut StreamSent) -> Vec<Bytes> {
    let mut now = None;
    let mut bytes = 0;
    let mut texts = Vec::new();
    let sampled = sent.measures();
    for telling in &heard.tellings {
        let mut first = false;
        let mut lines = telling.encoded_as_text(|events| {
            first = true;
            lines(&heard.database.name, events)
        });
        if let (Some(committed), true) = (telling.since(), first || sampled) {
            let now = *now.get_or_insert_with(|| clock.now());
            sent.observe(committed, now, first, sampled);
        }
        bytes += lines.len();
        while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
            texts.push(lines.split_to(end));
            // The end of the line.
            drop(lines.split_to(1));
        }
    }
    sent.leaves(texts.len(), bytes);
    texts
}

/// One line of text for each event. JSON that is written without spaces has no lines of its own.
fn lines(database: &DatabaseName, events: &[WatchEvent]) -> Bytes {
    let mut lines = String::new();
    for event in events {
        let message: pb::ListenResponse = encode_watch_event(database, event);
        put(&mut lines, &message);
        lines.push('\n');
    }
    lines.into()
}

/// How a stream's error is told: clients look at the name of the code.
fn error_text(error: Error) -> Bytes {
    let status = Status::from(error);
    let message = serde_json::json!({
        "error": {
            "code": i32::from(status.code()),
            "message": status.message(),
            "status": code_name(status.code()),
        }
    });
    framing::ascii(message.to_string()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_characters_become_signs() {
        for (text, expected) in [
            (r#""a\ud83d""#, Some(r#""a\ufffd""#)),
            (
                r#""\ude00\ud83d\ud83d\ude00""#,
                Some(r#""\ufffd\ufffd\ud83d\ude00""#),
            ),
            (r#""\ud83d\ude00 \u00e9 \n""#, None),
            (r#""\\ud83d""#, None),
            (r#""\ud8"#, None),
        ] {
            let mended = whole_characters(text.as_bytes());
            assert_eq!(mended.as_deref(), expected.map(str::as_bytes), "{text}");
        }
    }
}
