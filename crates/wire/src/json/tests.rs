//! What the mapping says, on messages of the protocol.

use std::collections::BTreeMap;

use super::*;
use crate::pb;
use crate::pb::value::ValueType;

fn value(kind: ValueType) -> pb::Value {
    pb::Value {
        value_type: Some(kind),
    }
}

fn written(kind: ValueType) -> String {
    encode(&value(kind))
}

fn read(text: &str) -> Option<ValueType> {
    decode::<pb::Value>(text.as_bytes()).unwrap().value_type
}

fn refused<M: Message + std::fmt::Debug>(text: &str) -> String {
    decode::<M>(text.as_bytes()).unwrap_err().to_string()
}

fn timestamp(seconds: i64, nanos: i32) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos }
}

#[test]
fn values_have_the_form_that_the_mapping_gives() {
    let cases = [
        (ValueType::NullValue(0), r#"{"nullValue":null}"#),
        (ValueType::BooleanValue(false), r#"{"booleanValue":false}"#),
        (ValueType::IntegerValue(-7), r#"{"integerValue":"-7"}"#),
        (
            ValueType::IntegerValue(i64::MAX),
            r#"{"integerValue":"9223372036854775807"}"#,
        ),
        (ValueType::DoubleValue(0.1), r#"{"doubleValue":0.1}"#),
        (ValueType::DoubleValue(-0.0), r#"{"doubleValue":-0.0}"#),
        (
            ValueType::DoubleValue(f64::INFINITY),
            r#"{"doubleValue":"Infinity"}"#,
        ),
        (
            ValueType::DoubleValue(f64::NEG_INFINITY),
            r#"{"doubleValue":"-Infinity"}"#,
        ),
        (
            ValueType::TimestampValue(timestamp(0, 0)),
            r#"{"timestampValue":"1970-01-01T00:00:00Z"}"#,
        ),
        (
            ValueType::TimestampValue(timestamp(-62_135_596_800, 1_000)),
            r#"{"timestampValue":"0001-01-01T00:00:00.000001Z"}"#,
        ),
        (
            ValueType::TimestampValue(timestamp(253_402_300_799, 500_000_000)),
            r#"{"timestampValue":"9999-12-31T23:59:59.500Z"}"#,
        ),
        (
            ValueType::StringValue("é\"\\\n\u{1}😀".to_owned()),
            r#"{"stringValue":"é\"\\\n\u0001😀"}"#,
        ),
        (
            ValueType::StringValue(String::new()),
            r#"{"stringValue":""}"#,
        ),
        (
            ValueType::BytesValue(vec![0xfb, 0xff, 0xfe, 1]),
            r#"{"bytesValue":"+//+AQ=="}"#,
        ),
        (
            ValueType::GeoPointValue(pb::LatLng {
                latitude: 1.5,
                longitude: 0.0,
            }),
            r#"{"geoPointValue":{"latitude":1.5}}"#,
        ),
        (
            ValueType::ArrayValue(pb::ArrayValue::default()),
            r#"{"arrayValue":{}}"#,
        ),
        (
            ValueType::MapValue(pb::MapValue {
                fields: BTreeMap::from([("a b".to_owned(), value(ValueType::NullValue(0)))]),
            }),
            r#"{"mapValue":{"fields":{"a b":{"nullValue":null}}}}"#,
        ),
    ];
    for (kind, text) in cases {
        assert_eq!(written(kind.clone()), text);
        assert_eq!(read(text), Some(kind), "{text}");
    }
    assert_eq!(
        written(ValueType::DoubleValue(f64::NAN)),
        r#"{"doubleValue":"NaN"}"#
    );
    let Some(ValueType::DoubleValue(nan)) = read(r#"{"doubleValue":"NaN"}"#) else {
        panic!("a double")
    };
    assert!(nan.is_nan());
}

#[test]
fn other_forms_are_taken_too() {
    let minus_zero = |text: &str| match read(text) {
        Some(ValueType::DoubleValue(number)) => number.to_bits() == (-0.0f64).to_bits(),
        _ => false,
    };
    for text in [
        r#"{"doubleValue":-0}"#,
        r#"{"doubleValue":"-0"}"#,
        r#"{"doubleValue":-0.0}"#,
    ] {
        assert!(minus_zero(text), "{text}");
    }
    let cases = [
        (r#"{"null_value":"NULL_VALUE"}"#, ValueType::NullValue(0)),
        (r#"{"nullValue":0}"#, ValueType::NullValue(0)),
        (r#"{"integerValue":12}"#, ValueType::IntegerValue(12)),
        (r#"{"integerValue":1e3}"#, ValueType::IntegerValue(1_000)),
        (r#"{"integer_value":"5.0"}"#, ValueType::IntegerValue(5)),
        (r#"{"doubleValue":3}"#, ValueType::DoubleValue(3.0)),
        (r#"{"doubleValue":"1.25"}"#, ValueType::DoubleValue(1.25)),
        (
            r#"{"doubleValue":2.2250738585072011e-308}"#,
            ValueType::DoubleValue(2.225_073_858_507_201e-308),
        ),
        (
            r#"{"bytesValue":"-__-AQ"}"#,
            ValueType::BytesValue(vec![0xfb, 0xff, 0xfe, 1]),
        ),
        (
            r#"{"bytesValue":"+//+AQ"}"#,
            ValueType::BytesValue(vec![0xfb, 0xff, 0xfe, 1]),
        ),
        (
            r#"{"timestampValue":"1970-01-01T01:00:00.5+01:00"}"#,
            ValueType::TimestampValue(timestamp(0, 500_000_000)),
        ),
        (
            r#"{"timestampValue":"1970-01-01T00:00:00.123456789Z"}"#,
            ValueType::TimestampValue(timestamp(0, 123_456_789)),
        ),
    ];
    for (text, kind) in cases {
        assert_eq!(read(text), Some(kind), "{text}");
    }
    assert_eq!(read(r#"{"stringValue":null}"#), None);
    assert_eq!(read("{}"), None);
    assert_eq!(
        read(r#"{"stringValue":null,"nullValue":null}"#),
        Some(ValueType::NullValue(0))
    );

    let query = r#"{"structured_query":{"from":{"collectionId":"c"},"limit":null,
        "orderBy":[{"field":{"fieldPath":"a"},"direction":2},{"direction":"ASCENDING"}],"offset":"3"}}"#;
    let request: pb::RunQueryRequest = decode(query.as_bytes()).unwrap();
    let Some(pb::run_query_request::QueryType::StructuredQuery(query)) = request.query_type else {
        panic!("a query")
    };
    assert_eq!((query.from.len(), query.offset, query.limit), (1, 3, None));
    let directions: Vec<i32> = query.order_by.iter().map(|order| order.direction).collect();
    assert_eq!(directions, [2, 1]);
}

#[test]
fn whole_messages() {
    let request: pb::CommitRequest =
        decode(br#"{"writes":[{"verify":"n","currentDocument":{"updateTime":"2026-01-01T00:00:00.000001Z"}}],"transaction":"AQ"}"#).unwrap();
    assert_eq!(request.transaction, [1]);
    assert_eq!(
        request.writes[0].operation,
        Some(pb::write::Operation::Verify("n".to_owned()))
    );
    let target = pb::Target {
        expected_count: Some(0),
        target_id: 4,
        ..pb::Target::default()
    };
    assert_eq!(encode(&target), r#"{"targetId":4,"expectedCount":0}"#);
    assert_eq!(
        decode::<pb::Target>(encode(&target).as_bytes()).unwrap(),
        target
    );
    let change = pb::TargetChange {
        target_change_type: 3,
        target_ids: vec![1, 2],
        ..pb::TargetChange::default()
    };
    assert_eq!(
        encode(&change),
        r#"{"targetChangeType":"CURRENT","targetIds":[1,2]}"#
    );
    let mut text = String::new();
    let style = Style {
        enumerations_as_numbers: true,
        only_ascii: true,
    };
    encode_onto(&mut text, &change, style);
    encode_onto(
        &mut text,
        &value(ValueType::StringValue("é😀\u{7f}".to_owned())),
        style,
    );
    assert_eq!(
        text,
        r#"{"targetChangeType":3,"targetIds":[1,2]}{"stringValue":"\u00e9\ud83d\ude00\u007f"}"#
    );
    assert_eq!(encode(&()), "{}");
}

#[test]
fn wrong_fields_are_told_with_their_places() {
    assert_eq!(
        refused::<pb::RunQueryRequest>(
            r#"{"structuredQuery":{"from":[{"foo":1}],"limit":"abc"},"x":{"y":[]}}"#
        ),
        "Invalid JSON payload received. Unknown name \"foo\" at 'structured_query.from[0]': Cannot find field.\n\
         Invalid value at 'structured_query.limit' (TYPE_INT32), \"abc\"\n\
         Invalid JSON payload received. Unknown name \"x\": Cannot find field."
    );
    let value_at = "'document.fields[1].value";
    let document = r#"{"document":{"fields":{"a":{"nullValue":null},"b":VALUE}}}"#;
    let cases = [
        (
            r#""ds""#,
            format!(
                "Invalid value at {value_at}' (type.googleapis.com/google.firestore.v1.Value), \"ds\""
            ),
        ),
        (
            r#"{"integerValue":1.5}"#,
            format!("Invalid value at {value_at}.integer_value' (TYPE_INT64), 1.5"),
        ),
        (
            r#"{"integerValue":9223372036854775808}"#,
            format!("Invalid value at {value_at}.integer_value' (TYPE_INT64), 9223372036854775808"),
        ),
        (
            r#"{"booleanValue":"yes"}"#,
            format!("Invalid value at {value_at}.boolean_value' (TYPE_BOOL), \"yes\""),
        ),
        (
            r#"{"stringValue":["a"]}"#,
            format!(
                "Invalid JSON payload received. Unknown name \"string_value\" at {value_at}': Proto field is not repeating, cannot start list."
            ),
        ),
        (
            r#"{"stringValue":{"a":1}}"#,
            format!(
                "Invalid value at {value_at}.string_value' (TYPE_STRING), Starting an object on a scalar field"
            ),
        ),
        (
            r#"{"stringValue":"a","integerValue":1}"#,
            format!(
                "Invalid value at {value_at}' (oneof), oneof field 'value_type' is already set. Cannot set 'integer_value'"
            ),
        ),
        (
            "null",
            format!(
                "Invalid value at {value_at}' (type.googleapis.com/google.firestore.v1.Value), null"
            ),
        ),
    ];
    for (value, complaint) in cases {
        let text = document.replace("VALUE", value);
        assert_eq!(refused::<pb::UpdateDocumentRequest>(&text), complaint);
    }
    for text in [
        "",
        "{",
        "[]x",
        "{\"name\":",
        "nul",
        "{}{}",
        "{\"name\":\"\\ud800\"}",
    ] {
        let complaint = refused::<pb::Document>(text);
        assert!(
            complaint.starts_with("Invalid JSON payload received. "),
            "{complaint}"
        );
    }
    let many = format!("{{{}\"z\":1}}", "\"x\":1,".repeat(1_000));
    assert_eq!(refused::<pb::Document>(&many).lines().count(), 50);
}

#[test]
fn parameters_of_an_address() {
    let parameters = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let mut request = pb::ListDocumentsRequest::default();
    let given = parameters(&[
        ("mask.fieldPaths", "a"),
        ("mask.field_paths", "b"),
        ("pageSize", "10"),
        ("showMissing", "true"),
        ("transaction", "AQ=="),
    ]);
    merge_parameters(&mut request, &given).unwrap();
    assert_eq!((request.page_size, request.show_missing), (10, true));
    let mut request = pb::UpdateDocumentRequest::default();
    let given = parameters(&[
        ("updateMask.fieldPaths", "a"),
        ("updateMask.fieldPaths", "b"),
        ("updateMask.fieldPaths", "c"),
        ("currentDocument.exists", "true"),
    ]);
    merge_parameters(&mut request, &given).unwrap();
    assert_eq!(request.update_mask.unwrap().field_paths, ["a", "b", "c"]);
    assert!(request.current_document.is_some());
    let wrong = parameters(&[
        ("foo", "1"),
        ("mask.bar", "2"),
        ("name", "n"),
        ("name.x", "n"),
    ]);
    let refusal = merge_parameters(&mut pb::GetDocumentRequest::default(), &wrong).unwrap_err();
    let unknown = |name: &str| {
        format!(
            "Invalid JSON payload received. Unknown name \"{name}\": Cannot bind query parameter. Field '{name}' could not be found in request message."
        )
    };
    let told = refusal.to_string();
    let mut told: Vec<&str> = told.lines().collect();
    told.sort_unstable();
    let mut expected = [unknown("foo"), unknown("mask.bar"), unknown("name.x")];
    expected.sort_unstable();
    assert_eq!(told, expected);
}

#[test]
fn the_value_of_one_field_alone() {
    let mut request = pb::UpdateDocumentRequest::default();
    merge_field(&mut request, "document", br#"{"name":"n"}"#).unwrap();
    assert_eq!(request.document.unwrap_or_default().name, "n");
    let mut request = pb::UpdateDocumentRequest::default();
    let refusal = merge_field(&mut request, "document", br#"{"nam":"n"}"#).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "Invalid JSON payload received. Unknown name \"nam\" at 'document': Cannot find field."
    );
    assert!(merge_field(&mut request, "document", br#"{}, "mask": {}"#).is_err());
}

#[test]
fn errors_with_their_details() {
    use prost::Message as _;
    let details = decode::<pb::Document>(br#"{"x":1}"#)
        .unwrap_err()
        .encode_details();
    let status = pb::Status::decode(details.as_slice()).unwrap();
    assert_eq!(
        encode_error(400, "INVALID_ARGUMENT", &status),
        r#"{"error":{"code":400,"message":"Invalid JSON payload received. Unknown name \"x\": Cannot find field.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"description":"Invalid JSON payload received. Unknown name \"x\": Cannot find field."}]}]}}"#
    );
    let status = crate::encode_status(crate::Code::NotFound, "no");
    assert_eq!(
        encode_error(404, "NOT_FOUND", &status),
        r#"{"error":{"code":404,"message":"no","status":"NOT_FOUND"}}"#
    );
    let unknown = pb::longrunning::Operation {
        metadata: Some(prost_types::Any {
            type_url: "a/b".to_owned(),
            value: vec![1],
        }),
        ..Default::default()
    };
    assert_eq!(
        encode(&unknown),
        r#"{"metadata":{"@type":"a/b","value":"AQ=="}}"#
    );
}
