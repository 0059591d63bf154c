//! What is refused, with the code and the text that callers compare, through the socket.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use prost::Message;
use tonic::Code;
use watchfire_wire::pb;
use watchfire_wire::pb::structured_aggregation_query as a;
use watchfire_wire::pb::structured_query as q;
use watchfire_wire::pb::structured_query::field_filter::Operator;

use support::*;

fn filtered(filter: q::Filter) -> pb::StructuredQuery {
    pb::StructuredQuery {
        r#where: Some(filter),
        ..from("c")
    }
}

fn ordered(order_by: Vec<q::Order>) -> pb::StructuredQuery {
    pb::StructuredQuery {
        order_by,
        ..from("c")
    }
}

fn starting(order_by: Vec<q::Order>, values: Vec<pb::Value>) -> pb::StructuredQuery {
    pb::StructuredQuery {
        start_at: Some(pb::Cursor {
            values,
            before: true,
        }),
        ..ordered(order_by)
    }
}

fn kindless() -> pb::StructuredQuery {
    pb::StructuredQuery {
        from: vec![q::CollectionSelector {
            collection_id: String::new(),
            all_descendants: true,
        }],
        ..pb::StructuredQuery::default()
    }
}

fn empty_composite() -> q::Filter {
    all_of(Vec::new())
}

fn find_nearest(numbers: &[f64]) -> q::FindNearest {
    q::FindNearest {
        vector_field: Some(field("v")),
        query_vector: Some(vector(numbers)),
        distance_measure: q::find_nearest::DistanceMeasure::Cosine.into(),
        limit: Some(3),
        ..q::FindNearest::default()
    }
}

#[tokio::test]
async fn queries() {
    let (server, mut client) = start(in_memory()).await;
    let inequalities = (0..11)
        .map(|n| compare(&format!("f{n:02}"), Operator::GreaterThan, integer(0)))
        .collect();
    let long = "x".repeat(1_501);
    let cases = [
        (
            starting(vec![ascending("a")], vec![integer(1), integer(2)]),
            "Cursor has too many values.",
        ),
        (
            starting(Vec::new(), vec![reference("c/a")]),
            "Cursor has too many values.",
        ),
        (
            starting(vec![ascending("__name__")], vec![text("c/a")]),
            "Cursor __key__ value is not a document reference.",
        ),
        (
            starting(vec![ascending("__name__")], vec![reference("c")]),
            "Document name \"projects/p/databases/(default)/documents/c\" lacks \"/\" at index 42.",
        ),
        (
            ordered(vec![ascending("a"), ascending("b"), descending("a")]),
            "order by clause cannot contain duplicate fields a",
        ),
        (
            ordered(vec![ascending("__name__"), ascending("a")]),
            "order by clause cannot contain more fields after the key",
        ),
        (
            pb::StructuredQuery {
                r#where: Some(compare("n", Operator::Equal, integer(1))),
                ..kindless()
            },
            "kind is required for filter: n",
        ),
        (
            pb::StructuredQuery {
                order_by: vec![descending("__name__")],
                ..kindless()
            },
            "kind is required for all orders except __key__ ascending",
        ),
        (
            filtered(empty_composite()),
            "Composite filter must have at least one sub-filter.",
        ),
        (
            filtered(compare(
                "__name__",
                Operator::ArrayContains,
                reference("c/a"),
            )),
            "the name __key__ is reserved",
        ),
        (
            filtered(compare("__name__", Operator::Equal, text("a"))),
            "__key__ filter value must be a Key",
        ),
        (
            filtered(all_of(vec![
                compare("__name__", Operator::Equal, reference("c/a")),
                compare("n", Operator::GreaterThan, integer(1)),
            ])),
            "Equality on key is not allowed if there are other inequality fields and key does not appear in inequalities.",
        ),
        (
            filtered(compare("n", Operator::NotIn, array((0..11).map(integer)))),
            "'NOT_IN' supports up to 10 comparison values.",
        ),
        (
            filtered(all_of(inequalities)),
            "The query contains 11 distinct inequality fields: [f00, f01, f02, f03, f04, f05, f06, f07, f08, f09, f10]. A query may not have more than 10 distinct inequality fields.",
        ),
        (
            ordered(vec![ascending("")]),
            "Invalid empty property path string.",
        ),
        (
            ordered(vec![ascending("a..b")]),
            r#"Invalid property path "a..b". Unquoted property paths must match regex ([a-zA-Z_][a-zA-Z_0-9]*), and quoted property paths must match regex (`(?:[^`\\]|(?:\\.))+`)."#,
        ),
        (
            ordered(vec![ascending("__x__")]),
            "Invalid reserved name in field path __x__",
        ),
        (
            ordered(vec![ascending(&long)]),
            "property path is longer than 1500 bytes.",
        ),
        (
            from("__x__"),
            "Collection id \"__x__\" is invalid because it is reserved.",
        ),
        (
            from("a/b"),
            "Collection id \"a/b\" is invalid because it contains \"/\".",
        ),
        (from(&long), "The query kind is longer than 1500 bytes."),
        (
            pb::StructuredQuery {
                find_nearest: Some(find_nearest(&[0.0, 0.0])),
                ..from("c")
            },
            "Cannot compute cosine distance against a vector with a magnitude of zero.",
        ),
    ];
    for (query, text) in cases {
        let answer = responses(&mut client, run_query(query)).await;
        check(answer, Code::InvalidArgument, text);
    }
    for (parent, text) in [
        (
            "projects/p/databases/(default)/documents/c",
            "Document parent name \"projects/p/databases/(default)/documents/c\" lacks \"/\" at index 42.",
        ),
        (
            "projects/p",
            "Document parent name \"projects/p\" lacks \"/\" at index 10.",
        ),
    ] {
        let request = pb::RunQueryRequest {
            parent: parent.to_owned(),
            ..run_query(from("c"))
        };
        let answer = responses(&mut client, request).await;
        check(answer, Code::InvalidArgument, text);
    }
    server.stop().await.unwrap();
}

