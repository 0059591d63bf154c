//! `Folder`: one directory, held by one process, with one RocksDB in it.
//!
//! Holds the lock, the format, the layout of keys and the settings of the engine, and translates its errors.
//! It knows no writer, no queue and no snapshots, and once open it never changes: a folder that is to be opened again is closed, and another made with the same lock.
//!
//! # Layout
//!
//! Every key begins with four bytes, the big-endian number of its database; the rest is the caller's key as it is.
//! Number 0 is ours: `FORMAT` holds the format's number, `name/` with a database's name holds its number, `head/` with a database's number holds its head.
//! All numbers are big-endian.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRecoveryMode, ErrorKind, LruCacheOptions,
    Options, ReadOptions, WriteBatch, WriteOptions,
};

use crate::embedded::report::Report;
use crate::embedded::{disk, wal};
use crate::error::Error;
use crate::range::successor;
use crate::version::Version;

/// The format that is written, and the newest that is understood.
pub const FORMAT_VERSION: u32 = 1;

/// The file that the holder of a folder keeps locked, with its process id and its start in seconds since 1970.
pub const LOCK_FILE: &str = "LOCK-OWNER";

/// Databases that one folder takes; one more is refused.
pub const DATABASES_COUNT_MAX: usize = 10_000;

/// Bytes that a database's name may have.
pub const DATABASE_NAME_LEN_MAX: usize = 1024;

/// The file with which the engine finds everything else; without it there is no database.
const CURRENT_FILE: &str = "CURRENT";

/// How the system's words for a full disk begin, in errors of the engine as well.
const NO_SPACE: &str = "No space left";

const SYSTEM: u32 = 0;
const FORMAT_KEY: &[u8] = b"FORMAT";
const NAME_PREFIX: &[u8] = b"name/";
const HEAD_PREFIX: &[u8] = b"head/";

/// The cache is cut into four. By itself the engine cuts it into pieces of 1 MiB, into which the filter of a large table
/// does not fit: each look would then read and check the whole filter anew.
const CACHE_SHARD_BITS: i32 = 2;
const BLOCK_BYTES: usize = 16 * 1024;
const BLOOM_BITS_PER_KEY: f64 = 10.0;
const DIAGNOSTIC_LOG_BYTES_MAX: usize = 4 * 1024 * 1024;
const DIAGNOSTIC_LOGS_MAX: usize = 4;
const BACKGROUND_JOBS_MAX: i32 = 2;
const SYNC_EVERY_BYTES: u64 = 1024 * 1024;
/// Open table files; each costs a descriptor and, for its index, a part of the block cache.
const OPEN_FILES_MAX: i32 = 512;

/// How much memory and disk the engine may use beside the data itself, and how its disk is looked after.
#[derive(Copy, Clone, Debug)]
pub struct Settings {
    /// Memory for blocks, indexes and filters that were read.
    pub block_cache_bytes: usize,
    /// Memory for writes that are in the log but not yet in a table; twice as much while one is being written out.
    pub write_buffer_bytes: usize,
    /// Bytes of log after which tables are written, so that the log can go; bounds the time to start after a crash.
    pub wal_bytes_max: u64,
    /// Writes are refused while less than this is free on the disk. By default as much as the log may have, so that what is only in the log can always be put into tables.
    pub free_bytes_min: u64,
    /// How often it is looked how much is free, and at first whether a folder that failed can be written to again.
    pub disk_check_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            block_cache_bytes: 64 << 20,
            write_buffer_bytes: 32 << 20,
            wal_bytes_max: 64 << 20,
            free_bytes_min: 64 << 20,
            disk_check_interval: Duration::from_secs(1),
        }
    }
}

/// The number of a database.
pub(crate) enum Numbered {
    /// It has this one.
    Known(u32),
    /// It has none; this one is free.
    Free(u32),
}

