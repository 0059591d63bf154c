//! Status texts as clients read them, and an answer for callers who do not speak gRPC.
//!
//! The gRPC specification encodes `grpc-message` only at `%` and outside printable ASCII. The library
//! underneath also encodes spaces, quotes and more, and clients that do not decode those show users
//! `%20`. This layer writes the texts anew, in headers (an answer without a body) and in trailers.
//! It names methods that are not served, and puts the library's complaint about a request that is too large into the protocol's words.
//! A request whose deadline has passed is ended here, so that it gets the code for that.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::front::{deadline, pages};
use crate::status;

const MESSAGE: &str = "grpc-message";
const STATUS: &str = "grpc-status";

/// Puts `GrpcMessage` around a service.
#[derive(Copy, Clone, Debug)]
pub struct GrpcMessageLayer;

impl<S> Layer<S> for GrpcMessageLayer {
    type Service = GrpcMessage<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GrpcMessage { inner }
    }
}

/// A gRPC service whose status texts are written anew.
#[derive(Clone, Debug)]
pub struct GrpcMessage<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for GrpcMessage<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if let Some(answer) = answer_to_others(&request) {
            return Box::pin(async { Ok(answer) });
        }
        let uri = request.uri().clone();
        let deadline = deadline::of(request.headers());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut answer = match deadline {
                None => answer.await?,
                Some(deadline) => match tokio::time::timeout(deadline, answer).await {
                    Ok(answer) => answer?,
                    Err(_) => deadline::passed(deadline).into_http(),
                },
            };
            name_unknown_method(uri.path(), answer.headers_mut());
            rewrite(answer.headers_mut());
            Ok(answer.map(|body| Body::new(Rewritten { body })))
        })
    }
}

/// Whoever does not speak gRPC, mostly a browser or a health check, gets a sentence.
fn answer_to_others(request: &Request<Body>) -> Option<Response<Body>> {
    let is_grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        return None;
    }
    let alive =
        request.uri().path() == "/" && matches!(*request.method(), Method::GET | Method::HEAD);
    let (code, text) = if alive {
        (StatusCode::OK, "Ok")
    } else {
        (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "This is Watchfire. It speaks gRPC over HTTP/2: connect with an official SDK, see `watchfire --help`.\n",
        )
    };
    let mut answer = pages::text("text/plain; charset=utf-8", text.to_owned());
    *answer.status_mut() = code;
    Some(answer)
}

/// The library answers a method that it does not know without a word; the caller is told which one it is.
fn name_unknown_method(path: &str, headers: &mut HeaderMap) {
    let unimplemented = headers.get(STATUS).is_some_and(|code| code == "12");
    if !unimplemented || headers.contains_key(MESSAGE) {
        return;
    }
    let method = path.rsplit('/').next().unwrap_or(path);
    let text = format!("{method} is not supported by this server");
    if let Ok(text) = HeaderValue::from_str(&text) {
        headers.insert(MESSAGE, text);
    }
}

/// A body whose trailers are written anew.
struct Rewritten {
    body: Body,
}

impl http_body::Body for Rewritten {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(trailers) = frame
            .as_mut()
            .and_then(|frame| frame.as_mut().ok())
            .and_then(Frame::trailers_mut)
        {
            rewrite(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn rewrite(headers: &mut HeaderMap) {
    let Some(encoded) = headers.get(MESSAGE) else {
        return;
    };
    let mut text = decode(encoded.as_bytes());
    if let Some((code, rephrased)) = status::rephrase(&text) {
        headers.insert(STATUS, HeaderValue::from(i32::from(code)));
        text = rephrased;
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(encode(&text))) {
        headers.insert(MESSAGE, value);
    }
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Undoes percent-encoding; a `%` that begins no code stands for itself.
fn decode(encoded: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .split_first_chunk::<2>()
            .filter(|_| *first == b'%')
            .and_then(|([high, low], tail)| {
                let digit = |byte: &u8| {
                    char::from(*byte)
                        .to_digit(16)
                        .and_then(|digit| u8::try_from(digit).ok())
                };
                Some((digit(high)? * 16 + digit(low)?, tail))
            });
        let (byte, tail) = code.unwrap_or((*first, after));
        bytes.push(byte);
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let mut headers = HeaderMap::new();
        tonic::Status::invalid_argument(text)
            .add_header(&mut headers)
            .unwrap();
        rewrite(&mut headers);
        assert_eq!(headers.get(MESSAGE).unwrap(), expected);
        assert_eq!(decode(expected.as_bytes()), text);
    }

    #[test]
    fn only_percent_and_foreign_bytes_are_encoded() {
        check(
            "Document \"a/b\" not found. {x} <y> #1?",
            "Document \"a/b\" not found. {x} <y> #1?",
        );
        check("100%", "100%25");
        check("%41", "%2541");
        check("é\n", "%C3%A9%0A");
    }

    /// People copy it from their terminals.
    #[test]
    fn links_stay_whole() {
        let link = "https://console.firebase.google.com/v1/r/project/p/firestore/indexes?create_composite=Ab_-9";
        check(
            &format!("The query requires an index. You can create it here: {link}"),
            &format!("The query requires an index. You can create it here: {link}"),
        );
        check(
            &format!("You can create it here: {link} .\nThe query"),
            &format!("You can create it here: {link} .%0AThe query"),
        );
    }

    #[test]
    fn an_oversized_request_is_named_as_such() {
        let mut headers = HeaderMap::new();
        let status = tonic::Status::out_of_range(
            "Error, decoded message length too large: found 9 bytes, the limit is: 8 bytes",
        );
        status.add_header(&mut headers).unwrap();
        rewrite(&mut headers);
        assert_eq!(headers.get(STATUS).unwrap(), "3");
        assert_eq!(
            headers.get(MESSAGE).unwrap(),
            "Request payload size exceeds the limit: 11534336 bytes."
        );
    }

    /// Never answers.
    #[derive(Clone)]
    struct Silent;

    impl Service<Request<Body>> for Silent {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Pending<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_has_passed_has_its_own_code() {
        let request = Request::post("/google.firestore.v1.Firestore/Commit")
            .header(header::CONTENT_TYPE, "application/grpc")
            .header("grpc-timeout", "1500m")
            .body(Body::empty());
        let answer = GrpcMessageLayer.layer(Silent).call(request.unwrap()).await;
        let headers = answer.unwrap().headers().clone();
        assert_eq!(headers.get(STATUS).unwrap(), "4");
        assert_eq!(
            headers.get(MESSAGE).unwrap(),
            "the request did not end within its deadline of 1.5s"
        );
    }
}
