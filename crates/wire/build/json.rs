//! Writes the Rust source that makes JSON of the generated messages and messages of JSON, field by field.
//!
//! What is written here are tables and calls; how a kind of field is read and written stands in `src/json`. Our own
//! package is left out: it is spoken over gRPC only.

use std::collections::BTreeMap;
use std::fmt::Write;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Packages that get JSON.
const PACKAGES: &str = "google.";

/// Packages whose messages have forms of their own in JSON, written by hand.
const WELL_KNOWN: &str = "google.protobuf";

/// Names of fields that are words of Rust.
const KEYWORDS: [&str; 6] = ["where", "type", "in", "for", "match", "ref"];

/// Messages of the set whose JSON is a map of their entries.
type MapEntries = BTreeMap<String, DescriptorProto>;

/// The whole source.
pub fn source(set: &FileDescriptorSet) -> String {
    let mut map_entries = MapEntries::new();
    for file in &set.file {
        for message in &file.message_type {
            collect_map_entries(&format!(".{}", file.package()), message, &mut map_entries);
        }
    }
    let mut source = Source {
        text: String::new(),
        map_entries,
        messages: Vec::new(),
    };
    for file in &set.file {
        let package = file.package();
        if !package.starts_with(PACKAGES) || package == WELL_KNOWN {
            continue;
        }
        let place = Place {
            name: package.to_owned(),
            module: rust_module(package),
        };
        for definition in &file.enum_type {
            source.enumeration(&place, definition);
        }
        for message in &file.message_type {
            source.message(&place, message);
        }
    }
    source.any();
    source.text
}

/// Where a definition stands, in the protocol and in Rust.
struct Place {
    name: String,
    module: String,
}

impl Place {
    fn inside(&self, message: &str) -> Self {
        Self {
            name: format!("{}.{message}", self.name),
            module: format!("{}::{}", self.module, snake(message)),
        }
    }
}

struct Source {
    text: String,
    map_entries: MapEntries,
    /// The full name of each message, and its Rust type.
    messages: Vec<(String, String)>,
}

/// How one field is declared in Rust.
enum Shape {
    /// A value that is always there.
    Plain,
    /// An `Option`.
    Optional,
    /// A `Vec`.
    Repeated,
    /// A map with texts for keys.
    Map,
    /// A variant of the oneof with this number.
    Variant(usize),
}

struct Field<'a> {
    descriptor: &'a FieldDescriptorProto,
    kind: String,
    shape: Shape,
}

