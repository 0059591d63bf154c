//! Pages beside the protocol, on the same port: what a `GET` of their path answers, or a `HEAD` without the content.

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use tonic::body::Body;

use crate::front::http::HttpFront;

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

/// A refusal in the shape in which the service refuses.
pub fn refusal(status: StatusCode, name: &str, message: &str) -> Response<Body> {
    let error = serde_json::json!({
        "error": { "code": status.as_u16(), "message": message, "status": name }
    });
    let mut answer = text("application/json; charset=utf-8", error.to_string());
    *answer.status_mut() = status;
    answer
}

/// An answer of a status alone.
pub fn status(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}

/// The same answer without its content, whose length it still says.
pub fn without_content(answer: Response<Body>) -> Response<Body> {
    let (mut parts, content) = answer.into_parts();
    if let Some(length) = content.size_hint().exact() {
        let length = HeaderValue::from(length);
        parts.headers.insert(header::CONTENT_LENGTH, length);
    }
    Response::from_parts(parts, Body::empty())
}

/// The pages of a port.
pub struct Pages {
    pages: Vec<Page>,
}

impl Pages {
    pub fn new(pages: Vec<Page>) -> Self {
        Self { pages }
    }

    fn page(&self, path: &str) -> Option<&Page> {
        self.pages.iter().find(|page| page.path == path)
    }
}

impl HttpFront for Pages {
    fn takes(&self, request: &Request<Body>) -> bool {
        matches!(*request.method(), Method::GET | Method::HEAD)
            && self.page(request.uri().path()).is_some()
    }

    fn answer(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        match self.page(request.uri().path()) {
            Some(page) if request.method() == Method::HEAD => {
                (page.answer)().map(without_content).boxed()
            }
            Some(page) => (page.answer)(),
            None => future::ready(status(StatusCode::NOT_FOUND)).boxed(),
        }
    }
}
