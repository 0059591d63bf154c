//! Random values, paths and names for property tests, with the edges of the order among them.
//!
//! Exists only in this crate's tests.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::path::{DatabaseName, DocumentName, DocumentPath};
use crate::time::Timestamp;
use crate::value::{GeoPoint, Value};

/// Integers around every power of two, both ways, and any others.
pub(crate) fn integer() -> impl Strategy<Value = i64> {
    let near_power =
        (0_u32..64, -3_i64..=3, any::<bool>()).prop_map(|(power, offset, negative)| {
            let power = 1_i64.checked_shl(power).unwrap_or(i64::MAX);
            let number = power.wrapping_add(offset);
            if negative {
                number.wrapping_neg()
            } else {
                number
            }
        });
    let between = (9_007_199_254_740_992_i64..=i64::MAX, any::<bool>())
        .prop_map(|(number, negative)| if negative { -number } else { number });
    prop_oneof![
        -3_i64..=3,
        near_power,
        between,
        prop::sample::select(vec![i64::MIN, i64::MIN + 1, i64::MAX, i64::MAX - 1]),
        any::<i64>(),
    ]
}

/// Doubles: those nearest to integers and their neighbours, and every special one.
pub(crate) fn double() -> impl Strategy<Value = f64> {
    let special = vec![
        f64::NAN,
        -f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        f64::MIN_POSITIVE,
        -f64::MIN_POSITIVE,
        f64::from_bits(1),
        -f64::from_bits(1),
        f64::MAX,
        f64::MIN,
        9_223_372_036_854_775_808.0,
        -9_223_372_036_854_775_808.0,
    ];
    let near_integer = (integer(), -1_i64..=1).prop_map(|(integer, step)| {
        f64::from_bits((integer as f64).to_bits().wrapping_add_signed(step))
    });
    prop_oneof![
        prop::sample::select(special),
        near_integer,
        (-3_i64..=3).prop_map(|half| half as f64 / 2.0),
        any::<u64>().prop_map(f64::from_bits),
    ]
}

/// Short texts over an alphabet in which bytes, escapes and surrogates matter.
pub(crate) fn text() -> impl Strategy<Value = String> {
    let character = prop::sample::select(vec![
        '\0',
        '\u{1}',
        '\u{2}',
        '!',
        '.',
        'A',
        'a',
        'b',
        '\u{7f}',
        'é',
        '\u{d7ff}',
        '\u{e000}',
        '\u{ffff}',
        '\u{10000}',
        '\u{10ffff}',
    ]);
    prop::collection::vec(character, 0..5).prop_map(String::from_iter)
}

fn collection_id() -> impl Strategy<Value = String> {
    text().prop_map(|text| match text.as_str() {
        "" | "." | ".." => "c".to_owned(),
        _ => text,
    })
}

fn document_id() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => collection_id(),
        1 => integer().prop_map(|number| format!("__id{number}__")),
        1 => prop::sample::select(vec!["__id", "_", "__i", "id1__", "__id1_"]).prop_map(str::to_owned),
    ]
}

/// Paths of one to three collections.
pub(crate) fn path() -> impl Strategy<Value = DocumentPath> {
    prop::collection::vec((collection_id(), document_id()), 1..4).prop_map(|pairs| {
        let pairs: Vec<_> = pairs
            .into_iter()
            .map(|(collection, document)| format!("{collection}/{document}"))
            .collect();
        DocumentPath::parse(&pairs.join("/")).expect("made to be valid")
    })
}

fn database() -> impl Strategy<Value = DatabaseName> {
    (collection_id(), collection_id()).prop_map(|(project, database)| {
        DatabaseName::new(&project, &database).expect("made to be valid")
    })
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        prop::sample::select(vec![Timestamp::MIN, Timestamp::EPOCH, Timestamp::MAX]),
        (-1_000_000_i64..1_000_000)
            .prop_map(|micros| Timestamp::from_micros(micros).expect("made to be valid")),
        (Timestamp::MIN.micros()..=Timestamp::MAX.micros())
            .prop_map(|micros| Timestamp::from_micros(micros).expect("made to be valid")),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(
        prop::sample::select(vec![0, 1, 2, 3, 127, 128, 254, 255]),
        0..5,
    )
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Boolean),
        3 => integer().prop_map(Value::Integer),
        3 => double().prop_map(Value::Double),
        1 => timestamp().prop_map(Value::Timestamp),
        3 => text().prop_map(Value::String),
        2 => bytes().prop_map(Value::Bytes),
        2 => (database(), path())
            .prop_map(|(database, path)| Value::Reference(DocumentName { database, path })),
        1 => (double(), double()).prop_map(|(latitude, longitude)| {
            Value::GeoPoint(GeoPoint { latitude, longitude })
        }),
        1 => prop::collection::vec(double(), 0..4).prop_map(Value::Vector),
    ]
}

/// Any value, nested a few levels; arrays in arrays too, since the order is defined for them.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(text(), inner, 0..4)
                .prop_map(|map: BTreeMap<String, Value>| Value::Map(map)),
        ]
    })
}

/// A value and one that is equal to it or close by, so that ties and last differences are met.
pub(crate) fn neighbours() -> impl Strategy<Value = (Value, Value)> {
    (value(), value(), any::<u8>()).prop_map(|(value, other, choice)| {
        let near = vary(&value, &other, choice);
        (value, near)
    })
}

/// Changes one thing somewhere in the value, chosen by `choice`.
fn vary(value: &Value, other: &Value, choice: u8) -> Value {
    match value {
        Value::Integer(integer) => match choice % 4 {
            0 => Value::Double(*integer as f64),
            1 => Value::Integer(integer.wrapping_add(1)),
            2 => Value::Double(f64::from_bits((*integer as f64).to_bits() + 1)),
            _ => Value::Integer(*integer),
        },
        Value::Double(double) => match choice % 3 {
            0 => Value::Integer(*double as i64),
            1 => Value::Double(-double),
            _ => Value::Double(f64::from_bits(double.to_bits() ^ 1)),
        },
        Value::String(text) => Value::String(format!("{text}\0")),
        Value::Bytes(bytes) => Value::Bytes([bytes.as_slice(), &[choice % 3]].concat()),
        Value::Vector(numbers) => Value::Vector(numbers.iter().map(|number| -number).collect()),
        Value::Array(values) => {
            let mut values = values.clone();
            match (values.last_mut(), choice % 2) {
                (Some(last), 0) => *last = vary(last, other, choice / 2),
                (_, _) => values.push(other.clone()),
            }
            Value::Array(values)
        }
        Value::Map(map) => {
            let mut map = map.clone();
            match (map.values_mut().last(), choice % 2) {
                (Some(last), 0) => *last = vary(last, other, choice / 2),
                (_, _) => {
                    map.insert("a".to_owned(), other.clone());
                }
            }
            Value::Map(map)
        }
        Value::Null
        | Value::Boolean(_)
        | Value::Timestamp(_)
        | Value::Reference(_)
        | Value::GeoPoint(_) => value.clone(),
    }
}
