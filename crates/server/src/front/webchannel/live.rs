//! A session with its service, and who moves them.
//!
//! Nothing here has a task as long as the client listens: whoever carries the session's arrays, the body of the answer to
//! its newest request, asks the service for more each time the transport asks the body. While there is no such request a
//! keeper does the same, because what the client sends must be carried out, and ends when a request comes or when the
//! session is given up. Both show their turn (see `session`), and the service is asked under a lock, after the turn was
//! looked at: an old carrier never asks after a new one, so that the service always knows the newest to call.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::stream::Stream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::complaint::Complaint;
use super::drive::{Drive, Method, Said};
use super::form::Map;
use super::session::{Carriage, Next, Session, Turn};
use crate::auth::{Caller, TokenError};
use crate::databases::Databases;
use crate::error::Error;
use crate::metrics::webchannel::ChannelCounts;

/// One session of the process.
pub struct Live {
    sid: Box<str>,
    method: Method,
    /// What the handshake's address says.
    database: Option<Box<str>>,
    shared: Arc<Shared>,
    drive: Mutex<Drive>,
    counts: Arc<ChannelCounts>,
}

/// What the service reads from, and everybody else looks at.
struct Shared {
    state: Mutex<State>,
    /// Maps were taken, or nobody takes any more.
    room: Notify,
}

struct State {
    session: Session,
    /// Who waits for maps, if somebody does.
    reader: Option<Waker>,
    /// Who carries the arrays.
    carrier: Option<Waker>,
}

/// The maps of a session, as they are taken by its service.
struct Taken(Arc<Shared>);

