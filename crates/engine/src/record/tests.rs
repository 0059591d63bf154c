//! Stored bytes: a fixture of format 1, round trips, and bytes that are no record.

use proptest::prelude::*;

use super::*;

fn path() -> DocumentPath {
    DocumentPath::parse("rooms/eros").unwrap()
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

/// Everything that a document may hold, once.
fn full_document() -> Document {
    let text = |text: &str| Value::String(text.to_owned());
    let nested = Fields::from([(
        "x".to_owned(),
        Value::Array(vec![Value::Null, text("y"), Value::Map(Fields::new())]),
    )]);
    let fields = [
        ("array", Value::Array(Vec::new())),
        ("boolean", Value::Boolean(false)),
        ("bytes", Value::Bytes(vec![0, 255])),
        ("double", Value::Double(-0.0)),
        ("integer", Value::Integer(-1)),
        ("map", Value::Map(nested)),
        ("null", Value::Null),
        (
            "point",
            Value::GeoPoint(GeoPoint {
                latitude: 1.5,
                longitude: -2.5,
            }),
        ),
        (
            "reference",
            Value::Reference(
                DocumentName::parse("projects/p/databases/(default)/documents/a/b").unwrap(),
            ),
        ),
        ("string", text("ü")),
        ("time", Value::Timestamp(time(-1))),
        ("vector", Value::Vector(vec![1.0, 2.0])),
    ];
    let fields = fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    Document {
        path: path(),
        create_time: time(1_000_001),
        update_time: time(2_000_002),
        fields,
    }
}

fn same(a: &Document, b: &Document) -> bool {
    a.path == b.path
        && a.create_time == b.create_time
        && a.update_time == b.update_time
        && Value::Map(a.fields.clone()).identical(&Value::Map(b.fields.clone()))
}

/// Bytes as format 1 wrote them first. They are in stores; they must stay readable.
const FORMAT_1: &str = include_str!("format_1.hex");

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}

#[test]
fn stored_bytes_of_format_1_are_read() {
    let read = decode_record(&path(), &from_hex(FORMAT_1)).unwrap();
    assert!(same(&read, &full_document()), "{read:?}");
}

#[test]
fn what_is_written_is_format_1() {
    let hex: String = encode_record(&full_document())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hex,
        FORMAT_1.trim(),
        "a change of the bytes needs a new format"
    );
}

#[test]
fn a_record_that_was_cut_short_is_never_taken_for_whole() {
    let bytes = encode_record(&full_document());
    for end in 0..bytes.len() {
        if let Ok(read) = decode_record(&path(), &bytes[..end]) {
            assert!(!same(&read, &full_document()));
        }
    }
    assert!(matches!(
        decode_record(&path(), &[9]),
        Err(Error::Corrupt(_))
    ));
}

#[test]
fn nesting_is_bounded() {
    let nest = |levels: usize| {
        let mut value = Value::Null;
        for _ in 0..levels {
            value = Value::Map(Fields::from([("m".to_owned(), value)]));
        }
        Document {
            fields: Fields::from([("m".to_owned(), value)]),
            ..full_document()
        }
    };
    assert!(decode_record(&path(), &encode_record(&nest(DEPTH_MAX))).is_ok());
    assert!(decode_record(&path(), &encode_record(&nest(DEPTH_MAX + 1))).is_err());
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        any::<f64>().prop_map(Value::Double),
        (-60_000_000_000_000_000_i64..200_000_000_000_000_000)
            .prop_map(|micros| Value::Timestamp(time(micros))),
        ".{0,8}".prop_map(Value::String),
        proptest::collection::vec(any::<u8>(), 0..8).prop_map(Value::Bytes),
        (-90.0..90.0, -180.0..180.0).prop_map(|(latitude, longitude)| Value::GeoPoint(GeoPoint {
            latitude,
            longitude
        })),
        proptest::collection::vec(-9.0..9.0, 1..4).prop_map(Value::Vector),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::btree_map("[a-c.]{0,3}", inner, 0..4).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn documents_read_back(fields in proptest::collection::btree_map(".{0,6}", any_value(), 0..6), micros in 0..1_i64 << 50) {
        let document = Document { path: path(), create_time: time(micros), update_time: time(micros + 1), fields };
        let read = decode_record(&path(), &encode_record(&document)).unwrap();
        prop_assert!(same(&read, &document));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), good_start in any::<bool>()) {
        let mut bytes = bytes;
        if good_start {
            let mut start = vec![RECORD_FORMAT];
            start.extend([0; 16]);
            bytes.splice(0..0, start);
        }
        let _ = decode_record(&path(), &bytes);
    }

    #[test]
    fn damaged_records_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode_record(&full_document()).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode_record(&path(), &bytes);
    }
}
