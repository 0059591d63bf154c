//! The server through its socket, with the generated client: what the protocol promises about
//! streams, pages and refusals.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeMap;

use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use watchfire_server::assemble::Server;
use watchfire_server::config::Serve;
use watchfire_wire::pb;
use watchfire_wire::pb::firestore_client::FirestoreClient;
use watchfire_wire::pb::listen_response::ResponseType;

type Client = FirestoreClient<Channel>;

const DATABASE: &str = "projects/p/databases/(default)";
const ROOT: &str = "projects/p/databases/(default)/documents";

async fn start() -> (Server, Client) {
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = Server::start(Serve::in_memory(listen)).await.unwrap();
    let client = Client::connect(format!("http://{}", server.address()))
        .await
        .unwrap();
    (server, client)
}

fn integer(value: i64) -> pb::Value {
    pb::Value {
        value_type: Some(pb::value::ValueType::IntegerValue(value)),
    }
}

fn set(path: &str, n: i64) -> pb::Write {
    let document = pb::Document {
        name: format!("{ROOT}/{path}"),
        fields: BTreeMap::from([("n".to_owned(), integer(n))]),
        ..pb::Document::default()
    };
    pb::Write {
        operation: Some(pb::write::Operation::Update(document)),
        ..pb::Write::default()
    }
}

async fn commit(client: &mut Client, writes: Vec<pb::Write>) -> Result<pb::CommitResponse, Status> {
    let request = pb::CommitRequest {
        database: DATABASE.to_owned(),
        writes,
        ..pb::CommitRequest::default()
    };
    Ok(client.commit(request).await?.into_inner())
}

fn check<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, text: &str) {
    let status = result.unwrap_err();
    assert_eq!((status.code(), status.message()), (code, text));
}

async fn listen(
    client: &mut Client,
) -> (
    tokio::sync::mpsc::Sender<pb::ListenRequest>,
    Streaming<pb::ListenResponse>,
) {
    let (requests, receiver) = tokio::sync::mpsc::channel(8);
    let answers = client
        .listen(ReceiverStream::new(receiver))
        .await
        .unwrap()
        .into_inner();
    (requests, answers)
}

fn add_target(target_id: i32, collection: &str) -> pb::ListenRequest {
    let query = pb::StructuredQuery {
        from: vec![pb::structured_query::CollectionSelector {
            collection_id: collection.to_owned(),
            all_descendants: false,
        }],
        ..pb::StructuredQuery::default()
    };
    let target = pb::Target {
        target_id,
        target_type: Some(pb::target::TargetType::Query(pb::target::QueryTarget {
            parent: ROOT.to_owned(),
            query_type: Some(pb::target::query_target::QueryType::StructuredQuery(query)),
        })),
        ..pb::Target::default()
    };
    pb::ListenRequest {
        database: DATABASE.to_owned(),
        target_change: Some(pb::listen_request::TargetChange::AddTarget(target)),
        ..pb::ListenRequest::default()
    }
}

