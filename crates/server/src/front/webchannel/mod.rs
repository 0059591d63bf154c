//! WebChannel: how the web SDK speaks `Listen` and `Write`, two-way streams, over ordinary requests of HTTP.
//!
//! # The protocol
//!
//! A **handshake** (a POST without a session) opens a session, which is one stream of the service. Messages of the client,
//! *maps*, come in the forms of **forward** requests (POST), the first of them with the handshake. Messages for the client,
//! *arrays*, go out on the answer to its **back channel** (a GET), which streams, or ends with the first arrays where the
//! network does not let answers stream. `TYPE=terminate` ends the session. Maps and arrays are numbered, so that each
//! side can repeat what the other may not have received: a client repeats a form, and the server repeats on a new back
//! channel what the client has not said to have.
//!
//! What a client would send as headers stands in the handshake's form, for a page may ask another origin without asking
//! first only as long as it sets none.
//!
//! # The parts
//!
//! `form` reads what clients send, `framing` writes what they read. `maps` and `arrays` are the two directions, and
//! `session` is both with the rules of the back channel; these three neither wait nor know the time, and are held to a
//! model of a client in a network that loses, repeats and overtakes. `drive` is the service behind a session, the same that
//! gRPC has. `live` puts a session and its service together; `carrier` moves them, and `sessions` finds them by id.
//!
//! # What it costs
//!
//! A session has no task while its client listens: the answer's body asks the service itself. A telling that many
//! browsers are told is written as JSON once and shared until they have acknowledged it. Every side is bounded: maps
//! (`maps::READY_MAX`, beyond which a form is read no further), large forms (`LARGE_FORMS_MAX`), arrays (`arrays::KEPT_MAX`, beyond which the service is
//! not asked, whose outbox then bounds what waits), sessions (`sessions::SESSIONS_MAX`), and the time without a back
//! channel (`session::LINGER`).
//!
//! # Two streams of one page
//!
//! A page has a session for each database and method. Over HTTP/2 a client is told that it may send ten forward requests at
//! once; over HTTP/1 it sends one at a time, and its browser opens at most six connections to a host, of which
//! each back channel holds one.
//!
//! What is not here: gRPC-Web, the handshake by GET that the SDK never makes, and sessions that outlive the process:
//! after a restart a client is told that its session is unknown, opens another, and goes on where it was.

mod arrays;
mod carrier;
mod complaint;
mod drive;
mod form;
mod framing;
mod live;
mod maps;
mod session;
mod sessions;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use self::carrier::{Carried, keep};
use self::complaint::Complaint;
use self::drive::Method;
use self::form::{Form, Part, Query};
use self::live::Live;
use self::session::{Carriage, KEEP_ALIVE};
use self::sessions::Sessions;
use crate::auth::Tokens;
use crate::databases::Databases;
use crate::front::http::HttpFront;
use crate::front::pages;
use crate::service::commit::random;

/// Tells a client what to send along from then on, for those who spread requests over servers.
const HTTP_SESSION_ID: HeaderName = HeaderName::from_static("x-http-session-id");
/// Tells a client that it may send several forward requests at once.
const CLIENT_WIRE_PROTOCOL: HeaderName = HeaderName::from_static("x-client-wire-protocol");

/// The front. Its streams end when `shutdown` is cancelled.
pub struct WebChannel {
    channel: Arc<Channel>,
}

struct Channel {
    databases: Arc<Databases>,
    tokens: Tokens,
    shutdown: CancellationToken,
    sessions: Arc<Sessions>,
    large_forms: Semaphore,
    /// The same for all sessions of the process.
    http_session_id: HeaderValue,
}

impl WebChannel {
    pub fn new(databases: Arc<Databases>, tokens: Tokens, shutdown: CancellationToken) -> Self {
        let sessions = Arc::new(Sessions::new(Arc::clone(databases.metrics().channel())));
        let http_session_id = HeaderValue::from_str(&format!("{:016x}", random()))
            .expect("digits may stand in a header");
        let channel = Arc::new(Channel {
            databases,
            tokens,
            shutdown,
            sessions,
            large_forms: Semaphore::new(LARGE_FORMS_MAX),
            http_session_id,
        });
        Self { channel }
    }
}

impl HttpFront for WebChannel {
    fn takes(&self, request: &Request<Body>) -> bool {
        Method::at(request.uri().path()).is_some()
    }

    fn answer(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let channel = Arc::clone(&self.channel);
        async move {
            let (parts, body) = request.into_parts();
            let answer = channel.answer(&parts, body).await;
            answer.unwrap_or_else(Complaint::answer)
        }
        .boxed()
    }
}

