//! Fronts that speak plain HTTP, on the same port as gRPC: who takes a request, and who answers it.
//!
//! A request of gRPC passes at the cost of looking at its content type. Any other goes to the first front that takes it,
//! or on to gRPC, whose transport then says what was wrong with it.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, Either};
use http::{Request, Response, header};
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

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
}

impl HttpFrontsLayer {
    /// The first that takes a request answers it.
    pub fn new(fronts: Vec<Box<dyn HttpFront>>) -> Self {
        Self {
            fronts: fronts.into(),
        }
    }
}

impl<S> Layer<S> for HttpFrontsLayer {
    type Service = HttpFronts<S>;

    fn layer(&self, inner: S) -> Self::Service {
        HttpFronts {
            inner,
            fronts: Arc::clone(&self.fronts),
        }
    }
}

/// A service with fronts of plain HTTP before it.
#[derive(Clone)]
pub struct HttpFronts<S> {
    inner: S,
    fronts: Arc<[Box<dyn HttpFront>]>,
}

impl<S> Service<Request<Body>> for HttpFronts<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
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
        match self.fronts.iter().find(|front| front.takes(&request)) {
            Some(front) => Either::Right(front.answer(request).map(Ok).boxed()),
            None => Either::Left(self.inner.call(request)),
        }
    }
}

/// Whether the request says that it is one of gRPC.
fn is_grpc(request: &Request<Body>) -> bool {
    request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
