//! Tables of queries: the normal form, the refusals, what matches, and identities.

use super::*;
use crate::document::Fields;
use crate::filter::UnaryOperator;
use crate::path::DocumentName;
use crate::time::Timestamp;

fn database() -> DatabaseName {
    DatabaseName::new("p", "(default)").unwrap()
}

fn field(path: &str) -> FieldPath {
    if path == "__name__" {
        FieldPath::document_name()
    } else {
        FieldPath::parse(path).unwrap()
    }
}

fn int(value: i64) -> Value {
    Value::Integer(value)
}
fn list(values: &[Value]) -> Value {
    Value::Array(values.to_vec())
}
fn ints(count: i64) -> Value {
    Value::Array((0..count).map(Value::Integer).collect())
}
fn name(path: &str) -> Value {
    Value::Reference(DocumentName {
        database: database(),
        path: DocumentPath::parse(path).unwrap(),
    })
}
fn leaf(path: &str, operator: FieldOperator, value: Value) -> Filter {
    Filter::Field {
        field: field(path),
        operator,
        value,
    }
}
fn unary(path: &str, operator: UnaryOperator) -> Filter {
    Filter::Unary {
        field: field(path),
        operator,
    }
}
fn greater(path: &str) -> Filter {
    leaf(path, FieldOperator::GreaterThan, int(0))
}
fn equal(path: &str) -> Filter {
    leaf(path, FieldOperator::Equal, int(0))
}

/// `a` ascends and `-a` descends.
fn orders(texts: &[&str]) -> Vec<Order> {
    texts
        .iter()
        .map(|text| match text.strip_prefix('-') {
            Some(path) => Order {
                field: field(path),
                direction: Direction::Descending,
            },
            None => Order {
                field: field(text),
                direction: Direction::Ascending,
            },
        })
        .collect()
}

fn shown_orders(query: &Query) -> Vec<String> {
    query
        .order()
        .iter()
        .map(|order| match order.direction {
            Direction::Ascending => order.field.to_string(),
            Direction::Descending => format!("-{}", order.field),
        })
        .collect()
}

fn parts() -> QueryParts {
    QueryParts {
        database: database(),
        parent: Parent::Root,
        selector: Selector::Collection("c".to_owned()),
        filter: None,
        order: Vec::new(),
        start: None,
        end: None,
        offset: 0,
        limit: None,
        projection: None,
    }
}
fn filtered(filter: Filter) -> QueryParts {
    QueryParts {
        filter: Some(filter),
        ..parts()
    }
}
fn ordered(texts: &[&str]) -> QueryParts {
    QueryParts {
        order: orders(texts),
        ..parts()
    }
}
fn everything() -> QueryParts {
    QueryParts {
        selector: Selector::Everything,
        ..parts()
    }
}
fn cursor(values: &[Value], before: bool) -> Option<Cursor> {
    Some(Cursor {
        values: values.to_vec(),
        before,
    })
}
fn document(path: &str, fields: &[(&str, Value)]) -> Document {
    Document {
        path: DocumentPath::parse(path).unwrap(),
        create_time: Timestamp::from_micros(1).unwrap(),
        update_time: Timestamp::from_micros(1).unwrap(),
        fields: fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect::<Fields>(),
    }
}

