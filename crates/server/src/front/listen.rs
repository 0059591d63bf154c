//! The gRPC front of the listen stream, written for many streams that are told the same.
//!
//! What is told is encoded once, framing included, and the same bytes go out on all streams (`Telling::encoded`). The
//! usual way, a message for each event and stream that the transport then encodes, would do the work again for each.
//! So this stands before the generated service and takes this one method.
//! Whatever waits for a stream leaves in one piece, so that a stream which is behind costs few frames.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::future::Either;
use futures::stream::{Stream, StreamExt};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body as HttpBody, Frame};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codec::{Codec, Streaming};
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower_service::Service;
use watchfire_model::{Clock, DatabaseName};
use watchfire_wire::codec::WireCodec;
use watchfire_wire::listen::{encode_watch_frames, requested_target};
use watchfire_wire::{decode_listen_request, pb};

use crate::databases::Databases;
use crate::error::Error;
use crate::metrics::listen::StreamSent;
use crate::service::listen::{self, Command, Heard, Listening};
use crate::status::REQUEST_SIZE_MAX;

const PATH: &str = "/google.firestore.v1.Firestore/Listen";

/// Answers the listen method and leaves the others to the service within.
#[derive(Clone)]
pub struct ListenFront<S> {
    inner: S,
    databases: Arc<Databases>,
    shutdown: CancellationToken,
}

impl<S> ListenFront<S> {
    /// Streams end when `shutdown` is cancelled.
    pub fn new(inner: S, databases: Arc<Databases>, shutdown: CancellationToken) -> Self {
        Self {
            inner,
            databases,
            shutdown,
        }
    }
}

impl<S: NamedService> NamedService for ListenFront<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for ListenFront<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response<Body>, Infallible>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != PATH {
            return Either::Right(self.inner.call(request));
        }
        let mut codec = WireCodec::<pb::ListenResponse, pb::ListenRequest>::default();
        let size_max = Some(REQUEST_SIZE_MAX);
        let requests = Streaming::new_request(codec.decoder(), request.into_body(), None, size_max);
        let commands = requests.map(|request| listen_command(request.map_err(Error::Transport)?));
        let listening = listen::serve(self.databases.clone(), self.shutdown.clone(), commands);
        let mut response = Response::new(Body::new(Told {
            listening: Some(listening),
            rest: Bytes::new(),
            clock: Arc::clone(self.databases.clock()),
            sent: self.databases.metrics().listen().begin(),
        }));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        Either::Left(ready(Ok(response)))
    }
}

/// Payloads below this many bytes share writes to the socket with others (see `accept::Connection`).
const SMALL_FRAME_MAX: usize = 1_000;

/// What is cut into small frames; larger pieces go out alone.
const CUT_MAX: usize = 8 * SMALL_FRAME_MAX;

/// What a stream is told, as the body of its answer.
struct Told {
    /// `None` after the trailers.
    listening: Option<Listening>,
    /// What is still to be sent of the last piece.
    rest: Bytes,
    clock: Arc<dyn Clock>,
    sent: StreamSent,
}

impl Told {
    /// The next frame of what is still to be sent.
    fn cut(&mut self) -> Frame<Bytes> {
        let len = if self.rest.len() > CUT_MAX {
            self.rest.len()
        } else {
            self.rest.len().min(SMALL_FRAME_MAX)
        };
        Frame::data(self.rest.split_to(len))
    }
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.cut())));
        }
        let Some(listening) = &mut self.listening else {
            return Poll::Ready(None);
        };
        let heard = task::ready!(Pin::new(listening).poll_next(cx));
        let status = match heard {
            Some(Ok(heard)) => {
                self.rest = self.bytes(&heard);
                return Poll::Ready(Some(Ok(self.cut())));
            }
            Some(Err(error)) => Status::from(error),
            None => Status::new(Code::Ok, ""),
        };
        self.listening = None;
        let mut trailers = HeaderMap::new();
        let written = status.add_header(&mut trailers);
        Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.listening.is_none()
    }
}

impl Told {
    /// What was heard as bytes that leave now.
    fn bytes(&mut self, heard: &Heard) -> Bytes {
        let mut now = None;
        let mut messages = 0;
        let sampled = self.sent.measures();
        let encoded = heard.tellings.iter().map(|telling| {
            let mut first = false;
            let bytes = telling.encoded(|events| {
                first = true;
                encode_watch_frames(&heard.database.name, events)
            });
            messages += telling.events().len();
            if let (Some(committed), true) = (telling.since(), first || sampled) {
                let now = *now.get_or_insert_with(|| self.clock.now());
                self.sent.observe(committed, now, first, sampled);
            }
            bytes
        });
        let bytes = joined(encoded);
        self.sent.leaves(messages, bytes.len());
        bytes
    }
}

/// All pieces as one, copied only when there are several.
fn joined(mut pieces: impl Iterator<Item = Bytes>) -> Bytes {
    let (first, second) = (pieces.next(), pieces.next());
    match (first, second) {
        (None, _) => Bytes::new(),
        (Some(only), None) => only,
        (Some(first), Some(second)) => {
            let mut joined = BytesMut::from(first);
            joined.extend_from_slice(&second);
            for piece in pieces {
                joined.extend_from_slice(&piece);
            }
            joined.freeze()
        }
    }
}

/// Decodes a message of a listen stream. A target that cannot be accepted is refused alone, as long as
/// the message says which target and which database it means; anything else ends the stream.
pub fn listen_command(request: pb::ListenRequest) -> Result<Command, Error> {
    let target = requested_target(&request).filter(|id| *id > 0);
    let database = DatabaseName::parse(&request.database);
    match (decode_listen_request(request), database, target) {
        (Ok(command), _, _) => Ok(Command::Accepted(command)),
        (Err(refusal), Ok(database), Some(target_id)) => Ok(Command::Refused {
            database,
            target_id,
            refusal,
        }),
        (Err(refusal), _, _) => Err(refusal.into()),
    }
}
