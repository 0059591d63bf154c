//! One group: commits are applied one after the other on the state at the head, and become one batch.
//!
//! Pure but for what it is given: the caller loads the documents and the missed entries, and stores the batch. It
//! stays open for further commits until the caller finishes it.
//! A commit that is refused leaves nothing behind in the group.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use watchfire_model::apply::{Refused, apply};
use watchfire_model::compare::identical_fields;
use watchfire_model::document::too_large;
use watchfire_model::{
    Change, Clock, DatabaseName, Document, DocumentName, DocumentPath, Invalid, Operation,
    Timestamp, Write, WriteOutcome,
};
use watchfire_storage::{Batch, Version};

use crate::changelog::entry::{CommitEntry, EncodedChange, encode_entry};
use crate::changelog::tail::Published;
use crate::commit::conflict::overtaken;
use crate::error::Error;
use crate::history::Unknown;
use crate::index;
use crate::index::catalog::Catalog;
use crate::index::diff::Difference;
use crate::keyspace::{changelog_key, document_key, history_key};
use crate::lock::Claim;
use crate::record::encode_record;
use crate::stamp::stamped;
use crate::transaction::Transaction;
use crate::version::{next, timestamp};

/// What a commit came to.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The commit's version. For a commit that changed nothing it is the version at which that was found.
    pub version: Version,
    /// The version as users see it.
    pub commit_time: Timestamp,
    /// One for each write, in order.
    pub outcomes: Vec<WriteOutcome>,
    /// For each write, in order: its document as the whole commit left it; `None` where it does not exist.
    pub documents: Vec<Option<Arc<Document>>>,
}

/// How many bytes of documents the writes of one commit may copy, each the document that it writes. Past it the
/// commit is refused with `Invalid`: thousands of writes to one large document would hold up everybody.
pub const COPIED_BYTES_MAX: usize = 512 << 20;

/// What happened since a transaction's view.
#[derive(Clone, Debug)]
pub enum Missed {
    /// Every commit between the view and the head that is not known to leave its reads alone.
    Entries(Vec<Arc<CommitEntry>>),
    /// Something that it read was changed, or the changelog no longer reaches back that far.
    Lost,
}

/// A group that is being formed.
pub struct Group {
    database: DatabaseName,
    clock: Arc<dyn Clock>,
    catalog: Arc<Catalog>,
    /// The documents that were loaded for its commits, as the group has left them so far.
    documents: HashMap<DocumentPath, Option<Arc<Document>>>,
    last: Version,
    entries: Vec<Published>,
    operations: BTreeMap<Bytes, Option<Bytes>>,
    /// Entries that it takes away, of which the state on which it stands knows since when they were there.
    unknown: Vec<Unknown>,
}

/// A group ready to be stored.
pub struct Formed {
    /// What the store gets; `None` when no commit changed anything.
    pub batch: Option<Batch>,
    /// What `history::complete` has to add to it first.
    pub unknown: Vec<Unknown>,
    /// What the tail gets once that is durable.
    pub entries: Vec<Published>,
    /// The documents that the group named, as they are afterwards.
    pub documents: HashMap<DocumentPath, Option<Arc<Document>>>,
}

/// A document within one commit.
struct Touched {
    path: DocumentPath,
    before: Option<Arc<Document>>,
    /// `None` until a write changes it; then what it is now.
    after: Option<Option<Document>>,
    /// The writes that name it.
    writes: Vec<usize>,
}

impl Touched {
    fn current(&self) -> Option<&Document> {
        match &self.after {
            Some(after) => after.as_ref(),
            None => self.before.as_deref(),
        }
    }
}

impl Group {
    /// A group on the state at `head`, whose indexes are those of `catalog`.
    pub fn new(
        database: DatabaseName,
        clock: Arc<dyn Clock>,
        catalog: Arc<Catalog>,
        head: Version,
    ) -> Self {
        Self {
            database,
            clock,
            catalog,
            documents: HashMap::new(),
            last: head,
            entries: Vec::new(),
            operations: BTreeMap::new(),
            unknown: Vec::new(),
        }
    }

    /// Whether the document was loaded.
    pub fn has(&self, path: &DocumentPath) -> bool {
        self.documents.contains_key(path)
    }

    /// A document as it is on the state on which the group stands; none of its commits has named it yet.
    pub fn load(&mut self, path: DocumentPath, document: Option<Arc<Document>>) {
        self.documents.insert(path, document);
    }

