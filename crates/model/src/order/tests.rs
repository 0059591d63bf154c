//! Byte order equals value order; encodings end by themselves; paths come back; the format stays.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;
use crate::generate;
use crate::path::{DocumentName, Parent};
use crate::time::Timestamp;
use crate::value::GeoPoint;

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    encode_value(value, &mut out);
    out
}

fn encoded_path(path: &DocumentPath) -> Vec<u8> {
    let mut out = Vec::new();
    encode_path(path, &mut out);
    out
}

fn prefix(path: &str) -> Vec<u8> {
    let mut out = Vec::new();
    encode_path_prefix(path, &mut out);
    out
}

fn check(a: &Value, b: &Value) -> Result<(), TestCaseError> {
    let (left, right) = (encoded(a), encoded(b));
    let expected = a.compare(b);
    prop_assert_eq!(left.cmp(&right), expected, "{:?} with {:?}", a, b);
    prop_assert_eq!(b.compare(a), expected.reverse());
    if expected != Ordering::Equal {
        prop_assert!(!left.starts_with(&right) && !right.starts_with(&left));
    }
    prop_assert!(!a.identical(b) || expected == Ordering::Equal);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn bytes_order_as_values(a in generate::value(), b in generate::value()) {
        check(&a, &b)?;
        check(&a, &a)?;
    }

    #[test]
    fn lengths_are_found_again(a in generate::value(), b in generate::value()) {
        let mut bytes = encoded(&a);
        let len = bytes.len();
        for cut in [0, len / 2, len - 1] {
            prop_assert_eq!(encoded_len(&bytes[..cut]), None);
        }
        bytes.extend(encoded(&b));
        prop_assert_eq!(encoded_len(&bytes), Some(len));
    }

    #[test]
    fn no_bytes_confuse_the_search_for_a_length(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Some(len) = encoded_len(&bytes) {
            prop_assert!(len > 0 && len <= bytes.len());
        }
    }

    #[test]
    fn bytes_order_as_values_that_are_close((a, b) in generate::neighbours()) {
        check(&a, &b)?;
    }

    #[test]
    fn numbers(a in generate::integer(), b in generate::integer(), c in generate::double(), d in generate::double()) {
        let numbers = [Value::Integer(a), Value::Integer(b), Value::Double(c), Value::Double(d)];
        for a in &numbers {
            for b in &numbers {
                check(a, b)?;
            }
        }
    }

    #[test]
    fn an_integer_and_the_double_next_to_it(integer in generate::integer(), step in -2_i64..=2) {
        let double = f64::from_bits((integer as f64).to_bits().wrapping_add_signed(step));
        check(&Value::Integer(integer), &Value::Double(double))?;
    }

    #[test]
    fn concatenations_order_part_by_part(
        first in generate::neighbours(),
        second in generate::neighbours(),
        paths in (generate::path(), generate::path()),
    ) {
        let join = |a: &Value, b: &Value, path: &DocumentPath| {
            [encoded(a), encoded(b), encoded_path(path)].concat()
        };
        let expected = first.0.compare(&first.1)
            .then_with(|| second.0.compare(&second.1))
            .then_with(|| paths.0.cmp(&paths.1));
        prop_assert_eq!(
            join(&first.0, &second.0, &paths.0).cmp(&join(&first.1, &second.1, &paths.1)),
            expected
        );
    }

    #[test]
    fn the_order_is_transitive(a in generate::value(), b in generate::value(), c in generate::value()) {
        let mut values = [a, b, c];
        values.sort_by(Value::compare);
        let [a, b, c] = values;
        prop_assert!(a.compare(&b).is_le() && b.compare(&c).is_le() && a.compare(&c).is_le());
    }

    #[test]
    fn paths_come_back(path in generate::path(), after in prop::collection::vec(any::<u8>(), 0..4)) {
        let bytes = encoded_path(&path);
        let followed = [bytes.as_slice(), &after].concat();
        prop_assert_eq!(decode_path(&followed), Some((path, bytes.len())));
        for len in 0..bytes.len() {
            prop_assert_eq!(decode_path(&bytes[..len]), None);
        }
    }

    #[test]
    fn paths_order_as_bytes(a in generate::path(), b in generate::path()) {
        prop_assert_eq!(encoded_path(&a).cmp(&encoded_path(&b)), a.cmp(&b));
        // Equal in the order is the same path.
        prop_assert_eq!(a.cmp(&b) == Ordering::Equal, a == b);
        let below = format!("{a}/{b}");
        let below = DocumentPath::parse(&below).unwrap();
        prop_assert_eq!(a.cmp(&below), Ordering::Less);
        prop_assert_eq!(encoded_path(&a).cmp(&encoded_path(&below)), Ordering::Less);
    }

    #[test]
    fn prefixes_begin_what_is_below(a in generate::path(), b in generate::path(), c in generate::path()) {
        let below = DocumentPath::parse(&format!("{a}/{b}")).unwrap();
        for probe in [&a, &b, &c, &below] {
            let bytes = encoded_path(probe);
            let contained = *probe == a || Parent::Document(a.clone()).contains(probe);
            prop_assert_eq!(bytes.starts_with(&prefix(a.as_str())), contained);
            let mut collection = Vec::new();
            encode_collection_prefix(&a.collection(), &mut collection);
            let inside = probe.as_str().starts_with(&format!("{}/", a.collection()));
            prop_assert_eq!(bytes.starts_with(&collection), inside);
            prop_assert!(bytes.starts_with(&prefix("")));
        }
    }

    #[test]
    fn foreign_bytes_are_refused_or_come_back(bytes in prop::collection::vec(
        prop_oneof![0_u8..4, Just(b'a'), Just(b'/'), Just(b'.'), any::<u8>()], 0..24)
    ) {
        if let Some((path, used)) = decode_path(&bytes) {
            prop_assert_eq!(encoded_path(&path), bytes[..used].to_vec());
        }
    }
}

