//! What clients send: query parameters, and the form that carries a request's headers and maps.
//!
//! A form is read while it arrives. Nothing of its text is kept but the field that is being read, and each map is
//! handed on when it is complete: a client that has been away may send ten writes of 10 MiB in one form, which
//! percent-encoding makes three times as long. Whether a form is read twice does not matter, because maps have numbers.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::complaint::Complaint;

/// The longest name of a field or parameter, in bytes.
const NAME_LEN_MAX: usize = 64;

/// The longest map, in bytes of its JSON: 10 MiB of bytes in base64, and room for what surrounds them. A longer one is
/// read to its end and forgotten, for its stream must say so: a client whose form is refused sends it again.
pub const MAP_SIZE_MAX: usize = 16 * 1024 * 1024;

/// The longest value that is not a map, in bytes: the headers, with their tokens.
const VALUE_LEN_MAX: usize = 64 * 1024;

/// Maps of one form; clients send at most as many.
pub const MAPS_PER_FORM_MAX: u64 = 1_000;

/// Headers in a form.
const HEADERS_MAX: usize = 100;

/// How far a map's number may lie beyond its form's first; clients that send again what they had put back write such.
const POSITION_MAX: u64 = 10 * MAPS_PER_FORM_MAX;

/// One map: what a client has sent as one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Map {
    /// The JSON of the message.
    Text(Bytes),
    /// It was longer than `MAP_SIZE_MAX`.
    TooLarge,
}

impl Map {
    /// Bytes that it holds.
    pub fn len(&self) -> usize {
        match self {
            Map::Text(text) => text.len(),
            Map::TooLarge => 0,
        }
    }
}

/// One field that was read.
struct Field {
    name: String,
    value: Vec<u8>,
    /// The value was longer than its bound and is forgotten.
    too_long: bool,
}

/// Takes urlencoded text apart, in whatever pieces it arrives. What is not an escape though it begins like one stands for
/// itself.
#[derive(Default)]
struct Fields {
    name: Vec<u8>,
    value: Vec<u8>,
    in_value: bool,
    too_long: bool,
    /// A percent sign was read, and then this digit.
    escape: Option<Option<u8>>,
}

impl Fields {
    fn push(
        &mut self,
        mut bytes: &[u8],
        field: &mut impl FnMut(Field) -> Result<(), Complaint>,
    ) -> Result<(), Complaint> {
        while let Some((first, rest)) = bytes.split_first() {
            let plain = if self.escape.is_some() {
                0
            } else {
                let special = |byte: &u8| matches!(byte, b'%' | b'+' | b'&' | b'=');
                bytes.iter().position(special).unwrap_or(bytes.len())
            };
            if plain > 0 {
                let (plain, rest) = bytes.split_at(plain);
                self.put(plain)?;
                bytes = rest;
            } else {
                self.special(*first, field)?;
                bytes = rest;
            }
        }
        Ok(())
    }

