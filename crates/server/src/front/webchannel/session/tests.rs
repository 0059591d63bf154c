//! The session against a client in a network that loses, repeats and overtakes, and its moments one by one.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::front::webchannel::arrays::{KEPT_BYTES_MAX, KEPT_MAX};
use crate::front::webchannel::framing;
use crate::front::webchannel::maps::{EARLY_BYTES_MAX, READY_BYTES_MAX};

/// What may happen, chosen by a number.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The service says so many messages of this length, if it is asked.
    Say(usize, usize),
    /// The client hands a message to its transport.
    Send,
    /// One of the forms that are under way arrives; it may be a copy that stays under way.
    Arrive(usize, bool),
    /// The client asks for arrays, whatever became of its last request.
    Ask(bool),
    /// An earlier request of the client arrives again, late.
    AskAgain(usize),
    /// The newest request is asked what it does.
    Carry,
    /// One that was replaced is asked.
    CarryOld(usize),
    /// What the newest request sends next is lost, and the connection with it.
    Lose,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..6_usize, 1..30_000_usize).prop_map(|(count, len)| Step::Say(count, len)),
        3 => Just(Step::Send),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, copy)| Step::Arrive(which, copy)),
        2 => any::<bool>().prop_map(Step::Ask),
        1 => any::<usize>().prop_map(Step::AskAgain),
        5 => Just(Step::Carry),
        1 => any::<usize>().prop_map(Step::CarryOld),
        1 => Just(Step::Lose),
        1 => (1..60_u64).prop_map(Step::Pass),
    ]
}

struct World {
    session: Session,
    now: Instant,
    said: u64,
    /// Numbers of messages that the client has read.
    read: Vec<u64>,
    /// The highest array that it has.
    has: u64,
    sent: u64,
    /// Forms under way, as the numbers of their maps.
    forms: VecDeque<u64>,
    taken: Vec<u64>,
    turns: Vec<Turn>,
    asked: Vec<u64>,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            session: Session::new(now),
            now,
            said: 0,
            read: Vec::new(),
            has: 0,
            sent: 0,
            forms: VecDeque::new(),
            taken: Vec::new(),
            turns: Vec::new(),
            asked: Vec::new(),
        }
    }

    fn say(&mut self, len: usize) {
        let text = format!("\"{}:{}\"", self.said, "x".repeat(len));
        self.session.say(text.into());
        self.said += 1;
    }

    fn ask(&mut self, acknowledged: u64, long_poll: bool) {
        let carriage = if long_poll {
            Carriage::long_poll(Some(5_000))
        } else {
            Carriage::Stream
        };
        let (turn, _, _) = self.session.open(acknowledged, carriage, self.now).unwrap();
        self.turns.push(turn);
        self.asked.push(acknowledged);
    }

    fn arrive(&mut self, number: u64) -> bool {
        let map = Map::Text(number.to_string().into());
        let arrived = self.session.receive(number, map).is_ok();
        while let Some(map) = self.session.take_map() {
            let Map::Text(text) = map else {
                panic!("no map is too large")
            };
            let text = std::str::from_utf8(&text).unwrap();
            self.taken.push(text.parse().unwrap());
        }
        arrived
    }

    /// The newest request goes on; returns whether it sent something.
    fn carry(&mut self, arrives: bool) -> bool {
        let Some(turn) = self.turns.last().copied() else {
            return false;
        };
        match self.session.next(turn, self.now) {
            Next::Send(chunk) if arrives => self.reads(&chunk),
            Next::Send(_) => {
                self.session.close(turn, self.now);
                self.turns.push(turn);
            }
            Next::Wait(until) => {
                assert!(until > self.now);
                return false;
            }
            Next::End => {
                self.session.close(turn, self.now);
                return false;
            }
        }
        true
    }

    fn reads(&mut self, chunk: &[u8]) {
        for (id, message) in framing::tests::read(std::str::from_utf8(chunk).unwrap()) {
            if id <= self.has {
                continue;
            }
            assert_eq!(id, self.has + 1, "none is left out");
            self.has = id;
            let text = message.as_str().unwrap();
            if let Some((number, _)) = text.split_once(':') {
                self.read.push(number.parse().unwrap());
            } else {
                assert_eq!(text, "noop");
            }
        }
    }

    fn check(&self) {
        let numbers: Vec<u64> = (0..).take(self.read.len()).collect();
        assert_eq!(self.read, numbers, "each once, in order");
        let numbers: Vec<u64> = (0..).take(self.taken.len()).collect();
        assert_eq!(self.taken, numbers, "each once, in order");
        // One step of the service may go beyond the bound.
        let bound = KEPT_BYTES_MAX + 250_000 + READY_BYTES_MAX + EARLY_BYTES_MAX;
        assert!(self.session.bytes() <= bound);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn everything_arrives_once_and_in_order(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Say(count, len) => {
                    for _ in 0..count {
                        if world.session.wants_more() {
                            world.say(len);
                        }
                    }
                }
                Step::Send => {
                    world.forms.push_back(world.sent);
                    world.sent += 1;
                }
                Step::Arrive(which, copy) if !world.forms.is_empty() => {
                    let which = which % world.forms.len();
                    let number = world.forms[which];
                    if world.arrive(number) && !copy {
                        world.forms.remove(which);
                    }
                }
                Step::Ask(long_poll) => world.ask(world.has, long_poll),
                Step::AskAgain(which) if !world.asked.is_empty() => {
                    // The client does not read from it, and asks again when nothing comes.
                    let acknowledged = world.asked[which % world.asked.len()];
                    world.ask(acknowledged, false);
                    world.ask(world.has, false);
                }
                Step::Carry => {
                    world.carry(true);
                }
                Step::CarryOld(which) if world.turns.len() > 1 => {
                    let turn = world.turns[which % (world.turns.len() - 1)];
                    if !world.session.has_turn(turn) {
                        prop_assert_eq!(world.session.next(turn, world.now), Next::End);
                        prop_assert_eq!(world.session.close(turn, world.now), None);
                    }
                }
                Step::Lose => {
                    world.carry(false);
                }
                Step::Pass(seconds) => world.now += Duration::from_secs(seconds),
                Step::Arrive(..) | Step::AskAgain(_) | Step::CarryOld(_) => {}
            }
            world.check();
        }
        // The network is well again.
        while let Some(number) = world.forms.pop_front() {
            prop_assert!(world.arrive(number));
        }
        for _ in 0..60 {
            world.ask(world.has, false);
            while world.carry(true) {}
        }
        world.check();
        prop_assert_eq!(world.read.len() as u64, world.said);
        prop_assert_eq!(world.taken.len() as u64, world.sent);
        world.session.end();
        world.session.acknowledge(world.has, world.now).unwrap();
        prop_assert!(world.session.is_over());
        prop_assert_eq!(world.session.bytes(), 0);
    }
}

