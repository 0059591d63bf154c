//! The embedded engine passes the contract and keeps its promises about the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::{Direction, Operation, Range};

async fn open() -> ((TempDir, Arc<Embedded>), Arc<dyn Store>) {
    let directory = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(directory.path()).unwrap();
    // A neighbour on either side, so that a scan that goes too far finds something.
    for (name, version) in [("before", 1), ("after", 2)] {
        let neighbour = embedded.database(name).unwrap();
        put(&neighbour, 0, version, b"neighbour").await;
        if name == "before" {
            embedded.database("subject").unwrap();
        }
    }
    let store = embedded.database("subject").unwrap();
    ((directory, embedded), store)
}

crate::store_contract!(open);

fn batch(version: u64, key: &[u8], value: &[u8]) -> Batch {
    let put = Operation::Put {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
    };
    Batch {
        version: Version(version),
        operations: vec![put],
    }
}

async fn put(store: &Arc<dyn Store>, expected: u64, version: u64, key: &[u8]) {
    let batch = batch(version, key, &version.to_be_bytes());
    assert_eq!(
        store.apply(Version(expected), batch).await.unwrap(),
        Applied::Applied
    );
}

/// Everything in the store, and its head.
async fn contents(store: &Arc<dyn Store>) -> (u64, Vec<(Bytes, Bytes)>) {
    let snapshot = store.snapshot().await.unwrap();
    let page = snapshot
        .page(&Range::prefix(b""), Direction::Forward, usize::MAX)
        .await
        .unwrap();
    assert!(!page.more);
    (snapshot.version().0, page.entries)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The largest file with this ending.
fn file(directory: &Path, ending: &str) -> PathBuf {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap()
}

fn damage(path: &Path, position: impl Fn(&[u8]) -> usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let position = position(&bytes);
    bytes[position] ^= 0x55;
    std::fs::write(path, bytes).unwrap();
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[track_caller]
fn refused(directory: &Path) -> Error {
    match Embedded::open(directory) {
        Ok(_) => panic!("the folder opened"),
        Err(error) => error,
    }
}

fn open_folder(directory: &Path) -> Folder {
    let lock = FolderLock::take(directory).unwrap();
    Folder::open(lock, &Settings::default(), Arc::new(Report::new())).unwrap()
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for round in 0..3u64 {
        let embedded = Embedded::open(directory.path()).unwrap();
        let (one, two) = (
            embedded.database("one").unwrap(),
            embedded.database("two").unwrap(),
        );
        assert_eq!(contents(&one).await, (round, expected.clone()));
        assert_eq!(contents(&two).await.0, round * 10);
        put(&one, round, round + 1, &[round as u8]).await;
        put(&two, round * 10, round * 10 + 10, b"same").await;
        expected.push((
            Bytes::from(vec![round as u8]),
            Bytes::copy_from_slice(&(round + 1).to_be_bytes()),
        ));
        assert_eq!(embedded.names().unwrap(), ["one", "two"]);
        embedded.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_closed_folder_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(directory.path()).unwrap();
    let store = embedded.database("one").unwrap();
    put(&store, 0, 1, b"a").await;
    let snapshot = store.snapshot().await.unwrap();
    embedded.close().await.unwrap();
    embedded.close().await.unwrap();
    assert!(matches!(store.snapshot().await, Err(Error::Closed)));
    assert!(matches!(
        store.apply(Version(1), batch(2, b"a", b"")).await,
        Err(Error::Closed)
    ));
    assert!(matches!(embedded.database("one"), Err(Error::Closed)));
    assert!(
        matches!(refused(directory.path()), Error::Locked(_)),
        "the snapshot holds the folder"
    );
    assert!(snapshot.get(b"a").await.unwrap().is_some());
    drop(snapshot);
    Embedded::open(directory.path())
        .unwrap()
        .close()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_second_open_names_the_holder() {
    let directory = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(directory.path()).unwrap();
    let Error::Locked(text) = refused(directory.path()) else {
        panic!("not locked")
    };
    assert!(
        text.contains(&format!("held by process {}", std::process::id())),
        "{text}"
    );
    assert!(text.contains(directory.path().to_str().unwrap()), "{text}");
    // The refused one must not have harmed the holder.
    put(&embedded.database("one").unwrap(), 0, 1, b"a").await;
    embedded.close().await.unwrap();
    Embedded::open(directory.path())
        .unwrap()
        .close()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_copy_of_the_live_folder_has_what_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live");
    let embedded = Embedded::open(&live).unwrap();
    let store = embedded.database("one").unwrap();
    for version in 1..=50u64 {
        put(&store, version - 1, version, &version.to_be_bytes()).await;
        if version % 10 == 0 {
            let copied = directory.path().join(format!("copy-{version}"));
            copy(&live, &copied);
            let killed = Embedded::open(&copied).unwrap();
            let recovered = killed.database("one").unwrap();
            assert_eq!(contents(&recovered).await, contents(&store).await);
            put(&recovered, version, version + 1, b"goes on").await;
            killed.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_unfinished_end_of_the_log_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live");
    let embedded = Embedded::open(&live).unwrap();
    let store = embedded.database("one").unwrap();
    put(&store, 0, 1, b"a").await;
    let acknowledged = std::fs::metadata(file(&live, ".log")).unwrap().len();
    let large = vec![7u8; 100_000];
    store
        .apply(Version(1), batch(2, b"large", &large))
        .await
        .unwrap();
    let whole = std::fs::read(file(&live, ".log")).unwrap();
    // The second batch as it would lie there at the moment of a crash, cut here and there.
    for len in [
        acknowledged + 1,
        acknowledged + 6,
        acknowledged + 500,
        70_000,
        whole.len() as u64 - 1,
    ] {
        let copied = directory.path().join(format!("cut-{len}"));
        copy(&live, &copied);
        std::fs::write(
            file(&copied, ".log"),
            &whole[..usize::try_from(len).unwrap()],
        )
        .unwrap();
        let killed = Embedded::open(&copied).unwrap();
        let recovered = killed.database("one").unwrap();
        assert_eq!(contents(&recovered).await.0, 1);
        // And again right after, as if killed twice.
        put(&recovered, 1, 2, b"b").await;
        let again = directory.path().join(format!("again-{len}"));
        copy(&copied, &again);
        let killed_again = Embedded::open(&again).unwrap();
        assert_eq!(contents(&killed_again.database("one").unwrap()).await.0, 2);
    }
}

#[tokio::test]
async fn a_damaged_log_is_reported_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live");
    let embedded = Embedded::open(&live).unwrap();
    let store = embedded.database("one").unwrap();
    for version in 1..=20u64 {
        put(&store, version - 1, version, b"the same key").await;
    }
    // All over the middle, so that checksums, lengths, kinds and contents are hit, and in the last record.
    let len = std::fs::metadata(file(&live, ".log")).unwrap().len() as usize;
    for position in (len / 2..len / 2 + 80).step_by(3).chain([len - 3]) {
        let copied = directory.path().join(format!("damaged-{position}"));
        copy(&live, &copied);
        let log = file(&copied, ".log");
        damage(&log, |_| position);
        let Error::Corrupt(text) = refused(&copied) else {
            panic!("not corrupt at {position}")
        };
        assert!(text.contains(name(&log)), "{text}");
    }
}

/// Why the logs are read before the engine opens them: when this fails, `wal` may go.
#[tokio::test]
async fn the_engine_alone_drops_what_follows_a_damaged_length() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live");
    let embedded = Embedded::open(&live).unwrap();
    let store = embedded.database("one").unwrap();
    put(&store, 0, 1, b"a").await;
    let border = std::fs::metadata(file(&live, ".log")).unwrap().len();
    put(&store, 1, 2, b"a").await;
    put(&store, 2, 3, b"a").await;
    let copied = directory.path().join("copied");
    copy(&live, &copied);
    // The upper byte of the second record's length.
    damage(&file(&copied, ".log"), |_| {
        usize::try_from(border).unwrap() + 5
    });
    let alone = directory.path().join("alone");
    copy(&copied, &alone);
    let db = rocksdb::DB::open(&folder::options(&Settings::default()), &alone).unwrap();
    assert_eq!(
        folder::decode_head(db.get(folder::head_key(1)).unwrap()).unwrap(),
        Version(1)
    );
    assert!(
        matches!(refused(&copied), Error::Corrupt(text) if text.contains(&format!("damaged at byte {border}")))
    );
}

#[tokio::test]
async fn a_damaged_table_is_reported_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(directory.path()).unwrap();
    let store = embedded.database("one").unwrap();
    let operations = (0..20_000u32)
        .map(|number| {
            let key = Bytes::copy_from_slice(&number.to_be_bytes());
            Operation::Put {
                value: Bytes::from(format!("value {}", number.wrapping_mul(2_654_435_761))),
                key,
            }
        })
        .collect();
    store
        .apply(
            Version(0),
            Batch {
                version: Version(1),
                operations,
            },
        )
        .await
        .unwrap();
    embedded.close().await.unwrap();
    let table = file(directory.path(), ".sst");
    damage(&table, |bytes| bytes.len() / 2);

    let read_all = async {
        let embedded = Embedded::open(directory.path())?;
        let snapshot = embedded.database("one")?.snapshot().await?;
        for direction in [Direction::Forward, Direction::Backward] {
            let page = snapshot
                .page(&Range::prefix(b""), direction, usize::MAX)
                .await;
            assert!(page.is_err(), "a damaged table gave a page");
        }
        snapshot
            .page(&Range::prefix(b""), Direction::Forward, usize::MAX)
            .await
    };
    let Err(Error::Corrupt(text)) = read_all.await else {
        panic!("not corrupt")
    };
    assert!(text.contains(name(&table)), "{text}");
}

#[tokio::test]
async fn missing_files_are_reported_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(directory.path()).unwrap();
    put(&embedded.database("one").unwrap(), 0, 1, b"a").await;
    embedded.close().await.unwrap();
    for ending in [".sst", "CURRENT"] {
        let copied = directory.path().join(format!("without-{ending}"));
        std::fs::create_dir(&copied).unwrap();
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && !name(&path).ends_with(ending) {
                std::fs::copy(&path, copied.join(name(&path))).unwrap();
            }
        }
        let Error::Corrupt(text) = refused(&copied) else {
            panic!("not corrupt")
        };
        assert!(text.contains(ending), "{text}");
        assert!(
            !copied.join("CURRENT").exists() || ending == ".sst",
            "nothing new was made"
        );
    }
}

#[tokio::test]
async fn a_newer_format_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let folder = open_folder(directory.path());
    folder
        .db
        .put(b"\0\0\0\0FORMAT", 2u32.to_be_bytes())
        .unwrap();
    drop(folder);
    let error = refused(directory.path());
    assert!(
        error
            .to_string()
            .contains("has format 2, this program knows format 1"),
        "{error}"
    );
}

