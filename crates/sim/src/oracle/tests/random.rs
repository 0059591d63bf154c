//! Random histories of a server that does one thing after the other, while its clients believe that much happens at
//! once: accepted, until one thing is altered.

use std::collections::BTreeMap;
use std::sync::Arc;

use watchfire_engine::{CommitEntry, Version};
use watchfire_model::watch::{Target, WatchEvent};
use watchfire_model::{Operation as WriteOperation, Precondition, Query, Value, Write};

use super::scribe::{
    Scribe, all, altered, count, delete, documents, increment, more_than, path, set, top,
};
use super::{accept, judge};
use crate::chance::Chance;
use crate::history::{
    Answer, Asked, Found, History, Moment, OperationKind, Outcome, ReadAt, Refusal, ResumedFrom,
    StreamEnd, StreamEvent, StreamNumber, TransactionReads, View,
};
use crate::oracle::timeline::{time_of, version_of};

/// Steps between two things that the server does.
const STRIDE: u64 = 1_000;
const PATHS: [&str; 12] = [
    "c/1", "c/2", "c/3", "c/4", "c/5", "c/6", "c/7", "c/8", "d/1", "d/2", "d/1/c/1", "c/1/c/2",
];
/// Values from here on are written once.
const UNIQUE: i64 = 100;
const STREAMS: usize = 4;

struct Listener {
    stream: usize,
    query: Arc<Query>,
    held: View,
    read_time: Option<Version>,
    current: bool,
}

struct Generator {
    chance: Chance,
    scribe: Scribe,
    queries: Vec<Arc<Query>>,
    unique: i64,
    point: u64,
    /// What has been begun, with the state that it read.
    open: Vec<TransactionReads>,
    listeners: Vec<Listener>,
}

fn random(seed: u64, operations: usize) -> History {
    let mut generator = Generator {
        chance: Chance::new(seed),
        scribe: Scribe::new(),
        queries: vec![
            all(),
            top(1),
            top(3),
            more_than(0),
            more_than(4),
            more_than(7),
            more_than(UNIQUE),
        ],
        unique: UNIQUE,
        point: 10,
        open: Vec::new(),
        listeners: Vec::new(),
    };
    while generator.scribe.history.operations.len() < operations {
        generator.point += 1;
        match generator.chance.weighted(&[30, 25, 8, 12, 25]) {
            0 => generator.commit(),
            1 => generator.read(),
            2 => generator.begin(),
            3 => generator.end_transaction(),
            _ => generator.listen(),
        }
    }
    for at in 0..generator.listeners.len() {
        generator.point += 1;
        generator.flush(at);
    }
    generator.scribe.end()
}

impl Generator {
    fn at(&self, step: u64) -> Moment {
        Moment {
            step,
            micros: step * 10,
        }
    }

    /// Some time before this point.
    fn before(&mut self) -> Moment {
        let step = self.point * STRIDE - self.chance.within(1, 5 * STRIDE);
        self.at(step)
    }

    /// Adds what ends some time after this point.
    fn note(&mut self, started: Moment, kind: OperationKind) {
        let step = self.point * STRIDE + self.chance.within(1, 5 * STRIDE);
        let ended = self.at(step);
        self.scribe.note(started, kind);
        self.scribe.history.operations.last_mut().unwrap().ended = ended;
    }

    fn writes(&mut self) -> Vec<Write> {
        let len = self.chance.within(1, 3);
        let mut writes: Vec<Write> = Vec::new();
        for _ in 0..len {
            let text = *self.chance.pick(&PATHS);
            if writes.iter().any(|write| write.path == path(text)) {
                continue;
            }
            writes.push(match self.chance.below(8) {
                0 => delete(text),
                1 | 2 => increment(text),
                3 => set(text, self.chance.below(10) as i64),
                _ => {
                    self.unique += 1;
                    set(text, self.unique)
                }
            });
        }
        writes
    }

