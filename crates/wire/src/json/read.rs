//! Making messages of text as it is parsed, and remembering what is wrong with it.
//!
//! A complaint does not end the reading: callers are told of all. Its place is put together on the way out of the nesting, so
//! that a text without fault pays nothing for it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{
    BoolDeserializer, F64Deserializer, I64Deserializer, MapAccessDeserializer, StrDeserializer,
    U64Deserializer,
};
use serde::de::{
    DeserializeSeed, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::{Deserialize, Deserializer};
use serde_json::Value as Tree;

use crate::json::Message;
use crate::json::complaint::{Complaint, Step, Violation};
use crate::json::kind::Kind;
use crate::json::refusal::JsonRefusal;
use crate::pb::google::rpc::bad_request::FieldViolation;

/// Complaints about one text; further ones are not told.
pub const VIOLATIONS_MAX: usize = 50;

/// Letters of a caller's text that are repeated to it.
const FOUND_LEN_MAX: usize = 100;

/// Parts of a parameter's name, between its dots; no request nests as deep.
const PARAMETER_DEPTH_MAX: usize = 16;

/// What is known while a text is read.
pub struct Reading {
    violations: Vec<Violation>,
    parameters: bool,
}

impl Reading {
    pub(super) fn body() -> Self {
        Self {
            violations: Vec::new(),
            parameters: false,
        }
    }

    pub(super) fn parameters() -> Self {
        Self {
            violations: Vec::new(),
            parameters: true,
        }
    }

    /// The verdict.
    pub(super) fn end(self, read: Result<(), serde_json::Error>) -> Result<(), JsonRefusal> {
        let mut violations: Vec<FieldViolation> = Vec::new();
        for violation in &self.violations {
            violations.push(violation.told());
        }
        match read {
            Err(error) => Err(JsonRefusal::syntax(&error.to_string())),
            Ok(()) if violations.is_empty() => Ok(()),
            Ok(()) => Err(JsonRefusal::of(violations)),
        }
    }

    fn complain(&mut self, complaint: Complaint) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation {
                way: Vec::new(),
                complaint,
            });
        }
    }

    /// A value of another kind than the field's.
    pub(super) fn wrong_value(
        &mut self,
        kind: impl Into<Cow<'static, str>>,
        found: impl fmt::Display,
    ) {
        let mut found = found.to_string();
        if let Some((end, _)) = found.char_indices().nth(FOUND_LEN_MAX) {
            found.truncate(end);
            found.push_str("...");
        }
        self.complain(Complaint::WrongValue {
            kind: kind.into(),
            found,
        });
    }

    /// A list where one value should stand.
    pub(super) fn not_repeating(&mut self) {
        self.complain(Complaint::NotRepeating);
    }

    /// Reads something at this step of the way: its complaints stand below it.
    fn at<T>(&mut self, step: Step, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.violations.len();
        let read = read(self);
        for violation in self.violations.iter_mut().skip(before) {
            violation.way.push(step);
        }
        read
    }
}

/// Reads a message.
pub(super) fn message<'de, M: Message, D: Deserializer<'de>>(
    message: &mut M,
    from: D,
    reading: &mut Reading,
) -> Result<(), D::Error> {
    nested(message, from, reading).map(|_| ())
}

/// Reads the value of one field of a message, where the text is that value alone.
pub(super) fn field<'de, M: Message, R: serde_json::de::Read<'de>>(
    message: &mut M,
    name: &str,
    parser: &mut serde_json::Deserializer<R>,
    reading: &mut Reading,
) -> Result<(), serde_json::Error> {
    match M::field(name) {
        Some((index, name)) => reading.at(Step::Field(name), |reading| {
            message.read(index, &mut Alone(parser), reading)
        }),
        None => {
            reading.complain(Complaint::UnknownName(name.to_owned()));
            IgnoredAny::deserialize(parser).map(|_| ())
        }
    }
}

/// A value without its name.
struct Alone<'p, R>(&'p mut serde_json::Deserializer<R>);

impl<'de, R: serde_json::de::Read<'de>> MapAccess<'de> for Alone<'_, R> {
    type Error = serde_json::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        _: K,
    ) -> Result<Option<K::Value>, serde_json::Error> {
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, serde_json::Error> {
        seed.deserialize(&mut *self.0)
    }
}

/// Reads a message; `false` when there is a null in its place.
pub(super) fn nested<'de, M: Message, D: Deserializer<'de>>(
    message: &mut M,
    from: D,
    reading: &mut Reading,
) -> Result<bool, D::Error> {
    from.deserialize_any(MessageVisitor { message, reading })
}

