//! Writes the history down while it happens, and sums it up as one number.
//!
//! Every line of the trace goes into the number: two runs with the same number have seen the same things in the same
//! order. Nothing here decides what is right; what the world itself finds wrong is only kept.

use std::cell::RefCell;
use std::rc::Rc;

use watchfire_model::DatabaseName;

use crate::history::{
    ClientId, History, Incident, Moment, Operation, OperationKind, Stored, Stream, StreamEnd,
    StreamEvent, StreamNumber, TransactionNumber, Watched,
};
use crate::oracle::Violation;
use crate::time::Time;

/// Clones share what is written down.
#[derive(Clone)]
pub struct Recorder {
    time: Time,
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    step: u64,
    transactions: u64,
    operations: Vec<Operation>,
    streams: Vec<Stream>,
    incidents: Vec<(Moment, Incident)>,
    violations: Vec<Violation>,
    hash: Hash,
    /// The trace itself, when somebody wants to read it.
    lines: Option<Vec<String>>,
}

/// FNV-1a.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn add(&mut self, text: &str) {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// What is left of a run.
pub struct Record {
    /// What the oracle judges.
    pub history: History,
    /// What the world itself found wrong.
    pub violations: Vec<Violation>,
    /// The trace as one number.
    pub hash: u64,
    /// The trace, if it was asked for.
    pub lines: Vec<String>,
}

impl Recorder {
    /// Nothing has happened yet. The trace is kept as text if it is wanted.
    #[must_use]
    pub fn new(time: Time, wants_lines: bool) -> Self {
        let state = State {
            lines: wants_lines.then(Vec::new),
            ..State::default()
        };
        Self {
            time,
            state: Rc::new(RefCell::new(state)),
        }
    }

    /// Now, before or after everything else.
    #[must_use]
    pub fn moment(&self) -> Moment {
        let micros = self.time.now_micros();
        let mut state = self.state.borrow_mut();
        state.step += 1;
        Moment {
            step: state.step,
            micros,
        }
    }

    /// A transaction that there has not been before.
    #[must_use]
    pub fn new_transaction(&self) -> TransactionNumber {
        let mut state = self.state.borrow_mut();
        state.transactions += 1;
        TransactionNumber(state.transactions)
    }

    /// An operation has ended.
    pub fn operation(&self, client: ClientId, started: Moment, kind: OperationKind) {
        let ended = self.moment();
        self.line(ended, || {
            format!("{client:?} since {} {kind:?}", started.step)
        });
        self.state.borrow_mut().operations.push(Operation {
            client,
            started,
            ended,
            kind,
        });
    }

    /// A stream is about to be opened.
    #[must_use]
    pub fn stream_opened(&self, client: ClientId) -> StreamNumber {
        let opened = self.moment();
        let number = StreamNumber(self.state.borrow().streams.len());
        self.line(opened, || format!("{client:?} {number:?} opened"));
        self.state.borrow_mut().streams.push(Stream {
            client,
            opened,
            targets: Vec::new(),
            events: Vec::new(),
            ended: None,
        });
        number
    }

    /// A target is about to be asked for.
    pub fn watched(&self, number: StreamNumber, watched: Watched) {
        self.line(watched.asked, || format!("{number:?} {watched:?}"));
        self.stream(number, |stream| stream.targets.push(watched));
    }

    /// A target is about to be given up.
    pub fn unwatched(&self, number: StreamNumber, target_id: i32) {
        let moment = self.moment();
        self.line(moment, || format!("{number:?} gives up {target_id}"));
        self.stream(number, |stream| {
            let target = stream.targets.iter_mut().rev();
            if let Some(target) = target
                .into_iter()
                .find(|target| target.target_id == target_id)
            {
                target.removed = Some(moment);
            }
        });
    }

    /// Something came through a stream, or was made of it.
    pub fn event(&self, number: StreamNumber, event: StreamEvent) {
        let moment = self.moment();
        self.line(moment, || format!("{number:?} {event:?}"));
        self.stream(number, |stream| stream.events.push((moment, event)));
    }

    /// A stream has ended.
    pub fn stream_ended(&self, number: StreamNumber, end: StreamEnd) {
        let moment = self.moment();
        self.line(moment, || format!("{number:?} {end:?}"));
        self.stream(number, |stream| stream.ended = Some((moment, end)));
    }

    /// The world did something on purpose, or saw it.
    pub fn incident(&self, incident: Incident) {
        let moment = self.moment();
        self.line(moment, || format!("{incident:?}"));
        self.state.borrow_mut().incidents.push((moment, incident));
    }

    /// The world itself has found something wrong.
    pub fn violation(&self, law: &'static str, text: String) {
        let moment = self.moment();
        self.line(moment, || format!("VIOLATION {law}: {text}"));
        self.state
            .borrow_mut()
            .violations
            .push(Violation { law, text });
    }

    /// Everything. The recorder is empty afterwards.
    #[must_use]
    pub fn finish(&self, seed: u64, database: DatabaseName, stored: Stored) -> Record {
        let moment = self.moment();
        self.line(moment, || format!("{stored:?}"));
        let state = std::mem::take(&mut *self.state.borrow_mut());
        Record {
            history: History {
                seed,
                database,
                operations: state.operations,
                streams: state.streams,
                incidents: state.incidents,
                stored,
            },
            violations: state.violations,
            hash: state.hash.0,
            lines: state.lines.unwrap_or_default(),
        }
    }

    fn stream(&self, number: StreamNumber, change: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.state.borrow_mut().streams.get_mut(number.0) {
            change(stream);
        }
    }

    fn line(&self, moment: Moment, text: impl FnOnce() -> String) {
        let line = format!("{} {} {}", moment.step, moment.micros, text());
        let mut state = self.state.borrow_mut();
        state.hash.add(&line);
        if let Some(lines) = &mut state.lines {
            lines.push(line);
        }
    }
}
