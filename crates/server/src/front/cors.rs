//! Which web pages may use the server: the rules by which browsers ask, and what they are told.
//!
//! A browser says which page a request comes from. The request of a page that is not allowed is refused before anything
//! else looks at it: some of them need no leave from the server, and would take effect though their page cannot read
//! the answer. Whoever says no origin is no page, and passes.
//!
//! Two things are refused of those who say no origin. A browser that says that it fetches for a page of another site, as it
//! does for pictures: nothing would be read, but a database would be opened. And whoever asks a server that listens on its
//! machine alone by a name that is not the machine's: a stranger can point his name here, and browsers then take his pages
//! for the server's own.
//!
//! # What is not done
//!
//! Behind a proxy, or on a network, that last trick is not seen: there, who ends TLS has a certificate for its own names only.

use std::sync::Arc;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tonic::body::Body;

use crate::front::pages;
use crate::origin::AllowedOrigins;

const METHODS: HeaderValue = HeaderValue::from_static("DELETE, GET, HEAD, PATCH, POST, PUT");
/// What pages may read of an answer beside what all may.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "X-HTTP-Session-Id, X-HTTP-Initial-Response, Content-Type, X-Client-Wire-Protocol",
);
/// How long a browser may remember what it was allowed, in seconds: an hour, and browsers cut it to two hours at most.
const MAX_AGE: HeaderValue = HeaderValue::from_static("3600");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// How the page that a browser fetches for stands to the server, and what for.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const PRIVATE_NETWORK_ASKED: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const PRIVATE_NETWORK_ALLOWED: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");

/// What is done with a request.
pub enum Verdict {
    /// It is answered without looking further.
    Answered(Response<Body>),
    /// It goes on, and its answer gets these headers.
    Passes(Told),
}

/// What the answer of a request tells its browser.
pub struct Told {
    /// The page's origin, if it is a page that asks.
    origin: Option<HeaderValue>,
}

/// The judge of the requests of one port.
#[derive(Clone)]
pub struct Cors {
    allowed: Arc<AllowedOrigins>,
}

impl Cors {
    pub fn new(allowed: AllowedOrigins) -> Self {
        Self {
            allowed: Arc::new(allowed),
        }
    }

    /// Looks at a request.
    pub fn judge<B>(&self, request: &Request<B>) -> Verdict {
        let headers = request.headers();
        let authority = request
            .uri()
            .authority()
            .map(|authority| authority.as_str())
            .or_else(|| headers.get(header::HOST)?.to_str().ok());
        // Who watches the server may call it what he likes.
        let is_watched = matches!(request.uri().path(), "/health" | "/metrics");
        if let Some(name) = authority.filter(|name| !is_watched && !self.allowed.goes_by(name)) {
            return Verdict::Answered(strange_name(name));
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return match headers.get(SITE).and_then(|site| site.to_str().ok()) {
                Some(site) if !self.allowed.allow_unnamed(site) && !is_visit(request) => {
                    Verdict::Answered(fetched())
                }
                Some(_) | None => Verdict::Passes(Told { origin: None }),
            };
        };
        let allowed = origins.next().is_none()
            && origin
                .to_str()
                .is_ok_and(|origin| self.allowed.allow(origin, authority));
        if !allowed {
            return Verdict::Answered(refused(origin));
        }
        let told = Told {
            origin: Some(origin.clone()),
        };
        let asks_first = *request.method() == Method::OPTIONS
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if asks_first {
            let mut answer = preflight(headers);
            told.tell(answer.headers_mut());
            return Verdict::Answered(answer);
        }
        Verdict::Passes(told)
    }
}

impl Told {
    /// Puts it into the headers of an answer.
    pub fn tell(&self, headers: &mut HeaderMap) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = &self.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}

/// Whether somebody follows a link to what the server has for people. Pages of another site may have links.
fn is_visit<B>(request: &Request<B>) -> bool {
    let path = request.uri().path();
    let is_for_people = matches!(path, "/" | "/health" | "/metrics") || path.starts_with("/demo");
    is_for_people
        && request
            .headers()
            .get(MODE)
            .is_some_and(|mode| mode == "navigate")
}

/// A browser asks whether its page may send what it has not sent yet.
fn preflight(asked: &HeaderMap) -> Response<Body> {
    let mut answer = pages::status(StatusCode::NO_CONTENT);
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    // A page of the internet asks a machine of a private network, which its browser wants to know allowed.
    if asked.contains_key(PRIVATE_NETWORK_ASKED) {
        headers.insert(PRIVATE_NETWORK_ALLOWED, TRUE);
    }
    answer
}

/// In the shape in which the service refuses. No header lets the page read it; people find it among what was answered.
fn refused(origin: &HeaderValue) -> Response<Body> {
    let origin = String::from_utf8_lossy(origin.as_bytes());
    let message = format!(
        "Pages of the origin {origin} may not use this server. Start it with --allow-origin {origin} to let them."
    );
    tracing::debug!(%origin, "the request of a page was refused, see --allow-origin");
    let mut answer = pages::refusal(StatusCode::FORBIDDEN, "PERMISSION_DENIED", &message);
    Told { origin: None }.tell(answer.headers_mut());
    answer
}

fn fetched() -> Response<Body> {
    tracing::debug!("a request of a page of another site was refused, see --allow-origin");
    let mut answer = pages::refusal(
        StatusCode::FORBIDDEN,
        "PERMISSION_DENIED",
        "Pages of other sites may not have anything fetched from this server without saying their origin.",
    );
    Told { origin: None }.tell(answer.headers_mut());
    answer
}

