//! The filter in disjunctive normal form, and what each alternative says of each field.
//!
//! `Query::new` has seen to it that there are at most `DISJUNCTIONS_MAX` alternatives.

use std::collections::{BTreeMap, BTreeSet};

use watchfire_model::filter::is_unequal_to_all;
use watchfire_model::order::{encode_path, encode_path_prefix};
use watchfire_model::{
    DocumentPath, FieldOperator, FieldPath, Filter, Parent, Query, Selector, UnaryOperator, Value,
};
use watchfire_storage::Range;

use crate::index::key::encode_field_segment;
use crate::planner::range::{
    column, everything, except, from, intersect, intersect_all, of_type, up_to,
};

/// One alternative: everything in it must hold.
#[derive(Debug)]
pub(super) struct Conjunction {
    /// The conditions themselves; none when the query has no filter.
    pub leaves: Vec<Filter>,
    /// Fields with one value.
    pub equal: BTreeMap<FieldPath, Value>,
    /// Arrays with an element.
    pub contains: BTreeMap<FieldPath, Value>,
    /// What other conditions leave of fields that are not fixed, as columns that are not inverted.
    pub ranges: BTreeMap<FieldPath, Vec<Range>>,
    /// Names that are allowed, by `encode_path`; the query's own place included.
    pub names: Vec<Range>,
    /// A filter narrows the names, not only the query's place.
    pub names_filtered: bool,
    /// Only these documents, whatever `names` says besides.
    pub documents: Option<BTreeSet<DocumentPath>>,
    /// Some condition is in none of the above.
    pub undecided: bool,
}

/// Every alternative that something can match and no other one includes, in the order of the filter.
pub(super) fn alternatives(query: &Query) -> Vec<Conjunction> {
    let expanded = query.filter().map_or_else(|| vec![Vec::new()], expand);
    let identities: Vec<_> = expanded.iter().map(|leaves| identity(leaves)).collect();
    let is_included = |at: usize, own: &BTreeSet<Vec<u8>>| {
        identities.iter().enumerate().any(|(other, conditions)| {
            own.is_superset(conditions) && (other < at || own.len() > conditions.len())
        })
    };
    expanded
        .into_iter()
        .zip(&identities)
        .enumerate()
        .filter(|(at, (_, own))| !is_included(*at, own))
        .filter_map(|(_, (leaves, _))| Conjunction::new(query, leaves))
        .collect()
}

/// Recursion is bounded by the depth of a valid filter.
fn expand(filter: &Filter) -> Vec<Vec<Filter>> {
    match filter {
        Filter::Or(filters) => filters.iter().flat_map(expand).collect(),
        Filter::And(filters) => filters.iter().fold(vec![Vec::new()], |all, filter| {
            let more = expand(filter);
            all.iter()
                .flat_map(|leaves| {
                    more.iter()
                        .map(move |more| leaves.iter().chain(more).cloned().collect())
                })
                .collect()
        }),
        Filter::Field {
            field,
            operator,
            value: Value::Array(values),
        } => {
            let one = match operator {
                FieldOperator::In if !field.is_document_name() => FieldOperator::Equal,
                FieldOperator::ArrayContainsAny => FieldOperator::ArrayContains,
                _ => return vec![vec![filter.clone()]],
            };
            values
                .iter()
                .map(|value| {
                    vec![Filter::Field {
                        field: field.clone(),
                        operator: one,
                        value: value.clone(),
                    }]
                })
                .collect()
        }
        Filter::Field { .. } | Filter::Unary { .. } => vec![vec![filter.clone()]],
    }
}

/// Equal for conjunctions of the same conditions.
fn identity(leaves: &[Filter]) -> BTreeSet<Vec<u8>> {
    leaves
        .iter()
        .map(|leaf| {
            let mut out = Vec::new();
            let (field, mark, value) = match leaf {
                Filter::Field {
                    field,
                    operator,
                    value,
                } => (field, [0, *operator as u8], Some(value)),
                Filter::Unary { field, operator } => (field, [1, *operator as u8], None),
                Filter::And(_) | Filter::Or(_) => return out,
            };
            out.extend_from_slice(&mark);
            field
                .segments()
                .iter()
                .for_each(|segment| encode_field_segment(segment, &mut out));
            out.push(0);
            if let Some(value) = value {
                watchfire_model::order::encode_value(value, &mut out);
            }
            out
        })
        .collect()
}