impl Source {
    fn put(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    fn enumeration(&mut self, place: &Place, definition: &EnumDescriptorProto) {
        let rust = format!("{}::{}", place.module, definition.name());
        let name = format!("{}.{}", place.name, definition.name());
        self.put(format!("impl crate::json::kind::Named for {rust} {{"));
        self.put(format!("    const NAME: &'static str = {name:?};"));
        self.put("    fn name(number: i32) -> Option<&'static str> {");
        self.put("        Self::try_from(number).ok().map(|value| value.as_str_name())");
        self.put("    }");
        self.put("    fn number(name: &str) -> Option<i32> {");
        self.put("        Self::from_str_name(name).map(|value| value as i32)");
        self.put("    }");
        self.put("}");
    }

    fn message(&mut self, place: &Place, message: &DescriptorProto) {
        let inside = place.inside(message.name());
        for definition in &message.enum_type {
            self.enumeration(&inside, definition);
        }
        for nested in &message.nested_type {
            if !is_map_entry(nested) {
                self.message(&inside, nested);
            }
        }
        let rust = format!("{}::{}", place.module, message.name());
        let name = format!("{}.{}", place.name, message.name());
        let fields: Vec<Field<'_>> = message
            .field
            .iter()
            .map(|field| self.field(field))
            .collect();
        self.put(format!("impl crate::json::Message for {rust} {{"));
        self.put(format!("    const NAME: &'static str = {name:?};"));
        self.names(&fields);
        self.writing(&inside, message, &fields);
        self.reading(&inside, message, &fields);
        self.put("}");
        self.messages.push((name, rust));
    }

    fn field<'a>(&self, descriptor: &'a FieldDescriptorProto) -> Field<'a> {
        let entry = self.map_entries.get(descriptor.type_name());
        let repeated = descriptor.label() == Label::Repeated;
        let of_oneof = descriptor
            .oneof_index
            .filter(|_| !descriptor.proto3_optional())
            .and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = entry {
            let value = entry.field.iter().find(|field| field.name() == "value");
            return Field {
                descriptor,
                kind: kind(value.expect("an entry of a map has a value")).0,
                shape: Shape::Map,
            };
        }
        let (kind, always_optional) = kind(descriptor);
        let shape = match of_oneof {
            _ if repeated => Shape::Repeated,
            Some(index) => Shape::Variant(index),
            None if always_optional || descriptor.proto3_optional() => Shape::Optional,
            None => Shape::Plain,
        };
        Field {
            descriptor,
            kind,
            shape,
        }
    }

    fn names(&mut self, fields: &[Field<'_>]) {
        self.put("    fn field(name: &str) -> Option<(usize, &'static str)> {");
        self.put("        Some(match name {");
        for (index, field) in fields.iter().enumerate() {
            let name = field.descriptor.name();
            let json = field.descriptor.json_name();
            let both = if json == name {
                format!("{name:?}")
            } else {
                format!("{json:?} | {name:?}")
            };
            self.put(format!("            {both} => ({index}, {name:?}),"));
        }
        self.put("            _ => return None,");
        self.put("        })");
        self.put("    }");
    }

    fn writing(&mut self, inside: &Place, message: &DescriptorProto, fields: &[Field<'_>]) {
        let object = if fields.is_empty() { "_" } else { "object" };
        self.put(format!(
            "    fn write(&self, {object}: &mut crate::json::write::Object<'_>) {{"
        ));
        for field in fields {
            let json = field.descriptor.json_name();
            let rust = rust_field(field.descriptor.name());
            let kind = &field.kind;
            let function = match field.shape {
                Shape::Plain => "plain",
                Shape::Optional => "optional",
                Shape::Repeated => "repeated",
                Shape::Map => "map",
                Shape::Variant(_) => continue,
            };
            self.put(format!(
                "        object.{function}::<{kind}>({json:?}, &self.{rust});"
            ));
        }
        for (index, oneof) in message.oneof_decl.iter().enumerate() {
            let variants: Vec<&Field<'_>> = variants_of(fields, index).collect();
            if variants.is_empty() {
                continue;
            }
            self.put(format!(
                "        match &self.{} {{",
                rust_field(oneof.name())
            ));
            self.put("            None => {}");
            for field in variants {
                let variant = format!(
                    "{}::{}::{}",
                    inside.module,
                    camel(oneof.name()),
                    camel(field.descriptor.name())
                );
                self.put(format!(
                    "            Some({variant}(value)) => object.always::<{}>({:?}, value),",
                    field.kind,
                    field.descriptor.json_name()
                ));
            }
            self.put("        }");
        }
        self.put("    }");
    }

    fn reading(&mut self, inside: &Place, message: &DescriptorProto, fields: &[Field<'_>]) {
        self.put("    fn read<'de, A: serde::de::MapAccess<'de>>(");
        self.put("        &mut self,");
        self.put("        index: usize,");
        self.put("        access: &mut A,");
        self.put("        reading: &mut crate::json::read::Reading,");
        self.put("    ) -> Result<(), A::Error> {");
        self.put("        match index {");
        for (index, field) in fields.iter().enumerate() {
            let rust = rust_field(field.descriptor.name());
            let kind = &field.kind;
            let function = match field.shape {
                Shape::Plain => "plain",
                Shape::Optional => "optional",
                Shape::Repeated => "repeated",
                Shape::Map => "map",
                Shape::Variant(oneof) => {
                    let oneof = message
                        .oneof_decl
                        .get(oneof)
                        .expect("a field names a oneof of its message")
                        .name();
                    let name = field.descriptor.name();
                    self.put(format!("            {index} => {{"));
                    self.put(format!(
                        "                let taken = self.{}.is_some();",
                        rust_field(oneof)
                    ));
                    self.put(format!(
                        "                if let Some(value) = crate::json::read::variant::<{kind}, A>(access, taken, ({oneof:?}, {name:?}), reading)? {{"
                    ));
                    self.put(format!(
                        "                    self.{} = Some({}::{}::{}(value));",
                        rust_field(oneof),
                        inside.module,
                        camel(oneof),
                        camel(name)
                    ));
                    self.put("                }");
                    self.put("                Ok(())");
                    self.put("            }");
                    continue;
                }
            };
            self.put(format!(
                "            {index} => crate::json::read::{function}::<{kind}, A>(access, &mut self.{rust}, reading),"
            ));
        }
        self.put("            _ => crate::json::read::nothing(access, reading),");
        self.put("        }");
        self.put("    }");
    }

    fn any(&mut self) {
        let messages = std::mem::take(&mut self.messages);
        self.put("/// Writes the fields of a message that travels as bytes beside its name; `false` when its kind is not known.");
        self.put("pub(super) fn write_packed(name: &str, bytes: &[u8], object: &mut crate::json::write::Object<'_>) -> bool {");
        self.put("    match name {");
        for (name, rust) in &messages {
            self.put(format!(
                "        {name:?} => crate::json::write::packed::<{rust}>(bytes, object),"
            ));
        }
        self.put("        _ => false,");
        self.put("    }");
        self.put("}");
    }
}

fn variants_of<'f, 'a>(
    fields: &'f [Field<'a>],
    oneof: usize,
) -> impl Iterator<Item = &'f Field<'a>> {
    fields
        .iter()
        .filter(move |field| matches!(field.shape, Shape::Variant(index) if index == oneof))
}

/// The kind of a field, and whether it is an `Option` when it stands alone.
fn kind(field: &FieldDescriptorProto) -> (String, bool) {
    let own = |name: &str| format!("crate::json::kind::{name}");
    match field.r#type() {
        Type::Bool => (own("Bool"), false),
        Type::Int32 => (own("Int32"), false),
        Type::Int64 => (own("Int64"), false),
        Type::Double => (own("Double"), false),
        Type::String => (own("Text"), false),
        Type::Bytes => (own("Bytes"), false),
        Type::Enum => match field.type_name() {
            ".google.protobuf.NullValue" => (own("Null"), false),
            name => (own(&format!("Enumeration<{}>", rust_type(name))), false),
        },
        Type::Message => match field.type_name() {
            ".google.protobuf.Int32Value" => (own("Int32"), true),
            ".google.protobuf.Int64Value" => (own("Int64"), true),
            ".google.protobuf.DoubleValue" => (own("Double"), true),
            ".google.protobuf.Timestamp" => (own("Timestamp"), true),
            ".google.protobuf.Duration" => (own("Duration"), true),
            ".google.protobuf.FieldMask" => (own("FieldMask"), true),
            ".google.protobuf.Struct" => (own("Struct"), true),
            ".google.protobuf.Any" => (own("Any"), true),
            ".google.protobuf.Empty" => (own("Nested<()>"), true),
            name => {
                assert!(
                    !name.starts_with(".google.protobuf."),
                    "{name} has no JSON here yet"
                );
                (own(&format!("Nested<{}>", rust_type(name))), true)
            }
        },
        other => panic!("{}: {other:?} has no JSON here yet", field.name()),
    }
}

