//! `watchfire restore`: makes a data folder of a backup.
//!
//! The whole backup is checked before anything is written. The copy is made under a temporary name, checked again while
//! it is read, opened once, and gets its name when it is on the disk.
//!
//! Commits that came after the backup are gone, and somebody may have seen them. So the past begins anew with the
//! restored folder: listeners that come back are told everything again, and reads in the past reach back to this moment.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use watchfire_engine::restored::forget_past;
use watchfire_model::Timestamp;
use watchfire_storage::Version;
use watchfire_storage::embedded::Embedded;
use watchfire_storage::embedded::folder::LOCK_FILE;

use crate::backup::error::BackupError;
use crate::backup::files::{self, Incomplete, Sum};
use crate::backup::manifest::{MANIFEST_FILE, Manifest};
use crate::backup::take::{DATA_FOLDER, blocking, check_outside, open};
use crate::config::Restore;

/// Checks the backup, makes the folder, and says what is in it.
pub async fn run(
    settings: Restore,
    now: Timestamp,
    chance: u64,
    out: &mut impl Write,
) -> Result<(), BackupError> {
    let Restore { directory, data } = settings;
    let destination = data.clone();
    let (incomplete, manifest) = blocking(move || {
        let manifest = check(&directory)?;
        check_destination(&destination)?;
        let incomplete = Incomplete::create(&destination)?;
        copy(&directory, &manifest, incomplete.path())?;
        Ok((incomplete, manifest))
    })
    .await?;
    prepare(incomplete.path(), &manifest, now, chance).await?;
    blocking(move || {
        for name in files::names(incomplete.path())? {
            files::sync(&incomplete.path().join(name))?;
        }
        incomplete.complete()
    })
    .await?;
    let print = |out: &mut dyn Write| {
        writeln!(
            out,
            "Restored {} files, {} bytes, of {} to {}",
            manifest.files.len(),
            manifest.bytes(),
            manifest.time,
            data.display()
        )?;
        for (name, version) in &manifest.databases {
            writeln!(out, "  {name} at version {version}")?;
        }
        Ok(())
    };
    print(out).map_err(BackupError::file("write", Path::new("the output")))
}

/// The manifest of a backup in which every file is as it says, and no other is there.
pub fn check(directory: &Path) -> Result<Manifest, BackupError> {
    let path = directory.join(MANIFEST_FILE);
    if !path.is_file() {
        return Err(BackupError::damaged(
            directory,
            format!(
                "has no {MANIFEST_FILE}, so it is no backup of Watchfire, or an incomplete one"
            ),
        ));
    }
    let manifest = Manifest::read(&path)?;
    let data = directory.join(DATA_FOLDER);
    for (name, expected) in &manifest.files {
        let path = data.join(name);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() && metadata.len() == expected.bytes => {}
            Ok(metadata) if metadata.is_file() => {
                return Err(BackupError::damaged(
                    &path,
                    format!("has {} bytes, expected {}", metadata.len(), expected.bytes),
                ));
            }
            Ok(_) | Err(_) => {
                return Err(BackupError::damaged(
                    &path,
                    format!("is missing, expected a file of {} bytes", expected.bytes),
                ));
            }
        }
    }
    for name in files::names(&data)? {
        if !manifest.files.contains_key(&name) {
            return Err(BackupError::damaged(
                &data.join(name),
                format!("is not in {MANIFEST_FILE}"),
            ));
        }
    }
    for (name, expected) in &manifest.files {
        let path = data.join(name);
        same(
            &path,
            expected,
            &files::read_through(&path, None, &mut || Ok(()))?,
        )?;
    }
    Ok(manifest)
}

fn same(path: &Path, expected: &Sum, found: &Sum) -> Result<(), BackupError> {
    if expected == found {
        return Ok(());
    }
    Err(BackupError::damaged(
        path,
        format!("has {found}, expected {expected}"),
    ))
}

/// Nothing may be there but an empty folder.
fn check_destination(destination: &Path) -> Result<(), BackupError> {
    check_outside(destination)?;
    if is_held(destination) {
        return Err(BackupError::place(
            destination,
            "is held by a running server; name a new folder",
        ));
    }
    if Embedded::is_folder(destination) {
        return Err(BackupError::place(
            destination,
            "has data already; name a new folder",
        ));
    }
    match fs::read_dir(destination) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(BackupError::place(
                destination,
                "is not empty; name a new folder",
            )),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(BackupError::file("read", destination)(error)),
    }
}

fn is_held(destination: &Path) -> bool {
    let Ok(file) = File::open(destination.join(LOCK_FILE)) else {
        return false;
    };
    matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock))
}

fn copy(directory: &Path, manifest: &Manifest, to: &Path) -> Result<(), BackupError> {
    for (name, expected) in &manifest.files {
        let (from, to) = (directory.join(DATA_FOLDER).join(name), to.join(name));
        let mut file = File::create_new(&to).map_err(BackupError::file("make", &to))?;
        let found = files::read_through(&from, Some((&mut file, &to)), &mut || Ok(()))?;
        same(&from, expected, &found)?;
    }
    Ok(())
}

/// Opens the copy, compares its databases with the manifest, and lets their past begin now.
async fn prepare(
    folder: &Path,
    manifest: &Manifest,
    now: Timestamp,
    chance: u64,
) -> Result<(), BackupError> {
    let embedded = open(folder).await?;
    let names: Vec<String> = embedded.names()?;
    let expected: Vec<&String> = manifest.databases.keys().collect();
    if names.iter().collect::<Vec<_>>() != expected {
        return Err(BackupError::damaged(
            folder,
            format!("has the databases {names:?}, expected {expected:?}"),
        ));
    }
    for (name, expected) in &manifest.databases {
        let store = embedded.database(name)?;
        let found = store.snapshot().await?.version().0;
        if found != *expected {
            return Err(BackupError::damaged(
                folder,
                format!("has {name} at version {found}, expected {expected}"),
            ));
        }
        let now = Version(u64::try_from(now.micros()).unwrap_or(0));
        forget_past(store.as_ref(), now, chance)
            .await
            .map_err(|error| BackupError::Engine {
                database: name.clone(),
                error,
            })?;
    }
    Ok(embedded.close().await?)
}
