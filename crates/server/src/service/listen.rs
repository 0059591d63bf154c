//! The listen stream: commands in, watch events out, both at the same time.
//!
//! Reading commands and sending events run side by side in one stream, without a task of its own: a
//! long first answer must not hold up the events of other targets, and a client that goes away takes
//! everything with it.

use std::sync::Arc;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use watchfire_model::DatabaseName;
use watchfire_model::watch::{Cause, WatchEvent};
use watchfire_realtime::{AddTarget, Outbox, Resume, SessionHandle};
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

struct State<S> {
    databases: Arc<Databases>,
    shutdown: CancellationToken,
    phase: Phase<S>,
}

enum Phase<S> {
    /// Nothing has been said; the first command names the database.
    Silent(S),
    /// `answers` carries out commands when it is polled, and yields what the hub does not say: the
    /// ends of targets that it never saw.
    Open {
        database: DatabaseName,
        answers: BoxStream<'static, Result<WatchEvent, Error>>,
        outbox: Outbox,
    },
    Ended,
}

/// Serves one stream. It ends when the client ends its side, at the first error that is not one
/// target's, or when the server ends.
pub fn serve(
    databases: Arc<Databases>,
    shutdown: CancellationToken,
    commands: impl Stream<Item = Result<Command, Error>> + Send + Unpin + 'static,
) -> impl Stream<Item = Result<(DatabaseName, WatchEvent), Error>> + Send + 'static {
    let state = State {
        databases,
        shutdown,
        phase: Phase::Silent(commands),
    };
    stream::unfold(state, |mut state| async move {
        // Whoever returns without putting a phase back has ended the stream.
        let phase = std::mem::replace(&mut state.phase, Phase::Ended);
        match next(&mut state, phase).await {
            Ok(Some(event)) => Some((Ok(event), state)),
            Ok(None) => None,
            Err(error) => Some((Err(error), state)),
        }
    })
}

async fn next<S>(
    state: &mut State<S>,
    mut phase: Phase<S>,
) -> Result<Option<(DatabaseName, WatchEvent)>, Error>
where
    S: Stream<Item = Result<Command, Error>> + Send + Unpin + 'static,
{
    if let Phase::Silent(mut commands) = phase {
        let first = tokio::select! {
            biased;
            () = state.shutdown.cancelled() => return Err(Error::ShuttingDown),
            first = commands.next() => first,
        };
        let Some(first) = first.transpose()? else {
            return Ok(None);
        };
        let database = state.databases.get(first.database()).await?;
        let (session, outbox) = database.hub.connect();
        let name = database.name.clone();
        let commands = stream::iter([Ok(first)]).chain(commands);
        phase = Phase::Open {
            database: name,
            answers: carry_out_all(database, session, commands).boxed(),
            outbox,
        };
    }
    let Phase::Open {
        database,
        mut answers,
        mut outbox,
    } = phase
    else {
        return Ok(None);
    };
    let event = tokio::select! {
        biased;
        () = state.shutdown.cancelled() => return Err(Error::ShuttingDown),
        answer = answers.next() => match answer {
            Some(answer) => answer?,
            None => return Ok(None),
        },
        event = outbox.next() => match event {
            Some(event) => event.map_err(Error::Stream)?,
            // The hub closes its streams when the server ends.
            None => return Err(Error::ShuttingDown),
        },
    };
    let answer = (database.clone(), event);
    state.phase = Phase::Open {
        database,
        answers,
        outbox,
    };
    Ok(Some(answer))
}

/// Carries out commands one after the other until the client ends its side.
fn carry_out_all<S>(
    database: Arc<Database>,
    session: SessionHandle,
    commands: S,
) -> impl Stream<Item = Result<WatchEvent, Error>> + Send + 'static
where
    S: Stream<Item = Result<Command, Error>> + Send + Unpin + 'static,
{
    stream::try_unfold(
        (database, session, commands),
        |(database, session, mut commands)| async move {
            while let Some(command) = commands.next().await.transpose()? {
                if *command.database() != database.name {
                    return Err(Error::invalid(format!(
                        "A Listen stream serves one database: it was opened for {}, but a message names {}.",
                        database.name,
                        command.database()
                    )));
                }
                if let Some(event) = carry_out(&session, command).await? {
                    return Ok(Some((event, (database, session, commands))));
                }
            }
            Ok(None)
        },
    )
}

async fn carry_out(session: &SessionHandle, command: Command) -> Result<Option<WatchEvent>, Error> {
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
            Ok(None)
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
            Ok(Some(WatchEvent::Removed {
                target: target_id,
                cause: Some(cause),
            }))
        }
    }
}
