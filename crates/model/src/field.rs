//! Field paths with their quoting, and masks.
//!
//! Segments are kept raw; quoting exists only in `parse` and `Display`.
//! What a field may hold is not decided here (see `value`).

use crate::document::{Document, Fields};
use crate::invalid::Invalid;
use crate::limits::FIELD_PATH_BYTES_MAX;
use crate::value::{Value, check_field_name};

/// The pseudo field that stands for the document's name.
const DOCUMENT_NAME: &str = "__name__";

/// A path to a field: raw (unquoted) segments, at least one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldPath {
    segments: Vec<String>,
}

impl FieldPath {
    /// Parses the protocol's syntax: simple segments, or any segment in backticks,
    /// where a backslash goes before a backtick or a backslash.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new("Invalid empty property path string."));
        }
        // A quoted segment is at most twice as long as it is raw, and has two quotes.
        if text.len() > 4 * FIELD_PATH_BYTES_MAX {
            return Err(too_long());
        }
        match split(text) {
            Some(segments) => Self::from_segments(segments),
            None => Err(Invalid::new(format!(
                "Invalid property path \"{text}\". Unquoted property paths must match regex \
                 ([a-zA-Z_][a-zA-Z_0-9]*), and quoted property paths must match regex \
                 (`(?:[^`\\\\]|(?:\\\\.))+`)."
            ))),
        }
    }

    /// The pseudo field `__name__`.
    pub fn document_name() -> Self {
        Self {
            segments: vec![DOCUMENT_NAME.to_owned()],
        }
    }

    /// Whether this is the pseudo field `__name__`.
    pub fn is_document_name(&self) -> bool {
        self.segments.len() == 1 && self.segments.first().is_some_and(|s| s == DOCUMENT_NAME)
    }

    /// From raw segments, which are checked: at least one, each a field name, in sum at most 1500 bytes.
    /// Of the reserved names only `__name__` is accepted, and only alone.
    pub fn from_segments(segments: Vec<String>) -> Result<Self, Invalid> {
        let path = Self { segments };
        if path.segments.is_empty() {
            return Err(Invalid::new("Invalid empty property path string."));
        }
        if path.is_document_name() {
            return Ok(path);
        }
        let bytes: usize = path.segments.iter().map(|segment| segment.len() + 1).sum();
        if bytes - 1 > FIELD_PATH_BYTES_MAX {
            return Err(too_long());
        }
        for segment in &path.segments {
            check_field_name(segment)?;
        }
        Ok(path)
    }

    /// The raw segments, at least one.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// Whether this path equals the other or is an ancestor of it.
    pub fn is_prefix_of(&self, other: &FieldPath) -> bool {
        other.segments.starts_with(&self.segments)
    }

    /// The value at this path, `None` where a parent is missing or no map.
    pub fn get<'a>(&self, fields: &'a Fields) -> Option<&'a Value> {
        let (last, parents) = self.split_last();
        let mut fields = fields;
        for parent in parents {
            match fields.get(parent) {
                Some(Value::Map(inner)) => fields = inner,
                _ => return None,
            }
        }
        fields.get(last)
    }

    /// Sets the value, creating parents; a parent that is no map is overwritten.
    pub fn set(&self, fields: &mut Fields, value: Value) {
        let (last, parents) = self.split_last();
        let mut fields = fields;
        for parent in parents {
            let slot = fields.entry(parent.clone()).or_insert(Value::Null);
            if !matches!(slot, Value::Map(_)) {
                *slot = Value::Map(Fields::new());
            }
            match slot {
                Value::Map(inner) => fields = inner,
                _ => unreachable!("the slot has just been made a map"),
            }
        }
        fields.insert(last.clone(), value);
    }

    /// Removes the value if it is there; parents stay.
    pub fn remove(&self, fields: &mut Fields) {
        let (last, parents) = self.split_last();
        let mut fields = fields;
        for parent in parents {
            match fields.get_mut(parent) {
                Some(Value::Map(inner)) => fields = inner,
                _ => return,
            }
        }
        fields.remove(last);
    }

    fn split_last(&self) -> (&String, &[String]) {
        self.segments
            .split_last()
            .expect("a field path has at least one segment")
    }
}

/// Prints the protocol's syntax, quoted where needed.
impl std::fmt::Display for FieldPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, segment) in self.segments.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            if is_simple(segment) {
                f.write_str(segment)?;
            } else {
                f.write_str("`")?;
                for character in segment.chars() {
                    if matches!(character, '`' | '\\') {
                        f.write_str("\\")?;
                    }
                    write!(f, "{character}")?;
                }
                f.write_str("`")?;
            }
        }
        Ok(())
    }
}

/// A set of field paths (normal form: sorted, none covered by another).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct FieldMask {
    paths: Vec<FieldPath>,
}

impl FieldMask {
    /// Brings the paths into normal form.
    pub fn new(mut paths: Vec<FieldPath>) -> Self {
        paths.sort();
        // Sorted, a path stands directly before everything that it covers.
        paths.dedup_by(|path, kept| kept.is_prefix_of(path));
        Self { paths }
    }

    /// In normal form.
    pub fn paths(&self) -> &[FieldPath] {
        &self.paths
    }

    /// Whether the mask names the path or an ancestor of it.
    pub fn covers(&self, path: &FieldPath) -> bool {
        self.paths
            .iter()
            .any(|covering| covering.is_prefix_of(path))
    }

    /// The fields that the mask names, with the maps that lead to them. `__name__` alone gives none.
    pub fn project(&self, fields: &Fields) -> Fields {
        let mut projected = Fields::new();
        for path in &self.paths {
            if let Some(value) = path.get(fields) {
                path.set(&mut projected, value.clone());
            }
        }
        projected
    }

    /// The document with only the fields that the mask names.
    pub fn project_document(&self, document: &Document) -> Document {
        Document {
            path: document.path.clone(),
            create_time: document.create_time,
            update_time: document.update_time,
            fields: self.project(&document.fields),
        }
    }
}

fn too_long() -> Invalid {
    Invalid::new(format!(
        "property path is longer than {FIELD_PATH_BYTES_MAX} bytes."
    ))
}

fn is_simple(segment: &str) -> bool {
    segment
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && segment
            .bytes()
            .next()
            .is_some_and(|byte| !byte.is_ascii_digit())
}

/// The raw segments, or `None` where the text breaks the syntax.
fn split(text: &str) -> Option<Vec<String>> {
    let mut segments = Vec::new();
    let mut rest = text;
    loop {
        let segment;
        if let Some(quoted) = rest.strip_prefix('`') {
            (segment, rest) = unquote(quoted)?;
        } else {
            let (simple, after) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
            if !is_simple(simple) {
                return None;
            }
            (segment, rest) = (simple.to_owned(), after);
        }
        segments.push(segment);
        if rest.is_empty() {
            return Some(segments);
        }
        rest = rest.strip_prefix('.')?;
    }
}

/// Reads up to the closing backtick; returns the raw segment, which is not empty, and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut segment = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next()? {
            '`' if segment.is_empty() => return None,
            '`' => return Some((segment, characters.as_str())),
            '\\' => match characters.next()? {
                escaped @ ('`' | '\\') => segment.push(escaped),
                _ => return None,
            },
            character => segment.push(character),
        }
    }
}

#[cfg(test)]
mod tests;
