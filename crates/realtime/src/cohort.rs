//! Streams that watch the same are one cohort: one session, worked out once, told to all.
//!
//! # Why
//!
//! When a thousand people look at one page, their streams watch the same targets under the same ids and have been told
//! the same. A change then costs one step of one session, one telling and one encoding, and for each stream no more
//! than a place in its queue.
//!
//! # The life of a stream
//!
//! A stream begins with a session of its own (`open`). Once that is at rest, with all of its targets current and nothing
//! owed, it joins the cohort that is in the same state, if there is one (`rest`). It leaves with a copy of the session
//! when it asks for something (`part`), and when it cannot keep up, so that it is told merged changes and the others are
//! told all; at rest again, it joins again.
//!
//! # Fairness
//!
//! What is said to a large cohort lies in its `outgoing` and is given to its members in slices of `SLICE`, cohort by
//! cohort in turns (`give`). A member knows up to where it has heard, so that it may leave in the middle.
//! A cohort has room to speak when most of its members have, by a sample: so it follows the pace of its middle, merges
//! changes when the middle cannot follow, and those who are slower than that are told apart (`give` names them).
//! Two rounds of one cohort are `PAUSE_PER_MEMBER` for each member apart. The first change after a while goes out at once;
//! when changes come faster than a large cohort can be told, several go to each member in one piece, which costs little
//! more than one, and the processor has time for others (`Telling::joined`).
//! Members who do not read at all hold up the others for `PATIENCE`, and are told apart then, a bounded number at a time
//! (`without_room` names them).
//!
//! # What is not done
//!
//! Cohorts of several members do not join each other.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchfire_engine::Version;
use watchfire_model::watch::WatchEvent;

use crate::counters::Counters;
use crate::error::StreamEnd;
use crate::gathering::Gathering;
use crate::outbox::{Queue, Telling, Weight};
use crate::session::Session;
use crate::target::{SessionId, SharedId, StreamId};

/// Streams that are told in one go before it is another cohort's turn.
pub const SLICE: usize = 1_024;
/// Tellings that a cohort has not been given yet, past which it does not speak.
pub const OUTGOING_MAX: usize = 64;
/// Time between the beginnings of two rounds, for each member: about what it costs to tell one.
pub const PAUSE_PER_MEMBER: Duration = Duration::from_micros(8);
/// Time between the beginnings of two rounds at most.
pub const PAUSE_MAX: Duration = Duration::from_millis(50);
/// Members up to which there is no pause.
const PAUSE_ABOVE_MEMBERS: usize = 64;
/// Members that are asked for room.
const SAMPLE: usize = 32;
/// How long members who do not read hold up the others of their cohort.
pub const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Stream {
    queue: Arc<Queue>,
    session: SessionId,
    /// The number of the last telling of its cohort that it was given.
    heard: u64,
    /// Its place among the members of its cohort.
    place: usize,
}

/// One session and the streams that are told what it says; at least one.
#[derive(Debug)]
pub struct Cohort {
    /// What all of them have been told and are owed.
    pub session: Session,
    members: Vec<StreamId>,
    /// Said and not given to all: numbered, in order.
    outgoing: VecDeque<(u64, Arc<Telling>)>,
    /// The number of the last telling.
    said: u64,
    /// The member to whom `outgoing` is given next, and the number of the last telling when this round began.
    next: usize,
    round: u64,
    /// When the next round may begin.
    round_due: Instant,
    /// The number of the last telling that members had heard when they joined; what came before is news for some only.
    joined_at: u64,
    /// Where the sample for room begins.
    sample: usize,
    /// Under what it can be found by those that are like it.
    filed: Option<u64>,
    /// The targets that each of its members watches, as they were counted last.
    watched: usize,
    /// The oldest commit that it owes word of.
    pub owes_since: Option<Version>,
    /// Since when it would speak and has no room.
    pub waits_since: Option<Instant>,
    /// The targets that go on from somewhere, before it has spoken for the first time.
    pub gathering: Option<Gathering>,
    /// When it has spoken last.
    pub spoke_at: Instant,
    /// When its next heartbeat is due.
    pub beat_due: Option<Instant>,
    /// Whether it has had its first heartbeat, which comes early.
    pub beaten: bool,
}

