//! Follows the names of an export from its overall file to the documents.
//!
//! Files are opened one after the other, and one record is held at a time. The names in the metadata are somebody
//! else's: one that leads out of the export's folder is refused.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

use crate::decode::{Entity, decode_entity};
use crate::error::Error;
use crate::log::{LogError, LogReader, Record};
use crate::metadata::{
    self, ExportMetadata, ExportPointer, OVERALL_VERSION, OutputFile, OverallExportMetadata,
};

/// How the name of an overall file ends.
pub const OVERALL_SUFFIX: &str = ".overall_export_metadata";
/// The folder within which Firebase's tools keep the export of the emulator.
const TOOLS_FOLDER: &str = "firestore_export";
/// Bytes of one metadata file. A million outputs take less.
const METADATA_BYTES_MAX: u64 = 64 << 20;
/// Files that an export may name, those of all sets together: 64 TiB, as they are cut. One that names more is refused,
/// since a few bytes of metadata make a path in memory, and a file may be named as often as one likes.
const FILES_MAX: usize = 1_000_000;
/// What a file is read ahead by, in bytes.
const BUFFER_LEN: usize = 256 * 1024;

/// An export whose metadata was read.
#[derive(Clone, Debug)]
pub struct Export {
    overall: PathBuf,
    sets: Vec<Set>,
}

/// The documents of one pointer.
#[derive(Clone, Debug)]
struct Set {
    metadata: PathBuf,
    outputs: VecDeque<PathBuf>,
    /// When the metadata says it.
    documents: Option<u64>,
}

/// A document, and where it stands.
#[derive(Clone, Debug)]
pub struct Found {
    pub entity: Entity,
    pub path: PathBuf,
    /// Of its record in the file.
    pub offset: u64,
}

impl Export {
    /// `path` is the overall file, the folder that has one, or the folder of Firebase's tools around that.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let overall = find_overall(path)?;
        let root = match overall.parent() {
            Some(parent) if parent != Path::new("") => parent,
            Some(_) | None => Path::new("."),
        };
        let OverallExportMetadata { export_pointers } = read_overall(&overall)?;
        let mut sets = Vec::new();
        let mut files_left = FILES_MAX;
        for pointer in export_pointers {
            let ExportPointer {
                // The documents say their collections themselves.
                entity_set_spec: _,
                export_metadata_file,
                num_entities,
                // A count of documents says more.
                num_bytes: _,
            } = pointer;
            let file = export_metadata_file.unwrap_or_default();
            let metadata = join_below(root, &file).map_err(damaged(&overall, 0))?;
            let bytes = read_bounded(&metadata)?;
            let ExportMetadata { export: _, outputs } =
                metadata::decode(&bytes).map_err(damaged(&metadata, 0))?;
            let folder = metadata.parent().unwrap_or(root);
            let left = files_left.checked_sub(outputs.len().saturating_add(1));
            files_left = left.ok_or_else(|| {
                damaged(&overall, 0)(format!("it names more than {FILES_MAX} files"))
            })?;
            let mut files = VecDeque::with_capacity(outputs.len());
            for OutputFile { prefix: _, file } in outputs {
                let file = file.unwrap_or_default();
                files.push_back(join_below(folder, &file).map_err(damaged(&metadata, 0))?);
            }
            let documents = match num_entities {
                None => None,
                Some(count) => Some(u64::try_from(count).map_err(|_| {
                    damaged(&overall, 0)(format!("it has a set of {count} documents"))
                })?),
            };
            sets.push(Set {
                metadata,
                outputs: files,
                documents,
            });
        }
        Ok(Self { overall, sets })
    }

    /// The overall file.
    pub fn overall(&self) -> &Path {
        &self.overall
    }

    /// How many documents there are, when the metadata says it, and a number that can be.
    pub fn documents(&self) -> Option<u64> {
        let mut documents = self.sets.iter().map(|set| set.documents);
        documents.try_fold(0, |sum: u64, count| sum.checked_add(count?))
    }

    /// All documents from the beginning.
    pub fn entities(&self) -> Entities {
        Entities {
            sets: self.sets.iter().cloned().collect(),
            output: None,
            found: 0,
        }
    }
}

/// The documents of an export, one after the other.
#[derive(Debug)]
pub struct Entities {
    /// The first one is being read; its outputs are taken off.
    sets: VecDeque<Set>,
    output: Option<(LogReader<BufReader<File>>, PathBuf)>,
    /// In the first set.
    found: u64,
}