#[tokio::test]
async fn stored_keys_have_the_documented_layout() {
    let directory = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(directory.path()).unwrap();
    put(&embedded.database("first").unwrap(), 0, 5, b"a").await;
    put(&embedded.database("second").unwrap(), 0, 6, b"").await;
    embedded.close().await.unwrap();
    let folder = open_folder(directory.path());
    let stored: Vec<(Vec<u8>, Vec<u8>)> = folder
        .db
        .iterator(rocksdb::IteratorMode::Start)
        .map(|entry| entry.unwrap())
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    let expected: [(&[u8], &[u8]); 7] = [
        (b"\0\0\0\0FORMAT", b"\0\0\0\x01"),
        (b"\0\0\0\0head/\0\0\0\x01", b"\0\0\0\0\0\0\0\x05"),
        (b"\0\0\0\0head/\0\0\0\x02", b"\0\0\0\0\0\0\0\x06"),
        (b"\0\0\0\0name/first", b"\0\0\0\x01"),
        (b"\0\0\0\0name/second", b"\0\0\0\x02"),
        (b"\0\0\0\x01a", b"\0\0\0\0\0\0\0\x05"),
        (b"\0\0\0\x02", b"\0\0\0\0\0\0\0\x06"),
    ];
    assert_eq!(
        stored,
        expected.map(|(key, value)| (key.to_vec(), value.to_vec()))
    );
}

