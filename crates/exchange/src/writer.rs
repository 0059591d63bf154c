//! Makes the folder of an export.
//!
//! Everything is written under a temporary name beside the destination, flushed to the disk, and renamed when it is
//! complete: a folder of that name is a whole export. What is dropped before is removed again.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use prost::Message;
use watchfire_model::{DatabaseName, DocumentPath, Fields, Timestamp};

use crate::encode::encode_entity;
use crate::error::Error;
use crate::log::LogWriter;
use crate::metadata::{
    EntitySetSpec, ExportMetadata, ExportPointer, ExportRun, OVERALL_VERSION, OutputFile,
    OverallExportMetadata,
};

/// An output file ends with the document with which it passes this many bytes.
pub const OUTPUT_BYTES: u64 = 64 << 20;

/// What is added to the name of a folder that is not complete.
const INCOMPLETE: &str = ".incomplete";

/// The folder with all sets: Firestore has one namespace.
const ALL_NAMESPACES: &str = "all_namespaces";

/// Bytes of a collection id in a file name that are kept, in its escaped form.
const FOLDER_LEN_MAX: usize = 120;

/// What was written.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub documents: u64,
    /// Of the output files.
    pub bytes: u64,
}

/// An export that is being written.
#[derive(Debug)]
pub struct ExportWriter {
    database: DatabaseName,
    name: String,
    destination: PathBuf,
    temporary: PathBuf,
    started: Timestamp,
    output_bytes: u64,
    /// The last one is not ended yet.
    sets: Vec<Set>,
    complete: bool,
}

/// Documents that belong together.
#[derive(Debug)]
struct Set {
    kind: Option<String>,
    /// Below the export's folder, with one of its own name within.
    folder: String,
    outputs: Vec<OutputFile>,
    output: Option<Output>,
    totals: Totals,
}

/// A file that is being written.
#[derive(Debug)]
struct Output {
    log: LogWriter<BufWriter<File>>,
    path: PathBuf,
}

