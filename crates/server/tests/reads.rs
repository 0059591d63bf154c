//! Reading through the socket: explained, in pieces, as it was, by distance, and while others do not read.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use std::collections::BTreeSet;

use prost_types::value::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use watchfire_server::assemble::Server;
use watchfire_server::config::Serve;
use watchfire_wire::pb;
use watchfire_wire::pb::listen_response::ResponseType;
use watchfire_wire::pb::structured_aggregation_query as a;
use watchfire_wire::pb::structured_query as q;
use watchfire_wire::pb::structured_query::field_filter::Operator;
use watchfire_wire::pb::target_change::TargetChangeType;

use support::*;

fn said(fields: &prost_types::Struct, name: &str) -> String {
    match &fields.fields.get(name).unwrap().kind {
        Some(Kind::StringValue(text)) => text.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

fn count() -> pb::StructuredAggregationQuery {
    pb::StructuredAggregationQuery {
        query_type: Some(a::QueryType::StructuredQuery(from("c"))),
        aggregations: vec![a::Aggregation {
            operator: Some(a::aggregation::Operator::Count(Default::default())),
            alias: "n".to_owned(),
        }],
    }
}

fn aggregate(query: pb::StructuredAggregationQuery) -> pb::RunAggregationQueryRequest {
    use pb::run_aggregation_query_request::QueryType;
    pb::RunAggregationQueryRequest {
        parent: ROOT.to_owned(),
        query_type: Some(QueryType::StructuredAggregationQuery(query)),
        ..pb::RunAggregationQueryRequest::default()
    }
}

async fn aggregated(
    client: &mut Client,
    request: pb::RunAggregationQueryRequest,
) -> Vec<pb::RunAggregationQueryResponse> {
    let mut stream = client
        .run_aggregation_query(request)
        .await
        .unwrap()
        .into_inner();
    let mut responses = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        responses.push(response);
    }
    responses
}

fn counted(response: &pb::RunAggregationQueryResponse) -> pb::Value {
    let result = response.result.as_ref().unwrap();
    result.aggregate_fields.get("n").unwrap().clone()
}

#[tokio::test]
async fn a_plan_comes_alone_and_an_analysis_last() {
    let (server, mut client) = start(in_memory()).await;
    let writes = (0..9).map(|n| set(&format!("c/d{n}"), &[("n", integer(n))]));
    commit(&mut client, writes.collect()).await;
    let query = pb::StructuredQuery {
        r#where: Some(compare("n", Operator::GreaterThanOrEqual, integer(3))),
        limit: Some(2),
        ..from("c")
    };
    let explained = |query: &pb::StructuredQuery, analyze| pb::RunQueryRequest {
        explain_options: Some(pb::ExplainOptions { analyze }),
        ..run_query(query.clone())
    };

    let plan = responses(&mut client, explained(&query, false))
        .await
        .unwrap();
    let [only] = plan.as_slice() else {
        panic!("{plan:?}");
    };
    let metrics = only.explain_metrics.clone().unwrap();
    assert_eq!(
        only,
        &pb::RunQueryResponse {
            explain_metrics: Some(metrics.clone()),
            ..pb::RunQueryResponse::default()
        }
    );
    assert!(metrics.execution_stats.is_none());
    let used = metrics.plan_summary.clone().unwrap().indexes_used;
    let [used] = used.as_slice() else {
        panic!("{used:?}");
    };
    assert_eq!(said(used, "query_scope"), "Collection");
    assert_eq!(said(used, "properties"), "(n ASC, __name__ ASC)");

    let analysis = responses(&mut client, explained(&query, true))
        .await
        .unwrap();
    assert_eq!(ids(&analysis), ["d3", "d4"]);
    assert!(analysis.iter().all(|response| response.read_time.is_some()));
    let (last, documents) = analysis.split_last().unwrap();
    assert!(documents.iter().all(|r| r.explain_metrics.is_none()));
    assert!(last.document.is_none());
    let analyzed = last.explain_metrics.clone().unwrap();
    assert_eq!(analyzed.plan_summary, metrics.plan_summary);
    let stats = analyzed.execution_stats.unwrap();
    assert_eq!((stats.results_returned, stats.read_operations), (2, 2));
    assert!(stats.execution_duration.is_some());
    let debug = stats.debug_stats.unwrap();
    assert_eq!(said(&debug, "indexes_entries_scanned"), "2");
    assert_eq!(said(&debug, "documents_scanned"), "2");

    let nothing = pb::StructuredQuery {
        r#where: Some(compare("n", Operator::Equal, integer(99))),
        ..from("c")
    };
    let analysis = responses(&mut client, explained(&nothing, true))
        .await
        .unwrap();
    let stats = analysis.last().unwrap().explain_metrics.clone().unwrap();
    assert_eq!(stats.execution_stats.unwrap().read_operations, 1);

    let request = |analyze| pb::RunAggregationQueryRequest {
        explain_options: Some(pb::ExplainOptions { analyze }),
        ..aggregate(count())
    };
    let plan = aggregated(&mut client, request(false)).await;
    let [only] = plan.as_slice() else {
        panic!("{plan:?}");
    };
    assert!(only.result.is_none() && only.read_time.is_none());
    let metrics = only.explain_metrics.clone().unwrap();
    assert!(metrics.plan_summary.is_some() && metrics.execution_stats.is_none());
    let analysis = aggregated(&mut client, request(true)).await;
    let [result, last] = analysis.as_slice() else {
        panic!("{analysis:?}");
    };
    assert_eq!(counted(result), integer(9));
    assert!(result.explain_metrics.is_none() && last.result.is_none());
    let stats = last.explain_metrics.clone().unwrap().execution_stats;
    let stats = stats.unwrap();
    assert_eq!((stats.results_returned, stats.read_operations), (1, 1));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn pieces_of_a_group_make_the_whole() {
    let (server, mut client) = start(in_memory()).await;
    let paths: BTreeSet<String> = (0..400)
        .map(|n| format!("p{}/d/c/d{n:03}", n % 7))
        .collect();
    let writes = paths.iter().map(|path| set(path, &[("n", integer(1))]));
    commit(&mut client, writes.collect()).await;
    let request = |partition_count, page_size| pb::PartitionQueryRequest {
        parent: ROOT.to_owned(),
        query_type: Some(pb::partition_query_request::QueryType::StructuredQuery(
            group("c"),
        )),
        partition_count,
        page_size,
        ..pb::PartitionQueryRequest::default()
    };
    for (count, page_size) in [(1, 0), (4, 0), (9, 1), (9, 4), (5, 5)] {
        let mut request = request(count, page_size);
        let mut cuts = Vec::new();
        loop {
            let page = client
                .partition_query(request.clone())
                .await
                .unwrap()
                .into_inner();
            assert!(page_size == 0 || page.partitions.len() <= page_size as usize);
            cuts.extend(page.partitions);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert!(!cuts.is_empty() && cuts.len() <= count as usize, "{cuts:?}");
        assert!(
            cuts.iter()
                .all(|cut| cut.before && matches!(cut.values.as_slice(), [_]))
        );
        let starts = std::iter::once(None).chain(cuts.iter().cloned().map(Some));
        let ends = cuts.iter().cloned().map(Some).chain([None]);
        let mut found = Vec::new();
        for (start_at, end_at) in starts.zip(ends) {
            let piece = pb::StructuredQuery {
                order_by: vec![ascending("__name__")],
                start_at,
                end_at,
                ..group("c")
            };
            let piece = responses(&mut client, run_query(piece)).await.unwrap();
            let names = piece.into_iter().filter_map(|response| response.document);
            found.extend(names.map(|document| document.name));
        }
        let expected: Vec<String> = paths.iter().map(|path| format!("{ROOT}/{path}")).collect();
        assert_eq!(found, expected);
        if !request.page_token.is_empty() {
            request.partition_count += 1;
            check(
                client.partition_query(request).await,
                Code::InvalidArgument,
                "Invalid page token: it belongs to another request.",
            );
        }
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn every_read_can_look_back() {
    let (server, mut client) = start(in_memory()).await;
    let time = commit(&mut client, vec![set("c/a", &[("n", integer(1))])])
        .await
        .commit_time
        .unwrap();
    let writes = vec![
        set("c/a", &[("n", integer(2))]),
        set("c/b", &[("n", integer(2))]),
        set("later/x", &[("n", integer(2))]),
    ];
    commit(&mut client, writes).await;
    let was = |document: pb::Document| {
        assert_eq!(document.fields.get("n"), Some(&integer(1)));
        assert!(document.name.ends_with("/c/a"), "{}", document.name);
    };

    let request = pb::GetDocumentRequest {
        name: format!("{ROOT}/c/a"),
        consistency_selector: Some(pb::get_document_request::ConsistencySelector::ReadTime(
            time,
        )),
        ..pb::GetDocumentRequest::default()
    };
    was(client.get_document(request).await.unwrap().into_inner());

    let request = pb::BatchGetDocumentsRequest {
        database: DATABASE.to_owned(),
        documents: vec![format!("{ROOT}/c/b"), format!("{ROOT}/c/a")],
        consistency_selector: Some(
            pb::batch_get_documents_request::ConsistencySelector::ReadTime(time),
        ),
        ..pb::BatchGetDocumentsRequest::default()
    };
    let mut answers = client
        .batch_get_documents(request)
        .await
        .unwrap()
        .into_inner();
    let missing = answers.message().await.unwrap().unwrap();
    assert_eq!(missing.read_time, Some(time));
    use pb::batch_get_documents_response::Result as Found;
    assert!(matches!(missing.result, Some(Found::Missing(_))));
    match answers.message().await.unwrap().unwrap().result {
        Some(Found::Found(document)) => was(document),
        other => panic!("{other:?}"),
    }

    let request = pb::ListDocumentsRequest {
        parent: ROOT.to_owned(),
        collection_id: "c".to_owned(),
        consistency_selector: Some(pb::list_documents_request::ConsistencySelector::ReadTime(
            time,
        )),
        ..pb::ListDocumentsRequest::default()
    };
    let listed = client.list_documents(request).await.unwrap().into_inner();
    let [document] = listed.documents.as_slice() else {
        panic!("{listed:?}");
    };
    was(document.clone());

    let at = pb::run_query_request::ConsistencySelector::ReadTime(time);
    let by_number = pb::StructuredQuery {
        order_by: vec![ascending("n")],
        ..from("c")
    };
    let request = pb::RunQueryRequest {
        consistency_selector: Some(at),
        ..run_query(by_number.clone())
    };
    let answer = responses(&mut client, request).await.unwrap();
    assert!(answer.iter().all(|r| r.read_time == Some(time)));
    assert_eq!(ids(&answer), ["a"]);

    let request = pb::RunAggregationQueryRequest {
        consistency_selector: Some(
            pb::run_aggregation_query_request::ConsistencySelector::ReadTime(time),
        ),
        ..aggregate(count())
    };
    let answer = aggregated(&mut client, request).await;
    assert_eq!(counted(&answer[0]), integer(1));

    let request = pb::PartitionQueryRequest {
        parent: ROOT.to_owned(),
        query_type: Some(pb::partition_query_request::QueryType::StructuredQuery(
            group("c"),
        )),
        partition_count: 2,
        consistency_selector: Some(pb::partition_query_request::ConsistencySelector::ReadTime(
            time,
        )),
        ..pb::PartitionQueryRequest::default()
    };
    client.partition_query(request).await.unwrap();

    let request = pb::ListCollectionIdsRequest {
        parent: ROOT.to_owned(),
        consistency_selector: Some(
            pb::list_collection_ids_request::ConsistencySelector::ReadTime(time),
        ),
        ..pb::ListCollectionIdsRequest::default()
    };
    let listed = client
        .list_collection_ids(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.collection_ids, ["c"]);

    let read_only = pb::transaction_options::ReadOnly {
        consistency_selector: Some(
            pb::transaction_options::read_only::ConsistencySelector::ReadTime(time),
        ),
    };
    let request = pb::BeginTransactionRequest {
        database: DATABASE.to_owned(),
        options: Some(pb::TransactionOptions {
            mode: Some(pb::transaction_options::Mode::ReadOnly(read_only)),
        }),
        ..pb::BeginTransactionRequest::default()
    };
    let transaction = client
        .begin_transaction(request)
        .await
        .unwrap()
        .into_inner()
        .transaction;
    let request = pb::RunQueryRequest {
        consistency_selector: Some(pb::run_query_request::ConsistencySelector::Transaction(
            transaction,
        )),
        ..run_query(by_number)
    };
    let answer = responses(&mut client, request).await.unwrap();
    assert_eq!(ids(&answer), ["a"]);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_distance_is_shown_where_it_is_wanted() {
    let (server, mut client) = start(in_memory()).await;
    let writes = [("far", 9.0), ("near", 1.0), ("nearest", 0.5)]
        .map(|(id, x)| set(&format!("c/{id}"), &[("v", vector(&[x, 0.0]))]));
    let other = set("c/other", &[("v", integer(1)), ("n", integer(1))]);
    commit(&mut client, writes.into_iter().chain([other]).collect()).await;
    let nearest = q::FindNearest {
        vector_field: Some(field("v")),
        query_vector: Some(vector(&[0.0, 0.0])),
        distance_measure: q::find_nearest::DistanceMeasure::Euclidean.into(),
        limit: Some(2),
        distance_result_field: "how.far".to_owned(),
        ..q::FindNearest::default()
    };
    for select in [
        None,
        Some(q::Projection {
            fields: vec![field("n")],
        }),
    ] {
        let query = pb::StructuredQuery {
            select: select.clone(),
            find_nearest: Some(nearest.clone()),
            ..from("c")
        };
        let request = pb::RunQueryRequest {
            explain_options: Some(pb::ExplainOptions { analyze: true }),
            ..run_query(query)
        };
        let answer = responses(&mut client, request).await.unwrap();
        assert_eq!(ids(&answer), ["nearest", "near"]);
        let first = answer[0].document.as_ref().unwrap();
        assert_eq!(first.fields.contains_key("v"), select.is_none());
        let Some(pb::value::ValueType::MapValue(how)) =
            first.fields.get("how").unwrap().value_type.clone()
        else {
            panic!("{first:?}");
        };
        assert_eq!(
            how.fields.get("far").unwrap(),
            &value(pb::value::ValueType::DoubleValue(0.5))
        );
        assert!(answer.last().unwrap().explain_metrics.is_some());
    }
    server.stop().await.unwrap();
}

/// More answers are open and unread than queries may work at a time.
#[tokio::test]
async fn those_who_do_not_read_hold_up_nobody() {
    let (server, mut client) = start(in_memory()).await;
    let filler = text(&"x".repeat(20_000));
    for hundred in 0..4 {
        let writes = (0..100).map(|n| {
            let n = hundred * 100 + n;
            let fields = [("n", integer(n)), ("filler", filler.clone())];
            set(&format!("c/d{n:03}"), &fields)
        });
        commit(&mut client, writes.collect()).await;
    }
    let all = || pb::StructuredQuery {
        order_by: vec![ascending("n")],
        ..from("c")
    };
    // A connection of its own for each: what is not read also stops the others on its connection.
    let connect = async || {
        Client::connect(format!("http://{}", server.address()))
            .await
            .unwrap()
    };
    let mut unread = Vec::new();
    for _ in 0..40 {
        let answers = connect().await.run_query(run_query(all())).await;
        let mut answers = answers.unwrap().into_inner();
        assert!(answers.message().await.unwrap().is_some());
        unread.push(answers);
    }
    let mut other = connect().await;
    let whole = responses(&mut other, run_query(all())).await.unwrap();
    let expected: Vec<String> = (0..400).map(|n| format!("d{n:03}")).collect();
    assert_eq!(ids(&whole), expected);
    // They go on where they stand, at the version at which they began.
    commit(&mut other, vec![set("c/d999", &[("n", integer(999))])]).await;
    let mut late = unread.pop().unwrap();
    let mut documents = 1;
    while late.message().await.unwrap().is_some() {
        documents += 1;
    }
    assert_eq!(documents, 400);
    drop(unread);
    server.stop().await.unwrap();
}

fn add_target(target_id: i32, query: pb::StructuredQuery) -> pb::ListenRequest {
    use pb::target::query_target::QueryType;
    let target = pb::Target {
        target_id,
        target_type: Some(pb::target::TargetType::Query(pb::target::QueryTarget {
            parent: ROOT.to_owned(),
            query_type: Some(QueryType::StructuredQuery(query)),
        })),
        ..pb::Target::default()
    };
    pb::ListenRequest {
        database: DATABASE.to_owned(),
        target_change: Some(pb::listen_request::TargetChange::AddTarget(target)),
        ..pb::ListenRequest::default()
    }
}

#[tokio::test]
async fn what_needs_an_index_ends_alone_with_the_same_text_everywhere() {
    let (server, mut client) = start(Serve {
        index_mode: watchfire_server::config::IndexMode::Enforce,
        ..in_memory()
    })
    .await;
    commit(&mut client, vec![set("c/a", &[("a", integer(1))])]).await;
    let query = pb::StructuredQuery {
        r#where: Some(compare("a", Operator::Equal, integer(1))),
        order_by: vec![descending("b")],
        ..from("c")
    };
    let refused = responses(&mut client, run_query(query.clone())).await;
    let status = refused.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let link = "The query requires an index. You can create it here: https://console.firebase.google.com/v1/r/project/p/firestore/indexes?create_composite=";
    assert!(status.message().starts_with(link), "{}", status.message());
    for analyze in [false, true] {
        let request = pb::RunQueryRequest {
            explain_options: Some(pb::ExplainOptions { analyze }),
            ..run_query(query.clone())
        };
        let refused = responses(&mut client, request).await;
        check(refused, Code::FailedPrecondition, status.message());
    }

    let (requests, receiver) = tokio::sync::mpsc::channel(8);
    let mut answers = client
        .listen(ReceiverStream::new(receiver))
        .await
        .unwrap()
        .into_inner();
    requests.send(add_target(2, from("c"))).await.unwrap();
    requests.send(add_target(4, query)).await.unwrap();
    let mut of_it = Vec::new();
    let mut of_other = Vec::new();
    let mut next = async || {
        let message = answers.message().await.unwrap().unwrap();
        message.response_type.unwrap()
    };
    while of_it.len() < 2 || !of_other.contains(&TargetChangeType::Current) {
        if let ResponseType::TargetChange(change) = next().await {
            let kind = change.target_change_type();
            if change.target_ids == [4] {
                of_it.push((kind, change.cause));
            } else if change.target_ids == [2] {
                of_other.push(kind);
            }
        }
    }
    let [
        (TargetChangeType::Add, None),
        (TargetChangeType::Remove, Some(cause)),
    ] = of_it.as_slice()
    else {
        panic!("{of_it:?}");
    };
    assert_eq!((cause.code, cause.message.as_str()), (9, status.message()));
    assert_eq!(of_other, [TargetChangeType::Add, TargetChangeType::Current]);
    commit(&mut client, vec![set("c/b", &[("a", integer(2))])]).await;
    loop {
        if let ResponseType::DocumentChange(change) = next().await
            && change.document.unwrap().name.ends_with("/b")
        {
            assert_eq!(change.target_ids, [2]);
            break;
        }
    }
    server.stop().await.unwrap();
}

/// The whole answer about a page, as it comes.
async fn page(server: &Server, method: &str, path: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(server.address())
        .await
        .unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_page_has_a_head() {
    let (server, _client) = start(in_memory()).await;
    let head = page(&server, "HEAD", "/health").await;
    let whole = page(&server, "GET", "/health").await;
    assert!(whole.ends_with("\r\n\r\n{\"status\":\"ok\"}"), "{whole}");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    let lines = |answer: &str| -> BTreeSet<String> {
        let head = answer.split("\r\n\r\n").next().unwrap_or_default();
        let lines = head.split("\r\n").map(str::to_lowercase);
        // The two are not asked in the same second.
        lines.filter(|line| !line.starts_with("date: ")).collect()
    };
    assert_eq!(lines(&head), lines(&whole));
    assert!(lines(&head).contains("content-length: 15"), "{head}");

    let head = page(&server, "HEAD", "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    // Others are not pages.
    let post = page(&server, "POST", "/health").await;
    assert!(!post.starts_with("HTTP/1.1 200 "), "{post}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn counts_can_be_collected() {
    let (server, mut client) = start(in_memory()).await;
    let writes = (0..3).map(|n| set(&format!("c/d{n}"), &[("n", integer(n)), ("m", integer(1))]));
    commit(&mut client, writes.collect()).await;
    let unserved = pb::StructuredQuery {
        order_by: vec![ascending("n"), descending("m")],
        ..from("c")
    };
    for query in [from("c"), unserved.clone(), unserved] {
        let answer = responses(&mut client, run_query(query)).await.unwrap();
        assert_eq!(ids(&answer).len(), 3);
    }
    let answer = page(&server, "GET", "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let labels = r#"{database="projects/p/databases/(default)"}"#;
    for line in [
        "watchfire_queries_total 3".to_owned(),
        format!("watchfire_queries_without_index_total{labels} 2"),
        format!("watchfire_missing_index_shapes{labels} 1"),
    ] {
        assert!(answer.contains(&line), "{line}: {answer}");
    }
    for name in [
        "watchfire_query_index_entries_scanned_total",
        "watchfire_query_documents_scanned_total",
    ] {
        let line = answer.lines().find(|line| line.starts_with(name)).unwrap();
        let count: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(count > 0 && count < 100, "{line}");
    }
    server.stop().await.unwrap();
}
