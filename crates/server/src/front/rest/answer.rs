//! What a method says, as an answer over plain HTTP.
//!
//! One message is an object, and a failure an object with `error`. A stream is a list, and what fails before its first message
//! is a list with the object of the failure; what fails later is the last element of a list that has begun, for the
//! status of the answer is then said already.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use futures::{FutureExt, TryStreamExt};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message as _;
use tonic::body::Body;
use tonic::codegen::BoxStream;
use tonic::{Request, Status};
use watchfire_wire::json::{self, Message, Style};
use watchfire_wire::pb;

use crate::error::Error;
use crate::front::deadline;
use crate::front::rest::asked::{Asked, Manner};
use crate::front::rest::gzip;
use crate::status::{code_name, http_status};

/// Bytes that are sent at once when more messages are ready; a message that is longer is sent as it is.
const PIECE_LEN: usize = 32 * 1024;

/// Between the elements of a list.
const SEPARATOR: &str = ",\r\n";

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");

/// Answers with the one message of a method.
pub async fn one<Q: Message, A: Message, F>(
    asked: Asked,
    method: impl FnOnce(Request<Q>) -> F,
) -> Response<Body>
where
    F: Future<Output = Result<tonic::Response<A>, Status>>,
{
    let manner = asked.manner;
    let said = async { method(asked.request().await?).await };
    match within(manner.deadline, said).await {
        Ok(message) => {
            let mut text = String::new();
            json::encode_onto(&mut text, message.get_ref(), manner.style);
            whole(StatusCode::OK, text, manner)
        }
        Err(status) => failed(&status, manner, |text| text),
    }
}

/// Answers with the messages of a method that streams.
pub async fn many<Q: Message, A: Message + Send + 'static, F>(
    asked: Asked,
    method: impl FnOnce(Request<Q>) -> F,
) -> Response<Body>
where
    F: Future<Output = Result<tonic::Response<BoxStream<A>>, Status>>,
{
    let manner = asked.manner;
    let begun = async {
        let mut messages = method(asked.request().await?).await?.into_inner();
        let first = messages.try_next().await?;
        Ok((messages, first))
    };
    match within(manner.deadline, begun).await {
        Err(status) => failed(&status, manner, |text| format!("[{text}]")),
        Ok((messages, first)) => {
            let list = List::begun(messages, first, manner.style);
            if list.ended {
                whole(StatusCode::OK, list.text, manner)
            } else {
                growing(list, manner)
            }
        }
    }
}

/// Answers that a method is not served.
pub fn unserved(asked: &Asked, method: &'static str) -> Response<Body> {
    failed(&Error::unsupported(method).into(), asked.manner, |text| {
        text
    })
}

/// Answers that there is no such address.
pub fn nowhere(status: StatusCode, text: String) -> Response<Body> {
    let error = pb::Status {
        message: text,
        ..pb::Status::default()
    };
    let name = if status == StatusCode::NOT_FOUND {
        "NOT_FOUND"
    } else {
        "UNIMPLEMENTED"
    };
    let text = json::encode_error(status.as_u16(), name, &error);
    complete(status, text.into())
}

async fn within<T>(
    time: Option<Duration>,
    said: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match time {
        None => said.await,
        Some(time) => tokio::time::timeout(time, said)
            .await
            .unwrap_or_else(|_| Err(deadline::passed(time))),
    }
}

/// An error, in the object that holds it.
fn error_text(status: &Status) -> String {
    let error = pb::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: pb::Status::decode(status.details())
            .map(|detailed| detailed.details)
            .unwrap_or_default(),
    };
    let code = http_status(status.code()).as_u16();
    json::encode_error(code, code_name(status.code()), &error)
}

fn failed(status: &Status, manner: Manner, wrap: impl FnOnce(String) -> String) -> Response<Body> {
    let text = wrap(error_text(status));
    whole(http_status(status.code()), text, manner)
}

/// An answer that is known to its end.
fn whole(status: StatusCode, text: String, manner: Manner) -> Response<Body> {
    if manner.gzip
        && text.len() >= gzip::PACKED_LEN_MIN
        && let Ok(packed) = gzip::pack(text.as_bytes())
    {
        let mut answer = complete(status, packed.into());
        say_packed(&mut answer);
        return answer;
    }
    complete(status, text.into())
}

