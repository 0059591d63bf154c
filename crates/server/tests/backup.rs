//! `watchfire backup` and `watchfire restore`: one moment out of many commits, what a restored server remembers, and
//! every refusal, after which nothing is left.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use support::{Client, DATABASE, ROOT, commit, from, ids, integer, responses, run_query, set};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};
use watchfire_model::Timestamp;
use watchfire_server::assemble::Server;
use watchfire_server::backup::manifest::{MANIFEST_FILE, Manifest};
use watchfire_server::backup::take::take;
use watchfire_server::backup::{BackupError, restore};
use watchfire_server::client::backup as command;
use watchfire_server::config::{Asked, Backup, Restore, Serve};
use watchfire_storage::embedded::Embedded;
use watchfire_wire::pb;
use watchfire_wire::pb::listen_response::ResponseType;
use watchfire_wire::pb::target_change::TargetChangeType;
use watchfire_wire::pb::watchfire::BackupRequest;
use watchfire_wire::pb::watchfire::admin_client::AdminClient;

/// A new folder of this test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("backup-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn on(data: PathBuf) -> Serve {
    Serve {
        data,
        memory: false,
        ..support::in_memory()
    }
}

async fn start(data: PathBuf) -> (Server, Client) {
    support::start(on(data)).await
}

async fn back_up(server: &Server, directory: PathBuf) -> Result<String, String> {
    let mut out = Vec::new();
    let settings = Backup {
        directory,
        asked: Asked {
            server: server.address().to_string(),
            tls_ca: None,
        },
    };
    let done = command::run(settings, &mut out).await;
    done.map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

async fn restored(directory: &Path, data: &Path) -> Result<String, BackupError> {
    let mut out = Vec::new();
    let settings = Restore {
        directory: directory.to_owned(),
        data: data.to_owned(),
    };
    restore::run(settings, now(), 7, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

fn now() -> Timestamp {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    Timestamp::from_micros(now.as_micros().try_into().unwrap()).unwrap()
}

/// The documents of collection `c`, by name, at a time or now.
async fn all(
    client: &mut Client,
    read_time: Option<prost_types::Timestamp>,
) -> BTreeMap<String, String> {
    let mut request = run_query(from("c"));
    request.consistency_selector =
        read_time.map(pb::run_query_request::ConsistencySelector::ReadTime);
    let answers = responses(client, request).await.unwrap();
    let documents = answers.into_iter().filter_map(|answer| answer.document);
    documents
        .map(|document| (document.name.clone(), format!("{document:?}")))
        .collect()
}

fn micros(time: &prost_types::Timestamp) -> u64 {
    u64::try_from(time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000).unwrap()
}

fn time(micros: u64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(micros / 1_000_000).unwrap(),
        nanos: i32::try_from(micros % 1_000_000 * 1_000).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_the_state_at_one_version_and_commits_go_on_meanwhile() {
    let folder = Folder::new("load");
    let (server, mut client) = start(folder.join("data")).await;
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (mut client, stop, count) = (client.clone(), stop.clone(), count.clone());
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for n in 0.. {
                    let both = ["a", "b"]
                        .map(|side| set(&format!("c/{writer}-{side}-{n}"), &[("n", integer(n))]));
                    let response = commit(&mut client, both.into()).await;
                    acknowledged.push((n, micros(&response.commit_time.unwrap())));
                    count.fetch_add(1, Ordering::SeqCst);
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                }
                acknowledged
            })
        })
        .collect();
    let more = async |wanted: usize| {
        let wanted = count.load(Ordering::SeqCst) + wanted;
        while count.load(Ordering::SeqCst) < wanted {
            tokio::task::yield_now().await;
        }
    };
    more(40).await;
    let before = now();
    let text = back_up(&server, folder.join("backup")).await.unwrap();
    more(40).await;
    stop.store(true, Ordering::SeqCst);

    let manifest = Manifest::read(&folder.join("backup").join(MANIFEST_FILE)).unwrap();
    let version = manifest.databases[DATABASE];
    assert!(
        text.ends_with(&format!("  {DATABASE} at version {version}\n")),
        "{text}"
    );
    let mut newest = 0;
    let mut expected = 0;
    for writer in writers {
        for (_, at) in writer.await.unwrap() {
            newest = newest.max(at);
            expected += if at <= version { 2 } else { 0 };
            // What was acknowledged before the backup was asked for is in it.
            assert!(at <= version || at > u64::try_from(before.micros()).unwrap());
        }
    }
    let then = all(&mut client, Some(time(version))).await;
    assert_eq!(then.len(), expected);
    server.stop().await.unwrap();

    let text = restored(&folder.join("backup"), &folder.join("restored"))
        .await
        .unwrap();
    assert!(text.starts_with("Restored "), "{text}");
    let (server, mut client) = start(folder.join("restored")).await;
    assert_eq!(all(&mut client, None).await, then);
    let response = commit(&mut client, vec![set("c/new", &[])]).await;
    assert!(micros(&response.commit_time.unwrap()) > newest);
    server.stop().await.unwrap();
    assert_eq!(folder.names(), ["backup", "data", "restored"]);
}

