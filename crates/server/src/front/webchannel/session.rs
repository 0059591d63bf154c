//! One session as a state machine, without IO and without a clock: what is to be done is said by its answers.
//!
//! # The back channel
//!
//! At most one request at a time carries arrays to the client, and the newest counts: a client that believes its request
//! dead makes another. Each gets a turn, a number that rises, and so does who looks after the session while there is
//! none; whoever comes with an old turn is told to leave.
//!
//! A request that streams is ended in good order now and then, because only then does a client say what it has: when
//! so much is kept for it that the service may not be asked for more, when it has fallen silent with more kept than an idle
//! session should cost, and after `STREAM_LIFE_MAX` in any case, which is also how a client that vanished is found out.
//! A client answers the end of a request by another at once. It must have received something on each, or it takes the
//! network for broken; so each begins with an array, if only with one that says nothing, and that at once, for clients
//! measure whether something on the way holds answers back.
//!
//! A proxy that holds answers back until they are long escapes the measuring when the first is long. It shows when a
//! client, by a form or by giving up its request, says that it has not what was sent to it `HELD_AFTER` before; its
//! requests then end with the first arrays, whatever it asks for.
//!
//! What is not done: arrays are not sent with answers to forward requests, and hosts and versions are not negotiated.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::arrays::{Arrays, CHUNK_BYTES_MAX};
use super::complaint::Complaint;
use super::form::Map;
use super::maps::Maps;

/// How long a session without a back channel is kept. Clients wait up to half of it before they try again.
pub const LINGER: Duration = Duration::from_secs(60);

/// What clients are told about how often they hear something; they give up after half as much again.
pub const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// After so long without any array one is sent that says nothing.
const SILENCE_MAX: Duration = Duration::from_secs(25);

/// How long an answer that ends may be waited for, if the client does not say, and if it does.
const HOLD: Duration = Duration::from_secs(25);
/// See `HOLD`: what a client may ask for.
const HOLD_MIN: Duration = Duration::from_secs(1);

/// How long one request streams.
const STREAM_LIFE_MAX: Duration = Duration::from_secs(300);

/// Bytes that are kept for a client that hears nothing new for `REST`, at most, before it is asked what it has.
const SILENT_KEPT_MAX: usize = 4 * 1024;
/// See `SILENT_KEPT_MAX`.
const REST: Duration = Duration::from_secs(5);

/// What was sent so long ago and is not there was held back on its way.
const HELD_AFTER: Duration = Duration::from_secs(2);
/// A client that gives up a request makes the next so soon.
const GIVES_UP_WITHIN: Duration = Duration::from_secs(1);

/// What says nothing.
const NOOP: Bytes = Bytes::from_static(b"\"noop\"");

/// How the client wants its arrays.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// All that come, on one answer.
    Stream,
    /// An answer that ends with those that are there once one is, or after this time.
    LongPoll(Duration),
}

impl Carriage {
    /// An answer that ends, for which the client waits as long as it said.
    pub fn long_poll(hold_ms: Option<u64>) -> Self {
        let hold = hold_ms.map_or(HOLD, Duration::from_millis);
        Carriage::LongPoll(hold.clamp(HOLD_MIN, HOLD))
    }
}

/// Who may carry what the session says: the newest.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Turn(u64);

/// What the one whose turn it is does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Send(Bytes),
    /// Nothing, until there is more to say or this moment has come.
    Wait(Instant),
    /// The answer is over; the client makes another request if it wants more.
    End,
}

#[derive(Debug)]
enum BackChannel {
    /// None, since then. On the last one something was sent last at the other moment.
    Absent {
        since: Instant,
        heard: Option<Instant>,
    },
    Open {
        carriage: Carriage,
        since: Instant,
        /// When something was sent last; at first `since`.
        heard: Instant,
        /// Something was sent.
        begun: bool,
    },
}

/// One session.
#[derive(Debug)]
pub struct Session {
    maps: Maps,
    arrays: Arrays,
    turn: u64,
    back_channel: BackChannel,
    /// Something on the way holds answers back until they end.
    held_back: bool,
    /// The service says no more.
    ended: bool,
    /// The client has left, or was given up.
    gone: bool,
}

impl Session {
    /// A session that has answered its handshake.
    pub fn new(now: Instant) -> Self {
        Self {
            maps: Maps::default(),
            arrays: Arrays::default(),
            turn: 0,
            back_channel: BackChannel::Absent {
                since: now,
                heard: None,
            },
            held_back: false,
            ended: false,
            gone: false,
        }
    }

    /// A map of the client; see `Maps::receive`. After the end there is nobody to take it.
    pub fn receive(&mut self, number: u64, map: Map) -> Result<bool, Complaint> {
        if self.ended {
            return Ok(false);
        }
        self.maps.receive(number, map)
    }

    /// The next map for the service.
    pub fn take_map(&mut self) -> Option<Map> {
        self.maps.take()
    }

    /// Whether more maps may be read.
    pub fn has_room_for_maps(&self) -> bool {
        self.maps.has_room()
    }

    /// What is answered to maps: whether there is a back channel, the newest array sent, and bytes outstanding.
    pub fn standing(&self) -> (bool, u64, usize) {
        let open = matches!(self.back_channel, BackChannel::Open { .. });
        let outstanding = self.arrays.outstanding_bytes();
        (open, self.arrays.last_sent(), outstanding)
    }