fn texts(chunk: &Next) -> Vec<String> {
    let Next::Send(chunk) = chunk else {
        panic!("{chunk:?} sends nothing");
    };
    framing::tests::read(std::str::from_utf8(chunk).unwrap())
        .into_iter()
        .map(|(id, message)| format!("{id}:{message}"))
        .collect()
}

#[test]
fn a_stream_begins_at_once_and_is_never_silent_for_long() {
    let start = Instant::now();
    let mut session = Session::new(start);
    let (turn, _, _) = session.open(0, Carriage::Stream, start).unwrap();
    assert_eq!(texts(&session.next(turn, start)), ["1:\"noop\""]);
    let Next::Wait(until) = session.next(turn, start) else {
        panic!("nothing is to be said");
    };
    assert!(until - start < KEEP_ALIVE);
    assert_eq!(texts(&session.next(turn, until)), ["2:\"noop\""]);
    session.say(Bytes::from_static(b"\"a\""));
    assert_eq!(texts(&session.next(turn, until)), ["3:\"a\""]);
    assert_eq!(session.standing(), (true, 3, 15));
    session.acknowledge(3, until).unwrap();
    assert_eq!(session.standing(), (true, 3, 0));
    assert!(session.acknowledge(4, until).is_err());
}

#[test]
fn a_long_poll_ends_with_what_comes_first_or_when_its_time_is_over() {
    let start = Instant::now();
    let mut session = Session::new(start);
    let carriage = Carriage::long_poll(Some(5_000));
    let (turn, _, _) = session.open(0, carriage, start).unwrap();
    let until = start + Duration::from_secs(5);
    assert_eq!(session.next(turn, start), Next::Wait(until));
    assert_eq!(texts(&session.next(turn, until)), ["1:\"noop\""]);
    assert_eq!(session.next(turn, until), Next::End);
    let keeper = session.close(turn, until).unwrap();
    assert!(session.has_turn(keeper));
    assert_eq!(session.standing(), (false, 1, 6));
    let (turn, _, _) = session.open(1, carriage, until).unwrap();
    assert!(!session.has_turn(keeper));
    session.say(Bytes::from_static(b"\"a\""));
    // What was there goes out on one answer, however many pieces it takes, and the service is not asked for more.
    session.say(Bytes::from("1".repeat(CHUNK_BYTES_MAX)));
    session.say(Bytes::from_static(b"\"b\""));
    assert!(matches!(session.next(turn, until), Next::Send(_)));
    assert!(!session.wants_more());
    assert_eq!(texts(&session.next(turn, until)), ["4:\"b\""]);
    assert_eq!(session.next(turn, until), Next::End);
    // A client cannot ask to be kept waiting for longer than something on the way would wait.
    assert_eq!(
        Carriage::long_poll(Some(u64::MAX)),
        Carriage::LongPoll(HOLD)
    );
    assert_eq!(Carriage::long_poll(None), Carriage::LongPoll(HOLD));
    assert_eq!(Carriage::long_poll(Some(0)), Carriage::LongPoll(HOLD_MIN));
}

