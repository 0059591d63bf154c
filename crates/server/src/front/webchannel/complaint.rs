//! What is answered to a request that is not carried out, as a status of HTTP.
//!
//! What a client's messages come to is no such thing: that goes through its session, in words that the SDK knows. Any
//! status but 200 ends the client's channel, and it opens another after a pause.

use http::{Response, StatusCode, header};
use tonic::body::Body;

use crate::front::pages;

/// Why a request is not carried out.
#[derive(Debug, PartialEq, Eq)]
pub enum Complaint {
    /// It is not what a client would send.
    Bad(String),
    /// The session is not here, or no more: the client opens another at once.
    UnknownSession,
    /// There is no room for it now. The client tries again.
    Busy(&'static str),
}

impl Complaint {
    pub fn bad(text: impl Into<String>) -> Self {
        Complaint::Bad(text.into())
    }

    /// The answer.
    pub fn answer(self) -> Response<Body> {
        let (status, text) = match self {
            Complaint::Bad(text) => (StatusCode::BAD_REQUEST, text),
            // Clients look for these words, and not at the beginning.
            Complaint::UnknownSession => (StatusCode::BAD_REQUEST, "Error: Unknown SID".to_owned()),
            Complaint::Busy(text) => (StatusCode::SERVICE_UNAVAILABLE, text.to_owned()),
        };
        let mut answer = pages::text("text/plain; charset=utf-8", text);
        *answer.status_mut() = status;
        answer.headers_mut().insert(
            header::CACHE_CONTROL,
            http::HeaderValue::from_static("no-cache"),
        );
        answer
    }
}
