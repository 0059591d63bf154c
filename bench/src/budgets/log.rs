//! The batches that a server has written, read from the storage engine's logs.
//!
//! The engine deletes a log once what it holds is in tables. A `Keeper` gives every log a second name in a folder of its
//! own while the server runs, so that all of them can be read at the end: each record is one batch as it was flushed.
//!
//! A log is blocks of 32 KiB; in each, records of four bytes checksum, two bytes length, one byte kind (all
//! little-endian), and the content, which goes on in the next block where it does not fit. A batch is its number (8
//! bytes), a count (4), then its operations. Checksums are left to the engine: these files were written a moment ago.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use watchfire_engine::keyspace::changelog_version;
use watchfire_storage::{Batch, Operation, Version};

const BLOCK_LEN: usize = 32 * 1024;
const HEADER_LEN: usize = 7;

/// A record that is whole, and the parts of one that is not.
const WHOLE: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// Operations of a batch; others are not written here.
const DELETE: u8 = 0;
const PUT: u8 = 1;

/// How often the folder is looked at. A log of 32 MB, the least that fills a table, is written in seconds.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The first database of a folder; 0 is the folder's own, where heads are.
const DATABASE: [u8; 4] = 1_u32.to_be_bytes();
const HEAD: &[u8] = b"\0\0\0\0head/\0\0\0\x01";

/// Gives logs second names until it is dropped.
pub struct Keeper {
    data: PathBuf,
    folder: PathBuf,
    stop: Arc<AtomicBool>,
    /// The newest log that was read; it may have grown.
    newest: Option<PathBuf>,
    /// Everything up to this version was handed out.
    read_to: Version,
}

