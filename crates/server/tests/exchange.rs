//! `watchfire export` and `watchfire import`: everything there and back, one moment out of many commits, and refusals
//! before the first write.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use support::{
    Client, array, commit, group, in_memory, integer, reference, responses, run_query, set, start,
    text, value, vector,
};
use watchfire_server::assemble::{Server, SystemClock};
use watchfire_server::client::exchange::progress::Progress;
use watchfire_server::client::exchange::{ExchangeError, export, import};
use watchfire_server::config::{Asked, Export, Import, Remote};
use watchfire_wire::pb;
use watchfire_wire::pb::value::ValueType;

/// A new folder of this test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("exchange-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn remote(server: &Server, database: &str) -> Remote {
    Remote {
        asked: Asked {
            server: server.address().to_string(),
            tls_ca: None,
        },
        project: Some("p".to_owned()),
        database: database.to_owned(),
    }
}

/// Of the default database.
fn to(server: &Server, directory: PathBuf) -> Export {
    Export {
        directory,
        remote: remote(server, "(default)"),
        collections: Vec::new(),
        read_time: None,
    }
}

async fn exported(settings: Export) -> Result<String, ExchangeError> {
    let mut out = Vec::new();
    let mut progress = Progress::new(Vec::new());
    export::run(settings, &SystemClock, &mut out, &mut progress).await?;
    Ok(String::from_utf8(out).unwrap())
}

/// Into another database.
fn into(server: &Server, path: PathBuf) -> Import {
    Import {
        path,
        remote: remote(server, "other"),
        collections: Vec::new(),
        dry_run: false,
    }
}

async fn imported(settings: Import) -> Result<String, ExchangeError> {
    let mut out = Vec::new();
    import::run(settings, &mut out, &mut Progress::new(Vec::new())).await?;
    Ok(String::from_utf8(out).unwrap())
}

/// Every document of a database, by path, with its fields in words.
async fn everything(client: &mut Client, database: &str) -> BTreeMap<String, String> {
    let root = format!("projects/p/databases/{database}");
    let mut request = run_query(group(""));
    request.parent = format!("{root}/documents");
    let answers = responses(client, request).await.unwrap();
    let documents = answers.into_iter().filter_map(|answer| answer.document);
    documents
        .map(|document| {
            let path = document.name[root.len() + "/documents/".len()..].to_owned();
            let fields = format!("{:?}", document.fields);
            (path, fields.replace(&root, "ROOT"))
        })
        .collect()
}

/// Any value, nested a little.
fn any_value() -> impl Strategy<Value = pb::Value> {
    let double = prop_oneof![
        prop::sample::select(vec![
            0.0,
            -0.0,
            3.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN
        ]),
        any::<f64>().prop_map(|double| if double.is_nan() { f64::NAN } else { double }),
    ];
    let words = prop::collection::vec(
        prop::sample::select(vec!['\0', 'a', '%', ' ', 'é', '火', '\u{10ffff}']),
        0..6,
    );
    let scalar = prop_oneof![
        Just(value(ValueType::NullValue(0))),
        any::<bool>().prop_map(|boolean| value(ValueType::BooleanValue(boolean))),
        any::<i64>().prop_map(integer),
        double
            .clone()
            .prop_map(|double| value(ValueType::DoubleValue(double))),
        words.prop_map(|words| text(&String::from_iter(words))),
        prop::collection::vec(any::<u8>(), 0..9)
            .prop_map(|bytes| value(ValueType::BytesValue(bytes))),
        (-62_135_596_800_i64..253_402_300_800, 0..1_000_000).prop_map(|(seconds, micros)| {
            let nanos = micros * 1_000;
            value(ValueType::TimestampValue(prost_types::Timestamp {
                seconds,
                nanos,
            }))
        }),
        (-90.0..=90.0, -180.0..=180.0).prop_map(|(latitude, longitude)| {
            value(ValueType::GeoPointValue(pb::LatLng {
                latitude,
                longitude,
            }))
        }),
        prop::sample::select(vec!["c/d", "ü/a b", "c/__id-7__/s/x"]).prop_map(reference),
        prop::collection::vec(double, 0..4).prop_map(|numbers| vector(&numbers)),
    ];
    scalar.prop_recursive(3, 12, 4, |inner| {
        let map = prop::collection::btree_map("[a-c. ]{1,2}", inner.clone(), 0..4)
            .prop_map(|fields| value(ValueType::MapValue(pb::MapValue { fields })));
        let element = inner.prop_filter("no array stands in another", |value| {
            !matches!(value.value_type, Some(ValueType::ArrayValue(_)))
        });
        prop_oneof![map, prop::collection::vec(element, 0..4).prop_map(array)]
    })
}

