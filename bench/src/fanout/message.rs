//! What is written and what is read of messages: the mark in a document, and where it stands in an answer.
//!
//! An answer is not decoded. Its first byte says what it is, and the mark is searched where it stood in the one before.

use prost::Message as _;
use watchfire_wire::pb;

use crate::server::DATABASE;

pub const LISTEN: &str = "/google.firestore.v1.Firestore/Listen";
pub const COMMIT: &str = "/google.firestore.v1.Firestore/Commit";

/// Opens the text of every document that is written.
const MARK: &[u8] = b"wf-mark:";
/// Of each of the two numbers behind it.
const DIGITS: usize = 20;
/// The mark with both numbers.
pub const MARK_SIZE: usize = MARK.len() + 2 * DIGITS;

/// The first bytes of a `ListenResponse`, that say which kind it is.
const TARGET_CHANGE: u8 = 0x12;
const DOCUMENT_CHANGE: u8 = 0x1a;
/// Of `TargetChange`.
const KIND_FIELD: u64 = 0x08;
const TOKEN_FIELD: u64 = 0x22;
const CURRENT: u64 = 3;
const REMOVED: u64 = 2;

/// Bits of a number that count; those above name its writer.
const COUNT_BITS: u32 = 48;

/// The number of a writer's write.
pub fn number_of(writer: usize, count: u64) -> u64 {
    (writer as u64) << COUNT_BITS | count
}

/// The writer and the count of a number.
pub fn taken_apart(number: u64) -> (usize, u64) {
    (
        (number >> COUNT_BITS) as usize,
        number & ((1 << COUNT_BITS) - 1),
    )
}

/// A text with a number that rises and the time of its write, in nanoseconds of the generator.
pub fn text(sequence: u64, at: u64, size: usize) -> String {
    let mut text = format!("wf-mark:{sequence:0DIGITS$}{at:0DIGITS$}");
    text.extend(std::iter::repeat_n('x', size.saturating_sub(text.len())));
    text
}

/// The commit of documents of one text each.
pub fn commit(documents: &[(&str, &str)]) -> Vec<u8> {
    let writes = documents.iter().map(|(path, text)| pb::Write {
        operation: Some(pb::write::Operation::Update(pb::Document {
            name: format!("{DATABASE}/documents/{path}"),
            fields: [(
                "text".to_owned(),
                pb::Value {
                    value_type: Some(pb::value::ValueType::StringValue((*text).to_owned())),
                },
            )]
            .into(),
            ..Default::default()
        })),
        ..Default::default()
    });
    pb::CommitRequest {
        database: DATABASE.to_owned(),
        writes: writes.collect(),
        ..Default::default()
    }
    .encode_to_vec()
}

/// Adds a target of documents, that goes on from a token unless it is empty.
pub fn listen(target_id: i32, paths: &[impl AsRef<str>], token: &[u8]) -> Vec<u8> {
    use pb::target::{DocumentsTarget, ResumeType, TargetType};
    let named = paths
        .iter()
        .map(|path| format!("{DATABASE}/documents/{}", path.as_ref()));
    let resumes = !token.is_empty();
    pb::ListenRequest {
        database: DATABASE.to_owned(),
        target_change: Some(pb::listen_request::TargetChange::AddTarget(pb::Target {
            target_id,
            target_type: Some(TargetType::Documents(DocumentsTarget {
                documents: named.collect(),
            })),
            resume_type: resumes.then(|| ResumeType::ResumeToken(token.to_owned())),
            ..Default::default()
        })),
        ..Default::default()
    }
    .encode_to_vec()
}

/// What an answer of a stream says.
#[derive(Debug, PartialEq)]
pub enum Answer<'a> {
    Document,
    /// A target stands, or everything does; with the token, which may be empty.
    Target {
        current: bool,
        token: &'a [u8],
    },
    Removed,
    Other,
}