async fn listen(
    client: &mut Client,
    resume: Vec<u8>,
) -> (
    tokio::sync::mpsc::Sender<pb::ListenRequest>,
    tonic::Streaming<pb::ListenResponse>,
) {
    let target = pb::Target {
        target_id: 2,
        target_type: Some(pb::target::TargetType::Query(pb::target::QueryTarget {
            parent: ROOT.to_owned(),
            query_type: Some(pb::target::query_target::QueryType::StructuredQuery(from(
                "c",
            ))),
        })),
        resume_type: (!resume.is_empty()).then_some(pb::target::ResumeType::ResumeToken(resume)),
        ..pb::Target::default()
    };
    let request = pb::ListenRequest {
        database: DATABASE.to_owned(),
        target_change: Some(pb::listen_request::TargetChange::AddTarget(target)),
        ..pb::ListenRequest::default()
    };
    let (requests, receiver) = tokio::sync::mpsc::channel(8);
    requests.send(request).await.unwrap();
    let answers = client.listen(ReceiverStream::new(receiver)).await.unwrap();
    (requests, answers.into_inner())
}

/// Documents that were told, whether the target was reset, and the token of the first snapshot.
async fn until_snapshot(
    answers: &mut tonic::Streaming<pb::ListenResponse>,
) -> (Vec<String>, bool, Vec<u8>) {
    let (mut told, mut reset) = (Vec::new(), false);
    loop {
        let answer = answers.message().await.unwrap().unwrap();
        match answer.response_type.unwrap() {
            ResponseType::DocumentChange(change) => {
                let name = change.document.unwrap().name;
                told.push(name.rsplit('/').next().unwrap().to_owned());
            }
            ResponseType::TargetChange(change) => {
                reset |= change.target_change_type() == TargetChangeType::Reset;
                if change.target_ids.is_empty() && change.read_time.is_some() {
                    return (told, reset, change.resume_token);
                }
            }
            ResponseType::DocumentDelete(_)
            | ResponseType::DocumentRemove(_)
            | ResponseType::Filter(_) => {}
        }
    }
}

