//! A window after any changes holds what the query gives, and its deltas tell the whole difference.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::document::Fields;
use crate::field::FieldPath;
use crate::query::generate::{DOCUMENT_PATHS, fields, plain_query, query as any_query};
use crate::query::{Direction, Order, QueryParts};
use crate::time::Timestamp;
use crate::value::Value;

type State = BTreeMap<DocumentPath, Arc<Document>>;

fn document(path: &str, fields: Fields, version: i64) -> Arc<Document> {
    Arc::new(Document {
        path: DocumentPath::parse(path).unwrap(),
        create_time: Timestamp::from_micros(1).unwrap(),
        update_time: Timestamp::from_micros(version).unwrap(),
        fields,
    })
}

fn result(query: &Query, state: &State) -> Vec<Arc<Document>> {
    query
        .evaluate(state.values().map(|document| document.as_ref()))
        .into_iter()
        .map(|document| Arc::clone(&state[&document.path]))
        .collect()
}

/// Makes the edits (`None` deletes) and returns the changes.
fn edit(state: &mut State, edits: &[(&str, Option<Fields>)], version: &mut i64) -> Vec<Change> {
    let mut changes = Vec::new();
    for (path, fields) in edits {
        *version += 1;
        let path = DocumentPath::parse(path).unwrap();
        let before = state.get(&path).cloned();
        let after = fields
            .as_ref()
            .map(|fields| document(path.as_str(), fields.clone(), *version));
        if before.is_none() && after.is_none() {
            continue;
        }
        match &after {
            Some(after) => state.insert(path.clone(), Arc::clone(after)),
            None => state.remove(&path),
        };
        changes.push(Change {
            path,
            before,
            after,
        });
    }
    changes
}

fn folded(old: &[Arc<Document>], delta: &Delta) -> BTreeMap<DocumentPath, Timestamp> {
    let mut folded: BTreeMap<DocumentPath, Timestamp> = old
        .iter()
        .map(|document| (document.path.clone(), document.update_time))
        .collect();
    for (path, _) in &delta.removed {
        assert!(folded.remove(path).is_some(), "{path} left and was not in");
    }
    for document in &delta.upserted {
        let old = folded.insert(document.path.clone(), document.update_time);
        assert_ne!(
            old,
            Some(document.update_time),
            "{} did not change",
            document.path
        );
    }
    folded
}

fn revisions<'a>(
    documents: impl IntoIterator<Item = &'a Arc<Document>>,
) -> Vec<(DocumentPath, Timestamp)> {
    documents
        .into_iter()
        .map(|document| (document.path.clone(), document.update_time))
        .collect()
}

/// Applies the changes, refilling when asked to, and checks everything. Whether it was refilled.
fn check(window: &mut Window, state: &State, changes: &[Change]) -> bool {
    let old: Vec<Arc<Document>> = window.documents().cloned().collect();
    let fresh = result(window.query(), state);
    let (delta, refilled) = match window.apply(changes) {
        Outcome::Delta(delta) => (delta, false),
        Outcome::Refill => {
            assert_eq!(
                revisions(&old),
                revisions(window.documents()),
                "unchanged until replaced"
            );
            (window.replace(fresh.clone(), changes), true)
        }
    };
    assert_eq!(revisions(window.documents()), revisions(&fresh));
    assert_eq!(window.len(), fresh.len());
    let new: BTreeMap<_, _> = revisions(&fresh).into_iter().collect();
    assert_eq!(folded(&old, &delta), new);
    for (path, now) in &delta.removed {
        assert_eq!(
            now.as_ref().map(|document| document.update_time),
            state.get(path).map(|document| document.update_time),
            "what left is told as it now is"
        );
    }
    refilled
}

fn numbered<'a>(edits: &[(&'a str, Option<i64>)]) -> Vec<(&'a str, Option<Fields>)> {
    edits
        .iter()
        .map(|(path, number)| (*path, number.and_then(n)))
        .collect()
}

fn n(value: i64) -> Option<Fields> {
    Some(Fields::from([("n".to_owned(), Value::Integer(value))]))
}

