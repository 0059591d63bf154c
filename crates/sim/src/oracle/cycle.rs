//! Strictly serializable, by values: no version of a read or a commit is trusted.
//!
//! # How
//!
//! Every transaction, and every read outside of one, is a node of a graph. What must come first points at what
//! must come after:
//!
//! - who wrote a state of a document, at who wrote the next one (the order of states is that of the changelog);
//! - who wrote a state, at who read it; who read a state, at who wrote the next one. A state is known by its
//!   contents, and only where a document came back to an earlier content by its update time too;
//! - who did not see a document in the result of a query, at who made it match, or from who made it not match,
//!   when only one of its states can be meant;
//! - who ended, at who began later.
//!
//! All of it can be put into one order if and only if there is no circle. The components are found by Tarjan's
//! algorithm, and in each the shortest circle, which is printed.
//!
//! # What is not done
//!
//! Totals prove nothing here: they do not say which documents they saw. Reads in the past have no place in real
//! time. After `PREDICATE_TESTS_MAX` states held against queries, what queries did not see is left to `serial`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use watchfire_engine::Version;
use watchfire_model::compare::identical_fields;
use watchfire_model::{Document, DocumentPath, Query, Value};

use crate::history::{
    Answer, Asked, Found, History, OperationKind, Outcome, ReadAt, TransactionNumber,
};
use crate::oracle::timeline::{Chain, Timeline};
use crate::oracle::writers::{Fate, Writers, writes_of};
use crate::oracle::{Violation, telling};

mod graph;

use graph::{Graph, Reason};

/// States of documents that are held against queries, all together.
pub const PREDICATE_TESTS_MAX: usize = 50_000;

/// Judges by values alone.
pub fn judge(history: &History, timeline: &Timeline<'_>, writers: &Writers) -> Vec<Violation> {
    let mut weaving = Weaving {
        history,
        timeline,
        writers,
        nodes: Vec::new(),
        of_operation: BTreeMap::new(),
        contents: timeline
            .chains()
            .map(|(path, chain)| (path, contents_of(chain)))
            .collect(),
        runs: HashMap::new(),
        tests: 0,
        graph: Graph::default(),
    };
    weaving.find_nodes();
    weaving.follow_states();
    weaving.follow_reads();
    weaving.follow_time();
    let circles = weaving.graph.shortest_circles(weaving.nodes.len());
    circles
        .into_iter()
        .map(|circle| Violation {
            law: "no circle",
            text: weaving.tell(&circle),
        })
        .collect()
}

/// A transaction, or a read outside of one.
struct Node<'a> {
    /// The operation that it is named for.
    operation: usize,
    /// When it began and ended, where that says something of its place.
    began: Option<u64>,
    ended: Option<u64>,
    reads: Vec<(&'a Asked, &'a Answer)>,
}

/// Where in its chain a document has these contents; places count from 1, and 0 is before the first state.
struct Contents {
    by_hash: HashMap<u64, Vec<usize>>,
    /// Runs of places at which there is no document.
    absent: Vec<(usize, usize)>,
}

struct Weaving<'a> {
    history: &'a History,
    timeline: &'a Timeline<'a>,
    writers: &'a Writers,
    nodes: Vec<Node<'a>>,
    /// The node of a commit.
    of_operation: BTreeMap<usize, usize>,
    contents: BTreeMap<&'a DocumentPath, Contents>,
    /// The one run of places at which the document is not in the query's result; `None` if there are several.
    runs: HashMap<(usize, &'a DocumentPath), Option<(usize, usize)>>,
    tests: usize,
    graph: Graph,
}