#[tokio::test]
async fn who_has_seen_what_a_restore_takes_away_is_told_everything_again() {
    let folder = Folder::new("seen");
    let (server, mut client) = start(folder.join("data")).await;
    commit(&mut client, vec![set("c/kept", &[("n", integer(1))])]).await;
    back_up(&server, folder.join("backup")).await.unwrap();
    let lost = vec![
        set("c/kept", &[("n", integer(2))]),
        set("c/lost", &[("n", integer(3))]),
    ];
    let lost = commit(&mut client, lost).await.commit_time.unwrap();
    let (_requests, mut answers) = listen(&mut client, Vec::new()).await;
    let (told, _, token) = until_snapshot(&mut answers).await;
    assert_eq!(told.len(), 2);
    assert!(!token.is_empty());
    server.stop().await.unwrap();

    restored(&folder.join("backup"), &folder.join("restored"))
        .await
        .unwrap();
    let (server, mut client) = start(folder.join("restored")).await;
    let (_requests, mut answers) = listen(&mut client, token).await;
    let (told, reset, _) = until_snapshot(&mut answers).await;
    assert_eq!((told, reset), (vec!["kept".to_owned()], true));

    let mut past = run_query(from("c"));
    past.consistency_selector = Some(pb::run_query_request::ConsistencySelector::ReadTime(lost));
    let refused = responses(&mut client, past).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_refuses_what_it_cannot_copy_and_where_it_cannot_write() {
    let folder = Folder::new("refused");
    let (server, mut client) = start(folder.join("data")).await;
    let complaint = back_up(&server, folder.join("backup")).await.unwrap_err();
    assert!(complaint.contains("has no database yet"), "{complaint}");
    commit(&mut client, vec![set("c/d", &[])]).await;

    fs::create_dir(folder.join("there")).unwrap();
    let complaint = back_up(&server, folder.join("there")).await.unwrap_err();
    assert!(complaint.ends_with("/there exists already"), "{complaint}");
    let complaint = back_up(&server, folder.join("no/where")).await.unwrap_err();
    assert!(
        complaint.ends_with("/no is no folder; make it first"),
        "{complaint}"
    );
    fs::create_dir(folder.join("x.incomplete")).unwrap();
    let complaint = back_up(&server, folder.join("x")).await.unwrap_err();
    assert!(
        complaint.ends_with(
            "/x.incomplete exists: the same is being done just now, or did not end; then remove it"
        ),
        "{complaint}"
    );
    // A name that the store may want to give to a file of its own.
    let complaint = back_up(&server, folder.join("data/000099.sst")).await;
    let complaint = complaint.unwrap_err();
    assert!(
        complaint.contains("/data/000099.sst lies in the data folder "),
        "{complaint}"
    );
    assert!(!folder.join("data/000099.sst.incomplete").exists());
    assert_eq!(folder.names(), ["data", "there", "x.incomplete"]);
    let mut admin = AdminClient::connect(format!("http://{}", server.address()))
        .await
        .unwrap();
    let relative = BackupRequest {
        directory: "backup".to_owned(),
    };
    let refused = admin.backup(Request::new(relative)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(
        refused.message(),
        "backup is no absolute path on the server's disk"
    );
    let impossible = BackupRequest {
        directory: folder.join(&"x".repeat(300)).display().to_string(),
    };
    let refused = admin.backup(Request::new(impossible)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(b"x\xff").to_owned();
        let complaint = back_up(&server, folder.0.join(name)).await.unwrap_err();
        assert!(complaint.ends_with("is no text in UTF-8"), "{complaint}");
    }
    assert_eq!(folder.names(), ["data", "there", "x.incomplete"]);
    server.stop().await.unwrap();

    let (server, _) = support::start(support::in_memory()).await;
    let complaint = back_up(&server, folder.join("backup")).await.unwrap_err();
    assert!(
        complaint.contains("the server keeps its data in memory"),
        "{complaint}"
    );
    server.stop().await.unwrap();
    assert_eq!(folder.names(), ["data", "there", "x.incomplete"]);
}

/// A backup of one document.
async fn backup(folder: &Folder) -> PathBuf {
    let (server, mut client) = start(folder.join("data")).await;
    commit(&mut client, vec![set("c/d", &[("n", integer(1))])]).await;
    let directory = folder.join("backup");
    back_up(&server, directory.clone()).await.unwrap();
    server.stop().await.unwrap();
    directory
}

#[tokio::test]
async fn what_is_given_up_leaves_nothing() {
    let folder = Folder::new("given-up");
    backup(&folder).await;
    let embedded = Embedded::open(&folder.join("data")).unwrap();
    // Not at once: after some pieces.
    let asked = AtomicUsize::new(0);
    let stopped = move || asked.fetch_add(1, Ordering::SeqCst) == 4;
    let second = folder.join("second");
    let given_up = take(embedded.clone(), second, now(), stopped).await;
    assert!(matches!(given_up, Err(BackupError::Stopped)));
    assert_eq!(folder.names(), ["backup", "data"]);
    embedded.close().await.unwrap();
    let third = folder.join("third");
    let closed = take(embedded, third, now(), || false).await;
    assert!(matches!(closed, Err(BackupError::Store(_))));
    assert_eq!(folder.names(), ["backup", "data"]);
}

#[tokio::test]
async fn a_backup_with_any_change_is_refused_by_the_name_of_the_file() {
    let folder = Folder::new("damage");
    let directory = backup(&folder).await;
    let target = folder.join("target");
    let manifest = Manifest::read(&directory.join(MANIFEST_FILE)).unwrap();
    assert!(manifest.files.len() > 3);
    let refused = async || {
        let error = restored(&directory, &target).await.unwrap_err();
        assert_eq!(folder.names(), ["backup", "data"]);
        error.to_string()
    };
    for (name, sum) in &manifest.files {
        let path = directory.join("data").join(name);
        let whole = fs::read(&path).unwrap();
        // The file may be a link to one of the server's: it is replaced and not written.
        let replace = |bytes: &[u8]| {
            let _ = fs::remove_file(&path);
            fs::write(&path, bytes).unwrap();
        };
        fs::remove_file(&path).unwrap();
        let complaint = refused().await;
        let expected = format!("/{name} is missing, expected a file of {} bytes", sum.bytes);
        assert!(complaint.ends_with(&expected), "{complaint}");
        replace(&[whole.as_slice(), b"x"].concat());
        let complaint = refused().await;
        let expected = format!("has {} bytes, expected {}", sum.bytes + 1, sum.bytes);
        assert!(complaint.ends_with(&expected), "{complaint}");
        if let Some(last) = whole.len().checked_sub(1) {
            let mut changed = whole.clone();
            changed[last] ^= 1;
            replace(&changed);
            let complaint = refused().await;
            assert!(complaint.contains(&format!("/{name} has ")), "{complaint}");
            assert!(
                complaint.contains(&format!("expected {sum}")),
                "{complaint}"
            );
        }
        replace(&whole);
    }
    let surplus = directory.join("data").join("999999.sst");
    fs::write(&surplus, b"").unwrap();
    let complaint = refused().await;
    assert!(
        complaint.ends_with("999999.sst is not in manifest.json"),
        "{complaint}"
    );
    fs::remove_file(surplus).unwrap();

    let path = directory.join(MANIFEST_FILE);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"format\": 1", "\"format\": 9")).unwrap();
    let complaint = refused().await;
    assert!(
        complaint.ends_with("has format 9, this program knows formats up to 1"),
        "{complaint}"
    );
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    let complaint = refused().await;
    assert!(complaint.contains("was cut off"), "{complaint}");
    fs::remove_file(&path).unwrap();
    let complaint = refused().await;
    assert!(complaint.contains("has no manifest.json"), "{complaint}");
    fs::write(&path, text).unwrap();
    restored(&directory, &target).await.unwrap();
}