    /// Adds a commit, all of whose documents were loaded. `missed` is what happened between the transaction's view
    /// and the state on which the group stands. `None` when locks of others are in its way: it is not added then.
    pub fn add(
        &mut self,
        writes: &[Write],
        transaction: Option<(&Transaction, &Missed)>,
        claim: &mut Claim,
    ) -> Result<Option<Receipt>, Error> {
        if let Some((transaction, missed)) = transaction {
            self.check_reads(transaction, missed)?;
        }
        let version = next(self.clock.as_ref(), self.last);
        let commit_time = timestamp(version)?;
        let (touched, mut outcomes) = self.apply(writes, commit_time)?;

        let mut changes = Vec::new();
        let mut encoded = Vec::new();
        let mut differences = Vec::new();
        let mut documents = vec![None; writes.len()];
        for touched in touched {
            let Some(after) = touched.after else {
                place(&mut documents, &touched.writes, touched.before.as_ref());
                continue;
            };
            if unchanged(touched.before.as_deref(), after.as_ref()) {
                // Several writes that cancel each other out: the document was never touched.
                restore_update_times(&touched.writes, touched.before.as_deref(), &mut outcomes);
                place(&mut documents, &touched.writes, touched.before.as_ref());
                continue;
            }
            differences.push(index::diff::difference(
                touched.before.as_deref(),
                after.as_ref(),
                &self.catalog,
            )?);
            encoded.push(EncodedChange {
                path: touched.path.clone(),
                before: touched.before.as_deref().map(encode_record),
                after: after.as_ref().map(encode_record),
            });
            let after = after.map(Arc::new);
            place(&mut documents, &touched.writes, after.as_ref());
            changes.push(Change {
                path: touched.path,
                before: touched.before,
                after,
            });
        }
        if changes.is_empty() {
            let found_at = timestamp(self.last)?;
            // A document that came and went within the commit has the time of a commit that is not made.
            for update_time in outcomes
                .iter_mut()
                .flat_map(|outcome| &mut outcome.update_time)
            {
                *update_time = found_at.min(*update_time);
            }
            return Ok(Some(Receipt {
                version: self.last,
                commit_time: found_at,
                outcomes,
                documents,
            }));
        }
        if !claim.judge(&changes)? {
            return Ok(None);
        }
        self.keep(version, changes, &encoded, differences);
        Ok(Some(Receipt {
            version,
            commit_time,
            outcomes,
            documents,
        }))
    }

