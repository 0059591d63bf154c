//! `watchfire check` on folders and running servers: sound, damaged, repaired, held, and not there.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use watchfire_engine::{Engine, Start};
use watchfire_model::{
    Clock, DatabaseName, DocumentPath, Fields, Operation as WriteOperation, Precondition,
    Timestamp, Value, Write,
};
use watchfire_server::assemble::Server;
use watchfire_server::check::{CheckError, run};
use watchfire_server::config::{Check, Serve};
use watchfire_storage::embedded::Embedded;
use watchfire_storage::{Applied, Batch, Direction, Operation, Range, Version};

/// A new folder of this test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("check-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000).unwrap()
    }
}

const NAMES: [&str; 2] = [
    "projects/p/databases/(default)",
    "projects/p/databases/other",
];

/// Two databases with three documents each.
async fn fill(folder: &Path) {
    let embedded = Embedded::open(folder).unwrap();
    for name in NAMES {
        let engine = Engine::open(
            DatabaseName::parse(name).unwrap(),
            embedded.database(name).unwrap(),
            Arc::new(Still),
        )
        .await
        .unwrap();
        let writes = ["c/a", "c/b", "c/a/d/x"].map(|path| Write {
            path: DocumentPath::parse(path).unwrap(),
            operation: WriteOperation::Set(Fields::from([(
                "n".to_owned(),
                Value::String(path.to_owned()),
            )])),
            precondition: Precondition::None,
            transforms: Vec::new(),
        });
        let staged = engine.stage(writes.into(), Start::Now).await.unwrap();
        engine.commit(staged).await.unwrap();
        engine.close().await.unwrap();
    }
    embedded.close().await.unwrap();
}

/// Takes one index entry from the second database and puts rubbish into it.
async fn damage(folder: &Path) {
    let embedded = Embedded::open(folder).unwrap();
    let store = embedded.database(NAMES[1]).unwrap();
    let snapshot = store.snapshot().await.unwrap();
    let page = snapshot
        .page(&Range::prefix(&[2]), Direction::Forward, 1)
        .await
        .unwrap();
    let head = snapshot.version();
    drop(snapshot);
    let batch = Batch {
        version: Version(head.0 + 1),
        operations: vec![
            Operation::Delete {
                key: page.entries.first().unwrap().0.clone(),
            },
            Operation::Put {
                key: vec![2, 3, 4].into(),
                value: Vec::new().into(),
            },
        ],
    };
    assert_eq!(store.apply(head, batch).await.unwrap(), Applied::Applied);
    drop(store);
    embedded.close().await.unwrap();
}

async fn checked(folder: &Path, repair: bool) -> (Result<(), CheckError>, String) {
    let mut out = Vec::new();
    let data = folder.to_owned();
    let check = Check {
        data,
        repair,
        server: None,
        tls_ca: None,
        database: None,
    };
    let result = run(check, &mut out).await;
    (result, String::from_utf8(out).unwrap())
}

/// Of the second database of a running server.
async fn asked(server: &str, repair: bool) -> (Result<(), CheckError>, String) {
    let mut out = Vec::new();
    let check = Check {
        data: PathBuf::from("/nowhere"),
        repair,
        server: Some(server.to_owned()),
        tls_ca: None,
        database: Some(DatabaseName::parse(NAMES[1]).unwrap()),
    };
    let result = run(check, &mut out).await;
    (result, String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn damage_is_reported_and_repaired() {
    let folder = Folder::new("damage");
    fill(folder.path()).await;
    let sound = "projects/p/databases/(default): 3 documents, 6 index entries: sound\n\
                 projects/p/databases/other: 3 documents, 6 index entries: sound\n";
    let (result, text) = checked(folder.path(), false).await;
    result.unwrap();
    assert_eq!(text, sound);

    damage(folder.path()).await;
    for _ in 0..2 {
        let (result, text) = checked(folder.path(), false).await;
        let error = result.unwrap_err().to_string();
        assert!(
            error.starts_with("1 of 2 databases damaged; --repair"),
            "{error}"
        );
        let faults = "other: 3 documents, 6 index entries: 1 entries missing, 0 wrong, 1 surplus, 0 documents unreadable\n";
        assert!(text.contains(faults), "{text}");
        assert!(text.contains("  missing entry of c/a"), "{text}");
        assert!(text.contains("  surplus entry in"), "{text}");
    }

    let (result, text) = checked(folder.path(), true).await;
    result.unwrap();
    assert!(
        text.contains("  repaired: 1 entries written, 1 deleted\n"),
        "{text}"
    );
    assert!(
        text.ends_with("other: 3 documents, 6 index entries: sound\n"),
        "{text}"
    );
    let (result, text) = checked(folder.path(), false).await;
    result.unwrap();
    assert_eq!(text, sound);
}

#[tokio::test]
async fn a_folder_in_use_and_one_that_is_not_there_are_named() {
    let folder = Folder::new("held");
    let nowhere = folder.path().join("nowhere");
    let (result, _) = checked(&nowhere, true).await;
    assert!(matches!(result, Err(CheckError::NoData(_))));
    assert!(!nowhere.exists());

    let embedded = Embedded::open(folder.path()).unwrap();
    let (result, _) = checked(folder.path(), false).await;
    let error = result.unwrap_err().to_string();
    assert!(
        error.ends_with("; stop it, or check a copy of the folder"),
        "{error}"
    );
    embedded.close().await.unwrap();
}

#[tokio::test]
async fn a_running_server_says_the_same_of_its_own_data() {
    let folder = Folder::new("running");
    fill(folder.path()).await;
    damage(folder.path()).await;
    let (_, offline) = checked(folder.path(), false).await;
    let (_, offline) = offline.split_once(": sound\n").unwrap();

    let server = Server::start(Serve {
        data: folder.path().to_owned(),
        memory: false,
        ..Serve::in_memory("127.0.0.1:0".parse().unwrap())
    })
    .await
    .unwrap();
    let address = server.address().to_string();
    for _ in 0..2 {
        let (result, text) = asked(&address, false).await;
        let error = result.unwrap_err().to_string();
        assert!(
            error.starts_with("1 of 1 databases damaged; --repair"),
            "{error}"
        );
        assert_eq!(text, offline);
    }
    let sound = "projects/p/databases/other: 3 documents, 6 index entries: sound\n";
    let (result, text) = asked(&address, true).await;
    result.unwrap();
    let repaired = format!("{offline}  repaired: 1 entries written, 1 deleted\n{sound}");
    assert_eq!(text, repaired);
    let (result, text) = asked(&address, true).await;
    result.unwrap();
    assert_eq!(text, sound);
    server.stop().await.unwrap();

    let (result, text) = asked(&address, false).await;
    assert!(matches!(result, Err(CheckError::Remote(_))));
    assert_eq!(text, "");
}
