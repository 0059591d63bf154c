//! The built server on disks that really fail: one that fills up under load, and files that may not grow.
//!
//! Everything acknowledged must be there afterwards, without a restart and after a kill; what was refused must be
//! there whole or not at all; reads go on meanwhile, and the health says so.
//!
//! The disk that fills up is a file system in memory, mounted in namespaces of its own, which every user may make
//! where the system lets them. Where it does not, the test fails and says so.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use support::{Client, DATABASE, ROOT, integer, set, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use watchfire_wire::pb;

mod support;

/// The longest that one test may take.
const TEST_MAX: Duration = Duration::from_secs(240);

const WRITERS: usize = 6;

/// Of each document.
const PAYLOAD_LEN: usize = 64 * 1024;

/// A file system of its own, in memory. Gone when it is dropped.
struct Disk {
    shell: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Where it is mounted, in its own namespace.
    mounted: PathBuf,
}

impl Disk {
    fn new(mounted: &Path, mib: u32) -> Self {
        let mut shell = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut disk = Self {
            commands: shell.stdin.take().unwrap(),
            answers: BufReader::new(shell.stdout.take().unwrap()),
            shell,
            mounted: mounted.to_owned(),
        };
        disk.run(&format!(
            "mount -t tmpfs -o size={mib}m none {}",
            mounted.display()
        ));
        disk
    }

    /// Runs the command in the namespace, where it must succeed.
    fn run(&mut self, command: &str) {
        writeln!(self.commands, "{command} && echo done || echo failed").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(
            answer, "done\n",
            "`{command}` did not work; this test needs user namespaces (see `man unshare`)"
        );
    }