impl Channel {
    async fn answer(&self, parts: &Parts, body: Body) -> Result<Response<Body>, Complaint> {
        let Some(method) = Method::at(parts.uri.path()) else {
            return Ok(pages::status(StatusCode::NOT_FOUND));
        };
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        if let Some(version) = query.version.as_deref().filter(|version| *version != "8") {
            return Err(Complaint::bad(format!(
                "expected version 8 of the protocol, found {version:?}"
            )));
        }
        let kind = query.kind.as_deref();
        match (&parts.method, query.sid.as_deref(), kind) {
            // By whatever means a page that is closed has left; and whoever is gone may be ended again.
            (&http::Method::POST | &http::Method::GET, Some(sid), Some("terminate")) => {
                if let Ok(live) = self.sessions.get(sid) {
                    live.check(method, query.database.as_deref())?;
                    self.sessions.end(sid);
                }
                Ok(text(Body::empty()))
            }
            (&http::Method::POST, None, None | Some("init")) => {
                self.handshake(method, parts, &query, body).await
            }
            (&http::Method::POST, Some(sid), None) => {
                let live = self.session(sid, method, &query)?;
                self.forward(&live, &query, body).await
            }
            (&http::Method::GET, Some(sid), None | Some("xmlhttp")) => {
                let live = self.session(sid, method, &query)?;
                self.back(live, &query)
            }
            (&http::Method::POST | &http::Method::GET, _, _) => Err(Complaint::bad(
                "expected a handshake (POST), maps (POST with SID), arrays (GET with SID and TYPE=xmlhttp) \
                 or the end (SID and TYPE=terminate)",
            )),
            _ => Ok(pages::status(StatusCode::METHOD_NOT_ALLOWED)),
        }
    }

    /// The session that a request belongs to, which says what its client has. One whose client knows that it has ended is
    /// no more.
    fn session(&self, sid: &str, method: Method, query: &Query) -> Result<Arc<Live>, Complaint> {
        let live = self.sessions.get(sid)?;
        live.check(method, query.database.as_deref())?;
        live.acknowledge(query.acknowledged)?;
        if live.is_over() {
            self.sessions.end(sid);
            return Err(Complaint::UnknownSession);
        }
        Ok(live)
    }

    async fn handshake(
        &self,
        method: Method,
        parts: &Parts,
        query: &Query,
        body: Body,
    ) -> Result<Response<Body>, Complaint> {
        request_number(query)?;
        let mut headers = parts.headers.clone();
        if let Some(block) = &query.headers {
            headers.extend(form::headers(block)?);
        }
        let mut opening = Opening {
            channel: self,
            method,
            database: query.database.as_deref(),
            headers,
            has_block: false,
            live: None,
        };
        let read = opening.read(body).await;
        let live = match (read, &opening.live) {
            (Ok(()), Some(live)) => live,
            (Ok(()), None) => &opening.begin()?,
            (Err(complaint), Some(live)) => {
                self.sessions.end(live.sid());
                return Err(complaint);
            }
            (Err(complaint), None) => return Err(complaint),
        };
        let keep_alive_ms = u64::try_from(KEEP_ALIVE.as_millis()).unwrap_or(u64::MAX);
        let mut answer = text(Body::new(framing::handshake(live.sid(), keep_alive_ms)));
        let headers = answer.headers_mut();
        if query.http_session_id.is_some() {
            headers.insert(HTTP_SESSION_ID, self.http_session_id.clone());
        }
        if parts.version == Version::HTTP_2 {
            headers.insert(CLIENT_WIRE_PROTOCOL, HeaderValue::from_static("h2"));
        }
        Ok(answer)
    }

    async fn forward(
        &self,
        live: &Arc<Live>,
        query: &Query,
        body: Body,
    ) -> Result<Response<Body>, Complaint> {
        request_number(query)?;
        let mut arriving = Arriving::new(body, &self.large_forms);
        while let Some(parts) = arriving.parts().await? {
            for part in parts {
                match part {
                    Part::Map(number, map) => live.receive(number, map)?,
                    Part::Headers(_) => {
                        return Err(Complaint::bad("expected headers with the handshake only"));
                    }
                }
            }
            if !arriving.is_whole() {
                live.room().await?;
            }
        }
        let (back_channel, last_sent, outstanding) = live.acknowledge(None)?;
        let received = framing::received(back_channel, last_sent, outstanding);
        Ok(text(Body::new(received)))
    }

    fn back(&self, live: Arc<Live>, query: &Query) -> Result<Response<Body>, Complaint> {
        if query.rid.as_deref() != Some("rpc") {
            return Err(Complaint::bad(
                "expected RID=rpc in a request for arrays, found another or none",
            ));
        }
        let carriage = if query.long_poll {
            Carriage::long_poll(query.hold_ms)
        } else {
            Carriage::Stream
        };
        let (turn, carriage) = live.open(query.acknowledged.unwrap_or(0), carriage)?;
        let carried = Carried::new(live, Arc::clone(&self.sessions), turn, carriage);
        Ok(text(Body::new(carried)))
    }
}

/// A handshake whose form is being read. The session begins with its first map, for the form of a client that has been
/// away may be longer than what is kept of it.
struct Opening<'a> {
    channel: &'a Channel,
    method: Method,
    database: Option<&'a str>,
    headers: HeaderMap,
    /// The form had headers, whose number is bounded once.
    has_block: bool,
    live: Option<Arc<Live>>,
}

