//! What a stream promises, by name: filtered, ordered, unique, atomic, bookmarkable, resumable, reliable, and fresh.
//!
//! | promise | what it means here |
//! |---|---|
//! | filtered | a document that is told for a target was once in that state, and matches |
//! | ordered | read times never go back within a stream; nothing is told of a target that is not there |
//! | unique | no document is told twice within one snapshot, nor again as it is held |
//! | atomic | at a snapshot, what was told of each current target, folded, is its result at the read time |
//! | bookmarkable | a snapshot has a token only when all targets are current; what was held with one was right |
//! | resumable | a token of ours is honoured; going on from it is folded to the result like everything else; a count is right |
//! | reliable | when all is quiet, every open stream holds the final state |
//! | fresh | a first result has everything that was complete when the target was asked for |
//!
//! The fold is the oracle's own; what the client of the world made of the same events must be the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use watchfire_engine::Version;
use watchfire_model::bloom::BloomFilter;
use watchfire_model::watch::{Cause, Target, WatchEvent};
use watchfire_model::{Document, DocumentPath};

use crate::data;
use crate::history::{History, Moment, ResumedFrom, Stream, StreamEvent, View, Watched};
use crate::oracle::moments::Moments;
use crate::oracle::same::same_document;
use crate::oracle::timeline::{Timeline, shown, version_of};
use crate::oracle::{Violation, telling};

/// Judges every stream.
pub fn judge(history: &History, timeline: &Timeline<'_>, moments: &Moments) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (number, stream) in history.streams.iter().enumerate() {
        let mut reader = Reader {
            history,
            timeline,
            moments,
            number,
            stream,
            held: BTreeMap::new(),
            read_time: Version::default(),
            violations: Vec::new(),
        };
        for (moment, event) in &stream.events {
            reader.take(*moment, event);
        }
        if stream.ended.is_none() {
            reader.check_end();
        }
        violations.append(&mut reader.violations);
    }
    violations
}

/// One target as the client holds it.
struct Held<'a> {
    watched: &'a Watched,
    view: View,
    current: bool,
    /// It was current at a snapshot.
    shown: bool,
    /// The time of the token with which it goes on. The server cannot know that the client holds newer documents.
    resumed_at: Option<Version>,
    /// The client does hold newer ones, or older ones than the changelog knew in the end: what it is told may not be
    /// enough, and then an existence filter says so.
    ahead: bool,
    /// What the existence filter since the last snapshot has said.
    counted: Option<i32>,
    /// The client has forgotten it, because a count was not what it held: nothing is promised any more.
    forgotten: bool,
    /// Told since the last snapshot.
    told: BTreeSet<DocumentPath>,
    /// The number of changes that could concern it when it was last found right; `None` after something was told.
    right_at: Option<usize>,
}

struct Reader<'a> {
    history: &'a History,
    timeline: &'a Timeline<'a>,
    moments: &'a Moments,
    number: usize,
    stream: &'a Stream,
    held: BTreeMap<i32, Held<'a>>,
    read_time: Version,
    violations: Vec<Violation>,
}

impl<'a> Reader<'a> {
    fn violate(&mut self, law: &'static str, step: u64, target: Option<i32>, text: &str) {
        let target = target.map_or(String::new(), |id| {
            let watched = self
                .stream
                .targets
                .iter()
                .find(|watched| watched.target_id == id);
            let what = watched.map_or("never asked for".to_owned(), |watched| {
                target_words(&watched.target)
            });
            format!(", target {id} ({what})")
        });
        self.violations.push(Violation {
            law,
            text: format!("stream {}, step {step}{target}\n{text}", self.number),
        });
    }

    fn take(&mut self, moment: Moment, event: &StreamEvent) {
        let step = moment.step;
        match event {
            StreamEvent::Watch(event) => self.watch(step, event),
            StreamEvent::Views { read_time, views } => self.check_views(step, *read_time, views),
            StreamEvent::FilterMismatch { target_id, .. } => {
                if let Some(held) = self.held.get_mut(target_id) {
                    held.forgotten = true;
                }
            }
        }
    }

