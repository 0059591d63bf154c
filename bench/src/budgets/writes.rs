//! Commits beside the bare store, and beside the build of an index.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use async_trait::async_trait;
use watchfire_engine::Engine;
use watchfire_engine::definition::Mode;
use watchfire_engine::keyspace::Keyspace;
use watchfire_storage::embedded::Embedded;
use watchfire_storage::{Applied, Batch, Error, Operation, Snapshot, Store, Version};

use super::data::{self, Database, LARGE};
use super::{at_least, at_most};

/// A store that remembers what it was given.
struct Remembering {
    store: Arc<dyn Store>,
    batches: Mutex<Vec<Batch>>,
}

#[async_trait]
impl Store for Remembering {
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, Error> {
        self.store.snapshot().await
    }
    async fn apply(&self, expected_head: Version, batch: Batch) -> Result<Applied, Error> {
        let kept = Batch {
            version: batch.version,
            operations: batch.operations.clone(),
        };
        self.batches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(kept);
        self.store.apply(expected_head, batch).await
    }
    async fn checkpoint(&self, directory: &Path) -> Result<(), Error> {
        self.store.checkpoint(directory).await
    }
    async fn close(&self) -> Result<(), Error> {
        self.store.close().await
    }
}

/// Commits of documents, then the same batches put straight into an empty store.
pub async fn cost(folder: &Path, length: Duration) -> Result<()> {
    // Writers, and documents of each commit. The last shape hardly waits for the disk: it shows what the engine costs.
    for (writers, documents) in [(1, 1), (64, 1), (4, 100)] {
        let folder = folder.join("writes");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        let embedded = Embedded::open(&folder.join("commits"))?;
        let remembering = Arc::new(Remembering {
            store: embedded.database("bench")?,
            batches: Mutex::default(),
        });
        let engine = data::open_engine(Arc::clone(&remembering) as Arc<dyn Store>).await?;
        let start = Instant::now();
        let commits = commits(&engine, "written", writers, documents, &|_| {
            start.elapsed() >= length
        })
        .await?;
        let took = start.elapsed();
        engine.close().await?;
        embedded.close().await?;
        let batches = std::mem::take(
            &mut *remembering
                .batches
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let groups = batches.len();
        let all = straight(&folder.join("all"), &batches, |_| true).await?;
        let bare = straight(&folder.join("bare"), &batches, |key| {
            key.first() == Some(&Keyspace::Document.byte())
        })
        .await?;
        println!(
            "commits, {writers} writers, {documents} documents each: {commits} in {took:.2?} in {groups} groups; the same batches straight: {all:.2?}; their documents alone: {bare:.2?}"
        );
        at_most(
            "commits to the same bytes straight",
            took.as_secs_f64() / all.as_secs_f64(),
            2.5,
        );
        println!(
            "  commits to their documents' bytes alone {:.2}",
            took.as_secs_f64() / bare.as_secs_f64()
        );
    }
    Ok(())
}

/// How long an empty store takes for the batches, one after the other, each with its flush.
async fn straight(
    folder: &Path,
    batches: &[Batch],
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<Duration> {
    let embedded = Embedded::open(folder)?;
    let store = embedded.database("bench")?;
    let mut head = store.snapshot().await?.version();
    let batches: Vec<Batch> = batches
        .iter()
        .map(|batch| Batch {
            version: batch.version,
            operations: batch
                .operations
                .iter()
                .filter(|operation| match operation {
                    Operation::Put { key, .. } | Operation::Delete { key } => wanted(key),
                })
                .cloned()
                .collect(),
        })
        .collect();
    let start = Instant::now();
    for batch in batches {
        let version = batch.version;
        store.apply(head, batch).await?;
        head = version;
    }
    let took = start.elapsed();
    store.close().await?;
    embedded.close().await?;
    Ok(took)
}

/// Commits from several writers, each waiting for its own, until it is over; answers how many.
async fn commits(
    engine: &Engine,
    collection: &str,
    writers: usize,
    documents: usize,
    over: &(dyn Fn(usize) -> bool + Sync),
) -> Result<usize> {
    let number = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let writer = || async {
        while !over(done.load(Ordering::Relaxed)) {
            let writes = (0..documents)
                .map(|_| data::write(collection, number.fetch_add(1, Ordering::Relaxed)))
                .collect::<Result<Vec<_>>>()?;
            data::commit(engine, writes).await?;
            done.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    };
    let mut running: Vec<_> = (0..writers).map(|_| Box::pin(writer())).collect();
    // All of them in one task: the committer is the other one.
    std::future::poll_fn(|context| {
        let mut failed = None;
        running.retain_mut(|writer| match writer.as_mut().poll(context) {
            std::task::Poll::Pending => true,
            std::task::Poll::Ready(Ok(())) => false,
            std::task::Poll::Ready(Err(error)) => {
                failed = Some(error);
                false
            }
        });
        match failed {
            Some(error) => std::task::Poll::Ready(Err(error)),
            None if running.is_empty() => std::task::Poll::Ready(Ok(())),
            None => std::task::Poll::Pending,
        }
    })
    .await?;
    Ok(done.load(Ordering::Relaxed))
}

/// Commits by themselves, then while an index over the large collection is built.
pub async fn build(database: &Database, documents: usize, length: Duration) -> Result<()> {
    const WRITERS: usize = 16;
    // So that every run writes new documents, and the build is a build each time.
    let run = std::process::id();
    let engine = &database.engine;
    for round in ["before", "after"] {
        let start = Instant::now();
        let alone = commits(engine, &format!("alone{round}{run}"), WRITERS, 1, &|_| {
            start.elapsed() >= length
        })
        .await?;
        let alone = alone as f64 / start.elapsed().as_secs_f64();
        println!("commits without a build, {round}: {alone:.0}/s");
        if round == "after" {
            break;
        }
        let fields = [("title", Mode::Ascending), ("rank", Mode::Descending)];
        drop_index(engine).await?;
        let begun = Instant::now();
        data::begin_index(engine, LARGE, &fields).await?;
        let ended = Arc::new(AtomicBool::new(false));
        let watcher = tokio::spawn({
            let (engine, ended) = (engine.clone(), Arc::clone(&ended));
            async move {
                while data::building(&engine).await? {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                ended.store(true, Ordering::Relaxed);
                anyhow::Ok(begun.elapsed())
            }
        });
        let start = Instant::now();
        let beside = commits(engine, &format!("beside{run}"), WRITERS, 1, &|_| {
            ended.load(Ordering::Relaxed)
        })
        .await?;
        let beside = beside as f64 / start.elapsed().as_secs_f64();
        let took = watcher.await??;
        println!(
            "commits beside a build: {beside:.0}/s; the build took {took:.1?}: {:.0} documents/s",
            documents as f64 / took.as_secs_f64()
        );
        at_least(
            "commits beside a build to commits alone",
            beside / alone,
            0.6,
        );
    }
    Ok(())
}

/// Deletes what an earlier run has built.
async fn drop_index(engine: &Engine) -> Result<()> {
    let catalog = engine.catalog().await?;
    for index in catalog.indexes_of(LARGE) {
        if index
            .definition
            .fields()
            .iter()
            .any(|field| field.path.to_string() == "title")
        {
            engine.delete_index(index.id).await?;
        }
    }
    Ok(())
}