/// The right to open a folder. It is held for as long as a clone is there.
#[derive(Clone, Debug)]
pub(crate) struct FolderLock {
    directory: PathBuf,
    #[expect(dead_code, reason = "held for its lock")]
    file: Arc<File>,
}

impl FolderLock {
    /// Makes the directory if there is none, and takes it.
    pub(crate) fn take(directory: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(directory)
            .map_err(|error| unavailable("make the folder", directory, &error))?;
        Ok(Self {
            directory: directory.to_owned(),
            file: Arc::new(lock(directory)?),
        })
    }

    /// Where the folder is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

/// An open folder. Dropped, it closes the engine and then gives up the lock.
pub(crate) struct Folder {
    // Invariant: `db` stands before `lock`, since fields are dropped in order.
    pub(crate) db: DB,
    lock: FolderLock,
    report: Arc<Report>,
}

impl Folder {
    /// Whether the directory is a folder that was opened before.
    pub(crate) fn is_one(directory: &Path) -> bool {
        directory.join(CURRENT_FILE).exists()
    }

    /// Opens the folder, which must not be open, and makes it if there is none. The engine reads its logs, and
    /// puts what they hold into tables, flushed, before anything can be read: so what is shown afterwards is on
    /// the disk, even where a flush of the log had failed.
    pub(crate) fn open(
        lock: FolderLock,
        settings: &Settings,
        report: Arc<Report>,
    ) -> Result<Self, Error> {
        let directory = lock.directory().to_owned();
        Self::open_unexplained(lock, settings, report).map_err(|error| match error {
            Error::Unavailable(text) if text.contains(NO_SPACE) => {
                let free = disk::free_bytes(&directory)
                    .map_or_else(|| "few".to_owned(), |free| free.to_string());
                Error::Unavailable(format!(
                    "the disk is full: {free} bytes are free for {}, which is too little to open it: {text}",
                    directory.display()
                ))
            }
            other => other,
        })
    }

    fn open_unexplained(
        lock: FolderLock,
        settings: &Settings,
        report: Arc<Report>,
    ) -> Result<Self, Error> {
        let directory = lock.directory();
        let files = wal::check(directory)?;
        let exists = Self::is_one(directory);
        if !exists && files.has_data {
            return Err(Error::Corrupt(format!(
                "the folder {} has data but the file {} is missing",
                directory.display(),
                directory.join(CURRENT_FILE).display()
            )));
        }
        let mut options = options(settings);
        options.create_if_missing(!exists);
        let db = DB::open(&options, directory).map_err(|error| match convert(&error) {
            Error::Corrupt(text) if !names_a_file(&text) => {
                Error::Corrupt(format!("{text} in {}", files.suspects(directory)))
            }
            other => other,
        })?;
        let folder = Self { db, lock, report };
        folder.check_format()?;
        sync_parent(folder.directory());
        Ok(folder)
    }

    /// Where it is.
    pub(crate) fn directory(&self) -> &Path {
        self.lock.directory()
    }

    /// Translates an error that a read met, and tells of it.
    pub(crate) fn read_failed(&self, error: &rocksdb::Error) -> Error {
        self.report.read_failed(convert(error))
    }

    fn check_format(&self) -> Result<(), Error> {
        let key = system_key(FORMAT_KEY, &[]);
        let Some(value) = self
            .db
            .get(&key)
            .map_err(|error| self.read_failed(&error))?
        else {
            if !self.databases()?.is_empty() {
                return Err(Error::Corrupt(format!(
                    "the folder {} has lost its format",
                    self.directory().display()
                )));
            }
            return self.put_synced(&key, &FORMAT_VERSION.to_be_bytes());
        };
        match number(&value) {
            Some(FORMAT_VERSION) => Ok(()),
            Some(format) => Err(Error::Unavailable(format!(
                "the folder {} has format {format}, this program knows format {FORMAT_VERSION}",
                self.directory().display()
            ))),
            None => Err(Error::Corrupt(format!(
                "the folder {} has an unreadable format",
                self.directory().display()
            ))),
        }
    }

