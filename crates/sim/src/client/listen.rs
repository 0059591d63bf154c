//! A listener: one stream at a time, folded as the SDKs fold it, and resumed when it breaks.
//!
//! What comes is kept until the next snapshot mark and only then makes the view: a document that is changed, one that
//! left, a reset, a filter. A listener holds the newest token of each target, and the view that belongs to it; with
//! both it goes on in another stream. Now and then it forgets both, or takes or gives up a target.
//!
//! Spectators are listeners who watch the same as others do, so that the server tells them together. Some do not read
//! for long, some leave streams behind without a word, and some go away for a night and come back with old tokens.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use watchfire_engine::Version;
use watchfire_model::bloom::BloomFilter;
use watchfire_model::watch::{Cause, Target, WatchEvent};
use watchfire_model::{Document, DocumentPath, Timestamp};
use watchfire_server::service::listen::Command;
use watchfire_wire::{ListenCommand, Resume, TargetCommand};

use super::Shared;
use super::read::version;
use crate::chance::Chance;
use crate::data;
use crate::history::{ClientId, ResumedFrom, StreamEnd, StreamEvent, StreamNumber, View, Watched};
use crate::network::Connection;

/// Targets of one listener.
const TARGETS_MAX: u64 = 4;

/// Snapshots are sure to come at least so often, when all is well.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// What a listener holds of one target, over all streams.
#[derive(Debug)]
struct Followed {
    target: Target,
    /// At the last snapshot, and the newest token then.
    held: Option<Held>,
}

#[derive(Clone, Debug)]
struct Held {
    view: View,
    read_time: Version,
    token: Vec<u8>,
    /// When the token came.
    token_time: Version,
    stream: StreamNumber,
}

/// A target in one stream.
struct Open {
    followed: usize,
    view: View,
    /// What has come since the last snapshot.
    pending: BTreeMap<DocumentPath, Option<Arc<Document>>>,
    reset: bool,
    current: bool,
    /// The newest token, for the next snapshot, and when it came.
    token: Vec<u8>,
    token_time: Version,
    /// It was given up; what still comes is not for it.
    given_up: bool,
}

/// What kind of listener it is.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// How often, in thousandths of what comes, it stops reading for up to a minute.
    pub stops: u64,
    /// How often, in thousandths of what comes, it leaves its stream behind without a word and opens another.
    pub vanishes: u64,
    /// It is away while it is night.
    pub sleeps: bool,
    /// It watches what it watches, and nothing else.
    pub stays: bool,
}

/// Streams that one listener has left behind at a time; it closes the oldest then.
const LEFT_MAX: usize = 3;

struct Listener {
    id: ClientId,
    shared: Rc<Shared>,
    chance: Chance,
    manner: Manner,
    followed: Vec<Followed>,
    /// Open, and read by nobody.
    left: VecDeque<Connection>,
    open: BTreeMap<i32, Open>,
    last_target: i32,
    stream: StreamNumber,
}

/// Listens to anything until the run ends.
pub async fn listen(id: ClientId, shared: Rc<Shared>, mut chance: Chance) {
    let targets = (0..chance.within(1, TARGETS_MAX))
        .map(|_| data::any_target(&mut chance))
        .collect();
    spectate(id, shared, chance, targets, Manner::default()).await;
}

/// Listens to these targets until the run ends.
pub async fn spectate(
    id: ClientId,
    shared: Rc<Shared>,
    chance: Chance,
    targets: Vec<Target>,
    manner: Manner,
) {
    let followed = targets
        .into_iter()
        .map(|target| Followed { target, held: None })
        .collect();
    let mut listener = Listener {
        id,
        shared: shared.clone(),
        chance,
        manner,
        followed,
        left: VecDeque::new(),
        open: BTreeMap::new(),
        last_target: 0,
        stream: StreamNumber(0),
    };
    loop {
        let pause = listener.chance.below(300);
        shared.timers.sleep(Duration::from_millis(pause)).await;
        while listener.is_asleep() {
            shared.timers.sleep(Duration::from_secs(1)).await;
        }
        if listener.one_stream().await {
            break;
        }
    }
    shared.listening.set(shared.listening.get() - 1);
}

