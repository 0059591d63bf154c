//! The kinds whose fields are only known when they are there: any object, and messages that travel packed.

use serde::Deserializer;
use serde::de::{Deserialize, IgnoredAny};
use serde_json::Value as Tree;

use crate::json::generated::write_packed;
use crate::json::kind::{Bool, Bytes, Double, Kind, Word};
use crate::json::read::Reading;
use crate::json::write::{Object, Writer};

/// `google.protobuf.Struct`: any JSON object.
pub enum Struct {}

impl Kind for Struct {
    type Value = prost_types::Struct;

    fn name() -> String {
        "type.googleapis.com/google.protobuf.Struct".to_owned()
    }

    fn is_default(_: &prost_types::Struct) -> bool {
        false
    }

    fn write(value: &prost_types::Struct, writer: &mut Writer<'_>) {
        writer.object(|object| {
            for (name, value) in &value.fields {
                write_tree(value, object.entry(name));
            }
        });
    }

    fn read<'de, D: Deserializer<'de>>(
        value: &mut prost_types::Struct,
        from: D,
        reading: &mut Reading,
    ) -> Result<bool, D::Error> {
        match Tree::deserialize(from)? {
            Tree::Null => return Ok(false),
            Tree::Object(fields) => *value = struct_of_tree(fields),
            other @ (Tree::Bool(_) | Tree::Number(_) | Tree::String(_) | Tree::Array(_)) => {
                reading.wrong_value(Self::name(), other);
            }
        }
        Ok(true)
    }
}

fn write_tree(value: &prost_types::Value, writer: &mut Writer<'_>) {
    use prost_types::value::Kind as Of;
    match &value.kind {
        None | Some(Of::NullValue(_)) => writer.raw("null"),
        Some(Of::BoolValue(value)) => Bool::spell(value, writer),
        Some(Of::NumberValue(value)) => Double::spell(value, writer),
        Some(Of::StringValue(value)) => writer.quoted(value),
        Some(Of::StructValue(value)) => Struct::write(value, writer),
        Some(Of::ListValue(list)) => writer.list(&list.values, write_tree),
    }
}

fn struct_of_tree(fields: serde_json::Map<String, Tree>) -> prost_types::Struct {
    prost_types::Struct {
        fields: fields
            .into_iter()
            .map(|(name, value)| (name, value_of_tree(value)))
            .collect(),
    }
}

/// As deep as the parser goes.
fn value_of_tree(tree: Tree) -> prost_types::Value {
    use prost_types::value::Kind as Of;
    let kind = match tree {
        Tree::Null => Of::NullValue(0),
        Tree::Bool(value) => Of::BoolValue(value),
        Tree::Number(value) => Of::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Tree::String(value) => Of::StringValue(value),
        Tree::Array(values) => Of::ListValue(prost_types::ListValue {
            values: values.into_iter().map(value_of_tree).collect(),
        }),
        Tree::Object(fields) => Of::StructValue(struct_of_tree(fields)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// `google.protobuf.Any`: the fields of the message beside its kind, or its bytes when the kind is not known here.
pub enum Any {}

impl Kind for Any {
    type Value = prost_types::Any;

    fn name() -> String {
        "type.googleapis.com/google.protobuf.Any".to_owned()
    }

    fn is_default(_: &prost_types::Any) -> bool {
        false
    }

    fn write(value: &prost_types::Any, writer: &mut Writer<'_>) {
        writer.object(|object| {
            object.field("@type").quoted(&value.type_url);
            if !packed(value, object) {
                Bytes::spell(&value.value, object.field("value"));
            }
        });
    }

    fn read<'de, D: Deserializer<'de>>(
        _: &mut prost_types::Any,
        from: D,
        reading: &mut Reading,
    ) -> Result<bool, D::Error> {
        IgnoredAny::deserialize(from)?;
        reading.wrong_value(Self::name(), "which is only told, never asked");
        Ok(true)
    }
}

fn packed(value: &prost_types::Any, object: &mut Object<'_>) -> bool {
    let name = value.type_url.rsplit('/').next().unwrap_or_default();
    match name {
        // It has no fields, and as a well-known kind an empty value instead.
        "google.protobuf.Empty" => {
            object.field("value").raw("{}");
            true
        }
        name => write_packed(name, &value.value, object),
    }
}
