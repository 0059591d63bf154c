//! Records of every length around the bounds of blocks, and damage of every kind.

use proptest::prelude::*;

use super::*;

fn written(records: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = LogWriter::new(Vec::new());
    for record in records {
        writer.append(record).unwrap();
    }
    assert_eq!(writer.is_empty(), records.is_empty());
    let len = writer.len();
    let bytes = writer.into_sink();
    assert_eq!(bytes.len() as u64, len);
    bytes
}

fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, LogError> {
    let mut reader = LogReader::new(bytes);
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record.bytes);
    }
    Ok(records)
}

/// Lengths that end near the end of a block, and any others.
fn len() -> impl Strategy<Value = usize> {
    prop_oneof![
        0_usize..40,
        (BLOCK_LEN - 40)..(BLOCK_LEN + 40),
        (2 * BLOCK_LEN - 60)..(2 * BLOCK_LEN + 10),
    ]
}

fn records() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec((len(), any::<u8>()), 0..6).prop_map(|records| {
        let records = records.into_iter();
        records.map(|(len, byte)| vec![byte; len]).collect()
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read(records in records()) {
        prop_assert_eq!(read(&written(&records)).unwrap(), records);
    }

    #[test]
    fn a_changed_byte_is_told(records in records(), at in any::<prop::sample::Index>(), bits in 1_u8..) {
        let mut bytes = written(&records);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
            prop_assert!(read(&bytes).is_err());
        }
    }

    #[test]
    fn a_cut_log_is_told_or_has_whole_records(records in records(), at in any::<prop::sample::Index>()) {
        let bytes = written(&records);
        let kept = at.index(bytes.len() + 1);
        if let Ok(found) = read(&bytes[..kept]) {
            prop_assert_eq!(&found[..], &records[..found.len()]);
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }
}

#[test]
fn the_bytes_are_those_of_others() {
    // The first record of every overall file of the official emulator.
    assert_eq!(
        written(&[b"3".to_vec()]),
        [0xb8, 0x6d, 0x44, 0x4e, 1, 0, 1, b'3']
    );
}

#[test]
fn zeros_up_to_the_end_of_a_block_are_passed_over() {
    let mut bytes = written(&[b"a".to_vec()]);
    bytes.resize(BLOCK_LEN, 0);
    bytes.extend(written(&[b"b".to_vec()]));
    assert_eq!(read(&bytes).unwrap(), [b"a".to_vec(), b"b".to_vec()]);
}

#[test]
fn complaints_say_where_and_what() {
    let complaint = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    let mut bytes = written(&[b"abc".to_vec(), vec![7; BLOCK_LEN]]);
    assert_eq!(
        complaint(&bytes[..bytes.len() - 1]),
        format!("the file ends in the middle of a piece at byte {BLOCK_LEN}")
    );
    assert_eq!(
        complaint(&bytes[..BLOCK_LEN]),
        "the file ends before the last piece of the record at byte 10"
    );
    assert_eq!(
        complaint(&bytes[BLOCK_LEN..]),
        "expected the beginning of a record, found a later piece of one at byte 0"
    );
    bytes[8] = b'x';
    assert!(
        complaint(&bytes).starts_with("the checksum does not fit: expected "),
        "{}",
        complaint(&bytes)
    );
    assert!(complaint(b"{\"a\":1,\"b\":2}").starts_with("expected a piece of kind 1 to 4"));
}
