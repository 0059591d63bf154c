//! The kinds of values: how each is written, and everything that is taken for one.

mod free;

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::Deserializer;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::json::Message;
use crate::json::read::{self, Reading};
use crate::json::write::Writer;

pub use crate::json::kind::free::{Any, Struct};

/// What a field may hold.
pub trait Kind {
    /// Its Rust type.
    type Value: Default;

    /// How complaints call it.
    fn name() -> String;

    /// Whether absence means this value.
    fn is_default(value: &Self::Value) -> bool;

    fn write(value: &Self::Value, writer: &mut Writer<'_>);

    /// Reads a value; `false` when there is a null in its place. What is no such value is a complaint, not an error.
    fn read<'de, D: Deserializer<'de>>(
        value: &mut Self::Value,
        from: D,
        reading: &mut Reading,
    ) -> Result<bool, D::Error>;
}

/// Kinds that are one word of JSON: `None` is what is no such value.
pub trait Word {
    type Value: Default + PartialEq;

    fn kind_name() -> String;

    fn of_text(text: &str) -> Option<Self::Value>;

    fn of_integer(_: i64) -> Option<Self::Value> {
        None
    }

    fn of_double(_: f64) -> Option<Self::Value> {
        None
    }

    fn of_bool(_: bool) -> Option<Self::Value> {
        None
    }

    fn of_null() -> Option<Self::Value> {
        None
    }

    fn is_absent(value: &Self::Value) -> bool {
        *value == Self::Value::default()
    }

    fn spell(value: &Self::Value, writer: &mut Writer<'_>);
}

impl<W: Word> Kind for W {
    type Value = W::Value;

    fn name() -> String {
        W::kind_name()
    }

    fn is_default(value: &Self::Value) -> bool {
        W::is_absent(value)
    }

    fn write(value: &Self::Value, writer: &mut Writer<'_>) {
        W::spell(value, writer);
    }

    fn read<'de, D: Deserializer<'de>>(
        value: &mut Self::Value,
        from: D,
        reading: &mut Reading,
    ) -> Result<bool, D::Error> {
        from.deserialize_any(WordVisitor::<W> { value, reading })
    }
}

struct WordVisitor<'a, W: Word> {
    value: &'a mut W::Value,
    reading: &'a mut Reading,
}

impl<W: Word> WordVisitor<'_, W> {
    fn take<E>(self, read: Option<W::Value>, found: impl fmt::Display) -> Result<bool, E> {
        match read {
            Some(value) => *self.value = value,
            None => self.reading.wrong_value(W::kind_name(), found),
        }
        Ok(true)
    }
}

