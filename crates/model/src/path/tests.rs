//! Names: what is accepted, what is refused and with which text, and their order.

use super::*;

fn document(text: &str) -> DocumentPath {
    DocumentPath::parse(text).unwrap()
}

#[test]
fn parts_of_a_document_path() {
    let path = document("rooms/r1/messages/m1");
    assert_eq!(path.id(), "m1");
    assert_eq!(path.collection_id(), "messages");
    assert_eq!(path.collection().as_str(), "rooms/r1/messages");
    assert_eq!(path.collection().id(), "messages");
    assert_eq!(
        path.collection().parent(),
        Parent::Document(document("rooms/r1"))
    );
    assert_eq!(document("rooms/r1").collection().parent(), Parent::Root);
    assert_eq!(path.collection().document("m1").unwrap(), path);
    assert!(path.collection().holds(&path));
    assert_eq!(
        Parent::Root.collection("rooms").unwrap(),
        CollectionPath::parse("rooms").unwrap()
    );
}

#[test]
fn sizes_are_those_of_the_service() {
    // "users" 6, "jeff" 5, "my_task_id" 11, "tasks" 6, and 16 for the name.
    assert_eq!(document("users/jeff/tasks/my_task_id").size(), 44);
    assert_eq!(document("users/__id5__").size(), 6 + 8 + 16);
}

#[test]
fn refused_ids() {
    let check = |text: &str, expected: &str| {
        assert_eq!(
            DocumentPath::parse(text).unwrap_err().to_string(),
            expected,
            "{text}"
        );
    };
    check(
        "c/__doc__",
        "Resource id \"__doc__\" is invalid because it is reserved.",
    );
    check(
        "__c__/d",
        "Resource id \"__c__\" is invalid because it is reserved.",
    );
    check(
        "c/____",
        "Resource id \"____\" is invalid because it is reserved.",
    );
    check(
        "c/.",
        "Resource id \".\" is invalid because it is reserved.",
    );
    check(
        "c/..",
        "Resource id \"..\" is invalid because it is reserved.",
    );
    check("c/", "Resource id \"\" is invalid because it is empty.");
    check("", "Resource id \"\" is invalid because it is empty.");
    check(
        "__id5__/d",
        "Resource id \"__id5__\" is invalid because it is reserved.",
    );
    check(
        "c/__id05__",
        "Resource id \"__id05__\" is invalid because it is reserved.",
    );
    check(
        "c",
        "Document path \"c\" must have an even number of segments, found 1.",
    );
    check(
        &format!("c/{}", "x".repeat(1_501)),
        "Resource id is longer than 1500 bytes.",
    );
    check(
        &["c/", &"x".repeat(6_143)].concat(),
        "The name of a document is longer than 6144 bytes.",
    );
    check(
        &["c/d"; 101].join("/"),
        "The name of a document has more than 100 collections.",
    );
    document(&["c/d"; 100].join("/"));
    document(&format!("c/{}", "x".repeat(1_500)));
    document("c/___");
    document("c/...");
}

#[test]
fn depth_is_bounded_on_every_way_to_a_path() {
    let deepest = document(&["c/d"; 100].join("/"));
    assert!(Parent::Document(deepest).collection("c").is_err());
    let long = Parent::Document(document(&["c/", &"x".repeat(1_500)].concat()));
    let collection = long.collection(&"y".repeat(1_500)).unwrap();
    let inner = collection.document(&"z".repeat(1_500)).unwrap();
    let inner = Parent::Document(inner).collection("c").unwrap();
    assert!(inner.document(&"z".repeat(1_500)).is_ok());
    let inner = Parent::Document(inner.document(&"z".repeat(1_500)).unwrap());
    assert!(inner.collection(&"z".repeat(1_500)).is_err());
}

#[test]
fn every_path_can_be_named_in_full() {
    let id = "x".repeat(1_500);
    let text = [&format!("{id}/{id}/{id}/{id}/c/"), "y".repeat(138).as_str()].concat();
    let path = document(&text);
    assert_eq!(path.as_str().len(), 6_144);
    let database = DatabaseName::new(&"p".repeat(500), &"d".repeat(500)).unwrap();
    let name = DocumentName { database, path };
    assert_eq!(DocumentName::parse(&name.to_string()).unwrap(), name);
    assert!(DatabaseName::new(&"p".repeat(501), "d").is_err());
    let endless = format!("projects/p/databases/d/documents/{}", "c/d/".repeat(5_000));
    assert!(DocumentName::parse(&endless).unwrap_err().to_string().len() < 100);
}