impl<'a> Weaving<'a> {
    fn find_nodes(&mut self) {
        let history = self.history;
        let mut past: BTreeSet<TransactionNumber> = BTreeSet::new();
        let mut committed: BTreeSet<TransactionNumber> = BTreeSet::new();
        for (number, operation) in history.operations.iter().enumerate() {
            match &operation.kind {
                OperationKind::Begin {
                    transaction,
                    options: crate::history::Begun::ReadOnly { read_time: Some(_) },
                    ..
                } => {
                    past.insert(*transaction);
                }
                OperationKind::Commit {
                    transaction,
                    outcome,
                    writes,
                } => {
                    let fate = self.writers.fates.get(&number);
                    let ended = matches!(outcome, Outcome::Acknowledged(_));
                    let stands = match fate {
                        Some(Fate::Entry(_)) => true,
                        // Without a change it is as good as its reads.
                        Some(Fate::Nothing) => transaction.is_some() && writes.is_empty(),
                        Some(Fate::Lost) | None => false,
                    };
                    if !stands {
                        continue;
                    }
                    let began = match (fate, transaction) {
                        (Some(Fate::Nothing), Some(reads)) => reads.begun.step,
                        _ => operation.started.step,
                    };
                    let is_past = transaction
                        .as_ref()
                        .is_some_and(|reads| past.contains(&reads.number));
                    let reads = transaction.iter().flat_map(|reads| &reads.reads);
                    if let Some(reads) = transaction {
                        committed.insert(reads.number);
                    }
                    self.of_operation.insert(number, self.nodes.len());
                    self.nodes.push(Node {
                        operation: number,
                        began: (!is_past).then_some(began),
                        ended: (ended && !is_past).then_some(operation.ended.step),
                        reads: reads.map(|(asked, answer)| (asked, answer)).collect(),
                    });
                }
                OperationKind::Begin { .. }
                | OperationKind::Read { .. }
                | OperationKind::Rollback { .. }
                | OperationKind::Alter { .. } => {}
            }
        }
        let mut given_up: BTreeMap<TransactionNumber, usize> = BTreeMap::new();
        for (number, operation) in history.operations.iter().enumerate() {
            let OperationKind::Read {
                transaction,
                at,
                asked,
                outcome: Outcome::Acknowledged(answer),
            } = &operation.kind
            else {
                continue;
            };
            let (started, ended) = (operation.started.step, operation.ended.step);
            let known = transaction.and_then(|transaction| given_up.get(&transaction));
            match (
                transaction,
                known.and_then(|place| self.nodes.get_mut(*place)),
            ) {
                (Some(transaction), _) if committed.contains(transaction) => {}
                (Some(_), Some(node)) => {
                    node.ended = node.ended.map(|before| before.max(ended));
                    node.reads.push((asked, answer));
                }
                (transaction, _) => {
                    let is_past = transaction.is_some_and(|number| past.contains(&number))
                        || matches!(at, ReadAt::Past(_));
                    if let Some(transaction) = transaction {
                        given_up.insert(*transaction, self.nodes.len());
                    }
                    // A transaction may stand where it was begun, before its first read.
                    let began = (!is_past && transaction.is_none()).then_some(started);
                    self.nodes.push(Node {
                        operation: number,
                        began,
                        ended: (!is_past).then_some(ended),
                        reads: vec![(asked, answer)],
                    });
                }
            }
        }
    }

    /// Whoever wrote the state at the place; places count from 1.
    fn writer(&self, chain: &Chain, place: usize) -> Option<usize> {
        let (version, _) = chain.states.get(place.checked_sub(1)?)?;
        let entry = self.timeline.entry_at(*version)?;
        let operation = self.writers.of_entry.get(entry).copied().flatten()?;
        self.of_operation.get(&operation).copied()
    }

    fn follow_states(&mut self) {
        for (path, chain) in self.timeline.chains() {
            for place in 2..=chain.states.len() {
                if let (Some(from), Some(to)) =
                    (self.writer(chain, place - 1), self.writer(chain, place))
                {
                    self.graph.add(from, to, || Reason::Overwrote(path.clone()));
                }
            }
        }
    }

    fn follow_reads(&mut self) {
        for node in 0..self.nodes.len() {
            let reads = self
                .nodes
                .get(node)
                .map_or_else(Vec::new, |node| node.reads.clone());
            for (asked, answer) in reads {
                match (asked, &answer.found) {
                    (Asked::Documents(paths), Found::Documents(documents)) => {
                        for (path, document) in paths.iter().zip(documents) {
                            self.read_document(node, path, document.as_deref());
                        }
                    }
                    (Asked::Query(query), Found::Query(documents)) => {
                        self.read_query(node, query, documents);
                    }
                    (Asked::Documents(_) | Asked::Query(_) | Asked::Aggregate(..), _) => {}
                }
            }
        }
    }

