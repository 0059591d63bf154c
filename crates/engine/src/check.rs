//! Whether index entries and documents agree, and making them agree.
//!
//! Documents are the truth. Every document must have its entries in every index that may be read, with what they
//! hold, and no entry may be there that no document has. What an index has so far that is still being built, or that
//! is being removed, is not wrong. Nothing may stand anywhere since a version that has not come yet. Of the history
//! only whether it can be read is looked at.
//!
//! All work is done in pieces of bounded size. Nothing is written here: the committer stores what a piece of a repair
//! finds.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use bytes::Bytes;
use watchfire_model::order::decode_path;
use watchfire_model::{CollectionPath, DocumentPath};
use watchfire_storage::range::just_after;
use watchfire_storage::{Direction, Operation, Page, Range, Snapshot};

use crate::definition::{IndexId, Scope};
use crate::error::Error;
use crate::index::build::{count, put};
use crate::index::catalog::{Catalog, IndexState, stored};
use crate::index::entries::{Entries, entries, group_start, read_group_entry, stored_entries};
use crate::index::key::{Place, defined_start, read_entry};
use crate::keyspace::{Catalogue, FORMAT, Keyspace, catalogue_key, document_key, read_history_key};
use crate::record::decode_record;
use crate::stamp::{contents, since};

/// How many faults a report describes; all are counted.
pub const EXAMPLES_MAX: usize = 20;

/// Documents in one piece, at most.
const PIECE_DOCUMENTS: usize = 64;

/// Entries in one piece, at most.
const PIECE_ENTRIES: usize = 1_000;

/// A piece ends behind the document with which its operations have this many bytes.
const PIECE_BYTES: usize = 4 << 20;

/// Documents that are read at once for the entries of a piece.
const LOAD_DOCUMENTS: usize = 16;

/// The parts of the key space that hold entries.
const PARTS: [Keyspace; 4] = [
    Keyspace::Index,
    Keyspace::Group,
    Keyspace::GroupIndex,
    Keyspace::Defined,
];

/// What is wrong with one key.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A document has no entry where it must have one.
    Missing,
    /// An entry does not hold what it must hold.
    Wrong,
    /// An entry is there that no document has.
    Surplus,
    /// A stored document cannot be read, and nothing is known about its entries; or an entry of the history cannot.
    Unreadable,
}

/// One fault, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// What is wrong.
    pub fault: Fault,
    /// Whose; `None` when the key does not say.
    pub document: Option<DocumentPath>,
    /// In which index.
    pub index: String,
    /// The key.
    pub key: Bytes,
}

impl Display for Example {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let of_history = self.key.first() == Some(&Keyspace::History.byte());
        f.write_str(match self.fault {
            Fault::Missing => "missing entry",
            Fault::Wrong => "entry with wrong contents",
            Fault::Surplus => "surplus entry",
            Fault::Unreadable if of_history => "unreadable entry of the history",
            Fault::Unreadable => "unreadable document",
        })?;
        if let Some(document) = &self.document {
            write!(f, " of {document}")?;
        }
        if self.fault != Fault::Unreadable {
            write!(f, " in {}", self.index)?;
        }
        f.write_str(" (key ")?;
        for byte in &self.key {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Documents that were looked at.
    pub documents: u64,
    /// Entries that are stored.
    pub entries: u64,
    pub missing: u64,
    pub wrong: u64,
    pub surplus: u64,
    pub unreadable: u64,
    /// The first `EXAMPLES_MAX` of them.
    pub examples: Vec<Example>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.missing == 0 && self.wrong == 0 && self.surplus == 0 && self.unreadable == 0
    }

    fn add(&mut self, found: Vec<Example>) {
        for example in found {
            let count = match example.fault {
                Fault::Missing => &mut self.missing,
                Fault::Wrong => &mut self.wrong,
                Fault::Surplus => &mut self.surplus,
                Fault::Unreadable => &mut self.unreadable,
            };
            *count = count.saturating_add(1);
            if self.examples.len() < EXAMPLES_MAX {
                self.examples.push(example);
            }
        }
    }
}

/// What a repair has done.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Entries that were written, missing or wrong before.
    pub put: u64,
    /// Surplus entries that were deleted.
    pub deleted: u64,
}

impl Repaired {
    /// Counts what a piece did.
    pub fn add(&mut self, operations: &[Operation]) {
        for operation in operations {
            match operation {
                Operation::Put { .. } => self.put += 1,
                Operation::Delete { .. } => self.deleted += 1,
            }
        }
    }
}

