//! Indexes through the socket: the administration's calls, the command, and the file at the start.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::path::{Path, PathBuf};

use tonic::transport::Channel;
use tonic::{Code, Status};
use watchfire_server::assemble::{Failure, Server};
use watchfire_server::client::index_command::{CommandError, Console, deploy, list};
use watchfire_server::config::{Asked, DeployIndexes, Remote, Serve};
use watchfire_wire::admin::{
    FieldUpdate, IndexMode, IndexScope, IndexShape, decode_field_name, encode_index_shape,
    encode_update_field,
};
use watchfire_wire::pb::admin::firestore_admin_client::FirestoreAdminClient;
use watchfire_wire::pb::admin::index::State;
use watchfire_wire::pb::longrunning::operation::Result as Outcome;
use watchfire_wire::pb::longrunning::operations_client::OperationsClient;
use watchfire_wire::pb::{admin, longrunning};

const DATABASE: &str = "projects/p/databases/(default)";
const CITIES: &str = "projects/p/databases/(default)/collectionGroups/cities";
const EVERYTHING: &str = "projects/p/databases/(default)/collectionGroups/-";

struct Clients {
    server: Server,
    admin: FirestoreAdminClient<Channel>,
    operations: OperationsClient<Channel>,
}

async fn start(change: impl FnOnce(&mut Serve)) -> Result<Clients, Failure> {
    let mut serve = Serve::in_memory("127.0.0.1:0".parse().unwrap());
    change(&mut serve);
    let server = Server::start(serve).await?;
    let url = format!("http://{}", server.address());
    Ok(Clients {
        admin: FirestoreAdminClient::connect(url.clone()).await.unwrap(),
        operations: OperationsClient::connect(url).await.unwrap(),
        server,
    })
}

fn shape(scope: IndexScope, fields: &[(&str, IndexMode)]) -> admin::Index {
    let fields = fields.iter().map(|(path, mode)| {
        let path = watchfire_model::FieldPath::parse(path).unwrap();
        (path, *mode)
    });
    encode_index_shape(&IndexShape {
        scope,
        fields: fields.collect(),
    })
}

fn two_fields() -> admin::Index {
    let fields = [("a", IndexMode::Ascending), ("b", IndexMode::Descending)];
    shape(IndexScope::Collection, &fields)
}

impl Clients {
    async fn create(&mut self, index: admin::Index) -> Result<longrunning::Operation, Status> {
        let request = admin::CreateIndexRequest {
            parent: CITIES.to_owned(),
            index: Some(index),
        };
        Ok(self.admin.create_index(request).await?.into_inner())
    }

    async fn wait(&mut self, name: &str) -> longrunning::Operation {
        let request = longrunning::WaitOperationRequest {
            name: name.to_owned(),
            timeout: None,
        };
        let ended = self.operations.wait_operation(request).await;
        let ended = ended.unwrap().into_inner();
        assert!(ended.done, "{ended:?}");
        ended
    }

    async fn update(
        &mut self,
        field: &str,
        indexes: Option<Vec<(IndexScope, IndexMode)>>,
    ) -> longrunning::Operation {
        let request = encode_update_field(&FieldUpdate {
            name: decode_field_name(field).unwrap(),
            indexes,
        });
        let started = self.admin.update_field(request).await.unwrap().into_inner();
        self.wait(&started.name).await
    }

    async fn field(&mut self, name: &str) -> admin::field::IndexConfig {
        let request = admin::GetFieldRequest {
            name: name.to_owned(),
        };
        let field = self.admin.get_field(request).await.unwrap().into_inner();
        assert_eq!(field.name, name);
        field.index_config.unwrap()
    }

    async fn fields(&mut self, parent: &str, filter: &str) -> Result<Vec<String>, Status> {
        let request = admin::ListFieldsRequest {
            parent: parent.to_owned(),
            filter: filter.to_owned(),
            ..admin::ListFieldsRequest::default()
        };
        let page = self.admin.list_fields(request).await?.into_inner();
        Ok(page.fields.into_iter().map(|field| field.name).collect())
    }

