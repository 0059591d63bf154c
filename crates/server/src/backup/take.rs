//! Makes a backup of an open store, while others read and write.
//!
//! The store copies itself at one moment, by links where the file system allows, so that it takes neither long nor much
//! room; every commit that was acknowledged before is in it. The copy is then opened once, which is how the versions are
//! known and that it can be opened at all.
//!
//! Everything is read again for the checksums, which is what takes long; `pace` sees to it that requests hardly notice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use watchfire_model::Timestamp;
use watchfire_storage::Store;
use watchfire_storage::embedded::Embedded;
use watchfire_storage::embedded::folder::{LOCK_FILE, Settings};

use crate::backup::error::BackupError;
use crate::backup::files::{self, Incomplete};
use crate::backup::manifest::{MANIFEST_FILE, Manifest};
use crate::backup::pace::Pace;

/// The data folder within a backup.
pub const DATA_FOLDER: &str = "data";

/// Memory for the copy while it is open, in bytes, for blocks and for writes each.
const COPY_MEMORY_BYTES: usize = 8 << 20;

/// Writes a backup of the whole store to `directory`, which must not exist while its parent must. `stopped` is asked
/// now and then whether to give up.
pub async fn take(
    embedded: Arc<Embedded>,
    directory: PathBuf,
    now: Timestamp,
    stopped: impl Fn() -> bool + Send + 'static,
) -> Result<Manifest, BackupError> {
    if !directory.is_absolute() {
        return Err(BackupError::place(
            &directory,
            "is no absolute path on the server's disk",
        ));
    }
    if directory.symlink_metadata().is_ok() {
        return Err(BackupError::place(&directory, "exists already"));
    }
    check_outside(&directory)?;
    let store = any_database(&embedded)?;
    let incomplete = Incomplete::create(&directory)?;
    let data = incomplete.path().join(DATA_FOLDER);
    store.checkpoint(&data).await?;
    let databases = open_once(&data).await?;
    blocking(move || {
        let mut pace = Pace::of_machine();
        let mut between = || {
            if stopped() {
                return Err(BackupError::Stopped);
            }
            pace.rest();
            Ok(())
        };
        let mut sums = BTreeMap::new();
        for name in files::names(&data)? {
            let path = data.join(&name);
            if is_trace(&name) {
                std::fs::remove_file(&path).map_err(BackupError::file("remove", &path))?;
                continue;
            }
            sums.insert(name, files::read_through(&path, None, &mut between)?);
            files::sync(&path)?;
        }
        files::sync(&data)?;
        let manifest = Manifest {
            time: now,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            databases,
            files: sums,
        };
        let path = incomplete.path().join(MANIFEST_FILE);
        std::fs::write(&path, manifest.encode()).map_err(BackupError::file("write", &path))?;
        files::sync(&path)?;
        incomplete.complete()?;
        Ok(manifest)
    })
    .await
}

/// Nothing of ours may come to lie in a data folder: the store gives names to its files there, and one that is taken
/// would stop it.
pub(super) fn check_outside(destination: &Path) -> Result<(), BackupError> {
    // Where there is no parent, that is said when something is to be made there.
    let Ok(real) = std::fs::canonicalize(files::parent(destination)) else {
        return Ok(());
    };
    match real.ancestors().find(|above| Embedded::is_folder(above)) {
        None => Ok(()),
        Some(data) => Err(BackupError::place(
            destination,
            format!("lies in the data folder {}", data.display()),
        )),
    }
}

/// Any handle copies all databases of its folder.
fn any_database(embedded: &Embedded) -> Result<Arc<dyn Store>, BackupError> {
    match embedded.names()?.first() {
        Some(name) => Ok(embedded.database(name)?),
        None => Err(BackupError::NothingKept(
            "the server has no database yet, so there is nothing to back up",
        )),
    }
}

/// Opens the data folder at a path that nobody else knows, says the head of every database in it, and closes it with
/// everything in its tables.
pub(super) async fn open_once(data: &Path) -> Result<BTreeMap<String, u64>, BackupError> {
    let embedded = open(data).await?;
    let mut heads = BTreeMap::new();
    for name in embedded.names()? {
        let snapshot = embedded.database(&name)?.snapshot().await?;
        heads.insert(name, snapshot.version().0);
    }
    embedded.close().await?;
    Ok(heads)
}

/// Opens a folder with little memory.
pub(super) async fn open(data: &Path) -> Result<Arc<Embedded>, BackupError> {
    let data = data.to_owned();
    blocking(move || {
        let settings = Settings {
            block_cache_bytes: COPY_MEMORY_BYTES,
            write_buffer_bytes: COPY_MEMORY_BYTES,
            ..Settings::default()
        };
        Ok(Embedded::open_with(&data, &settings)?)
    })
    .await
}

/// Whether a file only says that the folder was open: locks, and the engine's diary.
fn is_trace(name: &str) -> bool {
    name == LOCK_FILE || name == "LOCK" || name == "LOG" || name.starts_with("LOG.old")
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(BackupError::Stopped))
}
