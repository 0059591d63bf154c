//! A set of index definitions and field configurations, and how two of them differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};

use watchfire_engine::definition::{Definition, Mode, Scope};
use watchfire_engine::index::catalog::{FieldIndex, FieldKey, Modes};

/// What a database should have, or has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexSet {
    pub indexes: BTreeSet<Definition>,
    /// The fields with indexes of their own.
    pub fields: BTreeMap<FieldKey, BTreeSet<FieldIndex>>,
}

/// How what is there differs from what is wanted. Each part is in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: Vec<Definition>,
    pub removed: Vec<Definition>,
    pub kept: Vec<Definition>,
    pub fields_added: Vec<(FieldKey, BTreeSet<FieldIndex>)>,
    pub fields_changed: Vec<(FieldKey, BTreeSet<FieldIndex>)>,
    pub fields_removed: Vec<(FieldKey, BTreeSet<FieldIndex>)>,
    pub fields_kept: Vec<(FieldKey, BTreeSet<FieldIndex>)>,
    /// Of the changed fields, those that lose an index.
    pub fields_reduced: usize,
}

impl Changes {
    /// What leads from one set to the other.
    pub fn between(is: &IndexSet, wanted: &IndexSet) -> Self {
        let mut changes = Changes {
            added: wanted.indexes.difference(&is.indexes).cloned().collect(),
            removed: is.indexes.difference(&wanted.indexes).cloned().collect(),
            kept: is.indexes.intersection(&wanted.indexes).cloned().collect(),
            ..Changes::default()
        };
        for (key, indexes) in &wanted.fields {
            let field = (key.clone(), indexes.clone());
            match is.fields.get(key) {
                None => changes.fields_added.push(field),
                Some(has) if has == indexes => changes.fields_kept.push(field),
                Some(has) => {
                    changes.fields_reduced += usize::from(!modes(indexes).contains(modes(has)));
                    changes.fields_changed.push(field);
                }
            }
        }
        for (key, indexes) in &is.fields {
            if !wanted.fields.contains_key(key) {
                changes.fields_removed.push((key.clone(), indexes.clone()));
            }
        }
        changes
    }

    /// Nothing would be done.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.removed.is_empty()
            && self.fields_added.is_empty()
            && self.fields_changed.is_empty()
            && self.fields_removed.is_empty()
    }

    /// How much would be lost: indexes, configurations that are taken back, and fields with fewer indexes.
    pub fn losses(&self) -> usize {
        self.removed.len() + self.fields_removed.len() + self.fields_reduced
    }
}

/// Lines that begin with `+` for what is added, `~` for what changes, `-` for what goes and `=` for what stays.
impl Display for Changes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let indexes = [('+', &self.added), ('-', &self.removed), ('=', &self.kept)];
        for (sign, definitions) in indexes {
            for definition in definitions {
                let scope = scope_word(definition.scope());
                let group = definition.group();
                writeln!(f, "{sign} index  {group} {scope} {definition}")?;
            }
        }
        let fields = [
            ('+', &self.fields_added),
            ('~', &self.fields_changed),
            ('-', &self.fields_removed),
            ('=', &self.fields_kept),
        ];
        for (sign, fields) in fields {
            for (key, indexes) in fields {
                writeln!(
                    f,
                    "{sign} field  {} {}",
                    FieldWord(key),
                    FieldIndexes(indexes)
                )?;
            }
        }
        Ok(())
    }
}

/// Ascending and descending are one set of entries, so that losing one of both loses nothing.
pub fn modes<'a>(indexes: impl IntoIterator<Item = &'a FieldIndex>) -> Modes {
    indexes.into_iter().fold(Modes::NONE, |modes, index| {
        let mode = match (index.scope, index.mode) {
            (Scope::Collection, Mode::Ascending | Mode::Descending) => Modes::COLLECTION_ORDER,
            (Scope::Collection, Mode::Contains) => Modes::COLLECTION_CONTAINS,
            (Scope::Group, Mode::Ascending | Mode::Descending) => Modes::GROUP_ORDER,
            (Scope::Group, Mode::Contains) => Modes::GROUP_CONTAINS,
            // A field has no vector index by itself.
            (Scope::Collection | Scope::Group, Mode::Vector { dimension: _ }) => Modes::NONE,
        };
        modes.union(mode)
    })
}

