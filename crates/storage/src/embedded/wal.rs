//! A look at the log files before the engine opens them: is what is damaged only an end that was never finished?
//!
//! Reads, never writes or repairs.
//!
//! # Why
//!
//! A process that dies in the middle of a write leaves an unfinished record at the end of its log.
//! Nobody was told that it is durable, so it is dropped, and the engine does that by itself.
//! But the engine takes a record whose *length* was damaged for such an end too, if it lies in the last block of the log, and then drops it and all after it without a word.
//! The two differ in what follows: we flush each record before we write the next, so after an unfinished record there is nothing.
//! Therefore each log is read up to its first unreadable record, and if a readable one follows, the log is damaged and the folder is not opened.
//!
//! # What is not found
//!
//! Damage to the length of the very last record, and a log cut off exactly between two records, look like an end that was never finished.
//! An unreadable last record of full length is left to the engine, which refuses it: it may have been acknowledged.
//!
//! # Format
//!
//! Blocks of 32 KiB; in each, records of four bytes checksum (CRC-32C, masked), two bytes length, one byte kind (all little-endian), and the content; fewer than seven bytes left in a block are filled with zeros.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::error::Error;

const BLOCK_LEN: usize = 32 * 1024;
const HEADER_LEN: usize = 7;
const CHECKSUM_LEN: usize = 4;
/// The kinds in which content is written: whole, first, middle, last.
const CONTENT_KINDS: std::ops::RangeInclusive<u8> = 1..=4;
const CHECKSUM_MASK: u32 = 0xa282_ead8;

/// What was found beside damage.
#[derive(Debug, Default)]
pub(crate) struct LogFiles {
    /// Whether there is a table or a log that is not empty.
    pub(crate) has_data: bool,
    /// Logs with an unreadable end, and where it begins.
    unfinished: Vec<(PathBuf, u64)>,
}

impl LogFiles {
    /// The files to look at first when the engine reports damage without a name.
    pub(crate) fn suspects(&self, directory: &Path) -> String {
        if self.unfinished.is_empty() {
            return format!("the folder {}", directory.display());
        }
        let names: Vec<String> = self
            .unfinished
            .iter()
            .map(|(path, offset)| format!("the log {} at byte {offset}", path.display()))
            .collect();
        names.join(" or ")
    }
}

/// Reads all logs of the folder; an error names the one that is damaged.
pub(crate) fn check(directory: &Path) -> Result<LogFiles, Error> {
    let unreadable = |path: &Path, error: std::io::Error| {
        Error::Unavailable(format!("cannot read {}: {error}", path.display()))
    };
    let mut found = LogFiles::default();
    for entry in std::fs::read_dir(directory).map_err(|error| unreadable(directory, error))? {
        let path = entry.map_err(|error| unreadable(directory, error))?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("sst") => found.has_data = true,
            Some("log") => {
                let mut file = File::open(&path).map_err(|error| unreadable(&path, error))?;
                found.has_data |= file
                    .metadata()
                    .map_err(|error| unreadable(&path, error))?
                    .len()
                    > 0;
                match read_log(&mut file).map_err(|error| unreadable(&path, error))? {
                    Ending::Whole => {}
                    Ending::Unfinished { offset } => found.unfinished.push((path, offset)),
                    Ending::Damaged { offset } => {
                        return Err(Error::Corrupt(format!(
                            "the log {} is damaged at byte {offset}, and readable after it",
                            path.display()
                        )));
                    }
                }
            }
            Some(_) | None => {}
        }
    }
    Ok(found)
}

/// How a log ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Ending {
    /// With a readable record.
    Whole,
    /// With something unreadable, and nothing readable after it.
    Unfinished { offset: u64 },
    /// Something unreadable lies before something readable.
    Damaged { offset: u64 },
}

fn read_log(log: &mut impl Read) -> std::io::Result<Ending> {
    let mut block = Vec::with_capacity(BLOCK_LEN);
    let mut start = 0u64;
    let mut unreadable = None;
    loop {
        read_block(log, &mut block)?;
        if block.is_empty() {
            break;
        }
        if let Some(offset) = unreadable {
            // A record of an earlier block may only go on here if it is readable to its end.
            if content_len(&block).is_some() {
                return Ok(Ending::Damaged { offset });
            }
        } else if let Some(position) = first_unreadable(&block) {
            let offset = start + position as u64;
            unreadable = Some(offset);
            let mut rest = block.get(position..).unwrap_or_default();
            while let Some((_, shorter)) = rest.split_first() {
                if content_len(shorter).is_some() {
                    return Ok(Ending::Damaged { offset });
                }
                rest = shorter;
            }
        }
        start += block.len() as u64;
    }
    Ok(unreadable.map_or(Ending::Whole, |offset| Ending::Unfinished { offset }))
}

fn read_block(log: &mut impl Read, block: &mut Vec<u8>) -> std::io::Result<()> {
    block.clear();
    match log.take(BLOCK_LEN as u64).read_to_end(block) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
        Err(error) => Err(error),
    }
}

/// Where in the block the readable records end, if that is not its end.
fn first_unreadable(block: &[u8]) -> Option<usize> {
    let mut rest = block;
    loop {
        let position = block.len() - rest.len();
        if rest.is_empty() || (block.len() == BLOCK_LEN && rest.len() < HEADER_LEN) {
            return None;
        }
        match record_len(rest) {
            Some(len) => rest = rest.get(len..)?,
            None => return Some(position),
        }
    }
}

/// The length of the readable record of content that `bytes` begins with.
fn content_len(bytes: &[u8]) -> Option<usize> {
    let kind = bytes.get(HEADER_LEN - 1)?;
    record_len(bytes).filter(|len| CONTENT_KINDS.contains(kind) && *len > HEADER_LEN)
}

/// The length of the readable record, of any kind, that `bytes` begins with.
fn record_len(bytes: &[u8]) -> Option<usize> {
    let (checksum, rest) = bytes.split_first_chunk::<CHECKSUM_LEN>()?;
    let (len, checked) = rest.split_first_chunk::<2>()?;
    let content_len = usize::from(u16::from_le_bytes(*len));
    // The checksum covers the kind and the content.
    let checked = checked.get(..=content_len)?;
    let sum = crc32c::crc32c(checked)
        .rotate_right(15)
        .wrapping_add(CHECKSUM_MASK);
    (sum == u32::from_le_bytes(*checksum)).then_some(HEADER_LEN + content_len)
}

#[cfg(test)]
mod tests;