/// Which kind of answer it is. What cannot be read is `Other`.
pub fn answer(message: &[u8]) -> Answer<'_> {
    match message.split_first() {
        Some((&DOCUMENT_CHANGE, _)) => Answer::Document,
        Some((&TARGET_CHANGE, rest)) => target(rest).unwrap_or(Answer::Other),
        _ => Answer::Other,
    }
}

fn target(rest: &[u8]) -> Option<Answer<'_>> {
    let (size, rest) = number(rest)?;
    let mut rest = rest.get(..size as usize)?;
    let (mut kind, mut token): (u64, &[u8]) = (0, &[]);
    while !rest.is_empty() {
        let (tag, after) = number(rest)?;
        let (value, after) = number(after)?;
        rest = match tag & 7 {
            0 => after,
            2 => {
                let (content, after) = after.split_at_checked(value as usize)?;
                if tag == TOKEN_FIELD {
                    token = content;
                }
                after
            }
            _ => return None,
        };
        if tag == KIND_FIELD {
            kind = value;
        }
    }
    Some(match kind {
        REMOVED => Answer::Removed,
        _ => Answer::Target {
            current: kind == CURRENT,
            token,
        },
    })
}

/// A number of variable length, and what follows.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at).min(63);
        if byte & 0x80 == 0 {
            return Some((number, bytes.get(at + 1..)?));
        }
    }
    None
}

/// Finds marks, and remembers where the last one stood and what it said: most messages are like the one before.
pub struct Marks {
    finder: memchr::memmem::Finder<'static>,
    at: usize,
    last: [u8; MARK_SIZE],
    found: (u64, u64),
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            finder: memchr::memmem::Finder::new(MARK),
            at: 0,
            last: [0; MARK_SIZE],
            found: (0, 0),
        }
    }
}

impl Marks {
    /// The number and the time of a message's mark, if it has one.
    pub fn find(&mut self, message: &[u8]) -> Option<(u64, u64)> {
        if message.get(self.at..self.at + MARK_SIZE) == Some(&self.last) {
            return Some(self.found);
        }
        let at = self.finder.find(message)?;
        let mark: [u8; MARK_SIZE] = message.get(at..)?.first_chunk().copied()?;
        let numbers = std::str::from_utf8(mark.get(MARK.len()..)?).ok()?;
        let (sequence, time) = numbers.split_at_checked(DIGITS)?;
        self.found = (sequence.parse().ok()?, time.parse().ok()?);
        self.at = at;
        self.last = mark;
        Some(self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_again() {
        let mut marks = Marks::default();
        for (sequence, at) in [(1, 7), (1, 7), (2, u64::MAX)] {
            let message = commit(&[("some/path", &text(sequence, at, 200))]);
            assert_eq!(marks.find(&message), Some((sequence, at)));
        }
        assert_eq!(marks.find(&commit(&[("some/path", "no mark")])), None);
    }

    #[test]
    fn numbers_name_their_writers() {
        for (writer, count) in [(0, 0), (0, 7), (63, 1 << 40)] {
            assert_eq!(taken_apart(number_of(writer, count)), (writer, count));
        }
    }

    #[test]
    fn answers_are_told_apart() {
        use pb::listen_response::ResponseType;
        use pb::target_change::TargetChangeType;
        let bytes = |response: ResponseType| {
            pb::ListenResponse {
                response_type: Some(response),
            }
            .encode_to_vec()
        };
        let document = ResponseType::DocumentChange(pb::DocumentChange::default());
        assert_eq!(answer(&bytes(document)), Answer::Document);
        let change = |kind: TargetChangeType| {
            bytes(ResponseType::TargetChange(pb::TargetChange {
                target_change_type: kind.into(),
                target_ids: vec![2, 400],
                resume_token: b"token".to_vec(),
                ..Default::default()
            }))
        };
        let expected = Answer::Target {
            current: true,
            token: b"token",
        };
        assert_eq!(answer(&change(TargetChangeType::Current)), expected);
        assert_eq!(answer(&change(TargetChangeType::Remove)), Answer::Removed);
    }
}
