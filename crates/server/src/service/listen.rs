//! The listen stream: commands in, tellings out, both at the same time.
//!
//! Reading commands and sending events run side by side in one stream, without a task of its own: a
//! long first answer must not hold up the events of other targets, and a client that goes away takes
//! everything with it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, Stream, StreamExt};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use watchfire_model::DatabaseName;
use watchfire_model::watch::Cause;
use watchfire_realtime::{AddTarget, Outbox, Resume, SessionHandle, Telling};
use watchfire_wire::{ListenCommand, Refusal, TargetCommand};

use crate::databases::{Database, Databases};
use crate::error::Error;

/// What a client has asked for.
pub enum Command {
    /// A target to add or to remove.
    Accepted(ListenCommand),
    /// A target that cannot be watched: it alone ends, and the stream goes on.
    Refused {
        database: DatabaseName,
        target_id: i32,
        refusal: Refusal,
    },
}

impl Command {
    fn database(&self) -> &DatabaseName {
        match self {
            Command::Accepted(ListenCommand {
                database,
                change: _,
            }) => database,
            Command::Refused {
                database,
                target_id: _,
                refusal: _,
            } => database,
        }
    }
}

/// What a client is told in one go.
pub struct Heard {
    /// Whose documents they are.
    pub database: Arc<Database>,
    /// In order; at least one.
    pub tellings: Vec<Arc<Telling>>,
}

/// Bytes of documents that are handed on in one go, about; so much leaves the bound of the outbox.
const HEARD_MEMORY_MAX: usize = 64 * 1024;

/// One stream, as it is served.
pub struct Listening {
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    phase: Phase,
    /// Requests are looked at before what is told.
    requests_first: bool,
}

enum Phase {
    /// The first command is awaited; it names the database. `None` when the client says nothing and ends.
    Opening(BoxFuture<'static, Result<Option<Open>, Error>>),
    Open(Open),
    Ended,
}

struct Open {
    database: Arc<Database>,
    /// Carries out commands when it is polled; done when the client ends its side. What comes of them is in the outbox.
    commands: BoxFuture<'static, Result<(), Error>>,
    outbox: Outbox,
}

/// Serves one stream. It ends when the client ends its side, at the first error that is not one
/// target's, or when the server ends.
pub fn serve(
    databases: Arc<Databases>,
    shutdown: CancellationToken,
    commands: impl Stream<Item = Result<Command, Error>> + Send + Unpin + 'static,
) -> Listening {
    Listening {
        shutdown: Box::pin(shutdown.cancelled_owned()),
        phase: Phase::Opening(open(databases, commands).boxed()),
        requests_first: true,
    }
}

async fn open<S>(databases: Arc<Databases>, mut commands: S) -> Result<Option<Open>, Error>
where
    S: Stream<Item = Result<Command, Error>> + Send + Unpin + 'static,
{
    let Some(first) = commands.next().await.transpose()? else {
        return Ok(None);
    };
    let database = databases.get(first.database()).await?;
    let (session, outbox) = database.hub.connect();
    let commands = stream::iter([Ok(first)]).chain(commands);
    Ok(Some(Open {
        commands: carry_out_all(Arc::clone(&database), session, commands).boxed(),
        database,
        outbox,
    }))
}

impl Stream for Listening {
    type Item = Result<Heard, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let polled = match &mut this.phase {
                Phase::Ended => return Poll::Ready(None),
                Phase::Opening(opening) => match opening.poll_unpin(cx) {
                    Poll::Ready(Ok(Some(open))) => {
                        this.phase = Phase::Open(open);
                        continue;
                    }
                    Poll::Ready(opened) => Poll::Ready(opened.err().map(Err)),
                    Poll::Pending => Poll::Pending,
                },
                Phase::Open(open) => {
                    let first = this.requests_first;
                    this.requests_first = !first;
                    open.poll(cx, first)
                }
            };
            let polled = match polled {
                Poll::Pending => match this.shutdown.poll_unpin(cx) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(Error::ShuttingDown))),
                    Poll::Pending => return Poll::Pending,
                },
                ready @ Poll::Ready(_) => ready,
            };
            if !matches!(polled, Poll::Ready(Some(Ok(_)))) {
                this.phase = Phase::Ended;
            }
            return polled;
        }
    }
}

impl Open {
    /// Requests and what is told, each looked at first by turns, so that neither keeps the other waiting.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        requests_first: bool,
    ) -> Poll<Option<Result<Heard, Error>>> {
        let polled = if requests_first {
            self.poll_commands(cx)
        } else {
            self.poll_outbox(cx)
        };
        match polled {
            Poll::Pending if requests_first => self.poll_outbox(cx),
            Poll::Pending => self.poll_commands(cx),
            ready @ Poll::Ready(_) => ready,
        }
    }

    fn poll_commands(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Heard, Error>>> {
        let done = ready!(self.commands.poll_unpin(cx));
        Poll::Ready(done.err().map(Err))
    }

    fn poll_outbox(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Heard, Error>>> {
        let heard = match ready!(self.outbox.poll_tellings(cx, HEARD_MEMORY_MAX)) {
            Some(Ok(tellings)) => Ok(Heard {
                database: Arc::clone(&self.database),
                tellings,
            }),
            Some(Err(end)) => Err(Error::Stream(end)),
            // The hub closes its streams when the server ends.
            None => Err(Error::ShuttingDown),
        };
        Poll::Ready(Some(heard))
    }
}

/// Carries out commands one after the other until the client ends its side.
async fn carry_out_all<S>(
    database: Arc<Database>,
    session: SessionHandle,
    mut commands: S,
) -> Result<(), Error>
where
    S: Stream<Item = Result<Command, Error>> + Send + Unpin + 'static,
{
    while let Some(command) = commands.next().await.transpose()? {
        if *command.database() != database.name {
            return Err(Error::invalid(format!(
                "A Listen stream serves one database: it was opened for {}, but a message names {}.",
                database.name,
                command.database()
            )));
        }
        carry_out(&session, command).await?;
    }
    Ok(())
}

async fn carry_out(session: &SessionHandle, command: Command) -> Result<(), Error> {
    match command {
        Command::Accepted(ListenCommand {
            database: _,
            change,
        }) => {
            match change {
                TargetCommand::Add {
                    target_id,
                    target,
                    resume,
                    once,
                    expected_count,
                } => {
                    let resume = match resume {
                        watchfire_wire::Resume::None => Resume::None,
                        watchfire_wire::Resume::Token(token) => Resume::Token(token),
                        watchfire_wire::Resume::ReadTime(time) => Resume::ReadTime(time),
                    };
                    let add = AddTarget {
                        target_id,
                        target,
                        resume,
                        once,
                        expected_count,
                    };
                    session.add(add).await.map_err(Error::Session)?;
                }
                TargetCommand::Remove(target_id) => session.remove(target_id).await,
            }
            Ok(())
        }
        Command::Refused {
            database: _,
            target_id,
            refusal,
        } => {
            let cause = match refusal {
                Refusal::Invalid(invalid)
                | Refusal::Reasoned {
                    invalid,
                    reason: _,
                    metadata: _,
                } => Cause::Invalid(invalid),
                Refusal::Unimplemented(_) => Cause::Unimplemented(refusal.to_string()),
            };
            session
                .refuse(target_id, cause)
                .await
                .map_err(Error::Session)
        }
    }
}