#[tokio::test]
async fn any_documents_come_back_as_they_were() {
    let folder = Folder::new("any");
    let (server, mut client) = start(in_memory()).await;
    let mut runner = TestRunner::default();
    let documents = prop::collection::btree_map("[a-z]", any_value(), 0..6);
    for group in 0..20 {
        let writes = (0..20).map(|n| {
            let fields = documents.new_tree(&mut runner).unwrap().current();
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| (name.as_str(), value.clone()))
                .collect();
            let below = if n % 3 == 0 { "/ü/__id7__" } else { "" };
            set(&format!("c{}/d {group}-{n}{below}", n % 2), &fields)
        });
        commit(&mut client, writes.collect()).await;
    }
    // Nearly as large as a document may be, in few values and in many.
    let many = array((0..200_000).map(|_| value(ValueType::NullValue(0))));
    let large = [
        set("large/one", &[("text", text(&"é".repeat(500_000)))]),
        set("large/many", &[("nulls", many)]),
    ];
    for write in large {
        commit(&mut client, vec![write]).await;
    }
    let expected = everything(&mut client, "(default)").await;
    assert_eq!(expected.len(), 402);
    let said = exported(to(&server, folder.join("e"))).await.unwrap();
    assert!(said.starts_with("Exported 402 documents, "), "{said}");
    let said = imported(into(&server, folder.join("e"))).await.unwrap();
    assert_eq!(
        said,
        "Imported 402 documents into projects/p/databases/other\n"
    );
    assert!(everything(&mut client, "other").await == expected);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_one_moment_while_commits_go_on() {
    let folder = Folder::new("moment");
    let (server, mut client) = start(in_memory()).await;
    let all_at = |n: i64| -> Vec<pb::Write> {
        let padding = "x".repeat(2_000);
        let documents = 0..400;
        documents
            .map(|document| {
                let fields = [("n", integer(n)), ("padding", text(&padding))];
                set(&format!("c/{document}"), &fields)
            })
            .collect()
    };
    commit(&mut client, all_at(0)).await;
    let first = commit(&mut client, all_at(1)).await.commit_time.unwrap();
    let (stop, count) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let writer = {
        let (mut client, stop, count) = (client.clone(), stop.clone(), count.clone());
        tokio::spawn(async move {
            for n in 2.. {
                commit(&mut client, all_at(n)).await;
                count.fetch_add(1, Ordering::SeqCst);
                if stop.load(Ordering::SeqCst) {
                    break;
                }
            }
        })
    };
    while count.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    exported(to(&server, folder.join("now"))).await.unwrap();
    let then = Export {
        read_time: Some(
            watchfire_model::Timestamp::from_parts(first.seconds, first.nanos).unwrap(),
        ),
        ..to(&server, folder.join("then"))
    };
    exported(then).await.unwrap();
    stop.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    for (name, at_first) in [("now", false), ("then", true)] {
        let export = watchfire_exchange::Export::open(&folder.join(name)).unwrap();
        let mut entities = export.entities();
        let (mut numbers, mut documents) = (BTreeSet::new(), 0);
        while let Some(found) = entities.next_entity().unwrap() {
            numbers.insert(format!("{:?}", found.entity.fields["n"]));
            documents += 1;
        }
        assert_eq!((documents, numbers.len()), (400, 1), "{name}");
        assert_eq!(numbers.contains("Integer(1)"), at_first, "{numbers:?}");
    }
    server.stop().await.unwrap();
}

