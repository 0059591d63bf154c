//! The documents of which the budgets speak, and the database that holds them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use watchfire_engine::definition::{Definition, IndexField, Mode, Scope};
use watchfire_engine::index::catalog::OperationState;
use watchfire_engine::{Engine, Error, Start};
use watchfire_model::{
    Clock, DatabaseName, DocumentPath, FieldPath, Fields, Operation, Parent, Precondition, Query,
    QueryParts, Selector, Timestamp, Value, Write,
};
use watchfire_storage::Store;
use watchfire_storage::embedded::Embedded;

/// The large and the small collection.
pub const LARGE: &str = "large";
pub const SMALL: &str = "small";

/// How many times smaller.
pub const SMALLER: usize = 100;

/// Documents of one commit while filling.
const FILL: usize = 500;

/// In each block of documents there is one that has all three flags of the join.
const BLOCK: usize = 10_000;

pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let micros = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros());
        Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
            .unwrap_or(Timestamp::EPOCH)
    }
}

pub struct Database {
    embedded: Arc<Embedded>,
    pub engine: Engine,
}

pub fn name() -> Result<DatabaseName> {
    Ok(DatabaseName::new("bench", "(default)")?)
}

impl Database {
    pub async fn open(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let embedded = Embedded::open(folder)?;
        let store = embedded.database("bench")?;
        let engine = open_engine(store).await?;
        Ok(Self { embedded, engine })
    }

    pub async fn close(self) -> Result<()> {
        self.engine.close().await?;
        self.embedded.close().await?;
        Ok(())
    }

    /// Writes what is not there yet.
    pub async fn fill(&self, documents: usize) -> Result<()> {
        for collection in [SMALL, LARGE] {
            let index = [("kind", Mode::Ascending), ("rank", Mode::Ascending)];
            create_index(&self.engine, collection, &index).await?;
        }
        fill(&self.engine, SMALL, documents / SMALLER).await?;
        fill(&self.engine, LARGE, documents).await
    }
}

pub async fn open_engine(store: Arc<dyn Store>) -> Result<Engine> {
    Ok(Engine::open(name()?, store, Arc::new(SystemClock)).await?)
}

async fn fill(engine: &Engine, collection: &str, documents: usize) -> Result<()> {
    let last = document_path(collection, documents.saturating_sub(1))?;
    if engine.view().await?.document(&last).await?.is_some() {
        return Ok(());
    }
    let start = Instant::now();
    for first in (0..documents).step_by(FILL) {
        let writes = (first..documents.min(first + FILL))
            .map(|number| write(collection, number))
            .collect::<Result<Vec<_>>>()?;
        commit(engine, writes).await?;
    }
    println!(
        "filled {collection} with {documents} documents in {:.1?}: {:.0}/s",
        start.elapsed(),
        documents as f64 / start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Waits while too much waits already.
pub async fn commit(engine: &Engine, writes: Vec<Write>) -> Result<()> {
    loop {
        let staged = engine.stage(writes.clone(), Start::Now).await?;
        match engine.commit(staged).await {
            Ok(_) => return Ok(()),
            Err(Error::ResourceExhausted(_)) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Begins to build the index unless it is there, and waits until it is ready.
pub async fn create_index(engine: &Engine, group: &str, fields: &[(&str, Mode)]) -> Result<()> {
    begin_index(engine, group, fields).await?;
    while building(engine).await? {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

pub async fn begin_index(engine: &Engine, group: &str, fields: &[(&str, Mode)]) -> Result<()> {
    let fields = fields
        .iter()
        .map(|(path, mode)| {
            let (path, mode) = (FieldPath::parse(path)?, *mode);
            Ok(IndexField { path, mode })
        })
        .collect::<Result<Vec<_>>>()?;
    let definition = Definition::new(group.to_owned(), Scope::Collection, fields)?;
    match engine.create_index(definition).await {
        Ok(_) | Err(Error::IndexExists(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub async fn building(engine: &Engine) -> Result<bool> {
    Ok(engine
        .catalog()
        .await?
        .operations()
        .any(|operation| operation.state == OperationState::Processing))
}

/// All bits of a number thrown about, the same every time.
pub fn scattered(number: usize, salt: u64) -> u64 {
    let mut mixed = (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ salt;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Twenty characters, as clients choose ids; in order of the numbers.
pub fn document_path(collection: &str, number: usize) -> Result<DocumentPath> {
    let tail = words(scattered(number, 7), 13);
    Ok(DocumentPath::parse(&format!(
        "{collection}/{number:07}{tail}"
    ))?)
}

fn words(mut bits: u64, len: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    (0..len)
        .filter_map(|_| {
            let letter = LETTERS.get((bits % LETTERS.len() as u64) as usize);
            bits = (bits / LETTERS.len() as u64) ^ bits.rotate_left(17);
            letter.map(|letter| char::from(*letter))
        })
        .collect()
}

/// Ten fields: numbers, flags, a title, and a text of some four hundred bytes.
///
/// The flags `a`, `b` and `c` are each set in a tenth of the documents, in runs, and all of them in one document of
/// each block. `x`, `y` and `z` are set in a tenth each too, anywhere.
pub fn fields(number: usize) -> Fields {
    let at = number % BLOCK;
    let run = BLOCK / 10;
    let meeting = run - 1;
    let flag = |name: &str, set: bool| (name.to_owned(), Value::Boolean(set));
    let anywhere = |name: &str, salt: u64| flag(name, scattered(number, salt).is_multiple_of(10));
    let title = format!(
        "{} {}",
        words(scattered(number, 1), 12),
        words(scattered(number, 2), 12)
    );
    // A thousand words, the early ones far more often, as in real texts.
    let body = (0..60)
        .map(|word| {
            let (a, b) = (scattered(number, 100 + word), scattered(number, 500 + word));
            let word = (a % 1_000).min(b % 1_000) as usize;
            words(scattered(word, 9), 3 + word % 9)
        })
        .collect::<Vec<_>>()
        .join(" ");
    Fields::from([
        (
            "kind".to_owned(),
            Value::Integer((scattered(number, 3) % 10) as i64),
        ),
        (
            "rank".to_owned(),
            Value::Integer((scattered(number, 4) >> 24) as i64),
        ),
        flag("a", at < run),
        flag("b", (meeting..meeting + run).contains(&at)),
        flag("c", at == meeting || (3 * run..4 * run - 1).contains(&at)),
        anywhere("x", 11),
        anywhere("y", 12),
        anywhere("z", 13),
        ("title".to_owned(), Value::String(title)),
        ("body".to_owned(), Value::String(body)),
    ])
}

pub fn write(collection: &str, number: usize) -> Result<Write> {
    Ok(Write {
        path: document_path(collection, number)?,
        operation: Operation::Set(fields(number)),
        precondition: Precondition::None,
        transforms: Vec::new(),
    })
}

/// A query of one collection that asks for nothing yet.
pub fn parts(collection: &str) -> Result<QueryParts> {
    Ok(QueryParts {
        database: name()?,
        parent: Parent::Root,
        selector: Selector::Collection(collection.to_owned()),
        filter: None,
        order: Vec::new(),
        start: None,
        end: None,
        offset: 0,
        limit: None,
        projection: None,
    })
}

pub fn query(parts: QueryParts) -> Result<Query> {
    Query::new(parts).context("the query is valid")
}
