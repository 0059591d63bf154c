//! A group that takes commits, and one that is on its way to the store: the two ends of the pipeline.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::JoinHandle;
use watchfire_model::{Document, DocumentPath};
use watchfire_storage::{Applied, Snapshot, Version};

use super::group::{Group, Receipt};
use super::{GROUP_BYTES_MAX, GROUP_COMMITS_MAX, Reply, Request};
use crate::changelog::tail::Published;
use crate::error::Error;
use crate::lock::landing::Landing;

/// Documents by name; `None` for one that does not exist.
pub(super) type Documents = HashMap<DocumentPath, Option<Arc<Document>>>;

/// A request with what it came to; its caller hears of it once that is durable.
pub(super) struct Answered {
    pub request: Request,
    pub answer: Result<Receipt, Error>,
}

impl Answered {
    /// Tells the caller, who may have gone away; the commit is what it is.
    pub fn tell(self) {
        drop(self.request.permit);
        let _ = self.request.reply.send(Reply::Decided(self.answer));
    }
}

/// The group that takes commits, on the state that the group on its way leaves, or on the tail.
pub(super) struct Forming {
    pub group: Group,
    /// For whoever is granted locks meanwhile.
    pub landing: Landing,
    /// How many of its commits the landing knows of.
    pub known: usize,
    /// The version on which it stands: what the store's head must be when it is stored.
    pub head: Version,
    /// In the order in which they were added.
    pub answered: Vec<Answered>,
    /// Bytes of the writes.
    pub bytes: usize,
    /// Memory of the documents that were loaded.
    pub loaded_bytes: usize,
    /// What documents are loaded from. Taken at the first of them; let go of when the group before it has landed,
    /// whose documents it may not show.
    pub snapshot: Option<Arc<dyn Snapshot>>,
}

impl Forming {
    /// Nothing on the state at `head`.
    pub fn new(group: Group, landing: Landing, head: Version) -> Self {
        Self {
            group,
            landing,
            known: 0,
            head,
            answered: Vec::new(),
            bytes: 0,
            loaded_bytes: 0,
            snapshot: None,
        }
    }

    /// Whether it takes no further commit.
    pub fn is_full(&self) -> bool {
        self.answered.len() >= GROUP_COMMITS_MAX || self.bytes >= GROUP_BYTES_MAX
    }
}

/// A group that is being stored.
pub(super) struct Flight {
    /// Ends when the store has answered. A task of its own, so that it goes on while the next group is formed.
    pub stored: JoinHandle<Result<Applied, watchfire_storage::Error>>,
    /// The version of its batch.
    pub version: Version,
    /// What the tail gets when it is durable.
    pub entries: Vec<Published>,
    /// The documents that it named, as it leaves them.
    pub documents: Documents,
    /// For whoever is granted locks meanwhile.
    pub landing: Landing,
    /// Who waits for it.
    pub answered: Vec<Answered>,
}
