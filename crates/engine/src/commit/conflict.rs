//! Whether a commit touched what a transaction had read.
//!
//! The check may see a conflict where there is none (limits of queries are ignored), never the reverse. It is made for
//! every transaction, whatever it had locked: other servers commit without knowing of locks.

use crate::changelog::entry::CommitEntry;
use crate::transaction::ReadSet;

/// Whether the commit could alter the answer of any of the reads that were made before it.
pub fn overtaken(reads: &ReadSet, entry: &CommitEntry) -> bool {
    let later = |version| entry.version > version;
    entry.changes.iter().any(|change| {
        reads
            .documents
            .get(&change.path)
            .copied()
            .is_some_and(later)
            || reads
                .wide
                .iter()
                .any(|(asked, version)| later(*version) && asked.touched_by(change))
    })
}
