//! What one `apply` puts and deletes.
//!
//! A batch is plain data: it checks nothing, and a store never changes it.

use bytes::Bytes;

use crate::version::Version;

/// One change of one key.
#[derive(Clone, Debug)]
pub enum Operation {
    /// The key has this value from now on, whether or not it was there.
    Put {
        /// Where it stands.
        key: Bytes,
        /// What it holds.
        value: Bytes,
    },
    /// The key is gone from now on; deleting what is not there is no error.
    Delete {
        /// What goes.
        key: Bytes,
    },
}

/// Operations that become visible together, at `version`. Later operations on a key win.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The head after this batch; must be above the head before it.
    pub version: Version,
    /// In order. May be empty: such a batch only moves the head.
    pub operations: Vec<Operation>,
}

impl Batch {
    /// Bytes of all keys and values together, for limits on memory.
    #[must_use]
    pub fn size(&self) -> usize {
        self.operations
            .iter()
            .map(|operation| match operation {
                Operation::Put { key, value } => key.len() + value.len(),
                Operation::Delete { key } => key.len(),
            })
            .sum()
    }
}