    /// The commits that were added after the first `count` of them.
    pub fn entries_after(&self, count: usize) -> impl Iterator<Item = Arc<CommitEntry>> + '_ {
        let entries = self.entries.iter().skip(count);
        entries.map(|published| Arc::clone(&published.entry))
    }

    /// How many commits were added that change something.
    pub fn entries_len(&self) -> usize {
        self.entries.len()
    }

    /// What is to be stored.
    pub fn finish(self) -> Formed {
        let operations = self.operations.into_iter().map(|(key, value)| match value {
            Some(value) => watchfire_storage::Operation::Put { key, value },
            None => watchfire_storage::Operation::Delete { key },
        });
        let batch = (!self.entries.is_empty()).then(|| Batch {
            version: self.last,
            operations: operations.collect(),
        });
        Formed {
            batch,
            unknown: self.unknown,
            entries: self.entries,
            documents: self.documents,
        }
    }

    fn check_reads(&self, transaction: &Transaction, missed: &Missed) -> Result<(), Error> {
        let Missed::Entries(missed) = missed else {
            return Err(Error::Aborted);
        };
        let reads = transaction.reads();
        let earlier = self.entries.iter().map(|published| &published.entry);
        let lost = missed
            .iter()
            .chain(earlier)
            .any(|entry| overtaken(&reads, entry));
        if lost { Err(Error::Aborted) } else { Ok(()) }
    }

    fn apply(
        &self,
        writes: &[Write],
        commit_time: Timestamp,
    ) -> Result<(Vec<Touched>, Vec<WriteOutcome>), Error> {
        let mut touched: Vec<Touched> = Vec::new();
        let mut positions: HashMap<&DocumentPath, usize> = HashMap::new();
        let mut outcomes = Vec::with_capacity(writes.len());
        let mut copied = 0_usize;
        for (number, write) in writes.iter().enumerate() {
            let position = *positions.entry(&write.path).or_insert(touched.len());
            if position == touched.len() {
                let before = self
                    .documents
                    .get(&write.path)
                    .cloned()
                    .expect("the caller loaded every document that is named");
                touched.push(Touched {
                    path: write.path.clone(),
                    before,
                    after: None,
                    writes: Vec::new(),
                });
            }
            let document = touched
                .get_mut(position)
                .expect("the position was just found or made");
            copied = copied.saturating_add(document.current().map_or(0, Document::size));
            if copied > COPIED_BYTES_MAX {
                return Err(too_big());
            }
            let applied = apply(write, document.current(), commit_time)
                .map_err(|refused| self.refusal(refused, &write.path))?;
            let update_time = match write.operation {
                Operation::Delete | Operation::Verify => None,
                Operation::Set(_) | Operation::Patch { .. } => {
                    applied.after.as_ref().map(|after| after.update_time)
                }
            };
            outcomes.push(WriteOutcome {
                update_time,
                transform_results: applied.transform_results,
            });
            document.writes.push(number);
            if applied.changed {
                document.after = Some(applied.after);
            }
        }
        Ok((touched, outcomes))
    }

    fn keep(
        &mut self,
        version: Version,
        changes: Vec<Change>,
        encoded: &[EncodedChange],
        differences: Vec<Difference>,
    ) {
        // Most entries hold nothing else: they share it.
        let bare = stamped(version, &[]);
        for difference in differences {
            for (key, contents) in difference.gone {
                self.remove_entry(key, &contents, difference.gone_since, version);
            }
            for key in difference.dropped {
                self.operations.insert(key, None);
            }
            for (key, contents) in difference.new {
                let value = if contents.is_empty() {
                    bare.clone()
                } else {
                    stamped(version, &contents)
                };
                self.operations.insert(key, Some(value));
            }
        }
        for (change, encoded) in changes.iter().zip(encoded) {
            let key = document_key(&change.path);
            if let Some(before) = &change.before {
                let since = Version(u64::try_from(before.update_time.micros()).unwrap_or(0));
                self.operations
                    .insert(history_key(&key, version), Some(stamped(since, &[])));
            }
            self.operations.insert(key, encoded.after.clone());
        }
        for change in &changes {
            self.documents
                .insert(change.path.clone(), change.after.clone());
        }
        let stored = encode_entry(encoded);
        self.entries.push(Published {
            entry: Arc::new(CommitEntry { version, changes }),
            bytes: stored.len(),
        });
        self.operations.insert(changelog_key(version), Some(stored));
        self.last = version;
    }

    /// Takes an entry away, and keeps in the history that it stood there.
    fn remove_entry(
        &mut self,
        key: Bytes,
        contents: &Bytes,
        since: Option<Version>,
        version: Version,
    ) {
        let history = history_key(&key, version);
        match (self.operations.get(&key), since) {
            // Another commit of the group has put it.
            (Some(Some(value)), _) => {
                let value = value.clone();
                self.operations.insert(history, Some(value));
            }
            // It belongs to an index that is being built.
            (Some(None), _) => {}
            (None, Some(since)) => {
                self.operations
                    .insert(history, Some(stamped(since, contents)));
            }
            (None, None) => self.unknown.push(Unknown {
                key: key.clone(),
                history,
            }),
        }
        self.operations.insert(key, None);
    }

    fn refusal(&self, refused: Refused, path: &DocumentPath) -> Error {
        let name = || DocumentName {
            database: self.database.clone(),
            path: path.clone(),
        };
        match refused {
            Refused::NotFound => Error::NotFound(name()),
            Refused::AlreadyExists => Error::AlreadyExists(name()),
            Refused::VersionMismatch { stored, required } => Error::VersionMismatch {
                document: name(),
                stored,
                required,
            },
            Refused::TooLarge { size } => Error::Invalid(too_large(&name(), size)),
            Refused::Invalid(invalid) => Error::Invalid(invalid),
        }
    }
}

/// Whether both are the same document with the same content.
fn unchanged(before: Option<&Document>, after: Option<&Document>) -> bool {
    match (before, after) {
        (None, None) => true,
        (Some(before), Some(after)) => {
            before.create_time == after.create_time
                && identical_fields(&before.fields, &after.fields)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// The refusal of a commit that touches more than is held in memory at once.
pub fn too_big() -> Error {
    Error::Invalid(Invalid::new(
        "Transaction too big. Decrease transaction size.",
    ))
}

/// Notes one document at each of the writes that name it.
fn place(
    documents: &mut [Option<Arc<Document>>],
    writes: &[usize],
    document: Option<&Arc<Document>>,
) {
    for number in writes {
        if let Some(place) = documents.get_mut(*number) {
            *place = document.cloned();
        }
    }
}

fn restore_update_times(
    writes: &[usize],
    before: Option<&Document>,
    outcomes: &mut [WriteOutcome],
) {
    let Some(before) = before else { return };
    for number in writes {
        if let Some(update_time) = outcomes
            .get_mut(*number)
            .and_then(|outcome| outcome.update_time.as_mut())
        {
            *update_time = before.update_time;
        }
    }
}
