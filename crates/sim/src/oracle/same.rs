//! When two things that were seen are the same.
//!
//! Values are compared to the bit where the server promises bits; nothing here looks at versions of the store.

use watchfire_model::compare::identical_fields;
use watchfire_model::{Change, Document, Value, WriteOutcome};

use crate::history::Found;
use crate::oracle::effect::Effect;

/// Whether both are the same document in the same state, times included.
pub fn same_document(a: Option<&Document>, b: Option<&Document>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            std::ptr::eq(a, b)
                || (a.update_time == b.update_time
                    && a.create_time == b.create_time
                    && a.path == b.path
                    && identical_fields(&a.fields, &b.fields))
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Whether both say the same of the same documents. What was before does not count.
pub fn same_changes(a: &[Change], b: &[Change]) -> bool {
    a.len() == b.len()
        && a.iter().all(|a| {
            b.iter()
                .any(|b| a.path == b.path && same_document(a.after.as_deref(), b.after.as_deref()))
        })
}

/// Whether these are the outcomes of the effect. The update time of what was made and taken away again in one commit
/// may be any.
pub fn same_outcomes(effect: &Effect, seen: &[WriteOutcome]) -> bool {
    effect.outcomes.len() == seen.len()
        && effect
            .outcomes
            .iter()
            .zip(seen)
            .enumerate()
            .all(|(place, (a, b))| {
                (a.update_time == b.update_time || effect.undone.contains(&place))
                    && a.transform_results.len() == b.transform_results.len()
                    && a.transform_results
                        .iter()
                        .zip(&b.transform_results)
                        .all(|(a, b)| a.identical(b))
            })
}

/// Whether both are the same value; sums of doubles may be added up in any order.
pub fn same_total(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => {
            a.to_bits() == b.to_bits() || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
        }
        _ => a.identical(b),
    }
}

/// Whether both answers say the same.
pub fn same_found(a: &Found, b: &Found) -> bool {
    match (a, b) {
        (Found::Documents(a), Found::Documents(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(a, b)| same_document(a.as_deref(), b.as_deref()))
        }
        (Found::Query(a), Found::Query(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(a, b)| same_document(Some(a), Some(b)))
        }
        (Found::Aggregate(a), Found::Aggregate(b)) => {
            a.len() == b.len()
                && a.iter().all(|(alias, a)| {
                    b.iter()
                        .any(|(other, b)| alias == other && same_total(a, b))
                })
        }
        (Found::Documents(_) | Found::Query(_) | Found::Aggregate(_), _) => false,
    }
}