#[test]
fn the_order_is_completed() {
    use FieldOperator::*;
    let cases: Vec<(Option<Filter>, &[&str], &[&str])> = vec![
        (None, &[], &["__name__"]),
        (None, &["a"], &["a", "__name__"]),
        (None, &["-a"], &["-a", "-__name__"]),
        (None, &["-a", "b"], &["-a", "b", "__name__"]),
        (None, &["a", "-__name__"], &["a", "-__name__"]),
        (Some(equal("b")), &["a"], &["a", "__name__"]),
        (Some(greater("b")), &[], &["b", "__name__"]),
        (Some(greater("b")), &["-a"], &["-a", "-b", "-__name__"]),
        (Some(greater("b")), &["-b"], &["-b", "-__name__"]),
        // Several: by field path, whatever the order of the filters.
        (
            Some(Filter::And(vec![
                greater("z"),
                Filter::Or(vec![greater("b.c"), greater("b")]),
            ])),
            &["-m"],
            &["-m", "-b", "-b.c", "-z", "-__name__"],
        ),
        // An inequality on the name comes last, where the name is anyway.
        (
            Some(Filter::And(vec![
                leaf("__name__", GreaterThan, name("c/a")),
                greater("z"),
            ])),
            &[],
            &["z", "__name__"],
        ),
        (
            Some(leaf("__name__", GreaterThan, name("c/a"))),
            &["__name__"],
            &["__name__"],
        ),
        (Some(leaf("a", NotEqual, int(1))), &[], &["a", "__name__"]),
        (Some(leaf("a", NotIn, ints(2))), &[], &["a", "__name__"]),
        (
            Some(unary("a", UnaryOperator::IsNotNull)),
            &[],
            &["a", "__name__"],
        ),
        (
            Some(unary("a", UnaryOperator::IsNotNan)),
            &[],
            &["a", "__name__"],
        ),
        (Some(unary("a", UnaryOperator::IsNull)), &[], &["__name__"]),
        (Some(leaf("a", In, ints(2))), &[], &["__name__"]),
        (Some(leaf("a", ArrayContains, int(2))), &[], &["__name__"]),
    ];
    for (filter, explicit, expected) in cases {
        let query = Query::new(QueryParts {
            filter: filter.clone(),
            ..ordered(explicit)
        })
        .unwrap();
        assert_eq!(shown_orders(&query), expected, "{filter:?} {explicit:?}");
    }
}

#[test]
fn refusals() {
    use FieldOperator::*;
    let nested =
        |levels: usize| (0..levels).fold(equal("a"), |filter, _| Filter::And(vec![filter]));
    let cases: Vec<(QueryParts, &str)> = vec![
        (
            QueryParts {
                start: cursor(&[int(1), int(2)], true),
                ..ordered(&["a"])
            },
            "Cursor has too many values.",
        ),
        // The implied orders do not count.
        (
            QueryParts {
                end: cursor(&[int(1)], true),
                ..filtered(greater("a"))
            },
            "Cursor has too many values.",
        ),
        (
            QueryParts {
                start: cursor(&[int(1), int(2)], true),
                ..ordered(&["a", "__name__"])
            },
            "Cursor __key__ value is not a document reference.",
        ),
        (
            ordered(&["a", "b", "-a"]),
            "order by clause cannot contain duplicate fields a",
        ),
        (
            ordered(&["__name__", "__name__"]),
            "order by clause cannot contain duplicate fields __key__",
        ),
        (
            ordered(&["__name__", "a"]),
            "order by clause cannot contain more fields after the key",
        ),
        (
            QueryParts {
                filter: Some(greater("a")),
                ..ordered(&["__name__"])
            },
            "order by clause cannot contain more fields after the key",
        ),
        (
            QueryParts {
                filter: Some(greater("n")),
                ..everything()
            },
            "kind is required for filter: n",
        ),
        (
            QueryParts {
                order: orders(&["a"]),
                ..everything()
            },
            "kind is required for all orders except __key__ ascending",
        ),
        (
            QueryParts {
                order: orders(&["-__name__"]),
                ..everything()
            },
            "kind is required for all orders except __key__ ascending",
        ),
        (
            filtered(Filter::And(vec![])),
            "Composite filter must have at least one sub-filter.",
        ),
        (
            filtered(Filter::And(vec![equal("a"), Filter::Or(vec![])])),
            "Composite filter must have at least one sub-filter.",
        ),
        (
            filtered(leaf("__name__", Equal, int(1))),
            "__key__ filter value must be a Key",
        ),
        (
            filtered(leaf("__name__", In, list(&[name("c/a"), int(1)]))),
            "__key__ filter value must be a Key",
        ),
        (
            filtered(unary("__name__", UnaryOperator::IsNull)),
            "__key__ filter value must be a Key",
        ),
        (
            filtered(leaf("__name__", ArrayContains, name("c/a"))),
            "the name __key__ is reserved",
        ),
        (
            filtered(leaf("a", NotIn, ints(11))),
            "'NOT_IN' supports up to 10 comparison values.",
        ),
        (
            filtered(leaf("a", In, ints(31))),
            "'IN' supports up to 30 comparison values.",
        ),
        (
            filtered(leaf("a", ArrayContainsAny, ints(31))),
            "'ARRAY_CONTAINS_ANY' supports up to 30 comparison values.",
        ),
        (
            filtered(leaf("a", In, ints(0))),
            "'IN' requires a non-empty ArrayValue.",
        ),
        (
            filtered(leaf("a", In, int(0))),
            "'IN' requires an ArrayValue.",
        ),
        (
            filtered(Filter::And(vec![
                leaf("a", In, ints(6)),
                leaf("b", In, ints(6)),
            ])),
            "The query has 36 disjunctions after normalization. A query may not have more than 30.",
        ),
        (
            filtered(Filter::Or(vec![leaf("a", In, ints(30)), equal("b")])),
            "The query has 31 disjunctions after normalization. A query may not have more than 30.",
        ),
        (
            filtered(Filter::And(
                (0..101).map(|n| equal(&format!("f{n}"))).collect(),
            )),
            "The query has 101 filters, sort orders and parent documents in total. A query may not have more than 100.",
        ),
        (
            filtered(Filter::And(vec![
                leaf("a", In, ints(30)),
                equal("b"),
                equal("c"),
                equal("d"),
            ])),
            "The query has 120 filters, sort orders and parent documents in total. A query may not have more than 100.",
        ),
        (
            filtered(Filter::And(
                (0..11).map(|n| greater(&format!("f{n:02}"))).collect(),
            )),
            "The query contains 11 distinct inequality fields: [f00, f01, f02, f03, f04, f05, f06, f07, f08, f09, f10]. A query may not have more than 10 distinct inequality fields.",
        ),
        (
            filtered(Filter::And(vec![
                leaf("a", NotEqual, int(1)),
                leaf("b", NotIn, ints(1)),
            ])),
            "Only a single 'NOT_EQUAL' or 'NOT_IN' filter allowed per query.",
        ),
        (
            filtered(Filter::And(vec![
                leaf("a", NotIn, ints(1)),
                leaf("b", In, ints(1)),
            ])),
            "'NOT_IN' cannot be used in the same query with 'IN'.",
        ),
        (
            filtered(Filter::Or(vec![leaf("a", NotIn, ints(1)), equal("b")])),
            "'NOT_IN' cannot be used in the same query with 'OR'.",
        ),
        (
            filtered(Filter::And(vec![
                leaf("a", ArrayContains, int(1)),
                leaf("a", ArrayContainsAny, ints(1)),
            ])),
            "A maximum of 1 'ARRAY_CONTAINS' filter is allowed per disjunction.",
        ),
        (
            filtered(Filter::And(vec![
                leaf("__name__", Equal, name("c/a")),
                greater("a"),
            ])),
            "Equality on key is not allowed if there are other inequality fields and key does not appear in inequalities.",
        ),
        (
            filtered(nested(101)),
            "Composite filters are nested deeper than 100 levels.",
        ),
    ];
    for (parts, text) in cases {
        let found = Query::new(parts.clone())
            .map(|_| ())
            .map_err(|invalid| invalid.to_string());
        assert_eq!(found, Err(text.to_owned()), "{parts:?}");
    }
    let bad_id = QueryParts {
        selector: Selector::Group("__x__".to_owned()),
        ..parts()
    };
    assert!(Query::new(bad_id).is_err());
}

