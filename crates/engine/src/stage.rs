//! Writes on their way to the committer.
//!
//! Staging finds the transaction and refuses what can be refused without the newest state. Preconditions and
//! transforms are evaluated by the committer, at the version that the commit gets.

use std::collections::HashMap;
use std::sync::Arc;

use watchfire_model::value::fields_memory;
use watchfire_model::{
    DocumentPath, FieldMask, FieldPath, Invalid, Operation, TransformKind, Value, Write, limits,
};

use crate::error::Error;
use crate::transaction::{Access, Transaction, TransactionId, read_only_complaint};

/// From where a commit starts.
#[derive(Clone, Debug)]
pub enum Start {
    /// No transaction: a blind commit, evaluated on the newest state. It loses against nobody, but waits for locks.
    Now,
    /// A transaction; committing ends it.
    Transaction(TransactionId),
}

/// Writes that wait to be committed.
pub struct Staged {
    pub(crate) writes: Vec<Write>,
    pub(crate) transaction: Option<Arc<Transaction>>,
}

impl Staged {
    /// Writes with the transaction in which they stand. Fails with `Invalid` for writes in a read-only transaction.
    pub(crate) fn new(
        writes: Vec<Write>,
        transaction: Option<Arc<Transaction>>,
    ) -> Result<Self, Error> {
        let read_only = transaction
            .as_ref()
            .is_some_and(|transaction| transaction.access() == Access::ReadOnly);
        if read_only && !writes.is_empty() {
            return Err(read_only_complaint());
        }
        check_transforms(&writes)?;
        Ok(Self {
            writes,
            transaction,
        })
    }

    /// The writes, in order.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }
}

/// Refuses more than `TRANSFORMS_PER_DOCUMENT_MAX` transforms of one document.
fn check_transforms(writes: &[Write]) -> Result<(), Error> {
    let mut counts: HashMap<&DocumentPath, usize> = HashMap::new();
    for write in writes.iter().filter(|write| !write.transforms.is_empty()) {
        let count = counts.entry(&write.path).or_default();
        *count += write.transforms.len();
        if *count > limits::TRANSFORMS_PER_DOCUMENT_MAX {
            let limit = limits::TRANSFORMS_PER_DOCUMENT_MAX;
            return Err(Error::Invalid(Invalid::new(format!(
                "a commit may apply at most {limit} transforms to one document, more were found for {}",
                write.path
            ))));
        }
    }
    Ok(())
}

/// About how many bytes the writes hold in memory: what bounds of queues and groups count.
pub(crate) fn writes_len(writes: &[Write]) -> usize {
    writes.iter().map(write_len).sum()
}

/// What a write costs besides its values.
const WRITE_OVERHEAD: usize = 64;

fn write_len(write: &Write) -> usize {
    let operation = match &write.operation {
        Operation::Set(fields) => fields_memory(fields),
        Operation::Patch { fields, mask } => fields_memory(fields) + mask_memory(mask),
        Operation::Delete | Operation::Verify => 0,
    };
    let transforms: usize = write
        .transforms
        .iter()
        .map(|transform| match &transform.kind {
            TransformKind::RequestTime => WRITE_OVERHEAD,
            TransformKind::Increment(value)
            | TransformKind::Maximum(value)
            | TransformKind::Minimum(value) => WRITE_OVERHEAD + value.memory(),
            TransformKind::AppendMissing(values) | TransformKind::RemoveAll(values) => {
                WRITE_OVERHEAD + values.iter().map(Value::memory).sum::<usize>()
            }
        })
        .sum();
    WRITE_OVERHEAD + write.path.as_str().len() + operation + transforms
}

fn mask_memory(mask: &FieldMask) -> usize {
    let segments = mask.paths().iter().flat_map(FieldPath::segments);
    segments
        .map(|segment| size_of::<FieldPath>() + size_of::<String>() + segment.len())
        .sum()
}