/// What ends a stream.
enum End {
    Stream(StreamEnd),
    /// Everything has been seen.
    Run,
}

impl Listener {
    /// Opens a stream and follows it to its end; whether the run has ended.
    async fn one_stream(&mut self) -> bool {
        let Some(mut connection) = self.shared.network.listen().await else {
            return false;
        };
        self.stream = self.shared.recorder.stream_opened(self.id);
        self.open.clear();
        self.last_target = 0;
        for followed in 0..self.followed.len() {
            self.watch(&connection, followed);
        }
        let end = self.follow(&mut connection).await;
        let (end, over) = match end {
            End::Stream(end) => (end, false),
            End::Run => (StreamEnd::ByClient, true),
        };
        if matches!(end, StreamEnd::LeftBehind) {
            self.left.push_back(connection);
            if self.left.len() > LEFT_MAX {
                self.left.pop_front();
            }
        }
        self.shared.recorder.stream_ended(self.stream, end);
        over
    }

    fn is_asleep(&self) -> bool {
        self.manner.sleeps && self.shared.night.get()
    }

    async fn follow(&mut self, connection: &mut Connection) -> End {
        let shared = self.shared.clone();
        loop {
            if shared.last_version.get().is_none() {
                if shared.network.breaks() {
                    return End::Stream(StreamEnd::Cut);
                }
                if self.is_asleep() {
                    return End::Stream(StreamEnd::ByClient);
                }
                if self.chance.happens(self.manner.vanishes) {
                    return End::Stream(StreamEnd::LeftBehind);
                }
                self.change_something(connection).await;
            }
            let next = shared.timers.timeout(SILENCE_MAX, connection.next()).await;
            let event = match next {
                None => {
                    let last = shared.last_version.get();
                    shared.recorder.violation(
                        "streams are not silent",
                        format!(
                            "{:?} heard nothing for 120 s, last version {last:?}",
                            self.stream
                        ),
                    );
                    return End::Stream(StreamEnd::ByClient);
                }
                Some(None) => return End::Stream(StreamEnd::Cut),
                Some(Some(Err(text))) => return End::Stream(StreamEnd::ByServer(text)),
                Some(Some(Ok(event))) => event,
            };
            shared
                .recorder
                .event(self.stream, StreamEvent::Watch(event.clone()));
            if let Some(end) = self.fold(connection, event) {
                return end;
            }
        }
    }

    fn watch(&mut self, connection: &Connection, followed: usize) {
        self.last_target += 1;
        let target_id = self.last_target;
        let Some(kept) = self.followed.get_mut(followed) else {
            return;
        };
        if self.chance.happens(50) {
            kept.held = None;
        }
        let (resume, resumed) = match &kept.held {
            None => (Resume::None, ResumedFrom::Nothing),
            Some(held) if self.chance.happens(100) => {
                let time = Timestamp::from_micros(i64::try_from(held.read_time.0).unwrap_or(0));
                let time = time.expect("the server told this time");
                let resumed = ResumedFrom::ReadTime {
                    stream: held.stream,
                    read_time: held.read_time,
                    held: held.view.clone(),
                };
                (Resume::ReadTime(time), resumed)
            }
            Some(held) => {
                let resumed = ResumedFrom::Token {
                    token: held.token.clone(),
                    stream: held.stream,
                    read_time: held.token_time,
                    viewed: held.read_time,
                    held: held.view.clone(),
                };
                (Resume::Token(held.token.clone()), resumed)
            }
        };
        let view = kept
            .held
            .as_ref()
            .map_or_else(View::new, |held| held.view.clone());
        let expected_count = match resume {
            Resume::None => None,
            Resume::Token(_) | Resume::ReadTime(_) => i32::try_from(view.len()).ok(),
        };
        let target = kept.target.clone();
        self.shared.recorder.watched(
            self.stream,
            Watched {
                asked: self.shared.recorder.moment(),
                target_id,
                target: target.clone(),
                resume: resumed,
                removed: None,
            },
        );
        self.open.insert(
            target_id,
            Open {
                followed,
                view,
                pending: BTreeMap::new(),
                reset: false,
                current: false,
                token: Vec::new(),
                token_time: Version(0),
                given_up: false,
            },
        );
        connection.send(Command::Accepted(ListenCommand {
            database: data::database(),
            change: TargetCommand::Add {
                target_id,
                target,
                resume,
                once: false,
                expected_count,
            },
        }));
    }

