//! Documents with everything in them that an order or an index may trip over.

use std::collections::BTreeMap;

use watchfire_model::{
    DatabaseName, DocumentName, DocumentPath, FieldMask, FieldPath, Fields, GeoPoint, Operation,
    Precondition, Timestamp, Transform, TransformKind, Value, Write,
};

use crate::choices::Choices;

/// The same ids at several depths, below documents that exist and that do not.
const COLLECTIONS: [&str; 8] = [
    "c",
    "d",
    "c/x/c",
    "c/x/e",
    "d/y/c",
    "c/never/e",
    "c/__id7__/e/z/c",
    "cc",
];

pub const GROUPS: [&str; 4] = ["c", "d", "e", "cc"];

const IDS: [&str; 12] = [
    "x", "y", "z", "xy", "X", "__id7__", "__id-3__", "__id10__", "é", "x!", "_", "𝄞",
];

/// Fields that queries and indexes speak of; the last one is in no document.
pub const FIELDS: [&str; 12] = [
    "a", "b", "n", "s", "t", "u", "m", "m.x", "m.`a b`", "m.y", "m.y.z", "q",
];

/// What most values of a world are like.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Taste {
    /// Every type everywhere.
    Mixed,
    /// A few values, so that many are equal.
    Few,
    /// Texts and bytes around the length at which index entries are cut, alike up to their ends.
    Long,
    /// Fields have their usual type, with exceptions.
    Usual,
}

pub fn taste(choices: &mut Choices) -> Taste {
    [Taste::Mixed, Taste::Few, Taste::Long, Taste::Usual][choices.weighted(&[3, 3, 1, 3])]
}

pub fn database() -> DatabaseName {
    DatabaseName::new("p", "(default)").unwrap()
}

pub fn field(text: &str) -> FieldPath {
    FieldPath::parse(text).unwrap()
}

pub fn path(choices: &mut Choices) -> DocumentPath {
    let collection = if choices.percent(50) {
        "c"
    } else {
        choices.word(&COLLECTIONS)
    };
    let id = if choices.percent(40) {
        choices.word(&IDS).to_owned()
    } else {
        format!("k{}", choices.below(200))
    };
    DocumentPath::parse(&format!("{collection}/{id}")).unwrap()
}

pub fn reference(choices: &mut Choices) -> Value {
    let database = if choices.percent(8) {
        DatabaseName::new("p", "other").unwrap()
    } else {
        database()
    };
    Value::Reference(DocumentName {
        database,
        path: path(choices),
    })
}

fn long_text(choices: &mut Choices) -> String {
    let len = *choices.pick(&[1_480, 1_497, 1_498, 1_499, 1_500, 1_501, 1_700]);
    let filler = *choices.pick(&["x", "x", "x", "\0"]);
    format!(
        "{}{}",
        filler.repeat(len),
        choices.pick(&["", "", "1", "2", "\0"])
    )
}

fn integer(choices: &mut Choices) -> i64 {
    match choices.below(4) {
        0 => *choices.pick(&[
            i64::MIN,
            i64::MAX,
            9_007_199_254_740_992,
            9_007_199_254_740_993,
            -9_007_199_254_740_993,
        ]),
        1 => i64::try_from(choices.below(2_000)).unwrap() - 1_000,
        _ => i64::try_from(choices.below(5)).unwrap() - 1,
    }
}

fn double(choices: &mut Choices) -> f64 {
    *choices.pick(&[
        -0.0,
        0.0,
        1.0,
        2.0,
        3.0,
        2.5,
        -1.0,
        9_007_199_254_740_992.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
    ])
}

fn number(choices: &mut Choices) -> Value {
    if choices.percent(60) {
        Value::Integer(integer(choices))
    } else {
        Value::Double(double(choices))
    }
}

fn text(choices: &mut Choices) -> Value {
    Value::String((*choices.pick(&["", "a", "ab", "b", "a\0", "\u{ffff}", "𝄞", "~"])).to_owned())
}

pub fn scalar(choices: &mut Choices, taste: Taste) -> Value {
    match taste {
        Taste::Few if choices.percent(92) => {
            return choices
                .pick(&[
                    Value::Integer(1),
                    Value::Double(1.0),
                    Value::Integer(2),
                    Value::String("a".to_owned()),
                    Value::Null,
                ])
                .clone();
        }
        Taste::Long if choices.percent(85) => {
            let text = long_text(choices);
            return if choices.percent(80) {
                Value::String(text)
            } else {
                Value::Bytes(text.into_bytes())
            };
        }
        Taste::Mixed | Taste::Few | Taste::Long | Taste::Usual => {}
    }
    match choices.weighted(&[2, 2, 6, 2, 5, 2, 2, 2, 1, 2]) {
        0 => Value::Null,
        1 => Value::Boolean(choices.percent(50)),
        2 => number(choices),
        3 => Value::Timestamp(
            Timestamp::from_micros(*choices.pick(&[-62_135_596_800_000_000, 0, 1, 1_000_000]))
                .unwrap(),
        ),
        4 => text(choices),
        5 => Value::Bytes(
            choices
                .pick(&[vec![], vec![0], vec![0, 1], vec![255], vec![255, 0]])
                .clone(),
        ),
        6 => reference(choices),
        7 => Value::GeoPoint(GeoPoint {
            latitude: *choices.pick(&[-90.0, -0.0, 0.0, 1.5]),
            longitude: *choices.pick(&[-180.0, 0.0, 3.0]),
        }),
        8 => Value::String(long_text(choices)),
        _ => vector(choices),
    }
}