/// All streams of a hub. Bounded by whoever accepts connections.
#[derive(Debug, Default)]
pub struct Cohorts {
    streams: HashMap<StreamId, Stream>,
    cohorts: HashMap<SessionId, Cohort>,
    /// Cohorts at rest by signature.
    at_rest: HashMap<u64, SessionId>,
    /// Those with something outgoing, each once: whose turn comes, and whose next round is not due yet.
    giving: VecDeque<SessionId>,
    pausing: BTreeSet<(Instant, SessionId)>,
    /// Who has room to speak since all but one of its members left. Each once, as long as it has several.
    relieved: Vec<SessionId>,
    last_session: u64,
    /// Targets of all streams.
    watched: usize,
    /// Sessions that wait for room.
    waiting: usize,
    counters: Arc<Counters>,
}

/// What a session watches, by target id.
pub type Targets = Vec<(i32, SharedId)>;

/// What came of a turn.
#[derive(Debug, Default)]
pub struct Given {
    /// Who does not keep up.
    pub stragglers: Vec<StreamId>,
    /// Who had no room to speak and may have now.
    pub relieved: Vec<SessionId>,
}

/// A session that is gone.
#[derive(Debug)]
pub struct Gone {
    pub session: SessionId,
    /// What it watched.
    pub targets: Targets,
    /// When its next heartbeat was due.
    pub beat_due: Option<Instant>,
    /// Whether it has had its first heartbeat.
    pub beaten: bool,
}

impl Cohorts {
    /// Of a hub that counts there.
    pub fn new(counters: Arc<Counters>) -> Self {
        Self {
            counters,
            ..Self::default()
        }
    }

    /// The session of a stream.
    pub fn of(&self, stream: StreamId) -> Option<SessionId> {
        Some(self.streams.get(&stream)?.session)
    }

    /// A session with its streams.
    pub fn get(&self, session: SessionId) -> Option<&Cohort> {
        self.cohorts.get(&session)
    }

    /// As `get`, to be changed; whom it is told to is not.
    pub fn get_mut(&mut self, session: SessionId) -> Option<&mut Cohort> {
        self.cohorts.get_mut(&session)
    }

