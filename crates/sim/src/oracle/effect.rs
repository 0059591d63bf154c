//! What the writes of one commit come to, on a given state.
//!
//! Written here again, and not borrowed from the engine: only what one write makes of one document is `model`'s.

use std::sync::Arc;

use watchfire_model::apply::{Refused, apply};
use watchfire_model::compare::identical_fields;
use watchfire_model::{Change, Document, DocumentPath, Operation, Timestamp, Write, WriteOutcome};

/// What a commit comes to.
#[derive(Debug)]
pub struct Effect {
    /// One for each document that comes out different, in the order of the first write to it.
    pub changes: Vec<Change>,
    /// One for each write.
    pub outcomes: Vec<WriteOutcome>,
    /// The places of writes to documents that were made and taken away again, and so have no update time.
    pub undone: Vec<usize>,
}

/// Applies the writes in order to the state that `state` tells, at the commit time.
pub fn effect<'a>(
    writes: &[Write],
    state: impl Fn(&DocumentPath) -> Option<&'a Arc<Document>>,
    commit_time: Timestamp,
) -> Result<Effect, Refused> {
    let mut changes: Vec<Change> = Vec::new();
    let mut outcomes = Vec::new();
    for write in writes {
        let place = match changes.iter().position(|change| change.path == write.path) {
            Some(place) => place,
            None => {
                let before = state(&write.path).cloned();
                changes.push(Change {
                    path: write.path.clone(),
                    after: before.clone(),
                    before,
                });
                changes.len() - 1
            }
        };
        let Some(change) = changes.get_mut(place) else {
            continue;
        };
        let applied = apply(write, change.after.as_deref(), commit_time)?;
        if applied.changed {
            change.after = applied.after.map(Arc::new);
        }
        let update_time = match write.operation {
            Operation::Delete | Operation::Verify => None,
            Operation::Set(_) | Operation::Patch { .. } => {
                change.after.as_ref().map(|after| after.update_time)
            }
        };
        outcomes.push(WriteOutcome {
            update_time,
            transform_results: applied.transform_results,
        });
    }
    // Writes that cancel each other out have touched nothing.
    let mut kept = Vec::new();
    let mut undone = Vec::new();
    for change in changes {
        let unchanged = match (&change.before, &change.after) {
            (None, None) => true,
            (Some(before), Some(after)) => {
                before.create_time == after.create_time
                    && identical_fields(&before.fields, &after.fields)
            }
            (None, Some(_)) | (Some(_), None) => false,
        };
        if unchanged {
            // A document that is as it was has its old update time.
            let before = change.before.as_ref().map(|before| before.update_time);
            for (place, (outcome, write)) in outcomes.iter_mut().zip(writes).enumerate() {
                if write.path != change.path || outcome.update_time.is_none() {
                    continue;
                }
                match before {
                    Some(before) => outcome.update_time = Some(before),
                    None => undone.push(place),
                }
            }
        } else {
            kept.push(change);
        }
    }
    Ok(Effect {
        changes: kept,
        outcomes,
        undone,
    })
}
