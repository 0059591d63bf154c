//! What a query becomes, and the table of refusals.

use watchfire_model::{Document, DocumentPath, Timestamp};

use super::*;
use crate::pb::value::ValueType;
use pb_aggregation::aggregation::{Avg, Count, Operator as AggregateOperator, Sum};
use pb_query::filter::FilterType;

const PARENT: &str = "projects/p/databases/d/documents";

fn field(path: &str) -> pb_query::FieldReference {
    pb_query::FieldReference {
        field_path: path.to_owned(),
    }
}

fn integer(number: i64) -> pb::Value {
    pb::Value {
        value_type: Some(ValueType::IntegerValue(number)),
    }
}

fn selector(collection_id: &str, all_descendants: bool) -> pb_query::CollectionSelector {
    pb_query::CollectionSelector {
        collection_id: collection_id.to_owned(),
        all_descendants,
    }
}

fn all_of_c() -> pb::StructuredQuery {
    pb::StructuredQuery {
        from: vec![selector("c", false)],
        ..pb::StructuredQuery::default()
    }
}

fn filtered(filter_type: Option<FilterType>) -> pb::StructuredQuery {
    pb::StructuredQuery {
        r#where: Some(pb_query::Filter { filter_type }),
        ..all_of_c()
    }
}

fn compare(path: Option<&str>, op: i32, value: Option<pb::Value>) -> FilterType {
    FilterType::FieldFilter(pb_query::FieldFilter {
        field: path.map(field),
        op,
        value,
    })
}

fn unary(path: Option<&str>, op: i32) -> FilterType {
    FilterType::UnaryFilter(pb_query::UnaryFilter {
        op,
        operand_type: path.map(|path| pb_query::unary_filter::OperandType::Field(field(path))),
    })
}

fn composite(op: i32, filters: Vec<FilterType>) -> FilterType {
    FilterType::CompositeFilter(pb_query::CompositeFilter {
        op,
        filters: filters
            .into_iter()
            .map(|filter| pb_query::Filter {
                filter_type: Some(filter),
            })
            .collect(),
    })
}

fn order(path: Option<&str>, direction: i32) -> pb_query::Order {
    pb_query::Order {
        field: path.map(field),
        direction,
    }
}

fn decode(query: pb::StructuredQuery) -> Result<Query, Refusal> {
    decode_query(PARENT, query)
}

#[test]
fn selectors() {
    for (from, expected) in [
        (vec![], Selector::Everything),
        (vec![selector("", false)], Selector::Everything),
        (vec![selector("", true)], Selector::Everything),
        (
            vec![selector("c", false)],
            Selector::Collection("c".to_owned()),
        ),
        (vec![selector("c", true)], Selector::Group("c".to_owned())),
    ] {
        let query = decode(pb::StructuredQuery {
            from,
            ..pb::StructuredQuery::default()
        })
        .unwrap();
        assert_eq!(query.selector(), &expected);
    }
}

#[test]
fn every_part_is_carried_over() {
    let query = pb::StructuredQuery {
        select: Some(pb_query::Projection {
            fields: vec![field("a.b"), field("c")],
        }),
        r#where: Some(pb_query::Filter {
            filter_type: Some(composite(
                2,
                vec![compare(Some("a"), 3, Some(integer(1))), unary(Some("a"), 4)],
            )),
        }),
        order_by: vec![order(Some("a"), 2), order(Some("b"), 0)],
        start_at: Some(pb::Cursor {
            values: vec![integer(9)],
            before: true,
        }),
        end_at: Some(pb::Cursor {
            values: vec![integer(1), integer(2)],
            before: false,
        }),
        offset: 3,
        limit: Some(4),
        ..all_of_c()
    };
    let query = decode(query).unwrap();
    let Some(Filter::Or(parts)) = query.filter() else {
        panic!("an OR stays an OR");
    };
    assert!(matches!(
        parts.as_slice(),
        [
            Filter::Field {
                operator: FieldOperator::GreaterThan,
                value: Value::Integer(1),
                ..
            },
            Filter::Unary {
                operator: UnaryOperator::IsNotNan,
                ..
            },
        ]
    ));
    let orders: Vec<(String, Direction)> = query
        .order()
        .iter()
        .take(2)
        .map(|order| (order.field.to_string(), order.direction))
        .collect();
    assert_eq!(
        orders,
        [
            ("a".to_owned(), Direction::Descending),
            ("b".to_owned(), Direction::Ascending)
        ]
    );
    assert!(
        query
            .start()
            .is_some_and(|cursor| cursor.before && cursor.values.len() == 1)
    );
    assert!(
        query
            .end()
            .is_some_and(|cursor| !cursor.before && cursor.values.len() == 2)
    );
    assert_eq!((query.offset(), query.limit()), (3, Some(4)));
    assert_eq!(
        query.projection().unwrap().paths(),
        [
            FieldPath::parse("a.b").unwrap(),
            FieldPath::parse("c").unwrap()
        ]
    );
}