impl Opening<'_> {
    async fn read(&mut self, body: Body) -> Result<(), Complaint> {
        let mut arriving = Arriving::new(body, &self.channel.large_forms);
        while let Some(parts) = arriving.parts().await? {
            for part in parts {
                match part {
                    Part::Map(number, map) => self.begin()?.receive(number, map)?,
                    Part::Headers(_) if self.live.is_some() => {
                        return Err(Complaint::bad("expected headers before the first map"));
                    }
                    Part::Headers(_) if self.has_block => {
                        return Err(Complaint::bad("expected headers once, found them again"));
                    }
                    Part::Headers(headers) => {
                        self.headers.extend(headers);
                        self.has_block = true;
                    }
                }
            }
            if let Some(live) = self.live.as_ref().filter(|_| !arriving.is_whole()) {
                live.room().await?;
            }
        }
        Ok(())
    }

    /// The session, which begins now if it has not.
    fn begin(&mut self) -> Result<Arc<Live>, Complaint> {
        if let Some(live) = &self.live {
            return Ok(Arc::clone(live));
        }
        let channel = self.channel;
        // Whoever knows it can read what its client reads.
        let sid = secret()?;
        let (live, turn) = Live::begin(
            sid.into(),
            self.method,
            self.database.map(Into::into),
            // Those of the block count too.
            channel.tokens.caller(&self.headers),
            &channel.databases,
            channel.shutdown.clone(),
        );
        channel.sessions.put(&live)?;
        keep(Arc::clone(&live), Arc::clone(&channel.sessions), turn);
        self.live = Some(Arc::clone(&live));
        Ok(live)
    }
}

/// An id that nobody can guess, from the system's source of secrets.
fn secret() -> Result<String, Complaint> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|_| Complaint::Busy("the system has no randomness for the id of a session"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Forward requests are numbered. The numbers of their maps say more, so that these are only looked at.
fn request_number(query: &Query) -> Result<(), Complaint> {
    let rid = query.rid.as_deref().unwrap_or_default();
    match rid.parse::<u64>() {
        Ok(_) => Ok(()),
        Err(_) => Err(Complaint::bad("expected a number as RID of a POST")),
    }
}

/// Forms beyond this many bytes are large.
const SMALL_FORM_MAX: usize = 64 * 1024;

/// Large forms that are read at the same time in the process. Of each, one map may be kept until it is whole; others wait,
/// and what their clients send waits in the transport.
const LARGE_FORMS_MAX: usize = 64;

/// How long a client may be silent in the middle of a form, and how long one waits to be read.
const FORM_SILENCE_MAX: Duration = Duration::from_secs(60);

/// The leave to read a form, however large it becomes.
struct Room<'a> {
    large_forms: &'a Semaphore,
    bytes: usize,
    held: Option<SemaphorePermit<'a>>,
}

impl<'a> Room<'a> {
    fn new(large_forms: &'a Semaphore) -> Self {
        Self {
            large_forms,
            bytes: 0,
            held: None,
        }
    }

    /// For so much more of it.
    async fn take(&mut self, bytes: usize) -> Result<(), Complaint> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > SMALL_FORM_MAX && self.held.is_none() {
            let waits = timeout(FORM_SILENCE_MAX, self.large_forms.acquire()).await;
            let Ok(Ok(held)) = waits else {
                return Err(Complaint::Busy("too many large forms"));
            };
            self.held = Some(held);
        }
        Ok(())
    }
}

/// A form as it arrives, read no faster than there is room for it.
struct Arriving<'a> {
    body: Body,
    room: Room<'a>,
    /// `None` once it is whole.
    form: Option<Form>,
}

impl<'a> Arriving<'a> {
    fn new(body: Body, large_forms: &'a Semaphore) -> Self {
        Self {
            body,
            room: Room::new(large_forms),
            form: Some(Form::default()),
        }
    }

    fn is_whole(&self) -> bool {
        self.form.is_none()
    }

    /// What has become whole with the next data; `None` after the end.
    async fn parts(&mut self) -> Result<Option<Vec<Part>>, Complaint> {
        let Some(mut form) = self.form.take() else {
            return Ok(None);
        };
        let mut parts = Vec::new();
        match data(&mut self.body).await? {
            Some(bytes) => {
                self.room.take(bytes.len()).await?;
                form.push(&bytes, &mut parts)?;
                self.form = Some(form);
            }
            None => form.end(&mut parts)?,
        }
        Ok(Some(parts))
    }
}

/// The next data of a body; `None` at its end.
async fn data(body: &mut Body) -> Result<Option<Bytes>, Complaint> {
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
        let Ok(frame) = timeout(FORM_SILENCE_MAX, frame).await else {
            return Err(Complaint::bad("expected a whole form, heard nothing more"));
        };
        match frame {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(_)) => return Err(Complaint::bad("expected a whole form, found a part")),
        }
    }
}

/// An answer that nothing on the way may keep, change or hold back.
fn text(body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests;
