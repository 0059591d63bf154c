//! The file of index definitions, `firestore.indexes.json`, as Firebase's tools write and read it.
//!
//! It is JSON with comments. Everything in it is honoured or refused with its place in the file;
//! nothing is skipped in silence. Reading names no server and changes nothing.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use watchfire_engine::definition::{Definition, Mode, Scope};
use watchfire_engine::index::catalog::{FIELD_CONFIGS_MAX, FieldIndex, FieldKey, INDEXES_MAX};
use watchfire_model::FieldPath;
use watchfire_wire::admin::{IndexMode, IndexScope, IndexShape, decode_field_key};

use crate::indexes::set::IndexSet;
use crate::indexes::words::{asked_definition, field_index};

/// The largest file, in bytes. The most indexes that a database may have fit in easily.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}", .file.display())]
    Unreadable {
        file: PathBuf,
        #[source]
        error: io::Error,
    },
    /// It is larger than such a file can be.
    #[error("{} is larger than {FILE_BYTES_MAX} bytes", .file.display())]
    TooLarge { file: PathBuf },
    /// What is in it is wrong.
    #[error("{}: {wrong}", .file.display())]
    Wrong { file: PathBuf, wrong: Wrong },
}

/// What is wrong, and where.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Wrong {
    /// It is not JSON; says the line and column.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// A value that means nothing, or that this server does not do.
    #[error("{place}: {text}")]
    Value {
        /// As `indexes[0].fields[1].order`.
        place: String,
        text: String,
    },
}

/// Reads a file.
pub fn read(file: &Path) -> Result<IndexSet, FileError> {
    let unreadable = |error| FileError::Unreadable {
        file: file.to_owned(),
        error,
    };
    if std::fs::metadata(file).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(FileError::TooLarge {
            file: file.to_owned(),
        });
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    parse(&text).map_err(|wrong| FileError::Wrong {
        file: file.to_owned(),
        wrong,
    })
}

/// Reads a file's text.
pub fn parse(text: &str) -> Result<IndexSet, Wrong> {
    let value: Value = serde_json::from_str(&without_comments(text))
        .map_err(|error| Wrong::Syntax(error.to_string()))?;
    let top = object(&value, "", &["indexes", "fieldOverrides"])?;
    let mut set = IndexSet::default();
    for (place, index) in elements(top, "", "indexes")? {
        // Twice the same is once.
        set.indexes.insert(parse_index(index, &place)?);
    }
    for (place, field) in elements(top, "", "fieldOverrides")? {
        let (key, indexes) = parse_override(field, &place)?;
        if set.fields.contains_key(&key) {
            return Err(wrong(&place, "this field is there twice"));
        }
        set.fields.insert(key, indexes.into_iter().collect());
    }
    if set.indexes.len() > INDEXES_MAX {
        let text = format!("at most {INDEXES_MAX}, but there are {}", set.indexes.len());
        return Err(wrong("indexes", text));
    }
    if set.fields.len() > FIELD_CONFIGS_MAX {
        let text = format!(
            "at most {FIELD_CONFIGS_MAX}, but there are {}",
            set.fields.len()
        );
        return Err(wrong("fieldOverrides", text));
    }
    Ok(set)
}

fn parse_index(value: &Value, place: &str) -> Result<Definition, Wrong> {
    let index = object(
        value,
        place,
        &[
            "collectionGroup",
            "queryScope",
            "fields",
            "density",
            "apiScope",
            "multikey",
            "unique",
        ],
    )?;
    only(index, place, "density", &Value::from("SPARSE_ALL"))?;
    only(index, place, "apiScope", &Value::from("ANY_API"))?;
    only(index, place, "multikey", &Value::from(false))?;
    only(index, place, "unique", &Value::from(false))?;
    let group = required_text(index, place, "collectionGroup")?;
    let scope = scope(index, place)?;
    let fields: Result<Vec<_>, Wrong> = elements(index, place, "fields")?
        .into_iter()
        .map(|(place, value)| {
            let field = object(
                value,
                &place,
                &["fieldPath", "order", "arrayConfig", "vectorConfig"],
            )?;
            let path = FieldPath::parse(required_text(field, &place, "fieldPath")?)
                .map_err(|invalid| wrong(&below(&place, "fieldPath"), invalid.to_string()))?;
            Ok((path, mode(field, &place)?))
        })
        .collect();
    let shape = IndexShape {
        scope,
        fields: fields?,
    };
    asked_definition(group.to_owned(), shape).map_err(|invalid| wrong(place, invalid.to_string()))
}