#[tokio::test]
async fn a_restore_takes_an_empty_place_only() {
    let folder = Folder::new("place");
    let directory = backup(&folder).await;
    let refused = async |target: &Path| {
        let error = restored(&directory, target).await.unwrap_err();
        error.to_string()
    };
    let data = folder.join("data");
    let complaint = refused(&data).await;
    assert!(
        complaint.ends_with("/data has data already; name a new folder"),
        "{complaint}"
    );
    let (server, _client) = start(data.clone()).await;
    let complaint = refused(&data).await;
    assert!(
        complaint.ends_with("/data is held by a running server; name a new folder"),
        "{complaint}"
    );
    server.stop().await.unwrap();
    let other = folder.join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("notes.txt"), b"mine").unwrap();
    let complaint = refused(&other).await;
    assert!(
        complaint.ends_with("/other is not empty; name a new folder"),
        "{complaint}"
    );
    let complaint = refused(&folder.join("no/where")).await;
    assert!(
        complaint.ends_with("/no is no folder; make it first"),
        "{complaint}"
    );

    let complaint = refused(&data.join("within")).await;
    assert!(
        complaint.contains("/data/within lies in the data folder "),
        "{complaint}"
    );

    // An empty one is as good as none, and a backup can be restored many times.
    fs::remove_file(other.join("notes.txt")).unwrap();
    restored(&directory, &other).await.unwrap();
    restored(&directory, &folder.join("again")).await.unwrap();
    for target in ["other", "again"] {
        let (server, mut client) = start(folder.join(target)).await;
        let answers = responses(&mut client, run_query(from("c"))).await.unwrap();
        assert_eq!(ids(&answers), ["d"]);
        server.stop().await.unwrap();
    }
    assert_eq!(folder.names(), ["again", "backup", "data", "other"]);
}
