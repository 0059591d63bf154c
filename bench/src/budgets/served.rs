//! What a real server does with durable commits: beside the bare store, on one document, and one at a time.
//!
//! Client, server and what they are compared with share the machine. The two sides of a ratio are measured in turns, a
//! few rounds of each, and the medians are compared.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use prost::Message as _;
use tonic::transport::Channel;
use watchfire_storage::embedded::Embedded;
use watchfire_storage::{Applied, Batch, Store, Version};
use watchfire_wire::{encode_fields, pb};

use super::log::{self, Keeper};
use super::writer::{By, Writers};
use super::{at_least, at_most, data, middle};
use crate::server::{DATABASE, Server, computed};

/// Clients that commit at the same time, each waiting for its own.
const CLIENTS: usize = 64;

/// Turns of each side. Many short ones: what the disk does, and who else uses the machine, changes by the second.
const TURNS: usize = 25;

/// Into how many turns the length of a measurement is divided.
const TURNS_OF_LENGTH: u32 = 5;

/// Documents that are made before anything is measured, and used again under other names.
const DOCUMENTS: usize = 512;

/// What is measured with a server, and how.
pub struct Setting<'a> {
    pub binary: &'a Path,
    pub folder: &'a Path,
    /// A turn has a fifth of it.
    pub length: Duration,
    /// Over which the clients spread.
    pub connections: usize,
}

pub type Client = pb::firestore_client::FirestoreClient<Channel>;

impl Setting<'_> {
    /// A server on an empty folder of this name.
    pub async fn server(&self, name: &str) -> Result<Server> {
        let data = self.folder.join(name);
        empty(&data)?;
        Server::start(self.binary, &data).await
    }

    fn turn(&self) -> Duration {
        self.length / TURNS_OF_LENGTH
    }

    /// One for each client.
    pub async fn clients(&self, server: &Server) -> Result<Vec<Client>> {
        let channels = server
            .connections(self.connections.clamp(1, CLIENTS))
            .await?;
        let clients = channels.iter().cycle().take(CLIENTS);
        Ok(clients.cloned().map(Client::new).collect())
    }

    /// As many writers as there are clients, over the connections.
    async fn writers(&self, server: &Server, by: By) -> Result<Vec<Writers>> {
        let connections = self.connections.clamp(1, CLIENTS);
        let mut writers = Vec::with_capacity(connections);
        for number in 0..connections {
            let count = CLIENTS / connections + usize::from(number < CLIENTS % connections);
            writers.push(Writers::open(server.address(), count, by).await?);
        }
        Ok(writers)
    }
}

pub fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(std::fs::create_dir_all(folder)?)
}

fn document(name: String, number: usize) -> pb::Document {
    pb::Document {
        name,
        fields: encode_fields(&data::fields(number)),
        ..Default::default()
    }
}

fn set(document: pb::Document) -> pb::Write {
    pb::Write {
        operation: Some(pb::write::Operation::Update(document)),
        ..Default::default()
    }
}

fn commit(write: pb::Write) -> pb::CommitRequest {
    pb::CommitRequest {
        database: DATABASE.to_owned(),
        writes: vec![write],
        ..Default::default()
    }
}

/// As the SDKs send `update({n: FieldValue.increment(1)})`.
fn increment(name: String) -> pb::Write {
    use pb::document_transform::FieldTransform;
    use pb::document_transform::field_transform::TransformType;
    let one = pb::Value {
        value_type: Some(pb::value::ValueType::IntegerValue(1)),
    };
    pb::Write {
        operation: Some(pb::write::Operation::Update(pb::Document {
            name,
            ..Default::default()
        })),
        update_mask: Some(pb::DocumentMask::default()),
        update_transforms: vec![FieldTransform {
            field_path: "n".to_owned(),
            transform_type: Some(TransformType::Increment(one)),
        }],
        ..Default::default()
    }
}

/// Commits from all writers until the time is over: how many, and the time that it took. `compose` appends the bytes of a
/// write, given the client and how many commits it has done.
async fn commits(
    writers: &mut Vec<Writers>,
    length: Duration,
    compose: impl Fn(usize, usize, &mut Vec<u8>) + Clone + Send + Sync + 'static,
) -> Result<(usize, Duration)> {
    let start = Instant::now();
    let mut tasks = Vec::with_capacity(writers.len());
    let mut first = 0;
    for mut connection in writers.drain(..) {
        let compose = compose.clone();
        let before = first;
        first += connection.len();
        tasks.push(tokio::spawn(async move {
            let compose =
                |writer, number, bytes: &mut Vec<u8>| compose(before + writer, number, bytes);
            let done = connection.commit(start + length, compose).await?;
            anyhow::Ok((connection, done))
        }));
    }
    let mut done = 0;
    for task in tasks {
        let (connection, its) = task.await??;
        writers.push(connection);
        done += its;
    }
    Ok((done, start.elapsed()))
}

fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Durable commits of one document each, then the very batches that the server wrote, straight into an empty store.
///
/// The batches come from the storage engine's logs: one record is what one flush made durable. The store gets them
/// from one thread, one after the other, each with its flush.
pub async fn commits_beside_store(setting: &Setting<'_>, by: By) -> Result<()> {
    let documents = (0..DOCUMENTS)
        .map(Prepared::new)
        .collect::<Result<Vec<_>>>()?;
    let documents: &'static [Prepared] = documents.leak();
    let server = setting.server("served").await?;
    let mut writers = setting.writers(&server, by).await?;
    let mut keeper = Keeper::start(server.data(), &setting.folder.join("logs"))?;
    let mut store = Straight::open(&setting.folder.join("straight")).await?;
    // The first ones make the database and its connections.
    let request = move |turn: usize| {
        move |client: usize, number: usize, bytes: &mut Vec<u8>| {
            let at = (client + number * CLIENTS) % documents.len();
            if let Some(document) = documents.get(at) {
                document.named(turn, client, number, bytes);
            }
        }
    };
    commits(&mut writers, setting.turn(), request(TURNS)).await?;
    store.apply(keeper.batches()?).await?;
    let (mut ratios, mut served, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    let mut sums = Sums::default();
    for turn in 0..TURNS {
        let (ours, theirs) = (computed("self")?, server.computed()?);
        let (count, took) = commits(&mut writers, setting.turn(), request(turn)).await?;
        sums.clients += computed("self")?.saturating_sub(ours);
        sums.server += server.computed()?.saturating_sub(theirs);
        let batches = keeper.batches()?;
        let held: usize = batches.iter().map(log::commits).sum();
        if held != count {
            bail!("{count} commits were acknowledged, the logs have {held}");
        }
        sums.commits += count;
        sums.flushes += batches.len();
        sums.bytes += batches.iter().map(Batch::size).sum::<usize>();
        let straight = store.apply(batches).await?;
        sums.straight += straight;
        served.push(rate(count, took));
        bare.push(rate(count, straight));
        ratios.push(rate(count, took) / rate(count, straight));
    }
    store.close().await?;
    let each = |sum: Duration| sum.as_micros() as f64 / sums.commits as f64;
    println!(
        "commits by {CLIENTS} clients in {} over {} connections: {:.0}/s through the server, {:.0}/s straight; ratios of the turns {:.2} to {:.2}",
        by.name(),
        setting.connections,
        middle(&mut served)?,
        middle(&mut bare)?,
        ratios.iter().copied().fold(f64::INFINITY, f64::min),
        ratios.iter().copied().fold(0.0, f64::max),
    );
    println!(
        "  {:.1} commits to a flush, {:.0} bytes each; a flush straight takes {:.2?}; for each commit the server computes {:.0} us, its clients {:.0} us",
        sums.commits as f64 / sums.flushes as f64,
        sums.bytes as f64 / sums.commits as f64,
        sums.straight.div_f64(sums.flushes as f64),
        each(sums.server),
        each(sums.clients),
    );
    at_least(
        "commits through the server to the same batches straight",
        middle(&mut ratios)?,
        0.6,
    );
    Ok(())
}

/// A write of a document whose name is still to be filled in.
struct Prepared {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Prepared {
    fn new(number: usize) -> Result<Self> {
        let id = Self::id(0, 0, 0);
        let name = format!("{DATABASE}/documents/commits/{id}");
        let bytes = set(document(name, number)).encode_to_vec();
        let mut places = bytes.windows(id.len());
        let at = places.position(|place| place == id.as_bytes());
        let (before, after) = bytes.split_at(at.context("a document has its name")?);
        Ok(Self {
            before: before.to_vec(),
            after: after.iter().copied().skip(id.len()).collect(),
        })
    }

    /// Always of the same length.
    fn id(turn: usize, client: usize, number: usize) -> String {
        format!("{turn:02}-{client:02}-{number:06}-abcdefg")
    }

    fn named(&self, turn: usize, client: usize, number: usize, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.before);
        bytes.extend_from_slice(Self::id(turn, client, number).as_bytes());
        bytes.extend_from_slice(&self.after);
    }
}

/// Of all turns together.
#[derive(Default)]
struct Sums {
    commits: usize,
    flushes: usize,
    bytes: usize,
    server: Duration,
    clients: Duration,
    straight: Duration,
}

/// A store that nobody else has.
struct Straight {
    embedded: Arc<Embedded>,
    store: Arc<dyn Store>,
    head: Version,
}

impl Straight {
    async fn open(folder: &Path) -> Result<Self> {
        empty(folder)?;
        let embedded = Embedded::open(folder)?;
        let store = embedded.database("bench")?;
        let head = store.snapshot().await?.version();
        Ok(Self {
            embedded,
            store,
            head,
        })
    }

    /// How long it takes for the batches, one after the other, each with its flush.
    async fn apply(&mut self, batches: Vec<Batch>) -> Result<Duration> {
        let start = Instant::now();
        for batch in batches {
            let version = batch.version;
            if self.store.apply(self.head, batch).await? != Applied::Applied {
                bail!("somebody else moved the head");
            }
            self.head = version;
        }
        Ok(start.elapsed())
    }

    async fn close(self) -> Result<()> {
        self.store.close().await?;
        Ok(self.embedded.close().await?)
    }
}

/// Increments of one document by all clients, and of a document for each client.
pub async fn hot(setting: &Setting<'_>) -> Result<()> {
    let server = setting.server("hot").await?;
    let mut writers = setting.writers(&server, By::Unary).await?;
    let name = |number: usize| format!("{DATABASE}/documents/counters/c{number:02}");
    let mut first = Client::new(server.connect().await?);
    for number in 0..=CLIENTS {
        let mut document = document(name(number), number);
        document.fields.insert("n".to_owned(), integer(0));
        first.commit(commit(set(document))).await?;
    }
    let (mut one, mut many, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut of_one, mut of_many) = (0, 0);
    let add =
        move |bytes: &mut Vec<u8>, number| bytes.extend(increment(name(number)).encode_to_vec());
    for _ in 0..TURNS {
        let (count, took) = commits(&mut writers, setting.turn(), move |_, _, bytes| {
            add(bytes, CLIENTS);
        })
        .await?;
        of_one += count;
        let hot = rate(count, took);
        let (count, took) = commits(&mut writers, setting.turn(), move |client, _, bytes| {
            add(bytes, client);
        })
        .await?;
        of_many += count;
        let cold = rate(count, took);
        one.push(hot);
        many.push(cold);
        ratios.push(hot / cold);
    }
    let mut counted = Vec::new();
    for number in 0..=CLIENTS {
        let request = pb::GetDocumentRequest {
            name: name(number),
            ..Default::default()
        };
        let document = first.get_document(request).await?.into_inner();
        match document.fields.get("n").and_then(|n| n.value_type.clone()) {
            Some(pb::value::ValueType::IntegerValue(n)) => counted.push(n),
            other => bail!("a counter holds {other:?}"),
        }
    }
    let hot = counted.pop().context("the counter of all")?;
    if hot != of_one as i64 || counted.iter().sum::<i64>() != of_many as i64 {
        bail!("acknowledged were {of_one} and {of_many} increments, counted {hot} and {counted:?}");
    }
    println!(
        "hot: {:.0}/s on one document, {:.0}/s on {CLIENTS}; every increment counted",
        middle(&mut one)?,
        middle(&mut many)?
    );
    at_least("one document to many", middle(&mut ratios)?, 0.5);
    Ok(())
}

fn integer(number: i64) -> pb::Value {
    pb::Value {
        value_type: Some(pb::value::ValueType::IntegerValue(number)),
    }
}

/// Single commits at low load, and appends of as many bytes to a file of the same disk, in turns.
pub async fn single(setting: &Setting<'_>) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(5);
    const SAMPLES: usize = 2_000;
    let server = setting.server("single").await?;
    let mut keeper = Keeper::start(server.data(), &setting.folder.join("logs"))?;
    let mut client = Client::new(server.connect().await?);
    let name = |number: usize| format!("{DATABASE}/documents/single/{number:07}-abcdefghijk");
    // The first ones say how large they are, and warm up.
    const FIRST: usize = 100;
    for number in 0..FIRST {
        client
            .commit(commit(set(document(name(number), number))))
            .await?;
    }
    let batches = keeper.batches()?;
    drop(keeper);
    let held: usize = batches.iter().map(log::commits).sum();
    let bytes = batches.iter().map(Batch::size).sum::<usize>() / held.max(1);
    let content = vec![0xa5_u8; bytes];
    let path = setting.folder.join("appended");
    let mut file = File::create(&path)?;
    let (mut committed, mut flushed) = (Vec::new(), Vec::new());
    for number in FIRST..FIRST + SAMPLES {
        let request = commit(set(document(name(number), number)));
        tokio::time::sleep(PAUSE).await;
        let start = Instant::now();
        client.commit(request).await?;
        committed.push(start.elapsed());
        tokio::time::sleep(PAUSE).await;
        let start = Instant::now();
        file.write_all(&content)?;
        file.sync_data()?;
        flushed.push(start.elapsed());
    }
    std::fs::remove_file(&path)?;
    committed.sort_unstable();
    flushed.sort_unstable();
    println!(
        "single: a commit of {bytes} bytes p50 {:.2?}, p90 {:.2?}, p99 {:.2?}; the disk's flush of as many p50 {:.2?}, p90 {:.2?}, p99 {:.2?}; {SAMPLES} of each in turns",
        at(&committed, 0.5)?,
        at(&committed, 0.9)?,
        at(&committed, 0.99)?,
        at(&flushed, 0.5)?,
        at(&flushed, 0.9)?,
        at(&flushed, 0.99)?
    );
    at_most(
        "p99 of a commit to p99 of a flush",
        at(&committed, 0.99)?.as_secs_f64() / at(&flushed, 0.99)?.as_secs_f64(),
        3.0,
    );
    Ok(())
}

/// Of sorted times, the one below which this share lies.
fn at(sorted: &[Duration], share: f64) -> Result<Duration> {
    let index = (sorted.len() as f64 * share) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted
        .get(index.min(last))
        .copied()
        .context("something was measured")
}