    /// The client has all arrays up to this one.
    pub fn acknowledge(&mut self, id: u64, now: Instant) -> Result<(), Complaint> {
        self.arrays.acknowledge(id)?;
        let heard = match self.back_channel {
            BackChannel::Open {
                carriage: Carriage::Stream,
                heard,
                begun: true,
                since: _,
            } => Some(heard),
            BackChannel::Absent { since, heard } if now < since + GIVES_UP_WITHIN => heard,
            BackChannel::Open { .. } | BackChannel::Absent { .. } => None,
        };
        if id < self.arrays.last_sent() && heard.is_some_and(|heard| now >= heard + HELD_AFTER) {
            self.held_back = true;
        }
        Ok(())
    }

    /// The client has made a request for arrays, which replaces the one before, and has all up to this one. Returns its
    /// turn, how its arrays are carried, and how many of them are sent again.
    pub fn open(
        &mut self,
        acknowledged: u64,
        carriage: Carriage,
        now: Instant,
    ) -> Result<(Turn, Carriage, usize), Complaint> {
        self.acknowledge(acknowledged, now)?;
        let carriage = if self.held_back && carriage == Carriage::Stream {
            Carriage::LongPoll(HOLD)
        } else {
            carriage
        };
        let again = self.arrays.rewind();
        self.back_channel = BackChannel::Open {
            carriage,
            since: now,
            heard: now,
            begun: false,
        };
        self.turn += 1;
        Ok((Turn(self.turn), carriage, again))
    }

    /// The request of this turn is over. If it was the newest, there is no back channel from now on, and the turn of who
    /// looks after the session is returned.
    pub fn close(&mut self, turn: Turn, now: Instant) -> Option<Turn> {
        if !self.has_turn(turn) {
            return None;
        }
        let heard = match self.back_channel {
            BackChannel::Open {
                carriage: Carriage::Stream,
                heard,
                begun: true,
                since: _,
            } => Some(heard),
            BackChannel::Open { .. } | BackChannel::Absent { .. } => None,
        };
        self.back_channel = BackChannel::Absent { since: now, heard };
        self.turn += 1;
        Some(Turn(self.turn))
    }

    /// The turn of who looks after a session that has just begun.
    pub fn first_turn(&self) -> Turn {
        Turn(self.turn)
    }

    /// Whether it is still this one's turn.
    pub fn has_turn(&self, turn: Turn) -> bool {
        self.turn == turn.0 && !self.gone
    }

    /// What the service says, in ASCII.
    pub fn say(&mut self, text: Bytes) {
        self.arrays.push(text);
    }

    /// The service says no more, and takes none.
    pub fn end(&mut self) {
        self.ended = true;
        self.maps = Maps::default();
    }

    /// The client has left, or is given up.
    pub fn leave(&mut self) {
        self.gone = true;
    }

    /// Whether it is left, or has ended and its client knows everything.
    pub fn is_over(&self) -> bool {
        self.gone || (self.ended && self.arrays.is_empty())
    }

    /// Whether the client has left, or was given up.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether the service may be asked for more before what there is has left.
    pub fn wants_more(&self) -> bool {
        let waits = match self.back_channel {
            BackChannel::Open {
                carriage: Carriage::LongPoll(_),
                begun: true,
                since: _,
                heard: _,
            } => true,
            BackChannel::Open { .. } => self.arrays.unsent_bytes() >= CHUNK_BYTES_MAX,
            BackChannel::Absent { .. } => false,
        };
        !self.ended && !self.gone && !waits && self.arrays.has_room()
    }

    /// When it is given up, if no request for arrays comes.
    pub fn expires(&self) -> Option<Instant> {
        match self.back_channel {
            BackChannel::Absent { since, heard: _ } => Some(since + LINGER),
            BackChannel::Open { .. } => None,
        }
    }

    /// What the request of this turn does next. Asked after the service was asked for more.
    pub fn next(&mut self, turn: Turn, now: Instant) -> Next {
        let has_turn = self.has_turn(turn);
        let BackChannel::Open {
            carriage,
            since,
            heard,
            begun,
        } = &mut self.back_channel
        else {
            return Next::End;
        };
        if !has_turn {
            return Next::End;
        }
        if let Some(chunk) = self.arrays.chunk() {
            *heard = now;
            *begun = true;
            return Next::Send(chunk);
        }
        match *carriage {
            Carriage::LongPoll(_) if *begun => return Next::End,
            Carriage::LongPoll(_) | Carriage::Stream => {}
        }
        let keeps_much = self.arrays.bytes_kept() > SILENT_KEPT_MAX;
        let (silent, over) = match *carriage {
            Carriage::LongPoll(hold) => (*since + hold, None),
            // At once.
            Carriage::Stream if !*begun => (now, None),
            Carriage::Stream => {
                let life = *since + STREAM_LIFE_MAX;
                let over = if self.held_back || !self.arrays.has_room() {
                    now
                } else if keeps_much {
                    life.min(*heard + REST)
                } else {
                    life
                };
                (*heard + SILENCE_MAX, Some(over))
            }
        };
        if over.is_some_and(|over| now >= over) || (self.ended && *begun) {
            return Next::End;
        }
        if now < silent && !self.ended {
            return Next::Wait(over.map_or(silent, |over| silent.min(over)));
        }
        self.arrays.push(NOOP);
        *heard = now;
        *begun = true;
        match self.arrays.chunk() {
            Some(chunk) => Next::Send(chunk),
            None => Next::End,
        }
    }

    /// Bytes that it holds of what came and what is to go.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.maps.bytes() + self.arrays.bytes_kept()
    }
}

#[cfg(test)]
mod tests;