/// Reads until a snapshot mark; the ids of the documents that came before it.
async fn until_snapshot(answers: &mut Streaming<pb::ListenResponse>) -> Vec<String> {
    let mut documents = Vec::new();
    loop {
        match answers
            .message()
            .await
            .unwrap()
            .unwrap()
            .response_type
            .unwrap()
        {
            ResponseType::DocumentChange(change) => {
                let name = change.document.unwrap().name;
                documents.push(name.rsplit('/').next().unwrap().to_owned());
            }
            ResponseType::TargetChange(change)
                if change.target_ids.is_empty() && change.read_time.is_some() =>
            {
                return documents;
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn listings_go_on_where_they_stopped_and_nowhere_else() {
    let (server, mut client) = start().await;
    let writes = (0..7)
        .map(|n| set(&format!("c/d{n}"), 6 - n))
        .chain([set("c/missing/below/x", 0), set("b/y", 0)]);
    commit(&mut client, writes.collect()).await.unwrap();

    for (collection_id, order_by, show_missing, expected) in [
        ("c", "", false, "d0 d1 d2 d3 d4 d5 d6"),
        ("c", "", true, "d0 d1 d2 d3 d4 d5 d6 missing"),
        ("c", "n", false, "d6 d5 d4 d3 d2 d1 d0"),
        ("c", "__name__ desc", false, "d6 d5 d4 d3 d2 d1 d0"),
        ("", "", false, "y d0 d1 d2 d3 d4 d5 d6"),
    ] {
        for page_size in [1, 2, 7, 100] {
            let mut request = pb::ListDocumentsRequest {
                parent: ROOT.to_owned(),
                collection_id: collection_id.to_owned(),
                order_by: order_by.to_owned(),
                show_missing,
                page_size,
                ..pb::ListDocumentsRequest::default()
            };
            let mut found = Vec::new();
            loop {
                let page = client
                    .list_documents(request.clone())
                    .await
                    .unwrap()
                    .into_inner();
                assert!(page.documents.len() <= page_size as usize);
                found.extend(
                    page.documents
                        .into_iter()
                        .map(|d| d.name.rsplit('/').next().unwrap().to_owned()),
                );
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
            }
            assert_eq!(found.join(" "), expected, "{request:?}");
            if !request.page_token.is_empty() {
                request.collection_id = "other".to_owned();
                let text = "Invalid page token: it belongs to another request.";
                check(
                    client.list_documents(request).await,
                    Code::InvalidArgument,
                    text,
                );
            }
        }
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_write_stream_commits_in_order_and_ends_at_the_first_failure() {
    let (server, mut client) = start().await;
    let (requests, receiver) = tokio::sync::mpsc::channel(8);
    let mut answers = client
        .write(ReceiverStream::new(receiver))
        .await
        .unwrap()
        .into_inner();
    let open = pb::WriteRequest {
        database: DATABASE.to_owned(),
        ..pb::WriteRequest::default()
    };
    requests.send(open).await.unwrap();
    let opened = answers.message().await.unwrap().unwrap();
    assert!(!opened.stream_id.is_empty() && !opened.stream_token.is_empty());

    let message = |writes| pb::WriteRequest {
        stream_token: opened.stream_token.clone(),
        writes,
        ..Default::default()
    };
    let mut impossible = set("c/none", 1);
    impossible.current_document = Some(pb::Precondition {
        condition_type: Some(pb::precondition::ConditionType::Exists(true)),
    });
    for writes in [
        vec![set("c/a", 1)],
        vec![],
        vec![set("c/a", 2)],
        vec![impossible],
        vec![set("c/a", 3)],
    ] {
        requests.send(message(writes)).await.unwrap();
    }
    let first = answers.message().await.unwrap().unwrap();
    let second = answers.message().await.unwrap().unwrap();
    assert_eq!(
        (first.write_results.len(), second.write_results.len()),
        (1, 1)
    );
    let time =
        |answer: &pb::WriteResponse| answer.commit_time.map(|t| (t.seconds, t.nanos)).unwrap();
    assert!(time(&first) < time(&second));
    let text = format!("No document to update: {ROOT}/c/none");
    check(answers.message().await, Code::NotFound, &text);

    let request = pb::GetDocumentRequest {
        name: format!("{ROOT}/c/a"),
        ..Default::default()
    };
    let document = client.get_document(request).await.unwrap().into_inner();
    assert_eq!(document.fields.get("n"), Some(&integer(2)));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn rubbish_ends_a_stream_by_name_and_a_bad_target_only_itself() {
    let (server, mut client) = start().await;
    let (requests, receiver) = tokio::sync::mpsc::channel(8);
    let mut answers = client
        .write(ReceiverStream::new(receiver))
        .await
        .unwrap()
        .into_inner();
    requests.send(pb::WriteRequest::default()).await.unwrap();
    let text = "The first message of a Write stream must name the database.";
    check(answers.message().await, Code::InvalidArgument, text);

    let (requests, mut answers) = listen(&mut client).await;
    requests.send(add_target(2, "c")).await.unwrap();
    until_snapshot(&mut answers).await;
    requests.send(add_target(4, "__reserved__")).await.unwrap();
    let ended = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .response_type
        .unwrap();
    let ResponseType::TargetChange(ended) = ended else {
        panic!("{ended:?}")
    };
    assert_eq!(ended.target_ids, [4]);
    assert_eq!(ended.cause.unwrap().code, 3);
    commit(&mut client, vec![set("c/a", 1)]).await.unwrap();
    assert_eq!(until_snapshot(&mut answers).await, ["a"]);
    let mut elsewhere = add_target(6, "c");
    elsewhere.database = "projects/p/databases/other".to_owned();
    requests.send(elsewhere).await.unwrap();
    let status = loop {
        match answers.message().await {
            Ok(answer) => drop(answer.unwrap()),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::InvalidArgument);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_tells_streams_to_come_back() {
    let (server, mut client) = start().await;
    let (requests, mut answers) = listen(&mut client).await;
    requests.send(add_target(2, "c")).await.unwrap();
    until_snapshot(&mut answers).await;
    let (_silent, mut unopened) = listen(&mut client).await;
    server.stop().await.unwrap();
    check(
        answers.message().await,
        Code::Unavailable,
        "the server is shutting down",
    );
    check(
        unopened.message().await,
        Code::Unavailable,
        "the server is shutting down",
    );
    assert!(commit(&mut client, vec![set("c/late", 1)]).await.is_err());
}

#[tokio::test]
async fn who_watches_the_health_is_told_of_the_end_and_not_waited_for() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;

    let (server, _client) = start().await;
    let url = format!("http://{}", server.address());
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    let watched = health.watch(HealthCheckRequest::default()).await.unwrap();
    let mut watched = watched.into_inner();
    let first = watched.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    let rest = tokio::spawn(async move {
        let mut statuses = Vec::new();
        while let Some(answer) = watched.message().await? {
            statuses.push(answer.status());
        }
        Ok::<_, Status>(statuses)
    });
    server.stop().await.unwrap();
    // A stream that is cut off ends with an error.
    assert_eq!(rest.await.unwrap().unwrap(), [ServingStatus::NotServing]);
}

#[tokio::test]
async fn transactions_and_offsets_announce_themselves_first() {
    let (server, mut client) = start().await;
    commit(&mut client, vec![set("c/a", 1), set("c/b", 2)])
        .await
        .unwrap();
    let query = |offset| pb::StructuredQuery {
        from: vec![pb::structured_query::CollectionSelector {
            collection_id: "c".to_owned(),
            all_descendants: false,
        }],
        offset,
        ..pb::StructuredQuery::default()
    };
    let run = |offset, selector| pb::RunQueryRequest {
        parent: ROOT.to_owned(),
        query_type: Some(pb::run_query_request::QueryType::StructuredQuery(query(
            offset,
        ))),
        consistency_selector: selector,
        ..pb::RunQueryRequest::default()
    };
    let begin = pb::run_query_request::ConsistencySelector::NewTransaction(
        pb::TransactionOptions::default(),
    );
    let answers = client
        .run_query(run(0, Some(begin)))
        .await
        .unwrap()
        .into_inner();
    let answers: Vec<pb::RunQueryResponse> = answers.map(Result::unwrap).collect().await;
    assert_eq!(answers.len(), 3);
    assert!(!answers[0].transaction.is_empty() && answers[0].document.is_none());
    assert!(answers[1].document.is_some() && answers[1].transaction.is_empty());

    for (offset, skipped, found) in [(1, 1, 1), (2, 2, 0), (9, 2, 0)] {
        let answers = client
            .run_query(run(offset, None))
            .await
            .unwrap()
            .into_inner();
        let answers: Vec<pb::RunQueryResponse> = answers.map(Result::unwrap).collect().await;
        assert_eq!(
            answers
                .iter()
                .map(|answer| answer.skipped_results)
                .sum::<i32>(),
            skipped
        );
        assert_eq!(
            answers
                .iter()
                .filter(|answer| answer.document.is_some())
                .count(),
            found
        );
        assert!(answers.iter().all(|answer| answer.read_time.is_some()));
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_batch_answers_each_write_for_itself() {
    let (server, mut client) = start().await;
    let mut impossible = set("c/none", 1);
    impossible.current_document = Some(pb::Precondition {
        condition_type: Some(pb::precondition::ConditionType::Exists(true)),
    });
    let batch = |writes| pb::BatchWriteRequest {
        database: DATABASE.to_owned(),
        writes,
        ..Default::default()
    };
    let answer = client
        .batch_write(batch(vec![set("c/a", 1), impossible, set("c/b", 2)]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        answer
            .status
            .iter()
            .map(|status| status.code)
            .collect::<Vec<_>>(),
        [0, 5, 0]
    );
    assert_eq!(answer.write_results.len(), 3);
    let twice = client
        .batch_write(batch(vec![set("c/z", 1), set("c/z", 2)]))
        .await;
    let text = format!(
        "A document may be written at most once in a single BatchWrite request: {ROOT}/c/z"
    );
    check(twice, Code::InvalidArgument, &text);
    let request = pb::GetDocumentRequest {
        name: format!("{ROOT}/c/z"),
        ..Default::default()
    };
    check(
        client.get_document(request).await,
        Code::NotFound,
        &format!("Document \"{ROOT}/c/z\" not found."),
    );
    server.stop().await.unwrap();
}