/// A piece of a repair.
#[derive(Debug)]
pub struct Repair {
    /// What is to be stored, on the state from which it was worked out.
    pub operations: Vec<Operation>,
    /// Where the next piece begins; `None` at the end.
    pub next: Option<Bytes>,
}

/// Looks at everything that the snapshot holds. Fails with `FailedPrecondition` for a database in an older format.
pub async fn check(snapshot: &dyn Snapshot) -> Result<Report, Error> {
    let mut report = Report::default();
    if !has_format(snapshot).await? {
        return Ok(report);
    }
    let rules = Rules::load(snapshot).await?;
    let mut needed = 0;
    let mut position = Bytes::new();
    loop {
        let piece = documents_piece(snapshot, &rules, &position).await?;
        report.documents += piece.documents;
        needed += piece.needed;
        report.add(piece.found);
        match piece.next {
            Some(next) => position = next,
            None => break,
        }
        tokio::task::yield_now().await;
    }
    let documents_are_readable = report.unreadable == 0;
    let mut position = Bytes::new();
    loop {
        let piece = history_piece(snapshot, &position).await?;
        report.add(piece.found);
        match piece.next {
            Some(next) => position = next,
            None => break,
        }
        tokio::task::yield_now().await;
    }
    for part in PARTS {
        report.entries += count(snapshot, part.range(), u64::MAX).await?;
    }
    // All that must be there is there, and nothing else is: no entry needs to be looked at by itself.
    if rules.at_rest && documents_are_readable && report.entries == needed - report.missing {
        return Ok(report);
    }
    for part in PARTS {
        let mut position = Bytes::new();
        loop {
            let piece = entries_piece(snapshot, &rules, part, &position).await?;
            report.add(piece.found);
            match piece.next {
                Some(next) => position = next,
                None => break,
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(report)
}

/// What a repair goes through, in this order: the documents, every part that holds entries, the history.
pub fn passes() -> impl Iterator<Item = Pass> {
    std::iter::once(Pass::Documents)
        .chain(PARTS.map(Pass::Entries))
        .chain([Pass::History])
}

/// What one pass of a repair looks at.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Documents, for entries that are missing or wrong.
    Documents,
    /// The entries in a part of the key space, for surplus ones.
    Entries(Keyspace),
    /// The history, for what cannot be read.
    History,
}

/// One piece of a pass, from `position` on: what would make it right, and where the next one begins. Documents that
/// cannot be read, and what may be their entries, are left alone.
pub async fn piece(snapshot: &dyn Snapshot, pass: Pass, position: &Bytes) -> Result<Repair, Error> {
    let rules = Rules::load(snapshot).await?;
    let Piece {
        operations, next, ..
    } = match pass {
        Pass::Documents => documents_piece(snapshot, &rules, position).await?,
        Pass::Entries(part) => entries_piece(snapshot, &rules, part, position).await?,
        Pass::History => history_piece(snapshot, position).await?,
    };
    Ok(Repair { operations, next })
}

/// Whether the database has anything in it at all.
async fn has_format(snapshot: &dyn Snapshot) -> Result<bool, Error> {
    let format = snapshot.get(&catalogue_key(Catalogue::Format)).await?;
    match format.as_deref() {
        None => Ok(false),
        Some([FORMAT]) => Ok(true),
        Some(other) => Err(Error::FailedPrecondition(format!(
            "the database is stored in format {other:?}; serve it once, so that it is converted to format [{FORMAT}]"
        ))),
    }
}

/// Which entries must be there, and which may be.
struct Rules {
    /// All that is known about indexes.
    catalog: Catalog,
    /// Only what may be read.
    readable: Catalog,
    /// Nothing is being built or removed.
    at_rest: bool,
}

impl Rules {
    async fn load(snapshot: &dyn Snapshot) -> Result<Self, Error> {
        let catalog = stored::load(snapshot).await?;
        let mut readable = catalog.clone();
        readable
            .indexes
            .retain(|_, index| index.state == IndexState::Ready);
        for config in readable.fields.values_mut() {
            config.kept = config.kept.intersection(config.usable);
        }
        let at_rest = readable.indexes.len() == catalog.indexes.len()
            && catalog
                .fields
                .values()
                .all(|config| config.kept == config.usable && config.removing.is_empty());
        Ok(Self {
            catalog,
            readable,
            at_rest,
        })
    }

    /// The index to which a key belongs, in words.
    fn name(&self, key: &[u8]) -> String {
        let part = PARTS
            .into_iter()
            .find(|part| key.first() == Some(&part.byte()));
        match part {
            Some(Keyspace::Index) => "the automatic index of a collection".to_owned(),
            Some(Keyspace::GroupIndex) => "the automatic index of a collection group".to_owned(),
            Some(Keyspace::Group) => "the documents of a collection group".to_owned(),
            Some(Keyspace::Defined) => {
                let Some(id) = index_id(key) else {
                    return "no index".to_owned();
                };
                match self.catalog.indexes.get(&id) {
                    Some(index) => format!("index {id} {}", index.definition),
                    None => format!("index {id}, which does not exist"),
                }
            }
            Some(
                Keyspace::Document | Keyspace::Changelog | Keyspace::Catalogue | Keyspace::History,
            )
            | None => "no index".to_owned(),
        }
    }
}

/// One piece of work.
struct Piece {
    documents: u64,
    /// Entries that its documents must have.
    needed: u64,
    found: Vec<Example>,
    /// What would make it right.
    operations: Vec<Operation>,
    /// Where the next piece begins; `None` at the end.
    next: Option<Bytes>,
}

impl Piece {
    fn new() -> Self {
        Self {
            documents: 0,
            needed: 0,
            found: Vec::new(),
            operations: Vec::new(),
            next: None,
        }
    }

    /// Of all keys of the page.
    fn of(page: &Page) -> Self {
        let last = page.entries.last().filter(|_| page.more);
        Self {
            next: last.map(|(key, _)| just_after(key)),
            ..Self::new()
        }
    }
}

fn from(mut range: Range, position: &Bytes) -> Range {
    if *position > range.start {
        range.start = position.clone();
    }
    range
}

/// Documents from `position` on, each with the entries that it must have.
async fn documents_piece(
    snapshot: &dyn Snapshot,
    rules: &Rules,
    position: &Bytes,
) -> Result<Piece, Error> {
    let range = from(Keyspace::Document.range(), position);
    let page = snapshot
        .page(&range, Direction::Forward, PIECE_DOCUMENTS)
        .await?;
    let mut piece = Piece::new();
    let mut bytes = 0;
    let mut last = None;
    for (key, record) in &page.entries {
        if bytes >= PIECE_BYTES {
            piece.next = last;
            return Ok(piece);
        }
        last = Some(just_after(key));
        piece.documents += 1;
        let path = key.get(1..).and_then(decode_path);
        let path = path.and_then(|(path, used)| (used + 1 == key.len()).then_some(path));
        let document = match &path {
            Some(path) => decode_record(path, record).ok(),
            None => None,
        };
        let Some(document) = document else {
            piece.found.push(Example {
                fault: Fault::Unreadable,
                document: path,
                index: String::new(),
                key: key.clone(),
            });
            continue;
        };
        let needed = entries(&document, &rules.readable);
        piece.needed += needed.len() as u64;
        let keys: Vec<Bytes> = needed.keys().cloned().collect();
        let stored = snapshot.get_many(&keys).await?;
        for ((key, value), stored) in needed.into_iter().zip(stored) {
            let fault = match stored {
                Some(stored)
                    if contents(&stored) == value && since(&stored) <= snapshot.version() =>
                {
                    continue;
                }
                Some(_) => Fault::Wrong,
                None => Fault::Missing,
            };
            piece.found.push(Example {
                fault,
                document: path.clone(),
                index: rules.name(&key),
                key: key.clone(),
            });
            bytes += key.len() + value.len();
            piece.operations.push(put(&document, (key, value)));
        }
    }
    piece.next = last.filter(|_| page.more);
    Ok(piece)
}

/// What a key says.
enum Said {
    /// The entry of a document.
    Of(DocumentPath),
    /// Of an index that is being removed.
    Removed,
    /// Of nothing that there is.
    Nothing,
}

/// Entries of one part from `position` on, each of which some document must have.
async fn entries_piece(
    snapshot: &dyn Snapshot,
    rules: &Rules,
    part: Keyspace,
    position: &Bytes,
) -> Result<Piece, Error> {
    let range = from(part.range(), position);
    let page = snapshot
        .page(&range, Direction::Forward, PIECE_ENTRIES)
        .await?;
    let mut piece = Piece::of(&page);
    let mut surplus = |key: Bytes, document: Option<DocumentPath>| {
        piece.found.push(Example {
            fault: Fault::Surplus,
            document,
            index: rules.name(&key),
            key: key.clone(),
        });
        piece.operations.push(Operation::Delete { key });
    };
    let mut by_document: BTreeMap<DocumentPath, Vec<Bytes>> = BTreeMap::new();
    for (key, _) in page.entries {
        match said(&rules.catalog, part, &key) {
            Said::Of(path) => by_document.entry(path).or_default().push(key),
            Said::Removed => {}
            Said::Nothing => surplus(key, None),
        }
    }
    let by_document: Vec<(DocumentPath, Vec<Bytes>)> = by_document.into_iter().collect();
    for some in by_document.chunks(LOAD_DOCUMENTS) {
        let keys: Vec<Bytes> = some.iter().map(|(path, _)| document_key(path)).collect();
        let records = snapshot.get_many(&keys).await?;
        for ((path, keys), record) in some.iter().zip(records) {
            let allowed = match record.map(|record| decode_record(path, &record)) {
                None => Entries::new(),
                Some(Ok(document)) => stored_entries(&document, &rules.catalog),
                // Nobody knows which entries it has.
                Some(Err(_)) => continue,
            };
            for key in keys.iter().filter(|key| !allowed.contains_key(*key)) {
                surplus(key.clone(), Some(path.clone()));
            }
        }
    }
    Ok(piece)
}

/// Entries of the history from `position` on, each of which must be readable.
async fn history_piece(snapshot: &dyn Snapshot, position: &Bytes) -> Result<Piece, Error> {
    let range = from(Keyspace::History.range(), position);
    let page = snapshot
        .page(&range, Direction::Forward, PIECE_ENTRIES)
        .await?;
    let mut piece = Piece::of(&page);
    for (key, value) in page.entries {
        let readable = read_history_key(&key)
            .is_some_and(|(_, until)| since(&value) <= until && until <= snapshot.version());
        if readable {
            continue;
        }
        piece.found.push(Example {
            fault: Fault::Unreadable,
            document: None,
            index: String::new(),
            key: key.clone(),
        });
        piece.operations.push(Operation::Delete { key });
    }
    Ok(piece)
}

fn said(catalog: &Catalog, part: Keyspace, key: &Bytes) -> Said {
    let of = |path: Option<DocumentPath>| path.map_or(Said::Nothing, Said::Of);
    match part {
        Keyspace::Group => of(group_document(key)),
        Keyspace::Index => of(entry_document(key, 1, Scope::Collection, false)),
        Keyspace::GroupIndex => of(entry_document(key, 1, Scope::Group, false)),
        Keyspace::Defined => {
            let Some(index) = index_id(key).and_then(|id| catalog.indexes.get(&id)) else {
                return Said::Nothing;
            };
            let start_len = defined_start(index.id).len();
            let (scope, inverted) = (index.definition.scope(), index.definition.name_descends());
            match index.state {
                IndexState::Deleting => Said::Removed,
                IndexState::Creating | IndexState::Ready => {
                    of(entry_document(key, start_len, scope, inverted))
                }
            }
        }
        Keyspace::Document | Keyspace::Changelog | Keyspace::Catalogue | Keyspace::History => {
            Said::Nothing
        }
    }
}

fn index_id(key: &[u8]) -> Option<IndexId> {
    let id = key.get(1..)?.first_chunk::<8>()?;
    Some(IndexId(u64::from_be_bytes(*id)))
}

/// The document of a key whose place begins behind `start_len` bytes.
fn entry_document(
    key: &Bytes,
    start_len: usize,
    scope: Scope,
    inverted: bool,
) -> Option<DocumentPath> {
    let rest = key.get(start_len..)?;
    let end = rest.windows(2).position(|two| two == b"//")?;
    let place = std::str::from_utf8(rest.get(..end)?).ok()?;
    let place = match scope {
        Scope::Collection => Place::Collection(CollectionPath::parse(place).ok()?),
        Scope::Group => Place::Group(place.to_owned()),
    };
    read_entry(&place, start_len + end + 2, inverted, key).map(|entry| entry.document)
}

/// The document of a key that names it for its collection group.
fn group_document(key: &[u8]) -> Option<DocumentPath> {
    // The id ends where the path begins; which of the places is right shows in what is read there.
    (1..key.len()).find_map(|start_len| {
        let path = read_group_entry(start_len, key)?;
        let start = group_start(path.collection_id());
        (start.len() == start_len && key.starts_with(&start)).then_some(path)
    })
}
