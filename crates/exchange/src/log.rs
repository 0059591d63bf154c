//! LevelDB's log: records in pieces, with a checksum for each piece.
//!
//! A file is a row of blocks of 32 KiB. A piece is a head (checksum, length and kind, 7 bytes) and its bytes, and lies
//! in one block; a record that does not fit is a first, any number of middle, and a last piece. Where a block has no
//! room for another head it ends with zeros. The checksum is CRC-32C over kind and bytes, masked, so that a log within
//! a log does not check itself.
//!
//! Reading stops at the first thing that is wrong. A log that was cut between two records looks whole: who wants to
//! know must have counted them.

use std::io::{self, Read, Write};

/// Bytes of a block.
const BLOCK_LEN: usize = 32 * 1024;
/// Bytes before those of a piece: checksum 4, length 2, kind 1.
const HEAD_LEN: usize = 7;
/// Bytes of one record, in all its pieces; a larger one is refused. A document of 1 MiB takes up to some tens of times
/// that in the words of Datastore.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// Why a log cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The source failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The bytes are not those of a log.
    #[error("{complaint} at byte {offset}")]
    Damaged {
        /// Where the record begins, or the piece that should begin one.
        offset: u64,
        complaint: String,
    },
}

/// A record and where it begins.
#[derive(Debug)]
pub struct Record {
    /// Of its first piece, from the start of the log.
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// Reads a log from its start.
#[derive(Debug)]
pub struct LogReader<R> {
    source: R,
    position: u64,
    block: Vec<u8>,
}

impl<R: Read> LogReader<R> {
    /// The source is read in small pieces: give it a buffer.
    pub fn new(source: R) -> Self {
        Self {
            source,
            position: 0,
            block: Vec::with_capacity(BLOCK_LEN),
        }
    }

    /// The next record; `None` at the end of the log.
    pub fn next_record(&mut self) -> Result<Option<Record>, LogError> {
        let Some(mut piece) = self.next_piece()? else {
            return Ok(None);
        };
        let offset = piece.offset;
        if piece.kind != FULL && piece.kind != FIRST {
            return Err(damaged(
                offset,
                "expected the beginning of a record, found a later piece of one",
            ));
        }
        let mut bytes = std::mem::take(&mut piece.bytes);
        while piece.kind != FULL && piece.kind != LAST {
            piece = self.next_piece()?.ok_or_else(|| {
                damaged(offset, "the file ends before the last piece of the record")
            })?;
            if piece.kind != MIDDLE && piece.kind != LAST {
                return Err(damaged(
                    offset,
                    "the record is followed by another one before its last piece",
                ));
            }
            if bytes.len().saturating_add(piece.bytes.len()) > RECORD_BYTES_MAX {
                return Err(damaged(
                    offset,
                    format!("the record is longer than {RECORD_BYTES_MAX} bytes"),
                ));
            }
            bytes.extend_from_slice(&piece.bytes);
        }
        Ok(Some(Record { offset, bytes }))
    }

    fn next_piece(&mut self) -> Result<Option<Piece>, LogError> {
        loop {
            let offset = self.position;
            let left = left_in_block(offset);
            if left < HEAD_LEN {
                self.skip_zeros(left)?;
                continue;
            }
            let mut head = [0; HEAD_LEN];
            match self.fill(&mut head)? {
                0 => return Ok(None),
                HEAD_LEN => {}
                _ => return Err(cut(offset)),
            }
            if head == [0; HEAD_LEN] {
                // Some writers fill the rest of their last block with zeros.
                self.skip_zeros(left - HEAD_LEN)?;
                continue;
            }
            let [c0, c1, c2, c3, l0, l1, kind] = head;
            let len = usize::from(u16::from_le_bytes([l0, l1]));
            if !(FULL..=LAST).contains(&kind) {
                return Err(damaged(
                    offset,
                    format!("expected a piece of kind {FULL} to {LAST}, found {kind}"),
                ));
            }
            if len > left - HEAD_LEN {
                return Err(damaged(
                    offset,
                    format!("a piece of {len} bytes does not fit into its block"),
                ));
            }
            let mut bytes = vec![0; len];
            if self.fill(&mut bytes)? != len {
                return Err(cut(offset));
            }
            let (expected, found) = (u32::from_le_bytes([c0, c1, c2, c3]), checksum(kind, &bytes));
            if expected != found {
                return Err(damaged(
                    offset,
                    format!(
                        "the checksum does not fit: expected {expected:08x}, found {found:08x}"
                    ),
                ));
            }
            return Ok(Some(Piece {
                offset,
                kind,
                bytes,
            }));
        }
    }

    /// Passes over the end of a block, which may also be the end of the file.
    fn skip_zeros(&mut self, len: usize) -> Result<(), LogError> {
        let offset = self.position;
        let mut block = std::mem::take(&mut self.block);
        block.resize(len, 0);
        let count = self.fill(&mut block)?;
        let zeros = block.iter().take(count).all(|byte| *byte == 0);
        self.block = block;
        if zeros {
            // At the end of the file the rest is not there, and the next read says so.
            self.position = offset + len as u64;
            Ok(())
        } else {
            Err(damaged(offset, "expected zeros up to the end of the block"))
        }
    }

    /// Reads until the buffer is full or the source ends; how many bytes were read.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, LogError> {
        let mut count = 0;
        while let Some(rest) = buffer.get_mut(count..).filter(|rest| !rest.is_empty()) {
            match self.source.read(rest) {
                Ok(0) => break,
                Ok(read) => count += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.position += count as u64;
        Ok(count)
    }
}

struct Piece {
    offset: u64,
    kind: u8,
    bytes: Vec<u8>,
}

/// Writes a log from its start.
#[derive(Debug)]
pub struct LogWriter<W> {
    sink: W,
    position: u64,
}

impl<W: Write> LogWriter<W> {
    /// The sink is written in small pieces: give it a buffer.
    pub fn new(sink: W) -> Self {
        Self { sink, position: 0 }
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.position
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.position == 0
    }

    /// Appends one record.
    pub fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let mut rest = record;
        let mut begun = false;
        loop {
            let left = left_in_block(self.position);
            if left < HEAD_LEN {
                self.write(&vec![0; left])?;
                continue;
            }
            let (bytes, after) = rest.split_at(rest.len().min(left - HEAD_LEN));
            let kind = match (begun, after.is_empty()) {
                (false, true) => FULL,
                (false, false) => FIRST,
                (true, false) => MIDDLE,
                (true, true) => LAST,
            };
            let len = u16::try_from(bytes.len()).expect("a piece is shorter than a block");
            self.write(&checksum(kind, bytes).to_le_bytes())?;
            self.write(&len.to_le_bytes())?;
            self.write(&[kind])?;
            self.write(bytes)?;
            if after.is_empty() {
                return Ok(());
            }
            rest = after;
            begun = true;
        }
    }

    /// The sink, with everything that was appended given to it.
    pub fn into_sink(self) -> W {
        self.sink
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.write_all(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

fn left_in_block(position: u64) -> usize {
    let block = BLOCK_LEN as u64;
    usize::try_from(block - position % block).expect("a block fits into memory")
}

fn checksum(kind: u8, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[kind]), bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

fn damaged(offset: u64, complaint: impl Into<String>) -> LogError {
    LogError::Damaged {
        offset,
        complaint: complaint.into(),
    }
}

fn cut(offset: u64) -> LogError {
    damaged(offset, "the file ends in the middle of a piece")
}

#[cfg(test)]
mod tests;