#[test]
fn projections_of_nothing() {
    let projected = |fields| {
        let select = Some(pb_query::Projection { fields });
        decode(pb::StructuredQuery {
            select,
            ..all_of_c()
        })
        .unwrap()
    };
    assert!(projected(vec![]).projection().is_none());
    let document = Document {
        path: DocumentPath::parse("c/x").unwrap(),
        create_time: Timestamp::EPOCH,
        update_time: Timestamp::EPOCH,
        fields: [("a".to_owned(), Value::Null)].into(),
    };
    let shown = |fields| projected(fields).project(&document).fields.len();
    assert_eq!(shown(vec![]), 1);
    assert_eq!(shown(vec![field("__name__")]), 0);
    assert_eq!(shown(vec![field("__name__"), field("a")]), 1);
}

#[test]
fn operators_have_their_meaning() {
    for (op, expected) in [
        (1, FieldOperator::LessThan),
        (2, FieldOperator::LessThanOrEqual),
        (3, FieldOperator::GreaterThan),
        (4, FieldOperator::GreaterThanOrEqual),
        (5, FieldOperator::Equal),
        (6, FieldOperator::NotEqual),
        (7, FieldOperator::ArrayContains),
    ] {
        let query = decode(filtered(Some(compare(Some("a"), op, Some(integer(1)))))).unwrap();
        assert!(
            matches!(query.filter(), Some(Filter::Field { operator, .. }) if *operator == expected)
        );
    }
    let one = pb::Value {
        value_type: Some(ValueType::ArrayValue(pb::ArrayValue {
            values: vec![integer(1)],
        })),
    };
    for (op, expected) in [
        (8, FieldOperator::In),
        (9, FieldOperator::ArrayContainsAny),
        (10, FieldOperator::NotIn),
    ] {
        let query = decode(filtered(Some(compare(Some("a"), op, Some(one.clone()))))).unwrap();
        assert!(
            matches!(query.filter(), Some(Filter::Field { operator, .. }) if *operator == expected)
        );
    }
    for (op, expected) in [
        (2, UnaryOperator::IsNan),
        (3, UnaryOperator::IsNull),
        (4, UnaryOperator::IsNotNan),
        (5, UnaryOperator::IsNotNull),
    ] {
        let query = decode(filtered(Some(unary(Some("a"), op)))).unwrap();
        assert!(
            matches!(query.filter(), Some(Filter::Unary { operator, .. }) if *operator == expected)
        );
    }
}