    /// The streams there are.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> {
        self.streams.keys().copied()
    }

    /// The numbers of streams and of sessions.
    pub fn len(&self) -> (usize, usize) {
        (self.streams.len(), self.cohorts.len())
    }

    /// The targets of all streams.
    pub fn targets(&self) -> usize {
        self.watched
    }

    /// The sessions that wait for room.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// A session would speak and has no room.
    pub fn wait(&mut self, id: SessionId, now: Instant) {
        if let Some(cohort) = self.cohorts.get_mut(&id)
            && cohort.waits_since.is_none()
        {
            cohort.waits_since = Some(now);
            self.waiting += 1;
            self.counters.waits.add(1);
        }
    }

    /// A session speaks, or has nothing to say any more.
    pub fn stop_waiting(&mut self, id: SessionId) {
        if let Some(cohort) = self.cohorts.get_mut(&id)
            && cohort.waits_since.take().is_some()
        {
            self.waiting -= 1;
        }
    }

    /// A new stream with a session of its own.
    pub fn open(&mut self, stream: StreamId, queue: Arc<Queue>, session: Session) -> SessionId {
        let id = self.add_cohort(session, stream);
        let stream_state = Stream {
            queue,
            session: id,
            heard: 0,
            place: 0,
        };
        self.streams.insert(stream, stream_state);
        id
    }

    /// The session of a stream, which is the stream's own from now on; `Some` when it is a new copy, which watches what
    /// the cohort does.
    pub fn part(&mut self, stream: StreamId) -> Option<(SessionId, Option<Targets>)> {
        let id = self.of(stream)?;
        let cohort = self.cohorts.get(&id)?;
        if cohort.members.len() == 1 {
            return Some((id, None));
        }
        let owes_since = cohort.owes_since;
        let session = cohort.session.fork();
        let targets: Targets = session.targets().collect();
        self.leave(stream);
        let own = self.add_cohort(session, stream);
        if let Some(cohort) = self.cohorts.get_mut(&own) {
            cohort.owes_since = owes_since;
        }
        if let Some(state) = self.streams.get_mut(&stream) {
            state.session = own;
            state.heard = 0;
            state.place = 0;
        }
        Some((own, Some(targets)))
    }

    /// Ends a stream; with the last of a cohort, its session.
    pub fn close(&mut self, stream: StreamId) -> Option<Gone> {
        let id = self.of(stream)?;
        self.leave(stream);
        self.streams.remove(&stream);
        if self.cohorts.get(&id)?.members.is_empty() {
            return self.remove_cohort(id);
        }
        None
    }

    /// Ends a stream with a reason, after what waits.
    pub fn end(&mut self, stream: StreamId, end: Option<StreamEnd>) -> Option<Gone> {
        let queue = Arc::clone(&self.streams.get(&stream)?.queue);
        let gone = self.close(stream);
        queue.end(end);
        gone
    }

    /// A session has come to rest, or may have: a stream of its own joins the cohort that is like it. Returns what is
    /// gone then, and whom it joined.
    pub fn rest(&mut self, id: SessionId) -> Option<(Gone, SessionId)> {
        let cohort = self.cohorts.get(&id)?;
        let signature = cohort.session.signature();
        let other = signature.and_then(|signature| self.at_rest.get(&signature).copied());
        if let ([stream], Some(other)) = (cohort.members.as_slice(), other)
            && cohort.outgoing.is_empty()
            && other != id
            // One that has just been told apart because it does not keep up joins again when it has read.
            && self.streams.get(stream).is_some_and(|stream| stream.queue.is_mostly_read())
            && let Some(like) = self.cohorts.get(&other)
            && like.session.is_like(&cohort.session)
        {
            let stream = *stream;
            let joined = cohort.session.told();
            let gone = self.remove_cohort(id)?;
            self.enter(stream, other);
            if let Some(cohort) = self.cohorts.get_mut(&other) {
                cohort.session.catch_up_with(joined);
            }
            return Some((gone, other));
        }
        self.file(id, signature);
        None
    }

    /// Says something to all streams of a session.
    pub fn say(&mut self, id: SessionId, events: Vec<WatchEvent>, weight: Weight) {
        let Some(cohort) = self.cohorts.get_mut(&id) else {
            return;
        };
        let told_to = cohort.members.len();
        let watched = cohort.session.len();
        self.watched = self.watched + watched * told_to - cohort.watched * told_to;
        cohort.watched = watched;
        let resets = events.iter().filter(|event| is_reset(event)).count();
        self.counters.events_delivered.add(events.len() * told_to);
        if resets > 0 {
            self.counters.resets_delivered.add(resets * told_to);
        }
        let mut since = None;
        if weight == Weight::Told {
            self.counters.snapshots_told.add(1);
            self.counters.snapshots_delivered.add(told_to);
            // A first result tells of all commits that ever were.
            since = cohort.owes_since.take();
            since = since.filter(|_| !events.iter().any(is_first));
        }
        let tellings = Telling::pieces(events, weight, since);
        if let ([stream], true) = (cohort.members.as_slice(), cohort.outgoing.is_empty()) {
            if let Some(stream) = self.streams.get(stream) {
                let unread = stream.queue.tell(&tellings);
                self.counters.queue_lengths.observe(unread);
            }
            return;
        }
        if cohort.outgoing.is_empty() && !tellings.is_empty() {
            cohort.next = 0;
            self.pausing.insert((cohort.round_due, id));
        }
        for telling in tellings {
            cohort.said += 1;
            cohort.outgoing.push_back((cohort.said, telling));
        }
    }

    /// Whether it is somebody's turn to be given what was said.
    pub fn is_giving(&self) -> bool {
        !self.giving.is_empty()
    }

    /// When the next turn comes, if it is nobody's.
    pub fn turn_due(&self) -> Option<Instant> {
        self.pausing.first().map(|(due, _)| *due)
    }

    /// Gives a slice of what is said to members of the cohort whose turn it is.
    pub fn give(&mut self) -> Given {
        let mut given = Given {
            relieved: std::mem::take(&mut self.relieved),
            ..Given::default()
        };
        if self.giving.is_empty() && self.pausing.is_empty() {
            return given;
        }
        let now = Instant::now();
        while let Some((due, id)) = self.pausing.first().copied()
            && due <= now
        {
            self.pausing.pop_first();
            self.giving.push_back(id);
        }
        let Some(id) = self.giving.pop_front() else {
            return given;
        };
        let Some(cohort) = self.cohorts.get_mut(&id) else {
            return given;
        };
        if cohort.next == 0 {
            cohort.begin_round(now);
        }
        let end = (cohort.next + SLICE).min(cohort.members.len());
        let mut asked = false;
        for name in cohort.members.get(cohort.next..end).unwrap_or_default() {
            if let Some(stream) = self.streams.get_mut(name) {
                let unread = hand_over(cohort.round, &cohort.outgoing, stream);
                // One of each slice is enough to know how long queues are.
                if let (Some(unread), false) = (unread, asked) {
                    self.counters.queue_lengths.observe(unread);
                    asked = true;
                }
                if stream.queue.straggles() {
                    given.stragglers.push(*name);
                }
            }
        }
        cohort.next = end;
        if end < cohort.members.len() {
            self.giving.push_back(id);
            return given;
        }
        cohort.next = 0;
        let round = cohort.round;
        while cohort
            .outgoing
            .front()
            .is_some_and(|(number, _)| *number <= round)
        {
            cohort.outgoing.pop_front();
        }
        if !cohort.outgoing.is_empty() {
            self.pausing.insert((cohort.round_due, id));
        }
        if cohort.waits_since.is_some() {
            given.relieved.push(id);
        }
        given
    }

    /// Whether a session may speak. When not, the dispatcher is called once one of those that were asked has read, and
    /// must look again after `PATIENCE`: they may never.
    pub fn has_room(&mut self, id: SessionId) -> bool {
        let Some(cohort) = self.cohorts.get_mut(&id) else {
            return false;
        };
        if cohort.outgoing.len() >= OUTGOING_MAX {
            return false;
        }
        let len = cohort.members.len();
        let asked = len.min(SAMPLE);
        let from = cohort.sample;
        cohort.sample = cohort.sample.wrapping_add(1);
        let rooms = (0..asked)
            .filter_map(|turn| {
                let place = (from.wrapping_add(turn * len / asked)) % len;
                self.streams.get(cohort.members.get(place)?)
            })
            .filter(|stream| stream.queue.has_room())
            .count();
        2 * rooms > asked
    }

    /// The members of a cohort of several whose queues are full.
    pub fn without_room(&self, id: SessionId) -> Vec<StreamId> {
        let Some(cohort) = self.cohorts.get(&id) else {
            return Vec::new();
        };
        let full = |name: &&StreamId| {
            self.streams
                .get(name)
                .is_some_and(|stream| !stream.queue.has_room())
        };
        cohort.members.iter().filter(full).copied().collect()
    }

    /// Whether more than one stream shares the session.
    pub fn is_shared(&self, id: SessionId) -> bool {
        self.cohorts
            .get(&id)
            .is_some_and(|cohort| cohort.members.len() > 1)
    }

    fn add_cohort(&mut self, session: Session, stream: StreamId) -> SessionId {
        self.last_session += 1;
        let id = SessionId(self.last_session);
        let watched = session.len();
        self.watched += watched;
        let cohort = Cohort {
            session,
            watched,
            owes_since: None,
            members: vec![stream],
            outgoing: VecDeque::new(),
            said: 0,
            next: 0,
            round: 0,
            round_due: Instant::now(),
            joined_at: 0,
            sample: 0,
            filed: None,
            waits_since: None,
            gathering: None,
            spoke_at: Instant::now(),
            beat_due: None,
            beaten: false,
        };
        self.cohorts.insert(id, cohort);
        id
    }

    fn remove_cohort(&mut self, id: SessionId) -> Option<Gone> {
        self.file(id, None);
        let cohort = self.cohorts.remove(&id)?;
        if !cohort.outgoing.is_empty() {
            self.giving.retain(|giving| *giving != id);
            self.pausing.remove(&(cohort.round_due, id));
        }
        self.watched -= cohort.watched * cohort.members.len();
        self.waiting -= usize::from(cohort.waits_since.is_some());
        Some(Gone {
            session: id,
            targets: cohort.session.targets().collect(),
            beat_due: cohort.beat_due,
            beaten: cohort.beaten,
        })
    }

    /// Takes a stream out of its cohort, after giving it what it has not been given.
    fn leave(&mut self, name: StreamId) {
        let Some(stream) = self.streams.get_mut(&name) else {
            return;
        };
        let session = stream.session;
        let Some(cohort) = self.cohorts.get_mut(&session) else {
            return;
        };
        hand_over(cohort.said, &cohort.outgoing, stream);
        let place = stream.place;
        if place >= cohort.members.len() {
            return;
        }
        cohort.members.swap_remove(place);
        self.watched -= cohort.watched;
        if let Some(moved) = cohort.members.get(place).copied()
            && let Some(stream) = self.streams.get_mut(&moved)
        {
            stream.place = place;
            if place < cohort.next {
                // It has come to where this round has been already.
                hand_over(cohort.round, &cohort.outgoing, stream);
            }
        }
        cohort.next = cohort.next.min(cohort.members.len());
        if let [only] = cohort.members.as_slice() {
            let only = *only;
            self.settle(session, only);
        }
    }

    /// Who is left alone is told everything at once: no round goes on for one, nor an answer waits for its end.
    fn settle(&mut self, id: SessionId, only: StreamId) {
        let (Some(cohort), Some(stream)) = (self.cohorts.get_mut(&id), self.streams.get_mut(&only))
        else {
            return;
        };
        if cohort.outgoing.is_empty() {
            return;
        }
        hand_over(cohort.said, &cohort.outgoing, stream);
        cohort.outgoing.clear();
        cohort.next = 0;
        if cohort.waits_since.is_some() {
            self.relieved.push(id);
        }
        self.giving.retain(|giving| *giving != id);
        self.pausing.remove(&(cohort.round_due, id));
    }

    fn enter(&mut self, name: StreamId, id: SessionId) {
        if let (Some(stream), Some(cohort)) =
            (self.streams.get_mut(&name), self.cohorts.get_mut(&id))
        {
            stream.session = id;
            stream.heard = cohort.said;
            cohort.joined_at = cohort.said;
            stream.place = cohort.members.len();
            cohort.members.push(name);
            self.watched += cohort.watched;
        }
    }

    fn file(&mut self, id: SessionId, signature: Option<u64>) {
        let Some(cohort) = self.cohorts.get_mut(&id) else {
            return;
        };
        let is_found = signature.is_none_or(|signature| self.at_rest.contains_key(&signature));
        if cohort.filed == signature && is_found {
            return;
        }
        if let Some(old) = cohort.filed.take()
            && self.at_rest.get(&old) == Some(&id)
        {
            self.at_rest.remove(&old);
        }
        let Some(signature) = signature else {
            return;
        };
        // A large cohort that owes something just now keeps its place: whoever is like it joins later.
        let members = cohort.members.len();
        let larger = self.at_rest.get(&signature).is_some_and(|other| {
            self.cohorts.get(other).is_some_and(|other| {
                other.filed == Some(signature) && other.members.len() > members
            })
        });
        if !larger && let Some(cohort) = self.cohorts.get_mut(&id) {
            cohort.filed = Some(signature);
            self.at_rest.insert(signature, id);
        }
    }
}

