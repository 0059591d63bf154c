//! From filling to standing, with results that arrive early, late, broken and stale.

use watchfire_model::watch::Target;
use watchfire_model::{
    DatabaseName, FieldOperator, FieldPath, Fields, Filter, Parent, Query, QueryParts, Selector,
    Timestamp, Value,
};

use super::*;
use crate::target::identity;

fn document(text: &str, time: u64) -> Arc<Document> {
    let time = Timestamp::from_micros(time as i64).unwrap();
    Arc::new(Document {
        path: DocumentPath::parse(text).unwrap(),
        create_time: time,
        update_time: time,
        fields: Fields::from([("a".to_owned(), Value::Integer(1))]),
    })
}

fn created(text: &str, time: u64) -> Change {
    let after = document(text, time);
    Change {
        path: after.path.clone(),
        before: None,
        after: Some(after),
    }
}

fn deleted(text: &str) -> Change {
    let before = document(text, 1);
    Change {
        path: before.path.clone(),
        before: Some(before),
        after: None,
    }
}

fn filled(version: u64, documents: &[(&str, u64)]) -> Filled {
    let documents = documents
        .iter()
        .map(|(text, time)| document(text, *time))
        .collect();
    Filled {
        version: Version(version),
        documents,
    }
}

/// A registry with one target on collection `c`, watched at version 10.
fn watching(limit: Option<u32>) -> (Registry, SharedId, Reading) {
    let query = Query::new(QueryParts {
        database: DatabaseName::new("p", "d").unwrap(),
        parent: Parent::Root,
        selector: Selector::Collection("c".to_owned()),
        filter: None,
        order: Vec::new(),
        start: None,
        end: None,
        offset: 0,
        limit,
        projection: None,
    });
    let target = Target::Query(Arc::new(query.unwrap()));
    let mut registry = Registry::default();
    let watcher = (SessionId(1), 1);
    let (id, reading) = registry.watch(
        identity(&target),
        Interest::new(&target),
        watcher,
        Version(10),
    );
    let (same, nothing) = registry.watch(
        identity(&target),
        Interest::new(&target),
        (SessionId(2), 1),
        Version(10),
    );
    assert_eq!(same, id);
    assert!(nothing.is_none());
    (registry, id, reading.unwrap())
}

/// Processes one commit of one change.
fn pass(registry: &mut Registry, version: u64, change: Change) -> Option<Absorbed> {
    let entry = CommitEntry {
        version: Version(version),
        changes: vec![change],
    };
    let routed = registry.route(&entry);
    let (id, changes) = routed.into_iter().next()?;
    Some(registry.apply(id, changes, Version(version)))
}

fn contents(registry: &Registry, id: SharedId) -> Vec<String> {
    assert!(registry.stands(id));
    let documents = registry.documents(id);
    documents
        .iter()
        .map(|document| format!("{}@{}", document.path, document.update_time.micros()))
        .collect()
}

#[test]
fn an_early_result_waits_for_its_version() {
    let (mut registry, id, reading) = watching(None);
    assert!(
        registry
            .arrive(
                id,
                reading.generation,
                filled(15, &[("c/1", 12), ("c/2", 15)])
            )
            .is_none()
    );
    assert!(registry.due(Version(10)).is_empty());
    assert_eq!(registry.stop(Version(10)), Some(Version(15)));
    assert!(matches!(
        pass(&mut registry, 12, created("c/1", 12)),
        Some(Absorbed::Held)
    ));
    assert!(!registry.stands(id));
    assert!(matches!(
        pass(&mut registry, 15, created("c/2", 15)),
        Some(Absorbed::Held)
    ));
    assert_eq!(registry.due(Version(15)), [id]);
    let installed = registry.install(id, Version(15)).unwrap();
    assert!(installed.first && installed.shown.is_empty() && installed.again.is_none());
    assert_eq!(contents(&registry, id), ["c/1@12", "c/2@15"]);
    assert_eq!(registry.stop(Version(15)), None);
}

#[test]
fn a_late_result_is_brought_forward() {
    let (mut registry, id, reading) = watching(None);
    pass(&mut registry, 12, created("c/1", 12));
    pass(&mut registry, 14, created("c/2", 14));
    assert!(
        registry
            .arrive(id, reading.generation, filled(12, &[("c/1", 12)]))
            .is_none()
    );
    assert_eq!(registry.due(Version(14)), [id]);
    registry.install(id, Version(14)).unwrap();
    assert_eq!(contents(&registry, id), ["c/1@12", "c/2@14"]);
}

#[test]
fn a_broken_window_is_read_again_and_told_as_a_difference() {
    let (mut registry, id, reading) = watching(Some(2));
    registry.arrive(
        id,
        reading.generation,
        filled(10, &[("c/1", 1), ("c/2", 2)]),
    );
    registry.install(id, Version(10)).unwrap();
    let Some(Absorbed::Broken(reading)) = pass(&mut registry, 12, deleted("c/1")) else {
        panic!()
    };
    assert!(!registry.stands(id));
    // It breaks once more before it stands.
    pass(&mut registry, 13, deleted("c/2"));
    registry.arrive(
        id,
        reading.generation,
        filled(12, &[("c/2", 2), ("c/3", 3)]),
    );
    let installed = registry.install(id, Version(13)).unwrap();
    assert_eq!(installed.shown.len(), 1);
    let reading = installed.again.unwrap();
    assert_eq!(reading.attempts, 1);
    assert!(!registry.stands(id));
    registry.arrive(id, reading.generation, filled(13, &[("c/3", 3)]));
    let installed = registry.install(id, Version(13)).unwrap();
    assert!(!installed.first && installed.again.is_none());
    let removed: Vec<&str> = installed
        .shown
        .iter()
        .flat_map(|shown| &shown.removed)
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(removed, ["c/2"]);
    assert_eq!(contents(&registry, id), ["c/3@3"]);
}

