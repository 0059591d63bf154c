//! Exports that were damaged, cut or made up.

use std::fs;

use prost::Message;
use watchfire_model::{DatabaseName, DocumentPath, Fields, Timestamp, Value};

use super::*;
use crate::log::LogWriter;
use crate::writer::ExportWriter;

const OUTPUT: &str = "all_namespaces/all_kinds/output-0";
const METADATA: &str = "all_namespaces/all_kinds/all_namespaces_all_kinds.export_metadata";

fn export(parent: &Path) -> PathBuf {
    let folder = parent.join("e");
    let database = DatabaseName::new("p", "(default)").unwrap();
    let mut writer = ExportWriter::create(&folder, database, Timestamp::EPOCH).unwrap();
    writer.begin(None).unwrap();
    for n in 0..3 {
        let path = DocumentPath::parse(&format!("c/{n}")).unwrap();
        let fields = Fields::from([("n".to_owned(), Value::Integer(n))]);
        writer.put(&path, &fields).unwrap();
    }
    writer.finish(Timestamp::EPOCH).unwrap();
    folder
}

fn count(path: &Path) -> Result<usize, String> {
    let export = Export::open(path).map_err(|error| error.to_string())?;
    let mut entities = export.entities();
    let mut count = 0;
    while let Some(_found) = entities.next_entity().map_err(|error| error.to_string())? {
        count += 1;
    }
    Ok(count)
}

#[test]
fn an_export_is_found_by_its_file_its_folder_or_the_folder_of_the_tools() {
    let parent = tempfile::tempdir().unwrap();
    let folder = export(parent.path());
    assert_eq!(count(&folder), Ok(3));
    assert_eq!(count(&folder.join("e.overall_export_metadata")), Ok(3));
    fs::rename(&folder, parent.path().join(TOOLS_FOLDER)).unwrap();
    assert_eq!(count(parent.path()), Ok(3));

    let nothing = tempfile::tempdir().unwrap();
    let refused = count(nothing.path()).unwrap_err();
    assert!(refused.contains("is no export of Firestore"), "{refused}");
    assert!(count(&nothing.path().join("x")).is_err());
}

#[test]
fn damage_says_the_file_and_the_byte() {
    let parent = tempfile::tempdir().unwrap();
    let folder = export(parent.path());
    let output = folder.join(OUTPUT);
    let whole = fs::read(&output).unwrap();
    let record = whole.len() / 3;

    let mut bytes = whole.clone();
    bytes[record + 20] ^= 1;
    fs::write(&output, &bytes).unwrap();
    let complaint = count(&folder).unwrap_err();
    let expected = format!("output-0 at byte {record}: the checksum does not fit");
    assert!(complaint.contains(&expected), "{complaint}");

    fs::write(&output, &whole[..2 * record]).unwrap();
    let complaint = count(&folder).unwrap_err();
    assert!(
        complaint.ends_with("expected 3 documents in its files, found 2"),
        "{complaint}"
    );

    fs::remove_file(&output).unwrap();
    let complaint = count(&folder).unwrap_err();
    assert!(complaint.starts_with("cannot open "), "{complaint}");

    let mut log = LogWriter::new(Vec::new());
    log.append(b"hello").unwrap();
    fs::write(&output, log.into_sink()).unwrap();
    let complaint = count(&folder).unwrap_err();
    assert!(
        complaint.contains("at byte 0: the record is no entity of Firestore"),
        "{complaint}"
    );
}

#[test]
fn metadata_that_is_none_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let folder = export(parent.path());
    fs::write(folder.join(METADATA), b"{}").unwrap();
    let complaint = count(&folder).unwrap_err();
    assert!(
        complaint.contains("is no metadata of an export"),
        "{complaint}"
    );
    for rubbish in [&b""[..], b"{\"version\": 1}", b"SQLite format 3\0"] {
        fs::write(folder.join("e.overall_export_metadata"), rubbish).unwrap();
        let complaint = count(&folder).unwrap_err();
        assert!(
            complaint.contains("e.overall_export_metadata at byte 0: "),
            "{complaint}"
        );
    }
}

#[test]
fn names_do_not_lead_out_of_the_export() {
    let parent = tempfile::tempdir().unwrap();
    let folder = export(parent.path());
    for name in ["", "../x", "/etc/passwd", "a/../../x", "."] {
        let metadata = ExportMetadata {
            export: None,
            outputs: vec![OutputFile {
                prefix: None,
                file: Some(name.to_owned()),
            }],
        };
        fs::write(folder.join(METADATA), metadata.encode_to_vec()).unwrap();
        let complaint = count(&folder).unwrap_err();
        assert!(
            complaint.ends_with("leads out of the export"),
            "{complaint}"
        );
    }
}

/// Writes an overall file with sets that all have the same metadata file.
fn write_overall(folder: &Path, sets: usize, documents: i64) {
    let pointer = ExportPointer {
        entity_set_spec: None,
        export_metadata_file: Some(METADATA.to_owned()),
        num_entities: Some(documents),
        num_bytes: None,
    };
    let overall = OverallExportMetadata {
        export_pointers: vec![pointer; sets],
    };
    let mut log = LogWriter::new(Vec::new());
    log.append(OVERALL_VERSION).unwrap();
    log.append(&overall.encode_to_vec()).unwrap();
    fs::write(folder.join("e.overall_export_metadata"), log.into_sink()).unwrap();
}

#[test]
fn counts_that_cannot_be_are_no_reason_to_fail_before_the_documents_are_counted() {
    let parent = tempfile::tempdir().unwrap();
    let folder = export(parent.path());
    write_overall(&folder, 3, i64::MAX);
    assert_eq!(Export::open(&folder).unwrap().documents(), None);
    let complaint = count(&folder).unwrap_err();
    assert!(
        complaint.ends_with("expected 9223372036854775807 documents in its files, found 3"),
        "{complaint}"
    );
    write_overall(&folder, 2, 3);
    assert_eq!(Export::open(&folder).unwrap().documents(), Some(6));
    assert_eq!(count(&folder), Ok(6));
}

#[test]
fn a_file_that_is_named_again_and_again_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let folder = export(parent.path());
    let output = OutputFile {
        prefix: None,
        file: Some("output-0".to_owned()),
    };
    let metadata = ExportMetadata {
        export: None,
        outputs: vec![output; 50_000],
    };
    fs::write(folder.join(METADATA), metadata.encode_to_vec()).unwrap();
    write_overall(&folder, 21, 3);
    let complaint = Export::open(&folder).unwrap_err().to_string();
    assert!(
        complaint.ends_with("it names more than 1000000 files"),
        "{complaint}"
    );
}