    /// The names of all databases, with their numbers.
    pub(crate) fn databases(&self) -> Result<BTreeMap<String, u32>, Error> {
        let prefix = system_key(NAME_PREFIX, &[]);
        let mut read = ReadOptions::default();
        read.set_iterate_lower_bound(prefix.clone());
        if let Some(end) = successor(&prefix) {
            read.set_iterate_upper_bound(end);
        }
        let mut names = BTreeMap::new();
        let mut iterator = self.db.raw_iterator_opt(read);
        iterator.seek_to_first();
        while let Some((key, value)) = iterator.item() {
            let name = key
                .get(prefix.len()..)
                .and_then(|name| std::str::from_utf8(name).ok());
            let (Some(name), Some(id)) = (name, number(value)) else {
                return Err(Error::Corrupt(format!(
                    "the folder {} has an unreadable database name",
                    self.directory().display()
                )));
            };
            names.insert(name.to_owned(), id);
            iterator.next();
        }
        iterator
            .status()
            .map_err(|error| self.read_failed(&error))?;
        Ok(names)
    }

    /// The number that the database with this name has, or would get. Nothing is written.
    pub(crate) fn find_database(&self, name: &str) -> Result<Numbered, Error> {
        if name.is_empty() || name.len() > DATABASE_NAME_LEN_MAX {
            return Err(Error::Unavailable(format!(
                "a database name has 1 to {DATABASE_NAME_LEN_MAX} bytes, this one has {}",
                name.len()
            )));
        }
        let names = self.databases()?;
        if let Some(id) = names.get(name) {
            return Ok(Numbered::Known(*id));
        }
        if names.len() >= DATABASES_COUNT_MAX {
            return Err(Error::Unavailable(format!(
                "the folder already has {DATABASES_COUNT_MAX} databases"
            )));
        }
        Ok(Numbered::Free(
            names.values().max().map_or(SYSTEM, |id| *id) + 1,
        ))
    }

    /// Gives the number to the name, durably and for good.
    pub(crate) fn add_database(&self, name: &str, id: u32) -> Result<(), Error> {
        self.put_synced(&system_key(NAME_PREFIX, name.as_bytes()), &id.to_be_bytes())
    }

    /// The head as the newest state of the folder has it.
    pub(crate) fn head(&self, id: u32) -> Result<Version, Error> {
        let value = self.db.get(head_key(id));
        decode_head(value.map_err(|error| self.read_failed(&error))?)
    }

    fn put_synced(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        batch.put(key, value);
        self.write(batch)
    }

    /// Writes the batch whole, and returns when it is on disk.
    pub(crate) fn write(&self, batch: WriteBatch) -> Result<(), Error> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.db
            .write_opt(batch, &options)
            .map_err(|error| convert(&error))
    }

    /// Puts everything into tables, so that the next start has no log to read.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        self.db.flush().map_err(|error| convert(&error))
    }

    /// How often the engine failed to write or compact its tables since it was opened. Once it has, it may refuse the
    /// next write, however long ago that was.
    pub(crate) fn background_errors(&self) -> u64 {
        let errors = self.db.property_int_value("rocksdb.background-errors");
        errors.ok().flatten().unwrap_or(0)
    }

    /// A copy of the folder as it is now, of hard links where the file system allows.
    pub(crate) fn checkpoint(&self, directory: &Path) -> Result<(), Error> {
        if directory.exists() {
            return Err(Error::Unavailable(format!(
                "a checkpoint needs a new directory, but {} exists",
                directory.display()
            )));
        }
        let checkpoint = Checkpoint::new(&self.db).map_err(|error| convert(&error))?;
        checkpoint
            .create_checkpoint(directory)
            .map_err(|error| convert(&error))?;
        sync_parent(directory);
        Ok(())
    }
}

/// Where a database keeps `key`.
pub(crate) fn data_key(id: u32, key: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes(), key].concat()
}