    fn watch(&mut self, step: u64, event: &WatchEvent) {
        match event {
            WatchEvent::Added { target } => self.added(step, *target),
            WatchEvent::Removed { target, cause } => self.removed(step, *target, cause.as_ref()),
            WatchEvent::Current {
                targets, read_time, ..
            } => {
                self.check_order(step, version_of(*read_time));
                for id in self.named_or_all(step, targets) {
                    if let Some(held) = self.held.get_mut(&id) {
                        held.current = true;
                    }
                }
            }
            WatchEvent::Reset { targets } => {
                for id in self.named_or_all(step, targets) {
                    if let Some(held) = self.held.get_mut(&id) {
                        held.view.clear();
                        held.told.clear();
                        held.current = false;
                        held.right_at = None;
                    }
                }
            }
            WatchEvent::Changed {
                document,
                targets,
                removed_targets,
            } => {
                for id in self.named(step, targets) {
                    self.check_filtered(step, id, document);
                    self.tell(step, id, &document.path, Some(document));
                }
                for id in self.named(step, removed_targets) {
                    self.tell(step, id, &document.path, None);
                }
            }
            WatchEvent::Deleted {
                path,
                removed_targets,
                ..
            }
            | WatchEvent::Left {
                path,
                removed_targets,
                ..
            } => {
                for id in self.named(step, removed_targets) {
                    self.tell(step, id, path, None);
                }
            }
            WatchEvent::Filter {
                target,
                count,
                unchanged_names,
            } => self.check_count(step, *target, *count, unchanged_names.as_deref()),
            WatchEvent::Snapshot { token, read_time } => {
                self.snapshot(step, version_of(*read_time), !token.is_empty());
            }
        }
    }

    /// As `named`, for events that mean all targets by none.
    fn named_or_all(&mut self, step: u64, targets: &[i32]) -> Vec<i32> {
        if targets.is_empty() {
            return self.held.keys().copied().collect();
        }
        self.named(step, targets)
    }

    /// The active ones of the targets that an event names; complains about the rest.
    fn named(&mut self, step: u64, targets: &[i32]) -> Vec<i32> {
        let mut active = Vec::new();
        for id in targets {
            if self.held.contains_key(id) {
                active.push(*id);
            } else {
                self.violate(
                    "ordered",
                    step,
                    Some(*id),
                    "expected nothing of a target that is not active, found an event",
                );
            }
        }
        active
    }

    fn added(&mut self, step: u64, id: i32) {
        let asked = self
            .stream
            .targets
            .iter()
            .find(|watched| watched.target_id == id && watched.asked.step < step);
        let Some(watched) = asked else {
            self.violate(
                "ordered",
                step,
                Some(id),
                "expected a target that was asked for, found it added",
            );
            return;
        };
        let (view, from, viewed) = match &watched.resume {
            ResumedFrom::Nothing => (View::new(), None, None),
            ResumedFrom::Token {
                held,
                read_time,
                viewed,
                ..
            } => (held.clone(), Some(*read_time), Some(*viewed)),
            ResumedFrom::ReadTime {
                held, read_time, ..
            } => (held.clone(), Some(*read_time), Some(*read_time)),
        };
        if let Some(viewed) = viewed
            && let Some(difference) = self.difference(&watched.target, &view, viewed)
        {
            let text = format!("what was held with the view of {}: {difference}", viewed.0);
            self.violate("bookmarkable", step, Some(id), &text);
        }
        let held = Held {
            watched,
            view,
            current: false,
            shown: false,
            resumed_at: from,
            ahead: from < viewed || from.is_some_and(|from| from < self.history.stored.trimmed_to),
            counted: None,
            forgotten: false,
            told: BTreeSet::new(),
            right_at: None,
        };
        if self.held.insert(id, held).is_some() {
            self.violate(
                "ordered",
                step,
                Some(id),
                "expected a target to be added once, found it twice",
            );
        }
    }

    fn removed(&mut self, step: u64, id: i32, cause: Option<&Cause>) {
        let held = self.held.remove(&id);
        if let Some(Cause::Invalid(invalid)) = cause {
            let asked = self
                .stream
                .targets
                .iter()
                .find(|watched| watched.target_id == id);
            let resumed =
                asked.is_some_and(|watched| !matches!(watched.resume, ResumedFrom::Nothing));
            if resumed {
                let text = format!(
                    "expected what the server gave to be good for going on, found it refused: {invalid}"
                );
                self.violate("resumable", step, Some(id), &text);
            }
        }
        let unasked = cause.is_none()
            && held.is_some_and(|held| held.watched.removed.is_none_or(|asked| asked.step > step));
        if unasked {
            self.violate(
                "ordered",
                step,
                Some(id),
                "expected a target to stay until its removal is asked for, found it removed",
            );
        }
    }

