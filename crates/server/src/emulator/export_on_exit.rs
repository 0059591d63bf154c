//! The folder of `--export-on-exit`: what may be there, and how an export takes its place.
//!
//! The new export is made whole in a folder of its own beside the old one, which moves into that folder only then. So one
//! whole export is there at every moment, and what was left by a process that was killed is in nobody's way. What is no
//! part of an export is never deleted: it is looked for at the start, and again before the old one goes.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use watchfire_exchange::Export;
use watchfire_model::DatabaseName;

use crate::assemble::SystemClock;
use crate::emulator::run::Failure;
use crate::front::emulator::export_to;

/// The folder within an export that has everything but the overall file.
const ALL_NAMESPACES: &str = "all_namespaces";
/// What is added to the name of the old export while the new one takes its place.
const BEFORE: &str = ".before";

/// What is exported at the end, and where to.
pub struct ExportOnExit {
    /// Ends with its name.
    folder: PathBuf,
    name: String,
    database: DatabaseName,
}

impl ExportOnExit {
    /// Fails if the folder has no name, or has what would be lost with it.
    pub fn new(folder: &Path, database: DatabaseName) -> Result<Self, Failure> {
        // `saved/` has the name `saved`, and nothing can be put beside `.` or `/`.
        let name = folder
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| Failure::NoName(folder.to_owned()))?
            .to_owned();
        let folder = folder.with_file_name(&name);
        match foreign(&folder) {
            Ok(None) => Ok(Self {
                folder,
                name,
                database,
            }),
            Ok(Some(found)) => Err(Failure::NoExport { folder, found }),
            Err(error) => Err(Failure::Export {
                folder,
                complaint: error.to_string(),
            }),
        }
    }

    /// Exports from the server at the address.
    pub async fn make(&self, address: SocketAddr) -> Result<(), Failure> {
        let made = self.beside().map_err(|error| self.failed(&error))?;
        let new = made.path().join(&self.name);
        export_to(new, address, &self.database, &SystemClock)
            .await
            .map_err(|complaint| self.failed(&complaint))?;
        self.replace(made)?;
        tracing::info!(folder = %self.folder.display(), database = %self.database, "exported");
        Ok(())
    }

    /// A new folder of a name that nobody has.
    fn beside(&self) -> io::Result<TempDir> {
        let parent = self.parent();
        fs::create_dir_all(parent)?;
        tempfile::Builder::new()
            .prefix(&format!("{}.new-", self.name))
            .tempdir_in(parent)
    }

    fn parent(&self) -> &Path {
        match self.folder.parent() {
            Some(parent) if parent != Path::new("") => parent,
            Some(_) | None => Path::new("."),
        }
    }

    fn failed(&self, complaint: &dyn std::fmt::Display) -> Failure {
        Failure::Export {
            folder: self.folder.clone(),
            complaint: complaint.to_string(),
        }
    }

    /// Puts the export that was made in the place of what is there. If that cannot be, the new one stays where it is.
    fn replace(&self, made: TempDir) -> Result<(), Failure> {
        let new = made.path().join(&self.name);
        let before = made.path().join(format!("{}{BEFORE}", self.name));
        if let Err(complaint) = self.swap(&new, &before) {
            // From here on nothing deletes it.
            let _ = made.keep();
            return Err(self.failed(&format!("{complaint}; it is at {}", new.display())));
        }
        // The old one goes only when the new name lasts, where the system knows such a thing.
        let lasts = fs::File::open(self.parent()).and_then(|parent| parent.sync_all());
        if cfg!(unix)
            && let Err(error) = lasts
        {
            let made = made.keep();
            tracing::warn!(folder = %made.display(), %error, "the export before this one stays there");
        } else if let Err(error) = made.close() {
            tracing::warn!(%error, "the export before this one could not be deleted");
        }
        Ok(())
    }

    fn swap(&self, new: &Path, before: &Path) -> Result<(), String> {
        let said = |error: io::Error| error.to_string();
        if let Some(found) = foreign(&self.folder).map_err(said)? {
            return Err(format!(
                "{} is there by now and no part of an export",
                found.display()
            ));
        }
        let was_there = self.folder.symlink_metadata().is_ok();
        if was_there {
            fs::rename(&self.folder, before).map_err(said)?;
        }
        if let Err(error) = fs::rename(new, &self.folder) {
            if was_there && let Err(error) = fs::rename(before, &self.folder) {
                let before = before.display();
                tracing::warn!(folder = %before, %error, "the export before this one stays there");
            }
            return Err(said(error));
        }
        Ok(())
    }
}