/// Passes connections on to the server, and cuts the first one after so many bytes of its answers.
async fn cutting(server: &Server, bytes: u64) -> String {
    use tokio::io::{AsyncReadExt, copy};
    use tokio::net::{TcpListener, TcpStream};

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = server.address();
    tokio::spawn(async move {
        let mut left = bytes;
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let upstream = TcpStream::connect(server).await.unwrap();
            let limit = std::mem::replace(&mut left, u64::MAX);
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (from_server, mut to_server) = upstream.into_split();
                let mut answers = from_server.take(limit);
                tokio::select! {
                    _ = copy(&mut from_client, &mut to_server) => {}
                    _ = copy(&mut answers, &mut to_client) => {}
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn an_export_and_an_import_go_on_after_their_connection_broke() {
    let folder = Folder::new("broken");
    let (server, mut client) = support::start(support::in_memory()).await;
    let filler = "x".repeat(2_000);
    let writes = (0..400).map(|n| set(&format!("c/{n:03}"), &[("filler", support::text(&filler))]));
    commit(&mut client, writes.collect()).await;
    let mut settings = to(&server, folder.join("e"));
    settings.remote.asked.server = cutting(&server, 100_000).await;
    let said = exported(settings).await.unwrap();
    assert!(said.starts_with("Exported 400 documents, "), "{said}");

    // A commit whose answer is lost is sent again.
    let mut settings = into(&server, folder.join("e"));
    settings.remote.asked.server = cutting(&server, 100).await;
    let said = imported(settings).await.unwrap();
    assert!(said.starts_with("Imported 400 documents "), "{said}");
    assert_eq!(everything(&mut client, "other").await.len(), 400);
    server.stop().await.unwrap();
}

/// Passes one connection on to the server, after doing something else.
async fn meanwhile(server: &Server, act: impl FnOnce() + Send + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = server.address();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        act();
        let mut upstream = tokio::net::TcpStream::connect(server).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
    });
    address
}

#[tokio::test]
async fn an_import_that_ends_early_says_how_much_is_written() {
    let folder = Folder::new("early");
    let (server, mut client) = start(in_memory()).await;
    // More than the commits that are under way before the first is answered, and what is read ahead.
    let filler = "x".repeat(1_000);
    for batch in 0..10 {
        let path = |n: i32| format!("c/{:04}", batch * 400 + n);
        let writes = (0..400).map(|n| set(&path(n), &[("filler", text(&filler))]));
        commit(&mut client, writes.collect()).await;
    }
    let directory = folder.join("e");
    exported(to(&server, directory.clone())).await.unwrap();

    // The files were whole when they were checked, and the server is asked first after that.
    let output = directory.join("all_namespaces/all_kinds/output-0");
    let whole = fs::metadata(&output).unwrap().len();
    let mut settings = into(&server, directory);
    settings.remote.asked.server = meanwhile(&server, move || {
        let file = fs::File::options().write(true).open(output).unwrap();
        file.set_len(whole / 20 * 19).unwrap();
    })
    .await;
    let complaint = imported(settings).await.unwrap_err().to_string();
    assert!(complaint.contains("/output-0 at byte "), "{complaint}");
    let said = "; 3600 of 4000 documents are known to be written, and stay";
    assert!(complaint.ends_with(said), "{complaint}");
    assert_eq!(everything(&mut client, "other").await.len(), 3600);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_imported_replaces_and_adds_and_takes_nothing_away() {
    let folder = Folder::new("replaces");
    let (server, mut client) = start(in_memory()).await;
    let writes = [
        set("a/1", &[("n", integer(1))]),
        set("b/1/a/2", &[("n", integer(2)), ("r", reference("a/1"))]),
        set("b/1", &[]),
    ];
    commit(&mut client, writes.into()).await;
    exported(to(&server, folder.join("all"))).await.unwrap();
    let some = Export {
        collections: vec!["a".to_owned(), "a".to_owned(), "none".to_owned()],
        ..to(&server, folder.join("some"))
    };
    let said = exported(some).await.unwrap();
    assert!(said.starts_with("Exported 2 documents, "), "{said}");

    let dry_run = Import {
        dry_run: true,
        ..into(&server, folder.join("all"))
    };
    let said = imported(dry_run).await.unwrap();
    assert!(said.starts_with("3 documents in "), "{said}");
    assert!(everything(&mut client, "other").await.is_empty());

    imported(into(&server, folder.join("some"))).await.unwrap();
    let found = everything(&mut client, "other").await;
    assert_eq!(found.keys().collect::<Vec<_>>(), ["a/1", "b/1/a/2"]);
    // References to documents of the database go with them.
    assert!(found["b/1/a/2"].contains("ROOT/documents/a/1"), "{found:?}");
    let only = Import {
        collections: vec!["b".to_owned()],
        ..into(&server, folder.join("all"))
    };
    let said = imported(only).await.unwrap();
    assert!(said.starts_with("Imported 1 documents "), "{said}");
    assert_eq!(
        everything(&mut client, "other").await,
        everything(&mut client, "(default)").await
    );

    commit(
        &mut client,
        vec![set("z/new", &[]), set("a/1", &[("old", integer(0))])],
    )
    .await;
    let back = Import {
        remote: remote(&server, "(default)"),
        ..into(&server, folder.join("all"))
    };
    imported(back).await.unwrap();
    let found = everything(&mut client, "(default)").await;
    assert_eq!(found.len(), 4);
    assert!(!found["a/1"].contains("old"), "{found:?}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn nothing_is_written_when_anything_cannot_be() {
    let folder = Folder::new("refused");
    let (server, mut client) = start(in_memory()).await;
    let writes = (0..50).map(|n| set(&format!("c/{n}"), &[("n", integer(n))]));
    commit(&mut client, writes.collect()).await;
    let directory = folder.join("e");
    exported(to(&server, directory.clone())).await.unwrap();
    let output = directory.join("all_namespaces/all_kinds/output-0");
    let whole = fs::read(&output).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&output, &bytes).unwrap();
        let complaint = imported(into(&server, directory.clone()))
            .await
            .unwrap_err();
        assert!(
            complaint.to_string().contains("/output-0 at byte "),
            "{complaint}"
        );
        fs::write(&output, &whole[..at]).unwrap();
        assert!(imported(into(&server, directory.clone())).await.is_err());
    }
    assert!(everything(&mut client, "other").await.is_empty());

    // Whole, but not to be stored.
    let reserved = Export {
        remote: Remote {
            database: "projects/p/databases/(default)".to_owned(),
            ..remote(&server, "(default)")
        },
        ..to(&server, folder.join("r"))
    };
    exported(reserved).await.unwrap();
    let path = folder.join("r/all_namespaces/all_kinds/output-0");
    let mut log = watchfire_exchange::log::LogWriter::new(Vec::new());
    let fields =
        watchfire_model::Fields::from([("__n__".to_owned(), watchfire_model::Value::Null)]);
    let record = watchfire_exchange::encode_entity(
        &watchfire_model::DatabaseName::new("p", "d").unwrap(),
        &watchfire_model::DocumentPath::parse("c/d").unwrap(),
        &fields,
    );
    log.append(&record.unwrap()).unwrap();
    fs::write(path, log.into_sink()).unwrap();
    let complaint = imported(into(&server, folder.join("r"))).await.unwrap_err();
    let complaint = complaint.to_string();
    assert!(
        complaint.contains("/output-0 at byte 0: document c/d: "),
        "{complaint}"
    );
    assert!(everything(&mut client, "other").await.is_empty());

    let complaint = exported(to(&server, directory)).await.unwrap_err();
    assert!(
        complaint.to_string().ends_with("/e exists already"),
        "{complaint}"
    );
    let nobody = to(&server, folder.join("gone"));
    server.stop().await.unwrap();
    let gone = exported(nobody).await;
    assert!(matches!(gone, Err(ExchangeError::Remote(_))));
    assert!(!folder.join("gone.incomplete").exists());
}
