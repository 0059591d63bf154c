//! An export that the official emulator made: its documents are understood, and written with as many bytes.

use std::path::Path;

use watchfire_exchange::log::LogReader;
use watchfire_exchange::{Export, decode_entity, encode_entity};

const FIXTURE: &str = "../../conformance/fixtures/emulator";

#[test]
fn its_documents_are_read_and_counted() {
    let export = Export::open(Path::new(FIXTURE)).unwrap();
    let mut entities = export.entities();
    let mut count = 0;
    while let Some(found) = entities.next_entity().unwrap() {
        assert_eq!(found.entity.database.project(), "fixture");
        count += 1;
    }
    assert_eq!(export.documents(), Some(count));
    assert!(count > 50, "{count}");
}

#[test]
fn its_records_are_ours() {
    let output = Path::new(FIXTURE).join("all_namespaces/all_kinds/output-0");
    let bytes = std::fs::read(output).unwrap();
    let mut log = LogReader::new(bytes.as_slice());
    let mut same = 0;
    while let Some(record) = log.next_record().unwrap() {
        let entity = decode_entity(&record.bytes).unwrap();
        let encoded = encode_entity(&entity.database, &entity.path, &entity.fields).unwrap();
        assert_eq!(encoded.len(), record.bytes.len(), "{}", entity.path);
        // It keeps fields in the order in which they were written; with one field there is one order.
        if entity.path.collection_id() == "one" {
            assert_eq!(encoded, record.bytes, "{}", entity.path);
            same += 1;
        }
    }
    assert!(same > 40, "{same}");
}