    fn commit(&mut self) {
        let started = self.before();
        let mut writes = self.writes();
        let (transaction, unknown) = (None, || Outcome::Unknown("cut off".to_owned()));
        let outcome = match self.chance.below(20) {
            0 => unknown(),
            1 => {
                self.scribe.store(&writes);
                unknown()
            }
            2 => {
                writes.truncate(1);
                let there = self.scribe.state.contains_key(&writes[0].path);
                writes[0].precondition = Precondition::Exists(!there);
                Outcome::Refused(match there {
                    true => Refusal::AlreadyExists,
                    false => Refusal::NotFound,
                })
            }
            3 | 4 => {
                writes.truncate(1);
                let mut receipt = self.scribe.store(&writes);
                receipt.version = None;
                Outcome::Acknowledged(receipt)
            }
            _ => Outcome::Acknowledged(self.scribe.store(&writes)),
        };
        self.note(
            started,
            OperationKind::Commit {
                writes,
                transaction,
                outcome,
            },
        );
    }

    fn question(&mut self) -> Asked {
        let query = Arc::clone(self.chance.pick(&self.queries));
        match self.chance.below(4) {
            0 => Asked::Query(query),
            1 => count(query),
            _ => {
                let first: &str = self.chance.pick::<&str>(&PATHS[..6]);
                let second: &str = self.chance.pick::<&str>(&PATHS[6..]);
                documents(&[first, second])
            }
        }
    }

    /// The answer of the present.
    fn answer(&self, asked: &Asked) -> Answer {
        let state = &self.scribe.state;
        let evaluate = |query: &Query| -> Vec<Arc<watchfire_model::Document>> {
            let found = query.evaluate(state.values().map(Arc::as_ref));
            found
                .into_iter()
                .map(|document| Arc::clone(&state[&document.path]))
                .collect()
        };
        let found = match asked {
            Asked::Documents(paths) => {
                Found::Documents(paths.iter().map(|path| state.get(path).cloned()).collect())
            }
            Asked::Query(query) => Found::Query(evaluate(query)),
            Asked::Aggregate(query, _) => Found::Aggregate(vec![(
                "count".to_owned(),
                Value::Integer(evaluate(query).len() as i64),
            )]),
        };
        Answer {
            read_time: Version(self.scribe.head),
            found,
        }
    }

    fn read(&mut self) {
        let (started, asked) = (self.before(), self.question());
        let versions = &self.scribe.history.stored.entries;
        let past = match self.chance.happens(20) && !versions.is_empty() {
            true => Some(self.chance.pick(versions).version),
            false => None,
        };
        let (at, answer) = match past {
            Some(version) => (ReadAt::Past(version), self.scribe.answer(&asked, version.0)),
            None => (ReadAt::Latest, self.answer(&asked)),
        };
        self.note(
            started,
            OperationKind::Read {
                transaction: None,
                at,
                asked,
                outcome: Outcome::Acknowledged(answer),
            },
        );
    }

    fn begin(&mut self) {
        let mut transaction = self.scribe.transaction(Vec::new());
        transaction.begun = self.before();
        let mut started = transaction.begun;
        for _ in 0..self.chance.within(1, 2) {
            let asked = self.question();
            let answer = self.answer(&asked);
            transaction.reads.push((asked.clone(), answer.clone()));
            self.note(
                started,
                OperationKind::Read {
                    transaction: Some(transaction.number),
                    at: ReadAt::Latest,
                    asked,
                    outcome: Outcome::Acknowledged(answer),
                },
            );
            started = self.at(self.point * STRIDE);
        }
        self.open.push(transaction);
    }

    fn end_transaction(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.chance.below(self.open.len() as u64) as usize;
        let transaction = self.open.swap_remove(at);
        let started = self.before();
        let writes = self.writes();
        let holds = transaction.reads.iter().all(|(asked, answer)| {
            crate::oracle::same::same_found(&self.answer(asked).found, &answer.found)
        });
        let outcome = match holds {
            true => Outcome::Acknowledged(self.scribe.store(&writes)),
            false => Outcome::Refused(Refusal::Aborted),
        };
        self.note(
            started,
            OperationKind::Commit {
                writes,
                transaction: Some(transaction),
                outcome,
            },
        );
    }

