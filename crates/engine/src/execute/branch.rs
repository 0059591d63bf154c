//! One branch of a plan as a sequence of documents that may match.
//!
//! Everything that an entry says is looked at here, before its document is loaded: its columns, its name, and whether
//! it lies in the right collection.

use std::collections::VecDeque;

use bytes::Bytes;
use watchfire_model::limits::INDEXED_VALUE_BYTES_MAX;
use watchfire_model::order::{
    PATH_END, decode_path, encode_collection_prefix, encode_path, encoded_segment_len,
};
use watchfire_model::{CollectionPath, DocumentPath};
use watchfire_storage::range::successor;
use watchfire_storage::{Direction, Range};

use super::join::{Join, Side};
use super::pace::Reading;
use super::pages::Pages;
use super::seek::malformed;
use crate::error::Error;
use crate::index::key::{invert, inverted, is_cut, next_column, split_entry};
use crate::keyspace::Keyspace;
use crate::planner::{Branch, Column, ColumnTest, SortPart, Source};

/// Keys in one page of an index.
const ENTRIES_MAX: usize = 1_024;

/// Documents in one page of stored documents.
const STORED_MAX: usize = 256;

/// A document that may match.
#[derive(Debug)]
pub struct Found {
    /// By position in the plan.
    pub branch: usize,
    /// Other branches that bring it at the same place in the order.
    pub others: Vec<usize>,
    /// Whose it is, as `encode_path` writes it.
    pub name: Vec<u8>,
    /// As much of its place in the order as is known. Empty when nobody asks.
    pub order: Vec<u8>,
    /// It comes in its place. Else neighbours with the same `order` are in no order among each other.
    pub placed: bool,
    /// It matches, whatever is stored in the document.
    pub sure: bool,
    /// No other branch brings it anywhere else.
    pub alone: bool,
    /// Its stored bytes, where they came along.
    pub record: Option<Bytes>,
    /// Its document must be there.
    pub must_exist: bool,
    /// The columns of its entry, as they stand there. Empty when nobody asks.
    pub columns: Vec<Bytes>,
    /// The values of its entries in the scans that were joined. Empty when nobody asks.
    pub payloads: Vec<Bytes>,
}

impl Found {
    /// Whose it is.
    pub fn path(&self) -> Result<DocumentPath, Error> {
        match decode_path(&self.name) {
            Some((path, used)) if used == self.name.len() => Ok(path),
            Some(_) | None => Err(malformed(&self.name)),
        }
    }

    /// Where its document is stored.
    pub fn document_key(&self) -> Bytes {
        Bytes::from([&[Keyspace::Document.byte()], self.name.as_slice()].concat())
    }
}

/// What is asked of the entries beside the documents.
#[derive(Copy, Clone, Debug)]
pub struct Needs {
    /// `Found::order`, even where the order is clear.
    pub order: bool,
    /// `Found::columns`.
    pub columns: bool,
    /// The branch's order is the whole order of the query.
    pub full: bool,
    /// How many are hoped to be enough.
    pub first: usize,
}

/// A running branch.
pub struct Reader {
    position: usize,
    kind: Kind,
    sort: Vec<SortPart>,
    fixed_cut: bool,
    tests: Vec<ColumnTest>,
    names: Option<Range>,
    /// The children's encoded names begin with this.
    children_of: Option<Vec<u8>>,
    covered: bool,
    needs: Needs,
}

enum Kind {
    Documents(VecDeque<DocumentPath>),
    Keys {
        pages: Pages,
        direction: Direction,
        /// Bytes before the document's path.
        head_len: usize,
        stored: bool,
    },
    Entries {
        join: Join,
        columns: Vec<Column>,
        base: Vec<u8>,
        names_inverted: bool,
    },
}

impl Reader {
    pub fn new(position: usize, branch: Branch, needs: Needs, reading: &Reading) -> Self {
        let direction = branch.direction;
        let narrows = !branch.allows_all_names();
        let pages = |ranges, first, max| Pages::new(reading.clone(), direction, ranges, first, max);
        let mut covered = branch.covered;
        let kind = match branch.source {
            Source::Documents(paths) => {
                let mut paths = VecDeque::from(paths);
                if direction == Direction::Backward {
                    paths.make_contiguous().reverse();
                }
                // Whether they exist is not known.
                covered = false;
                Kind::Documents(paths)
            }
            Source::Stored(range) => Kind::Keys {
                pages: pages(vec![range], needs.first, STORED_MAX),
                direction,
                head_len: 1,
                stored: true,
            },
            Source::Group { range, start_len } => Kind::Keys {
                pages: pages(vec![range], needs.first, ENTRIES_MAX),
                direction,
                head_len: start_len,
                stored: false,
            },
            Source::Entries(scans) => {
                covered &= scans.iter().all(|scan| !scan.cut);
                // Together they need less of each than one alone, and nobody knows how much.
                let first = if scans.len() > 1 { 1 } else { needs.first };
                let (mut columns, mut base, mut names_inverted) = Default::default();
                let mut sides = Vec::with_capacity(scans.len());
                for scan in scans {
                    sides.push(Side {
                        pages: pages(scan.ranges, first, ENTRIES_MAX),
                        start: scan.start,
                    });
                    (columns, base) = (scan.columns, scan.place.base());
                    names_inverted = scan.names_inverted;
                }
                let mut sides = sides.into_iter();
                match sides.next() {
                    Some(first) => Kind::Entries {
                        join: Join::new(direction, needs.columns, first, sides.collect()),
                        columns,
                        base,
                        names_inverted,
                    },
                    None => Kind::Documents(VecDeque::new()),
                }
            }
        };
        let fixed_cut = branch
            .sort
            .iter()
            .any(|part| matches!(part, SortPart::Fixed(bytes) if is_cut(bytes)));
        Self {
            position,
            kind,
            sort: branch.sort,
            fixed_cut,
            tests: branch.tests,
            names: narrows.then_some(branch.names),
            children_of: branch.children_of.as_ref().map(collection_prefix),
            covered,
            needs,
        }
    }