    /// The folder on it, as seen from outside.
    fn folder(&self) -> PathBuf {
        let root = format!("/proc/{}/root", self.shell.id());
        PathBuf::from(format!("{root}{}/data", self.mounted.display()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// The built server as a process of its own. Killed when it is dropped.
struct Process {
    child: Child,
    address: String,
    _said: BufReader<ChildStdout>,
}

impl Process {
    fn start(data: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_watchfire"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        said.read_line(&mut greeting).unwrap();
        let address = greeting.trim_end().rsplit(' ').next().unwrap().to_owned();
        Self {
            child,
            address,
            _said: said,
        }
    }

    async fn client(&self) -> Client {
        Client::connect(format!("http://{}", self.address))
            .await
            .unwrap()
            .max_decoding_message_size(usize::MAX)
    }

    /// Files that it writes may not grow beyond this.
    fn limit_files(&self, bytes: &str) {
        let limited = Command::new("prlimit")
            .arg(format!("--pid={}", self.child.id()))
            .arg(format!("--fsize={bytes}:"))
            .status();
        assert!(limited.unwrap().success());
    }

    /// What a page of it says, headers and all.
    async fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        page
    }

    /// Returns when the service has this status.
    async fn until(&self, service: &str, wanted: ServingStatus) {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        let mut client = HealthClient::new(endpoint.connect().await.unwrap());
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let mut statuses = client.watch(request).await.unwrap().into_inner();
        while statuses.message().await.unwrap().unwrap().status() != wanted {}
    }

    async fn until_well(&self) {
        self.until("", ServingStatus::Serving).await;
        let page = self.page("/health").await;
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        assert!(page.ends_with(r#"{"status":"ok"}"#), "{page}");
    }

    /// Reads are answered and writes are not, and everybody who asks is told.
    async fn check_read_only(&self, reason: &str, acknowledged: &Acknowledged) {
        self.until("", ServingStatus::NotServing).await;
        self.until("google.firestore.v1.Firestore", ServingStatus::Serving)
            .await;
        let page = self.page("/health").await;
        assert!(page.starts_with("HTTP/1.1 503"), "{page}");
        assert!(page.contains(r#""status":"read-only""#), "{page}");
        assert!(page.contains(reason), "{page}");
        let page = self.page("/metrics").await;
        assert!(page.contains(r#"watchfire_store_state{state="refusing"} 1"#));
        assert!(page.contains("watchfire_disk_free_bytes "));
        acknowledged.check(&mut self.client().await).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the writers were told.
#[derive(Default)]
struct Acknowledged {
    /// Names of pairs of documents that must be there.
    written: Vec<String>,
    /// Those that must not be there: refused before anything was tried.
    refused: Vec<String>,
    /// Those that may be there, both or none.
    unknown: Vec<String>,
    reasons: Vec<String>,
}

impl Acknowledged {
    /// All writers write until each is refused once.
    async fn write_until_refused(&mut self, process: &Process, round: &str) {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let mut client = process.client().await;
            let round = round.to_owned();
            writers.spawn(async move {
                let mut told = Acknowledged::default();
                for number in 0.. {
                    let name = format!("{round}-{writer}-{number}");
                    if !told.write(&mut client, name).await {
                        break;
                    }
                }
                told
            });
        }
        while let Some(told) = writers.join_next().await {
            let told = told.unwrap();
            self.written.extend(told.written);
            self.refused.extend(told.refused);
            self.unknown.extend(told.unknown);
            self.reasons.extend(told.reasons);
        }
    }

    /// Writes a pair of documents; whether that was acknowledged.
    async fn write(&mut self, client: &mut Client, name: String) -> bool {
        let pair = ["first", "second"].map(|half| {
            let payload = text(&payload(&name));
            set(
                &format!("{half}/{name}"),
                &[("n", integer(7)), ("payload", payload)],
            )
        });
        let request = pb::CommitRequest {
            database: DATABASE.to_owned(),
            writes: pair.into(),
            ..pb::CommitRequest::default()
        };
        match client.commit(request).await {
            Ok(_) => {
                self.written.push(name);
                true
            }
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
                if status.message().contains("bytes are free for") {
                    self.refused.push(name);
                } else {
                    self.unknown.push(name);
                }
                self.reasons.push(status.message().to_owned());
                false
            }
        }
    }

    /// What must be there is there, and nothing else that should not.
    async fn check(&self, client: &mut Client) {
        let present = present(client, &self.written).await;
        assert!(present.iter().all(|count| *count == 2), "a commit was lost");
        let present = self::present(client, &self.refused).await;
        assert!(present.iter().all(|count| *count == 0), "a refused one");
        let present = self::present(client, &self.unknown).await;
        assert!(present.iter().all(|count| *count != 1), "half a commit");
    }
}

/// Bytes that cannot be made shorter, so that the disk fills up.
fn payload(name: &str) -> String {
    let mut chance = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut payload = String::with_capacity(PAYLOAD_LEN);
    while payload.len() < PAYLOAD_LEN {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        payload.push(char::from(b'!' + u8::try_from(chance >> 33 & 63).unwrap()));
    }
    payload
}

/// How many documents of each pair are there.
async fn present(client: &mut Client, names: &[String]) -> Vec<usize> {
    let mut counts = Vec::new();
    for name in names {
        let documents = ["first", "second"].map(|half| format!("{ROOT}/{half}/{name}"));
        let request = pb::BatchGetDocumentsRequest {
            database: DATABASE.to_owned(),
            documents: documents.into(),
            mask: Some(pb::DocumentMask {
                field_paths: vec!["n".to_owned()],
            }),
            ..pb::BatchGetDocumentsRequest::default()
        };
        let mut answers = client
            .batch_get_documents(request)
            .await
            .unwrap()
            .into_inner();
        let mut count = 0;
        while let Some(answer) = answers.message().await.unwrap() {
            if let Some(pb::batch_get_documents_response::Result::Found(found)) = answer.result {
                assert!(found.fields.contains_key("n"));
                count += 1;
            }
        }
        counts.push(count);
    }
    counts
}

/// Writes go on; all is there now, and after a kill.
async fn recovers(mut process: Process, data: &Path, mut acknowledged: Acknowledged) {
    process.until_well().await;
    let mut client = process.client().await;
    assert!(acknowledged.write(&mut client, "after".to_owned()).await);
    acknowledged.check(&mut client).await;
    let unknown = present(&mut client, &acknowledged.unknown).await;
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    drop(process);

    let process = Process::start(data);
    let mut client = process.client().await;
    acknowledged.check(&mut client).await;
    // What was not known was decided when the store recovered.
    assert_eq!(unknown, present(&mut client, &acknowledged.unknown).await);
    assert!(
        acknowledged
            .write(&mut client, "restarted".to_owned())
            .await
    );
    println!(
        "acknowledged {}, refused {}, unknown {} (of which there {}); {:?}",
        acknowledged.written.len(),
        acknowledged.refused.len(),
        acknowledged.unknown.len(),
        unknown.iter().filter(|count| **count > 0).count(),
        acknowledged.reasons.last()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_refuses_writes_and_recovers() {
    let test = async {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = Disk::new(directory.path(), 192);
        let process = Process::start(&disk.folder());
        let mut acknowledged = Acknowledged::default();
        // Filled by the writers: refused while there still is room.
        acknowledged.write_until_refused(&process, "slowly").await;
        assert!(!acknowledged.refused.is_empty());
        process
            .check_read_only("the disk is full", &acknowledged)
            .await;
        let remount = |mib| {
            format!(
                "mount -o remount,size={mib}m {}",
                directory.path().display()
            )
        };
        disk.run(&remount(512));
        process.until_well().await;

        // Filled by somebody else, to the last byte, under the writers' feet.
        let filler = directory.path().join("filler");
        let fill = format!("! cat /dev/zero 2>/dev/null > {}", filler.display());
        let filling = async {
            tokio::task::spawn_blocking(move || {
                disk.run(&fill);
                disk
            })
            .await
            .unwrap()
        };
        let (mut disk, ()) = tokio::join!(
            filling,
            acknowledged.write_until_refused(&process, "suddenly")
        );
        process.check_read_only("", &acknowledged).await;
        disk.run(&format!("rm {}", filler.display()));
        recovers(process, &disk.folder(), acknowledged).await;
    };
    tokio::time::timeout(TEST_MAX, test).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_may_not_grow_tear_a_write_and_nothing_is_lost() {
    let test = async {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let process = Process::start(&data);
        let mut acknowledged = Acknowledged::default();
        let mut client = process.client().await;
        for number in 0..4 {
            assert!(
                acknowledged
                    .write(&mut client, format!("before-{number}"))
                    .await
            );
        }
        // In the middle of a record that is written soon.
        process.limit_files("700000");
        acknowledged.write_until_refused(&process, "torn").await;
        assert_eq!(acknowledged.unknown.len(), WRITERS);
        assert!(
            acknowledged
                .reasons
                .iter()
                .all(|reason| reason.contains("File too large"))
        );
        process
            .check_read_only("File too large", &acknowledged)
            .await;
        process.limit_files("unlimited");
        recovers(process, &data, acknowledged).await;
    };
    tokio::time::timeout(TEST_MAX, test).await.unwrap();
}