pub fn vector(choices: &mut Choices) -> Value {
    let len = *choices.pick(&[0, 1, 2, 2, 2]);
    Value::Vector((0..len).map(|_| double(choices)).collect())
}

fn array(choices: &mut Choices, taste: Taste) -> Value {
    let len = choices.below(5);
    Value::Array(
        (0..len)
            .map(|_| {
                if choices.percent(8) {
                    Value::Map(BTreeMap::from([("x".to_owned(), scalar(choices, taste))]))
                } else {
                    scalar(choices, taste)
                }
            })
            .collect(),
    )
}

fn map(choices: &mut Choices, taste: Taste) -> Value {
    let mut fields = BTreeMap::new();
    if choices.percent(75) {
        fields.insert("x".to_owned(), value(choices, taste, false));
    }
    if choices.percent(50) {
        fields.insert("a b".to_owned(), scalar(choices, taste));
    }
    if choices.percent(60) {
        let inner = if choices.percent(70) {
            Value::Map(BTreeMap::from([("z".to_owned(), scalar(choices, taste))]))
        } else {
            scalar(choices, taste)
        };
        fields.insert("y".to_owned(), inner);
    }
    Value::Map(fields)
}

/// Any value; maps only when they are wanted.
pub fn value(choices: &mut Choices, taste: Taste, maps: bool) -> Value {
    match choices.below(10) {
        0 => array(choices, taste),
        1 if maps => map(choices, taste),
        _ => scalar(choices, taste),
    }
}

pub fn fields(choices: &mut Choices, taste: Taste) -> Fields {
    let mut fields = Fields::new();
    let exception = |choices: &mut Choices| taste != Taste::Usual || choices.percent(10);
    for name in ["a", "b"] {
        if choices.percent(85) {
            fields.insert(name.to_owned(), value(choices, taste, true));
        }
    }
    if choices.percent(85) {
        let value = if exception(choices) {
            scalar(choices, taste)
        } else {
            number(choices)
        };
        fields.insert("n".to_owned(), value);
    }
    if choices.percent(85) {
        let value = if exception(choices) {
            value(choices, taste, false)
        } else {
            text(choices)
        };
        fields.insert("s".to_owned(), value);
    }
    for name in ["t", "u"] {
        if choices.percent(60) {
            let value = if choices.percent(10) {
                scalar(choices, taste)
            } else {
                array(choices, taste)
            };
            fields.insert(name.to_owned(), value);
        }
    }
    if choices.percent(65) {
        fields.insert("m".to_owned(), map(choices, taste));
    }
    if choices.percent(30) {
        fields.insert("v".to_owned(), vector(choices));
    }
    fields
}

/// A write of any document, mostly one that puts the whole of it.
pub fn write(choices: &mut Choices, taste: Taste, known: &[DocumentPath]) -> Write {
    let path = if known.is_empty() || choices.percent(50) {
        path(choices)
    } else {
        choices.pick(known).clone()
    };
    let mut transforms = Vec::new();
    let operation = match choices.weighted(&[60, 20, 20]) {
        0 => Operation::Set(fields(choices, taste)),
        1 => Operation::Delete,
        _ => {
            let mask = (0..choices.between(0, 3))
                .map(|_| field(choices.word(&["a", "b", "n", "t", "m.x", "m.y.z", "m"])))
                .collect::<Vec<_>>();
            // A field and one within it cannot both be written.
            let mask = match mask.iter().any(|path| path.segments().len() == 1) {
                true => mask
                    .into_iter()
                    .filter(|path| path.segments().len() == 1)
                    .collect(),
                false => mask,
            };
            if choices.percent(40) {
                transforms.push(Transform {
                    field: field("s"),
                    kind: match choices.below(3) {
                        0 => TransformKind::Increment(Value::Integer(1)),
                        1 => TransformKind::AppendMissing(vec![scalar(choices, taste)]),
                        _ => TransformKind::RequestTime,
                    },
                });
            }
            let mut kept = Fields::new();
            let all = fields(choices, taste);
            for path in &mask {
                if let Some(value) = path.get(&all) {
                    path.set(&mut kept, value.clone());
                }
            }
            Operation::Patch {
                fields: kept,
                mask: FieldMask::new(mask),
            }
        }
    };
    Write {
        path,
        operation,
        precondition: Precondition::None,
        transforms,
    }
}
