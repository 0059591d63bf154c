//! The scripts: indexes, documents and queries as text, and the plans that belong to them.
//!
//! | line | meaning |
//! |---|---|
//! | `index [group] c (a ASC, b DESC, t CONTAINS)` | a defined index; ids count from 1 |
//! | `building [group] c (…)` | one that is not complete |
//! | `field c a: order contains group-order group-contains` | all that the field has; `nothing` for nothing |
//! | `documents 300 c a=1 b=seq` | so many documents; `seq` counts from 0 |
//! | `query […]` | what follows, indented, is its plan |
//! | `reset` | no indexes, no documents |
//!
//! A query: `[names \| fields a,b] (c \| x/d/c \| group c \| everything) [below x/d] [where …] [order by a [desc], …]
//! [start at\|after v, …] [end at\|before v, …] [offset n] [limit n]`.

use std::path::Path;

use watchfire_model::query::Direction as OrderDirection;
use watchfire_model::{
    Cursor, DatabaseName, Document, DocumentName, DocumentPath, FieldOperator, FieldPath, Filter,
    Order, Parent, Query, QueryParts, Selector, UnaryOperator, Value,
};
use watchfire_storage::Store;

use super::{document, store_of, words};
use crate::definition::{Definition, IndexField, IndexId, Mode, Scope};
use crate::index::catalog::{Catalog, FieldConfig, FieldKey, Index, IndexState, Modes};
use crate::planner::{choose, choose_for_fields};

pub(super) fn database() -> DatabaseName {
    DatabaseName::new("demo", "(default)").unwrap()
}

pub(super) fn add_index(
    catalog: &mut Catalog,
    group: &str,
    scope: Scope,
    fields: Vec<IndexField>,
    state: IndexState,
) {
    let id = IndexId(catalog.indexes.len() as u64 + 1);
    let definition = Definition::new(group.to_owned(), scope, fields).unwrap();
    catalog.indexes.insert(
        id,
        Index {
            id,
            definition,
            state,
        },
    );
}

pub(super) fn set_field(catalog: &mut Catalog, group: &str, path: FieldPath, modes: Modes) {
    catalog.fields.insert(
        FieldKey {
            group: Some(group.to_owned()),
            path: Some(path),
        },
        FieldConfig {
            indexes: Vec::new(),
            usable: modes,
            kept: modes,
            removing: Modes::NONE,
            reverting: false,
        },
    );
}

#[derive(Default)]
struct World {
    catalog: Catalog,
    documents: Vec<Document>,
}

#[tokio::test]
async fn scripts_plan_as_written() {
    let rewrite = std::env::var_os("WATCHFIRE_REWRITE_PLANS").is_some();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts/plans");
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts in {}", folder.display());
    let mut queries = 0;
    for script in scripts {
        let old = std::fs::read_to_string(&script).unwrap();
        let mut world = World::default();
        let mut new = String::new();
        for line in old.lines().filter(|line| !line.starts_with(' ')) {
            new.push_str(line);
            new.push('\n');
            if let Some(query) = line.strip_prefix("query ") {
                queries += 1;
                for words in world.plan(query).await {
                    new.push_str(&format!("    {words}\n"));
                }
            } else {
                world.apply(line);
            }
        }
        if rewrite {
            std::fs::write(&script, new).unwrap();
        } else {
            assert!(
                old == new,
                "{} plans otherwise now:\n{new}",
                script.display()
            );
        }
    }
    assert!(queries >= 60, "only {queries} queries are planned");
}