impl Cohort {
    /// Whoever is told in this round is told everything that has been said by now and nothing later, so that all have
    /// heard the same after it; in one piece as far as all had before.
    fn begin_round(&mut self, now: Instant) {
        self.round = self.said;
        let members = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        self.round_due = now
            + if self.members.len() > PAUSE_ABOVE_MEMBERS {
                PAUSE_PER_MEMBER.saturating_mul(members).min(PAUSE_MAX)
            } else {
                Duration::ZERO
            };
        let joined_at = self.joined_at;
        let news = self
            .outgoing
            .partition_point(|(number, _)| *number <= joined_at);
        if self.outgoing.len() - news > 1
            && let Some(joined) =
                Telling::joined(self.outgoing.range(news..).map(|(_, telling)| telling))
        {
            self.outgoing.truncate(news);
            self.outgoing.push_back((self.said, joined));
        }
    }
}

/// Gives a stream what it has not heard, up to a number. Returns how many events are unread then; nothing when it had
/// heard all.
fn hand_over(
    up_to: u64,
    outgoing: &VecDeque<(u64, Arc<Telling>)>,
    stream: &mut Stream,
) -> Option<usize> {
    if stream.heard >= up_to {
        return None;
    }
    let heard = stream.heard;
    let from = outgoing.partition_point(|(number, _)| *number <= heard);
    let to = outgoing.partition_point(|(number, _)| *number <= up_to);
    stream.heard = up_to;
    let tellings = outgoing.range(from..to).map(|(_, telling)| telling);
    Some(stream.queue.tell(tellings))
}

fn is_reset(event: &WatchEvent) -> bool {
    matches!(event, WatchEvent::Reset { .. })
}

/// Whether the event closes the first result of a target.
fn is_first(event: &WatchEvent) -> bool {
    matches!(event, WatchEvent::Current { .. })
}