    async fn indexes(&mut self, page_size: i32) -> Vec<admin::Index> {
        let mut request = admin::ListIndexesRequest {
            parent: EVERYTHING.to_owned(),
            page_size,
            ..admin::ListIndexesRequest::default()
        };
        let mut indexes = Vec::new();
        loop {
            let page = self.admin.list_indexes(request.clone()).await.unwrap();
            let page = page.into_inner();
            indexes.extend(page.indexes);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return indexes;
            }
        }
    }

    fn remote(&self) -> Remote {
        Remote {
            asked: Asked {
                server: self.server.address().to_string(),
                tls_ca: None,
            },
            project: Some("p".to_owned()),
            database: "(default)".to_owned(),
        }
    }

    async fn listed(&self) -> String {
        let mut console = Console::new(Vec::new(), Vec::new(), false);
        list(self.remote(), &mut console).await.unwrap();
        String::from_utf8(console.into_out()).unwrap()
    }

    async fn deploy(
        &self,
        file: &Path,
        force: bool,
        dry_run: bool,
    ) -> Result<String, CommandError> {
        let mut console = Console::new(Vec::new(), Vec::new(), false);
        let asked = DeployIndexes {
            file: file.to_owned(),
            remote: self.remote(),
            force,
            dry_run,
            no_wait: false,
        };
        deploy(asked, &mut console).await?;
        Ok(String::from_utf8(console.into_out()).unwrap())
    }
}

fn check(status: Status, code: Code, text: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(text), "{status:?}");
}

#[tokio::test]
async fn an_index_from_its_definition_to_its_end() {
    let mut clients = start(|_| {}).await.unwrap();
    let started = clients.create(two_fields()).await.unwrap();
    assert!(started.name.starts_with(&format!("{DATABASE}/operations/")));
    let ended = clients.wait(&started.name).await;
    match ended.result {
        Some(Outcome::Response(any)) => {
            assert_eq!(
                any.type_url,
                "type.googleapis.com/google.firestore.admin.v1.Index"
            );
        }
        other => panic!("{other:?}"),
    }

    let listed = clients.indexes(0).await;
    let index = listed.first().unwrap().clone();
    assert!(index.name.starts_with(&format!("{CITIES}/indexes/")));
    assert_eq!(index.state(), State::Ready);
    let fields: Vec<&str> = index.fields.iter().map(|f| f.field_path.as_str()).collect();
    assert_eq!(fields, ["a", "b", "__name__"]);
    let name = index.name.clone();
    let request = || admin::GetIndexRequest { name: name.clone() };
    let got = clients.admin.get_index(request()).await.unwrap();
    assert_eq!(got.into_inner(), index);

    // The same, with the name written out.
    let fields = [
        ("a", IndexMode::Ascending),
        ("b", IndexMode::Descending),
        ("__name__", IndexMode::Descending),
    ];
    let same = clients.create(shape(IndexScope::Collection, &fields)).await;
    check(same.unwrap_err(), Code::AlreadyExists, &index.name);

    let vector = [("v", IndexMode::Vector { dimension: 3 })];
    clients
        .create(shape(IndexScope::CollectionGroup, &vector))
        .await
        .unwrap();
    assert_eq!(clients.indexes(1).await.len(), 2);

    let delete = admin::DeleteIndexRequest { name: name.clone() };
    clients.admin.delete_index(delete.clone()).await.unwrap();
    let gone = clients.admin.get_index(request()).await.unwrap_err();
    check(
        gone,
        Code::NotFound,
        &format!("Index \"{name}\" not found."),
    );
    let gone = clients.admin.delete_index(delete).await.unwrap_err();
    check(gone, Code::NotFound, &name);
    assert_eq!(clients.indexes(0).await.len(), 1);

    let list = longrunning::ListOperationsRequest {
        name: DATABASE.to_owned(),
        ..longrunning::ListOperationsRequest::default()
    };
    let operations = clients.operations.list_operations(list.clone()).await;
    assert_eq!(operations.unwrap().into_inner().operations.len(), 2);
    let forget = longrunning::DeleteOperationRequest {
        name: started.name.clone(),
    };
    clients.operations.delete_operation(forget).await.unwrap();
    // The work that removes entries has an id too, but nothing to say.
    let (parent, id) = started.name.rsplit_once('/').unwrap();
    let id = u64::from_str_radix(id, 16).unwrap();
    for other in 1..6 {
        let name = format!("{parent}/{:x}", id + other);
        let get = longrunning::GetOperationRequest { name: name.clone() };
        match clients.operations.get_operation(get).await {
            Ok(found) => assert_eq!(found.into_inner().name, name),
            Err(status) => check(status, Code::NotFound, &name),
        }
    }
    let get = longrunning::GetOperationRequest {
        name: started.name.clone(),
    };
    let gone = clients.operations.get_operation(get).await.unwrap_err();
    check(gone, Code::NotFound, &started.name);
    clients.server.stop().await.unwrap();
}

