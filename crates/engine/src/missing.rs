//! What a query would need, in words that people and tools act on.
//!
//! The texts are those that the protocol's tools look for, links included: a link holds the definition as a
//! serialized `google.firestore.admin.v1.Index` in base64url without padding. Nothing here decides what is missing.

use std::fmt::{self, Display, Formatter, Write};

use watchfire_model::DatabaseName;

use crate::definition::{Definition, IndexField, IndexId, Mode, Scope};

const SEVERAL_INEQUALITIES: &str = " .\nThe query contains range and inequality filters on multiple fields, please refer to the documentation for index selection best practices: https://cloud.google.com/firestore/docs/query-data/multiple-range-fields.";

/// The database that links do not name.
const DEFAULT_DATABASE: &str = "(default)";

/// An index that a query needs and cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingIndex {
    /// Whose.
    pub database: DatabaseName,
    /// What would serve the query. One field without a vector is an automatic index that is switched off.
    pub definition: Definition,
    /// It exists and is not complete yet.
    pub building: Option<IndexId>,
    /// The query has inequalities on several fields, about which there is more to read.
    pub several_inequalities: bool,
}

impl Display for MissingIndex {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.building.is_some() {
            return write!(
                f,
                "The query requires an index. That index is currently building and cannot be used yet. See its status here: {}",
                self.link("create_composite", &self.composite_message())
            );
        }
        if let Some(dimension) = self.vector_dimension() {
            return self.write_command(dimension, f);
        }
        if let Some((field, word)) = self.automatic() {
            return write!(
                f,
                "The query requires a {}_{word} index for collection {} and field {}. You can create it here: {}",
                self.scope_word(),
                self.definition.group(),
                field.path,
                self.link("create_exemption", &self.exemption_message(field))
            );
        }
        write!(
            f,
            "The query requires an index. You can create it here: {}",
            self.link("create_composite", &self.composite_message())
        )?;
        if self.several_inequalities {
            f.write_str(SEVERAL_INEQUALITIES)?;
        }
        Ok(())
    }
}

impl MissingIndex {
    /// The definition as `firestore.indexes.json` writes it, on one line: an entry of `indexes`, or for an automatic
    /// index one of `fieldOverrides`.
    pub fn definition_json(&self) -> String {
        let group = json_text(self.definition.group());
        let scope = self.scope_word();
        if let Some((field, _)) = self.automatic() {
            return format!(
                r#"{{"collectionGroup":{group},"fieldPath":{},"indexes":[{{{},"queryScope":"{scope}"}}]}}"#,
                json_text(&field.path.to_string()),
                json_mode(field.mode)
            );
        }
        let fields: Vec<String> = self
            .definition
            .fields()
            .iter()
            .map(|field| {
                format!(
                    r#"{{"fieldPath":{},{}}}"#,
                    json_text(&field.path.to_string()),
                    json_mode(field.mode)
                )
            })
            .collect();
        format!(
            r#"{{"collectionGroup":{group},"queryScope":"{scope}","fields":[{}]}}"#,
            fields.join(",")
        )
    }

