//! Fronts that speak plain HTTP, on the same port as gRPC: who takes a request, and who answers it.
//!
//! A request of gRPC passes at the cost of looking at its content type. Any other goes to the first front that takes it,
//! or on to gRPC, whose transport then says what was wrong with it; and whatever a page asks is first judged by `cors`.
//! Who asks is found out here for all of them (`auth`), and goes along with the request.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{self, BoxFuture, Either};
use futures::{FutureExt, TryFutureExt};
use http::{Request, Response, StatusCode, header};
use tonic::Status;
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::auth::Tokens;
use crate::error::Error;
use crate::front::cors::{Cors, Verdict};
use crate::front::pages;

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
    tokens: Tokens,
}

impl HttpFrontsLayer {
    /// The first that takes a request answers it.
    pub fn new(fronts: Vec<Box<dyn HttpFront>>, cors: Cors, tokens: Tokens) -> Self {
        Self {
            fronts: fronts.into(),
            cors,
            tokens,
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
            tokens: self.tokens.clone(),
        }
    }
}

/// A service with fronts of plain HTTP before it.
#[derive(Clone)]
pub struct HttpFronts<S> {
    inner: S,
    fronts: Arc<[Box<dyn HttpFront>]>,
    cors: Cors,
    tokens: Tokens,
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

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let caller = self.tokens.caller(request.headers());
        if is_grpc(&request) {
            // Pages do not speak gRPC: one that tries is judged like any other.
            if request.headers().contains_key(header::ORIGIN)
                && let Verdict::Answered(answer) = self.cors.judge(&request)
            {
                return Either::Right(future::ready(Ok(answer)).boxed());
            }
            return match caller {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    Either::Left(self.inner.call(request))
                }
                Err(error) => {
                    let answer = Status::from(Error::Token(error)).into_http();
                    Either::Right(future::ready(Ok(answer)).boxed())
                }
            };
        }
        let told = match self.cors.judge(&request) {
            Verdict::Answered(answer) => return Either::Right(future::ready(Ok(answer)).boxed()),
            Verdict::Passes(told) => told,
        };
        match caller {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
            }
            Err(error) => {
                let mut answer = pages::refusal(
                    StatusCode::UNAUTHORIZED,
                    "UNAUTHENTICATED",
                    &error.to_string(),
                );
                told.tell(answer.headers_mut());
                return Either::Right(future::ready(Ok(answer)).boxed());
            }
        }
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