fn aggregations(
    query: pb::StructuredQuery,
    aggregations: Vec<a::Aggregation>,
) -> pb::RunAggregationQueryRequest {
    use pb::run_aggregation_query_request::QueryType;
    let query = pb::StructuredAggregationQuery {
        query_type: Some(a::QueryType::StructuredQuery(query)),
        aggregations,
    };
    pb::RunAggregationQueryRequest {
        parent: ROOT.to_owned(),
        query_type: Some(QueryType::StructuredAggregationQuery(query)),
        ..pb::RunAggregationQueryRequest::default()
    }
}

fn count(alias: &str) -> a::Aggregation {
    a::Aggregation {
        operator: Some(a::aggregation::Operator::Count(Default::default())),
        alias: alias.to_owned(),
    }
}

async fn aggregated(
    client: &mut Client,
    request: pb::RunAggregationQueryRequest,
) -> Result<Option<pb::RunAggregationQueryResponse>, tonic::Status> {
    let mut answers = client.run_aggregation_query(request).await?.into_inner();
    answers.message().await
}

#[tokio::test]
async fn aggregated_queries() {
    let (server, mut client) = start(in_memory()).await;
    let searched = pb::StructuredQuery {
        find_nearest: Some(find_nearest(&[1.0])),
        ..from("c")
    };
    for (request, text) in [
        (
            aggregations(from("c"), Vec::new()),
            "Aggregations can not be empty",
        ),
        (
            aggregations(from("c"), vec![count("n"), count("n")]),
            "Aggregation aliases contain duplicate alias: n",
        ),
        (
            aggregations(searched, vec![count("n")]),
            "StructuredQuery.find_nearest can only be used in RunQuery.",
        ),
    ] {
        check(
            aggregated(&mut client, request).await,
            Code::InvalidArgument,
            text,
        );
    }

    let many = aggregations(from("c"), vec![count(""); 6]);
    let status = check(
        aggregated(&mut client, many).await,
        Code::InvalidArgument,
        "The maximum number of aggregations allowed in an aggregation query is 5. Received: 6",
    );
    let details = pb::Status::decode(status.details()).unwrap().details;
    let [info] = details.as_slice() else {
        panic!("{details:?}");
    };
    assert_eq!(info.type_url, "type.googleapis.com/google.rpc.ErrorInfo");
    let said = String::from_utf8_lossy(&info.value).into_owned();
    assert!(said.contains("TOO_MANY_AGGREGATIONS"), "{said}");
    assert!(said.contains("actual_aggregations"), "{said}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn partitions() {
    let (server, mut client) = start(in_memory()).await;
    let request = |query, partition_count, page_size| pb::PartitionQueryRequest {
        parent: ROOT.to_owned(),
        query_type: Some(pb::partition_query_request::QueryType::StructuredQuery(
            query,
        )),
        partition_count,
        page_size,
        ..pb::PartitionQueryRequest::default()
    };
    let limited = pb::StructuredQuery {
        limit: Some(1),
        ..group("c")
    };
    for (request, text) in [
        (
            request(group("c"), 0, 0),
            "partition_count must be positive, but is 0.",
        ),
        (
            request(group("c"), 1, -1),
            "page_size must not be negative, but is -1.",
        ),
        (
            request(limited, 1, 0),
            "StructuredQuery.limit is not supported in a partition query.",
        ),
        (
            request(from("c"), 1, 0),
            "A partition query must have one collection selector with a collection_id and all_descendants.",
        ),
        (
            pb::PartitionQueryRequest {
                page_token: "x".to_owned(),
                ..request(group("c"), 1, 0)
            },
            "Invalid page token.",
        ),
    ] {
        let answer = client.partition_query(request).await;
        check(answer, Code::InvalidArgument, text);
    }
    server.stop().await.unwrap();
}
