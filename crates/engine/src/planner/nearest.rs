//! How a nearest-neighbour search is answered: from the entries of a vector index alone, or from the query's result.
//!
//! A vector index answers a search when the query asks for nothing but values that the index's other fields must
//! equal. Whatever else a query asks, its own result is searched; an index over all fields that it names is wanted
//! all the same, as the service wants one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use watchfire_model::filter::is_unequal_to_all;
use watchfire_model::{
    DatabaseName, FieldOperator, FieldPath, Filter, Nearest, Query, Selector, UnaryOperator, Value,
};

use super::IndexUsed;
use crate::definition::{Definition, IndexField, Mode, Scope};
use crate::error::Error;
use crate::index::catalog::{Catalog, Index, IndexState};
use crate::index::key::{Place, defined_start_in, encode_column};
use crate::missing::MissingIndex;

/// How a search is answered.
#[derive(Clone, Debug)]
pub enum NearestPlan {
    /// From a vector index; documents are only loaded to be shown.
    Vectors(VectorScan),
    /// From the query's own result.
    Result {
        /// The index that the search wants, when there is none.
        missing: Option<Box<MissingIndex>>,
    },
}

/// The entries of one vector index that belong to the query.
#[derive(Clone, Debug)]
pub struct VectorScan {
    pub place: Place,
    /// With what the entries begin, ascending, each once; no entry begins with two of them. None: nothing can match.
    pub starts: Vec<Bytes>,
    /// Names behind the columns are inverted.
    pub names_inverted: bool,
    /// How many numbers every entry holds.
    pub dimension: usize,
    /// For explanations.
    pub index_used: IndexUsed,
}

/// Chooses how to answer. The same query, search and catalogue give the same plan.
pub fn choose(
    catalog: &Catalog,
    database: &DatabaseName,
    query: &Query,
    nearest: &Nearest,
) -> Result<NearestPlan, Error> {
    let (place, group) = match query.selector() {
        Selector::Collection(id) => (Place::Collection(query.parent().collection(id)?), id),
        Selector::Group(id) => (Place::Group(id.clone()), id),
        // No index spans collections of several ids.
        Selector::Everything => return Ok(NearestPlan::Result { missing: None }),
    };
    let scope = place.scope();
    let asked = Asked::of(query, nearest);
    let wanted = asked.definition(group, scope, nearest)?;
    let serving: Vec<&Index> = catalog
        .indexes_of(group)
        .filter(|index| serves(&index.definition, &wanted))
        .collect();
    let ready = serving
        .iter()
        .find(|index| index.state == IndexState::Ready);
    let Some(index) = ready else {
        return Ok(NearestPlan::Result {
            missing: Some(Box::new(MissingIndex {
                database: database.clone(),
                definition: wanted,
                building: serving.first().map(|index| index.id),
                several_inequalities: false,
            })),
        });
    };
    let from_entries = asked.values.as_ref().filter(|_| asks_no_more(query));
    Ok(
        match from_entries.and_then(|values| starts(index, &place, values)) {
            Some(starts) => NearestPlan::Vectors(VectorScan {
                place,
                starts,
                names_inverted: index.definition.name_descends(),
                dimension: nearest.vector.len(),
                index_used: IndexUsed {
                    scope,
                    properties: index.definition.to_string(),
                },
            }),
            None => NearestPlan::Result { missing: None },
        },
    )
}

/// What the query asks of fields.
struct Asked<'q> {
    equal: BTreeSet<&'q FieldPath>,
    contains: BTreeSet<&'q FieldPath>,
    ordered: Vec<(&'q FieldPath, Mode)>,
    /// For each field the values that it may have; `None` when more is asked than that.
    values: Option<BTreeMap<&'q FieldPath, Vec<Value>>>,
}

impl<'q> Asked<'q> {
    fn of(query: &'q Query, nearest: &Nearest) -> Self {
        let mut asked = Self {
            equal: BTreeSet::new(),
            contains: BTreeSet::new(),
            ordered: Vec::new(),
            values: Some(BTreeMap::new()),
        };
        if let Some(filter) = query.filter() {
            asked.add(filter);
            if !is_conjunction(filter) {
                asked.values = None;
            }
        }
        for order in query.order() {
            if order.field.is_document_name() || asked.equal.contains(&order.field) {
                continue;
            }
            asked.values = None;
            let mode = match order.direction {
                watchfire_model::Direction::Ascending => Mode::Ascending,
                watchfire_model::Direction::Descending => Mode::Descending,
            };
            asked.ordered.push((&order.field, mode));
        }
        // The vector stands in the index once, whatever else is asked of it.
        if asked.equal.remove(&nearest.field) {
            asked.values = None;
        }
        asked.contains.remove(&nearest.field);
        asked.ordered.retain(|(field, _)| *field != &nearest.field);
        let equal = &asked.equal;
        asked.contains.retain(|field| !equal.contains(field));
        let contains = &asked.contains;
        asked.ordered.retain(|(field, _)| !contains.contains(field));
        asked
    }