    fn tell(&mut self, step: u64, id: i32, path: &DocumentPath, document: Option<&Arc<Document>>) {
        let Some(held) = self.held.get_mut(&id) else {
            return;
        };
        // What left a limited result and came back before the next snapshot is told as it came back.
        let limited = match &held.watched.target {
            Target::Query(query) => query.limit().is_some() || query.offset() > 0,
            Target::Documents(_) => false,
        };
        let twice = !held.told.insert(path.clone());
        let resumed_at = held.resumed_at.filter(|_| !held.shown);
        held.right_at = None;
        let before = match document {
            Some(document) => held.view.insert(path.clone(), Arc::clone(document)),
            None => held.view.remove(path),
        };
        if twice {
            let text = format!("expected each document once within a snapshot, found {path} again");
            self.violate("unique", step, Some(id), &text);
        } else if let (Some(document), Some(before)) = (document, before)
            && !limited
            && same_document(Some(document), Some(&before))
            && resumed_at.is_none_or(|at| version_of(before.update_time) <= at)
        {
            let text = format!(
                "expected only what is new to the client, found what it holds: {}",
                telling::document(Some(document))
            );
            self.violate("unique", step, Some(id), &text);
        }
    }

    fn check_filtered(&mut self, step: u64, id: i32, document: &Document) {
        let Some(held) = self.held.get(&id) else {
            return;
        };
        let at = version_of(document.update_time);
        let stored = self
            .timeline
            .document(&document.path, at)
            .filter(|stored| stored.update_time == document.update_time);
        let target = &held.watched.target;
        let wrong = match (stored, target) {
            (None, _) => Some("expected only what was stored, found what never was"),
            (Some(stored), Target::Query(query)) => {
                let shown = match query.projection() {
                    None => same_document(Some(stored), Some(document)),
                    Some(_) => same_document(Some(&query.project(stored)), Some(document)),
                };
                if !shown {
                    Some("expected only what was stored, found other contents")
                } else if !query.matches(stored) {
                    Some("expected only what matches, found what does not")
                } else {
                    None
                }
            }
            (Some(stored), Target::Documents(paths)) => {
                if !paths.contains(&document.path) {
                    Some("expected only documents that were named, found another")
                } else if !same_document(Some(stored), Some(document)) {
                    Some("expected only what was stored, found other contents")
                } else {
                    None
                }
            }
        };
        if let Some(wrong) = wrong {
            let text = format!("{wrong}: {}", telling::document(Some(document)));
            self.violate("filtered", step, Some(id), &text);
        }
    }

    fn check_count(&mut self, step: u64, id: i32, count: i32, names: Option<&BloomFilter>) {
        let Some(held) = self.held.get_mut(&id) else {
            self.named(step, &[id]);
            return;
        };
        held.counted = Some(count);
        let mut holds = held.view.len();
        if usize::try_from(count) == Ok(holds) {
            return;
        }
        if held.ahead && !held.shown {
            if let Some(names) = names {
                let named = |path: &DocumentPath| names.might_contain(&data::full_name(path));
                held.view.retain(|path, _| named(path));
                held.right_at = None;
                holds = held.view.len();
            }
            // What is missing now the client asks for.
            held.forgotten = usize::try_from(count) != Ok(holds);
        } else {
            let text = format!("expected a count of {holds}, which is held, found {count}");
            self.violate("resumable", step, Some(id), &text);
        }
    }

    fn check_order(&mut self, step: u64, version: Version) {
        if version < self.read_time {
            let text = format!(
                "expected a read time of {} or later, found {}",
                self.read_time.0, version.0
            );
            self.violate("ordered", step, None, &text);
        }
        self.read_time = version;
    }

    fn snapshot(&mut self, step: u64, version: Version, has_token: bool) {
        self.check_order(step, version);
        let ids: Vec<i32> = self.held.keys().copied().collect();
        for id in ids {
            let Some(held) = self.held.get_mut(&id) else {
                continue;
            };
            held.told.clear();
            if held.forgotten {
                continue;
            }
            if !held.current {
                if has_token {
                    self.violate(
                        "bookmarkable",
                        step,
                        Some(id),
                        "expected no token, since the target is not current, found one",
                    );
                }
                continue;
            }
            let first = !std::mem::replace(&mut held.shown, true);
            let counted = held.counted.take();
            let epoch = epoch(self.timeline, &held.watched.target, version);
            let known = held.right_at.replace(epoch) == Some(epoch);
            let asked = held.watched.asked.step;
            let target = &held.watched.target;
            if !known
                && let Some(held) = self.held.get(&id)
                && let Some(difference) = self.difference(target, &held.view, version)
            {
                let law = match &held.watched.resume {
                    ResumedFrom::Nothing => "atomic",
                    ResumedFrom::Token { .. } | ResumedFrom::ReadTime { .. } if first => {
                        "resumable"
                    }
                    ResumedFrom::Token { .. } | ResumedFrom::ReadTime { .. } => "atomic",
                };
                let text = format!("at {}: {difference}", version.0);
                self.violate(law, step, Some(id), &text);
            }
            if let Some(count) = counted {
                let right = self.result(target, version).len();
                if usize::try_from(count) != Ok(right) {
                    let text = format!(
                        "expected a count of {right}, which there are at {}, found {count}",
                        version.0
                    );
                    self.violate("resumable", step, Some(id), &text);
                }
            }
            let (complete, source) = self.moments.complete_before(asked);
            if let (true, Some(source)) = (first && version < complete, source) {
                let text = format!(
                    "expected a first result at {} or later, where {} stood before it was asked for, found it at {}",
                    complete.0,
                    telling::source(self.history, source),
                    version.0
                );
                self.violate("fresh", step, Some(id), &text);
            }
        }
    }

