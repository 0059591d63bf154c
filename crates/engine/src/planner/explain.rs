//! Indexes as explanations name them.

use watchfire_model::FieldPath;
use watchfire_storage::Direction;

use crate::index::key::Kind;

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "ASC",
        Direction::Backward => "DESC",
    }
}

/// Documents in the order of their names.
pub(super) fn names(direction: Direction) -> String {
    format!("(__name__ {})", word(direction))
}

/// An automatic index: one set of entries is both the ascending and the descending one, so it is named as it is read.
pub(super) fn automatic(kind: Kind, field: &FieldPath, direction: Direction) -> String {
    let direction = word(direction);
    match kind {
        Kind::Ascending => format!("({field} {direction}, __name__ {direction})"),
        Kind::Contains => format!("({field} CONTAINS, __name__ {direction})"),
    }
}