#[tokio::test]
async fn fields_have_their_ancestors_indexes_until_they_get_their_own() {
    let mut clients = start(|_| {}).await.unwrap();
    let topmost = format!("{DATABASE}/collectionGroups/__default__/fields/*");
    let field = format!("{CITIES}/fields/a.b");

    let config = clients.field(&field).await;
    assert!(config.uses_ancestor_config);
    assert_eq!(
        (config.ancestor_field, config.indexes.len()),
        (topmost.clone(), 3)
    );
    let config = clients.field(&topmost).await;
    assert!(!config.uses_ancestor_config && config.ancestor_field.is_empty());

    let wanted = vec![(IndexScope::CollectionGroup, IndexMode::Ascending)];
    let ended = clients.update(&field, Some(wanted)).await;
    assert!(
        matches!(ended.result, Some(Outcome::Response(_))),
        "{ended:?}"
    );
    let config = clients.field(&field).await;
    assert!(!config.uses_ancestor_config);
    assert_eq!(config.indexes.len(), 1);
    // What lies in it follows.
    let config = clients.field(&format!("{field}.c")).await;
    assert_eq!(
        (config.ancestor_field.as_str(), config.indexes.len()),
        (field.as_str(), 1)
    );

    let overridden = "indexConfig.usesAncestorConfig:false";
    let listed = clients.fields(CITIES, overridden).await.unwrap();
    assert_eq!(listed, [field.as_str()]);
    let either = format!("{overridden} OR ttlConfig:*");
    let listed = clients.fields(EVERYTHING, &either).await.unwrap();
    assert_eq!(listed, [topmost.as_str(), &field]);
    assert!(
        clients
            .fields(CITIES, "ttlConfig:*")
            .await
            .unwrap()
            .is_empty()
    );
    let refused = clients.fields(CITIES, "").await.unwrap_err();
    check(refused, Code::InvalidArgument, "filter must be set");

    clients.update(&field, None).await;
    assert!(clients.field(&field).await.uses_ancestor_config);
    assert!(clients.fields(CITIES, overridden).await.unwrap().is_empty());
    clients.server.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_not_served_is_refused_by_name() {
    let mut clients = start(|_| {}).await.unwrap();
    let one = shape(IndexScope::Collection, &[("a", IndexMode::Ascending)]);
    let refused = clients.create(one).await.unwrap_err();
    check(
        refused,
        Code::InvalidArgument,
        "this index is not necessary",
    );

    let request = admin::ListIndexesRequest {
        parent: CITIES.to_owned(),
        filter: "state:READY".to_owned(),
        ..admin::ListIndexesRequest::default()
    };
    let refused = clients.admin.list_indexes(request).await.unwrap_err();
    check(refused, Code::Unimplemented, "ListIndexesRequest.filter");

    let channel = Channel::from_shared(format!("http://{}", clients.server.address()));
    let channel = channel.unwrap().connect().await.unwrap();
    let mut any = tonic::client::Grpc::new(channel);
    any.ready().await.unwrap();
    let path = "/google.firestore.admin.v1.FirestoreAdmin/ListDatabases";
    let answer: Result<tonic::Response<()>, Status> = any
        .unary(
            tonic::Request::new(()),
            path.parse().unwrap(),
            watchfire_wire::codec::WireCodec::<(), ()>::default(),
        )
        .await;
    let text = "ListDatabases is not supported by this server";
    check(answer.unwrap_err(), Code::Unimplemented, text);
    clients.server.stop().await.unwrap();
}

/// A file in a folder that goes away with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("watchfire-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, text: &str) -> PathBuf {
        let file = self.0.join("firestore.indexes.json");
        std::fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const FILE: &str = r#"{
  "indexes": [
    {
      "collectionGroup": "cities",
      "queryScope": "COLLECTION",
      "fields": [
        { "fieldPath": "a", "order": "ASCENDING" },
        { "fieldPath": "b", "arrayConfig": "CONTAINS" }
      ]
    }
  ],
  "fieldOverrides": [
    {
      "collectionGroup": "cities",
      "fieldPath": "text",
      "indexes": []
    }
  ]
}
"#;