fn parse_override(value: &Value, place: &str) -> Result<(FieldKey, Vec<FieldIndex>), Wrong> {
    let field = object(
        value,
        place,
        &["collectionGroup", "fieldPath", "ttl", "indexes"],
    )?;
    match field.get("ttl") {
        None | Some(Value::Bool(false)) => {}
        Some(Value::Bool(true)) => {
            return Err(wrong(
                &below(place, "ttl"),
                "Watchfire does not delete documents by age (time to live); remove this line",
            ));
        }
        Some(other) => {
            return Err(wrong(
                &below(place, "ttl"),
                format!("must be true or false, but is {other}"),
            ));
        }
    }
    let group = required_text(field, place, "collectionGroup")?;
    let path = required_text(field, place, "fieldPath")?;
    let (group, path) =
        decode_field_key(group, path).map_err(|invalid| wrong(place, invalid.to_string()))?;
    if !field.contains_key("indexes") {
        return Err(wrong(
            place,
            "indexes is missing; an empty list means that the field has none",
        ));
    }
    let indexes: Result<Vec<FieldIndex>, Wrong> = elements(field, place, "indexes")?
        .into_iter()
        .map(|(place, value)| {
            let index = object(value, &place, &["order", "arrayConfig", "queryScope"])?;
            Ok(field_index((scope(index, &place)?, mode(index, &place)?)))
        })
        .collect();
    Ok((FieldKey { group, path }, indexes?))
}

/// As it was decided what the key means, `COLLECTION` when it is left out.
fn scope(object: &Map<String, Value>, place: &str) -> Result<IndexScope, Wrong> {
    match text(object, place, "queryScope")? {
        None | Some("COLLECTION") => Ok(IndexScope::Collection),
        Some("COLLECTION_GROUP") => Ok(IndexScope::CollectionGroup),
        Some(other) => Err(wrong(
            &below(place, "queryScope"),
            format!("must be COLLECTION or COLLECTION_GROUP, but is {other:?}"),
        )),
    }
}

fn mode(object: &Map<String, Value>, place: &str) -> Result<IndexMode, Wrong> {
    let order = match text(object, place, "order")? {
        None => None,
        Some("ASCENDING") => Some(IndexMode::Ascending),
        Some("DESCENDING") => Some(IndexMode::Descending),
        Some(other) => {
            return Err(wrong(
                &below(place, "order"),
                format!("must be ASCENDING or DESCENDING, but is {other:?}"),
            ));
        }
    };
    let array = match text(object, place, "arrayConfig")? {
        None => None,
        Some("CONTAINS") => Some(IndexMode::Contains),
        Some(other) => {
            return Err(wrong(
                &below(place, "arrayConfig"),
                format!("must be CONTAINS, but is {other:?}"),
            ));
        }
    };
    let vector = match object.get("vectorConfig") {
        None => None,
        Some(value) => Some(vector(value, &below(place, "vectorConfig"))?),
    };
    match (order, array, vector) {
        (Some(mode), None, None) | (None, Some(mode), None) | (None, None, Some(mode)) => Ok(mode),
        _ => Err(wrong(
            place,
            "must have exactly one of order, arrayConfig and vectorConfig",
        )),
    }
}

fn vector(value: &Value, place: &str) -> Result<IndexMode, Wrong> {
    let vector = object(value, place, &["dimension", "flat"])?;
    if let Some(flat) = vector.get("flat") {
        object(flat, &below(place, "flat"), &[])?;
    }
    let dimension = vector
        .get("dimension")
        .and_then(Value::as_u64)
        .and_then(|dimension| u32::try_from(dimension).ok());
    match dimension {
        // How large it may be is the definition's business.
        Some(dimension) => Ok(IndexMode::Vector { dimension }),
        None => Err(wrong(
            &below(place, "dimension"),
            "must be a positive whole number",
        )),
    }
}

fn object<'a>(
    value: &'a Value,
    place: &str,
    keys: &[&str],
) -> Result<&'a Map<String, Value>, Wrong> {
    let Value::Object(map) = value else {
        return Err(wrong(place, "must be an object: { … }"));
    };
    for key in map.keys() {
        if !keys.contains(&key.as_str()) {
            return Err(wrong(
                &below(place, key),
                match keys {
                    [] => "nothing is known to stand here".to_owned(),
                    keys => format!("is not known here; known are {}", keys.join(", ")),
                },
            ));
        }
    }
    Ok(map)
}

/// The elements of a list with their places; none when it is left out.
fn elements<'a>(
    object: &'a Map<String, Value>,
    place: &str,
    key: &str,
) -> Result<Vec<(String, &'a Value)>, Wrong> {
    let place = below(place, key);
    match object.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(values)) => Ok(values
            .iter()
            .enumerate()
            .map(|(position, value)| (format!("{place}[{position}]"), value))
            .collect()),
        Some(_) => Err(wrong(&place, "must be a list: [ … ]")),
    }
}

fn text<'a>(
    object: &'a Map<String, Value>,
    place: &str,
    key: &str,
) -> Result<Option<&'a str>, Wrong> {
    match object.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(
            &below(place, key),
            format!("must be a text, but is {other}"),
        )),
    }
}