    fn special(
        &mut self,
        byte: u8,
        field: &mut impl FnMut(Field) -> Result<(), Complaint>,
    ) -> Result<(), Complaint> {
        match (self.escape.take(), hex(byte)) {
            (Some(None), Some(_)) => {
                self.escape = Some(Some(byte));
                Ok(())
            }
            (Some(Some(high)), Some(low)) => {
                let high = hex(high).unwrap_or_default();
                self.put(&[high << 4 | low])
            }
            (Some(digit), None) => {
                self.put(b"%")?;
                if let Some(digit) = digit {
                    self.put(&[digit])?;
                }
                // Once: no escape is open now.
                self.special(byte, field)
            }
            (None, _) => match byte {
                b'%' => {
                    self.escape = Some(None);
                    Ok(())
                }
                b'+' => self.put(b" "),
                b'&' => self.end(field),
                b'=' if !self.in_value => {
                    self.in_value = true;
                    Ok(())
                }
                other => self.put(&[other]),
            },
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Complaint> {
        if !self.in_value {
            if self.name.len() + bytes.len() > NAME_LEN_MAX {
                return Err(Complaint::bad(format!(
                    "expected names of at most {NAME_LEN_MAX} bytes, found a longer one"
                )));
            }
            self.name.extend_from_slice(bytes);
            return Ok(());
        }
        let len_max = if self.name.starts_with(b"req") {
            MAP_SIZE_MAX
        } else {
            VALUE_LEN_MAX
        };
        if self.too_long || self.value.len() + bytes.len() > len_max {
            self.too_long = true;
            self.value = Vec::new();
        } else {
            self.value.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn end(
        &mut self,
        field: &mut impl FnMut(Field) -> Result<(), Complaint>,
    ) -> Result<(), Complaint> {
        match self.escape.take() {
            None => {}
            Some(None) => self.put(b"%")?,
            Some(Some(digit)) => self.put(&[b'%', digit])?,
        }
        let name = String::from_utf8(std::mem::take(&mut self.name))
            .map_err(|_| Complaint::bad("expected names in UTF-8, found other bytes"))?;
        let ended = Field {
            name,
            value: std::mem::take(&mut self.value),
            too_long: std::mem::take(&mut self.too_long),
        };
        self.in_value = false;
        if ended.name.is_empty() && ended.value.is_empty() {
            return Ok(());
        }
        field(ended)
    }
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The parameters of a request that mean something here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query {
    pub version: Option<String>,
    pub sid: Option<String>,
    pub rid: Option<String>,
    pub acknowledged: Option<u64>,
    pub database: Option<String>,
    pub kind: Option<String>,
    /// `CI`: the client wants answers that end.
    pub long_poll: bool,
    /// `TO`: how long such an answer may be waited for, in milliseconds.
    pub hold_ms: Option<u64>,
    /// The client asks for a value that it will send along from then on, by the parameter of this name.
    pub http_session_id: Option<String>,
    /// A block of headers, as old clients send it.
    pub headers: Option<String>,
}

impl Query {
    /// Reads the query of an address. Parameters of other names are a client's own (the attempt, what keeps caches away) and
    /// have no effect.
    pub fn parse(text: &str) -> Result<Self, Complaint> {
        let mut query = Self::default();
        let mut fields = Fields::default();
        let mut take = |field: Field| {
            let Field {
                name,
                value,
                too_long,
            } = field;
            if too_long {
                return Err(too_long_value(&name));
            }
            let Ok(value) = String::from_utf8(value) else {
                return Err(Complaint::bad(format!(
                    "expected UTF-8 in the parameter {name:?}, found other bytes"
                )));
            };
            match name.as_str() {
                "VER" => query.version = Some(value),
                "SID" => query.sid = Some(value),
                "RID" => query.rid = Some(value),
                "AID" => query.acknowledged = Some(number(&name, &value)?),
                "database" => query.database = Some(value),
                "TYPE" => query.kind = Some(value),
                "CI" => query.long_poll = number(&name, &value)? != 0,
                "TO" => query.hold_ms = Some(number(&name, &value)?),
                "X-HTTP-Session-Id" => query.http_session_id = Some(value),
                "$httpHeaders" => query.headers = Some(value),
                _ => {}
            }
            Ok(())
        };
        fields.push(text.as_bytes(), &mut take)?;
        fields.end(&mut take)?;
        Ok(query)
    }
}

/// One part of a form that is complete.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// What is to be treated as if it had been headers of the request.
    Headers(HeaderMap),
    /// A map and its number in the session.
    Map(u64, Map),
}

/// A form that is being read.
#[derive(Default)]
pub struct Form {
    fields: Fields,
    declared: Declared,
}

/// What the form has said of itself, and how much of it has come.
#[derive(Default)]
struct Declared {
    count: Option<u64>,
    offset: Option<u64>,
    maps: u64,
}

impl Form {
    /// The next piece of the body. Parts that it completes are added to `parts`.
    pub fn push(&mut self, bytes: &[u8], parts: &mut Vec<Part>) -> Result<(), Complaint> {
        let declared = &mut self.declared;
        let mut take = |field| {
            parts.extend(declared.part(field)?);
            Ok(())
        };
        self.fields.push(bytes, &mut take)
    }

    /// The body is complete.
    pub fn end(mut self, parts: &mut Vec<Part>) -> Result<(), Complaint> {
        let declared = &mut self.declared;
        let mut take = |field| {
            parts.extend(declared.part(field)?);
            Ok(())
        };
        self.fields.end(&mut take)?;
        let (count, maps) = (self.declared.count.unwrap_or(0), self.declared.maps);
        if count != maps {
            return Err(Complaint::bad(format!(
                "expected {count} maps in the form, found {maps}"
            )));
        }
        Ok(())
    }
}

impl Declared {
    fn part(&mut self, field: Field) -> Result<Option<Part>, Complaint> {
        let Field {
            name,
            value,
            too_long,
        } = field;
        if let Some((position, key)) = position(&name) {
            if key != "__data__" || position > POSITION_MAX {
                return Err(Complaint::bad(format!(
                    "expected messages as req0___data__ and so on, found {name:?}"
                )));
            }
            let Some(offset) = self.offset else {
                return Err(Complaint::bad("expected ofs before the first map"));
            };
            self.maps += 1;
            if self.maps > MAPS_PER_FORM_MAX {
                return Err(Complaint::bad(format!(
                    "expected at most {MAPS_PER_FORM_MAX} maps in a form"
                )));
            }
            let map = if too_long {
                Map::TooLarge
            } else {
                Map::Text(value.into())
            };
            return Ok(Some(Part::Map(offset.saturating_add(position), map)));
        }
        if too_long {
            return Err(too_long_value(&name));
        }
        let text = String::from_utf8_lossy(&value);
        match name.as_str() {
            "count" => self.count = Some(number(&name, &text)?),
            "ofs" => self.offset = Some(number(&name, &text)?),
            "headers" => return Ok(Some(Part::Headers(headers(&text)?))),
            _ => {
                return Err(Complaint::bad(format!(
                    "expected headers, count, ofs and maps in the form, found {name:?}"
                )));
            }
        }
        Ok(None)
    }
}

/// `req12_key` as 12 and the key.
fn position(name: &str) -> Option<(u64, &str)> {
    let (position, key) = name.strip_prefix("req")?.split_once('_')?;
    Some((position.parse().ok()?, key))
}

/// A block of lines `Name:value`.
pub fn headers(block: &str) -> Result<HeaderMap, Complaint> {
    let mut headers = HeaderMap::new();
    for line in block.split("\r\n").filter(|line| !line.is_empty()) {
        let header = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        let Some((name, value)) = header else {
            return Err(Complaint::bad(
                "expected lines of a name, a colon and a value in the block of headers",
            ));
        };
        if headers.len() >= HEADERS_MAX {
            return Err(Complaint::bad(format!(
                "expected at most {HEADERS_MAX} headers in the block"
            )));
        }
        headers.append(name, value);
    }
    Ok(headers)
}

fn number(name: &str, text: &str) -> Result<u64, Complaint> {
    // Clients that have received nothing at all write -1.
    if text == "-1" {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        let found: String = text.chars().take(NAME_LEN_MAX).collect();
        Complaint::bad(format!("expected a number for {name}, found {found:?}"))
    })
}

fn too_long_value(name: &str) -> Complaint {
    Complaint::bad(format!(
        "expected at most {VALUE_LEN_MAX} bytes for {name}, found more"
    ))
}

#[cfg(test)]
mod tests;