impl Entities {
    /// The next one; `None` when all were read. After an error there is no next one.
    pub fn next_entity(&mut self) -> Result<Option<Found>, Error> {
        loop {
            if let Some((log, path)) = &mut self.output {
                if let Some(Record { offset, bytes }) = next_record(log, path)? {
                    self.found += 1;
                    let entity = decode_entity(&bytes).map_err(damaged(path, offset))?;
                    let path = path.clone();
                    return Ok(Some(Found {
                        entity,
                        path,
                        offset,
                    }));
                }
                self.output = None;
            }
            let Some(set) = self.sets.front_mut() else {
                return Ok(None);
            };
            let Some(path) = set.outputs.pop_front() else {
                if let Some(expected) = set.documents.filter(|count| *count != self.found) {
                    return Err(damaged(&set.metadata, 0)(format!(
                        "expected {expected} documents in its files, found {}",
                        self.found
                    )));
                }
                self.sets.pop_front();
                self.found = 0;
                continue;
            };
            let file = File::open(&path).map_err(Error::file("open", &path))?;
            let log = LogReader::new(BufReader::with_capacity(BUFFER_LEN, file));
            self.output = Some((log, path));
        }
    }
}

fn find_overall(path: &Path) -> Result<PathBuf, Error> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    for folder in [path.to_owned(), path.join(TOOLS_FOLDER)] {
        let mut found = Vec::new();
        if folder == path || folder.is_dir() {
            let entries = folder.read_dir().map_err(Error::file("read", &folder))?;
            for entry in entries {
                let entry = entry.map_err(Error::file("read", &folder))?;
                if entry
                    .file_name()
                    .to_string_lossy()
                    .ends_with(OVERALL_SUFFIX)
                {
                    found.push(entry.path());
                }
            }
        }
        match found.len() {
            0 => {}
            1 => return found.pop().ok_or_else(|| no_export(path)),
            count => {
                return Err(Error::place(
                    &folder,
                    format!("has {count} files *{OVERALL_SUFFIX}; name one of them"),
                ));
            }
        }
    }
    Err(no_export(path))
}

fn no_export(path: &Path) -> Error {
    Error::place(
        path,
        format!("is no export of Firestore: it has no file *{OVERALL_SUFFIX}"),
    )
}

fn read_overall(path: &Path) -> Result<OverallExportMetadata, Error> {
    let bytes = read_bounded(path)?;
    let mut log = LogReader::new(bytes.as_slice());
    let mut next = || {
        let record = next_record(&mut log, path)?;
        record.ok_or_else(|| damaged(path, 0)("expected two records, found fewer"))
    };
    let Record { offset, bytes } = next()?;
    if bytes != OVERALL_VERSION {
        let known = String::from_utf8_lossy(OVERALL_VERSION);
        return Err(damaged(path, offset)(format!(
            "expected a record with the version {known} of the format, found another"
        )));
    }
    let Record { offset, bytes } = next()?;
    let overall = metadata::decode(&bytes).map_err(damaged(path, offset))?;
    match next_record(&mut log, path)? {
        None => Ok(overall),
        Some(Record { offset, bytes: _ }) => {
            Err(damaged(path, offset)("expected two records, found more"))
        }
    }
}

fn next_record<R: Read>(log: &mut LogReader<R>, path: &Path) -> Result<Option<Record>, Error> {
    log.next_record().map_err(|error| match error {
        LogError::Io(error) => Error::file("read", path)(error),
        LogError::Damaged { offset, complaint } => damaged(path, offset)(complaint),
    })
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(Error::file("open", path))?;
    let mut bytes = Vec::new();
    file.take(METADATA_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::file("read", path))?;
    if bytes.len() as u64 > METADATA_BYTES_MAX {
        return Err(damaged(path, METADATA_BYTES_MAX)(
            "it is larger than the metadata of an export can be",
        ));
    }
    Ok(bytes)
}

/// The file of a name in the metadata, which may not lead upwards or elsewhere.
fn join_below(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let below = !name.is_empty()
        && Path::new(name)
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
    if below {
        Ok(folder.join(name))
    } else {
        Err(format!("the file name \"{name}\" leads out of the export"))
    }
}

fn damaged<C: Into<String>>(path: &Path, offset: u64) -> impl FnOnce(C) -> Error {
    let path = path.to_owned();
    move |complaint| Error::Damaged {
        path,
        offset,
        complaint: complaint.into(),
    }
}

#[cfg(test)]
mod tests;