    /// Entries that were read.
    pub fn entries(&self) -> u64 {
        match &self.kind {
            Kind::Documents(_) => 0,
            Kind::Keys { pages, stored, .. } => {
                if *stored {
                    0
                } else {
                    pages.read
                }
            }
            Kind::Entries { join, .. } => join.read(),
        }
    }

    /// Documents that came along while their keys were read.
    pub fn documents(&self) -> u64 {
        match &self.kind {
            Kind::Keys { pages, stored, .. } if *stored => pages.read,
            Kind::Documents(_) | Kind::Keys { .. } | Kind::Entries { .. } => 0,
        }
    }

    /// The next document that may match; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Found>, Error> {
        loop {
            let Some(read) = self.kind.next(self.children_of.as_deref()).await? else {
                return Ok(None);
            };
            if let Some(found) = self.look_at(read)? {
                return Ok(Some(found));
            }
        }
    }

    /// Counts up to `wanted` documents, if their keys alone say that they match; else nothing is read.
    pub async fn count_keys(&mut self, wanted: u64) -> Result<Option<u64>, Error> {
        let Kind::Keys {
            pages,
            direction,
            head_len,
            ..
        } = &mut self.kind
        else {
            return Ok(None);
        };
        if !self.covered || self.names.is_some() {
            return Ok(None);
        }
        let mut count = 0;
        while count < wanted
            && to_child(pages, *direction, *head_len, self.children_of.as_deref()).await?
        {
            pages.pop();
            count += 1;
        }
        Ok(Some(count))
    }

    /// What is found there; `None` if it is not wanted.
    fn look_at(&self, read: Read) -> Result<Option<Found>, Error> {
        let (key, payloads) = match read {
            Read::Name { name, record } => {
                let found = self.found(name, &[], record);
                return Ok(Some(found).filter(|found| self.allows(&found.name)));
            }
            Read::Entry { key, payloads } => (key, payloads),
        };
        let Kind::Entries {
            join,
            columns: expected,
            base,
            names_inverted,
        } = &self.kind
        else {
            return Err(malformed(&key));
        };
        let (bytes, part) = split_entry(join.start_len(), &key).ok_or_else(|| malformed(&key))?;
        let mut columns: Vec<&[u8]> = Vec::new();
        // Columns that nobody asks about are only taken apart where one of them may have been cut.
        if self.needs.columns
            || self.needs.order
            || self.fixed_cut
            || !self.tests.is_empty()
            || bytes.len() > INDEXED_VALUE_BYTES_MAX
        {
            columns.reserve(expected.len());
            let mut rest = bytes;
            for column in expected {
                let (bytes, after) =
                    next_column(rest, column.inverted).ok_or_else(|| malformed(&key))?;
                columns.push(bytes);
                rest = after;
            }
        }
        if !self.passes(&columns, expected) {
            return Ok(None);
        }
        let mut name = Vec::with_capacity(base.len() + part.len());
        name.extend_from_slice(base);
        name.extend_from_slice(part);
        if *names_inverted {
            invert(name.iter_mut().skip(base.len()));
        }
        if !self.allows(&name) {
            return Ok(None);
        }
        let mut found = self.found(name, &columns, None);
        if self.needs.columns {
            found.columns = columns.iter().map(|bytes| key.slice_ref(bytes)).collect();
            found.payloads = payloads;
        }
        Ok(Some(found))
    }

    fn passes(&self, columns: &[&[u8]], expected: &[Column]) -> bool {
        self.tests.iter().all(|test| {
            let (Some(bytes), Some(column)) = (columns.get(test.column), expected.get(test.column))
            else {
                // A test that cannot be made decides nothing.
                return true;
            };
            if column.inverted {
                lies_in(&test.ranges, &inverted(bytes))
            } else {
                lies_in(&test.ranges, bytes)
            }
        })
    }

    /// Whether the name alone speaks against the document.
    fn allows(&self, name: &[u8]) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(name))
            && self.children_of.as_ref().is_none_or(|prefix| {
                name.strip_prefix(prefix.as_slice()).is_some_and(|rest| {
                    encoded_segment_len(rest)
                        .is_some_and(|len| rest.get(len..) == Some(&[PATH_END]))
                })
            })
    }

    fn found(&self, name: Vec<u8>, columns: &[&[u8]], record: Option<Bytes>) -> Found {
        let cut = columns.iter().any(|bytes| is_cut(bytes));
        let mut placed = self.needs.full && !self.fixed_cut;
        let mut order = Vec::new();
        if self.needs.order || self.fixed_cut || cut {
            let whole = self.encode_order(columns, &name, &mut order);
            placed &= whole;
        }
        Found {
            branch: self.position,
            others: Vec::new(),
            name,
            order,
            placed,
            sure: self.covered && !cut,
            alone: true,
            record,
            must_exist: !matches!(self.kind, Kind::Documents(_)),
            columns: Vec::new(),
            payloads: Vec::new(),
        }
    }

    /// The place in the order, up to the first part that was cut; false if there is one.
    fn encode_order(&self, columns: &[&[u8]], name: &[u8], out: &mut Vec<u8>) -> bool {
        let expected: &[Column] = match &self.kind {
            Kind::Entries { columns, .. } => columns,
            Kind::Documents(_) | Kind::Keys { .. } => &[],
        };
        for part in &self.sort {
            let start = out.len();
            let (turned, cut) = match part {
                SortPart::Fixed(bytes) => {
                    out.extend_from_slice(bytes);
                    (false, is_cut(bytes))
                }
                SortPart::Column { column, descending } => {
                    let bytes = columns.get(*column).copied().unwrap_or_default();
                    out.extend_from_slice(bytes);
                    let inverted = expected.get(*column).is_some_and(|column| column.inverted);
                    (inverted != *descending, is_cut(bytes))
                }
                SortPart::Name { descending } => {
                    out.extend_from_slice(name);
                    (*descending, false)
                }
            };
            if turned {
                invert(out.iter_mut().skip(start));
            }
            if cut {
                return false;
            }
        }
        true
    }
}

