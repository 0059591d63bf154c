//! Who moves a session: the body of the newest request for arrays, or a keeper while there is none.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use super::live::Live;
use super::session::{Carriage, Next, Turn};
use super::sessions::Sessions;

/// The arrays of a session, as the body of an answer.
pub struct Carried {
    live: Arc<Live>,
    sessions: Arc<Sessions>,
    turn: Turn,
    begun: bool,
    over: bool,
    /// Never later than the moment that is waited for. It is set anew when it has rung, and not for each array.
    alarm: Pin<Box<Sleep>>,
}

impl Carried {
    /// What the session says from now on, in this turn.
    pub fn new(live: Arc<Live>, sessions: Arc<Sessions>, turn: Turn, carriage: Carriage) -> Self {
        Self {
            live,
            sessions,
            turn,
            begun: matches!(carriage, Carriage::LongPoll(_)),
            over: false,
            alarm: Box::pin(sleep_until(Instant::now())),
        }
    }

    fn end(&mut self) {
        if self.over {
            return;
        }
        self.over = true;
        if let Some(turn) = self.live.close(self.turn) {
            keep(Arc::clone(&self.live), Arc::clone(&self.sessions), turn);
        }
    }

    /// Whether this moment has come; calls then otherwise.
    fn has_come(&mut self, moment: Instant, cx: &mut Context<'_>) -> bool {
        if moment < self.alarm.deadline() {
            self.alarm.as_mut().reset(moment);
        }
        while self.alarm.as_mut().poll(cx).is_ready() {
            if moment <= Instant::now() {
                return true;
            }
            self.alarm.as_mut().reset(moment);
        }
        false
    }
}

impl HttpBody for Carried {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        while !this.over {
            // Something leaves at once, and the rest after it.
            if std::mem::replace(&mut this.begun, true) {
                this.live.carry(this.turn, cx);
            }
            match this.live.next(this.turn) {
                Next::Send(chunk) => return Poll::Ready(Some(Ok(Frame::data(chunk)))),
                Next::Wait(until) => {
                    if !this.has_come(Instant::from_std(until), cx) {
                        return Poll::Pending;
                    }
                }
                Next::End => this.end(),
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.end();
    }
}

/// Looks after a session until a request for arrays comes, or gives it up when none does.
pub fn keep(live: Arc<Live>, sessions: Arc<Sessions>, turn: Turn) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        // The process ends, and everything with it.
        return;
    };
    // It ends with its turn, and at the latest when the session is given up.
    drop(runtime.spawn(async move {
        let Some(expires) = live.expires(turn) else {
            return;
        };
        let mut alarm = pin!(sleep_until(expires));
        let has_expired = poll_fn(|cx| {
            if !live.carry(turn, cx) {
                return Poll::Ready(false);
            }
            alarm.as_mut().poll(cx).map(|()| true)
        })
        .await;
        if has_expired && live.give_up(turn) {
            sessions.lose(live.sid());
        }
    }));
}