#[tokio::test]
async fn names_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(directory.path()).unwrap();
    for refused in [String::new(), "x".repeat(folder::DATABASE_NAME_LEN_MAX + 1)] {
        assert!(matches!(
            embedded.database(&refused),
            Err(Error::Unavailable(_))
        ));
    }
    let longest = "x".repeat(folder::DATABASE_NAME_LEN_MAX);
    let store = embedded.database(&longest).unwrap();
    assert!(Arc::ptr_eq(&store, &embedded.database(&longest).unwrap()));
}

#[tokio::test]
async fn a_checkpoint_is_a_folder_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(&directory.path().join("live")).unwrap();
    let store = embedded.database("one").unwrap();
    put(&store, 0, 1, b"a").await;
    let before = contents(&store).await;
    let backup = directory.path().join("backup");
    store.checkpoint(&backup).await.unwrap();
    assert!(
        matches!(store.checkpoint(&backup).await, Err(Error::Unavailable(text)) if text.contains("exists"))
    );
    put(&store, 1, 2, b"b").await;
    let copied = Embedded::open(&backup).unwrap();
    assert_eq!(contents(&copied.database("one").unwrap()).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_appliers_on_many_databases() {
    const DATABASES: usize = 4;
    const TASKS: usize = 8;
    const ADDITIONS: u64 = 10;
    let directory = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(directory.path()).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..DATABASES * TASKS {
        let store = embedded
            .database(&format!("database {}", number % DATABASES))
            .unwrap();
        tasks.spawn(async move {
            let mut head = 0;
            let mut added = 0;
            while added < ADDITIONS {
                let key = [number as u8, added as u8];
                match store
                    .apply(Version(head), batch(head + 1, &key, b""))
                    .await
                    .unwrap()
                {
                    Applied::Applied => {
                        head += 1;
                        added += 1;
                    }
                    Applied::HeadMoved(moved) => head = moved.0,
                }
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    embedded.close().await.unwrap();
    let embedded = Embedded::open(directory.path()).unwrap();
    for number in 0..DATABASES {
        let (head, entries) =
            contents(&embedded.database(&format!("database {number}")).unwrap()).await;
        assert_eq!(
            (head, entries.len()),
            (TASKS as u64 * ADDITIONS, TASKS * ADDITIONS as usize)
        );
    }
}