    fn unwatch(&mut self, connection: &Connection, target_id: i32) {
        self.shared.recorder.unwatched(self.stream, target_id);
        if let Some(open) = self.open.get_mut(&target_id) {
            open.given_up = true;
        }
        connection.send(Command::Accepted(ListenCommand {
            database: data::database(),
            change: TargetCommand::Remove(target_id),
        }));
    }

    /// Now and then: reads slowly, gives up a target for another one, or asks for one again.
    async fn change_something(&mut self, connection: &Connection) {
        if self.chance.happens(20) {
            let pause = Duration::from_millis(self.chance.within(100, 5_000));
            self.shared.timers.sleep(pause).await;
        }
        if self.chance.happens(self.manner.stops) {
            let pause = Duration::from_millis(self.chance.within(1_000, 60_000));
            self.shared.timers.sleep(pause).await;
        }
        if self.manner.stays || !self.chance.happens(20) {
            return;
        }
        let active = self.open.iter().filter(|(_, open)| !open.given_up);
        let Some((target_id, followed)) = active
            .map(|(target_id, open)| (*target_id, open.followed))
            .next()
        else {
            return;
        };
        self.unwatch(connection, target_id);
        if self.chance.happens(500)
            && let Some(kept) = self.followed.get_mut(followed)
        {
            kept.target = data::any_target(&mut self.chance);
            kept.held = None;
        }
        self.watch(connection, followed);
    }

    /// Takes one event into account, as the SDKs do.
    fn fold(&mut self, connection: &Connection, event: WatchEvent) -> Option<End> {
        match event {
            WatchEvent::Added { target: _ } => None,
            WatchEvent::Removed { target, cause } => self.removed(connection, target, cause),
            WatchEvent::Current {
                targets,
                token,
                read_time,
            } => {
                self.each(&targets, |open| {
                    open.current = true;
                    take_token(open, &token, version(read_time));
                });
                None
            }
            WatchEvent::Reset { targets } => {
                self.each(&targets, |open| {
                    open.reset = true;
                    open.pending.clear();
                });
                None
            }
            WatchEvent::Changed {
                document,
                targets,
                removed_targets,
            } => {
                let path = document.path.clone();
                if !targets.is_empty() {
                    self.each(&targets, |open| {
                        open.pending
                            .insert(path.clone(), Some(Arc::clone(&document)));
                    });
                }
                self.leave(&removed_targets, &path);
                None
            }
            WatchEvent::Deleted {
                path,
                removed_targets,
                read_time: _,
            }
            | WatchEvent::Left {
                path,
                removed_targets,
                read_time: _,
            } => {
                self.leave(&removed_targets, &path);
                None
            }
            WatchEvent::Filter {
                target,
                count,
                unchanged_names,
            } => {
                self.filter(connection, target, count, unchanged_names.as_deref());
                None
            }
            WatchEvent::Snapshot { token, read_time } => self.snapshot(&token, version(read_time)),
        }
    }

    /// `targets` empty means all of them.
    fn each(&mut self, targets: &[i32], mut change: impl FnMut(&mut Open)) {
        for (target_id, open) in &mut self.open {
            if targets.is_empty() || targets.contains(target_id) {
                change(open);
            }
        }
    }

    fn leave(&mut self, targets: &[i32], path: &DocumentPath) {
        if !targets.is_empty() {
            self.each(targets, |open| {
                open.pending.insert(path.clone(), None);
            });
        }
    }