impl World {
    fn apply(&mut self, line: &str) {
        let mut words = Words::new(line);
        match words.next().as_deref() {
            None => {}
            Some("#") => {}
            Some("reset") => *self = World::default(),
            Some(word @ ("index" | "building")) => {
                let state = if word == "index" {
                    IndexState::Ready
                } else {
                    IndexState::Creating
                };
                let scope = if words.take("group") {
                    Scope::Group
                } else {
                    Scope::Collection
                };
                let group = words.word();
                words.expect("(");
                let mut fields = Vec::new();
                loop {
                    let path = FieldPath::parse(&words.word()).unwrap();
                    let mode = match words.word().as_str() {
                        "ASC" => Mode::Ascending,
                        "DESC" => Mode::Descending,
                        "CONTAINS" => Mode::Contains,
                        other => panic!("{other}: no mode, in {line}"),
                    };
                    fields.push(IndexField { path, mode });
                    if !words.take(",") {
                        break;
                    }
                }
                words.expect(")");
                add_index(&mut self.catalog, &group, scope, fields, state);
            }
            Some("field") => {
                let group = words.word();
                let path = FieldPath::parse(&words.word()).unwrap();
                words.expect(":");
                let mut modes = Modes::NONE;
                while let Some(word) = words.next() {
                    modes = modes.union(match word.as_str() {
                        "nothing" => Modes::NONE,
                        "order" => Modes::COLLECTION_ORDER,
                        "contains" => Modes::COLLECTION_CONTAINS,
                        "group-order" => Modes::GROUP_ORDER,
                        "group-contains" => Modes::GROUP_CONTAINS,
                        other => panic!("{other}: no mode, in {line}"),
                    });
                }
                set_field(&mut self.catalog, &group, path, modes);
            }
            Some("documents") => {
                let count: i64 = words.word().parse().unwrap();
                let collection = words.word();
                let mut fields = Vec::new();
                while let Some(name) = words.next() {
                    words.expect("=");
                    let value = (!words.take("seq")).then(|| words.value());
                    fields.push((name, value));
                }
                let first = self.documents.len() as i64;
                for number in 0..count {
                    let fields = fields
                        .iter()
                        .map(|(name, value)| {
                            let value = value.clone().unwrap_or(Value::Integer(number));
                            (name.clone(), value)
                        })
                        .collect();
                    let path = format!("{collection}/d{}", first + number);
                    self.documents.push(document(&path, fields));
                }
            }
            Some(other) => panic!("{other} means nothing, in {line}"),
        }
    }

    async fn plan(&self, text: &str) -> Vec<String> {
        let mut reader = Words::new(text);
        let names = reader.take("names");
        let mut fields = Vec::new();
        if reader.take("fields") {
            loop {
                fields.push(FieldPath::parse(&reader.word()).unwrap());
                if !reader.take(",") {
                    break;
                }
            }
        }
        let query = match reader.query() {
            Ok(query) => query,
            Err(invalid) => panic!("{text}: {invalid}"),
        };
        // A clone forgets what was derived before the last change.
        let catalog = self.catalog.clone();
        let store = store_of(&self.documents, &catalog).await;
        let snapshot = store.snapshot().await.unwrap();
        let snapshot = snapshot.as_ref();
        let plan = if !fields.is_empty() {
            choose_for_fields(snapshot, &catalog, &database(), &query, &fields).await
        } else if names {
            choose_for_fields(snapshot, &catalog, &database(), &query, &[]).await
        } else {
            choose(snapshot, &catalog, &database(), &query).await
        };
        words::describe(&plan.unwrap(), &query, &fields)
    }
}

/// Words, numbers, texts in quotes, and single signs.
struct Words {
    words: std::iter::Peekable<std::vec::IntoIter<String>>,
}

impl Words {
    fn new(text: &str) -> Self {
        let mut words = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(first) = rest.next() {
            let mut word = String::from(first);
            let more: fn(char) -> bool = match first {
                ' ' => continue,
                '#' => {
                    words.push(word);
                    break;
                }
                '"' => {
                    word.extend(rest.by_ref().take_while(|next| *next != '"'));
                    words.push(word);
                    continue;
                }
                '=' | '!' | '<' | '>' => |next| next == '=',
                '(' | ')' | '[' | ']' | ',' | ':' | '*' => |_| false,
                _ => |next| next.is_alphanumeric() || "_-./@`+".contains(next),
            };
            while let Some(next) = rest.next_if(|next| more(*next)) {
                word.push(next);
            }
            words.push(word);
        }
        Self {
            words: words.into_iter().peekable(),
        }
    }

    fn next(&mut self) -> Option<String> {
        self.words.next()
    }

    fn word(&mut self) -> String {
        self.next().expect("a word is missing at the end")
    }

    fn take(&mut self, word: &str) -> bool {
        self.words.next_if(|next| next == word).is_some()
    }

    fn expect(&mut self, word: &str) {
        assert_eq!(self.word(), word);
    }

