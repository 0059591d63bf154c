//! What a file may hold, what it may not, and that printing is the reverse of reading.

use super::*;
use crate::indexes::set::Changes;

const EVERYTHING: &str = r#"{
  // Of a Firebase project.
  "indexes": [
    {
      "collectionGroup": "cities",
      "queryScope": "COLLECTION",
      "fields": [
        { "fieldPath": "state", "order": "ASCENDING" },
        { "fieldPath": "tags", "arrayConfig": "CONTAINS" }, /* // */
        { "fieldPath": "`a//b`.c", "order": "DESCENDING" },
        { "fieldPath": "__name__", "order": "DESCENDING" }
      ],
      "density": "SPARSE_ALL"
    },
    {
      "collectionGroup": "cities",
      "queryScope": "COLLECTION_GROUP",
      "fields": [{ "fieldPath": "v", "vectorConfig": { "dimension": 3, "flat": {} } }]
    }
  ],
  "fieldOverrides": [
    { "collectionGroup": "cities", "fieldPath": "text", "ttl": false, "indexes": [] },
    {
      "collectionGroup": "cities", "fieldPath": "name",
      "indexes": [
        { "order": "ASCENDING", "queryScope": "COLLECTION" },
        { "arrayConfig": "CONTAINS", "queryScope": "COLLECTION_GROUP" }
      ]
    },
    { "collectionGroup": "__default__", "fieldPath": "*", "indexes": [{ "order": "DESCENDING" }] }
  ]
}"#;

#[test]
fn everything_that_a_file_may_hold() {
    let set = parse(EVERYTHING).unwrap();
    let text = "\
+ index  cities COLLECTION (state ASC, tags CONTAINS, `a//b`.c DESC, __name__ DESC)
+ index  cities COLLECTION_GROUP (v VECTOR<3>, __name__ ASC)
+ field  __default__ * COLLECTION DESC
+ field  cities name COLLECTION ASC, COLLECTION_GROUP CONTAINS
+ field  cities text no indexes
";
    assert_eq!(
        Changes::between(&IndexSet::default(), &set).to_string(),
        text
    );
}

#[test]
fn what_is_printed_reads_back() {
    for set in [IndexSet::default(), parse(EVERYTHING).unwrap()] {
        let printed = print(&set);
        assert_eq!(parse(&printed).unwrap(), set, "{printed}");
    }
    assert_eq!(
        print(&IndexSet::default()),
        "{\n  \"indexes\": [],\n  \"fieldOverrides\": []\n}\n"
    );
}

#[test]
fn an_empty_file_wants_nothing() {
    assert_eq!(parse("{}").unwrap(), IndexSet::default());
    assert_eq!(parse("/**/{ // }\n}").unwrap(), IndexSet::default());
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let index = |inner: &str| format!(r#"{{"indexes": [{{"collectionGroup": "c", {inner}}}]}}"#);
    let fields = |inner: &str| index(&format!(r#""fields": [{inner}]"#));
    let field = |inner: &str| {
        format!(r#"{{"fieldOverrides": [{{"collectionGroup": "c", "fieldPath": "a", {inner}}}]}}"#)
    };
    let a = r#"{"fieldPath": "a", "order": "ASCENDING"}"#;
    let cases = [
        ("[]".to_owned(), "the file: must be an object"),
        (
            "{\n \"indexes\": [,]}".to_owned(),
            "not JSON: expected value at line 2 column 14",
        ),
        (
            r#"{"indices": []}"#.to_owned(),
            "indices: is not known here; known are indexes, fieldOverrides",
        ),
        (r#"{"indexes": {}}"#.to_owned(), "indexes: must be a list"),
        (
            r#"{"indexes": [{"fields": []}]}"#.to_owned(),
            "indexes[0]: collectionGroup is missing",
        ),
        (
            index(r#""queryScope": "EVERYWHERE""#),
            "indexes[0].queryScope: must be COLLECTION or COLLECTION_GROUP, but is \"EVERYWHERE\"",
        ),
        (
            index(r#""density": "DENSE""#),
            "indexes[0].density: \"DENSE\" is not supported",
        ),
        (
            index(r#""unique": true"#),
            "indexes[0].unique: true is not supported",
        ),
        (fields(""), "indexes[0]: An index must have between 1 and"),
        (fields(a), "indexes[0]: this index is not necessary"),
        (
            fields(r#"{"fieldPath": "a..b", "order": "ASCENDING"}"#),
            "indexes[0].fields[0].fieldPath: Invalid property path",
        ),
        (
            fields(&format!(r#"{a}, {{"fieldPath": "b", "order": "UP"}}"#)),
            "indexes[0].fields[1].order: must be ASCENDING or DESCENDING, but is \"UP\"",
        ),
        (
            fields(r#"{"fieldPath": "a", "order": "ASCENDING", "arrayConfig": "CONTAINS"}"#),
            "indexes[0].fields[0]: must have exactly one of",
        ),
        (
            fields(r#"{"fieldPath": "a", "vectorConfig": {"dimension": -1}}"#),
            "indexes[0].fields[0].vectorConfig.dimension: must be a positive",
        ),
        (
            fields(r#"{"fieldPath": "a", "vectorConfig": {"dimension": 0}}"#),
            "indexes[0]: The vector field a must have between 1",
        ),
        (
            fields(r#"{"fieldPath": "a", "vectorConfig": {"dimension": 2, "flat": {"x": 1}}}"#),
            "indexes[0].fields[0].vectorConfig.flat.x: nothing is known",
        ),
        (
            field(r#""ttl": true, "indexes": []"#),
            "fieldOverrides[0].ttl: Watchfire does not",
        ),
        (
            field(r#""ttl": 1, "indexes": []"#),
            "fieldOverrides[0].ttl: must be true or false",
        ),
        (
            field(r#""ttl": false"#),
            "fieldOverrides[0]: indexes is missing",
        ),
        (
            field(r#""indexes": [{"order": 1}]"#),
            "fieldOverrides[0].indexes[0].order: must be a text, but is 1",
        ),
        (
            field(r#""indexes": [{"vectorConfig": {"dimension": 2}}]"#),
            "fieldOverrides[0].indexes[0].vectorConfig: is not known here",
        ),
    ];
    for (text, complaint) in cases {
        let wrong = parse(&text).unwrap_err().to_string();
        assert!(wrong.starts_with(complaint), "{text}\n{wrong}");
    }
    let one = r#"{"collectionGroup": "c", "fieldPath": "a", "indexes": []}"#;
    let twice = parse(&format!(r#"{{"fieldOverrides": [{one}, {one}]}}"#)).unwrap_err();
    assert_eq!(
        twice.to_string(),
        "fieldOverrides[1]: this field is there twice"
    );
}