#[test]
fn what_is_allowed() {
    use FieldOperator::*;
    let nested = (0..100).fold(equal("a"), |filter, _| Filter::Or(vec![filter]));
    let allowed = [
        filtered(nested),
        filtered(Filter::And(vec![
            leaf("a", In, ints(5)),
            leaf("b", In, ints(6)),
        ])),
        filtered(Filter::Or(vec![
            leaf("a", ArrayContains, int(1)),
            leaf("a", ArrayContainsAny, ints(2)),
        ])),
        // Any number of filters that are the same inequality field.
        filtered(Filter::And(vec![greater("a"), leaf("a", LessThan, int(9))])),
        filtered(leaf("__name__", Equal, name("other/a"))),
        QueryParts {
            start: cursor(&[int(1), name("c/gone")], false),
            ..ordered(&["a", "__name__"])
        },
        QueryParts {
            filter: Some(Filter::And(vec![
                leaf("__name__", GreaterThanOrEqual, name("c/a")),
                leaf("__name__", LessThan, name("c/b")),
            ])),
            order: orders(&["__name__"]),
            limit: Some(0),
            ..everything()
        },
    ];
    for parts in allowed {
        Query::new(parts.clone()).unwrap_or_else(|invalid| panic!("{invalid}: {parts:?}"));
    }
}

#[test]
fn a_huge_expansion_is_counted_and_not_made() {
    let pair = || Filter::Or(vec![equal("a"), equal("b")]);
    let mut filter = Filter::And((0..100).map(|_| pair()).collect());
    for _ in 0..3 {
        filter = Filter::And(vec![filter.clone(), filter]);
    }
    let text = Query::new(filtered(filter)).unwrap_err().to_string();
    assert!(text.contains("disjunctions after normalization"), "{text}");
}