#[test]
fn collection_ids_have_their_own_text() {
    let check = |text: &str, expected: &str| {
        assert_eq!(check_collection_id(text).unwrap_err().to_string(), expected);
    };
    check(
        "__x__",
        "Collection id \"__x__\" is invalid because it is reserved.",
    );
    check(
        "a/b",
        "Collection id \"a/b\" is invalid because it contains \"/\".",
    );
    check("", "Collection id \"\" is invalid because it is empty.");
    check(
        &"x".repeat(1_501),
        "The query kind is longer than 1500 bytes.",
    );
    check_collection_id("__x").unwrap();
}

#[test]
fn numeric_ids_have_one_spelling() {
    for (text, number) in [
        ("__id0__", Some(0)),
        ("__id-9223372036854775808__", Some(i64::MIN)),
        ("__id9223372036854775807__", Some(i64::MAX)),
        ("__id9223372036854775808__", None),
        ("__id-0__", None),
        ("__id007__", None),
        ("__id+7__", None),
        ("__id__", None),
        ("__id-__", None),
        ("__id7_", None),
        ("__i", None),
    ] {
        assert_eq!(numeric_id(text), number, "{text}");
    }
}

#[test]
fn names_sort_numbers_first_and_parents_before_children() {
    let sorted = [
        "c/__id-9223372036854775808__",
        "c/__id-1__",
        "c/__id-1__/a/b",
        "c/__id2__",
        "c/__id10__",
        "c/A",
        "c/a",
        "c/a/x/y",
        "c/a!",
        "c/a.b",
        "c/\u{e000}",
        "c/\u{ffff}",
        "c/\u{10000}",
        "c!/a",
    ];
    for (i, a) in sorted.iter().enumerate() {
        for (j, b) in sorted.iter().enumerate() {
            assert_eq!(document(a).cmp(&document(b)), i.cmp(&j), "{a} {b}");
        }
    }
}

#[test]
fn parents_contain_what_is_below_them() {
    let parent = Parent::Document(document("c/d"));
    assert!(parent.contains(&document("c/d/e/f")));
    assert!(!parent.contains(&document("c/d")));
    assert!(!parent.contains(&document("c/de")));
    assert!(!parent.contains(&document("c/de/f/g")));
    assert!(Parent::Root.contains(&document("c/d")));
}

#[test]
fn full_names() {
    let text = "projects/p/databases/(default)/documents/c/d";
    let name = DocumentName::parse(text).unwrap();
    assert_eq!(name.to_string(), text);
    assert_eq!(name.database.project(), "p");
    assert_eq!(name.database.database(), "(default)");
    assert_eq!(
        DocumentName::parse("projects/p/databases/%28default%29/documents/c/d").unwrap(),
        name
    );
    assert_eq!(
        DatabaseName::parse("projects/p/databases/%28default%29").unwrap(),
        name.database
    );
    assert_eq!(
        parse_parent("projects/p/databases/(default)/documents").unwrap(),
        (name.database.clone(), Parent::Root)
    );
    assert_eq!(
        parse_parent(text).unwrap(),
        (name.database, Parent::Document(name.path))
    );
}

#[test]
fn broken_names() {
    let check = |text: &str, expected: &str| {
        assert_eq!(
            parse_parent(text).unwrap_err().to_string(),
            format!("Document parent name \"{text}\" {expected}")
        );
    };
    check("", "lacks \"projects\" at index 0.");
    check("projects", "lacks \"/\" at index 8.");
    check("projects/p", "lacks \"/\" at index 10.");
    check("projects/p/database", "lacks \"databases\" at index 11.");
    check("projects/p/databases/d", "lacks \"/\" at index 22.");
    check(
        "projects/p/databases/d/docs",
        "lacks \"documents\" at index 23.",
    );
    check(
        "projects/p/databases/d/documentsx",
        "lacks \"/\" at index 32.",
    );
    check(
        "projects/p/databases/d/documents/c/d/",
        "has invalid trailing \"/\".",
    );
    assert!(parse_parent("projects/p/databases/d/documents/c").is_err());
    assert!(DocumentName::parse("projects/p/databases/d/documents").is_err());
    assert!(DatabaseName::parse("projects//databases/d").is_err());
    assert!(DatabaseName::parse("projects/p/databases/").is_err());
    assert!(DatabaseName::parse("projects/p/databases/d/documents").is_err());
    assert!(DatabaseName::parse("projects/p/databases/..").is_err());
}