/// The server is asked by a name that is not its machine's.
fn strange_name(name: &str) -> Response<Body> {
    let message = format!(
        "This server listens on its own machine alone and was asked by the name {name}, which may be a stranger's. Ask it by localhost, or start it with --allow-origin https://{name} to let it go by that name."
    );
    tracing::debug!(%name, "a request by a strange name was refused, see --allow-origin");
    pages::refusal(StatusCode::FORBIDDEN, "PERMISSION_DENIED", &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(method: Method, headers: &[(&str, &str)]) -> Response<Body> {
        let cors = Cors::new(AllowedOrigins::new(
            &["https://app.example".parse().unwrap()],
            true,
        ));
        let mut request = Request::builder().method(method).uri("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match cors.judge(&request.body(()).unwrap()) {
            Verdict::Answered(answer) => answer,
            Verdict::Passes(told) => {
                let mut answer = pages::status(StatusCode::IM_A_TEAPOT);
                told.tell(answer.headers_mut());
                answer
            }
        }
    }

    fn check(answer: &Response<Body>, status: u16, headers: &[(&str, Option<&str>)]) {
        assert_eq!(answer.status().as_u16(), status);
        for (name, value) in headers {
            let found = answer
                .headers()
                .get(*name)
                .map(|value| value.to_str().unwrap());
            assert_eq!(found, *value, "{name}");
        }
    }

    #[test]
    fn allowed_pages_are_told_so() {
        let answer = judged(Method::POST, &[("origin", "https://app.example")]);
        check(
            &answer,
            418,
            &[
                ("access-control-allow-origin", Some("https://app.example")),
                ("access-control-allow-credentials", Some("true")),
                ("vary", Some("Origin")),
                ("access-control-max-age", None),
            ],
        );
        let same = [
            ("origin", "https://localhost:8080"),
            ("host", "localhost:8080"),
        ];
        check(&judged(Method::GET, &same), 418, &[]);
        let nobody = judged(Method::POST, &[("host", "app.example")]);
        check(
            &nobody,
            418,
            &[
                ("access-control-allow-origin", None),
                ("vary", Some("Origin")),
            ],
        );
    }

    #[test]
    fn names_of_strangers_are_refused_where_only_this_machine_is_listened_to() {
        let rebound = [
            ("origin", "http://evil.example:8080"),
            ("host", "evil.example:8080"),
        ];
        check(&judged(Method::POST, &rebound), 403, &[]);
        check(&judged(Method::GET, &rebound[1..]), 403, &[]);
        let cors = Cors::new(AllowedOrigins::new(&[], false));
        let request = Request::builder().header("host", "db.example");
        let request = request.header("origin", "https://db.example");
        let verdict = cors.judge(&request.body(()).unwrap());
        assert!(matches!(verdict, Verdict::Passes(_)));
    }

    #[test]
    fn what_other_sites_have_fetched_is_refused_and_links_are_not() {
        let fetched = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "no-cors"),
        ];
        check(&judged(Method::GET, &fetched), 403, &[]);
        check(
            &judged(Method::GET, &[("sec-fetch-site", "none")]),
            418,
            &[],
        );
        let followed = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
        ];
        check(&judged(Method::GET, &followed), 403, &[]);
        let mut visit = Request::builder().uri("/demo/");
        for (name, value) in followed {
            visit = visit.header(name, value);
        }
        let cors = Cors::new(AllowedOrigins::new(&[], true));
        let verdict = cors.judge(&visit.body(()).unwrap());
        assert!(matches!(verdict, Verdict::Passes(_)));
    }

    #[test]
    fn who_asks_first_is_answered_at_once() {
        let asks = [
            ("origin", "https://app.example"),
            ("access-control-request-method", "PATCH"),
            ("access-control-request-headers", "authorization,x-y"),
            ("access-control-request-private-network", "true"),
        ];
        check(
            &judged(Method::OPTIONS, &asks),
            204,
            &[
                ("access-control-allow-origin", Some("https://app.example")),
                ("access-control-allow-credentials", Some("true")),
                (
                    "access-control-allow-methods",
                    Some("DELETE, GET, HEAD, PATCH, POST, PUT"),
                ),
                ("access-control-allow-headers", Some("authorization,x-y")),
                ("access-control-max-age", Some("3600")),
                ("access-control-allow-private-network", Some("true")),
                ("vary", Some("Origin")),
            ],
        );
        check(
            &judged(Method::OPTIONS, &asks[..2]),
            204,
            &[
                ("access-control-allow-headers", None),
                ("access-control-allow-private-network", None),
            ],
        );
    }

    #[test]
    fn strange_pages_are_refused_whatever_they_ask() {
        for method in [Method::GET, Method::POST, Method::OPTIONS] {
            for origin in [
                "https://evil.example",
                "null",
                "",
                "https://app.example.evil",
            ] {
                let headers = [
                    ("origin", origin),
                    ("host", "app.example"),
                    ("access-control-request-method", "POST"),
                ];
                check(
                    &judged(method.clone(), &headers),
                    403,
                    &[
                        ("access-control-allow-origin", None),
                        ("access-control-allow-methods", None),
                        ("vary", Some("Origin")),
                    ],
                );
            }
        }
        let twice = [
            ("origin", "https://app.example"),
            ("origin", "https://evil.example"),
        ];
        check(&judged(Method::POST, &twice), 403, &[]);
    }
}