impl ExportWriter {
    /// Begins in a temporary folder beside `destination`, which must not exist while its parent must. The last part
    /// of its name becomes the name of the export. `database` is where the documents come from.
    pub fn create(
        destination: &Path,
        database: DatabaseName,
        started: Timestamp,
    ) -> Result<Self, Error> {
        let name = destination
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| Error::place(destination, "has no name that an export can have"))?
            .to_owned();
        if destination.symlink_metadata().is_ok() {
            return Err(Error::place(destination, "exists already"));
        }
        let temporary = destination.with_file_name(format!("{name}{INCOMPLETE}"));
        fs::create_dir(&temporary).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Error::place(
                &temporary,
                "exists: the same is being done just now, or did not end; then remove it",
            ),
            _ => Error::file("make", &temporary)(error),
        })?;
        Ok(Self {
            database,
            name,
            destination: destination.to_owned(),
            temporary,
            started,
            output_bytes: OUTPUT_BYTES,
            sets: Vec::new(),
            complete: false,
        })
    }

    /// Smaller output files, for tests.
    #[cfg(test)]
    pub(crate) fn with_output_bytes(mut self, output_bytes: u64) -> Self {
        self.output_bytes = output_bytes;
        self
    }

    /// What follows are all documents, or those of one collection group.
    pub fn begin(&mut self, kind: Option<&str>) -> Result<(), Error> {
        self.end_set()?;
        let folder = match kind {
            None => "all_kinds".to_owned(),
            Some(kind) => format!("kind_{}", escape(kind)),
        };
        let path = self.temporary.join(ALL_NAMESPACES).join(&folder);
        fs::create_dir_all(&path).map_err(Error::file("make", &path))?;
        self.sets.push(Set {
            kind: kind.map(str::to_owned),
            folder,
            outputs: Vec::new(),
            output: None,
            totals: Totals::default(),
        });
        Ok(())
    }

    /// Adds a document to what was begun.
    ///
    /// # Panics
    ///
    /// If nothing was begun.
    pub fn put(&mut self, path: &DocumentPath, fields: &Fields) -> Result<(), Error> {
        let record = encode_entity(&self.database, path, fields)?;
        let set = self.sets.last_mut().expect("a set was begun");
        let output = match &mut set.output {
            Some(output) => output,
            none => {
                let file = format!("output-{}", set.outputs.len());
                let path = self
                    .temporary
                    .join(ALL_NAMESPACES)
                    .join(&set.folder)
                    .join(&file);
                let created = File::create_new(&path).map_err(Error::file("make", &path))?;
                set.outputs.push(OutputFile {
                    prefix: Some(Vec::new()),
                    file: Some(file),
                });
                none.insert(Output {
                    log: LogWriter::new(BufWriter::new(created)),
                    path,
                })
            }
        };
        let written = output.log.append(&record);
        written.map_err(Error::file("write", &output.path))?;
        set.totals.documents += 1;
        if output.log.len() >= self.output_bytes {
            set.end_output()?;
        }
        Ok(())
    }

    /// How much was written; the bytes of the file in work are not counted.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for set in &self.sets {
            totals.documents += set.totals.documents;
            totals.bytes += set.totals.bytes;
        }
        totals
    }

    /// Writes the metadata, flushes everything and gives the folder its name.
    pub fn finish(mut self, ended: Timestamp) -> Result<Totals, Error> {
        self.end_set()?;
        let totals = self.totals();
        let mut overall = OverallExportMetadata::default();
        for set in std::mem::take(&mut self.sets) {
            let Set {
                kind,
                folder,
                outputs,
                output: _,
                totals,
            } = set;
            let file =
                format!("{ALL_NAMESPACES}/{folder}/{ALL_NAMESPACES}_{folder}.export_metadata");
            let metadata = ExportMetadata {
                export: Some(ExportRun {
                    name: Some(self.name.clone()),
                    start_micros: Some(self.started.micros()),
                    end_micros: Some(ended.micros()),
                }),
                outputs,
            };
            write_synced(&self.temporary.join(&file), &metadata.encode_to_vec())?;
            overall.export_pointers.push(ExportPointer {
                entity_set_spec: Some(EntitySetSpec::new(kind.as_deref())),
                export_metadata_file: Some(file),
                num_entities: Some(totals.documents.cast_signed()),
                num_bytes: Some(totals.bytes.cast_signed()),
            });
        }
        let file = format!("{}.overall_export_metadata", self.name);
        let path = self.temporary.join(file);
        let mut log = LogWriter::new(Vec::new());
        for record in [OVERALL_VERSION, &overall.encode_to_vec()] {
            let appended = log.append(record);
            appended.map_err(Error::file("write", &path))?;
        }
        write_synced(&path, &log.into_sink())?;
        sync_folder(&self.temporary)?;
        fs::rename(&self.temporary, &self.destination)
            .map_err(Error::file("rename to", &self.destination))?;
        self.complete = true;
        match self.destination.parent() {
            Some(parent) if parent != Path::new("") => sync_folder(parent)?,
            Some(_) => sync_folder(Path::new("."))?,
            None => {}
        }
        Ok(totals)
    }

    /// Ends the files of the last set, and sees to it that their names last.
    fn end_set(&mut self) -> Result<(), Error> {
        if let Some(set) = self.sets.last_mut() {
            set.end_output()?;
            let all = self.temporary.join(ALL_NAMESPACES);
            sync_folder(&all.join(&set.folder))?;
            sync_folder(&all)?;
        }
        Ok(())
    }
}

impl Drop for ExportWriter {
    fn drop(&mut self) {
        if !self.complete {
            // What cannot be removed keeps a name that says what it is.
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

impl Set {
    fn end_output(&mut self) -> Result<(), Error> {
        let Some(Output { log, path }) = self.output.take() else {
            return Ok(());
        };
        self.totals.bytes += log.len();
        let written = log
            .into_sink()
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error);
        let file = written.map_err(Error::file("write", &path))?;
        file.sync_all().map_err(Error::file("flush", &path))
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = File::create_new(path).map_err(Error::file("make", path))?;
    file.write_all(bytes).map_err(Error::file("write", path))?;
    file.sync_all().map_err(Error::file("flush", path))
}

/// Makes the names in a folder durable, where the system knows such a thing.
fn sync_folder(path: &Path) -> Result<(), Error> {
    if cfg!(unix) {
        let folder = File::open(path).map_err(Error::file("open", path))?;
        folder.sync_all().map_err(Error::file("flush", path))?;
    }
    Ok(())
}

/// A collection id as a part of a file name that every system takes: letters, digits, `-` and `_`, the rest as `%` and
/// two digits. The id itself stands in the metadata.
fn escape(kind: &str) -> String {
    let mut escaped = String::new();
    for byte in kind.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    if escaped.len() > FOLDER_LEN_MAX {
        // Most file systems take 255 bytes; the beginning is for people, the checksum keeps ids apart.
        escaped.truncate(FOLDER_LEN_MAX);
        escaped.push_str(&format!("~{:08x}", crc32c::crc32c(kind.as_bytes())));
    }
    escaped
}

#[cfg(test)]
mod tests;
