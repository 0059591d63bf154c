//! Messages as JSON text and back, by the mapping that protobuf gives for it.
//!
//! The work for one field is in tables and calls that `build/json.rs` writes from the definitions; `json/kind.rs` says how
//! each kind of value is written and read, `write.rs` and `read.rs` how fields are put together. Nothing looks a field up by
//! its number while it runs, and nothing is held twice: text is made from the message, and the message from the text as it
//! is parsed.
//!
//! The libraries for this were tried on paper and do not fit: they lose a null inside a choice, which is how the protocol
//! writes null values; they write times with an offset, which the published SDKs do not take; they cannot write enumerations
//! as numbers; and what they say about a wrong field is not what callers of this protocol know.
//!
//! **Taken as well**, as the protocol's own servers do: both spellings of a name, numbers as texts and texts as numbers, one
//! element in place of a list of one, base64 of either alphabet with or without its padding, enumerations by name or number,
//! and null for whatever is absent.
//!
//! **Refused**, each with the place where it stands, up to 50 of them at once: names that
//! a message does not have, values of another kind, two members of a choice.
//!
//! **Depth.** Brackets nest 128 deep, a bound of the parser; a document needs three of them for one level of its fields, of
//! which it may have 20. Writing recurses as deep as the message nests, which decoding has bounded.
//!
//! What is not here: messages that travel packed (`Any`) can be written but not read, for no request has one.

mod complaint;
mod kind;
mod read;
mod refusal;
mod write;

#[cfg(test)]
mod tests;

use serde::de::MapAccess;

use crate::json::read::Reading;
pub use crate::json::refusal::JsonRefusal;
use crate::json::write::Object;
pub use crate::json::write::Style;
use crate::pb::Status;

/// The tables and calls that the build writes.
#[allow(
    clippy::all,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_code,
    unused_variables
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/json.rs"));
}

/// A message that has a form in JSON. Implemented by the build.
pub trait Message: Default {
    /// Its full name in the protocol.
    const NAME: &'static str;

    /// The number and the protocol's spelling of a field, by either spelling.
    fn field(name: &str) -> Option<(usize, &'static str)>;

    /// Writes the fields that are set.
    fn write(&self, object: &mut Object<'_>);

    /// Reads the value of the field with this number.
    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        index: usize,
        access: &mut A,
        reading: &mut Reading,
    ) -> Result<(), A::Error>;
}

/// `google.protobuf.Empty`.
impl Message for () {
    const NAME: &'static str = "google.protobuf.Empty";

    fn field(_: &str) -> Option<(usize, &'static str)> {
        None
    }

    fn write(&self, _: &mut Object<'_>) {}

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        _: usize,
        access: &mut A,
        reading: &mut Reading,
    ) -> Result<(), A::Error> {
        read::nothing(access, reading)
    }
}

/// The message as text.
pub fn encode<M: Message>(message: &M) -> String {
    let mut text = String::new();
    encode_onto(&mut text, message, Style::default());
    text
}

/// The same at the end of a text, in a style of the caller's.
pub fn encode_onto<M: Message>(text: &mut String, message: &M, style: Style) {
    write::message(text, message, style);
}

/// An error as plain HTTP says it: `code` is the number of the answer, `status` the name of the error's own code.
pub fn encode_error(code: u16, status: &str, error: &Status) -> String {
    write::error(code, status, error)
}

/// The message of a text.
pub fn decode<M: Message>(text: &[u8]) -> Result<M, JsonRefusal> {
    let mut message = M::default();
    merge(&mut message, text)?;
    Ok(message)
}

/// Sets what the text says in a message that something is known of already. After a refusal the message is of no use.
pub fn merge<M: Message>(message: &mut M, text: &[u8]) -> Result<(), JsonRefusal> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    let mut reading = Reading::body();
    let read = read::message(message, &mut parser, &mut reading).and_then(|()| parser.end());
    reading.end(read)
}

/// The same for a text that is the value of one field.
pub fn merge_field<M: Message>(
    message: &mut M,
    field: &str,
    text: &[u8],
) -> Result<(), JsonRefusal> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    let mut reading = Reading::body();
    let read = read::field(message, field, &mut parser, &mut reading).and_then(|()| parser.end());
    reading.end(read)
}

/// The same for what the query of an address says: `parameters` are names, with dots for what is nested, and values.
pub fn merge_parameters<M: Message>(
    message: &mut M,
    parameters: &[(String, String)],
) -> Result<(), JsonRefusal> {
    let mut reading = Reading::parameters();
    let tree = read::tree(parameters, &mut reading);
    let read = read::message(message, tree, &mut reading);
    reading.end(read)
}