/// Names where the query looks, but for the selector's collection id in a group.
fn place_of(query: &Query) -> Range {
    let below = |path: &str| {
        let mut prefix = Vec::new();
        encode_path_prefix(path, &mut prefix);
        prefix
    };
    match (query.selector(), query.parent()) {
        (Selector::Collection(id), Parent::Root) => Range::prefix(&below(id)),
        (Selector::Collection(id), Parent::Document(parent)) => {
            Range::prefix(&below(&format!("{parent}/{id}")))
        }
        (Selector::Group(_) | Selector::Everything, Parent::Root) => everything(),
        (Selector::Group(_) | Selector::Everything, Parent::Document(parent)) => {
            // Without the parent itself, whose encoding ends there.
            let mut itself = Vec::new();
            encode_path(parent, &mut itself);
            intersect(
                &Range::prefix(&below(parent.as_str())),
                &from(&itself, false),
            )
        }
    }
}

impl Conjunction {
    /// `None` when nothing can match.
    fn new(query: &Query, leaves: Vec<Filter>) -> Option<Self> {
        let mut new = Self {
            leaves: Vec::new(),
            equal: BTreeMap::new(),
            contains: BTreeMap::new(),
            ranges: BTreeMap::new(),
            names: vec![place_of(query)],
            names_filtered: false,
            documents: None,
            undecided: false,
        };
        for leaf in &leaves {
            match leaf {
                Filter::Field {
                    field,
                    operator,
                    value,
                } if field.is_document_name() => new.add_name(query, *operator, value)?,
                Filter::Field {
                    field,
                    operator,
                    value,
                } => new.add(field, *operator, value)?,
                Filter::Unary { field, operator } => new.add_unary(field, *operator)?,
                Filter::And(_) | Filter::Or(_) => new.undecided = true,
            }
        }
        new.leaves = leaves;
        new.settle_fixed()?;
        if let Some(documents) = &mut new.documents {
            documents.retain(|path| {
                let mut encoded = Vec::new();
                encode_path(path, &mut encoded);
                query.selects(path) && new.names.iter().any(|names| names.contains(&encoded))
            });
        }
        let possible = new.ranges.values().all(|ranges| !ranges.is_empty())
            && !new.names.is_empty()
            && new.documents.as_ref().is_none_or(|paths| !paths.is_empty());
        possible.then_some(new)
    }

    /// Whether the alternative says nothing about any field.
    pub fn is_about_names_alone(&self) -> bool {
        self.equal.is_empty() && self.contains.is_empty() && self.ranges.is_empty()
    }

    fn narrow(&mut self, field: &FieldPath, ranges: &[Range]) {
        let old = self
            .ranges
            .entry(field.clone())
            .or_insert_with(|| vec![everything()]);
        *old = intersect_all(old, ranges);
    }

    fn leave_out(&mut self, field: &FieldPath, value: &Value) {
        let (point, cut) = column(value, false);
        // A cut value stands for others too.
        if cut {
            self.narrow(field, &[everything()]);
        } else {
            self.narrow(field, &except(&point));
        }
    }

    fn fix(&mut self, field: &FieldPath, value: &Value) -> Option<()> {
        let old = self
            .equal
            .entry(field.clone())
            .or_insert_with(|| value.clone());
        old.equals(value).then_some(())
    }

    /// `None` when nothing can match.
    fn add(&mut self, field: &FieldPath, operator: FieldOperator, value: &Value) -> Option<()> {
        let bound = |range: Range| vec![intersect(&of_type(value), &range)];
        let bounds = match operator {
            FieldOperator::Equal => {
                return if is_unequal_to_all(value) {
                    None
                } else {
                    self.fix(field, value)
                };
            }
            FieldOperator::ArrayContains => {
                if is_unequal_to_all(value) {
                    return None;
                }
                let old = self
                    .contains
                    .entry(field.clone())
                    .or_insert_with(|| value.clone());
                self.undecided |= !old.equals(value);
                return Some(());
            }
            FieldOperator::NotEqual => {
                self.leave_out(field, &Value::Null);
                self.leave_out(field, value);
                return Some(());
            }
            FieldOperator::NotIn => {
                self.leave_out(field, &Value::Null);
                let Value::Array(values) = value else {
                    return None;
                };
                for value in values {
                    if matches!(value, Value::Null) {
                        return None;
                    }
                    self.leave_out(field, value);
                }
                return Some(());
            }
            FieldOperator::In | FieldOperator::ArrayContainsAny => {
                self.undecided = true;
                return Some(());
            }
            FieldOperator::LessThan => {
                let (point, cut) = column(value, false);
                bound(up_to(&point, cut))
            }
            FieldOperator::LessThanOrEqual => bound(up_to(&column(value, false).0, true)),
            FieldOperator::GreaterThan => {
                let (point, cut) = column(value, false);
                bound(from(&point, cut))
            }
            FieldOperator::GreaterThanOrEqual => bound(from(&column(value, false).0, true)),
        };
        if is_unequal_to_all(value) {
            return None;
        }
        self.narrow(field, &bounds);
        Some(())
    }

