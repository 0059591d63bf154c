//! Whole folders: what is written is found again, and what is not finished leaves nothing.

use watchfire_model::Value;

use super::*;
use crate::reader::Export;

fn database() -> DatabaseName {
    DatabaseName::new("p", "(default)").unwrap()
}

fn document(path: &str) -> (DocumentPath, Fields) {
    let fields = Fields::from([("n".to_owned(), Value::String(path.repeat(100)))]);
    (DocumentPath::parse(path).unwrap(), fields)
}

/// The paths of all documents, and the files that they are in.
fn read(path: &Path) -> Vec<(String, String)> {
    let export = Export::open(path).unwrap();
    let mut entities = export.entities();
    let mut found = Vec::new();
    while let Some(next) = entities.next_entity().unwrap() {
        assert_eq!(
            format!("{:?}", next.entity.fields),
            format!("{:?}", document(next.entity.path.as_str()).1)
        );
        let file = next.path.strip_prefix(path).unwrap();
        found.push((next.entity.path.to_string(), file.display().to_string()));
    }
    if let Some(count) = export.documents() {
        assert_eq!(count, found.len() as u64);
    }
    found
}

#[test]
fn an_export_is_one_folder_with_everything() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("night");
    let mut writer = ExportWriter::create(&folder, database(), Timestamp::EPOCH)
        .unwrap()
        .with_output_bytes(1_000);
    writer.begin(None).unwrap();
    let paths: Vec<String> = (0..7).map(|n| format!("c/{n}")).collect();
    for path in &paths {
        let (path, fields) = document(path);
        writer.put(&path, &fields).unwrap();
    }
    let totals = writer.finish(Timestamp::EPOCH).unwrap();
    assert_eq!(totals.documents, 7);
    let found = read(&folder);
    let found_paths: Vec<&String> = found.iter().map(|(path, _)| path).collect();
    assert_eq!(found_paths, paths.iter().collect::<Vec<_>>());
    assert_eq!(found[0].1, "all_namespaces/all_kinds/output-0");
    assert!(found[6].1.ends_with("/output-2"), "{}", found[6].1);
    assert!(folder.join("night.overall_export_metadata").is_file());
    assert!(
        folder
            .join("all_namespaces/all_kinds/all_namespaces_all_kinds.export_metadata")
            .is_file()
    );
    assert_eq!(parent.path().read_dir().unwrap().count(), 1);
}

#[test]
fn each_collection_group_has_files_of_its_own() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("some");
    let mut writer = ExportWriter::create(&folder, database(), Timestamp::EPOCH).unwrap();
    let odd = "ü".repeat(500);
    for kind in ["a", "b.c", "empty", odd.as_str()] {
        writer.begin(Some(kind)).unwrap();
        if kind != "empty" {
            let (path, fields) = document(&format!("{kind}/x"));
            writer.put(&path, &fields).unwrap();
        }
    }
    assert_eq!(writer.totals().documents, 3);
    writer.finish(Timestamp::EPOCH).unwrap();
    let found = read(&folder);
    assert_eq!(found.len(), 3);
    assert_eq!(found[1].1, "all_namespaces/kind_b%2Ec/output-0");
}

#[test]
fn an_export_of_nothing_is_one_too() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("none");
    let writer = ExportWriter::create(&folder, database(), Timestamp::EPOCH).unwrap();
    assert_eq!(writer.finish(Timestamp::EPOCH).unwrap(), Totals::default());
    assert_eq!(read(&folder), []);
}

#[test]
fn what_is_dropped_leaves_nothing_and_what_exists_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("x");
    let mut writer = ExportWriter::create(&folder, database(), Timestamp::EPOCH).unwrap();
    writer.begin(None).unwrap();
    let (path, fields) = document("c/d");
    writer.put(&path, &fields).unwrap();
    let second = ExportWriter::create(&folder, database(), Timestamp::EPOCH);
    let complaint = second.unwrap_err().to_string();
    assert!(complaint.contains("x.incomplete exists"), "{complaint}");
    drop(writer);
    assert_eq!(parent.path().read_dir().unwrap().count(), 0);

    fs::create_dir(&folder).unwrap();
    let refused = ExportWriter::create(&folder, database(), Timestamp::EPOCH).unwrap_err();
    assert!(
        refused.to_string().ends_with("x exists already"),
        "{refused}"
    );
    let nowhere = parent.path().join("no/where");
    assert!(ExportWriter::create(&nowhere, database(), Timestamp::EPOCH).is_err());
}

#[test]
fn what_cannot_be_said_is_refused_by_name() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("x");
    let mut writer = ExportWriter::create(&folder, database(), Timestamp::EPOCH).unwrap();
    writer.begin(None).unwrap();
    let nested = Value::Array(vec![Value::Array(Vec::new())]);
    let fields = Fields::from([("a".to_owned(), nested)]);
    let refused = writer.put(&document("c/d").0, &fields).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "document c/d cannot be exported: an array holds another one"
    );
}