impl Keeper {
    /// Keeps the logs of the data folder in `folder`, which is made; both on one file system.
    pub fn start(data: &Path, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let stop = Arc::new(AtomicBool::new(false));
        std::thread::spawn({
            let (data, folder, stop) = (data.to_owned(), folder.to_owned(), Arc::clone(&stop));
            move || {
                // It ends with the folders, too.
                while !stop.load(Ordering::Relaxed) && keep(&data, &folder).is_ok() {
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        });
        Ok(Self {
            data: data.to_owned(),
            folder: folder.to_owned(),
            stop,
            newest: None,
            read_to: Version(0),
        })
    }

    /// The batches of the first database that were written since this was asked for the last time, in order.
    pub fn batches(&mut self) -> Result<Vec<Batch>> {
        self.keep()?;
        let mut logs: Vec<PathBuf> = std::fs::read_dir(&self.folder)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        // Their names are numbers of one length.
        logs.sort();
        logs.retain(|log| Some(log) >= self.newest.as_ref());
        let mut batches: Vec<Batch> = Vec::new();
        for log in &logs {
            for record in records(&std::fs::read(log)?)? {
                let Some(batch) = batch(&record).context(log.display().to_string())? else {
                    continue;
                };
                if batch.version > self.read_to {
                    self.read_to = batch.version;
                    batches.push(batch);
                }
            }
        }
        self.newest = logs.pop();
        Ok(batches)
    }

    fn keep(&self) -> Result<()> {
        keep(&self.data, &self.folder)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

fn keep(data: &Path, folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(data)? {
        let entry = entry?;
        let kept = folder.join(entry.file_name());
        let is_log = kept.extension().is_some_and(|extension| extension == "log");
        if is_log && !kept.exists() {
            // Gone already is no harm: it was seen before, or it was empty.
            std::fs::hard_link(entry.path(), kept).ok();
        }
    }
    Ok(())
}

/// How many commits the batch holds.
pub fn commits(batch: &Batch) -> usize {
    batch
        .operations
        .iter()
        .filter(|operation| match operation {
            Operation::Put { key, .. } => changelog_version(key).is_some(),
            Operation::Delete { .. } => false,
        })
        .count()
}

/// The whole records of a log; an unfinished one at its end is left out.
fn records(log: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut records = Vec::new();
    let mut open: Option<Vec<u8>> = None;
    for block in log.chunks(BLOCK_LEN) {
        let mut rest = block;
        while let Some((header, after)) = rest.split_at_checked(HEADER_LEN) {
            let (&[_, _, _, _, low, high, kind], _) = header
                .split_first_chunk::<HEADER_LEN>()
                .context("a header")?;
            let len = usize::from(u16::from_le_bytes([low, high]));
            let Some((content, after)) = after.split_at_checked(len) else {
                return Ok(records);
            };
            rest = after;
            match kind {
                WHOLE => records.push(content.to_vec()),
                FIRST => open = Some(content.to_vec()),
                MIDDLE => open
                    .as_mut()
                    .context("a middle without a first")?
                    .extend_from_slice(content),
                LAST => {
                    let mut whole = open.take().context("a last without a first")?;
                    whole.extend_from_slice(content);
                    records.push(whole);
                }
                // Room that was set aside and not used, or a note of the engine about the log.
                _ => {}
            }
        }
    }
    Ok(records)
}

/// A record as one batch of the first database; `None` when it holds nothing of it.
fn batch(record: &[u8]) -> Result<Option<Batch>> {
    let (_, mut rest) = record.split_at_checked(12).context("a batch begins")?;
    let mut operations = Vec::new();
    let mut version = None;
    while let Some((kind, after)) = rest.split_first() {
        rest = after;
        let key = sized(&mut rest)?;
        let own = key.strip_prefix(&DATABASE).map(<[u8]>::to_vec);
        match *kind {
            PUT => {
                let value = sized(&mut rest)?;
                if key == HEAD {
                    version = Some(Version(u64::from_be_bytes(value.try_into()?)));
                } else if let Some(key) = own {
                    operations.push(Operation::Put {
                        key: key.into(),
                        value: value.to_vec().into(),
                    });
                }
            }
            DELETE => {
                if let Some(key) = own {
                    operations.push(Operation::Delete { key: key.into() });
                }
            }
            other => bail!("an operation of kind {other}, expected puts and deletes alone"),
        }
    }
    Ok(version.map(|version| Batch {
        version,
        operations,
    }))
}

/// Bytes behind their length, which is written in groups of seven bits.
fn sized<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let mut len = 0_usize;
    for shift in (0..35).step_by(7) {
        let (byte, after) = rest.split_first().context("a length")?;
        *rest = after;
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let (content, after) = rest.split_at_checked(len).context("a key or a value")?;
            *rest = after;
            return Ok(content);
        }
    }
    bail!("a length of more than five bytes")
}

#[cfg(test)]
mod tests {
    use watchfire_storage::embedded::Embedded;

    use super::*;

    #[tokio::test]
    async fn batches_are_read_as_they_were_written() {
        let folder = std::env::temp_dir().join(format!("watchfire-logs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let data = folder.join("data");
        let embedded = Embedded::open(&data).unwrap();
        let store = embedded.database("any").unwrap();
        let mut keeper = Keeper::start(&data, &folder.join("logs")).unwrap();
        let mut head = store.snapshot().await.unwrap().version();
        // Some fit in a block of the log, others fill several.
        for (version, len) in [(1, 10), (2, 40_000), (3, 0), (4, 200_000)] {
            let put = Operation::Put {
                key: vec![b'k', version].into(),
                value: vec![version; len].into(),
            };
            let delete = Operation::Delete {
                key: b"gone".as_slice().into(),
            };
            let batch = Batch {
                version: Version(u64::from(version) * 1_000),
                operations: vec![put, delete],
            };
            let expected = format!("{batch:?}");
            let after = batch.version;
            store.apply(head, batch).await.unwrap();
            head = after;
            let read = keeper.batches().unwrap();
            assert_eq!(read.len(), 1);
            assert_eq!(format!("{:?}", read.first().unwrap()), expected);
        }
        assert!(keeper.batches().unwrap().is_empty());
        embedded.close().await.unwrap();
        drop(keeper);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