impl<'de, W: Word> Visitor<'de> for WordVisitor<'_, W> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&W::kind_name())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        self.take(W::of_text(text), format_args!("\"{text}\""))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<bool, E> {
        self.take(W::of_integer(number), number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<bool, E> {
        match i64::try_from(number) {
            Ok(number) => self.visit_i64(number),
            Err(_) => self.take(W::of_double(number as f64), number),
        }
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<bool, E> {
        self.take(W::of_double(number), number)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        self.take(W::of_bool(value), value)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        match W::of_null() {
            Some(value) => {
                *self.value = value;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<bool, A::Error> {
        read::drain(access)?;
        self.reading.not_repeating();
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<bool, A::Error> {
        while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.reading
            .wrong_value(W::kind_name(), "Starting an object on a scalar field");
        Ok(true)
    }
}

/// `bool`.
pub enum Bool {}

impl Word for Bool {
    type Value = bool;

    fn kind_name() -> String {
        "TYPE_BOOL".to_owned()
    }

    fn of_text(text: &str) -> Option<bool> {
        match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    fn of_bool(value: bool) -> Option<bool> {
        Some(value)
    }

    fn spell(value: &bool, writer: &mut Writer<'_>) {
        writer.raw(if *value { "true" } else { "false" });
    }
}

/// A whole number that is written with a decimal point or an exponent, or none.
fn whole(number: f64) -> Option<i64> {
    // The end of the range is the first double beyond it.
    let range = -9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0;
    (range.contains(&number) && number.fract() == 0.0).then_some(number as i64)
}

/// What is a number as JSON writes them, nothing else that Rust would take.
fn is_number(text: &str) -> bool {
    text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
}

fn integer_of_text(text: &str) -> Option<i64> {
    if !is_number(text) {
        return None;
    }
    i64::from_str(text)
        .ok()
        .or_else(|| f64::from_str(text).ok().and_then(whole))
}

/// `int32`.
pub enum Int32 {}

impl Word for Int32 {
    type Value = i32;

    fn kind_name() -> String {
        "TYPE_INT32".to_owned()
    }

    fn of_text(text: &str) -> Option<i32> {
        integer_of_text(text).and_then(Self::of_integer)
    }

    fn of_integer(number: i64) -> Option<i32> {
        i32::try_from(number).ok()
    }

    fn of_double(number: f64) -> Option<i32> {
        whole(number).and_then(Self::of_integer)
    }

    fn spell(value: &i32, writer: &mut Writer<'_>) {
        writer.formatted(format_args!("{value}"));
    }
}

/// `int64`, which is a text: not every reader's numbers hold it.
pub enum Int64 {}

impl Word for Int64 {
    type Value = i64;

    fn kind_name() -> String {
        "TYPE_INT64".to_owned()
    }

    fn of_text(text: &str) -> Option<i64> {
        integer_of_text(text)
    }

    fn of_integer(number: i64) -> Option<i64> {
        Some(number)
    }

    fn of_double(number: f64) -> Option<i64> {
        whole(number)
    }

    fn spell(value: &i64, writer: &mut Writer<'_>) {
        writer.formatted(format_args!("\"{value}\""));
    }
}

/// `double`.
pub enum Double {}

impl Word for Double {
    type Value = f64;

    fn kind_name() -> String {
        "TYPE_DOUBLE".to_owned()
    }

    fn of_text(text: &str) -> Option<f64> {
        match text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text if is_number(text) => f64::from_str(text).ok().filter(|number| number.is_finite()),
            _ => None,
        }
    }

    fn of_integer(number: i64) -> Option<f64> {
        Some(number as f64)
    }

    fn of_double(number: f64) -> Option<f64> {
        Some(number)
    }

    fn is_absent(value: &f64) -> bool {
        value.to_bits() == 0
    }

    fn spell(value: &f64, writer: &mut Writer<'_>) {
        if value.is_nan() {
            writer.raw("\"NaN\"");
        } else if value.is_infinite() {
            writer.raw(if *value > 0.0 {
                "\"Infinity\""
            } else {
                "\"-Infinity\""
            });
        } else {
            writer.formatted(format_args!("{value:?}"));
        }
    }
}

/// `string`.
pub enum Text {}

impl Word for Text {
    type Value = String;

    fn kind_name() -> String {
        "TYPE_STRING".to_owned()
    }

    fn of_text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn spell(value: &String, writer: &mut Writer<'_>) {
        writer.quoted(value);
    }
}

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD_ALPHABET: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_ALPHABET: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// `bytes`, in base64.
pub enum Bytes {}

impl Word for Bytes {
    type Value = Vec<u8>;

    fn kind_name() -> String {
        "TYPE_BYTES".to_owned()
    }

    fn of_text(text: &str) -> Option<Vec<u8>> {
        if text.contains(['-', '_']) {
            URL_ALPHABET.decode(text).ok()
        } else {
            STANDARD_ALPHABET.decode(text).ok()
        }
    }

    fn spell(value: &Vec<u8>, writer: &mut Writer<'_>) {
        writer.raw("\"");
        writer.raw(&STANDARD.encode(value));
        writer.raw("\"");
    }
}

/// An enumeration. Implemented by the build.
pub trait Named {
    /// Its full name in the protocol.
    const NAME: &'static str;

    fn name(number: i32) -> Option<&'static str>;

    fn number(name: &str) -> Option<i32>;
}

/// A value of an enumeration. Numbers without a name are kept.
pub struct Enumeration<E>(PhantomData<E>);

impl<E: Named> Word for Enumeration<E> {
    type Value = i32;

    fn kind_name() -> String {
        format!("type.googleapis.com/{}", E::NAME)
    }

    fn of_text(text: &str) -> Option<i32> {
        E::number(text).or_else(|| Int32::of_text(text))
    }

    fn of_integer(number: i64) -> Option<i32> {
        i32::try_from(number).ok()
    }

    fn of_double(number: f64) -> Option<i32> {
        Int32::of_double(number)
    }

    fn spell(value: &i32, writer: &mut Writer<'_>) {
        match E::name(*value) {
            Some(name) if !writer.style.enumerations_as_numbers => writer.quoted(name),
            Some(_) | None => Int32::spell(value, writer),
        }
    }
}

/// `google.protobuf.NullValue`: the one kind that null is a value of.
pub enum Null {}

impl Word for Null {
    type Value = i32;

    fn kind_name() -> String {
        "type.googleapis.com/google.protobuf.NullValue".to_owned()
    }

    fn of_text(text: &str) -> Option<i32> {
        (text == "NULL_VALUE").then_some(0)
    }

    fn of_integer(number: i64) -> Option<i32> {
        (number == 0).then_some(0)
    }

    fn of_null() -> Option<i32> {
        Some(0)
    }

    fn spell(_: &i32, writer: &mut Writer<'_>) {
        writer.raw("null");
    }
}

/// `google.protobuf.Timestamp`, by RFC 3339.
pub enum Timestamp {}

impl Word for Timestamp {
    type Value = prost_types::Timestamp;

    fn kind_name() -> String {
        "type.googleapis.com/google.protobuf.Timestamp".to_owned()
    }

    fn of_text(text: &str) -> Option<prost_types::Timestamp> {
        // The library takes dates alone, and times without a zone, which the standard does not.
        let zoned = text.ends_with(['Z', 'z'])
            || text
                .bytes()
                .rev()
                .nth(5)
                .is_some_and(|sign| matches!(sign, b'+' | b'-'));
        let timed = matches!(text.as_bytes().get(10), Some(b'T' | b't'));
        if zoned && timed {
            text.parse().ok()
        } else {
            None
        }
    }

    fn spell(value: &prost_types::Timestamp, writer: &mut Writer<'_>) {
        writer.formatted(format_args!("\"{value}\""));
    }
}

/// `google.protobuf.Duration`: seconds and an s.
pub enum Duration {}

impl Word for Duration {
    type Value = prost_types::Duration;

    fn kind_name() -> String {
        "type.googleapis.com/google.protobuf.Duration".to_owned()
    }

    fn of_text(text: &str) -> Option<prost_types::Duration> {
        text.parse().ok()
    }

    fn spell(value: &prost_types::Duration, writer: &mut Writer<'_>) {
        writer.formatted(format_args!("\"{value}\""));
    }
}

/// `google.protobuf.FieldMask`: one text, with commas between the paths, whose words are written in camel case.
pub enum FieldMask {}

impl Word for FieldMask {
    type Value = prost_types::FieldMask;

    fn kind_name() -> String {
        "type.googleapis.com/google.protobuf.FieldMask".to_owned()
    }

    fn of_text(text: &str) -> Option<prost_types::FieldMask> {
        let paths = text.split(',').filter(|path| !path.is_empty());
        Some(prost_types::FieldMask {
            paths: paths.map(to_snake_case).collect(),
        })
    }

    fn spell(value: &prost_types::FieldMask, writer: &mut Writer<'_>) {
        let paths: Vec<String> = value.paths.iter().map(|path| to_camel_case(path)).collect();
        writer.quoted(&paths.join(","));
    }
}

fn to_snake_case(path: &str) -> String {
    let mut snake = String::with_capacity(path.len() + 4);
    for letter in path.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn to_camel_case(path: &str) -> String {
    let mut camel = String::with_capacity(path.len());
    let mut begins_word = false;
    for letter in path.chars() {
        match letter {
            '_' => begins_word = true,
            letter if begins_word => {
                camel.push(letter.to_ascii_uppercase());
                begins_word = false;
            }
            letter => camel.push(letter),
        }
    }
    camel
}

/// A message of the protocol.
pub struct Nested<M>(PhantomData<M>);

impl<M: Message> Kind for Nested<M> {
    type Value = M;

    fn name() -> String {
        format!("type.googleapis.com/{}", M::NAME)
    }

    fn is_default(_: &M) -> bool {
        false
    }

    fn write(value: &M, writer: &mut Writer<'_>) {
        writer.object(|object| value.write(object));
    }

    fn read<'de, D: Deserializer<'de>>(
        value: &mut M,
        from: D,
        reading: &mut Reading,
    ) -> Result<bool, D::Error> {
        read::nested(value, from, reading)
    }
}
