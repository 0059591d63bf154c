//! The embedded engine on a disk that is full to the last byte, which happens when it fills up faster than it is looked at.
//!
//! The disk is a file system in memory in namespaces of its own, which every user may make where the system lets them; elsewhere the test fails and says so.

#![cfg(all(target_os = "linux", feature = "embedded"))]
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use watchfire_storage::embedded::Embedded;
use watchfire_storage::embedded::folder::Settings;
use watchfire_storage::{Applied, Batch, Error, Operation, Range, State, Store, Version};

const DISK_MIB: u32 = 64;

const VALUE_LEN: usize = 100_000;

/// Holds the file system for as long as it runs.
struct Disk(Child);

impl Disk {
    fn mount(mounted: &str) -> Self {
        let mut shell = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mount = format!("mount -t tmpfs -o size={DISK_MIB}m none {mounted} && echo done\n");
        let commands = shell.stdin.as_mut().unwrap();
        commands.write_all(mount.as_bytes()).unwrap();
        let mut answer = String::new();
        let said = shell.stdout.as_mut().unwrap();
        BufReader::new(said).read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n", "this test needs user namespaces");
        Self(shell)
    }

    fn path(&self, mounted: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{mounted}", self.0.id()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn batch(version: u64) -> Batch {
    // Nothing that could be made shorter.
    let mut chance = version;
    let value: Vec<u8> = (0..VALUE_LEN)
        .map(|_| {
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            chance.to_be_bytes()[0]
        })
        .collect();
    let put = |half: u8| Operation::Put {
        key: Bytes::from([&version.to_be_bytes()[..], &[half]].concat()),
        value: Bytes::from(value.clone()),
    };
    Batch {
        version: Version(version),
        operations: vec![put(0), put(1)],
    }
}

/// Whole batches, one for each version up to the head.
async fn check(store: &Arc<dyn Store>, head: u64) {
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.version(), Version(head));
    let counted = snapshot.count(&Range::prefix(b""), usize::MAX).await;
    assert_eq!(counted.unwrap().keys as u64, head * 2);
    for version in 1..=head {
        for half in [0, 1] {
            let key = [&version.to_be_bytes()[..], &[half]].concat();
            let value = snapshot.get(&key).await.unwrap();
            assert_eq!(value.unwrap().len(), VALUE_LEN);
        }
    }
}

async fn until(embedded: &Embedded, wanted: &str) {
    let mut condition = embedded.condition();
    let found = condition.wait_for(|condition| condition.state.name() == wanted);
    tokio::time::timeout(Duration::from_secs(60), found)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_full_to_the_last_byte_is_outlived_again_and_again() {
    let directory = tempfile::tempdir().unwrap();
    let mounted = directory.path().to_str().unwrap();
    let disk = Disk::mount(mounted);
    let (data, filler) = (
        disk.path(mounted).join("data"),
        disk.path(mounted).join("filler"),
    );
    // Refuses nothing by itself.
    let settings = Settings {
        free_bytes_min: 0,
        write_buffer_bytes: 4 << 20,
        disk_check_interval: Duration::from_millis(50),
        ..Settings::default()
    };
    let embedded = Embedded::open_with(&data, &settings).unwrap();
    let store = embedded.database("one").unwrap();
    let mut head = 0;
    for round in 0..3 {
        for _ in 0..20 {
            let applied = store.apply(Version(head), batch(head + 1)).await;
            assert_eq!(applied.unwrap(), Applied::Applied);
            head += 1;
        }
        let mut file = std::fs::File::create(&filler).unwrap();
        while file.write(&[0; 65_536]).is_ok_and(|written| written > 0) {}
        // What the engine had set aside for its log is used up first.
        let error = loop {
            match store.apply(Version(head), batch(head + 1)).await {
                Ok(Applied::Applied) => head += 1,
                Ok(Applied::HeadMoved(moved)) => panic!("nobody else moved it to {moved:?}"),
                Err(error) => break error,
            }
        };
        let why = ["No space left", "the file LOG"];
        assert!(
            matches!(&error, Error::Poisoned(reason) if why.iter().any(|why| reason.contains(why))),
            "{error}"
        );
        println!("round {round}: {error} after version {head}");
        check(&store, head).await;
        let condition = embedded.condition().borrow().clone();
        assert!(
            matches!(condition.state, State::Refusing(_)),
            "{condition:?}"
        );
        std::fs::remove_file(&filler).unwrap();
        // Open files keep their space.
        drop(file);
        until(&embedded, "up").await;
        // The batch that failed is there whole, or not at all.
        let found = store.snapshot().await.unwrap().version().0;
        assert!(found == head || found == head + 1, "{found} after {head}");
        head = found;
        check(&store, head).await;
    }
    // Without a word of goodbye: what a kill would leave.
    let copied = directory.path().join("copied");
    std::fs::create_dir(&copied).unwrap();
    for entry in std::fs::read_dir(&data).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copied.join(entry.file_name())).unwrap();
    }
    let killed = Embedded::open(&copied).unwrap();
    check(&killed.database("one").unwrap(), head).await;
    killed.close().await.unwrap();
    drop(store);
    embedded.close().await.unwrap();
}