    fn listen(&mut self) {
        if self.listeners.len() < STREAMS {
            let query = Arc::clone(self.chance.pick(&self.queries));
            self.open_stream(query, View::new(), None);
            return;
        }
        let at = self.chance.below(self.listeners.len() as u64) as usize;
        self.flush(at);
        if self.chance.happens(100) {
            let listener = self.listeners.swap_remove(at);
            let now = self.at(self.point * STRIDE + 900);
            self.scribe.history.streams[listener.stream].ended = Some((now, StreamEnd::Cut));
            let from = listener
                .read_time
                .map(|read_time| (listener.stream, read_time));
            self.point += 1;
            self.open_stream(listener.query, listener.held, from);
        }
    }

    fn open_stream(&mut self, query: Arc<Query>, held: View, from: Option<(usize, Version)>) {
        let resume = match from {
            None => ResumedFrom::Nothing,
            Some((stream, read_time)) => ResumedFrom::Token {
                token: b"t".to_vec(),
                stream: StreamNumber(stream),
                read_time,
                viewed: read_time,
                held: held.clone(),
            },
        };
        let stream = self
            .scribe
            .listen(Target::Query(Arc::clone(&query)), resume);
        let now = self.at(self.point * STRIDE);
        let next = self.at(self.point * STRIDE + 1);
        let written = &mut self.scribe.history.streams[stream];
        written.opened = now;
        written.targets[0].asked = now;
        written.events[0].0 = next;
        self.listeners.push(Listener {
            stream,
            query,
            held,
            read_time: None,
            current: false,
        });
    }

    /// Tells everything up to the present.
    fn flush(&mut self, at: usize) {
        let now = self.at(self.point * STRIDE + 500);
        let head = Version(self.scribe.head);
        let read_time = time_of(head);
        let state = &self.scribe.state;
        let listener = &mut self.listeners[at];
        let result: View = listener
            .query
            .evaluate(state.values().map(Arc::as_ref))
            .into_iter()
            .map(|document| (document.path.clone(), Arc::clone(&state[&document.path])))
            .collect();
        let mut events = Vec::new();
        for (path, document) in &result {
            let known = listener.held.get(path);
            if known.is_none_or(|known| known.update_time != document.update_time) {
                events.push(WatchEvent::Changed {
                    document: Arc::clone(document),
                    targets: vec![1],
                    removed_targets: Vec::new(),
                });
            }
        }
        for path in listener
            .held
            .keys()
            .filter(|path| !result.contains_key(path))
        {
            events.push(WatchEvent::Left {
                path: path.clone(),
                removed_targets: vec![1],
                read_time,
            });
        }
        if !listener.current {
            events.push(WatchEvent::Current {
                targets: vec![1],
                token: b"t".to_vec(),
                read_time,
            });
        }
        events.push(WatchEvent::Snapshot {
            token: b"t".to_vec(),
            read_time,
        });
        listener.current = true;
        listener.held = result;
        listener.read_time = Some(head);
        let stream = listener.stream;
        let views = BTreeMap::from([(1, listener.held.clone())]);
        let written = &mut self.scribe.history.streams[stream].events;
        written.extend(
            events
                .into_iter()
                .map(|event| (now, StreamEvent::Watch(event))),
        );
        written.push((
            now,
            StreamEvent::Views {
                read_time: head,
                views,
            },
        ));
    }
}

#[test]
fn random_histories_are_accepted() {
    for seed in 0..40 {
        accept(&random(seed, 150));
    }
}

/// One thing that is altered; false if the history has nothing like it.
type Spoil = fn(&mut History, &mut Chance) -> bool;

#[test]
fn spoilt_histories_are_rejected() {
    let spoils: [(&str, Spoil); 9] = [
        ("a read finds what never was", find_never),
        ("a read misses a document", miss),
        ("a read claims an earlier version", claim_earlier),
        ("two commits swap their versions", swap_versions),
        ("an acknowledged commit is lost", lose_commit),
        ("a commit is there that nobody asked for", forget_operation),
        ("a commit is there twice", repeat),
        ("a stream misses a change", miss_change),
        ("a snapshot goes back", go_back),
    ];
    for (what, spoil) in spoils {
        let mut spoilt = 0;
        for seed in 0..25 {
            let mut history = random(seed, 120);
            if spoil(&mut history, &mut Chance::new(seed + 1_000)) {
                spoilt += 1;
                assert!(!judge(&history).is_empty(), "{what}, seed {seed}");
            }
        }
        assert!(spoilt > 12, "{what}: {spoilt}");
    }
}