fn required_text<'a>(
    object: &'a Map<String, Value>,
    place: &str,
    key: &str,
) -> Result<&'a str, Wrong> {
    text(object, place, key)?.ok_or_else(|| wrong(place, format!("{key} is missing")))
}

/// A key of which only one value is supported, which is also what it means when it is left out.
fn only(
    object: &Map<String, Value>,
    place: &str,
    key: &str,
    supported: &Value,
) -> Result<(), Wrong> {
    match object.get(key) {
        None => Ok(()),
        Some(value) if value == supported => Ok(()),
        Some(other) => Err(wrong(
            &below(place, key),
            format!("{other} is not supported by this server; {supported} is"),
        )),
    }
}

fn below(place: &str, key: &str) -> String {
    if place.is_empty() {
        key.to_owned()
    } else {
        format!("{place}.{key}")
    }
}

fn wrong(place: &str, text: impl Into<String>) -> Wrong {
    Wrong::Value {
        place: if place.is_empty() {
            "the file".to_owned()
        } else {
            place.to_owned()
        },
        text: text.into(),
    }
}

/// The text with blanks where comments were, so that lines and columns stay what they are.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let mut in_text = false;
    while let Some(character) = rest.next() {
        if in_text {
            out.push(character);
            match character {
                '\\' => out.extend(rest.next()),
                '"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match (character, rest.peek()) {
            ('/', Some('/')) => {
                out.push(' ');
                while let Some(skipped) = rest.next_if(|next| *next != '\n') {
                    out.push(blank(skipped));
                }
            }
            ('/', Some('*')) => {
                out.push(' ');
                let mut before = ' ';
                for (position, skipped) in rest.by_ref().enumerate() {
                    out.push(blank(skipped));
                    // The star that opens the comment does not close it.
                    if position > 1 && before == '*' && skipped == '/' {
                        break;
                    }
                    before = skipped;
                }
            }
            _ => {
                in_text = character == '"';
                out.push(character);
            }
        }
    }
    out
}

fn blank(character: char) -> char {
    if character == '\n' { '\n' } else { ' ' }
}

/// The file that stands for a set: what `parse` reads back.
pub fn print(set: &IndexSet) -> String {
    let indexes = set.indexes.iter().map(print_index).collect();
    let fields = set.fields.iter().map(|(key, indexes)| {
        let indexes = indexes.iter().map(|index| {
            let scope = scope_word(index.scope);
            format!("{{ {}, \"queryScope\": \"{scope}\" }}", print_mode(index.mode))
        });
        let path = key
            .path
            .as_ref()
            .map_or_else(|| "*".to_owned(), FieldPath::to_string);
        format!(
            "{{\n      \"collectionGroup\": {},\n      \"fieldPath\": {},\n      \"indexes\": {}\n    }}",
            quoted(key.group.as_deref().unwrap_or("__default__")),
            quoted(&path),
            print_list(indexes.collect(), 6)
        )
    });
    format!(
        "{{\n  \"indexes\": {},\n  \"fieldOverrides\": {}\n}}\n",
        print_list(indexes, 2),
        print_list(fields.collect(), 2)
    )
}

fn print_index(definition: &Definition) -> String {
    let fields = definition.fields().iter().map(|field| {
        let path = quoted(&field.path.to_string());
        format!("{{ \"fieldPath\": {path}, {} }}", print_mode(field.mode))
    });
    format!(
        "{{\n      \"collectionGroup\": {},\n      \"queryScope\": \"{}\",\n      \"fields\": {}\n    }}",
        quoted(definition.group()),
        scope_word(definition.scope()),
        print_list(fields.collect(), 6)
    )
}

fn print_mode(mode: Mode) -> String {
    match mode {
        Mode::Ascending => "\"order\": \"ASCENDING\"".to_owned(),
        Mode::Descending => "\"order\": \"DESCENDING\"".to_owned(),
        Mode::Contains => "\"arrayConfig\": \"CONTAINS\"".to_owned(),
        Mode::Vector { dimension } => {
            format!("\"vectorConfig\": {{ \"dimension\": {dimension}, \"flat\": {{}} }}")
        }
    }
}

fn print_list(elements: Vec<String>, indent: usize) -> String {
    if elements.is_empty() {
        return "[]".to_owned();
    }
    let mut out = String::from("[");
    for (position, element) in elements.iter().enumerate() {
        let comma = if position > 0 { "," } else { "" };
        let _ = write!(out, "{comma}\n{:1$}{element}", "", indent + 2);
    }
    let _ = write!(out, "\n{:indent$}]", "");
    out
}

fn scope_word(scope: Scope) -> &'static str {
    match scope {
        Scope::Collection => "COLLECTION",
        Scope::Group => "COLLECTION_GROUP",
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