    fn read_document(&mut self, node: usize, path: &DocumentPath, document: Option<&Document>) {
        let (Some(chain), Some(contents)) = (self.timeline.chain(path), self.contents.get(path))
        else {
            return;
        };
        let run = match document {
            None => match contents.absent.as_slice() {
                [run] => Some(*run),
                _ => None,
            },
            Some(document) => {
                let state_at = |place: usize| {
                    let state = place.checked_sub(1).and_then(|at| chain.states.get(at));
                    state.and_then(|(_, state)| state.as_deref())
                };
                let places = contents.by_hash.get(&hash_of(document));
                let same: Vec<usize> = places
                    .into_iter()
                    .flatten()
                    .copied()
                    .filter(|place| {
                        state_at(*place)
                            .is_some_and(|state| identical_fields(&state.fields, &document.fields))
                    })
                    .collect();
                let mut written = same.iter().filter(|place| {
                    state_at(**place).is_some_and(|state| state.update_time == document.update_time)
                });
                match (same.as_slice(), written.next(), written.next()) {
                    ([place], _, _) | (_, Some(place), None) => Some((*place, *place)),
                    _ => None,
                }
            }
        };
        if let Some(run) = run {
            self.saw(node, path, chain, run, document.is_some());
        }
    }

    /// The node saw the document in one of the states of the run.
    fn saw(
        &mut self,
        node: usize,
        path: &DocumentPath,
        chain: &Chain,
        (first, last): (usize, usize),
        there: bool,
    ) {
        if let Some(writer) = self.writer(chain, first) {
            self.graph
                .add(writer, node, || Reason::WasRead(path.clone(), there));
        }
        if let Some(writer) = self.writer(chain, last + 1) {
            self.graph
                .add(node, writer, || Reason::ReadBefore(path.clone(), there));
        }
    }

    fn read_query(&mut self, node: usize, query: &'a Arc<Query>, documents: &[Arc<Document>]) {
        if query.projection().is_some() {
            return;
        }
        for document in documents {
            self.read_document(node, &document.path, Some(document));
        }
        let full = query
            .limit()
            .is_some_and(|limit| documents.len() >= limit as usize);
        if full || query.offset() > 0 {
            return;
        }
        let seen: BTreeSet<&DocumentPath> =
            documents.iter().map(|document| &document.path).collect();
        let number = self.timeline.number(query);
        let timeline = self.timeline;
        for collection in timeline.selected(query) {
            for (path, chain) in &collection.documents {
                if seen.contains(path) {
                    continue;
                }
                let run = match self.runs.get(&(number, path)) {
                    Some(run) => *run,
                    None => {
                        if self.tests >= PREDICATE_TESTS_MAX {
                            continue;
                        }
                        self.tests += chain.states.len();
                        let run = run_outside(query, chain);
                        self.runs.insert((number, path), run);
                        run
                    }
                };
                if let Some(run) = run {
                    self.saw(node, path, chain, run, false);
                }
            }
        }
    }

    fn follow_time(&mut self) {
        let mut ends: Vec<(u64, usize)> = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            if let Some(ended) = node.ended {
                ends.push((ended, number));
            }
        }
        ends.sort_unstable();
        // One point in time for each end, in a line, instead of an edge for every two nodes.
        let first_point = self.nodes.len();
        for (place, (_, node)) in ends.iter().enumerate() {
            let point = first_point + place;
            self.graph.add(*node, point, || Reason::Ended);
            if place > 0 {
                self.graph.add(point - 1, point, || Reason::Ended);
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let Some(began) = node.began else { continue };
            let place = ends.partition_point(|(ended, _)| *ended < began);
            if let Some(last) = place.checked_sub(1) {
                self.graph.add(first_point + last, number, || Reason::Ended);
            }
        }
    }