/// Where a database's head is kept.
pub(crate) fn head_key(id: u32) -> Vec<u8> {
    system_key(HEAD_PREFIX, &id.to_be_bytes())
}

/// The bytes of a head.
pub(crate) fn encode_head(head: Version) -> [u8; 8] {
    head.0.to_be_bytes()
}

/// The head in these bytes; zero where none was written yet.
pub(crate) fn decode_head(value: Option<Vec<u8>>) -> Result<Version, Error> {
    let Some(value) = value else {
        return Ok(Version(0));
    };
    let bytes = value
        .as_slice()
        .try_into()
        .map_err(|_| Error::Corrupt(format!("a head has 8 bytes, found {}", value.len())))?;
    Ok(Version(u64::from_be_bytes(bytes)))
}

fn system_key(prefix: &[u8], rest: &[u8]) -> Vec<u8> {
    [&SYSTEM.to_be_bytes(), prefix, rest].concat()
}

fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

/// Translates an error of the engine.
pub(crate) fn convert(error: &rocksdb::Error) -> Error {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Corruption => Error::Corrupt(text),
        // A table that the list of tables names but the directory lacks.
        ErrorKind::IOError | ErrorKind::NotFound if text.contains("No such file") => {
            Error::Corrupt(text)
        }
        _ => Error::Unavailable(text),
    }
}

fn names_a_file(text: &str) -> bool {
    [".sst", ".log", "MANIFEST-", "CURRENT"]
        .iter()
        .any(|part| text.contains(part))
}

fn unavailable(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::Unavailable(format!("cannot {what} {}: {error}", path.display()))
}

/// Makes a new entry of the parent directory durable, where the system can.
fn sync_parent(directory: &Path) {
    let Some(parent) = directory
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    else {
        return;
    };
    if let Err(error) = File::open(parent).and_then(|parent| parent.sync_all()) {
        tracing::debug!(parent = %parent.display(), %error, "the parent directory could not be flushed");
    }
}

fn lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join(LOCK_FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| unavailable("open", &path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::Locked(held_by(directory, &mut file))),
        Err(TryLockError::Error(error)) => return Err(unavailable("lock", &path, &error)),
    }
    let owner = format!("{}\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| file.write_all(owner.as_bytes()))
        .map_err(|error| unavailable("write", &path, &error))?;
    Ok(file)
}

fn held_by(directory: &Path, file: &mut File) -> String {
    /// More is not ours.
    const OWNER_LEN_MAX: u64 = 64;
    let mut owner = String::new();
    // What cannot be read is left out of the sentence.
    let _ = file.take(OWNER_LEN_MAX).read_to_string(&mut owner);
    match owner.lines().next().filter(|pid| !pid.is_empty()) {
        Some(pid) => format!(
            "the folder {} is held by process {pid}; stop it first, or use another folder",
            directory.display()
        ),
        None => format!(
            "the folder {} is held by another process",
            directory.display()
        ),
    }
}

/// How the engine is set up.
pub(crate) fn options(settings: &Settings) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_size(BLOCK_BYTES);
    let mut cache = LruCacheOptions::default();
    cache.set_capacity(settings.block_cache_bytes);
    cache.set_num_shard_bits(CACHE_SHARD_BITS);
    table.set_block_cache(&Cache::new_lru_cache_opts(&cache));
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    // Indexes and filters count as cache, so that the setting bounds all of it.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);

    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(settings.write_buffer_bytes);
    options.set_max_write_buffer_number(2);
    options.set_max_total_wal_size(settings.wal_bytes_max);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(BACKGROUND_JOBS_MAX);
    options.set_bytes_per_sync(SYNC_EVERY_BYTES);
    options.set_max_log_file_size(DIAGNOSTIC_LOG_BYTES_MAX);
    options.set_keep_log_file_num(DIAGNOSTIC_LOGS_MAX);
    // Damage is reported, never skipped; see `wal` for what this mode alone would let pass.
    options.set_paranoid_checks(true);
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_recycle_log_file_num(0);
    options
}
