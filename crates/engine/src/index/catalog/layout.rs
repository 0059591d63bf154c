//! The catalogue by collection id, as writing a document and planning a query need it: found at once, however many
//! indexes there are.
//!
//! Made from a catalogue when it is first asked for, never stored.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use super::{Catalog, FieldConfig, FieldKey, IndexState, Modes};
use crate::definition::IndexId;

/// Which automatic entries a field has, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// `None` for the built-in configuration.
    pub key: Option<FieldKey>,
    pub usable: Modes,
    pub kept: Modes,
    pub removing: Modes,
}

impl Rule {
    pub(crate) const BUILT_IN: Rule = Rule {
        key: None,
        usable: Modes::BUILT_IN,
        kept: Modes::BUILT_IN,
        removing: Modes::NONE,
    };

    pub(super) fn of(key: &FieldKey, config: &FieldConfig) -> Self {
        Self {
            key: Some(key.clone()),
            usable: config.usable,
            kept: config.kept,
            removing: config.removing,
        }
    }
}

/// Everything about the documents of one collection id.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Decides about every field that no branch decides about.
    pub rule: Rule,
    /// Fields with a configuration, and those on the way to one, by name.
    pub children: BTreeMap<String, Branch>,
    /// Indexes that are kept, in order of id.
    pub indexes: Vec<IndexId>,
}

impl Layout {
    /// Where nothing is said about fields.
    pub(crate) const EVERY: Layout = Layout {
        rule: Rule::BUILT_IN,
        children: BTreeMap::new(),
        indexes: Vec::new(),
    };
}

/// A field on the way to a configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Branch {
    pub rule: Option<Rule>,
    pub children: BTreeMap<String, Branch>,
}

#[derive(Debug)]
struct Layouts {
    groups: HashMap<String, Layout>,
    /// That of every other collection id; `None` when nobody said anything about all of them.
    others: Option<Layout>,
}

/// Not part of what a catalogue is: a clone makes it anew, and all are equal.
#[derive(Debug, Default)]
pub(crate) struct Derived(OnceLock<Layouts>);

impl Clone for Derived {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Derived {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Derived {}

impl Catalog {
    /// What decides about the documents of a collection id; `None` when all is as built in.
    pub(crate) fn layout(&self, group: &str) -> Option<&Layout> {
        if self.fields.is_empty() && self.indexes.is_empty() {
            return None;
        }
        let layouts = self.derived.0.get_or_init(|| layouts(self));
        layouts.groups.get(group).or(layouts.others.as_ref())
    }
}

fn layouts(catalog: &Catalog) -> Layouts {
    let rule_at = |group: Option<&str>| {
        let key = FieldKey {
            group: group.map(str::to_owned),
            path: None,
        };
        let found = catalog.fields.get(&key);
        found.map(|config| Rule::of(&key, config))
    };
    let of_all = rule_at(None);
    let start = |group: &str| Layout {
        rule: rule_at(Some(group))
            .or_else(|| of_all.clone())
            .unwrap_or(Rule::BUILT_IN),
        children: BTreeMap::new(),
        indexes: Vec::new(),
    };
    let mut groups: HashMap<String, Layout> = HashMap::new();
    for (key, config) in &catalog.fields {
        let Some(group) = &key.group else { continue };
        let layout = groups.entry(group.clone()).or_insert_with(|| start(group));
        let Some(path) = &key.path else { continue };
        let Some((last, parents)) = path.segments().split_last() else {
            continue;
        };
        let mut children = &mut layout.children;
        for parent in parents {
            children = &mut children.entry(parent.clone()).or_default().children;
        }
        children.entry(last.clone()).or_default().rule = Some(Rule::of(key, config));
    }
    for index in catalog.indexes.values() {
        match index.state {
            IndexState::Creating | IndexState::Ready => {}
            IndexState::Deleting => continue,
        }
        let group = index.definition.group();
        let layout = groups
            .entry(group.to_owned())
            .or_insert_with(|| start(group));
        layout.indexes.push(index.id);
    }
    let others = of_all.map(|rule| Layout {
        rule,
        children: BTreeMap::new(),
        indexes: Vec::new(),
    });
    Layouts { groups, others }
}