    fn removed(
        &mut self,
        connection: &Connection,
        target_id: i32,
        cause: Option<Cause>,
    ) -> Option<End> {
        let open = self.open.remove(&target_id)?;
        let given_up = open.given_up;
        match cause {
            None if given_up => None,
            None => {
                self.shared.recorder.violation(
                    "targets end for a reason",
                    format!("{:?} lost {target_id} without a cause", self.stream),
                );
                None
            }
            Some(cause) => {
                if given_up {
                    return None;
                }
                if let Some(followed) = self.followed.get_mut(open.followed) {
                    followed.held = None;
                }
                match cause {
                    Cause::Unavailable(_) | Cause::ResourceExhausted(_) => {
                        // As after a break of the stream, but for the pause.
                        self.watch(connection, open.followed);
                    }
                    Cause::Invalid(_)
                    | Cause::AlreadyExists(_)
                    | Cause::FailedPrecondition(_)
                    | Cause::PermissionDenied
                    | Cause::Unimplemented(_) => {
                        self.shared.recorder.violation(
                            "good targets are served",
                            format!("{:?} lost {target_id}: {cause:?}", self.stream),
                        );
                    }
                }
                None
            }
        }
    }

    /// When the count is not what the view would have, what is not named goes; a count that is still wrong makes the
    /// listener begin anew.
    fn filter(
        &mut self,
        connection: &Connection,
        target_id: i32,
        count: i32,
        names: Option<&BloomFilter>,
    ) {
        let Some(open) = self.open.get_mut(&target_id) else {
            return;
        };
        let wrong = |open: &Open| i32::try_from(after(open).len()) != Ok(count);
        if open.given_up || !wrong(open) {
            return;
        }
        for path in names.map_or_else(Vec::new, |names| not_named(names, &after(open))) {
            open.pending.insert(path, None);
        }
        if !wrong(open) {
            return;
        }
        let (followed, held) = (open.followed, after(open).len());
        self.shared
            .recorder
            .event(self.stream, StreamEvent::FilterMismatch { target_id, held });
        if let Some(kept) = self.followed.get_mut(followed) {
            kept.held = None;
        }
        self.unwatch(connection, target_id);
        self.watch(connection, followed);
    }

    fn snapshot(&mut self, token: &[u8], read_time: Version) -> Option<End> {
        let mut views = BTreeMap::new();
        let mut complete = true;
        for (target_id, open) in &mut self.open {
            if open.given_up {
                continue;
            }
            take_token(open, token, read_time);
            if !open.current {
                complete = false;
                continue;
            }
            open.view = after(open);
            open.pending.clear();
            open.reset = false;
            views.insert(*target_id, open.view.clone());
            if let Some(kept) = self.followed.get_mut(open.followed)
                && !open.token.is_empty()
            {
                kept.held = Some(Held {
                    view: open.view.clone(),
                    read_time,
                    token: open.token.clone(),
                    token_time: open.token_time,
                    stream: self.stream,
                });
            }
        }
        let complete = complete && views.len() >= self.followed.len();
        self.shared
            .recorder
            .event(self.stream, StreamEvent::Views { read_time, views });
        self.shared.saw(read_time);
        let last = self.shared.last_version.get();
        (complete && last.is_some_and(|last| read_time >= last)).then_some(End::Run)
    }
}

fn take_token(open: &mut Open, token: &[u8], read_time: Version) {
    if !token.is_empty() {
        token.clone_into(&mut open.token);
        open.token_time = read_time;
    }
}

/// The documents of a view that an existence filter says have gone.
fn not_named(names: &BloomFilter, view: &View) -> Vec<DocumentPath> {
    let named = |path: &&DocumentPath| names.might_contain(&data::full_name(path));
    view.keys().filter(|path| !named(path)).cloned().collect()
}

/// The view with what has come since.
fn after(open: &Open) -> View {
    let mut view = if open.reset {
        View::new()
    } else {
        open.view.clone()
    };
    for (path, document) in &open.pending {
        match document {
            Some(document) => view.insert(path.clone(), Arc::clone(document)),
            None => view.remove(path),
        };
    }
    view
}