/// A random place among those that `fits`.
fn pick<T>(all: &[T], chance: &mut Chance, fits: impl Fn(&T) -> bool) -> Option<usize> {
    let places: Vec<usize> = (0..all.len()).filter(|at| fits(&all[*at])).collect();
    match places.is_empty() {
        true => None,
        false => Some(*chance.pick(&places)),
    }
}

fn found_of(kind: &mut OperationKind) -> Option<&mut Answer> {
    match kind {
        OperationKind::Read {
            outcome: Outcome::Acknowledged(answer),
            ..
        } => Some(answer),
        _ => None,
    }
}

/// A read that found a document, and the document.
fn documents_in(answer: &mut Answer) -> Vec<&mut Arc<watchfire_model::Document>> {
    match &mut answer.found {
        Found::Documents(documents) => documents.iter_mut().flatten().collect(),
        Found::Query(documents) => documents.iter_mut().collect(),
        Found::Aggregate(_) => Vec::new(),
    }
}

fn find_never(history: &mut History, chance: &mut Chance) -> bool {
    let at = pick(&history.operations, chance, |operation| {
        let mut kind = operation.kind.clone();
        found_of(&mut kind).is_some_and(|answer| !documents_in(answer).is_empty())
    });
    let Some(at) = at else { return false };
    let answer = found_of(&mut history.operations[at].kind).unwrap();
    let mut documents = documents_in(answer);
    let place = chance.below(documents.len() as u64) as usize;
    let document = documents.remove(place);
    *document = altered(document, -1);
    true
}

fn miss(history: &mut History, chance: &mut Chance) -> bool {
    let at = pick(&history.operations, chance, |operation| {
        let mut kind = operation.kind.clone();
        found_of(&mut kind).is_some_and(|answer| !documents_in(answer).is_empty())
    });
    let Some(at) = at else { return false };
    match &mut found_of(&mut history.operations[at].kind).unwrap().found {
        Found::Documents(documents) => {
            *documents
                .iter_mut()
                .find(|document| document.is_some())
                .unwrap() = None;
        }
        Found::Query(documents) => {
            documents.pop();
        }
        Found::Aggregate(_) => return false,
    }
    true
}

fn claim_earlier(history: &mut History, chance: &mut Chance) -> bool {
    let at = pick(&history.operations, chance, |operation| {
        let mut kind = operation.kind.clone();
        found_of(&mut kind).is_some_and(|answer| !documents_in(answer).is_empty())
    });
    let Some(at) = at else { return false };
    let answer = found_of(&mut history.operations[at].kind).unwrap();
    let update_time = documents_in(answer)[0].update_time;
    answer.read_time = Version(version_of(update_time).0 - 1);
    true
}

fn is_acknowledged(kind: &OperationKind, history: &History) -> Option<Version> {
    match kind {
        OperationKind::Commit {
            outcome: Outcome::Acknowledged(receipt),
            writes,
            ..
        } if writes.iter().any(is_unique) => receipt.version.filter(|version| {
            let entries = &history.stored.entries;
            entries.iter().any(|entry| entry.version == *version)
        }),
        _ => None,
    }
}

fn is_unique(write: &Write) -> bool {
    matches!(&write.operation, WriteOperation::Set(fields)
        if matches!(fields.get("a"), Some(Value::Integer(value)) if *value > UNIQUE))
}

fn swap_versions(history: &mut History, chance: &mut Chance) -> bool {
    let known = history.clone();
    let first = pick(&history.operations, chance, |operation| {
        is_acknowledged(&operation.kind, &known).is_some()
    });
    let second = pick(&history.operations, chance, |operation| {
        is_acknowledged(&operation.kind, &known).is_some()
    });
    let (Some(first), Some(second)) = (first, second) else {
        return false;
    };
    if first == second {
        return false;
    }
    for (at, from) in [(first, second), (second, first)] {
        let version = is_acknowledged(&known.operations[from].kind, &known);
        if let OperationKind::Commit {
            outcome: Outcome::Acknowledged(receipt),
            ..
        } = &mut history.operations[at].kind
        {
            receipt.version = version;
        }
    }
    true
}

