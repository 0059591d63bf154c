//! `manifest.json`: what a backup must consist of.
//!
//! The file has a checksum of itself, over the compact text of what else it says: JSON without spaces, keys sorted.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Component, Path};

use serde_json::{Value, json};
use watchfire_model::Timestamp;

use crate::backup::error::BackupError;
use crate::backup::files::{Sum, checksum};

/// The name of the file.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The format that is written, and the newest that is understood.
pub const FORMAT: u64 = 1;
/// Bytes of a manifest that are read; those of the largest folder are far below.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;

/// What a backup consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// When it was begun.
    pub time: Timestamp,
    /// The version of this program.
    pub program: String,
    /// The newest version of each database, by its full name.
    pub databases: BTreeMap<String, u64>,
    /// Sizes and checksums of all files in `data/`, by their names there.
    pub files: BTreeMap<String, Sum>,
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|sum| sum.bytes).sum()
    }

    /// The text of the file.
    pub fn encode(&self) -> String {
        let Self {
            time,
            program,
            databases,
            files,
        } = self;
        let databases: Vec<Value> = databases
            .iter()
            .map(|(name, version)| json!({ "name": name, "version": version }))
            .collect();
        let files: Vec<Value> = files
            .iter()
            .map(|(name, sum)| json!({ "name": name, "bytes": sum.bytes, "sha256": sum.sha256 }))
            .collect();
        let contents = json!({
            "format": FORMAT,
            "time": time.to_string(),
            "timeMicros": time.micros(),
            "program": program,
            "databases": databases,
            "files": files,
        });
        let sha256 = checksum(contents.to_string().as_bytes());
        let whole = json!({ "watchfireBackup": contents, "sha256": sha256 });
        format!("{whole:#}\n")
    }

    /// Reads the file at `path`. Fails with `Damaged` and `Newer`.
    pub fn read(path: &Path) -> Result<Self, BackupError> {
        let damaged = |complaint: &str| BackupError::damaged(path, complaint);
        let file = std::fs::File::open(path).map_err(BackupError::file("open", path))?;
        let mut bytes = Vec::new();
        file.take(MANIFEST_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(BackupError::file("read", path))?;
        let whole: Value = serde_json::from_slice(&bytes).map_err(|error| {
            BackupError::damaged(path, format!("is no JSON text, or was cut off: {error}"))
        })?;
        let contents = whole
            .get("watchfireBackup")
            .ok_or_else(|| damaged("is no manifest of a backup of Watchfire"))?;
        // Before the checksum: another format may compute it in another way.
        match contents.get("format").and_then(Value::as_u64) {
            Some(FORMAT) => {}
            Some(found) if found > FORMAT => {
                return Err(BackupError::Newer {
                    path: path.to_owned(),
                    found,
                    known: FORMAT,
                });
            }
            Some(_) | None => return Err(damaged("has no format that is known")),
        }
        let found = checksum(contents.to_string().as_bytes());
        let expected = whole
            .get("sha256")
            .and_then(Value::as_str)
            .unwrap_or("none");
        if expected != found {
            return Err(BackupError::damaged(
                path,
                format!("has the checksum {found}, expected {expected}"),
            ));
        }
        let manifest =
            decode(contents).ok_or_else(|| damaged("lacks a part that every manifest has"))?;
        // Whoever made the backup also made its checksum: a copy must not be led out of its folder.
        match manifest.files.keys().find(|name| !is_file_name(name)) {
            None => Ok(manifest),
            Some(name) => Err(BackupError::damaged(
                path,
                format!("names {name:?}, which is no name of a file"),
            )),
        }
    }
}

fn is_file_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!(components.next(), Some(Component::Normal(only)) if only == Path::new(name).as_os_str())
        && components.next().is_none()
}

fn decode(contents: &Value) -> Option<Manifest> {
    let text = |value: &Value, name: &str| Some(value.get(name)?.as_str()?.to_owned());
    let number = |value: &Value, name: &str| value.get(name)?.as_u64();
    let rows = |name: &str| contents.get(name)?.as_array();
    let databases = rows("databases")?
        .iter()
        .map(|row| Some((text(row, "name")?, number(row, "version")?)));
    let files = rows("files")?.iter().map(|row| {
        let sum = Sum {
            bytes: number(row, "bytes")?,
            sha256: text(row, "sha256")?,
        };
        Some((text(row, "name")?, sum))
    });
    Some(Manifest {
        time: Timestamp::from_micros(contents.get("timeMicros")?.as_i64()?).ok()?,
        program: text(contents, "program")?,
        databases: databases.collect::<Option<_>>()?,
        files: files.collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let sum = Sum {
            bytes: 16,
            sha256: checksum(b"x"),
        };
        Manifest {
            time: Timestamp::from_micros(1_700_000_000_000_001).unwrap(),
            program: "0.1.0".to_owned(),
            databases: BTreeMap::from([("projects/p/databases/d".to_owned(), u64::MAX)]),
            files: BTreeMap::from([("CURRENT".to_owned(), sum)]),
        }
    }

    fn read(text: &str, name: &str) -> Result<Manifest, String> {
        let path = std::env::temp_dir().join(format!("manifest-{name}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let found = Manifest::read(&path).map_err(|error| error.to_string());
        std::fs::remove_file(path).unwrap();
        found
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&manifest().encode(), "whole"), Ok(manifest()));
    }

    #[test]
    fn every_changed_or_missing_part_is_told() {
        let text = manifest().encode();
        for (from, to) in [
            ("\"bytes\": 16", "\"bytes\": 17"),
            ("databases/d", "databases/e"),
            ("CURRENT", "CURRENS"),
            ("\"program\": \"0.1.0\"", "\"program\": 7"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from}");
            let complaint = read(&changed, "changed").unwrap_err();
            assert!(complaint.contains("has the checksum "), "{complaint}");
        }
        for len in [0, 1, text.len() / 2, text.len() - 2] {
            let complaint = read(&text[..len], "cut").unwrap_err();
            assert!(
                complaint.contains("is no JSON text, or was cut off"),
                "{complaint}"
            );
        }
        let complaint = read("{}", "foreign").unwrap_err();
        assert!(
            complaint.ends_with("is no manifest of a backup of Watchfire"),
            "{complaint}"
        );
        let newer = text.replace("\"format\": 1", "\"format\": 2");
        let complaint = read(&newer, "newer").unwrap_err();
        assert!(
            complaint.ends_with("has format 2, this program knows formats up to 1"),
            "{complaint}"
        );
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused_though_its_checksum_fits() {
        for name in ["", ".", "..", "../x", "/x", "a/b", "a/", "./a"] {
            let mut manifest = manifest();
            let sum = manifest.files["CURRENT"].clone();
            manifest.files.insert(name.to_owned(), sum);
            let complaint = read(&manifest.encode(), "elsewhere").unwrap_err();
            assert!(
                complaint.ends_with(&format!("names {name:?}, which is no name of a file")),
                "{complaint}"
            );
        }
    }
}
