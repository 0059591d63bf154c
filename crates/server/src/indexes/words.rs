//! Between the protocol's words for indexes and the engine's.

use watchfire_engine::definition::{Definition, IndexField, Mode, Scope};
use watchfire_engine::index::catalog::FieldIndex;
use watchfire_model::{FieldPath, Invalid};
use watchfire_wire::admin::{IndexMode, IndexScope, IndexShape};

/// The index that somebody asks for. The name of the document may be the last field, or stand before
/// a vector, in the direction that it has anyway; one field alone must be a vector.
pub fn asked_definition(group: String, shape: IndexShape) -> Result<Definition, Invalid> {
    let definition = told_definition(group, shape)?;
    match definition.fields() {
        [only] if !matches!(only.mode, Mode::Vector { dimension: _ }) => {
            Err(Invalid::new(format!(
                "this index is not necessary, configure using single field index controls: {} is the only field (UpdateField, or fieldOverrides in a file)",
                only.path
            )))
        }
        _ => Ok(definition),
    }
}

/// An index that a server has.
pub fn told_definition(group: String, shape: IndexShape) -> Result<Definition, Invalid> {
    let IndexShape { scope, mut fields } = shape;
    let name_descends = take_name(&mut fields)?;
    let fields = fields.into_iter().map(|(path, mode)| IndexField {
        path,
        mode: engine_mode(mode),
    });
    let definition = Definition::new(group, engine_scope(scope), fields.collect())?;
    match name_descends {
        Some(descends) if descends != definition.name_descends() => {
            let (asked, needed) = if descends {
                ("DESCENDING", "ASCENDING")
            } else {
                ("ASCENDING", "DESCENDING")
            };
            Err(Invalid::new(format!(
                "__name__ must be {needed}, as the ordered field before it, but is {asked}; it may be left out."
            )))
        }
        Some(_) | None => Ok(definition),
    }
}

/// Takes the document's name out of the fields; whether it descends. Where else than at its place it
/// stands, it is left for the engine to refuse.
fn take_name(fields: &mut Vec<(FieldPath, IndexMode)>) -> Result<Option<bool>, Invalid> {
    let behind_name = usize::from(matches!(
        fields.last(),
        Some((_, IndexMode::Vector { dimension: _ }))
    ));
    let Some(place) = fields.len().checked_sub(1 + behind_name) else {
        return Ok(None);
    };
    let Some((_, mode)) = fields
        .get(place)
        .filter(|(path, _)| path.is_document_name())
    else {
        return Ok(None);
    };
    let descends = match mode {
        IndexMode::Ascending => false,
        IndexMode::Descending => true,
        IndexMode::Contains | IndexMode::Vector { dimension: _ } => {
            return Err(Invalid::new("__name__ must have an order."));
        }
    };
    fields.remove(place);
    Ok(Some(descends))
}

/// A definition as it is shown, with the document's name at its place.
pub fn shape(definition: &Definition) -> IndexShape {
    let mut fields: Vec<(FieldPath, IndexMode)> = definition
        .fields()
        .iter()
        .map(|field| (field.path.clone(), wire_mode(field.mode)))
        .collect();
    let name = if definition.name_descends() {
        IndexMode::Descending
    } else {
        IndexMode::Ascending
    };
    let behind_name = usize::from(matches!(
        fields.last(),
        Some((_, IndexMode::Vector { dimension: _ }))
    ));
    let place = fields.len().saturating_sub(behind_name);
    fields.insert(place, (FieldPath::document_name(), name));
    IndexShape {
        scope: wire_scope(definition.scope()),
        fields,
    }
}

/// An automatic index in the engine's words.
pub fn field_index((scope, mode): (IndexScope, IndexMode)) -> FieldIndex {
    FieldIndex {
        scope: engine_scope(scope),
        mode: engine_mode(mode),
    }
}

/// An automatic index in the protocol's words.
pub fn wire_field_index(index: FieldIndex) -> (IndexScope, IndexMode) {
    (wire_scope(index.scope), wire_mode(index.mode))
}

fn engine_scope(scope: IndexScope) -> Scope {
    match scope {
        IndexScope::Collection => Scope::Collection,
        IndexScope::CollectionGroup => Scope::Group,
    }
}

fn wire_scope(scope: Scope) -> IndexScope {
    match scope {
        Scope::Collection => IndexScope::Collection,
        Scope::Group => IndexScope::CollectionGroup,
    }
}

fn engine_mode(mode: IndexMode) -> Mode {
    match mode {
        IndexMode::Ascending => Mode::Ascending,
        IndexMode::Descending => Mode::Descending,
        IndexMode::Contains => Mode::Contains,
        IndexMode::Vector { dimension } => Mode::Vector { dimension },
    }
}

fn wire_mode(mode: Mode) -> IndexMode {
    match mode {
        Mode::Ascending => IndexMode::Ascending,
        Mode::Descending => IndexMode::Descending,
        Mode::Contains => IndexMode::Contains,
        Mode::Vector { dimension } => IndexMode::Vector { dimension },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Field = (&'static str, IndexMode);

    const VECTOR: IndexMode = IndexMode::Vector { dimension: 3 };

    fn asked(fields: &[Field]) -> Result<Definition, Invalid> {
        let fields = fields
            .iter()
            .map(|(path, mode)| (FieldPath::parse(path).unwrap(), *mode));
        let shape = IndexShape {
            scope: IndexScope::Collection,
            fields: fields.collect(),
        };
        asked_definition("c".to_owned(), shape)
    }

    #[test]
    fn the_name_may_be_written_or_left_out() {
        use IndexMode::{Ascending, Contains, Descending};
        let cases: [(&[Field], IndexMode, usize); 4] = [
            (&[("a", Ascending), ("b", Descending)], Descending, 2),
            (&[("a", Descending), ("b", Contains)], Descending, 2),
            (&[("a", Ascending), ("v", VECTOR)], Ascending, 1),
            (&[("v", VECTOR)], Ascending, 0),
        ];
        for (fields, direction, place) in cases {
            let plain = asked(fields).unwrap();
            let mut with_name = fields.to_vec();
            with_name.insert(place, ("__name__", direction));
            assert_eq!(asked(&with_name).unwrap(), plain);
            let shown = shape(&plain);
            let shown: Vec<String> = shown.fields.iter().map(|(p, _)| p.to_string()).collect();
            let written: Vec<&str> = with_name.iter().map(|(path, _)| *path).collect();
            assert_eq!(shown, written);
            assert_eq!(
                told_definition("c".to_owned(), shape(&plain)).unwrap(),
                plain
            );
        }
    }

    #[test]
    fn what_is_wrong_with_an_index_is_said() {
        use IndexMode::{Ascending, Contains, Descending};
        let cases: [(&[Field], &str); 6] = [
            (
                &[("a", Ascending), ("b", Descending), ("__name__", Ascending)],
                "__name__ must be DESCENDING",
            ),
            (
                &[("__name__", Ascending), ("a", Ascending), ("b", Ascending)],
                "__name__",
            ),
            (
                &[("a", Ascending), ("__name__", Contains)],
                "must have an order",
            ),
            (&[("a", Ascending)], "is not necessary"),
            (
                &[("a", Contains), ("__name__", Ascending)],
                "is not necessary",
            ),
            (
                &[("v", VECTOR), ("a", Ascending)],
                "v must be the last field",
            ),
        ];
        for (fields, text) in cases {
            let invalid = asked(fields).unwrap_err().to_string();
            assert!(invalid.contains(text), "{invalid}");
        }
    }
}