    fn add_unary(&mut self, field: &FieldPath, operator: UnaryOperator) -> Option<()> {
        match operator {
            UnaryOperator::IsNull => return self.fix(field, &Value::Null),
            UnaryOperator::IsNan => return self.fix(field, &Value::Double(f64::NAN)),
            UnaryOperator::IsNotNull => self.leave_out(field, &Value::Null),
            UnaryOperator::IsNotNan => {
                self.leave_out(field, &Value::Null);
                self.leave_out(field, &Value::Double(f64::NAN));
            }
        }
        Some(())
    }

    /// `None` when nothing can match.
    fn add_name(&mut self, query: &Query, operator: FieldOperator, value: &Value) -> Option<()> {
        let own = |value: &Value| match value {
            Value::Reference(name) if name.database == *query.database() => Some(name.path.clone()),
            _ => None,
        };
        let only = |values: &[Value]| values.iter().filter_map(own).collect::<BTreeSet<_>>();
        match (operator, value) {
            (FieldOperator::Equal, value) => {
                self.only_documents(only(std::slice::from_ref(value)));
            }
            (FieldOperator::In, Value::Array(values)) => self.only_documents(only(values)),
            (FieldOperator::NotEqual, value) => {
                self.leave_out_names(only(std::slice::from_ref(value)))
            }
            (FieldOperator::NotIn, Value::Array(values)) => self.leave_out_names(only(values)),
            (
                FieldOperator::LessThan
                | FieldOperator::LessThanOrEqual
                | FieldOperator::GreaterThan
                | FieldOperator::GreaterThanOrEqual,
                Value::Reference(name),
            ) => {
                let (lower, inclusive) = match operator {
                    FieldOperator::LessThan => (false, false),
                    FieldOperator::LessThanOrEqual => (false, true),
                    FieldOperator::GreaterThan => (true, false),
                    _ => (true, true),
                };
                let by_database = query.database().cmp(&name.database);
                if by_database.is_ne() {
                    // All names of a database are on the same side of those of another one.
                    return (by_database.is_gt() == lower).then_some(());
                }
                let mut point = Vec::new();
                encode_path(&name.path, &mut point);
                let bound = if lower {
                    from(&point, inclusive)
                } else {
                    up_to(&point, inclusive)
                };
                self.names = intersect_all(&self.names, &[bound]);
                self.names_filtered = true;
            }
            // No document's name compares with anything else.
            _ => return None,
        }
        Some(())
    }

    fn only_documents(&mut self, paths: BTreeSet<DocumentPath>) {
        self.documents = Some(match self.documents.take() {
            None => paths,
            Some(old) => old.intersection(&paths).cloned().collect(),
        });
    }

    fn leave_out_names(&mut self, paths: BTreeSet<DocumentPath>) {
        for path in paths {
            let mut point = Vec::new();
            encode_path(&path, &mut point);
            self.names = intersect_all(&self.names, &except(&point));
            self.names_filtered = true;
        }
    }

    /// What else is said about a field with one value is true of it or not, and then needs no index.
    fn settle_fixed(&mut self) -> Option<()> {
        for (field, value) in &self.equal {
            if let Some(ranges) = self.ranges.remove(field) {
                let (point, _) = column(value, false);
                if !ranges.iter().any(|range| range.contains(&point)) {
                    return None;
                }
            }
            if let Some(element) = self.contains.remove(field) {
                match value {
                    Value::Array(elements) if elements.iter().any(|one| one.equals(&element)) => {}
                    _ => return None,
                }
            }
        }
        Some(())
    }
}
