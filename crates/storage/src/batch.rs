//! What one `apply` puts and deletes.

use bytes::Bytes;

use crate::Version;

#[derive(Clone, Debug)]
pub enum Operation {
    Put { key: Bytes, value: Bytes },
    Delete { key: Bytes },
}

/// Operations that become visible together, at `version`. Later operations on a key win.
#[derive(Clone, Debug)]
pub struct Batch {
    pub version: Version,
    pub operations: Vec<Operation>,
}