/// What every field has when nothing is said about it, as users name it.
pub fn built_in() -> BTreeSet<FieldIndex> {
    let scope = Scope::Collection;
    [Mode::Ascending, Mode::Descending, Mode::Contains]
        .map(|mode| FieldIndex { scope, mode })
        .into()
}

fn scope_word(scope: Scope) -> &'static str {
    match scope {
        Scope::Collection => "COLLECTION",
        Scope::Group => "COLLECTION_GROUP",
    }
}

/// A field as lists and complaints name it.
pub struct FieldWord<'a>(pub &'a FieldKey);

impl Display for FieldWord<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let FieldKey { group, path } = self.0;
        write!(f, "{} ", group.as_deref().unwrap_or("__default__"))?;
        match path {
            Some(path) => path.fmt(f),
            None => f.write_str("*"),
        }
    }
}

struct FieldIndexes<'a>(&'a BTreeSet<FieldIndex>);

impl Display for FieldIndexes<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no indexes");
        }
        for (position, index) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(", ")?;
            }
            let mode = match index.mode {
                Mode::Ascending => "ASC",
                Mode::Descending => "DESC",
                Mode::Contains => "CONTAINS",
                Mode::Vector { dimension: _ } => "VECTOR",
            };
            write!(f, "{} {mode}", scope_word(index.scope))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use watchfire_engine::definition::IndexField;
    use watchfire_model::FieldPath;

    use super::*;

    fn path(text: &str) -> FieldPath {
        FieldPath::parse(text).unwrap()
    }

    fn index(fields: [&str; 2]) -> Definition {
        let fields = fields.map(|text| IndexField {
            path: path(text),
            mode: Mode::Ascending,
        });
        Definition::new("c".to_owned(), Scope::Collection, fields.to_vec()).unwrap()
    }

    fn field(text: &str, modes: &[Mode]) -> (FieldKey, BTreeSet<FieldIndex>) {
        let key = FieldKey {
            group: Some("c".to_owned()),
            path: Some(path(text)),
        };
        let scope = Scope::Group;
        let indexes = modes.iter().map(|mode| FieldIndex { scope, mode: *mode });
        (key, indexes.collect())
    }

    #[test]
    fn a_diff_says_what_comes_goes_and_stays() {
        let is = IndexSet {
            indexes: [index(["a", "b"]), index(["a", "c"])].into(),
            fields: [
                field("a", &[Mode::Ascending]),
                field("b", &[]),
                field("c", &[Mode::Ascending, Mode::Descending]),
                field("d", &[Mode::Contains]),
            ]
            .into(),
        };
        let wanted = IndexSet {
            indexes: [index(["a", "c"]), index(["a", "d"])].into(),
            fields: [
                field("b", &[]),
                field("c", &[Mode::Ascending]),
                field("d", &[]),
                field("e", &[]),
            ]
            .into(),
        };
        let changes = Changes::between(&is, &wanted);
        let text = "\
+ index  c COLLECTION (a ASC, d ASC, __name__ ASC)
- index  c COLLECTION (a ASC, b ASC, __name__ ASC)
= index  c COLLECTION (a ASC, c ASC, __name__ ASC)
+ field  c e no indexes
~ field  c c COLLECTION_GROUP ASC
~ field  c d no indexes
- field  c a COLLECTION_GROUP ASC
= field  c b no indexes
";
        assert_eq!(changes.to_string(), text);
        assert_eq!(changes.losses(), 3);
        assert!(!changes.is_empty());
        assert!(Changes::between(&is, &is).is_empty());
    }
}
