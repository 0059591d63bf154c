//! Plans of written queries, word by word, and of made-up ones against what documents say.
//!
//! The scripts are in `testscripts/plans`. `WATCHFIRE_REWRITE_PLANS=1` writes what is planned now into them, so that
//! a change of plans is seen when it is reviewed.

mod property;
mod script;
mod words;

use std::collections::BTreeMap;

use bytes::Bytes;
use watchfire_model::{Document, Fields, Timestamp, Value};
use watchfire_storage::memory::MemoryStore;
use watchfire_storage::{Batch, Operation, Store, Version};

use crate::definition::{Definition, Mode, Scope};
use crate::index::catalog::Modes;
use crate::index::catalog::{Catalog, IndexState};
use crate::index::entries::group_start;
use crate::index::key::{
    Kind, Place, defined_start_in, document_part, encode_column, entry_key, field_start,
};
use crate::keyspace::document_key;

/// Every key that a document has: itself, its group's, and those of all indexes that are kept.
fn keys_of(document: &Document, catalog: &Catalog) -> Vec<Bytes> {
    let collection = document.path.collection();
    let mut keys = vec![document_key(&document.path)];
    let mut group = group_start(collection.id());
    watchfire_model::order::encode_path(&document.path, &mut group);
    keys.push(Bytes::from(group));
    for scope in [Scope::Collection, Scope::Group] {
        let place = Place::of(scope, &collection);
        let part = document_part(&place, &document.path, false);
        let mut open = vec![(Vec::new(), &document.fields)];
        while let Some((above, fields)) = open.pop() {
            for (name, value) in fields {
                let mut segments: Vec<String> = above.clone();
                segments.push(name.clone());
                if let Value::Map(fields) = value {
                    open.push((segments.clone(), fields));
                }
                let field = watchfire_model::FieldPath::from_segments(segments).unwrap();
                let usable = catalog.usable(collection.id(), &field);
                let (order, contains) = match scope {
                    Scope::Collection => (Modes::COLLECTION_ORDER, Modes::COLLECTION_CONTAINS),
                    Scope::Group => (Modes::GROUP_ORDER, Modes::GROUP_CONTAINS),
                };
                let mut put = |kind, value: &Value| {
                    let mut start = field_start(&place, kind, &field);
                    encode_column(value, false, &mut start);
                    keys.push(entry_key(&start, &part));
                };
                if usable.contains(order) {
                    put(Kind::Ascending, value);
                }
                if let (true, Value::Array(elements)) = (usable.contains(contains), value) {
                    elements
                        .iter()
                        .for_each(|element| put(Kind::Contains, element));
                }
            }
        }
        for index in catalog.indexes_of(collection.id()) {
            if index.definition.scope() == scope && index.state == IndexState::Ready {
                let start = defined_start_in(index.id, &place);
                let inverted = index.definition.name_descends();
                let part = document_part(&place, &document.path, inverted);
                for start in starts(start, &index.definition, &document.fields) {
                    keys.push(entry_key(&start, &part));
                }
            }
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

fn starts(start: Vec<u8>, definition: &Definition, fields: &Fields) -> Vec<Vec<u8>> {
    definition
        .fields()
        .iter()
        .fold(vec![start], |starts, field| {
            let Some(value) = field.path.get(fields) else {
                return Vec::new();
            };
            let values: Vec<&Value> = match (field.mode, value) {
                (Mode::Ascending | Mode::Descending, value) => vec![value],
                (Mode::Contains, Value::Array(elements)) => elements.iter().collect(),
                (Mode::Contains | Mode::Vector { .. }, _) => Vec::new(),
            };
            starts
                .iter()
                .flat_map(|start| {
                    values.iter().map(|value| {
                        let mut start = start.clone();
                        encode_column(value, field.mode == Mode::Descending, &mut start);
                        start
                    })
                })
                .collect()
        })
}

/// A store with all keys of the documents, and nothing in them.
async fn store_of(documents: &[Document], catalog: &Catalog) -> std::sync::Arc<MemoryStore> {
    let store = MemoryStore::new();
    let operations: Vec<Operation> = documents
        .iter()
        .flat_map(|document| keys_of(document, catalog))
        .map(|key| Operation::Put {
            key,
            value: Bytes::new(),
        })
        .collect();
    let batch = Batch {
        version: Version(1),
        operations,
    };
    let head = store.snapshot().await.unwrap().version();
    store.apply(head, batch).await.unwrap();
    store
}

fn document(path: &str, fields: BTreeMap<String, Value>) -> Document {
    Document {
        path: watchfire_model::DocumentPath::parse(path).unwrap(),
        create_time: Timestamp::EPOCH,
        update_time: Timestamp::EPOCH,
        fields,
    }
}