fn collect_map_entries(place: &str, message: &DescriptorProto, entries: &mut MapEntries) {
    let name = format!("{place}.{}", message.name());
    for nested in &message.nested_type {
        collect_map_entries(&name, nested, entries);
    }
    if is_map_entry(message) {
        entries.insert(name, message.clone());
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|o| o.map_entry())
}

/// The Rust type of `.google.firestore.v1.StructuredQuery.Filter` and its like: parts that begin small are
/// packages, others messages.
fn rust_type(name: &str) -> String {
    let parts: Vec<&str> = name.trim_start_matches('.').split('.').collect();
    let mut path = "crate::pb".to_owned();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        let word = if last {
            (*part).to_owned()
        } else {
            snake(part)
        };
        write!(path, "::{}", escaped(&word)).expect("a text takes what is written");
    }
    path
}

fn rust_module(package: &str) -> String {
    let parts: Vec<String> = package.split('.').map(escaped).collect();
    format!("crate::pb::{}", parts.join("::"))
}

fn rust_field(name: &str) -> String {
    escaped(name)
}

fn escaped(word: &str) -> String {
    if KEYWORDS.contains(&word) {
        format!("r#{word}")
    } else {
        word.to_owned()
    }
}

/// `StructuredQuery` as `structured_query`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// `value_type` as `ValueType`.
fn camel(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let mut letters = word.chars();
            match letters.next() {
                Some(first) => first.to_ascii_uppercase().to_string() + letters.as_str(),
                None => String::new(),
            }
        })
        .collect()
}