    /// What the client shows is what was told.
    fn check_views(&mut self, step: u64, read_time: Version, views: &BTreeMap<i32, View>) {
        if read_time != self.read_time {
            let text = format!(
                "expected the view of {}, found one of {}",
                self.read_time.0, read_time.0
            );
            self.violate("views", step, None, &text);
        }
        let wrong: Vec<i32> = views
            .iter()
            .filter(|(id, view)| {
                self.held
                    .get(id)
                    .is_some_and(|held| !held.forgotten && !same_view(&held.view, view))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in wrong {
            let (Some(view), Some(held)) = (views.get(&id), self.held.get(&id)) else {
                continue;
            };
            let text = format!(
                "expected the client to show {}, found {}",
                telling::documents_words(held.view.values()),
                telling::documents_words(view.values())
            );
            self.violate("views", step, Some(id), &text);
        }
    }

    /// All is quiet, and the stream is still there.
    fn check_end(&mut self) {
        let step = self
            .stream
            .events
            .last()
            .map_or(self.stream.opened.step, |(moment, _)| moment.step);
        for watched in &self.stream.targets {
            if watched.removed.is_some() {
                continue;
            }
            let id = watched.target_id;
            let told_to_go = self.stream.events.iter().any(|(_, event)| {
                matches!(event, StreamEvent::Watch(WatchEvent::Removed { target, .. }) if *target == id)
            });
            if told_to_go {
                continue;
            }
            let wrong = match self.held.get(&id) {
                None => Some("expected the target to be answered, found no answer".to_owned()),
                Some(held) if held.forgotten => None,
                Some(held) if !held.shown || !held.current => Some(
                    "expected the target to be current in the end, found that it is not".to_owned(),
                ),
                Some(held) => self
                    .difference(&watched.target, &held.view, Version(u64::MAX))
                    .map(|difference| format!("in the end: {difference}")),
            };
            if let Some(wrong) = wrong {
                self.violate("reliable", step, Some(id), &wrong);
            }
        }
    }

    /// The result of a target at a version.
    fn result(&self, target: &Target, version: Version) -> Vec<Arc<Document>> {
        match target {
            Target::Query(query) => shown(query, &self.timeline.result(query, version)),
            Target::Documents(paths) => paths
                .iter()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .filter_map(|path| self.timeline.document(path, version))
                .cloned()
                .collect(),
        }
    }

    /// What is wrong with the view of a target at a version, if anything.
    fn difference(&self, target: &Target, view: &View, version: Version) -> Option<String> {
        let expected = self.result(target, version);
        let is_held = |document: &Arc<Document>| {
            let held = view.get(&document.path);
            same_document(held.map(Arc::as_ref), Some(document))
        };
        let missing: Vec<&Arc<Document>> = expected
            .iter()
            .filter(|document| !is_held(document))
            .collect();
        if missing.is_empty() && expected.len() == view.len() {
            return None;
        }
        let surplus = view.values().filter(|document| {
            !expected
                .iter()
                .any(|other| same_document(Some(other), Some(document)))
        });
        Some(format!(
            "expected {} besides what is right, found {}",
            telling::documents_words(missing),
            telling::documents_words(surplus)
        ))
    }
}

/// The number of changes up to the version that could concern the target.
fn epoch(timeline: &Timeline<'_>, target: &Target, version: Version) -> usize {
    match target {
        Target::Query(query) => timeline.epoch(query, version),
        Target::Documents(paths) => paths
            .iter()
            .filter_map(|path| timeline.chain(path))
            .map(|chain| chain.states.partition_point(|(at, _)| *at <= version))
            .sum(),
    }
}

fn same_view(a: &View, b: &View) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|((_, a), (_, b))| same_document(Some(a), Some(b)))
}

fn target_words(target: &Target) -> String {
    match target {
        Target::Query(query) => telling::query_words(query),
        Target::Documents(paths) => {
            let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
            telling::short(paths.join(", "))
        }
    }
}