    fn scope_word(&self) -> &'static str {
        match self.definition.scope() {
            Scope::Collection => "COLLECTION",
            Scope::Group => "COLLECTION_GROUP",
        }
    }

    fn vector_dimension(&self) -> Option<u32> {
        self.definition
            .fields()
            .iter()
            .find_map(|field| match field.mode {
                Mode::Vector { dimension } => Some(dimension),
                Mode::Ascending | Mode::Descending | Mode::Contains => None,
            })
    }

    /// The field of an automatic index, and the word for what is missing of it.
    fn automatic(&self) -> Option<(&IndexField, &'static str)> {
        let [field] = self.definition.fields() else {
            return None;
        };
        let word = match field.mode {
            Mode::Ascending => "ASC",
            Mode::Descending => "DESC",
            Mode::Contains => "CONTAINS",
            Mode::Vector { .. } => return None,
        };
        Some((field, word))
    }

    fn write_command(&self, dimension: u32, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Missing vector index configuration. Please create the required index with the following gcloud command: gcloud firestore indexes composite create --project={}",
            self.database.project()
        )?;
        if self.database.database() != DEFAULT_DATABASE {
            write!(f, " --database={}", self.database.database())?;
        }
        write!(
            f,
            " --collection-group={} --query-scope={}",
            self.definition.group(),
            self.scope_word()
        )?;
        for field in self.definition.fields() {
            f.write_str(" --field-config=")?;
            match field.mode {
                Mode::Ascending => f.write_str("order=ASCENDING")?,
                Mode::Descending => f.write_str("order=DESCENDING")?,
                Mode::Contains => f.write_str("array-config=CONTAINS")?,
                Mode::Vector { .. } => write!(
                    f,
                    r#"vector-config='{{"dimension":"{dimension}","flat": "{{}}"}}'"#
                )?,
            }
            write!(f, ",field-path={}", field.path)?;
        }
        Ok(())
    }

    fn link(&self, action: &str, message: &[u8]) -> String {
        let database = match self.database.database() {
            DEFAULT_DATABASE => String::new(),
            named => format!("/databases/{named}"),
        };
        format!(
            "https://console.firebase.google.com/v1/r/project/{}/firestore{database}/indexes?{action}={}",
            self.database.project(),
            base64url(message)
        )
    }

    /// `google.firestore.admin.v1.Index` with the name as its last field.
    fn composite_message(&self) -> Vec<u8> {
        let mut message = self.message_start("indexes/_");
        for field in self.definition.fields() {
            put_bytes(
                3,
                &field_message(&field.path.to_string(), field.mode),
                &mut message,
            );
        }
        let name = if self.definition.name_descends() {
            Mode::Descending
        } else {
            Mode::Ascending
        };
        put_bytes(3, &field_message("__name__", name), &mut message);
        message
    }

    /// The same of one field's automatic index, which says nothing about names.
    fn exemption_message(&self, field: &IndexField) -> Vec<u8> {
        let path = field.path.to_string();
        let mut message = self.message_start(&format!("fields/{path}"));
        put_bytes(3, &field_message(&path, field.mode), &mut message);
        message
    }

    fn message_start(&self, resource: &str) -> Vec<u8> {
        let mut message = Vec::new();
        let name = format!(
            "projects/{}/databases/{}/collectionGroups/{}/{resource}",
            self.database.project(),
            self.database.database(),
            self.definition.group()
        );
        put_bytes(1, name.as_bytes(), &mut message);
        let scope = match self.definition.scope() {
            Scope::Collection => 1,
            Scope::Group => 2,
        };
        put_number(2, scope, &mut message);
        message
    }
}