struct MessageVisitor<'a, M> {
    message: &'a mut M,
    reading: &'a mut Reading,
}

impl<M: Message> MessageVisitor<'_, M> {
    fn wrong<E>(self, found: impl fmt::Display) -> Result<bool, E> {
        let kind = format!("type.googleapis.com/{}", M::NAME);
        self.reading.wrong_value(kind, found);
        Ok(true)
    }
}

impl<'de, M: Message> Visitor<'de> for MessageVisitor<'_, M> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message {}", M::NAME)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<bool, A::Error> {
        let Self { message, reading } = self;
        while let Some(name) = access.next_key_seed(FieldName::<M>(PhantomData))? {
            match name {
                Ok((index, name)) => reading.at(Step::Field(name), |reading| {
                    message.read(index, &mut access, reading)
                })?,
                Err(unknown) => {
                    access.next_value::<IgnoredAny>()?;
                    reading.complain(if reading.parameters {
                        Complaint::UnknownParameter(unknown)
                    } else {
                        Complaint::UnknownName(unknown)
                    });
                }
            }
        }
        Ok(true)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<bool, A::Error> {
        drain(access)?;
        self.reading.not_repeating();
        Ok(true)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        self.wrong(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<bool, E> {
        self.wrong(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<bool, E> {
        self.wrong(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<bool, E> {
        self.wrong(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<bool, E> {
        self.wrong(format_args!("\"{value}\""))
    }
}

/// The name of a field of `M`, or a name that is none.
struct FieldName<M>(PhantomData<M>);

impl<'de, M: Message> DeserializeSeed<'de> for FieldName<M> {
    type Value = Result<(usize, &'static str), String>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de, M: Message> Visitor<'de> for FieldName<M> {
    type Value = Result<(usize, &'static str), String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(M::field(name).ok_or_else(|| name.to_owned()))
    }
}

/// Reads into a value of kind `K`; `false` when there is a null in its place.
struct Slot<'a, K: Kind> {
    value: &'a mut K::Value,
    reading: &'a mut Reading,
}

impl<'de, K: Kind> DeserializeSeed<'de> for Slot<'_, K> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        K::read(self.value, from, self.reading)
    }
}

/// The value of a field that is always there.
pub(super) fn plain<'de, K: Kind, A: MapAccess<'de>>(
    access: &mut A,
    value: &mut K::Value,
    reading: &mut Reading,
) -> Result<(), A::Error> {
    access.next_value_seed(Slot::<K> { value, reading })?;
    Ok(())
}

/// The value of a field that may be absent, which null means too.
pub(super) fn optional<'de, K: Kind, A: MapAccess<'de>>(
    access: &mut A,
    slot: &mut Option<K::Value>,
    reading: &mut Reading,
) -> Result<(), A::Error> {
    let absent = slot.is_none();
    let value = slot.get_or_insert_with(K::Value::default);
    let given = access.next_value_seed(Slot::<K> { value, reading })?;
    if absent && !given {
        *slot = None;
    }
    Ok(())
}

/// The value of one member of a choice; nothing when it is null or another is chosen already.
pub(super) fn variant<'de, K: Kind, A: MapAccess<'de>>(
    access: &mut A,
    taken: bool,
    (oneof, name): (&'static str, &'static str),
    reading: &mut Reading,
) -> Result<Option<K::Value>, A::Error> {
    let mut value = K::Value::default();
    let given = access.next_value_seed(Slot::<K> {
        value: &mut value,
        reading,
    })?;
    if given && taken {
        reading.complain(Complaint::Taken { oneof, name });
    }
    Ok((given && !taken).then_some(value))
}

/// The values of a list, or one value in its place.
pub(super) fn repeated<'de, K: Kind, A: MapAccess<'de>>(
    access: &mut A,
    values: &mut Vec<K::Value>,
    reading: &mut Reading,
) -> Result<(), A::Error> {
    values.clear();
    access.next_value_seed(List::<K> { values, reading })
}

/// The entries of a map.
pub(super) fn map<'de, K: Kind, A: MapAccess<'de>>(
    access: &mut A,
    entries: &mut BTreeMap<String, K::Value>,
    reading: &mut Reading,
) -> Result<(), A::Error> {
    access.next_value_seed(Entries::<K> { entries, reading })
}

/// Passes over a value. No field has the number that leads here.
pub(super) fn nothing<'de, A: MapAccess<'de>>(
    access: &mut A,
    _: &mut Reading,
) -> Result<(), A::Error> {
    access.next_value::<IgnoredAny>()?;
    Ok(())
}

struct List<'a, K: Kind> {
    values: &'a mut Vec<K::Value>,
    reading: &'a mut Reading,
}

impl<K: Kind> List<'_, K> {
    fn one<'de, D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let mut value = K::Value::default();
        if K::read(&mut value, from, self.reading)? {
            self.values.push(value);
        }
        Ok(())
    }
}

impl<'de, K: Kind> DeserializeSeed<'de> for List<'_, K> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, K: Kind> Visitor<'de> for List<'_, K> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Self { values, reading } = self;
        loop {
            let step = Step::Element(values.len());
            let mut value = K::Value::default();
            let given = reading.at(step, |reading| {
                let given = access.next_element_seed(Slot::<K> {
                    value: &mut value,
                    reading,
                });
                if matches!(given, Ok(Some(false))) {
                    reading.wrong_value(K::name(), "null");
                }
                given
            })?;
            if given.is_none() {
                return Ok(());
            }
            values.push(value);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        self.one(MapAccessDeserializer::new(access))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        let from: BoolDeserializer<E> = value.into_deserializer();
        self.one(from)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.one(I64Deserializer::<E>::new(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.one(U64Deserializer::<E>::new(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.one(F64Deserializer::<E>::new(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.one(StrDeserializer::<E>::new(value))
    }
}

struct Entries<'a, K: Kind> {
    entries: &'a mut BTreeMap<String, K::Value>,
    reading: &'a mut Reading,
}

impl<K: Kind> Entries<'_, K> {
    fn wrong<E>(self, found: impl fmt::Display) -> Result<(), E> {
        self.reading.wrong_value("map", found);
        Ok(())
    }
}

impl<'de, K: Kind> DeserializeSeed<'de> for Entries<'_, K> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, K: Kind> Visitor<'de> for Entries<'_, K> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Self { entries, reading } = self;
        let mut index = 0;
        while let Some(name) = access.next_key::<String>()? {
            let mut value = K::Value::default();
            reading.at(Step::Entry(index), |reading| {
                let given = access.next_value_seed(Slot::<K> {
                    value: &mut value,
                    reading,
                })?;
                if !given {
                    reading.wrong_value(K::name(), "null");
                }
                Ok(())
            })?;
            entries.insert(name, value);
            index += 1;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        drain(access)?;
        self.reading.not_repeating();
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.wrong(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.wrong(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.wrong(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.wrong(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.wrong(format_args!("\"{value}\""))
    }
}

/// Passes over the rest of a list.
pub(super) fn drain<'de, A: SeqAccess<'de>>(mut access: A) -> Result<(), A::Error> {
    while access.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

/// Parameters as the nesting that their names mean. What is named twice is a list.
pub(super) fn tree(parameters: &[(String, String)], reading: &mut Reading) -> Tree {
    let mut root = serde_json::Map::new();
    for (name, value) in parameters {
        let parts: Vec<&str> = name.split('.').collect();
        let placed =
            parts.len() <= PARAMETER_DEPTH_MAX && place_parameter(&mut root, &parts, value);
        if !placed {
            reading.complain(Complaint::UnknownParameter(name.clone()));
        }
    }
    Tree::Object(root)
}

/// `false` when there is a value where something nested is meant, or the other way round.
fn place_parameter(node: &mut serde_json::Map<String, Tree>, parts: &[&str], value: &str) -> bool {
    match parts {
        [] => false,
        [last] => {
            let value = Tree::String(value.to_owned());
            match node.get_mut(*last) {
                None => {
                    node.insert((*last).to_owned(), value);
                    true
                }
                Some(Tree::Array(values)) => {
                    values.push(value);
                    true
                }
                Some(first @ Tree::String(_)) => {
                    let taken = std::mem::take(first);
                    *first = Tree::Array(vec![taken, value]);
                    true
                }
                Some(Tree::Object(_) | Tree::Null | Tree::Bool(_) | Tree::Number(_)) => false,
            }
        }
        [first, rest @ ..] => {
            let inner = node
                .entry((*first).to_owned())
                .or_insert_with(|| Tree::Object(serde_json::Map::new()));
            match inner {
                Tree::Object(inner) => place_parameter(inner, rest, value),
                Tree::Array(_) | Tree::String(_) | Tree::Null | Tree::Bool(_) | Tree::Number(_) => {
                    false
                }
            }
        }
    }
}