#[test]
fn wrong_queries_are_refused_by_name() {
    let value = || Some(integer(1));
    for (query, expected) in [
        (
            pb::StructuredQuery {
                from: vec![selector("c", false), selector("d", false)],
                ..all_of_c()
            },
            "more than one collection selector",
        ),
        (
            pb::StructuredQuery {
                from: vec![selector("a/b", false)],
                ..all_of_c()
            },
            "a/b",
        ),
        (
            pb::StructuredQuery {
                from: vec![selector("__x__", true)],
                ..all_of_c()
            },
            "reserved",
        ),
        (
            pb::StructuredQuery {
                limit: Some(-1),
                ..all_of_c()
            },
            "limit must not be negative",
        ),
        (
            pb::StructuredQuery {
                offset: -1,
                ..all_of_c()
            },
            "offset must not be negative",
        ),
        (filtered(None), "Filter.filter_type must be set"),
        (
            filtered(Some(composite(0, vec![unary(Some("a"), 3)]))),
            "CompositeFilter.op",
        ),
        (
            filtered(Some(composite(7, vec![unary(Some("a"), 3)]))),
            "CompositeFilter.op",
        ),
        (
            filtered(Some(composite(1, vec![]))),
            "Composite filter must have at least one sub-filter.",
        ),
        (
            filtered(Some(compare(None, 5, value()))),
            "FieldFilter.field must be set",
        ),
        (
            filtered(Some(compare(Some("a"), 0, value()))),
            "FieldFilter.op",
        ),
        (
            filtered(Some(compare(Some("a"), 11, value()))),
            "FieldFilter.op",
        ),
        (
            filtered(Some(compare(Some("a"), 5, None))),
            "FieldFilter.value must be set for 'a'",
        ),
        (
            filtered(Some(compare(Some(""), 5, value()))),
            "Invalid empty property path string.",
        ),
        (
            filtered(Some(compare(Some("a..b"), 5, value()))),
            "Invalid property path \"a..b\"",
        ),
        (
            filtered(Some(unary(None, 3))),
            "UnaryFilter.operand_type must be set",
        ),
        (filtered(Some(unary(Some("a"), 0))), "UnaryFilter.op"),
        (filtered(Some(unary(Some("a"), 1))), "UnaryFilter.op"),
        (
            pb::StructuredQuery {
                order_by: vec![order(None, 1)],
                ..all_of_c()
            },
            "Order.field must be set",
        ),
        (
            pb::StructuredQuery {
                order_by: vec![order(Some("a"), 3)],
                ..all_of_c()
            },
            "Order.direction",
        ),
    ] {
        let refusal = decode(query.clone()).unwrap_err();
        assert!(matches!(refusal, Refusal::Invalid(_)), "{query:?}");
        assert!(
            refusal.to_string().contains(expected),
            "{query:?}: {refusal}"
        );
    }
    assert!(decode_query("projects/p", all_of_c()).is_err());
}

fn count(alias: &str, up_to: Option<i64>) -> pb_aggregation::Aggregation {
    pb_aggregation::Aggregation {
        operator: Some(AggregateOperator::Count(Count { up_to })),
        alias: alias.to_owned(),
    }
}

fn decode_all(
    aggregations: Vec<pb_aggregation::Aggregation>,
) -> Result<(Query, Vec<Aggregation>), Refusal> {
    let query_type = Some(pb_aggregation::QueryType::StructuredQuery(all_of_c()));
    decode_aggregation_query(
        PARENT,
        pb::StructuredAggregationQuery {
            query_type,
            aggregations,
        },
    )
}

#[test]
fn aggregations_without_alias_are_numbered() {
    let sum = AggregateOperator::Sum(Sum {
        field: Some(field("a")),
    });
    let average = AggregateOperator::Avg(Avg {
        field: Some(field("b.c")),
    });
    let (query, aggregations) = decode_all(vec![
        count("", None),
        count("n", Some(5)),
        pb_aggregation::Aggregation {
            operator: Some(sum),
            alias: String::new(),
        },
        pb_aggregation::Aggregation {
            operator: Some(average),
            alias: "avg".to_owned(),
        },
    ])
    .unwrap();
    assert_eq!(query.selector(), &Selector::Collection("c".to_owned()));
    let aliases: Vec<&str> = aggregations.iter().map(|a| a.alias.as_str()).collect();
    assert_eq!(aliases, ["field_1", "n", "field_2", "avg"]);
    let operators: Vec<&AggregationOperator> = aggregations.iter().map(|a| &a.operator).collect();
    assert!(matches!(
        operators.as_slice(),
        [
            AggregationOperator::Count { up_to: None },
            AggregationOperator::Count { up_to: Some(5) },
            AggregationOperator::Sum(_),
            AggregationOperator::Average(_),
        ]
    ));
}

#[test]
fn wrong_aggregations_are_refused_by_name() {
    let fieldless = pb_aggregation::Aggregation {
        operator: Some(AggregateOperator::Sum(Sum { field: None })),
        alias: String::new(),
    };
    let unset = pb_aggregation::Aggregation {
        operator: None,
        alias: String::new(),
    };
    for (aggregations, expected) in [
        (vec![], "Aggregations can not be empty"),
        (
            vec![count("", None); 6],
            "The maximum number of aggregations allowed in an aggregation query is 5. Received: 6",
        ),
        (
            vec![count("x", None); 2],
            "Aggregation aliases contain duplicate alias: x",
        ),
        (
            vec![count("field_1", None), count("", None)],
            "Aggregation aliases contain duplicate alias: field_1",
        ),
        (vec![count("__x__", None)], "reserved"),
        (vec![count("", Some(0))], "greater than zero"),
        (vec![count("", Some(-1))], "greater than zero"),
        (vec![fieldless], "Aggregation.sum.field must be set"),
        (vec![unset], "Aggregation.operator must be set"),
    ] {
        let refusal = decode_all(aggregations).unwrap_err();
        assert!(
            refusal.to_string().contains(expected),
            "{expected}: {refusal}"
        );
    }
    let no_query = pb::StructuredAggregationQuery {
        query_type: None,
        aggregations: vec![count("", None)],
    };
    assert!(decode_aggregation_query(PARENT, no_query).is_err());
}

