//! What lies between clients and the server, and which server there is.
//!
//! A call takes a while to arrive, is carried out by a task of the server, and its answer takes a while to come
//! back. It can be cut off before it arrives, at any point at which the server waits for something, or on the way
//! back; as with a connection that breaks, the server drops the work at the next point at which it waits. Nothing is
//! sent twice unless a client does so.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use watchfire_engine::Error as EngineError;
use watchfire_model::DatabaseName;
use watchfire_model::watch::WatchEvent;
use watchfire_server::databases::{Database, Databases};
use watchfire_server::error::Error;
use watchfire_server::service::listen::{self, Command};

use crate::actors::Timers;
use crate::chance::Chance;
use crate::history::Refusal;

/// Events on their way through one stream: what the transport holds for a client that does not read.
const EVENTS_ON_THE_WAY: usize = 16;

/// How long a call may take, as the SDKs have it.
const CALL_TIME_MAX: Duration = Duration::from_secs(60);

/// How good the network is; in thousandths.
#[derive(Copy, Clone, Debug, Default)]
pub struct Quality {
    /// Calls and streams that are cut off.
    pub cuts: u64,
    /// Messages that take up to 100 ms, where others take up to 3 ms.
    pub slow: u64,
}

/// A server that serves.
#[derive(Clone)]
pub struct Server {
    /// Its databases.
    pub databases: Arc<Databases>,
    /// Tells its streams to end.
    pub shutdown: CancellationToken,
}

/// Why a call brought no answer.
#[derive(Clone, Debug)]
pub enum Failed {
    /// The server said no, and did nothing.
    Refused(Refusal),
    /// Nothing is known.
    Unknown(String),
}

/// The way to the server. Clones share it.
#[derive(Clone)]
pub struct Network {
    state: Rc<State>,
}

struct State {
    timers: Timers,
    database: DatabaseName,
    chance: RefCell<Chance>,
    quality: Cell<Quality>,
    server: RefCell<Option<Server>>,
    /// Calls that the server works on.
    calls: Cell<usize>,
}

impl Network {
    /// There is no server yet.
    #[must_use]
    pub fn new(timers: Timers, database: DatabaseName, chance: Chance) -> Self {
        Self {
            state: Rc::new(State {
                timers,
                database,
                chance: RefCell::new(chance),
                quality: Cell::default(),
                server: RefCell::default(),
                calls: Cell::default(),
            }),
        }
    }

    /// How good it is from now on.
    pub fn set_quality(&self, quality: Quality) {
        self.state.quality.set(quality);
    }

    /// Who serves from now on.
    pub fn set_server(&self, server: Option<Server>) {
        *self.state.server.borrow_mut() = server;
    }

    /// Who serves.
    #[must_use]
    pub fn server(&self) -> Option<Server> {
        self.state.server.borrow().clone()
    }

    /// Whether the server works on calls.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.state.calls.get() > 0
    }

    /// Has the server do something with the database, and waits for what comes of it.
    pub async fn call<T, F, W>(&self, work: F) -> Result<T, Failed>
    where
        T: Send + 'static,
        F: FnOnce(Arc<Database>) -> W + Send + 'static,
        W: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let cut = self.draw_cut();
        self.state.timers.sleep(self.draw_delay()).await;
        if let Cut::Before = cut {
            return Err(cut_off("before the call arrived"));
        }
        let Some(server) = self.server() else {
            return Err(cut_off("nobody listens"));
        };
        let (reply, answer) = oneshot::channel();
        let name = self.state.database.clone();
        let polls = match cut {
            Cut::AtPoll(polls) => Some(polls),
            Cut::None | Cut::Before | Cut::Reply => None,
        };
        let work = async move {
            let database = server.databases.get(&name).await?;
            work(database).await
        };
        let task = tokio::spawn(async move {
            let ended = CutAtPoll {
                work: Box::pin(work),
                polls,
            }
            .await;
            // Nobody may wait any more.
            let _ = reply.send(ended);
        });
        let _caller = Caller::new(task.abort_handle(), &self.state);
        let answered = self.state.timers.timeout(CALL_TIME_MAX, answer).await;
        let answered = match answered {
            None => return Err(cut_off("no answer in time")),
            Some(Err(_)) => return Err(cut_off("the server is gone")),
            Some(Ok(None)) => return Err(cut_off("while the server worked on it")),
            Some(Ok(Some(answered))) => answered,
        };
        self.state.timers.sleep(self.draw_delay()).await;
        if let Cut::Reply = cut {
            return Err(cut_off("before the answer came"));
        }
        answered.map_err(failed)
    }

    /// Opens a listen stream.
    pub async fn listen(&self) -> Option<Connection> {
        self.state.timers.sleep(self.draw_delay()).await;
        let server = self.server()?;
        let (commands, mut asked) = mpsc::unbounded_channel();
        let (events, told) = mpsc::channel(EVENTS_ON_THE_WAY);
        let asked: BoxStream<'static, Result<Command, Error>> =
            stream::poll_fn(move |context| asked.poll_recv(context)).boxed();
        let task = tokio::spawn(async move {
            let served = listen::serve(server.databases, server.shutdown, asked);
            let mut served = std::pin::pin!(served);
            while let Some(heard) = served.next().await {
                let heard: Vec<Result<WatchEvent, String>> = match heard {
                    Ok(heard) => {
                        let told = heard.tellings.iter();
                        told.flat_map(|telling| telling.events().iter().cloned().map(Ok))
                            .collect()
                    }
                    Err(error) => vec![Err(error.to_string())],
                };
                for event in heard {
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
            }
        });
        Some(Connection {
            commands,
            events: told,
            task: task.abort_handle(),
            network: self.clone(),
        })
    }

    /// Whether something that just happened breaks a stream.
    #[must_use]
    pub fn breaks(&self) -> bool {
        // Streams have many messages.
        let cuts = self.state.quality.get().cuts / 4;
        self.state.chance.borrow_mut().happens(cuts)
    }

    /// Waits as long as a message takes.
    pub async fn delay(&self) {
        self.state.timers.sleep(self.draw_delay()).await;
    }

    fn draw_delay(&self) -> Duration {
        let mut chance = self.state.chance.borrow_mut();
        let slow = chance.happens(self.state.quality.get().slow);
        Duration::from_millis(if slow {
            chance.within(4, 100)
        } else {
            chance.below(4)
        })
    }

    fn draw_cut(&self) -> Cut {
        let mut chance = self.state.chance.borrow_mut();
        if !chance.happens(self.state.quality.get().cuts) {
            return Cut::None;
        }
        match chance.below(4) {
            0 => Cut::Before,
            1 => Cut::Reply,
            _ => Cut::AtPoll(chance.within(1, 6)),
        }
    }
}

