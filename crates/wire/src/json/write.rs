//! Putting text together: objects, lists, and what stands between them. It never fails.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::json::Message;
use crate::json::kind::{Any, Kind};
use crate::pb::Status;

/// How text is written where there is a choice.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Enumerations are numbers instead of names.
    pub enumerations_as_numbers: bool,
    /// What is not ASCII is escaped, so that lengths are the same in every encoding.
    pub only_ascii: bool,
}

/// Text that grows.
pub struct Writer<'t> {
    text: &'t mut String,
    pub(super) style: Style,
}

impl Writer<'_> {
    /// What needs no escaping.
    pub(super) fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub(super) fn formatted(&mut self, arguments: fmt::Arguments<'_>) {
        self.text
            .write_fmt(arguments)
            .expect("a text takes what is written");
    }

    /// A text in quotation marks.
    pub(super) fn quoted(&mut self, text: &str) {
        self.text.push('"');
        let mut rest = text;
        while let Some(position) = rest.bytes().position(|byte| self.is_escaped(byte)) {
            let (plain, odd) = rest.split_at(position);
            self.text.push_str(plain);
            let mut letters = odd.chars();
            if let Some(letter) = letters.next() {
                self.escaped(letter);
            }
            rest = letters.as_str();
        }
        self.text.push_str(rest);
        self.text.push('"');
    }

    fn is_escaped(&self, byte: u8) -> bool {
        byte < 0x20 || byte == b'"' || byte == b'\\' || (byte >= 0x7f && self.style.only_ascii)
    }

    fn escaped(&mut self, letter: char) {
        match letter {
            '"' => self.text.push_str("\\\""),
            '\\' => self.text.push_str("\\\\"),
            '\n' => self.text.push_str("\\n"),
            '\r' => self.text.push_str("\\r"),
            '\t' => self.text.push_str("\\t"),
            letter => {
                let mut units = [0; 2];
                for unit in letter.encode_utf16(&mut units) {
                    self.formatted(format_args!("\\u{unit:04x}"));
                }
            }
        }
    }

    pub(super) fn object(&mut self, fields: impl FnOnce(&mut Object<'_>)) {
        self.text.push('{');
        let mut object = Object {
            writer: Writer {
                text: self.text,
                style: self.style,
            },
            empty: true,
        };
        fields(&mut object);
        self.text.push('}');
    }

    pub(super) fn list<T>(&mut self, elements: &[T], write: impl Fn(&T, &mut Self)) {
        self.text.push('[');
        for (index, element) in elements.iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            write(element, self);
        }
        self.text.push(']');
    }
}

/// An object whose fields are being written.
pub struct Object<'t> {
    writer: Writer<'t>,
    empty: bool,
}

impl<'t> Object<'t> {
    /// The writer for the value of a field. Names of the protocol need no escaping.
    pub(super) fn field(&mut self, name: &'static str) -> &mut Writer<'t> {
        self.separator();
        self.writer.text.push('"');
        self.writer.text.push_str(name);
        self.writer.text.push_str("\":");
        &mut self.writer
    }

    /// The same for a name that is somebody's.
    pub(super) fn entry(&mut self, name: &str) -> &mut Writer<'t> {
        self.separator();
        self.writer.quoted(name);
        self.writer.text.push(':');
        &mut self.writer
    }

    fn separator(&mut self) {
        if !self.empty {
            self.writer.text.push(',');
        }
        self.empty = false;
    }

    /// A field that is left out when it has the value that absence means.
    pub(super) fn plain<K: Kind>(&mut self, name: &'static str, value: &K::Value) {
        if !K::is_default(value) {
            K::write(value, self.field(name));
        }
    }

    /// A field that may be absent.
    pub(super) fn optional<K: Kind>(&mut self, name: &'static str, value: &Option<K::Value>) {
        if let Some(value) = value {
            K::write(value, self.field(name));
        }
    }

    /// A field that is there whatever its value is.
    pub(super) fn always<K: Kind>(&mut self, name: &'static str, value: &K::Value) {
        K::write(value, self.field(name));
    }

    /// A list, left out when it is empty.
    pub(super) fn repeated<K: Kind>(&mut self, name: &'static str, values: &[K::Value]) {
        if !values.is_empty() {
            self.field(name).list(values, |value, writer| {
                K::write(value, writer);
            });
        }
    }

    /// A map, left out when it is empty.
    pub(super) fn map<K: Kind>(
        &mut self,
        name: &'static str,
        entries: &BTreeMap<String, K::Value>,
    ) {
        if !entries.is_empty() {
            self.field(name).object(|object| {
                for (name, value) in entries {
                    K::write(value, object.entry(name));
                }
            });
        }
    }
}

/// Writes a message at the end of a text.
pub(super) fn message<M: Message>(text: &mut String, message: &M, style: Style) {
    Writer { text, style }.object(|object| message.write(object));
}

/// An error, in the object that holds it.
pub(super) fn error(code: u16, status: &str, error: &Status) -> String {
    let mut text = String::new();
    let mut writer = Writer {
        text: &mut text,
        style: Style::default(),
    };
    writer.object(|object| {
        object.field("error").object(|object| {
            object.field("code").formatted(format_args!("{code}"));
            object.field("message").quoted(&error.message);
            object.field("status").quoted(status);
            object.repeated::<Any>("details", &error.details);
        });
    });
    text
}

/// Writes the fields of a message that is given as bytes; `false` when they are none of such a message.
pub(super) fn packed<M: Message + prost::Message>(bytes: &[u8], object: &mut Object<'_>) -> bool {
    match <M as prost::Message>::decode(bytes) {
        Ok(message) => {
            Message::write(&message, object);
            true
        }
        Err(_) => false,
    }
}