impl Stream for Taken {
    type Item = Map;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Map>> {
        let mut state = lock(&self.0.state);
        if state.session.is_gone() {
            return Poll::Ready(None);
        }
        let had_room = state.session.has_room_for_maps();
        if let Some(map) = state.session.take_map() {
            if !had_room && state.session.has_room_for_maps() {
                self.0.room.notify_waiters();
            }
            return Poll::Ready(Some(map));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Live {
    /// A session that has answered its handshake, and the turn of who looks after it. One whose caller is refused says so and
    /// ends, for only so does a client learn that it needs other credentials.
    pub fn begin(
        sid: Box<str>,
        method: Method,
        database: Option<Box<str>>,
        caller: Result<Caller, TokenError>,
        databases: &Arc<Databases>,
        shutdown: CancellationToken,
    ) -> (Arc<Self>, Turn) {
        let session = Session::new(Instant::now().into_std());
        let turn = session.first_turn();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                session,
                reader: None,
                carrier: None,
            }),
            room: Notify::new(),
        });
        let drive = match caller {
            // As long as there are no rules, who it is does not matter.
            Ok(_) => Drive::begin(method, databases, shutdown, Taken(Arc::clone(&shared))),
            Err(error) => Drive::refused(Error::Token(error)),
        };
        let live = Arc::new(Self {
            sid,
            method,
            database,
            shared,
            drive: Mutex::new(drive),
            counts: Arc::clone(databases.metrics().channel()),
        });
        (live, turn)
    }

    /// By what clients name it.
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// Whether a request with this method and database can be one of it.
    pub fn check(&self, method: Method, database: Option<&str>) -> Result<(), Complaint> {
        if self.method != method || (database.is_some() && self.database.as_deref() != database) {
            return Err(Complaint::bad(
                "expected the method and the database with which the session was opened",
            ));
        }
        Ok(())
    }

    /// A map of the client.
    pub fn receive(&self, number: u64, map: Map) -> Result<(), Complaint> {
        let reader = {
            let mut state = lock(&self.shared.state);
            let more = state.session.receive(number, map)?;
            if more { state.reader.take() } else { None }
        };
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }

    /// Waits until more maps may be read.
    pub async fn room(&self) -> Result<(), Complaint> {
        loop {
            let room = self.shared.room.notified();
            {
                let state = lock(&self.shared.state);
                if state.session.is_gone() {
                    return Err(Complaint::UnknownSession);
                }
                if state.session.has_room_for_maps() {
                    return Ok(());
                }
            }
            room.await;
        }
    }

    /// The client has all arrays up to this one. What is answered to its maps: see `Session::standing`.
    pub fn acknowledge(&self, id: Option<u64>) -> Result<(bool, u64, usize), Complaint> {
        let (standing, carrier) = {
            let mut state = lock(&self.shared.state);
            if let Some(id) = id {
                state.session.acknowledge(id, Instant::now().into_std())?;
            }
            // There may be room now.
            (state.session.standing(), state.carrier.take())
        };
        if let Some(carrier) = carrier {
            carrier.wake();
        }
        Ok(standing)
    }

    /// The client asks for arrays; see `Session::open`.
    pub fn open(
        &self,
        acknowledged: u64,
        carriage: Carriage,
    ) -> Result<(Turn, Carriage), Complaint> {
        let (turn, carriage, carrier) = {
            let mut state = lock(&self.shared.state);
            let now = Instant::now().into_std();
            let (turn, carriage, again) = state.session.open(acknowledged, carriage, now)?;
            self.counts.arrays_resent(again);
            (turn, carriage, state.carrier.take())
        };
        // It sees that its turn is over.
        if let Some(carrier) = carrier {
            carrier.wake();
        }
        Ok((turn, carriage))
    }

    /// See `Session::close`.
    pub fn close(&self, turn: Turn) -> Option<Turn> {
        let now = Instant::now().into_std();
        lock(&self.shared.state).session.close(turn, now)
    }

    /// Whether it is left, or has ended and its client knows everything.
    pub fn is_over(&self) -> bool {
        lock(&self.shared.state).session.is_over()
    }

    /// The client has left: whatever it asked for ends.
    pub fn leave(&self) {
        let carrier = {
            let mut state = lock(&self.shared.state);
            state.session.leave();
            state.carrier.take()
        };
        self.shared.room.notify_waiters();
        if let Some(carrier) = carrier {
            carrier.wake();
        }
        *lock(&self.drive) = Drive::Ended;
    }

    /// Gives it up if it is still this one's turn, whose patience has an end.
    pub fn give_up(&self, turn: Turn) -> bool {
        let has_turn = lock(&self.shared.state).session.has_turn(turn);
        if has_turn {
            self.leave();
        }
        has_turn
    }

    /// When it is given up; `None` when that is not for this turn to do.
    pub fn expires(&self, turn: Turn) -> Option<Instant> {
        let state = lock(&self.shared.state);
        if !state.session.has_turn(turn) {
            return None;
        }
        state.session.expires().map(Instant::from_std)
    }

    /// Asks the service for what may be said now, and carries out what the client has sent; calls again when there may be
    /// more. Returns whether it is still this one's turn.
    pub fn carry(&self, turn: Turn, cx: &mut Context<'_>) -> bool {
        let mut drive = lock(&self.drive);
        loop {
            {
                let mut state = lock(&self.shared.state);
                if !state.session.has_turn(turn) {
                    return false;
                }
                match &mut state.carrier {
                    Some(carrier) => carrier.clone_from(cx.waker()),
                    carrier @ None => *carrier = Some(cx.waker().clone()),
                }
                if !state.session.wants_more() {
                    return true;
                }
            }
            let Poll::Ready(said) = drive.poll(cx) else {
                return true;
            };
            let mut state = lock(&self.shared.state);
            match said {
                Said::Messages(texts) => {
                    for text in texts {
                        state.session.say(text);
                    }
                }
                Said::End(text) => {
                    if let Some(text) = text {
                        state.session.say(text);
                    }
                    state.session.end();
                    self.shared.room.notify_waiters();
                }
            }
        }
    }

    /// What the one whose turn it is does next.
    pub fn next(&self, turn: Turn) -> Next {
        let mut state = lock(&self.shared.state);
        let (_, before, _) = state.session.standing();
        let next = state.session.next(turn, Instant::now().into_std());
        let (_, after, _) = state.session.standing();
        self.counts.arrays_sent(after - before);
        next
    }
}

/// What is done under these locks leaves whole values behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