#[test]
fn broken_paths_are_refused() {
    for bytes in [
        b"".as_slice(),
        b"\0",                            // No segments.
        b"\x02c\0\0",                     // A collection.
        b"\x02c\0\x02a/b\0\0",            // A separator inside.
        b"\x02c\0\x02a/b/c\0\0",          // A separator inside that keeps the count even.
        b"\x02c\0\x02\0\0",               // An empty segment.
        b"\x02\0\x02c\0\0",               // An empty segment in front.
        b"\x02c\0\x02__id7__\0\0",        // A number as text.
        b"\x02c\0\x02\xff\0\0",           // No UTF-8.
        b"\x02c\0\x02a\x01\x03\0\0",      // No escape.
        b"\x02c\0\x03a\0\0",              // No tag.
        b"\x02c\0\x01\0\0\0\0",           // Half a number.
        b"\x01\0\0\0\0\0\0\0\0\x02d\0\0", // A number for a collection.
    ] {
        assert_eq!(decode_path(bytes), None, "{bytes:?}");
    }
}

#[test]
fn types_are_ranges() {
    let rank = |value: &Value| {
        let mut out = Vec::new();
        encode_type(value.type_rank(), &mut out);
        out
    };
    let values = [
        Value::Null,
        Value::Integer(3),
        Value::Double(f64::NAN),
        Value::Map([].into()),
    ];
    for a in &values {
        for b in &values {
            assert_eq!(
                encoded(a).starts_with(&rank(b)),
                a.type_rank() == b.type_rank()
            );
        }
    }
}

/// These bytes are on disk: a difference here means that stored keys can no longer be read.
#[test]
fn the_format_stays() {
    let check = |value: Value, expected: &str| {
        let hex: String = encoded(&value)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, expected.replace(' ', ""), "{value:?}");
    };
    check(Value::Null, "10");
    check(Value::Boolean(false), "18 00");
    check(Value::Boolean(true), "18 01");
    check(Value::Double(f64::NAN), "20 0000000000000000 8000");
    check(Value::Integer(-1), "20 400fffffffffffff 8000");
    check(Value::Double(-0.0), "20 8000000000000000 8000");
    check(Value::Integer(1), "20 bff0000000000000 8000");
    check(
        Value::Integer(9_007_199_254_740_993),
        "20 c340000000000000 8001",
    );
    check(Value::Integer(i64::MAX), "20 c3e0000000000000 7fff");
    check(Value::Timestamp(Timestamp::EPOCH), "28 8000000000000000");
    check(Value::String("a\0\u{1}".to_owned()), "30 61 0101 0102 00");
    check(Value::Bytes(vec![255, 0]), "38 ff 0101 00");
    check(
        Value::Reference(
            DocumentName::parse("projects/p/databases/d/documents/c/__id7__").unwrap(),
        ),
        "40 7000 6400 02 6300 01 8000000000000007 00",
    );
    check(
        Value::GeoPoint(GeoPoint {
            latitude: 1.0,
            longitude: -1.0,
        }),
        "48 bff0000000000000 400fffffffffffff",
    );
    check(
        Value::Array(vec![Value::Null, Value::Boolean(true)]),
        "50 10 18 01 00",
    );
    check(Value::Vector(vec![1.0]), "58 00000001 bff0000000000000");
    check(
        Value::Map([("k".to_owned(), Value::Null)].into()),
        "60 01 6b00 10 00",
    );
}

#[test]
fn numbers_read_back_as_what_they_equal() {
    for integer in [
        0,
        1,
        -1,
        3,
        (1 << 53) + 1,
        -(1 << 53) - 1,
        i64::MAX,
        i64::MAX - 511,
        i64::MIN,
        i64::MIN + 1,
    ] {
        let mut bytes = Vec::new();
        encode_value(&Value::Integer(integer), &mut bytes);
        bytes.push(7);
        assert!(matches!(decode_number(&bytes), Some(Value::Integer(read)) if read == integer));
    }
    for double in [
        2.5,
        -2.5,
        1e300,
        -1e300,
        9_223_372_036_854_775_808.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE,
    ] {
        let mut bytes = Vec::new();
        encode_value(&Value::Double(double), &mut bytes);
        assert!(matches!(decode_number(&bytes), Some(Value::Double(read)) if read == double));
    }
    let mut bytes = Vec::new();
    encode_value(&Value::Double(f64::NAN), &mut bytes);
    assert!(matches!(decode_number(&bytes), Some(Value::Double(read)) if read.is_nan()));
    bytes.clear();
    encode_value(&Value::Double(-3.0), &mut bytes);
    assert!(matches!(decode_number(&bytes), Some(Value::Integer(-3))));
    bytes.clear();
    encode_value(&Value::String("3".to_owned()), &mut bytes);
    assert!(decode_number(&bytes).is_none());
}

#[test]
fn segments_are_measured() {
    let mut bytes = Vec::new();
    encode_path_prefix("__id7__/a\u{0}b", &mut bytes);
    let first = encoded_segment_len(&bytes).unwrap();
    assert_eq!(first, 9);
    let second = encoded_segment_len(&bytes[first..]).unwrap();
    assert_eq!(first + second, bytes.len());
    assert_eq!(encoded_segment_len(&[PATH_END]), None);
}
