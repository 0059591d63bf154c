//! Where the documents of a query can be met: from a query to the spots at which it may be filed.
//!
//! A spot is one test that an index can answer: a field equals this, an array has that, a value lies between.
//! A cover says which spots go together. Whatever it says holds for every document that the query matches; the
//! converse is never promised. It knows nothing of how many targets lie where (see `shelf`, which chooses).
//!
//! # What is not done
//!
//! `!=`, `not-in`, `is not null` and the mere existence of ordered fields match nearly everything, and are no spots.
//! Of a cursor only the first value is used.

use watchfire_model::filter::is_unequal_to_all;
use watchfire_model::order::{encode_path, encode_type, encode_value};
use watchfire_model::{
    Cursor, DatabaseName, Direction, DocumentName, FieldOperator, FieldPath, Filter, Query,
    UnaryOperator, Value,
};

use crate::matcher::intervals::Interval;

/// One test of one field.
#[derive(Debug)]
pub struct Spot<'q> {
    /// Or `__name__`, whose keys are paths.
    pub field: &'q FieldPath,
    pub place: Place,
}

/// What the test asks of the field's value. Keys are those of `model::order`, so that equal values have equal keys.
#[derive(Debug)]
pub enum Place {
    /// It is one of the very few that fields of flags have: a boolean, null or NaN.
    Flag(Vec<u8>),
    Equal(Vec<u8>),
    /// It is an array with this element.
    Contains(Vec<u8>),
    Within(Interval),
}

