//! One request: what its address, its parameters, its headers and its body say, put together.

use std::io::Read;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{Extensions, HeaderMap, header};
use http_body_util::BodyExt;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use watchfire_wire::json::{self, Message, Style};

use crate::error::Error;
use crate::front::rest::gzip;
use crate::front::rest::template::Found;
use crate::status::REQUEST_SIZE_MAX;

/// Bytes of a body that are read though it is too large already. Who is still sending does not hear a refusal.
const DROPPED_SIZE_MAX: usize = 8 * REQUEST_SIZE_MAX;

/// How long the caller waits, in seconds.
const TIMEOUT: &str = "x-server-timeout";

/// Parameters that every method has, with or without a dollar sign before their name.
const SYSTEM_PARAMETERS: [&str; 13] = [
    "access_token",
    "alt",
    "callback",
    "fields",
    "httpHeaders",
    "key",
    "oauth_token",
    "prettyPrint",
    "quotaUser",
    "uploadType",
    "upload_protocol",
    "userProject",
    ".xgafv",
];

/// What of a request the body is.
#[derive(Copy, Clone)]
pub enum BodyOf {
    Nothing,
    Whole,
    Field(&'static str),
}

/// How the caller wants to be answered.
#[derive(Copy, Clone)]
pub struct Manner {
    pub style: Style,
    pub gzip: bool,
    pub deadline: Option<Duration>,
}

/// A request whose method is known.
pub struct Asked {
    pub manner: Manner,
    found: Found,
    parameters: Vec<(String, String)>,
    headers: HeaderMap,
    extensions: Extensions,
    body_of: BodyOf,
    body: Body,
}

impl Asked {
    pub fn new(parts: Parts, found: Found, body_of: BodyOf, body: Body) -> Self {
        let Parts {
            uri,
            headers,
            extensions,
            ..
        } = parts;
        let mut manner = Manner {
            style: Style::default(),
            gzip: gzip::is_accepted(&headers),
            deadline: deadline(&headers),
        };
        let mut parameters = Vec::new();
        let query = uri.query().unwrap_or_default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let system = name.strip_prefix('$').unwrap_or(&name);
            if !SYSTEM_PARAMETERS.contains(&system) {
                parameters.push((name.into_owned(), value.into_owned()));
            } else if system == "alt" && value.contains("enum-encoding=int") {
                manner.style.enumerations_as_numbers = true;
            }
        }
        Self {
            manner,
            found,
            parameters,
            headers,
            extensions,
            body_of,
            body,
        }
    }

    /// The request of the method. The address has the last word.
    pub async fn request<Q: Message>(self) -> Result<Request<Q>, Status> {
        let Self {
            manner: _,
            found,
            mut parameters,
            headers,
            extensions,
            body_of,
            body,
        } = self;
        let found = found
            .ok_or_else(|| Error::invalid("The address has escaped bytes that are not UTF-8."))?;
        let mut message = Q::default();
        match body_of {
            BodyOf::Nothing => {}
            BodyOf::Whole | BodyOf::Field(_) => {
                let text = unpacked(&headers, whole(&headers, body).await?).await?;
                let read = match body_of {
                    _ if text.iter().all(u8::is_ascii_whitespace) => Ok(()),
                    BodyOf::Field(name) => json::merge_field(&mut message, name, &text),
                    BodyOf::Whole | BodyOf::Nothing => json::merge(&mut message, &text),
                };
                read.map_err(Error::Json)?;
            }
        }
        for (name, value) in found {
            parameters.push((name.to_owned(), value));
        }
        json::merge_parameters(&mut message, &parameters).map_err(Error::Json)?;
        let metadata = MetadataMap::from_headers(headers);
        Ok(Request::from_parts(metadata, extensions, message))
    }
}

fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(TIMEOUT)?.to_str().ok()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn too_large() -> Error {
    Error::invalid(format!(
        "Request payload size exceeds the limit: {REQUEST_SIZE_MAX} bytes."
    ))
}

/// The whole body.
async fn whole(headers: &HeaderMap, mut body: Body) -> Result<Bytes, Status> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > DROPPED_SIZE_MAX) {
        return Err(too_large().into());
    }
    let mut first: Option<Bytes> = None;
    let mut joined = BytesMut::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        size += data.len();
        if size > DROPPED_SIZE_MAX {
            break;
        }
        if size > REQUEST_SIZE_MAX {
            (first, joined) = (None, BytesMut::new());
        } else if first.is_none() && joined.is_empty() {
            first = Some(data);
        } else {
            joined.extend_from_slice(&first.take().unwrap_or_default());
            joined.extend_from_slice(&data);
        }
    }
    if size > REQUEST_SIZE_MAX {
        return Err(too_large().into());
    }
    Ok(first.unwrap_or_else(|| joined.freeze()))
}

/// The same without what it was packed in.
async fn unpacked(headers: &HeaderMap, body: Bytes) -> Result<Bytes, Status> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else {
        return Ok(body);
    };
    match encoding.as_bytes() {
        b"identity" => return Ok(body),
        b"gzip" | b"x-gzip" => {}
        other => {
            let text = format!(
                "Content-Encoding must be gzip or identity, found \"{}\".",
                other.escape_ascii()
            );
            return Err(Error::invalid(text).into());
        }
    }
    let unpacking = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        let bound = u64::try_from(REQUEST_SIZE_MAX).unwrap_or(u64::MAX);
        gzip::unpack(&body)
            .take(bound.saturating_add(1))
            .read_to_end(&mut text)
            .map(|_| text)
    });
    let text = unpacking
        .await
        .map_err(|_| Error::ShuttingDown)?
        .map_err(|error| Error::invalid(format!("The body is not packed by gzip: {error}.")))?;
    if text.len() > REQUEST_SIZE_MAX {
        return Err(too_large().into());
    }
    Ok(text.into())
}
