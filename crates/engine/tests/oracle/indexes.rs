//! Indexes of every kind, and configurations of fields.

use watchfire_engine::definition::{Definition, IndexField, Mode, Scope};
use watchfire_engine::index::catalog::{FieldIndex, FieldKey};
use watchfire_model::{Filter, Query, Selector};

use crate::choices::Choices;
use crate::data::{FIELDS, GROUPS, field};

/// How often fields are chosen until they may be an index.
const ATTEMPTS_MAX: usize = 50;

fn group(choices: &mut Choices) -> String {
    if choices.percent(65) {
        "c".to_owned()
    } else {
        choices.word(&GROUPS).to_owned()
    }
}

fn scope(choices: &mut Choices) -> Scope {
    if choices.percent(60) {
        Scope::Collection
    } else {
        Scope::Group
    }
}

fn direction(choices: &mut Choices) -> Mode {
    if choices.percent(60) {
        Mode::Ascending
    } else {
        Mode::Descending
    }
}

/// Any index.
pub fn definition(choices: &mut Choices) -> Definition {
    for _ in 0..ATTEMPTS_MAX {
        let len = choices.weighted(&[0, 4, 50, 30, 16]);
        let mut fields: Vec<IndexField> = (0..len)
            .map(|_| {
                let path = field(choices.word(&FIELDS));
                let array = ["t", "u"].contains(&path.to_string().as_str());
                let mode = if choices.percent(if array { 60 } else { 6 }) {
                    Mode::Contains
                } else {
                    direction(choices)
                };
                IndexField { path, mode }
            })
            .collect();
        if choices.percent(6) {
            fields.push(IndexField {
                path: field("v"),
                mode: Mode::Vector { dimension: 2 },
            });
        }
        if fields.len() == 1 && !matches!(fields[0].mode, Mode::Vector { .. }) {
            continue;
        }
        let definition = Definition::new(group(choices), scope(choices), fields);
        if let Ok(definition) = definition {
            return definition;
        }
    }
    panic!("no definition was valid");
}

/// One that has something to do with the query.
pub fn definition_for(choices: &mut Choices, query: &Query) -> Definition {
    let (group, scope) = match query.selector() {
        Selector::Collection(id) => (id.clone(), Scope::Collection),
        Selector::Group(id) => (id.clone(), Scope::Group),
        Selector::Everything => return definition(choices),
    };
    let mut fields: Vec<IndexField> = Vec::new();
    let equalities = query.filter().into_iter().flat_map(Filter::leaves);
    for leaf in equalities {
        if let Filter::Field {
            field: path,
            operator,
            ..
        } = leaf
            && !operator.is_inequality()
            && choices.percent(75)
        {
            let mode = match operator {
                watchfire_model::FieldOperator::ArrayContains
                | watchfire_model::FieldOperator::ArrayContainsAny => Mode::Contains,
                _ => direction(choices),
            };
            fields.push(IndexField {
                path: path.clone(),
                mode,
            });
        }
    }
    let turned = choices.percent(30);
    for order in query.order() {
        let descends = matches!(order.direction, watchfire_model::Direction::Descending) != turned;
        fields.push(IndexField {
            path: order.field.clone(),
            mode: if descends {
                Mode::Descending
            } else {
                Mode::Ascending
            },
        });
    }
    let mut kept: Vec<IndexField> = Vec::new();
    for field in fields {
        let fits = !field.path.is_document_name()
            && kept.iter().all(|other| other.path != field.path)
            && (field.mode != Mode::Contains
                || kept.iter().all(|other| other.mode != Mode::Contains));
        if fits {
            kept.push(field);
        }
    }
    if kept.len() < 2 {
        return definition(choices);
    }
    Definition::new(group, scope, kept).unwrap_or_else(|_| definition(choices))
}

/// A field, a map, all fields of a group, or all fields of the database.
pub fn field_key(choices: &mut Choices) -> FieldKey {
    let (group, path) = match choices.weighted(&[75, 18, 7]) {
        0 => (
            Some(group(choices)),
            Some(field(choices.word(&FIELDS[..FIELDS.len() - 1]))),
        ),
        1 => (Some(group(choices)), None),
        _ => (None, None),
    };
    FieldKey { group, path }
}

/// From none to all.
pub fn field_indexes(choices: &mut Choices) -> Vec<FieldIndex> {
    let mut indexes = Vec::new();
    if choices.percent(30) {
        return indexes;
    }
    for scope in [Scope::Collection, Scope::Group] {
        for mode in [Mode::Ascending, Mode::Descending, Mode::Contains] {
            if choices.percent(55) {
                indexes.push(FieldIndex { scope, mode });
            }
        }
    }
    indexes
}