/// Spots at which a query's documents are met.
#[derive(Debug)]
pub enum Cover<'q> {
    /// Every document is met here.
    Spot(Spot<'q>),
    /// Every document is met at each of these; nothing is known when there are none.
    Each(Vec<Cover<'q>>),
    /// Every document is met at one of these at least; when there are none, there is no document.
    Some(Vec<Cover<'q>>),
}

impl<'q> Cover<'q> {
    /// What is known of a query's documents. At most as many spots as the query has terms and values.
    pub fn of(query: &'q Query) -> Self {
        let mut known = Conjunction::default();
        if let Some(filter) = query.filter() {
            known.add(filter, query.database());
        }
        known.add_cursor(query, query.start(), Direction::Ascending);
        known.add_cursor(query, query.end(), Direction::Descending);
        known.cover()
    }

    /// Calls `each` with every spot. As deep as the filter is nested.
    pub fn spots(&self, each: &mut impl FnMut(&Spot<'q>)) {
        match self {
            Cover::Spot(spot) => each(spot),
            Cover::Each(covers) | Cover::Some(covers) => {
                for cover in covers {
                    cover.spots(each);
                }
            }
        }
    }
}

/// What holds at the same time.
#[derive(Default)]
struct Conjunction<'q> {
    covers: Vec<Cover<'q>>,
    /// The ranges of each field, laid over one another.
    ranges: Vec<(&'q FieldPath, Interval)>,
}

impl<'q> Conjunction<'q> {
    /// As deep as the filter is nested.
    fn add(&mut self, filter: &'q Filter, database: &DatabaseName) {
        match filter {
            Filter::And(filters) => {
                for filter in filters {
                    self.add(filter, database);
                }
            }
            Filter::Or(filters) => {
                let branches = filters.iter().map(|filter| {
                    let mut branch = Conjunction::default();
                    branch.add(filter, database);
                    branch.cover()
                });
                self.covers.push(Cover::Some(branches.collect()));
            }
            Filter::Field {
                field,
                operator,
                value,
            } if field.is_document_name() => self.add_name(field, *operator, value, database),
            Filter::Field {
                field,
                operator,
                value,
            } => self.add_field(field, *operator, value),
            Filter::Unary { field, operator } => {
                let value = match operator {
                    UnaryOperator::IsNan => Value::Double(f64::NAN),
                    UnaryOperator::IsNull => Value::Null,
                    UnaryOperator::IsNotNan | UnaryOperator::IsNotNull => return,
                };
                let place = Place::Flag(key(&value));
                self.covers.push(Cover::Spot(Spot { field, place }));
            }
        }
    }

    fn add_field(&mut self, field: &'q FieldPath, operator: FieldOperator, value: &Value) {
        match operator {
            FieldOperator::Equal => self.add_any(field, std::slice::from_ref(value), equal),
            FieldOperator::In => self.add_any(field, elements(value), equal),
            FieldOperator::ArrayContains => {
                self.add_any(field, std::slice::from_ref(value), contains);
            }
            FieldOperator::ArrayContainsAny => self.add_any(field, elements(value), contains),
            FieldOperator::LessThan
            | FieldOperator::LessThanOrEqual
            | FieldOperator::GreaterThan
            | FieldOperator::GreaterThanOrEqual => {
                if is_unequal_to_all(value) {
                    self.add_nothing();
                    return;
                }
                // Ranges end with the type of their operand.
                let (value_key, mut type_key) = (key(value), Vec::new());
                encode_type(value.type_rank(), &mut type_key);
                self.add_range(field, operator, &value_key, &type_key);
            }
            FieldOperator::NotEqual | FieldOperator::NotIn => {}
        }
    }

    /// Names are compared with their database, which is the same for all documents.
    fn add_name(
        &mut self,
        field: &'q FieldPath,
        operator: FieldOperator,
        value: &Value,
        database: &DatabaseName,
    ) {
        let own = |value: &Value| match value {
            Value::Reference(name) if name.database == *database => Some(name_key(name)),
            _ => None,
        };
        match operator {
            FieldOperator::Equal | FieldOperator::In => {
                let values = match operator {
                    FieldOperator::In => elements(value),
                    _ => std::slice::from_ref(value),
                };
                let spots = values.iter().filter_map(own).map(|key| {
                    let place = Place::Equal(key);
                    Cover::Spot(Spot { field, place })
                });
                self.covers.push(Cover::Some(spots.collect()));
            }
            FieldOperator::LessThan
            | FieldOperator::LessThanOrEqual
            | FieldOperator::GreaterThan
            | FieldOperator::GreaterThanOrEqual => {
                // A name in another database says nothing of paths: all match or none, and that is left to the test.
                if let Some(key) = own(value) {
                    self.add_range(field, operator, &key, &[]);
                }
            }
            FieldOperator::NotEqual
            | FieldOperator::NotIn
            | FieldOperator::ArrayContains
            | FieldOperator::ArrayContainsAny => {}
        }
    }

    /// The first value of a cursor bounds the first ordered field, across types. `lower` is the direction of the
    /// order in which the cursor is a lower bound.
    fn add_cursor(&mut self, query: &'q Query, cursor: Option<&'q Cursor>, lower: Direction) {
        let (Some(order), Some(value)) = (
            query.order().first(),
            cursor.and_then(|cursor| cursor.values.first()),
        ) else {
            return;
        };
        let key = match value {
            Value::Reference(name) if order.field.is_document_name() => {
                if name.database != *query.database() {
                    return;
                }
                name_key(name)
            }
            value => key(value),
        };
        let operator = if order.direction == lower {
            FieldOperator::GreaterThanOrEqual
        } else {
            FieldOperator::LessThanOrEqual
        };
        self.add_range(&order.field, operator, &key, &[]);
    }

    /// One spot for each operand; null and NaN equal nothing.
    fn add_any(&mut self, field: &'q FieldPath, values: &[Value], place: fn(&Value) -> Place) {
        let spots = values
            .iter()
            .filter(|value| !is_unequal_to_all(value))
            .map(|value| {
                let place = place(value);
                Cover::Spot(Spot { field, place })
            });
        self.covers.push(Cover::Some(spots.collect()));
    }

    fn add_range(
        &mut self,
        field: &'q FieldPath,
        operator: FieldOperator,
        bound: &[u8],
        other: &[u8],
    ) {
        let interval = if matches!(
            operator,
            FieldOperator::GreaterThan | FieldOperator::GreaterThanOrEqual
        ) {
            Interval::between(bound, other)
        } else {
            Interval::between(other, bound)
        };
        let known = self.ranges.iter().position(|(known, _)| *known == field);
        let interval = match known.map(|index| self.ranges.swap_remove(index)) {
            Some((_, known)) => known.intersect(interval),
            None => interval,
        };
        self.ranges.push((field, interval));
    }

    fn add_nothing(&mut self) {
        self.covers.push(Cover::Some(Vec::new()));
    }

    fn cover(mut self) -> Cover<'q> {
        for (field, interval) in std::mem::take(&mut self.ranges) {
            if interval.is_empty() {
                self.add_nothing();
            } else {
                let place = Place::Within(interval);
                self.covers.push(Cover::Spot(Spot { field, place }));
            }
        }
        Cover::Each(self.covers)
    }
}

fn equal(value: &Value) -> Place {
    match value {
        Value::Boolean(_) => Place::Flag(key(value)),
        _ => Place::Equal(key(value)),
    }
}

fn contains(value: &Value) -> Place {
    Place::Contains(key(value))
}

/// The elements of a list operand; nothing when it is none, which `Query::new` refuses.
fn elements(operand: &Value) -> &[Value] {
    match operand {
        Value::Array(elements) => elements,
        _ => &[],
    }
}

fn key(value: &Value) -> Vec<u8> {
    let mut key = Vec::new();
    encode_value(value, &mut key);
    key
}

fn name_key(name: &DocumentName) -> Vec<u8> {
    let mut key = Vec::new();
    encode_path(&name.path, &mut key);
    key
}