    /// A circle in a few lines.
    fn tell(&self, circle: &[(usize, Reason)]) -> String {
        let real: Vec<&(usize, Reason)> = circle
            .iter()
            .filter(|(node, _)| *node < self.nodes.len())
            .collect();
        let name = |place: usize| format!("T{}", place % real.len().max(1) + 1);
        let mut lines = vec!["expected an order, found a circle".to_owned()];
        for (place, (node, _)) in real.iter().enumerate() {
            let Some(node) = self.nodes.get(*node) else {
                continue;
            };
            let mut line = format!(
                "{}: {}",
                name(place),
                telling::operation(self.history, node.operation)
            );
            let writes = writes_of(self.history, node.operation);
            if !writes.is_empty() {
                line.push_str(&format!(", {}", telling::writes(writes)));
            }
            if let Some(entry) = self.writers.entry_of(node.operation)
                && let Some(entry) = self.history.stored.entries.get(entry)
            {
                line.push_str(&format!(", stored at {}", entry.version.0));
            }
            let read_times: BTreeSet<Version> = node
                .reads
                .iter()
                .map(|(_, answer)| answer.read_time)
                .collect();
            if !read_times.is_empty() {
                let times: Vec<String> = read_times.iter().map(|time| time.0.to_string()).collect();
                line.push_str(&format!(", read at {}", telling::short(times.join(", "))));
            }
            lines.push(line);
        }
        for (place, (_, reason)) in real.iter().enumerate() {
            let (from, to) = (name(place), name(place + 1));
            lines.push(match reason {
                Reason::Overwrote(path) => format!("{from} wrote {path}, then {to} wrote it"),
                Reason::WasRead(path, true) => format!("{from} wrote {path}, {to} read that"),
                Reason::WasRead(path, false) => {
                    format!("{from} took {path} out of sight, {to} did not see it")
                }
                Reason::ReadBefore(path, true) => {
                    format!("{from} read {path} as it was before {to} wrote it")
                }
                Reason::ReadBefore(path, false) => {
                    format!("{from} did not see {path}, which {to} brought into sight")
                }
                Reason::Ended => format!("{from} ended before {to} began"),
            });
        }
        lines.join("\n")
    }
}

fn contents_of(chain: &Chain) -> Contents {
    let mut contents = Contents {
        by_hash: HashMap::new(),
        absent: vec![(0, 0)],
    };
    for (place, (_, state)) in (1..).zip(&chain.states) {
        match state {
            Some(document) => {
                let places = contents.by_hash.entry(hash_of(document)).or_default();
                places.push(place);
            }
            None => match contents.absent.last_mut() {
                Some((_, last)) if *last + 1 == place => *last = place,
                Some(_) | None => contents.absent.push((place, place)),
            },
        }
    }
    contents
}

/// The one run of places at which the query does not see the document, if there is only one.
fn run_outside(query: &Query, chain: &Chain) -> Option<(usize, usize)> {
    let mut runs = vec![(0, 0)];
    for (place, (_, state)) in (1..).zip(&chain.states) {
        let outside = state
            .as_ref()
            .is_none_or(|document| !query.matches(document));
        if outside {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == place => *last = place,
                Some(_) | None => runs.push((place, place)),
            }
        }
    }
    match runs.as_slice() {
        [run] => Some(*run),
        _ => None,
    }
}

/// Equal for equal contents; cheap, and told apart later when it is equal for others.
fn hash_of(document: &Document) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |number: u64| {
        hash = (hash ^ number)
            .wrapping_mul(0x0100_0000_01b3)
            .rotate_left(29)
    };
    for (name, value) in &document.fields {
        mix(name.len() as u64);
        match value {
            Value::Integer(integer) => mix(integer.unsigned_abs()),
            Value::String(text) => {
                for byte in text.bytes() {
                    mix(u64::from(byte));
                }
            }
            Value::Boolean(boolean) => mix(u64::from(*boolean)),
            Value::Timestamp(time) => mix(time.micros().unsigned_abs()),
            other => mix(u64::from(other.type_rank())),
        }
    }
    hash
}