fn lose_commit(history: &mut History, chance: &mut Chance) -> bool {
    let known = history.clone();
    let at = pick(&history.operations, chance, |operation| {
        is_acknowledged(&operation.kind, &known).is_some()
    });
    let Some(at) = at else { return false };
    let version = is_acknowledged(&known.operations[at].kind, &known).unwrap();
    // As if it never was: what came after begins where what came before ended.
    let mut state = View::new();
    let mut entries = Vec::new();
    for entry in &known.stored.entries {
        if entry.version == version {
            continue;
        }
        let mut changes = entry.changes.clone();
        for change in &mut changes {
            change.before = state.get(&change.path).cloned();
            match &change.after {
                Some(after) => state.insert(change.path.clone(), Arc::clone(after)),
                None => state.remove(&change.path),
            };
        }
        entries.push(Arc::new(CommitEntry {
            version: entry.version,
            changes,
        }));
    }
    history.stored.documents = state;
    history.stored.kept = entries.clone();
    history.stored.entries = entries;
    true
}

fn forget_operation(history: &mut History, chance: &mut Chance) -> bool {
    let known = history.clone();
    let at = pick(&history.operations, chance, |operation| {
        is_acknowledged(&operation.kind, &known).is_some()
    });
    let Some(at) = at else { return false };
    history.operations.remove(at);
    true
}

fn repeat(history: &mut History, chance: &mut Chance) -> bool {
    let mut scribe = Scribe::new();
    scribe.head = history.stored.head.0;
    scribe.state = history.stored.documents.clone();
    scribe.history = history.clone();
    let at = pick(&history.operations, chance, |operation| {
        is_acknowledged(&operation.kind, history).is_some()
    });
    let Some(at) = at else { return false };
    if let OperationKind::Commit { writes, .. } = &history.operations[at].kind {
        let entries = scribe.history.stored.entries.len();
        scribe.store(writes);
        if scribe.history.stored.entries.len() == entries {
            return false;
        }
    }
    // Nobody listens any more, who could have missed it.
    for stream in &mut scribe.history.streams {
        stream.ended = Some((Moment::default(), StreamEnd::Cut));
    }
    *history = scribe.end();
    true
}

fn miss_change(history: &mut History, chance: &mut Chance) -> bool {
    let told = |event: &(Moment, StreamEvent)| {
        matches!(
            event.1,
            StreamEvent::Watch(WatchEvent::Changed { .. } | WatchEvent::Left { .. })
        )
    };
    let stream = pick(&history.streams, chance, |stream| {
        stream.events.iter().any(told)
    });
    let Some(stream) = stream else { return false };
    let events = &mut history.streams[stream].events;
    let at = pick(events, chance, told).unwrap();
    events.remove(at);
    true
}

fn go_back(history: &mut History, chance: &mut Chance) -> bool {
    let snapshots = |events: &[(Moment, StreamEvent)]| -> Vec<usize> {
        (0..events.len())
            .filter(|at| {
                matches!(
                    events[*at].1,
                    StreamEvent::Watch(WatchEvent::Snapshot { .. })
                )
            })
            .collect()
    };
    let stream = pick(&history.streams, chance, |stream| {
        snapshots(&stream.events).len() > 1
    });
    let Some(stream) = stream else { return false };
    let events = &mut history.streams[stream].events;
    let places = snapshots(events);
    let (before, at) = (places[0], places[1]);
    let StreamEvent::Watch(WatchEvent::Snapshot {
        read_time: earlier, ..
    }) = events[before].1
    else {
        return false;
    };
    if let StreamEvent::Watch(WatchEvent::Snapshot { read_time, .. }) = &mut events[at].1 {
        *read_time = time_of(Version(version_of(earlier).0 - 1));
    }
    true
}

/// Much more than this makes a run of the world wait for its judge.
#[test]
fn five_thousand_operations() {
    let history = random(7, 5_000);
    let began = std::time::Instant::now();
    accept(&history);
    println!(
        "{} operations, {} entries, {} streams: {:?}",
        history.operations.len(),
        history.stored.entries.len(),
        history.streams.len(),
        began.elapsed()
    );
}
