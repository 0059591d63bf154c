//! Pages beside the protocol, on the same port: what a `GET` of their path answers, or a `HEAD` without the content.
//!
//! Every other request goes on as it is, at the cost of comparing its path.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, Either};
use http::{HeaderValue, Method, Request, Response, header};
use http_body::Body as _;
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

/// One page.
pub struct Page {
    path: &'static str,
    answer: Box<dyn Fn() -> BoxFuture<'static, Response<Body>> + Send + Sync>,
}

impl Page {
    /// What is at the path; `answer` is asked each time.
    pub fn new<F>(path: &'static str, answer: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let answer = Box::new(move || answer().boxed());
        Self { path, answer }
    }
}

/// An answer of a text of this kind.
pub fn text(kind: &'static str, text: String) -> Response<Body> {
    let mut answer = Response::new(Body::new(text));
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// The same answer without its content, whose length it still says.
fn without_content(answer: Response<Body>) -> Response<Body> {
    let (mut parts, content) = answer.into_parts();
    if let Some(length) = content.size_hint().exact() {
        let length = HeaderValue::from(length);
        parts.headers.insert(header::CONTENT_LENGTH, length);
    }
    Response::from_parts(parts, Body::empty())
}

/// Puts `Paged` around a service.
#[derive(Clone)]
pub struct PagesLayer {
    pages: Arc<[Page]>,
}

impl PagesLayer {
    pub fn new(pages: impl Into<Arc<[Page]>>) -> Self {
        Self {
            pages: pages.into(),
        }
    }
}

impl<S> Layer<S> for PagesLayer {
    type Service = Paged<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Paged {
            inner,
            pages: Arc::clone(&self.pages),
        }
    }
}

/// A service with pages beside it.
#[derive(Clone)]
pub struct Paged<S> {
    inner: S,
    pages: Arc<[Page]>,
}

impl<S> Service<Request<Body>> for Paged<S>
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
        let asked = |page: &&Page| page.path == request.uri().path();
        match self.pages.iter().find(asked) {
            Some(page) if request.method() == Method::GET => {
                Either::Right((page.answer)().map(Ok).boxed())
            }
            Some(page) if request.method() == Method::HEAD => {
                Either::Right((page.answer)().map(without_content).map(Ok).boxed())
            }
            Some(_) | None => Either::Left(self.inner.call(request)),
        }
    }
}