    fn add(&mut self, filter: &'q Filter) {
        for leaf in filter.leaves() {
            match leaf {
                Filter::Field {
                    field,
                    operator,
                    value,
                } if !field.is_document_name() => match operator {
                    FieldOperator::Equal => self.add_equal(field, std::slice::from_ref(value)),
                    FieldOperator::In => {
                        let values: &[Value] = match value {
                            Value::Array(values) => values,
                            _ => &[],
                        };
                        self.add_equal(field, values);
                    }
                    FieldOperator::ArrayContains | FieldOperator::ArrayContainsAny => {
                        self.contains.insert(field);
                        self.values = None;
                    }
                    FieldOperator::LessThan
                    | FieldOperator::LessThanOrEqual
                    | FieldOperator::GreaterThan
                    | FieldOperator::GreaterThanOrEqual
                    | FieldOperator::NotEqual
                    | FieldOperator::NotIn => self.values = None,
                },
                Filter::Unary { field, operator } if !field.is_document_name() => match operator {
                    UnaryOperator::IsNull => self.add_values(field, vec![Value::Null]),
                    UnaryOperator::IsNan => self.add_values(field, vec![Value::Double(f64::NAN)]),
                    UnaryOperator::IsNotNull | UnaryOperator::IsNotNan => self.values = None,
                },
                Filter::Field { .. } | Filter::Unary { .. } => self.values = None,
                Filter::And(_) | Filter::Or(_) => {}
            }
        }
    }

    /// Null and NaN are equal to nothing.
    fn add_equal(&mut self, field: &'q FieldPath, values: &[Value]) {
        let equal = values.iter().filter(|value| !is_unequal_to_all(value));
        self.add_values(field, equal.cloned().collect());
    }

    fn add_values(&mut self, field: &'q FieldPath, values: Vec<Value>) {
        self.equal.insert(field);
        let Some(known) = &mut self.values else {
            return;
        };
        match known.get_mut(field) {
            Some(known) => known.retain(|known| values.iter().any(|value| known.equals(value))),
            None => drop(known.insert(field, values)),
        }
    }

    /// The index that would serve the search.
    fn definition(
        &self,
        group: &str,
        scope: Scope,
        nearest: &Nearest,
    ) -> Result<Definition, Error> {
        let field = |path: &FieldPath, mode: Mode| IndexField {
            path: path.clone(),
            mode,
        };
        let vector = IndexField {
            path: nearest.field.clone(),
            mode: Mode::Vector {
                dimension: u32::try_from(nearest.vector.len()).unwrap_or(u32::MAX),
            },
        };
        let equal = self.equal.iter().map(|path| field(path, Mode::Ascending));
        // An index has one array field at most.
        let contains = self.contains.iter().take(1);
        let contains = contains.map(|path| field(path, Mode::Contains));
        let ordered = self.ordered.iter().map(|(path, mode)| field(path, *mode));
        let fields = equal
            .chain(contains)
            .chain(ordered)
            .chain([vector.clone()])
            .collect();
        Definition::new(group.to_owned(), scope, fields)
            .or_else(|_| Definition::new(group.to_owned(), scope, vec![vector]))
            .map_err(Error::from)
    }
}

/// Whether the filter is made of conditions that all must hold.
fn is_conjunction(filter: &Filter) -> bool {
    let mut open = vec![filter];
    while let Some(filter) = open.pop() {
        match filter {
            Filter::And(filters) => open.extend(filters),
            Filter::Or(filters) if filters.len() > 1 => return false,
            Filter::Or(filters) => open.extend(filters),
            Filter::Field { .. } | Filter::Unary { .. } => {}
        }
    }
    true
}

/// Whether the query keeps every document that its filter lets pass.
fn asks_no_more(query: &Query) -> bool {
    query.start().is_none()
        && query.end().is_none()
        && query.offset() == 0
        && query.limit().is_none()
}

/// Whether an index has the fields that are wanted: the vector last, the others in any order and direction.
fn serves(index: &Definition, wanted: &Definition) -> bool {
    let parts = |definition: &Definition| {
        let (vector, others) = definition.fields().split_last()?;
        let others: BTreeSet<(FieldPath, bool)> = others
            .iter()
            .map(|field| (field.path.clone(), field.mode == Mode::Contains))
            .collect();
        Some((vector.clone(), others))
    };
    index.scope() == wanted.scope() && parts(index) == parts(wanted)
}

/// With what the entries begin that have the values; `None` when the index keeps too little of one of them to tell it
/// from others.
fn starts(
    index: &Index,
    place: &Place,
    values: &BTreeMap<&FieldPath, Vec<Value>>,
) -> Option<Vec<Bytes>> {
    let mut starts = vec![defined_start_in(index.id, place)];
    for field in index.definition.fields() {
        let inverted = match field.mode {
            Mode::Ascending => false,
            Mode::Descending => true,
            Mode::Contains => return None,
            Mode::Vector { .. } => break,
        };
        let mut longer = Vec::new();
        // Their number is bounded by the alternatives that a query may have.
        for start in &starts {
            for value in values.get(&field.path)? {
                let mut start = start.clone();
                if encode_column(value, inverted, &mut start) {
                    return None;
                }
                longer.push(start);
            }
        }
        starts = longer;
    }
    let starts: BTreeSet<Bytes> = starts.into_iter().map(Bytes::from).collect();
    Some(starts.into_iter().collect())
}

#[cfg(test)]
mod tests;