#[test]
fn what_is_kept_is_bounded_and_a_stream_ends_to_learn_what_the_client_has() {
    let now = Instant::now();
    let mut session = Session::new(now);
    let (turn, _, _) = session.open(0, Carriage::Stream, now).unwrap();
    let mut said = 0;
    loop {
        while session.wants_more() {
            session.say(Bytes::from(format!("\"{}\"", "x".repeat(50_000))));
            said += 1;
        }
        match session.next(turn, now) {
            Next::Send(_) => {}
            Next::End => break,
            Next::Wait(_) => panic!("there is more"),
        }
    }
    assert!(said <= KEPT_BYTES_MAX / 50_000 + 1);
    let (open, last, _) = session.standing();
    assert!(open);
    let (turn, _, again) = session.open(last, Carriage::Stream, now).unwrap();
    assert_eq!(again, 0);
    assert!(session.wants_more());
    // As many small ones.
    while session.wants_more() {
        session.say(Bytes::from_static(b"1"));
        session.next(turn, now);
    }
    assert!(session.bytes() <= KEPT_MAX);
}

#[test]
fn an_idle_session_keeps_little_and_one_that_vanished_is_found_out() {
    let start = Instant::now();
    let mut session = Session::new(start);
    let (turn, _, _) = session.open(0, Carriage::Stream, start).unwrap();
    session.say(Bytes::from(vec![b'1'; 10_000]));
    assert!(matches!(session.next(turn, start), Next::Send(_)));
    let Next::Wait(until) = session.next(turn, start) else {
        panic!("all was said");
    };
    assert_eq!(session.next(turn, until), Next::End);
    let (turn, _, _) = session.open(1, Carriage::Stream, until).unwrap();
    let mut now = until;
    let end = loop {
        match session.next(turn, now) {
            Next::Send(_) => {}
            Next::Wait(until) => now = until,
            Next::End => break now,
        }
    };
    assert_eq!(end - until, STREAM_LIFE_MAX);
    session.close(turn, end).unwrap();
    assert_eq!(session.expires(), Some(end + LINGER));
}

#[test]
fn the_end_is_said_until_the_client_knows_it() {
    let now = Instant::now();
    let mut session = Session::new(now);
    let (turn, _, _) = session.open(0, Carriage::Stream, now).unwrap();
    session.say(Bytes::from_static(b"{\"error\":1}"));
    session.end();
    for round in 0..3 {
        let turn = if round == 0 {
            turn
        } else {
            session.open(0, Carriage::Stream, now).unwrap().0
        };
        assert_eq!(texts(&session.next(turn, now)), ["1:{\"error\":1}"]);
        assert_eq!(session.next(turn, now), Next::End);
        assert!(!session.is_over());
    }
    session.open(1, Carriage::Stream, now).unwrap();
    assert!(session.is_over());
    // Nobody takes maps then, and none is kept.
    session
        .receive(0, Map::Text(Bytes::from(vec![0; READY_BYTES_MAX])))
        .unwrap();
    assert!(session.has_room_for_maps());
    assert_eq!(session.take_map(), None);
    let mut session = Session::new(now);
    let (turn, _, _) = session.open(0, Carriage::Stream, now).unwrap();
    session.leave();
    assert!(session.is_over());
    assert_eq!(session.next(turn, now), Next::End);
}

#[test]
fn answers_that_are_held_back_on_their_way_are_ended() {
    let start = Instant::now();
    let later = start + HELD_AFTER;
    // A form says that what was sent is not there.
    let mut session = Session::new(start);
    let (turn, _, _) = session.open(0, Carriage::Stream, start).unwrap();
    session.say(Bytes::from_static(b"1"));
    assert!(matches!(session.next(turn, start), Next::Send(_)));
    session.acknowledge(0, start).unwrap();
    assert!(matches!(session.next(turn, start), Next::Wait(_)));
    session.acknowledge(0, later).unwrap();
    assert_eq!(session.next(turn, later), Next::End);
    session.close(turn, later).unwrap();
    let (turn, carriage, again) = session.open(1, Carriage::Stream, later).unwrap();
    assert_eq!((carriage, again), (Carriage::LongPoll(HOLD), 0));
    assert!(matches!(session.next(turn, later), Next::Wait(_)));
    // A client gives up its request, for whichever reason, and is found to lack what was sent on it; but not when it was
    // away meanwhile.
    for (pause, held) in [(Duration::ZERO, true), (GIVES_UP_WITHIN * 2, false)] {
        let mut session = Session::new(start);
        let (turn, _, _) = session.open(0, Carriage::Stream, start).unwrap();
        session.say(Bytes::from_static(b"1"));
        assert!(matches!(session.next(turn, start), Next::Send(_)));
        session.close(turn, later).unwrap();
        let (_, carriage, _) = session.open(0, Carriage::Stream, later + pause).unwrap();
        assert_eq!(carriage != Carriage::Stream, held);
    }
}