#[test]
fn answers_that_nobody_awaits_are_ignored() {
    let (mut registry, id, reading) = watching(None);
    assert!(
        registry
            .arrive(id, reading.generation + 1, filled(15, &[]))
            .is_none()
    );
    assert!(registry.due(Version(20)).is_empty());
    // Older than what was known when it was asked for: it cannot be completed.
    let again = registry
        .arrive(id, reading.generation, filled(9, &[]))
        .unwrap();
    assert!(again.generation != reading.generation && again.attempts == 1);
    let restarted = registry.restart(Version(30));
    assert!(!registry.awaits(id, again.generation));
    assert!(registry.awaits(id, restarted[0].generation));
}

#[test]
fn too_much_while_filling_starts_anew() {
    let (mut registry, id, reading) = watching(None);
    let changes = (0..=HELD_CHANGES_MAX)
        .map(|_| (Version(11), created("c/1", 11)))
        .collect();
    let Absorbed::Lost(anew) = registry.apply(id, changes, Version(11)) else {
        panic!()
    };
    assert!(!registry.awaits(id, reading.generation));
    registry.arrive(id, anew.generation, filled(11, &[("c/1", 11)]));
    assert!(registry.install(id, Version(11)).unwrap().first);
    assert_eq!(contents(&registry, id), ["c/1@11"]);
}

#[test]
fn a_document_that_left_is_followed_to_the_end_of_the_pass() {
    let (mut registry, id, reading) = watching(None);
    registry.arrive(id, reading.generation, filled(10, &[("c/1", 1)]));
    registry.install(id, Version(10)).unwrap();
    let foreign = pass(&mut registry, 11, created("d/1", 11));
    assert!(foreign.is_none());
    let Some(Absorbed::Moved(shown)) = pass(&mut registry, 12, deleted("c/1")) else {
        panic!()
    };
    assert_eq!(shown.as_of, Version(12));
    assert!(shown.removed[0].1.is_none());
}

#[test]
fn a_document_that_left_is_followed_from_pass_to_pass_while_the_target_fills() {
    let query = Query::new(QueryParts {
        database: DatabaseName::new("p", "d").unwrap(),
        parent: Parent::Root,
        selector: Selector::Collection("c".to_owned()),
        filter: Some(Filter::Field {
            field: FieldPath::parse("a").unwrap(),
            operator: FieldOperator::Equal,
            value: Value::Integer(1),
        }),
        order: Vec::new(),
        start: None,
        end: None,
        offset: 0,
        limit: None,
        projection: None,
    });
    let interest = Interest::Query(Arc::new(query.unwrap()));
    let mut registry = Registry::default();
    let mut watch = |number: u8| {
        let watcher = (SessionId(1), i32::from(number));
        registry.watch(vec![number], interest.clone(), watcher, Version(10))
    };
    // More than the matcher would test without asking about fields.
    let last = (1..10_u8).map(&mut watch).last();
    let (id, reading) = last.unwrap();
    let state = |a: i64, time: u64| {
        let mut document = Document::clone(&document("c/1", time));
        document.fields.insert("a".to_owned(), Value::Integer(a));
        Some(Arc::new(document))
    };
    let goes_on = |registry: &mut Registry, a: i64, version: u64| {
        let change = Change {
            path: DocumentPath::parse("c/1").unwrap(),
            before: state(a, version - 1),
            after: state(a + 1, version),
        };
        let entry = CommitEntry {
            version: Version(version),
            changes: vec![change],
        };
        let routed = registry.route(&entry).remove(&id);
        routed.map(|changes| registry.apply(id, changes, Version(version)))
    };
    assert!(goes_on(&mut registry, 1, 11).is_some(), "it leaves");
    assert!(goes_on(&mut registry, 2, 12).is_some(), "it is followed");
    registry.arrive(id, reading.unwrap().generation, filled(12, &[]));
    registry.install(id, Version(12)).unwrap();
    assert!(goes_on(&mut registry, 3, 13).is_none(), "nobody waits");
    for number in 1..10 {
        registry.unwatch(SharedId(number), (SessionId(1), number as i32));
    }
    assert!(registry.is_empty() && registry.followed.is_empty());
    assert!(registry.matcher.is_empty());
}

#[test]
fn the_last_watcher_takes_the_target_along() {
    let (mut registry, id, _) = watching(None);
    registry.unwatch(id, (SessionId(1), 1));
    assert!(!registry.is_empty());
    registry.unwatch(id, (SessionId(2), 1));
    assert!(registry.is_empty());
    assert!(pass(&mut registry, 11, created("c/1", 11)).is_none());
}