fn complete(status: StatusCode, text: Bytes) -> Response<Body> {
    with_body(status, Body::new(http_body_util::Full::new(text)))
}

fn with_body(status: StatusCode, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}

fn say_packed(answer: &mut Response<Body>) {
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
}

/// An answer whose end is not known when it begins.
fn growing<A: Message + Send + 'static>(list: List<A>, manner: Manner) -> Response<Body> {
    let packer = manner.gzip.then(gzip::Packer::new);
    let pieces = stream::try_unfold((list, packer), |(mut list, mut packer)| async move {
        let Some(text) = list.piece().await else {
            let end = packer.map(gzip::Packer::end).transpose()?;
            let end = end.filter(|end| !end.is_empty());
            return Ok(end.map(|end| (Bytes::from(end), (list, None))));
        };
        let piece = match &mut packer {
            Some(packer) => packer.piece(text.as_bytes())?,
            None => text.into_bytes(),
        };
        Ok::<_, io::Error>(Some((Bytes::from(piece), (list, packer))))
    });
    let body = Body::new(StreamBody::new(pieces.map_ok(Frame::data)));
    let mut answer = with_body(StatusCode::OK, body);
    if manner.gzip {
        say_packed(&mut answer);
    }
    answer
}

/// A list that is written as its messages come.
struct List<A> {
    messages: BoxStream<A>,
    style: Style,
    /// What is written and not sent.
    text: String,
    empty: bool,
    ended: bool,
}

impl<A: Message> List<A> {
    fn begun(messages: BoxStream<A>, first: Option<A>, style: Style) -> Self {
        let mut list = Self {
            messages,
            style,
            text: "[".to_owned(),
            empty: true,
            ended: false,
        };
        list.put(first.map(Ok));
        list.put_ready();
        list
    }

    fn put(&mut self, message: Option<Result<A, Status>>) {
        if message.is_some() && !self.empty {
            self.text.push_str(SEPARATOR);
        }
        self.empty = false;
        match &message {
            Some(Ok(message)) => json::encode_onto(&mut self.text, message, self.style),
            Some(Err(status)) => self.text.push_str(&error_text(status)),
            None => {}
        }
        self.ended = !matches!(message, Some(Ok(_)));
        if self.ended {
            self.text.push(']');
        }
    }

    /// What needs no waiting, as far as a piece goes.
    fn put_ready(&mut self) {
        while !self.ended
            && self.text.len() < PIECE_LEN
            && let Some(message) = self.messages.next().now_or_never()
        {
            self.put(message);
        }
    }

    /// The next piece; nothing after the end.
    async fn piece(&mut self) -> Option<String> {
        if self.text.is_empty() {
            if self.ended {
                return None;
            }
            let message = self.messages.next().await;
            self.put(message);
            self.put_ready();
        }
        Some(std::mem::take(&mut self.text))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use watchfire_wire::json::Style;

    use super::*;

    const MANNER: Manner = Manner {
        style: Style {
            enumerations_as_numbers: false,
            only_ascii: false,
        },
        gzip: false,
        deadline: None,
    };

    fn named(name: &str) -> Result<pb::Document, Status> {
        Ok(pb::Document {
            name: name.to_owned(),
            ..pb::Document::default()
        })
    }

    #[tokio::test]
    async fn what_fails_late_is_the_last_of_the_list() {
        let failure = || Status::unavailable("gone");
        // The second comes when it is asked for again, so that the first is sent alone.
        let late = stream::once(async {
            tokio::task::yield_now().await;
            named("b")
        });
        let rest = late.chain(stream::iter([Err(failure())])).boxed();
        let list = List::begun(rest, named("a").ok(), MANNER.style);
        assert!(!list.ended);
        let mut body = growing(list, MANNER).into_body();
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            pieces.push(String::from_utf8(data.to_vec()).unwrap());
        }
        let error = r#"{"error":{"code":503,"message":"gone","status":"UNAVAILABLE"}}"#;
        assert_eq!(
            pieces,
            [
                r#"[{"name":"a"}"#.to_owned(),
                format!(",\r\n{{\"name\":\"b\"}},\r\n{error}]"),
            ]
        );
        assert_eq!(error_text(&failure()), error);
        let none: List<pb::Document> = List::begun(stream::empty().boxed(), None, MANNER.style);
        assert_eq!((none.text.as_str(), none.ended), ("[]", true));
    }
}