const EMPTY: &str = "{\n  \"indexes\": [],\n  \"fieldOverrides\": []\n}\n";

#[tokio::test]
async fn a_file_is_deployed_and_printed() {
    let clients = start(|_| {}).await.unwrap();
    let folder = Folder::new("deploy");
    let file = folder.write(FILE);
    let said = clients.deploy(&file, false, true).await.unwrap();
    assert!(
        said.contains("\n+ index  cities COLLECTION (a ASC, b CONTAINS, __name__ ASC)\n"),
        "{said}"
    );
    assert!(
        said.contains("\n+ field  cities text no indexes\n"),
        "{said}"
    );
    assert_eq!(clients.listed().await, EMPTY);

    let said = clients.deploy(&file, false, false).await.unwrap();
    assert!(said.ends_with("Done\n"), "{said}");
    let listed = clients.listed().await;
    let again = folder.write(&listed);
    let said = clients.deploy(&again, false, false).await.unwrap();
    assert!(said.ends_with("Nothing to change\n"), "{said}");

    // Nobody can be asked.
    let file = folder.write(EMPTY);
    let refused = clients.deploy(&file, false, false).await.unwrap_err();
    assert!(
        matches!(refused, CommandError::NotAgreed { losses: 2 }),
        "{refused:?}"
    );
    assert_eq!(clients.listed().await, listed);
    clients.deploy(&file, true, false).await.unwrap();
    assert_eq!(clients.listed().await, EMPTY);
    clients.server.stop().await.unwrap();
}

#[tokio::test]
async fn a_change_that_the_server_refuses_is_named() {
    let mut clients = start(|_| {}).await.unwrap();
    let full = 1_000;
    for n in 0..full {
        let name = format!("f{n}");
        let fields = [
            (name.as_str(), IndexMode::Ascending),
            ("b", IndexMode::Ascending),
        ];
        clients
            .create(shape(IndexScope::Collection, &fields))
            .await
            .unwrap();
    }
    let folder = Folder::new("refused");
    let file = folder.write(FILE);
    let refused = clients.deploy(&file, true, false).await.unwrap_err();
    let text = refused.to_string();
    assert!(
        text.starts_with("index cities (a ASC, b CONTAINS, __name__ ASC): the server refused: "),
        "{text}"
    );
    assert!(
        text.ends_with("; 0 changes were made before it, and stay"),
        "{text}"
    );
    assert_eq!(clients.indexes(0).await.len(), full);
    clients.server.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_starts_with_the_indexes_of_a_file() {
    let folder = Folder::new("first");
    let file = folder.write(FILE);
    let clients = start(|serve| serve.indexes = Some(file.clone()))
        .await
        .unwrap();
    let listed = clients.listed().await;
    assert!(
        listed.contains("\"cities\"") && listed.contains("\"text\""),
        "{listed}"
    );
    clients.server.stop().await.unwrap();

    folder.write("{ \"indices\": [] }");
    let refused = start(|serve| serve.indexes = Some(file.clone())).await;
    match refused {
        Err(Failure::Indexes(wrong)) => {
            assert!(
                wrong.to_string().contains("indices: is not known here"),
                "{wrong}"
            );
        }
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it started"),
    }
}
