//! What tests through the socket begin with: a server in this process, a client, and short ways to write
//! down what is sent.

#![allow(dead_code, reason = "no test needs everything")]

use std::collections::BTreeMap;

use tonic::transport::Channel;
use tonic::{Code, Status};
use watchfire_server::assemble::Server;
use watchfire_server::config::Serve;
use watchfire_wire::pb;
use watchfire_wire::pb::firestore_client::FirestoreClient;
use watchfire_wire::pb::structured_query as q;
use watchfire_wire::pb::value::ValueType;

pub type Client = FirestoreClient<Channel>;

pub const DATABASE: &str = "projects/p/databases/(default)";
pub const ROOT: &str = "projects/p/databases/(default)/documents";

/// A server that keeps its data in memory, on any free port.
pub fn in_memory() -> Serve {
    Serve::in_memory("127.0.0.1:0".parse().unwrap())
}

pub async fn start(serve: Serve) -> (Server, Client) {
    let server = Server::start(serve).await.unwrap();
    let client = Client::connect(format!("http://{}", server.address()))
        .await
        .unwrap()
        .max_decoding_message_size(usize::MAX);
    (server, client)
}

pub fn value(value_type: ValueType) -> pb::Value {
    pb::Value {
        value_type: Some(value_type),
    }
}

pub fn integer(number: i64) -> pb::Value {
    value(ValueType::IntegerValue(number))
}

pub fn text(text: &str) -> pb::Value {
    value(ValueType::StringValue(text.to_owned()))
}

pub fn reference(path: &str) -> pb::Value {
    value(ValueType::ReferenceValue(format!("{ROOT}/{path}")))
}

pub fn array(values: impl IntoIterator<Item = pb::Value>) -> pb::Value {
    value(ValueType::ArrayValue(pb::ArrayValue {
        values: values.into_iter().collect(),
    }))
}

pub fn vector(numbers: &[f64]) -> pb::Value {
    let numbers = array(
        numbers
            .iter()
            .map(|number| value(ValueType::DoubleValue(*number))),
    );
    value(ValueType::MapValue(pb::MapValue {
        fields: BTreeMap::from([
            ("__type__".to_owned(), text("__vector__")),
            ("value".to_owned(), numbers),
        ]),
    }))
}

pub fn set(path: &str, fields: &[(&str, pb::Value)]) -> pb::Write {
    let fields = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    let document = pb::Document {
        name: format!("{ROOT}/{path}"),
        fields: fields.collect(),
        ..pb::Document::default()
    };
    pb::Write {
        operation: Some(pb::write::Operation::Update(document)),
        ..pb::Write::default()
    }
}

pub async fn commit(client: &mut Client, writes: Vec<pb::Write>) -> pb::CommitResponse {
    let request = pb::CommitRequest {
        database: DATABASE.to_owned(),
        writes,
        ..pb::CommitRequest::default()
    };
    client.commit(request).await.unwrap().into_inner()
}

pub fn field(path: &str) -> q::FieldReference {
    q::FieldReference {
        field_path: path.to_owned(),
    }
}

pub fn compare(path: &str, op: q::field_filter::Operator, value: pb::Value) -> q::Filter {
    q::Filter {
        filter_type: Some(q::filter::FilterType::FieldFilter(q::FieldFilter {
            field: Some(field(path)),
            op: op.into(),
            value: Some(value),
        })),
    }
}

pub fn all_of(filters: Vec<q::Filter>) -> q::Filter {
    q::Filter {
        filter_type: Some(q::filter::FilterType::CompositeFilter(q::CompositeFilter {
            op: q::composite_filter::Operator::And.into(),
            filters,
        })),
    }
}

pub fn ascending(path: &str) -> q::Order {
    q::Order {
        field: Some(field(path)),
        direction: q::Direction::Ascending.into(),
    }
}

pub fn descending(path: &str) -> q::Order {
    q::Order {
        field: Some(field(path)),
        direction: q::Direction::Descending.into(),
    }
}

pub fn from(collection_id: &str) -> pb::StructuredQuery {
    pb::StructuredQuery {
        from: vec![q::CollectionSelector {
            collection_id: collection_id.to_owned(),
            all_descendants: false,
        }],
        ..pb::StructuredQuery::default()
    }
}

pub fn group(collection_id: &str) -> pb::StructuredQuery {
    pb::StructuredQuery {
        from: vec![q::CollectionSelector {
            collection_id: collection_id.to_owned(),
            all_descendants: true,
        }],
        ..pb::StructuredQuery::default()
    }
}

pub fn run_query(query: pb::StructuredQuery) -> pb::RunQueryRequest {
    pb::RunQueryRequest {
        parent: ROOT.to_owned(),
        query_type: Some(pb::run_query_request::QueryType::StructuredQuery(query)),
        ..pb::RunQueryRequest::default()
    }
}

/// Every response, or the error with which the stream ends, wherever.
pub async fn responses(
    client: &mut Client,
    request: pb::RunQueryRequest,
) -> Result<Vec<pb::RunQueryResponse>, Status> {
    let mut stream = client.run_query(request).await?.into_inner();
    let mut responses = Vec::new();
    while let Some(response) = stream.message().await? {
        responses.push(response);
    }
    Ok(responses)
}

/// The ids of the documents of an answer.
pub fn ids(responses: &[pb::RunQueryResponse]) -> Vec<&str> {
    let documents = responses
        .iter()
        .filter_map(|response| response.document.as_ref());
    documents
        .map(|document| document.name.rsplit('/').next().unwrap())
        .collect()
}

/// The result is refused with this code and this text.
pub fn check<T>(result: Result<T, Status>, code: Code, text: &str) -> Status {
    let Err(status) = result else {
        panic!("not refused: {text}");
    };
    assert_eq!((status.code(), status.message()), (code, text));
    status
}