/// `google.firestore.admin.v1.Index.IndexField`.
fn field_message(path: &str, mode: Mode) -> Vec<u8> {
    let mut message = Vec::new();
    put_bytes(1, path.as_bytes(), &mut message);
    match mode {
        Mode::Ascending => put_number(2, 1, &mut message),
        Mode::Descending => put_number(2, 2, &mut message),
        Mode::Contains => put_number(3, 1, &mut message),
        Mode::Vector { dimension } => {
            let mut vector = Vec::new();
            put_number(1, u64::from(dimension), &mut vector);
            put_bytes(2, &[], &mut vector);
            put_bytes(4, &vector, &mut message);
        }
    }
    message
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_number(field: u64, number: u64, out: &mut Vec<u8>) {
    put_varint(field << 3, out);
    put_varint(number, out);
}

fn put_bytes(field: u64, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(field << 3 | 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Without padding.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .chain([&0, &0])
            .take(3)
            .fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        for digit in 0..=chunk.len() {
            let sextet = bits >> (18 - 6 * digit) & 0x3F;
            out.extend(ALPHABET.get(sextet).copied().map(char::from));
        }
    }
    out
}

fn json_mode(mode: Mode) -> String {
    match mode {
        Mode::Ascending => r#""order":"ASCENDING""#.to_owned(),
        Mode::Descending => r#""order":"DESCENDING""#.to_owned(),
        Mode::Contains => r#""arrayConfig":"CONTAINS""#.to_owned(),
        Mode::Vector { dimension } => {
            format!(r#""vectorConfig":{{"dimension":{dimension},"flat":{{}}}}"#)
        }
    }
}

fn json_text(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => {
                write!(out, "\\u{:04x}", u32::from(control)).expect("text grows without fail");
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchfire_model::FieldPath;

    fn missing(database: &str, scope: Scope, fields: &[(&str, Mode)]) -> MissingIndex {
        let fields = fields
            .iter()
            .map(|(path, mode)| IndexField {
                path: FieldPath::parse(path).unwrap(),
                mode: *mode,
            })
            .collect();
        MissingIndex {
            database: DatabaseName::new("demo", database).unwrap(),
            definition: Definition::new("cities".to_owned(), scope, fields).unwrap(),
            building: None,
            several_inequalities: false,
        }
    }

    fn decoded(text: &str, parameter: &str) -> String {
        let blob = text.split_once(parameter).unwrap().1;
        let blob = blob.split_whitespace().next().unwrap();
        let mut bits = 0_u32;
        let mut count = 0;
        let mut bytes = Vec::new();
        for digit in blob.bytes() {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => panic!("{digit} is no digit"),
            };
            bits = bits << 6 | u32::from(value);
            count += 6;
            if count >= 8 {
                count -= 8;
                bytes.push((bits >> count) as u8);
                bits &= (1 << count) - 1;
            }
        }
        bytes.escape_ascii().to_string()
    }

    #[test]
    fn base64url_is_that_of_the_standard_without_padding() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg"),
            (b"\xfb\xff\xfe", "-__-"),
        ] {
            assert_eq!(base64url(bytes), text);
        }
    }

    #[test]
    fn a_composite_index_is_named_by_a_link_with_its_message() {
        let mut missing = missing(
            "(default)",
            Scope::Collection,
            &[("a", Mode::Contains), ("b", Mode::Descending)],
        );
        let text = missing.to_string();
        assert!(text.starts_with("The query requires an index. You can create it here: https://console.firebase.google.com/v1/r/project/demo/firestore/indexes?create_composite=Ck"));
        assert_eq!(
            decoded(&text, "create_composite="),
            r"\nCprojects/demo/databases/(default)/collectionGroups/cities/indexes/_\x10\x01\x1a\x05\n\x01a\x18\x01\x1a\x05\n\x01b\x10\x02\x1a\x0c\n\x08__name__\x10\x02"
        );
        missing.several_inequalities = true;
        assert_eq!(missing.to_string(), format!("{text}{SEVERAL_INEQUALITIES}"));
        missing.building = Some(IndexId(7));
        let building = missing.to_string();
        assert!(building.starts_with("The query requires an index. That index is currently building and cannot be used yet. See its status here: https://console.firebase.google.com/v1/r/project/demo/firestore/indexes?create_composite=Ck"));
        assert_eq!(
            missing.definition_json(),
            r#"{"collectionGroup":"cities","queryScope":"COLLECTION","fields":[{"fieldPath":"a","arrayConfig":"CONTAINS"},{"fieldPath":"b","order":"DESCENDING"}]}"#
        );
    }

    #[test]
    fn an_automatic_index_is_an_exemption() {
        for (scope, mode, word) in [
            (Scope::Group, Mode::Ascending, "COLLECTION_GROUP_ASC"),
            (Scope::Group, Mode::Descending, "COLLECTION_GROUP_DESC"),
            (Scope::Group, Mode::Contains, "COLLECTION_GROUP_CONTAINS"),
            (Scope::Collection, Mode::Ascending, "COLLECTION_ASC"),
        ] {
            let missing = missing("other", scope, &[("a.b", mode)]);
            let text = missing.to_string();
            assert!(text.starts_with(&format!("The query requires a {word} index for collection cities and field a.b. You can create it here: https://console.firebase.google.com/v1/r/project/demo/firestore/databases/other/indexes?create_exemption=")), "{text}");
            let blob = decoded(&text, "create_exemption=");
            assert!(
                blob.contains("projects/demo/databases/other/collectionGroups/cities/fields/a.b")
            );
            assert!(!blob.contains("__name__"));
        }
        assert_eq!(
            missing("other", Scope::Group, &[("a", Mode::Contains)]).definition_json(),
            r#"{"collectionGroup":"cities","fieldPath":"a","indexes":[{"arrayConfig":"CONTAINS","queryScope":"COLLECTION_GROUP"}]}"#
        );
    }

    #[test]
    fn a_vector_index_is_a_command() {
        let fields = [
            ("a", Mode::Ascending),
            ("embedding", Mode::Vector { dimension: 3 }),
        ];
        assert_eq!(
            missing("(default)", Scope::Collection, &fields).to_string(),
            r#"Missing vector index configuration. Please create the required index with the following gcloud command: gcloud firestore indexes composite create --project=demo --collection-group=cities --query-scope=COLLECTION --field-config=order=ASCENDING,field-path=a --field-config=vector-config='{"dimension":"3","flat": "{}"}',field-path=embedding"#
        );
        assert!(missing("d", Scope::Group, &fields).to_string().contains(
            "--project=demo --database=d --collection-group=cities --query-scope=COLLECTION_GROUP "
        ));
    }
}