#[test]
fn full_windows() {
    let query = |offset: u32, limit: Option<u32>| {
        let order = Order {
            field: FieldPath::parse("n").unwrap(),
            direction: Direction::Ascending,
        };
        let query = Query::new(QueryParts {
            order: vec![order],
            offset,
            limit,
            ..plain_query()
        });
        Arc::new(query.unwrap())
    };
    type Edits<'a> = &'a [(&'a str, Option<i64>)];
    // Documents c/a to c/e hold 10, 20, ..., 50. Name, offset, limit, edits, result, whether refilled.
    type Case<'a> = (&'a str, u32, Option<u32>, Edits<'a>, &'a str, bool);
    let cases: Vec<Case<'_>> = vec![
        (
            "a new one pushes the last out",
            0,
            Some(2),
            &[("c/z", Some(15))],
            "az",
            false,
        ),
        (
            "a new one beyond is not seen",
            0,
            Some(2),
            &[("c/z", Some(25))],
            "ab",
            false,
        ),
        (
            "a new one ties with the last",
            0,
            Some(2),
            &[("c/z", Some(20))],
            "ab",
            false,
        ),
        ("one leaves", 0, Some(2), &[("c/a", None)], "bc", true),
        (
            "one leaves and another comes",
            0,
            Some(2),
            &[("c/a", None), ("c/z", Some(1))],
            "zb",
            false,
        ),
        (
            "one leaves and another comes late",
            0,
            Some(2),
            &[("c/a", None), ("c/z", Some(25))],
            "bz",
            true,
        ),
        (
            "the last moves on",
            0,
            Some(2),
            &[("c/b", Some(25))],
            "ab",
            true,
        ),
        (
            "the last moves back",
            0,
            Some(2),
            &[("c/b", Some(5))],
            "ba",
            false,
        ),
        (
            "the first moves within",
            0,
            Some(3),
            &[("c/a", Some(25))],
            "bac",
            false,
        ),
        (
            "one outside comes in",
            0,
            Some(2),
            &[("c/e", Some(1))],
            "ea",
            false,
        ),
        (
            "one outside moves outside",
            0,
            Some(2),
            &[("c/e", Some(45))],
            "ab",
            false,
        ),
        (
            "came and went",
            0,
            Some(2),
            &[("c/z", Some(1)), ("c/z", None)],
            "ab",
            false,
        ),
        (
            "went and came back",
            0,
            Some(2),
            &[("c/a", None), ("c/a", Some(11))],
            "ab",
            false,
        ),
        (
            "not full, one leaves",
            0,
            Some(9),
            &[("c/a", None)],
            "bcde",
            false,
        ),
        (
            "not full, one at the end",
            0,
            Some(9),
            &[("c/z", Some(99))],
            "abcdez",
            false,
        ),
        (
            "becomes overfull",
            0,
            Some(5),
            &[("c/z", Some(1)), ("c/y", Some(2))],
            "zyabc",
            false,
        ),
        (
            "no limit",
            0,
            None,
            &[("c/a", None), ("c/b", Some(99))],
            "cdeb",
            false,
        ),
        (
            "limit 0",
            0,
            Some(0),
            &[("c/a", None), ("c/z", Some(1))],
            "",
            false,
        ),
        (
            "hidden one leaves",
            1,
            Some(2),
            &[("c/a", None)],
            "cd",
            true,
        ),
        (
            "hidden one comes",
            1,
            Some(2),
            &[("c/z", Some(1))],
            "ab",
            true,
        ),
        (
            "hidden one moves in",
            1,
            Some(2),
            &[("c/a", Some(25))],
            "ac",
            true,
        ),
        (
            "beyond with offset",
            1,
            Some(2),
            &[("c/e", None)],
            "bc",
            false,
        ),
        (
            "within with offset",
            1,
            Some(2),
            &[("c/b", Some(21))],
            "bc",
            false,
        ),
        (
            "first moves to the hidden",
            1,
            Some(2),
            &[("c/b", Some(1))],
            "ac",
            true,
        ),
        (
            "offset past the end",
            9,
            None,
            &[("c/z", Some(1))],
            "",
            true,
        ),
        (
            "offset, no limit, end grows",
            1,
            None,
            &[("c/z", Some(99))],
            "bcdez",
            false,
        ),
        (
            "nothing that matches",
            1,
            Some(2),
            &[("x/z", Some(1))],
            "bc",
            false,
        ),
    ];
    for (name, offset, limit, edits, expected, refilled) in cases {
        let mut version = 1;
        let mut state = State::new();
        let start = [
            ("c/a", Some(10)),
            ("c/b", Some(20)),
            ("c/c", Some(30)),
            ("c/d", Some(40)),
            ("c/e", Some(50)),
        ];
        edit(&mut state, &numbered(&start), &mut version);
        let query = query(offset, limit);
        let mut window = Window::new(Arc::clone(&query), result(&query, &state));
        let changes = edit(&mut state, &numbered(edits), &mut version);
        assert_eq!(check(&mut window, &state, &changes), refilled, "{name}");
        let found: String = window
            .documents()
            .map(|document| document.path.id())
            .collect();
        assert_eq!(found, expected, "{name}");
    }
}

