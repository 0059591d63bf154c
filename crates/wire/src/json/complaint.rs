//! What is wrong with a text, and the words in which a caller is told: those of the protocol's own servers.

use std::borrow::Cow;

use crate::json::refusal::INVALID_PAYLOAD_TEXT;
use crate::pb::google::rpc::bad_request::FieldViolation;

/// One step on the way to a field.
#[derive(Copy, Clone)]
pub enum Step {
    Field(&'static str),
    Element(usize),
    /// The value of an entry of a map.
    Entry(usize),
}

/// What may be wrong.
pub enum Complaint {
    UnknownName(String),
    UnknownParameter(String),
    WrongValue {
        kind: Cow<'static, str>,
        found: String,
    },
    NotRepeating,
    Taken {
        oneof: &'static str,
        name: &'static str,
    },
}

/// One complaint, and where it stands.
pub struct Violation {
    /// From the inside out.
    pub way: Vec<Step>,
    pub complaint: Complaint,
}

impl Violation {
    /// As the caller reads it.
    pub fn told(&self) -> FieldViolation {
        let (field, description) = match &self.complaint {
            Complaint::UnknownName(name) => {
                let place = place(&self.way);
                let description =
                    format!("Unknown name \"{name}\"{}: Cannot find field.", at(&place));
                (place, format!("{INVALID_PAYLOAD_TEXT} {description}"))
            }
            Complaint::UnknownParameter(name) => {
                let mut whole = place(&self.way);
                if !whole.is_empty() {
                    whole.push('.');
                }
                whole.push_str(name);
                let description = format!(
                    "{INVALID_PAYLOAD_TEXT} Unknown name \"{whole}\": Cannot bind query parameter. Field '{whole}' could not be found in request message."
                );
                (String::new(), description)
            }
            Complaint::WrongValue { kind, found } => {
                let place = place(&self.way);
                let description = format!("Invalid value{} ({kind}), {found}", at(&place));
                (place, description)
            }
            Complaint::NotRepeating => {
                let (name, way) = match self.way.split_first() {
                    Some((Step::Field(name), way)) => (*name, way),
                    Some((Step::Element(_) | Step::Entry(_), _)) | None => {
                        ("", self.way.as_slice())
                    }
                };
                let place = place(way);
                let description = format!(
                    "{INVALID_PAYLOAD_TEXT} Unknown name \"{name}\"{}: Proto field is not repeating, cannot start list.",
                    at(&place)
                );
                (place, description)
            }
            Complaint::Taken { oneof, name } => {
                let message = self.way.split_first().map_or([].as_slice(), |(_, way)| way);
                let place = place(message);
                let description = format!(
                    "Invalid value{} (oneof), oneof field '{oneof}' is already set. Cannot set '{name}'",
                    at(&place)
                );
                (place, description)
            }
        };
        FieldViolation { field, description }
    }
}

/// The way to a field, from the outside in.
fn place(way: &[Step]) -> String {
    let mut place = String::new();
    for step in way.iter().rev() {
        match step {
            Step::Field(name) => {
                if !place.is_empty() {
                    place.push('.');
                }
                place.push_str(name);
            }
            Step::Element(index) => place.push_str(&format!("[{index}]")),
            Step::Entry(index) => place.push_str(&format!("[{index}].value")),
        }
    }
    place
}

fn at(place: &str) -> String {
    if place.is_empty() {
        String::new()
    } else {
        format!(" at '{place}'")
    }
}