/// Where a call is cut off.
enum Cut {
    None,
    Before,
    /// When the server has waited so often.
    AtPoll(u64),
    Reply,
}

fn cut_off(what: &str) -> Failed {
    Failed::Unknown(format!("cut off: {what}"))
}

/// Counts the calls, and ends the server's work when the caller goes away.
struct Caller {
    task: AbortHandle,
    state: Rc<State>,
}

impl Caller {
    fn new(task: AbortHandle, state: &Rc<State>) -> Self {
        state.calls.set(state.calls.get() + 1);
        Self {
            task,
            state: Rc::clone(state),
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.task.abort();
        self.state.calls.set(self.state.calls.get() - 1);
    }
}

/// The output of the work, or `None` when it was to be polled once too often.
struct CutAtPoll<W> {
    work: Pin<Box<W>>,
    polls: Option<u64>,
}

impl<W: Future> Future for CutAtPoll<W> {
    type Output = Option<W::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.polls {
            Some(0) => return Poll::Ready(None),
            Some(polls) => *polls -= 1,
            None => {}
        }
        self.work.as_mut().poll(context).map(Some)
    }
}

/// The failure as a client understands it.
#[must_use]
pub fn failed(error: Error) -> Failed {
    let text = error.to_string();
    let refusal = match error {
        Error::Engine(error) => match error {
            EngineError::Aborted | EngineError::Contention => Refusal::Aborted,
            EngineError::TransactionExpired | EngineError::TransactionUnknown => {
                Refusal::TransactionGone
            }
            EngineError::AlreadyExists(_) => Refusal::AlreadyExists,
            EngineError::NotFound(_) => Refusal::NotFound,
            EngineError::VersionMismatch {
                document: _,
                stored: _,
                required: _,
            } => Refusal::VersionMismatch,
            EngineError::FailedPrecondition(text) => Refusal::FailedPrecondition(text),
            EngineError::Unavailable(_) => return Failed::Unknown(text),
            EngineError::Invalid(_)
            | EngineError::IndexMissing(_)
            | EngineError::IndexExists(_)
            | EngineError::NoSuch(_)
            | EngineError::ResourceExhausted(_)
            | EngineError::DeadlineExceeded(_)
            | EngineError::Corrupt(_) => Refusal::Other(text),
        },
        Error::Store(_) | Error::ShuttingDown | Error::Stream(_) | Error::Session(_) => {
            return Failed::Unknown(text);
        }
        Error::Refused(_)
        | Error::Json(_)
        | Error::Token(_)
        | Error::OwnersOnly
        | Error::DocumentMissing(_)
        | Error::IndexExists { name: _ }
        | Error::PipelinesUnavailable
        | Error::TooManyDatabases { max: _ }
        | Error::Backup(_)
        | Error::PeerElsewhere { operation: _ }
        | Error::Transport(_) => Refusal::Other(text),
    };
    Failed::Refused(refusal)
}

/// A listen stream as its client holds it. Dropping it closes it.
pub struct Connection {
    commands: mpsc::UnboundedSender<Result<Command, Error>>,
    events: mpsc::Receiver<Result<WatchEvent, String>>,
    task: AbortHandle,
    network: Network,
}

impl Connection {
    /// Sends a command; whether it arrives shows in what comes back.
    pub fn send(&self, command: Command) {
        let _ = self.commands.send(Ok(command));
    }

    /// The next event; the text of an error with which the server ended it; `None` when it is gone.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, String>> {
        let event = self.events.recv().await?;
        self.network.delay().await;
        Some(event)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}