/// Something in the place of the folder that is no part of an export; the folder itself if it is none.
fn foreign(folder: &Path) -> io::Result<Option<PathBuf>> {
    match folder.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(_) if !folder.is_dir() => return Ok(Some(folder.to_owned())),
        Ok(_) => {}
    }
    if fs::read_dir(folder)?.next().is_none() {
        return Ok(None);
    }
    let Ok(export) = Export::open(folder) else {
        return Ok(Some(folder.to_owned()));
    };
    let all = folder.join(ALL_NAMESPACES);
    let is_part = |path: &Path| path == export.overall() || path == all;
    if let Some(other) = other_than(folder, is_part)? {
        return Ok(Some(other));
    }
    if !all.is_dir() {
        return Ok(all.exists().then_some(all));
    }
    for set in fs::read_dir(&all)? {
        let set = set?.path();
        if !set.is_dir() {
            return Ok(Some(set));
        }
        if let Some(other) = other_than(&set, is_file_of_set)? {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

/// The first entry of the folder that is no part of it.
fn other_than(folder: &Path, is_part: impl Fn(&Path) -> bool) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !is_part(&path) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The metadata of documents, or some of them.
fn is_file_of_set(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("");
    let is_output = name.strip_prefix("output-").is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    path.is_file() && (is_output || name.ends_with(".export_metadata"))
}

#[cfg(test)]
mod tests {
    use watchfire_exchange::ExportWriter;
    use watchfire_model::Clock;

    use super::*;

    fn database() -> DatabaseName {
        DatabaseName::new("p", "(default)").unwrap()
    }

    fn write(folder: &Path) {
        let mut writer = ExportWriter::create(folder, database(), SystemClock.now()).unwrap();
        writer.begin(None).unwrap();
        writer.finish(SystemClock.now()).unwrap();
    }

    /// What stands for an export that was made.
    fn made(exit: &ExportOnExit) -> TempDir {
        let made = exit.beside().unwrap();
        write(&made.path().join("saved"));
        fs::write(made.path().join("saved/new"), b"").unwrap();
        made
    }

    #[test]
    fn a_folder_needs_a_name() {
        for nameless in [".", "..", "/", "", "saved/..", "./"] {
            let refused = ExportOnExit::new(Path::new(nameless), database());
            assert!(matches!(refused, Err(Failure::NoName(_))), "{nameless}");
        }
        let exit = ExportOnExit::new(Path::new("./saved/"), database()).unwrap();
        assert_eq!(exit.folder.as_os_str(), "./saved");
    }

    #[test]
    fn what_is_no_part_of_an_export_is_found() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("saved");
        assert_eq!(foreign(&folder).unwrap(), None);
        write(&folder);
        assert_eq!(foreign(&folder).unwrap(), None);
        for inside in [
            "thesis.txt",
            "all_namespaces/thesis.txt",
            "all_namespaces/all_kinds/output-1.txt",
        ] {
            let thesis = folder.join(inside);
            fs::write(&thesis, b"").unwrap();
            assert_eq!(foreign(&folder).unwrap(), Some(thesis.clone()));
            fs::remove_file(thesis).unwrap();
        }
        // The folder around one may have more than documents.
        let around = place.path().join("around");
        fs::create_dir(&around).unwrap();
        fs::rename(&folder, around.join("firestore_export")).unwrap();
        assert!(foreign(&around).unwrap().is_some());
    }

    #[test]
    fn an_export_takes_the_place_of_the_one_before() {
        let place = tempfile::tempdir().unwrap();
        let exit = ExportOnExit::new(&place.path().join("saved/"), database()).unwrap();
        write(&exit.folder);
        exit.replace(made(&exit)).unwrap();
        assert!(exit.folder.join("new").exists());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_came_meanwhile_is_kept_and_so_is_the_new_export() {
        let place = tempfile::tempdir().unwrap();
        let exit = ExportOnExit::new(&place.path().join("saved"), database()).unwrap();
        write(&exit.folder);
        let thesis = exit.folder.join("thesis.txt");
        fs::write(&thesis, b"").unwrap();
        let made = made(&exit);
        let new = made.path().join("saved");
        let complaint = exit.replace(made).unwrap_err().to_string();
        assert!(
            complaint.contains(&new.display().to_string()),
            "{complaint}"
        );
        assert!(complaint.contains("thesis.txt"), "{complaint}");
        assert!(thesis.exists());
        assert!(Export::open(&new).is_ok());
    }
}
