//! Files of backups: their checksums, copies of them, and seeing to it that they last.
//!
//! Everything here blocks the thread for as long as the disk takes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::backup::error::BackupError;

/// Bytes that are read at once.
const PIECE_LEN: usize = 256 * 1024;

/// What is added to the name of a folder that is not complete.
const INCOMPLETE: &str = ".incomplete";

/// Size and checksum of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    pub bytes: u64,
    /// As 64 hexadecimal digits.
    pub sha256: String,
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes with checksum {}", self.bytes, self.sha256)
    }
}

/// The checksum of bytes.
pub fn checksum(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Reads the file, writes what it reads to `copy`, and says what it was. Calls `between` before each piece, and ends
/// with its error.
pub fn read_through(
    path: &Path,
    mut copy: Option<(&mut File, &Path)>,
    between: &mut dyn FnMut() -> Result<(), BackupError>,
) -> Result<Sum, BackupError> {
    let mut file = File::open(path).map_err(BackupError::file("open", path))?;
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut piece = vec![0; PIECE_LEN];
    loop {
        between()?;
        let count = file
            .read(&mut piece)
            .map_err(BackupError::file("read", path))?;
        let read = piece.get(..count).unwrap_or_default();
        if read.is_empty() {
            return Ok(Sum {
                bytes,
                sha256: format!("{:x}", hash.finalize()),
            });
        }
        hash.update(read);
        bytes += read.len() as u64;
        if let Some((copy, path)) = &mut copy {
            copy.write_all(read)
                .map_err(BackupError::file("write", path))?;
        }
    }
}

/// The names of all files of a folder. One that holds anything else is none of ours.
pub fn names(folder: &Path) -> Result<Vec<String>, BackupError> {
    let mut names = Vec::new();
    let entries = fs::read_dir(folder).map_err(BackupError::file("read", folder))?;
    for entry in entries {
        let entry = entry.map_err(BackupError::file("read", folder))?;
        let path = entry.path();
        let is_file = entry.file_type().is_ok_and(|file_type| file_type.is_file());
        match entry.file_name().into_string() {
            Ok(name) if is_file => names.push(name),
            Ok(_) | Err(_) => {
                return Err(BackupError::damaged(&path, "is no file of a data folder"));
            }
        }
    }
    names.sort();
    Ok(names)
}

/// Makes what a file or the names of a folder hold outlast a loss of power, where the system knows such a thing.
pub fn sync(path: &Path) -> Result<(), BackupError> {
    if cfg!(unix) || path.is_file() {
        let file = File::open(path).map_err(BackupError::file("open", path))?;
        file.sync_all().map_err(BackupError::file("flush", path))?;
    }
    Ok(())
}

/// The folder in which a name stands.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    }
}

/// A folder that is being filled under a name beside its own. Dropped before it is complete, it is removed.
#[derive(Debug)]
pub struct Incomplete {
    path: PathBuf,
    destination: PathBuf,
    complete: bool,
}

impl Incomplete {
    /// Makes the folder beside `destination`, whose parent must exist.
    pub fn create(destination: &Path) -> Result<Self, BackupError> {
        let Some(name) = destination.file_name() else {
            return Err(BackupError::place(destination, "is no name of a folder"));
        };
        if !parent(destination).is_dir() {
            return Err(BackupError::place(
                parent(destination),
                "is no folder; make it first",
            ));
        }
        let mut name = name.to_owned();
        name.push(INCOMPLETE);
        let path = destination.with_file_name(name);
        fs::create_dir(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => BackupError::place(
                &path,
                "exists: the same is being done just now, or did not end; then remove it",
            ),
            _ => BackupError::file("make", &path)(error),
        })?;
        Ok(Self {
            path,
            destination: destination.to_owned(),
            complete: false,
        })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the folder its name, which is free or that of an empty folder. What is in it must be flushed.
    pub fn complete(mut self) -> Result<(), BackupError> {
        sync(&self.path)?;
        fs::rename(&self.path, &self.destination)
            .map_err(BackupError::file("rename to", &self.destination))?;
        self.complete = true;
        sync(parent(&self.destination))
    }
}

impl Drop for Incomplete {
    fn drop(&mut self) {
        if !self.complete {
            // What cannot be removed keeps a name that says what it is.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