    fn value(&mut self) -> Value {
        let word = self.word();
        match word.as_str() {
            "null" => Value::Null,
            "nan" => Value::Double(f64::NAN),
            "true" => Value::Boolean(true),
            "false" => Value::Boolean(false),
            "[" => Value::Array(self.values_until("]")),
            text if text.starts_with('"') => {
                let text = text.trim_matches('"');
                let times = if self.take("*") {
                    self.word().parse().unwrap()
                } else {
                    1
                };
                Value::String(text.repeat(times))
            }
            path if path.starts_with('@') => Value::Reference(DocumentName {
                database: database(),
                path: DocumentPath::parse(path.trim_start_matches('@')).unwrap(),
            }),
            number if number.contains('.') => Value::Double(number.parse().unwrap()),
            number => Value::Integer(number.parse().unwrap()),
        }
    }

    fn values_until(&mut self, end: &str) -> Vec<Value> {
        let mut values = Vec::new();
        while !self.take(end) {
            values.push(self.value());
            self.take(",");
        }
        values
    }

    fn query(&mut self) -> Result<Query, watchfire_model::Invalid> {
        let mut parent = Parent::Root;
        let selector = match self.word().as_str() {
            "everything" => Selector::Everything,
            "group" => Selector::Group(self.word()),
            path => match path.rsplit_once('/') {
                None => Selector::Collection(path.to_owned()),
                Some((above, id)) => {
                    parent = Parent::Document(DocumentPath::parse(above).unwrap());
                    Selector::Collection(id.to_owned())
                }
            },
        };
        if self.take("below") {
            parent = Parent::Document(DocumentPath::parse(&self.word()).unwrap());
        }
        let filter = self.take("where").then(|| self.alternatives());
        let mut order = Vec::new();
        if self.take("order") {
            self.expect("by");
            loop {
                let field = FieldPath::parse(&self.word()).unwrap();
                let direction = if self.take("desc") {
                    OrderDirection::Descending
                } else {
                    OrderDirection::Ascending
                };
                order.push(Order { field, direction });
                if !self.take(",") {
                    break;
                }
            }
        }
        let start = self.take("start").then(|| {
            let before = self.word() == "at";
            self.cursor(before)
        });
        let end = self.take("end").then(|| {
            let before = self.word() == "before";
            self.cursor(before)
        });
        let offset = if self.take("offset") {
            self.word().parse().unwrap()
        } else {
            0
        };
        let limit = self.take("limit").then(|| self.word().parse().unwrap());
        assert_eq!(self.next(), None, "the query goes on");
        Query::new(QueryParts {
            database: database(),
            parent,
            selector,
            filter,
            order,
            start,
            end,
            offset,
            limit,
            projection: None,
        })
    }

    fn cursor(&mut self, before: bool) -> Cursor {
        let mut values = vec![self.value()];
        while self.take(",") {
            values.push(self.value());
        }
        Cursor { values, before }
    }

    fn alternatives(&mut self) -> Filter {
        let mut filters = vec![self.conditions()];
        while self.take("or") {
            filters.push(self.conditions());
        }
        match filters.len() {
            1 => filters.remove(0),
            _ => Filter::Or(filters),
        }
    }

    fn conditions(&mut self) -> Filter {
        let mut filters = vec![self.condition()];
        while self.take("and") {
            filters.push(self.condition());
        }
        match filters.len() {
            1 => filters.remove(0),
            _ => Filter::And(filters),
        }
    }

    fn condition(&mut self) -> Filter {
        if self.take("(") {
            let filter = self.alternatives();
            self.expect(")");
            return filter;
        }
        let field = FieldPath::parse(&self.word()).unwrap();
        let operator = match self.word().as_str() {
            "is" => {
                let not = self.take("not");
                let operator = match (self.word().as_str(), not) {
                    ("null", false) => UnaryOperator::IsNull,
                    ("null", true) => UnaryOperator::IsNotNull,
                    ("nan", false) => UnaryOperator::IsNan,
                    ("nan", true) => UnaryOperator::IsNotNan,
                    (other, _) => panic!("is {other}?"),
                };
                return Filter::Unary { field, operator };
            }
            "==" => FieldOperator::Equal,
            "!=" => FieldOperator::NotEqual,
            "<" => FieldOperator::LessThan,
            "<=" => FieldOperator::LessThanOrEqual,
            ">" => FieldOperator::GreaterThan,
            ">=" => FieldOperator::GreaterThanOrEqual,
            "in" => FieldOperator::In,
            "not-in" => FieldOperator::NotIn,
            "contains" => FieldOperator::ArrayContains,
            "contains-any" => FieldOperator::ArrayContainsAny,
            other => panic!("{other}: no operator"),
        };
        Filter::Field {
            field,
            operator,
            value: self.value(),
        }
    }
}