#[test]
fn selectors() {
    let below = |path: &str| Parent::Document(DocumentPath::parse(path).unwrap());
    let collection = |id: &str| Selector::Collection(id.to_owned());
    let group = |id: &str| Selector::Group(id.to_owned());
    let cases = [
        (Parent::Root, collection("c"), "c/d", true),
        (Parent::Root, collection("c"), "c/d/c/e", false),
        (Parent::Root, collection("c"), "x/d/c/e", false),
        (Parent::Root, collection("c"), "cc/d", false),
        (below("x/d"), collection("c"), "x/d/c/e", true),
        (below("x/d"), collection("c"), "x/dd/c/e", false),
        (below("x/d"), collection("c"), "x/d/c/e/c/f", false),
        (below("x/d"), collection("c"), "c/e", false),
        (Parent::Root, group("c"), "c/d", true),
        (Parent::Root, group("c"), "x/d/c/e", true),
        (Parent::Root, group("c"), "c/d/x/e", false),
        (below("x/d"), group("c"), "x/d/y/z/c/e", true),
        (below("x/d"), group("c"), "x/e/c/e", false),
        (below("c/d"), group("c"), "c/d", false),
        (Parent::Root, Selector::Everything, "c/d/x/e", true),
        (below("c/d"), Selector::Everything, "c/d/x/e", true),
        (below("c/d"), Selector::Everything, "c/d", false),
        (below("c/d"), Selector::Everything, "c/dd/x/e", false),
    ];
    for (parent, selector, path, expected) in cases {
        let query = Query::new(QueryParts {
            parent: parent.clone(),
            selector: selector.clone(),
            ..parts()
        })
        .unwrap();
        assert_eq!(
            query.matches(&document(path, &[])),
            expected,
            "{parent:?} {selector:?} {path}"
        );
    }
}

#[test]
fn results() {
    use FieldOperator::*;
    let documents = [
        document("c/a", &[("n", int(1)), ("t", int(9))]),
        document("c/b", &[("n", int(2))]),
        document("c/e", &[("n", int(2)), ("t", int(7))]),
        document("c/f", &[("n", Value::Null)]),
        document("c/g", &[("t", int(3))]),
        document("c/h", &[("n", Value::String("x".to_owned()))]),
    ];
    let greater = |value: i64| leaf("n", GreaterThan, int(value));
    let cases: Vec<(QueryParts, &str)> = vec![
        (parts(), "abefgh"),
        (ordered(&["n"]), "fabeh"),
        (ordered(&["-n"]), "hebaf"),
        (ordered(&["-n", "__name__"]), "hbeaf"),
        (filtered(greater(1)), "be"),
        (filtered(greater(0)), "abe"),
        // The branch that a document satisfies may be another than the one that implies the order.
        (
            filtered(Filter::Or(vec![greater(1), leaf("t", Equal, int(3))])),
            "be",
        ),
        (filtered(leaf("n", NotEqual, int(2))), "ah"),
        (
            QueryParts {
                start: cursor(&[int(2)], true),
                ..ordered(&["n"])
            },
            "beh",
        ),
        (
            QueryParts {
                start: cursor(&[int(2)], false),
                ..ordered(&["n"])
            },
            "h",
        ),
        (
            QueryParts {
                end: cursor(&[int(2)], true),
                ..ordered(&["n"])
            },
            "fa",
        ),
        (
            QueryParts {
                end: cursor(&[int(2)], false),
                ..ordered(&["n"])
            },
            "fabe",
        ),
        (
            QueryParts {
                start: cursor(&[int(2)], true),
                ..ordered(&["-n"])
            },
            "ebaf",
        ),
        (
            QueryParts {
                start: cursor(&[int(2)], false),
                ..ordered(&["-n"])
            },
            "af",
        ),
        (
            QueryParts {
                start: cursor(&[int(2), name("c/b")], false),
                ..ordered(&["n", "__name__"])
            },
            "eh",
        ),
        (
            QueryParts {
                start: cursor(&[int(2), name("c/c")], true),
                ..ordered(&["n", "__name__"])
            },
            "eh",
        ),
        (
            QueryParts {
                start: cursor(&[], false),
                ..ordered(&["n"])
            },
            "fabeh",
        ),
        (
            QueryParts {
                limit: Some(2),
                ..parts()
            },
            "ab",
        ),
        (
            QueryParts {
                limit: Some(0),
                ..parts()
            },
            "",
        ),
        (
            QueryParts {
                offset: 4,
                ..parts()
            },
            "gh",
        ),
        (
            QueryParts {
                offset: 1,
                limit: Some(2),
                ..ordered(&["n"])
            },
            "ab",
        ),
        (
            QueryParts {
                offset: 9,
                ..parts()
            },
            "",
        ),
    ];
    for (parts, expected) in cases {
        let query = Query::new(parts.clone()).unwrap();
        let found: String = query
            .evaluate(&documents)
            .iter()
            .map(|document| document.path.id())
            .collect();
        assert_eq!(found, expected, "{parts:?}");
    }
}

