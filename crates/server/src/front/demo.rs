//! The page `/demo`: a shared board on the published web SDK, which speaks to the server that it came from.
//!
//! The files are what `web/` gives, in the program itself, each as it is and compressed; nothing is compressed here, and
//! nothing is read from a disk. What has its content's hash in its name may be kept for ever; the page itself is asked
//! for again each time, and answered by "not modified" where it is known already. The browser is told to speak with
//! nobody but this server. What the page does in the database it does as any other client.

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use sha2::{Digest, Sha256};
use tonic::body::Body;

use crate::front::http::HttpFront;
use crate::front::pages;

mod built;
#[cfg(test)]
mod tests;

/// Where the page is; whatever lies below is its own too.
const PATH: &str = "/demo";

/// The file that is the page.
const INDEX: &str = "index.html";

/// The folder of files that never change, because their names would.
const HASHED: &str = "assets/";

/// How long those may be kept: a year, which is the longest that caches know.
const HASHED_CACHE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// May be kept, and is asked for again before it is used.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

/// Everything comes from here, and goes here; the third and further windows of a browser ask by a name of their own for
/// this machine, because there are only six connections for a name. The page's icon stands in the page.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' http://*.localhost:*; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Digits of the hash by which a browser asks whether what it has is still right.
const TAG_DIGITS: usize = 16;

/// One file, as it is and compressed.
struct File {
    /// Below `PATH`.
    name: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
    brotli: &'static [u8],
}

impl File {
    /// The form that a request accepts and that is the smallest, with its name.
    fn form(&self, headers: &HeaderMap) -> (&'static [u8], Option<HeaderValue>) {
        if accepts(headers, "br") {
            (self.brotli, Some(HeaderValue::from_static("br")))
        } else if accepts(headers, "gzip") {
            (self.gzip, Some(HeaderValue::from_static("gzip")))
        } else {
            (self.plain, None)
        }
    }

    fn kind(&self) -> &'static str {
        match self.name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("txt") => "text/plain; charset=utf-8",
            Some(_) | None => "application/octet-stream",
        }
    }
}

/// Whether a request says that it understands this coding. A weight of nothing is a refusal; other weights and `*` are
/// not looked at, because there is always a form that is understood.
fn accepts(headers: &HeaderMap, coding: &str) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|offer| {
            let (name, weight) = offer.split_once(';').unwrap_or((offer, ""));
            let refused = weight
                .trim()
                .strip_prefix("q=")
                .and_then(|weight| weight.parse::<f32>().ok())
                .is_some_and(|weight| weight == 0.0);
            name.trim().eq_ignore_ascii_case(coding) && !refused
        })
}

/// Whether the form that a request has is the one with this tag. Tags are compared as weak ones.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == "*" || known.trim().trim_start_matches("W/") == tag)
}

/// The page and its files.
pub struct Demo {
    files: Vec<(&'static File, String)>,
}

impl Demo {
    pub fn new() -> Self {
        let tagged = |file: &'static File| {
            let hash = Sha256::digest(file.plain);
            let digits = hash.iter().map(|byte| format!("{byte:02x}"));
            let tag: String = digits.take(TAG_DIGITS / 2).collect();
            (file, format!("\"{tag}\""))
        };
        Self {
            files: built::FILES.iter().map(tagged).collect(),
        }
    }

    fn respond(&self, request: &Request<Body>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = pages::status(StatusCode::METHOD_NOT_ALLOWED);
            let allowed = HeaderValue::from_static("GET, HEAD");
            answer.headers_mut().insert(header::ALLOW, allowed);
            return answer;
        }
        let below = request.uri().path().strip_prefix(PATH).unwrap_or_default();
        let name = match below.strip_prefix('/').unwrap_or(below) {
            "" => INDEX,
            name => name,
        };
        let Some((file, tag)) = self.files.iter().find(|(file, _)| file.name == name) else {
            return pages::status(StatusCode::NOT_FOUND);
        };
        let mut answer = if is_known(request.headers(), tag) {
            pages::status(StatusCode::NOT_MODIFIED)
        } else {
            let (bytes, coding) = file.form(request.headers());
            let mut answer = Response::new(Body::new(Full::from(bytes)));
            let headers = answer.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind()));
            if let Some(coding) = coding {
                headers.insert(header::CONTENT_ENCODING, coding);
            }
            answer
        };
        let headers = answer.headers_mut();
        let cache = match file.name.starts_with(HASHED) {
            true => HASHED_CACHE,
            false => ASK_AGAIN,
        };
        headers.insert(header::CACHE_CONTROL, cache);
        // Weak, because the compressed forms have it too.
        if let Ok(tag) = HeaderValue::try_from(format!("W/{tag}")) {
            headers.insert(header::ETAG, tag);
        }
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        headers.insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        headers.insert(
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        );
        match *request.method() {
            Method::HEAD => pages::without_content(answer),
            _ => answer,
        }
    }
}

impl Default for Demo {
    fn default() -> Self {
        Self::new()
    }
}

impl HttpFront for Demo {
    fn takes(&self, request: &Request<Body>) -> bool {
        let below = request.uri().path().strip_prefix(PATH);
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    }

    fn answer(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        future::ready(self.respond(&request)).boxed()
    }
}
