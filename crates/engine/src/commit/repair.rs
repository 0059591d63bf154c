//! The committer's part in making index entries agree with the documents: it stores what `check` finds, a piece for
//! each command, so that commits come in between. What a piece says is true of the head, and the head is where it is
//! stored.

use bytes::Bytes;

use super::head::moved_too_often;
use super::{Committer, HEAD_MOVED_RETRIES_MAX, Outcome};
use crate::check::{self, Pass, Repair};
use crate::error::Error;

impl Committer {
    /// One piece of a repair. Its operations are stored when it returns.
    pub(super) async fn repair(&mut self, pass: Pass, position: &Bytes) -> Result<Repair, Error> {
        if let Some(error) = &self.read_only {
            return Err(error.clone());
        }
        for _ in 0..=HEAD_MOVED_RETRIES_MAX {
            let snapshot = self.snapshot_at_head().await?;
            let piece = check::piece(snapshot.as_ref(), pass, position).await?;
            if piece.operations.is_empty() {
                return Ok(piece);
            }
            match self.maintain_once(piece.operations.clone()).await? {
                Outcome::Stored => return Ok(piece),
                Outcome::HeadMoved => self.catch_up().await?,
            }
        }
        Err(moved_too_often())
    }
}
