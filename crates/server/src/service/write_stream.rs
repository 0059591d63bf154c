//! The write stream: commits in the order in which they come, one after the other.
//!
//! The first message names the database and gets the stream's id and its first token. Every later
//! message with writes is one commit. A commit begins only when the one before it is done: when one
//! fails the stream ends, and a client that sends its queue again must not find later writes already
//! applied. Messages that a client sends ahead wait in the transport, whose flow control bounds them.
//! Resuming a stream by its id is not supported.

use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use watchfire_engine::Receipt;
use watchfire_model::{DatabaseName, Write};

use crate::databases::{Database, Databases};
use crate::error::Error;
use crate::service::commit;

/// One message of the client.
pub struct WriteMessage {
    /// Needed in the first message; later it must be the same if it is there.
    pub database: Option<DatabaseName>,
    pub stream_id: String,
    /// The newest token that the client has seen; may be empty.
    pub stream_token: Vec<u8>,
    pub writes: Vec<Write>,
}

/// One message of the server.
pub enum WriteAnswer {
    Opened {
        stream_id: String,
        stream_token: Vec<u8>,
    },
    Committed {
        stream_token: Vec<u8>,
        receipt: Receipt,
    },
}

struct Opened {
    database: Arc<Database>,
    nonce: u64,
    /// Answers given so far: the number in the newest token.
    answered: u64,
}

struct State<S> {
    databases: Arc<Databases>,
    shutdown: CancellationToken,
    messages: S,
    opened: Option<Opened>,
}

/// Serves one stream. It ends with the client's side, at the first error, or when the server ends;
/// a commit that has begun is finished and answered first.
pub fn serve(
    databases: Arc<Databases>,
    shutdown: CancellationToken,
    messages: impl Stream<Item = Result<WriteMessage, Error>> + Send + Unpin + 'static,
) -> impl Stream<Item = Result<WriteAnswer, Error>> + Send + 'static {
    let state = State {
        databases,
        shutdown,
        messages,
        opened: None,
    };
    stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        match next(&mut state).await {
            Ok(Some(answer)) => Some((Ok(answer), Some(state))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

async fn next<S>(state: &mut State<S>) -> Result<Option<WriteAnswer>, Error>
where
    S: Stream<Item = Result<WriteMessage, Error>> + Unpin,
{
    loop {
        let message = tokio::select! {
            biased;
            () = state.shutdown.cancelled() => return Err(Error::ShuttingDown),
            message = state.messages.next() => message,
        };
        let Some(message) = message.transpose()? else {
            return Ok(None);
        };
        let Some(opened) = &mut state.opened else {
            let opened = open(&state.databases, message).await?;
            let answer = WriteAnswer::Opened {
                stream_id: format!("{:016x}", opened.nonce),
                stream_token: token(opened.nonce, opened.answered),
            };
            state.opened = Some(opened);
            return Ok(Some(answer));
        };
        check(opened, &message)?;
        // Without writes a message only acknowledges answers, as clients do before they leave.
        if !message.writes.is_empty() {
            let receipt = commit::commit(&opened.database, message.writes, None).await?;
            opened.answered += 1;
            let stream_token = token(opened.nonce, opened.answered);
            return Ok(Some(WriteAnswer::Committed {
                stream_token,
                receipt,
            }));
        }
    }
}

async fn open(databases: &Databases, message: WriteMessage) -> Result<Opened, Error> {
    let WriteMessage {
        database,
        stream_id,
        stream_token,
        writes,
    } = message;
    if !stream_id.is_empty() {
        return Err(Error::unsupported("stream_id"));
    }
    if !stream_token.is_empty() {
        return Err(Error::invalid(
            "The first message of a Write stream must not have a stream_token.",
        ));
    }
    if !writes.is_empty() {
        return Err(Error::invalid(
            "The first message of a Write stream names the database and must not have writes.",
        ));
    }
    let Some(name) = database else {
        return Err(Error::invalid(
            "The first message of a Write stream must name the database.",
        ));
    };
    let database = databases.get(&name).await?;
    Ok(Opened {
        database,
        nonce: commit::random(),
        answered: 0,
    })
}

fn check(opened: &Opened, message: &WriteMessage) -> Result<(), Error> {
    let WriteMessage {
        database,
        stream_id,
        stream_token,
        writes: _,
    } = message;
    if let Some(name) = database
        .as_ref()
        .filter(|name| **name != opened.database.name)
    {
        return Err(Error::invalid(format!(
            "A Write stream serves one database: it was opened for {}, but a message names {name}.",
            opened.database.name
        )));
    }
    if !stream_id.is_empty() {
        return Err(Error::invalid(
            "stream_id may only be in the first message of a Write stream.",
        ));
    }
    if !stream_token.is_empty()
        && !(0..=opened.answered)
            .rev()
            .take(TOKENS_VALID)
            .any(|answered| token(opened.nonce, answered) == *stream_token)
    {
        return Err(Error::invalid("Invalid stream token."));
    }
    Ok(())
}

/// How many of the newest tokens a client may send back. Clients keep about ten messages in flight.
const TOKENS_VALID: usize = 1_000;

fn token(nonce: u64, answered: u64) -> Vec<u8> {
    [nonce.to_be_bytes(), answered.to_be_bytes()].concat()
}
