//! Round trips of arbitrary values, and the table of refusals.

use proptest::prelude::*;
use prost::Message;

use super::*;

fn timestamps() -> impl Strategy<Value = Timestamp> {
    (Timestamp::MIN.micros()..=Timestamp::MAX.micros())
        .prop_map(|micros| Timestamp::from_micros(micros).unwrap())
}

fn doubles() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        Just(f64::NAN),
        Just(-0.0),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY)
    ]
    .prop_map(|double| if double.is_nan() { f64::NAN } else { double })
}

fn references() -> impl Strategy<Value = Value> {
    ("[a-z]{1,5}", "[a-zA-Z0-9 ü]{1,8}", "[a-z]{1,5}").prop_map(|(collection, id, database)| {
        let name = format!("projects/p/databases/{database}/documents/{collection}/{id}");
        Value::Reference(DocumentName::parse(&name).unwrap())
    })
}

/// Any value of the model; map keys never mark a vector.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        doubles().prop_map(Value::Double),
        timestamps().prop_map(Value::Timestamp),
        any::<String>().prop_map(Value::String),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
        references(),
        (-90.0..=90.0_f64, -180.0..=180.0_f64).prop_map(|(latitude, longitude)| {
            Value::GeoPoint(GeoPoint {
                latitude,
                longitude,
            })
        }),
        prop::collection::vec(doubles(), 0..6).prop_map(Value::Vector),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map("[a-zA-Z.` ü]{0,6}", inner, 0..6).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_survive_the_wire(value in values()) {
        let bytes = encode_value(&value).encode_to_vec();
        let back = decode_value(pb::Value::decode(bytes.as_slice()).unwrap()).unwrap();
        prop_assert!(back.identical(&value), "{value:?} became {back:?}");
        prop_assert_eq!(encode_value(&back).encode_to_vec(), bytes);
    }

    #[test]
    fn moments_survive_the_wire(timestamp in timestamps(), below in 0..1_000_i32) {
        let mut message = encode_timestamp(timestamp);
        message.nanos += below;
        prop_assert_eq!(decode_timestamp(message).unwrap(), timestamp);
    }
}

fn wire(value_type: ValueType) -> pb::Value {
    pb::Value {
        value_type: Some(value_type),
    }
}

fn text(text: &str) -> pb::Value {
    wire(ValueType::StringValue(text.to_owned()))
}

fn array(values: Vec<pb::Value>) -> pb::Value {
    wire(ValueType::ArrayValue(pb::ArrayValue { values }))
}

fn map<const N: usize>(fields: [(&str, pb::Value); N]) -> pb::Value {
    let fields = fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    wire(ValueType::MapValue(pb::MapValue { fields }))
}

fn place(latitude: f64, longitude: f64) -> pb::Value {
    wire(ValueType::GeoPointValue(pb::LatLng {
        latitude,
        longitude,
    }))
}

fn moment(seconds: i64, nanos: i32) -> pb::Value {
    wire(ValueType::TimestampValue(prost_types::Timestamp {
        seconds,
        nanos,
    }))
}

#[test]
fn wrong_values_are_refused_by_name() {
    let unset = || pb::Value { value_type: None };
    let one = || wire(ValueType::DoubleValue(1.0));
    for (value, expected) in [
        (unset(), "Value.value_type must be set"),
        (array(vec![unset()]), "Value.value_type must be set"),
        (map([("a", unset())]), "Value.value_type must be set"),
        (place(90.1, 0.0), "latitude"),
        (place(0.0, -180.1), "longitude"),
        (place(f64::NAN, 0.0), "latitude"),
        (moment(-62_135_596_801, 0), "seconds of a timestamp"),
        (moment(253_402_300_800, 0), "seconds of a timestamp"),
        (moment(0, -1), "nanoseconds"),
        (moment(0, 1_000_000_000), "nanoseconds"),
        (
            map([("__type__", text("__vector__"))]),
            "array of doubles in the field 'value'",
        ),
        (
            map([("__type__", text("__vector__")), ("value", one())]),
            "array of doubles in the field 'value'",
        ),
        (
            map([
                ("__type__", text("__vector__")),
                ("value", array(vec![one()])),
                ("x", one()),
            ]),
            "but has 'x'",
        ),
        (
            map([
                ("__type__", text("__vector__")),
                ("value", array(vec![text("1")])),
            ]),
            "doubles only",
        ),
    ] {
        let refusal = decode_value(value.clone()).unwrap_err();
        assert!(matches!(refusal, Refusal::Invalid(_)), "{value:?}");
        assert!(
            refusal.to_string().contains(expected),
            "{value:?}: {refusal}"
        );
    }
    for name in [
        "c/d",
        "projects/p/databases/d/documents",
        "projects/p/databases/d/documents/c",
    ] {
        let value = wire(ValueType::ReferenceValue(name.to_owned()));
        assert!(
            matches!(decode_value(value), Err(Refusal::Invalid(_))),
            "{name}"
        );
    }
}

#[test]
fn values_of_pipelines_are_not_supported() {
    for (value_type, expected) in [
        (
            ValueType::FieldReferenceValue("a".to_owned()),
            "Value.field_reference_value",
        ),
        (
            ValueType::VariableReferenceValue("a".to_owned()),
            "Value.variable_reference_value",
        ),
        (
            ValueType::FunctionValue(pb::Function::default()),
            "Value.function_value",
        ),
        (
            ValueType::PipelineValue(pb::Pipeline::default()),
            "Value.pipeline_value",
        ),
    ] {
        let refusal = decode_value(array(vec![wire(value_type)])).unwrap_err();
        assert_eq!(refusal, Refusal::unimplemented(expected));
        assert_eq!(
            refusal.to_string(),
            format!("{expected} is not supported by this server")
        );
    }
}

#[test]
fn every_nan_is_the_same() {
    let odd = f64::from_bits(f64::NAN.to_bits() | 1 | 1 << 63);
    let Ok(Value::Double(double)) = decode_value(wire(ValueType::DoubleValue(odd))) else {
        panic!("a NaN must be a double");
    };
    assert_eq!(double.to_bits(), f64::NAN.to_bits());
}

#[test]
fn a_marked_map_is_a_vector() {
    let numbers = array(vec![wire(ValueType::DoubleValue(1.5))]);
    let vector = map([("__type__", text("__vector__")), ("value", numbers)]);
    let decoded = decode_value(vector.clone()).unwrap();
    assert!(matches!(&decoded, Value::Vector(numbers) if numbers == &[1.5]));
    assert_eq!(encode_value(&decoded), vector);
    // Another marker is an ordinary map here; whether it may be stored is the model's business.
    let other = decode_value(map([("__type__", text("x"))])).unwrap();
    assert!(matches!(other, Value::Map(_)));
}