fn edits() -> impl Strategy<Value = Vec<(&'static str, Option<Fields>)>> {
    vec(
        (
            proptest::sample::select(DOCUMENT_PATHS.to_vec()),
            proptest::option::weighted(0.75, fields()),
        ),
        1..4,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_window_is_its_query(
        query in any_query(),
        start in vec(fields(), 0..DOCUMENT_PATHS.len()),
        batches in vec(edits(), 1..12),
    ) {
        let mut version = 1;
        let mut state = State::new();
        let start: Vec<_> = DOCUMENT_PATHS.into_iter().zip(start.into_iter().map(Some)).collect();
        edit(&mut state, &start, &mut version);
        let query = Arc::new(query);
        let mut window = Window::new(Arc::clone(&query), result(&query, &state));
        for edits in &batches {
            let changes = edit(&mut state, edits, &mut version);
            let refilled = check(&mut window, &state, &changes);
            let is_open = query.limit().is_none() && query.offset() == 0;
            prop_assert!(!(refilled && is_open), "a window without limit and offset never refills");
        }
    }

    #[test]
    fn the_order_is_total(query in any_query(), contents in vec(fields(), 3)) {
        let documents: Vec<_> = DOCUMENT_PATHS.iter().zip(contents).map(|(path, fields)| document(path, fields, 1)).collect();
        for a in &documents {
            for b in &documents {
                prop_assert_eq!(query.compare(a, b), query.compare(b, a).reverse());
                prop_assert_eq!(query.compare(a, b) == Ordering::Equal, a.path == b.path);
                for c in &documents {
                    if query.compare(a, b).is_le() && query.compare(b, c).is_le() {
                        prop_assert!(query.compare(a, c).is_le());
                    }
                }
            }
        }
    }
}

#[test]
fn a_large_window_takes_many_changes() {
    let query = Arc::new(
        Query::new(QueryParts {
            order: vec![Order {
                field: FieldPath::parse("n").unwrap(),
                direction: Direction::Descending,
            }],
            limit: Some(10_000),
            ..plain_query()
        })
        .unwrap(),
    );
    let documents = (0..10_000)
        .rev()
        .map(|number| document(&format!("c/d{number}"), n(number).unwrap(), 1))
        .collect();
    let mut window = Window::new(query, documents);
    for number in 10_000..20_000 {
        let after = document(&format!("c/d{number}"), n(number).unwrap(), number);
        let change = Change {
            path: after.path.clone(),
            before: None,
            after: Some(after),
        };
        let Outcome::Delta(delta) = window.apply(&[change]) else {
            panic!("an insertion never needs a refill");
        };
        assert_eq!((delta.upserted.len(), delta.removed.len()), (1, 1));
    }
    assert_eq!(window.len(), 10_000);
    assert_eq!(window.documents().next().unwrap().path.as_str(), "c/d19999");
}