#[test]
fn projection() {
    let original = document("c/a", &[("a", int(1)), ("b", int(2))]);
    let fields = |mask: Option<Vec<FieldPath>>| {
        let query = Query::new(QueryParts {
            projection: mask.map(FieldMask::new),
            ..parts()
        })
        .unwrap();
        query
            .project(&original)
            .fields
            .keys()
            .cloned()
            .collect::<String>()
    };
    assert_eq!(fields(None), "ab");
    assert_eq!(fields(Some(vec![])), "ab");
    assert_eq!(fields(Some(vec![field("b")])), "b");
    assert_eq!(fields(Some(vec![FieldPath::document_name()])), "");
}

#[test]
fn identities() {
    use FieldOperator::*;
    let two = |a: Filter, b: Filter| filtered(Filter::And(vec![a, b]));
    let masked = |path: &str| QueryParts {
        projection: Some(FieldMask::new(vec![field(path)])),
        ..parts()
    };
    // Each group is one identity; no two groups share one.
    let groups: Vec<Vec<QueryParts>> = vec![
        vec![
            parts(),
            ordered(&["__name__"]),
            QueryParts {
                start: cursor(&[], true),
                ..parts()
            },
        ],
        vec![ordered(&["-__name__"])],
        vec![QueryParts {
            selector: Selector::Collection("d".to_owned()),
            ..parts()
        }],
        vec![QueryParts {
            selector: Selector::Group("c".to_owned()),
            ..parts()
        }],
        vec![everything()],
        vec![QueryParts {
            parent: Parent::Document(DocumentPath::parse("x/y").unwrap()),
            ..parts()
        }],
        vec![QueryParts {
            database: DatabaseName::new("p", "other").unwrap(),
            ..parts()
        }],
        vec![
            filtered(equal("a")),
            filtered(leaf("a", Equal, Value::Double(0.0))),
        ],
        vec![filtered(equal("b"))],
        vec![filtered(leaf("a", Equal, int(1)))],
        vec![
            filtered(greater("a")),
            QueryParts {
                filter: Some(greater("a")),
                ..ordered(&["a"])
            },
            QueryParts {
                filter: Some(greater("a")),
                ..ordered(&["a", "__name__"])
            },
        ],
        vec![filtered(leaf("a", GreaterThanOrEqual, int(0)))],
        vec![two(equal("a"), equal("b")), two(equal("b"), equal("a"))],
        vec![filtered(Filter::Or(vec![equal("a"), equal("b")]))],
        vec![filtered(unary("a", UnaryOperator::IsNull))],
        vec![filtered(unary("a", UnaryOperator::IsNan))],
        vec![QueryParts {
            start: cursor(&[int(1)], true),
            ..ordered(&["a"])
        }],
        vec![QueryParts {
            start: cursor(&[int(1)], false),
            ..ordered(&["a"])
        }],
        vec![QueryParts {
            end: cursor(&[int(1)], true),
            ..ordered(&["a"])
        }],
        vec![QueryParts {
            limit: Some(0),
            ..parts()
        }],
        vec![QueryParts {
            limit: Some(1),
            ..parts()
        }],
        vec![QueryParts {
            offset: 1,
            ..parts()
        }],
        vec![masked("a")],
        vec![masked("a.b")],
        vec![masked("`a.b`")],
    ];
    let mut seen = HashSet::new();
    for group in groups {
        let identities: BTreeSet<Vec<u8>> = group
            .iter()
            .map(|parts| Query::new(parts.clone()).unwrap().identity())
            .collect();
        assert_eq!(identities.len(), 1, "{group:?}");
        assert!(seen.insert(identities), "{group:?}");
    }
}
