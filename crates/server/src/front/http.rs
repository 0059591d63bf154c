//! Fronts that speak plain HTTP, on the same port as gRPC: who takes a request, and who answers it.
//!
//! A request of gRPC passes at the cost of looking at its content type. Any other goes to the first front that takes it,
//! or on to gRPC, whose transport then says what was wrong with it; and whatever a page asks is first judged by `cors`.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{self, BoxFuture, Either};
use futures::{FutureExt, TryFutureExt};
use http::{Request, Response, header};
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::front::cors::{Cors, Verdict};

/// One protocol over plain HTTP.
pub trait HttpFront: Send + Sync {
    /// Whether it answers this request: mostly by its path.
    fn takes(&self, request: &Request<Body>) -> bool;

    /// Answers a request that it takes. Whatever goes wrong is an answer too.
    fn answer(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>>;
}

/// Puts `HttpFronts` around a service.
#[derive(Clone)]
pub struct HttpFrontsLayer {
    fronts: Arc<[Box<dyn HttpFront>]>,
    cors: Cors,
}

impl HttpFrontsLayer {
    /// The first that takes a request answers it.
    pub fn new(fronts: Vec<Box<dyn HttpFront>>, cors: Cors) -> Self {
        Self {
            fronts: fronts.into(),
            cors,
        }
    }
}

impl<S> Layer<S> for HttpFrontsLayer {
    type Service = HttpFronts<S>;

    fn layer(&self, inner: S) -> Self::Service {
        HttpFronts {
            inner,
            fronts: Arc::clone(&self.fronts),
            cors: self.cors.clone(),
        }
    }
}

/// A service with fronts of plain HTTP before it.
#[derive(Clone)]
pub struct HttpFronts<S> {
    inner: S,
    fronts: Arc<[Box<dyn HttpFront>]>,
    cors: Cors,
}

impl<S> Service<Request<Body>> for HttpFronts<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if is_grpc(&request) {
            return Either::Left(self.inner.call(request));
        }
        let told = match self.cors.judge(&request) {
            Verdict::Answered(answer) => return Either::Right(future::ready(Ok(answer)).boxed()),
            Verdict::Passes(told) => told,
        };
        let answer = match self.fronts.iter().find(|front| front.takes(&request)) {
            Some(front) => front.answer(request).map(Ok).boxed(),
            None => self.inner.call(request).boxed(),
        };
        Either::Right(
            answer
                .map_ok(move |mut answer| {
                    told.tell(answer.headers_mut());
                    answer
                })
                .boxed(),
        )
    }
}

/// Whether the request says that it is one of gRPC.
fn is_grpc(request: &Request<Body>) -> bool {
    request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