/// What a source brings.
enum Read {
    Name {
        name: Vec<u8>,
        record: Option<Bytes>,
    },
    Entry {
        key: Bytes,
        payloads: Vec<Bytes>,
    },
}

impl Kind {
    async fn next(&mut self, children_of: Option<&[u8]>) -> Result<Option<Read>, Error> {
        match self {
            Kind::Documents(paths) => Ok(paths.pop_front().map(|path| {
                let mut name = Vec::new();
                encode_path(&path, &mut name);
                Read::Name { name, record: None }
            })),
            Kind::Entries { join, .. } => Ok(join
                .next()
                .await?
                .map(|(key, payloads)| Read::Entry { key, payloads })),
            Kind::Keys {
                pages,
                direction,
                head_len,
                stored,
            } => {
                if !to_child(pages, *direction, *head_len, children_of).await? {
                    return Ok(None);
                }
                let Some((key, value)) = pages.pop() else {
                    return Ok(None);
                };
                let name = key.get(*head_len..).ok_or_else(|| malformed(&key))?;
                Ok(Some(Read::Name {
                    name: name.to_vec(),
                    record: stored.then_some(value),
                }))
            }
        }
    }
}

/// Goes to the next key that names a child of the collection, if there is one; false at the end. What lies below the
/// children is passed over without being read.
async fn to_child(
    pages: &mut Pages,
    direction: Direction,
    head_len: usize,
    children_of: Option<&[u8]>,
) -> Result<bool, Error> {
    loop {
        if !pages.fill().await? {
            return Ok(false);
        }
        let (Some(prefix), Some(key)) = (children_of, pages.front()) else {
            return Ok(true);
        };
        let Some(child_len) = child_above(key, head_len, prefix) else {
            return Ok(true);
        };
        let child = key.slice(..child_len);
        match direction {
            Direction::Forward => match successor(&child) {
                Some(bound) => pages.seek(&bound),
                None => pages.end(),
            },
            Direction::Backward => pages.seek(&[child.as_ref(), &[PATH_END, 0]].concat()),
        }
    }
}

/// For a key below a child of the collection: how long the child's own key is, without its end.
fn child_above(key: &[u8], head_len: usize, prefix: &[u8]) -> Option<usize> {
    let rest = key.get(head_len..)?.strip_prefix(prefix)?;
    let len = encoded_segment_len(rest)?;
    (rest.get(len..)? != [PATH_END]).then_some(head_len + prefix.len() + len)
}

fn collection_prefix(collection: &CollectionPath) -> Vec<u8> {
    let mut prefix = Vec::new();
    encode_collection_prefix(collection, &mut prefix);
    prefix
}

/// Whether one of the ranges, which ascend and do not overlap, has the bytes.
fn lies_in(ranges: &[Range], bytes: &[u8]) -> bool {
    let after = ranges.partition_point(|range| range.start.as_ref() <= bytes);
    after
        .checked_sub(1)
        .and_then(|last| ranges.get(last))
        .is_some_and(|range| range.contains(bytes))
}
