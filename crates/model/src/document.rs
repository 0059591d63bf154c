//! A document as it is stored and shown.
//!
//! It knows nothing of its database: paths, sizes and contents are the same in each.

use std::collections::BTreeMap;

use crate::invalid::Invalid;
use crate::limits::DOCUMENT_BYTES_MAX;
use crate::path::{DocumentName, DocumentPath};
use crate::time::Timestamp;
use crate::value::{Value, check_field_name, fields_memory, fields_size};

/// Bytes that a document costs beyond its name and its fields.
const DOCUMENT_SIZE_BASE: usize = 32;

/// Top-level fields by raw name.
pub type Fields = BTreeMap<String, Value>;

/// A document that exists.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its place in the database.
    pub path: DocumentPath,
    /// The commit that created it; set anew when it is deleted and created again.
    pub create_time: Timestamp,
    /// The last commit that changed it.
    pub update_time: Timestamp,
    /// Its contents.
    pub fields: Fields,
}

impl Document {
    /// Size in bytes as the service counts it.
    pub fn size(&self) -> usize {
        self.path.size() + fields_size(&self.fields) + DOCUMENT_SIZE_BASE
    }

    /// About how many bytes of memory the document takes, as `Value::memory` counts it.
    pub fn memory(&self) -> usize {
        size_of::<Document>() + self.path.as_str().len() + fields_memory(&self.fields)
    }

    /// Refuses names and values that may not be stored. The size is left to `apply`.
    pub fn check_storable(&self) -> Result<(), Invalid> {
        for (name, value) in &self.fields {
            check_field_name(name)?;
            value.check_storable(name)?;
        }
        Ok(())
    }
}

/// The complaint about a document of more than `DOCUMENT_BYTES_MAX`.
pub fn too_large(name: &DocumentName, size: usize) -> Invalid {
    Invalid::new(format!(
        "Document '{name}' cannot be written because its size ({} bytes) exceeds the maximum allowed size of {} bytes.",
        Grouped(size),
        Grouped(DOCUMENT_BYTES_MAX)
    ))
}

/// A number with a comma between thousands.
struct Grouped(usize);

impl std::fmt::Display for Grouped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(fields: Fields) -> Document {
        Document {
            path: DocumentPath::parse("users/jeff/tasks/my_task_id").unwrap(),
            create_time: Timestamp::EPOCH,
            update_time: Timestamp::EPOCH,
            fields,
        }
    }

    #[test]
    fn size_is_that_of_the_published_example() {
        let fields = Fields::from([
            ("type".to_owned(), Value::String("Personal".to_owned())),
            ("done".to_owned(), Value::Boolean(false)),
            ("priority".to_owned(), Value::Integer(1)),
            (
                "description".to_owned(),
                Value::String("Learn Cloud Firestore".to_owned()),
            ),
        ]);
        assert_eq!(document(fields).size(), 147);
    }

    #[test]
    fn the_complaint_about_size_has_the_full_name() {
        let name = DocumentName::parse("projects/p/databases/d/documents/c/d").unwrap();
        assert_eq!(
            too_large(&name, 1_048_577).to_string(),
            "Document 'projects/p/databases/d/documents/c/d' cannot be written because its size (1,048,577 bytes) \
             exceeds the maximum allowed size of 1,048,576 bytes."
        );
    }

    #[test]
    fn names_are_checked() {
        let fields = Fields::from([("__x__".to_owned(), Value::Null)]);
        assert!(document(fields).check_storable().is_err());
    }
}
