//! Field paths: syntax both ways, reading and changing maps, masks.

use proptest::prelude::*;

use super::*;

fn path(text: &str) -> FieldPath {
    FieldPath::parse(text).unwrap()
}

fn nested(key: &str, value: Value) -> Value {
    Value::Map(Fields::from([(key.to_owned(), value)]))
}

#[test]
fn syntax() {
    let check = |text: &str, segments: &[&str]| {
        let parsed = path(text);
        assert_eq!(parsed.segments(), segments, "{text}");
        assert_eq!(path(&parsed.to_string()), parsed);
    };
    check("a", &["a"]);
    check("_a.B9", &["_a", "B9"]);
    check("`a`", &["a"]);
    check("a.`b.c`.d", &["a", "b.c", "d"]);
    check(r"`\``", &["`"]);
    check(r"`a\\b`", &[r"a\b"]);
    check("`9`", &["9"]);
    check("`ü`.x", &["ü", "x"]);
    check("__name__", &["__name__"]);
    assert!(path("__name__").is_document_name());
    assert_eq!(path("a.`b.c`").to_string(), "a.`b.c`");
}

#[test]
fn broken_syntax() {
    assert_eq!(
        FieldPath::parse("").unwrap_err().to_string(),
        "Invalid empty property path string."
    );
    for text in [
        "a..b", ".", ".a", "a.", "9a", "a-b", "ü", "`a", "``", "a`b`", "`a`b", r"`\a`", "`a`.",
        "a b", r"`a\`",
    ] {
        let message = FieldPath::parse(text).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!(
                "Invalid property path \"{text}\". Unquoted property paths must match regex "
            )),
            "{message}"
        );
    }
    assert_eq!(
        FieldPath::parse("a.__x__").unwrap_err().to_string(),
        "Invalid reserved name in field path __x__"
    );
    assert!(FieldPath::parse("a.__name__").is_err());
    assert!(FieldPath::from_segments(Vec::new()).is_err());
    assert!(FieldPath::from_segments(vec![String::new()]).is_err());
}

#[test]
fn length_is_counted_raw() {
    assert!(FieldPath::parse(&"a".repeat(1_500)).is_ok());
    let quoted = format!("`{}`", r"\`".repeat(1_500));
    assert!(FieldPath::parse(&quoted).is_ok());
    for text in [
        "a".repeat(1_501),
        ["a"; 751].join("."),
        format!("`{}`", r"\`".repeat(1_501)),
        "a".repeat(100_000),
    ] {
        assert_eq!(
            FieldPath::parse(&text).unwrap_err().to_string(),
            "property path is longer than 1500 bytes."
        );
    }
}

#[test]
fn get_set_remove() {
    let mut fields = Fields::new();
    path("a.b").set(&mut fields, Value::Integer(1));
    path("a.c").set(&mut fields, Value::Integer(2));
    assert!(matches!(path("a.b").get(&fields), Some(Value::Integer(1))));
    assert!(matches!(path("a.c").get(&fields), Some(Value::Integer(2))));
    assert!(path("a.b.c").get(&fields).is_none());
    path("a.b.c").set(&mut fields, Value::Integer(3));
    assert!(matches!(
        path("a.b.c").get(&fields),
        Some(Value::Integer(3))
    ));
    path("a.b.x").remove(&mut fields);
    path("x.y").remove(&mut fields);
    path("a.c.y").remove(&mut fields);
    path("a.b.c").remove(&mut fields);
    assert!(matches!(path("a.b").get(&fields), Some(Value::Map(map)) if map.is_empty()));
}

#[test]
fn masks_are_normal() {
    let mask = FieldMask::new(vec![
        path("b.c"),
        path("a"),
        path("b"),
        path("a"),
        path("ba"),
        path("b.d.e"),
    ]);
    assert_eq!(mask.paths(), [path("a"), path("b"), path("ba")]);
    assert!(mask.covers(&path("b.x")));
    assert!(!FieldMask::new(vec![path("b.x")]).covers(&path("b")));
}

#[test]
fn projection() {
    let fields = Fields::from([
        ("a".to_owned(), Value::Integer(1)),
        ("b".to_owned(), nested("c", nested("d", Value::Integer(2)))),
        ("e".to_owned(), Value::Null),
    ]);
    let check = |paths: &[&str], expected: &str| {
        let mask = FieldMask::new(paths.iter().map(|text| path(text)).collect());
        assert_eq!(format!("{:?}", mask.project(&fields)), expected);
    };
    check(&[], "{}");
    check(&["__name__"], "{}");
    check(&["e", "b.x", "a.b"], "{\"e\": Null}");
    check(
        &["b.c.d"],
        "{\"b\": Map({\"c\": Map({\"d\": Integer(2)})})}",
    );
}

proptest! {
    #[test]
    fn parse_inverts_display(segments in prop::collection::vec("[a-c_.`\\\\é0-9 \u{0}]{1,6}", 1..5)) {
        prop_assume!(segments.iter().all(|segment| !crate::path::is_reserved(segment)));
        let original = FieldPath::from_segments(segments).unwrap();
        prop_assert_eq!(FieldPath::parse(&original.to_string()).unwrap(), original);
    }

    #[test]
    fn parse_never_panics(text in "[a.`\\\\_ü]{0,12}") {
        if let Ok(parsed) = FieldPath::parse(&text) {
            prop_assert_eq!(FieldPath::parse(&parsed.to_string()).unwrap(), parsed);
        }
    }

    #[test]
    fn masks_cover_the_same_after_normalising(
        paths in prop::collection::vec(prop::collection::vec("[ab]", 1..4), 0..6),
        probe in prop::collection::vec("[ab]", 1..4),
    ) {
        let paths: Vec<_> = paths.into_iter().map(|p| FieldPath::from_segments(p).unwrap()).collect();
        let probe = FieldPath::from_segments(probe).unwrap();
        let covered = paths.iter().any(|path| path.is_prefix_of(&probe));
        let mask = FieldMask::new(paths);
        prop_assert_eq!(mask.covers(&probe), covered);
        for (i, a) in mask.paths().iter().enumerate() {
            for (j, b) in mask.paths().iter().enumerate() {
                prop_assert!(i == j || !a.is_prefix_of(b));
            }
        }
    }
}