#[test]
fn orders_as_text() {
    let read = |text| {
        decode_order_by_text(text).map(|orders| {
            orders
                .into_iter()
                .map(|order| {
                    format!(
                        "{}{}",
                        order.field,
                        if order.direction == Direction::Ascending {
                            "+"
                        } else {
                            "-"
                        }
                    )
                })
                .collect::<Vec<_>>()
                .join(" ")
        })
    };
    for (text, expected) in [
        ("", ""),
        ("  ", ""),
        ("a", "a+"),
        ("priority desc, __name__ desc", "priority- __name__-"),
        (" a.b  ASC ,c  Desc", "a.b+ c-"),
        ("`x, y` desc", "`x, y`-"),
        (r"`a\`, b`,c", r"`a\`, b`+ c+"),
    ] {
        assert_eq!(read(text).unwrap(), expected, "{text}");
    }
    for text in ["a,", ",", "a down", "a desc desc", "a,a", "a b c", "`a"] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn cursors_survive_the_wire() {
    let cursor = pb::Cursor {
        values: vec![integer(1)],
        before: true,
    };
    assert_eq!(
        encode_cursor(&decode_cursor(cursor.clone()).unwrap()),
        cursor
    );
}

fn doubles(numbers: &[f64]) -> pb::Value {
    let values = numbers.iter().map(|number| pb::Value {
        value_type: Some(ValueType::DoubleValue(*number)),
    });
    pb::Value {
        value_type: Some(ValueType::ArrayValue(pb::ArrayValue {
            values: values.collect(),
        })),
    }
}

fn vector(numbers: &[f64]) -> pb::Value {
    encode_value(&Value::Vector(numbers.to_vec()))
}

fn find_nearest() -> pb_query::FindNearest {
    pb_query::FindNearest {
        vector_field: Some(field("v")),
        query_vector: Some(vector(&[1.0, 2.0])),
        distance_measure: 1,
        limit: Some(3),
        distance_result_field: String::new(),
        distance_threshold: None,
    }
}

fn search(nearest: pb_query::FindNearest) -> Result<(Query, Option<Nearest>), Refusal> {
    let query = pb::StructuredQuery {
        find_nearest: Some(nearest),
        ..all_of_c()
    };
    decode_search(PARENT, query)
}

#[test]
fn a_search_is_carried_over() {
    assert!(decode_search(PARENT, all_of_c()).unwrap().1.is_none());
    let (_, nearest) = search(pb_query::FindNearest {
        distance_result_field: "d.e".to_owned(),
        distance_threshold: Some(0.5),
        ..find_nearest()
    })
    .unwrap();
    let nearest = nearest.unwrap();
    assert_eq!(nearest.field.to_string(), "v");
    assert_eq!(nearest.vector, [1.0, 2.0]);
    assert_eq!(nearest.measure, DistanceMeasure::Euclidean);
    assert_eq!(nearest.limit, 3);
    assert_eq!(nearest.distance_field.unwrap().to_string(), "d.e");
    assert_eq!(nearest.threshold, Some(0.5));
    for (number, measure) in [
        (2, DistanceMeasure::Cosine),
        (3, DistanceMeasure::DotProduct),
    ] {
        let (_, nearest) = search(pb_query::FindNearest {
            query_vector: Some(doubles(&[0.0, 2.0])),
            distance_measure: number,
            ..find_nearest()
        })
        .unwrap();
        let nearest = nearest.unwrap();
        assert_eq!((nearest.vector, nearest.measure), (vec![0.0, 2.0], measure));
        assert!(nearest.distance_field.is_none());
    }
}

#[test]
fn wrong_searches_are_refused_by_name() {
    let good = find_nearest;
    for (nearest, expected) in [
        (
            pb_query::FindNearest {
                vector_field: None,
                ..good()
            },
            "FindNearest.vector_field must be set.",
        ),
        (
            pb_query::FindNearest {
                query_vector: None,
                ..good()
            },
            "FindNearest.query_vector must be set.",
        ),
        (
            pb_query::FindNearest {
                query_vector: Some(integer(1)),
                ..good()
            },
            "FindNearest.query_vector must be a vector or an array of doubles.",
        ),
        (
            pb_query::FindNearest {
                query_vector: Some(vector(&[1.0; 2_049])),
                ..good()
            },
            "The query vector must have between 1 and 2048 dimensions, but has 2049.",
        ),
        (
            pb_query::FindNearest {
                distance_measure: 0,
                ..good()
            },
            "FindNearest.distance_measure must be EUCLIDEAN, COSINE or DOT_PRODUCT.",
        ),
        (
            pb_query::FindNearest {
                distance_measure: 2,
                query_vector: Some(vector(&[0.0, -0.0])),
                ..good()
            },
            "Cannot compute cosine distance against a vector with a magnitude of zero.",
        ),
        (
            pb_query::FindNearest {
                limit: Some(-1),
                ..good()
            },
            "FindNearest.limit must not be negative, but was -1.",
        ),
        (
            pb_query::FindNearest {
                limit: None,
                ..good()
            },
            "FindNearest.limit must be set.",
        ),
        (
            pb_query::FindNearest {
                limit: Some(0),
                ..good()
            },
            "The limit of a nearest neighbor search must be between 1 and 1000, but is 0.",
        ),
    ] {
        assert_eq!(search(nearest).unwrap_err(), Refusal::invalid(expected));
    }
    let elsewhere = pb::StructuredQuery {
        find_nearest: Some(good()),
        ..all_of_c()
    };
    assert_eq!(
        decode(elsewhere).unwrap_err(),
        Refusal::invalid("StructuredQuery.find_nearest can only be used in RunQuery.")
    );
}

#[test]
fn only_whole_groups_in_order_of_names_can_be_cut() {
    let group = || pb::StructuredQuery {
        from: vec![selector("c", true)],
        ..pb::StructuredQuery::default()
    };
    let decode = |query| decode_partition_query(PARENT, query);
    assert!(decode(group()).is_ok());
    assert!(
        decode(pb::StructuredQuery {
            order_by: vec![order(Some("__name__"), 1)],
            ..group()
        })
        .is_ok()
    );
    let place = || Some(pb::Cursor::default());
    let narrowed =
        |name: &str| format!("StructuredQuery.{name} is not supported in a partition query.");
    let not_a_group = "A partition query must have one collection selector with a collection_id and all_descendants.";
    let not_by_name = "A partition query can only be ordered by __name__ ascending.";
    for (query, expected) in [
        (all_of_c(), not_a_group.to_owned()),
        (pb::StructuredQuery::default(), not_a_group.to_owned()),
        (
            pb::StructuredQuery {
                order_by: vec![order(Some("a"), 1)],
                ..group()
            },
            not_by_name.to_owned(),
        ),
        (
            pb::StructuredQuery {
                order_by: vec![order(Some("__name__"), 2)],
                ..group()
            },
            not_by_name.to_owned(),
        ),
        (
            pb::StructuredQuery {
                select: Some(pb_query::Projection::default()),
                ..group()
            },
            narrowed("select"),
        ),
        (
            pb::StructuredQuery {
                r#where: Some(pb_query::Filter::default()),
                ..group()
            },
            narrowed("where"),
        ),
        (
            pb::StructuredQuery {
                start_at: place(),
                ..group()
            },
            narrowed("start_at"),
        ),
        (
            pb::StructuredQuery {
                end_at: place(),
                ..group()
            },
            narrowed("end_at"),
        ),
        (
            pb::StructuredQuery {
                offset: 1,
                ..group()
            },
            narrowed("offset"),
        ),
        (
            pb::StructuredQuery {
                limit: Some(1),
                ..group()
            },
            narrowed("limit"),
        ),
        (
            pb::StructuredQuery {
                find_nearest: Some(find_nearest()),
                ..group()
            },
            narrowed("find_nearest"),
        ),
    ] {
        assert_eq!(decode(query).unwrap_err(), Refusal::invalid(expected));
    }
}
