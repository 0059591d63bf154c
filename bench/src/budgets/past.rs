//! Reads in the past beside reads of the present, and reads of the present beside a backup.
//!
//! Half an hour is made with a clock that is moved by hand: the engine begins half an hour ago and is moved on a little
//! with every commit. Then the database is looked at by the engine itself, and by a server that is started on the folder
//! and whose present is that of the machine. What the past answers is compared with what was the present then.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;
use watchfire_engine::definition::Mode;
use watchfire_engine::{Engine, View};
use watchfire_model::compare::identical_fields;
use watchfire_model::{
    Clock, Direction, Document, FieldOperator, FieldPath, Filter, Operation, Order, Precondition,
    Query, Timestamp, Value, Write,
};
use watchfire_storage::embedded::Embedded;
use watchfire_wire::{encode_timestamp, pb};

use super::data::{self, SystemClock};
use super::served::{Client, Setting, empty};
use super::{at_least, at_most, median, middle};
use crate::server::{DATABASE, Server};

/// The collection that is asked, and the one beside it.
const ASKED: &str = "asked";
const BESIDE: &str = "beside";

/// Documents of each.
const DOCUMENTS: usize = 10_000;

/// Commits since the version that is read, half of them to each collection.
const COMMITS: usize = 100_000;

/// How long ago it is.
const AGO: Duration = Duration::from_secs(30 * 60);

/// Commits on their way at a time.
const AT_ONCE: usize = 64;

/// How often each query is asked, in turns of past and present.
const TIMES: usize = 101;

/// Documents of an answer.
const LIMIT: u32 = 20;

struct HandClock(AtomicI64);

impl HandClock {
    fn advance(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed)).unwrap_or(Timestamp::EPOCH)
    }
}

/// A query of twenty documents half an hour ago, with a hundred thousand commits since, beside the same query now.
pub async fn past(setting: &Setting<'_>) -> Result<()> {
    let folder = setting.folder.join("past");
    empty(&folder)?;
    let ago = i64::try_from(AGO.as_micros())?;
    // Some minutes more, since the commits take time, and the server's present must not be before the last of them.
    let begin = SystemClock.now().micros() - ago - ago / 2;
    let clock = Arc::new(HandClock(AtomicI64::new(begin)));
    let embedded = Embedded::open(&folder)?;
    let store = embedded.database(DATABASE)?;
    let engine = Engine::open(data::name()?, store, clock.clone()).await?;
    for collection in [ASKED, BESIDE] {
        let index = [("kind", Mode::Ascending), ("rank", Mode::Ascending)];
        data::create_index(&engine, collection, &index).await?;
        for first in (0..DOCUMENTS).step_by(500) {
            let writes = (first..first + 500)
                .map(|number| data::write(collection, number))
                .collect::<Result<Vec<_>>>()?;
            data::commit(&engine, writes).await?;
        }
    }
    // While the clock stood, versions went ahead of it.
    let view = engine.view().await?;
    let then = view.read_time();
    clock.0.store(then.micros() + 1, Ordering::Relaxed);
    let queries = queries()?;
    let mut expected = Vec::new();
    for (_, query, _) in &queries {
        expected.push(answer(&view, query).await?);
    }
    drop(view);

    let started = Instant::now();
    let step = ago / i64::try_from(COMMITS)?;
    for first in (0..COMMITS).step_by(AT_ONCE) {
        let mut commits = JoinSet::new();
        for number in first..COMMITS.min(first + AT_ONCE) {
            clock.advance(step);
            let (engine, write) = (engine.clone(), later(number)?);
            commits.spawn(async move { data::commit(&engine, vec![write]).await });
        }
        for committed in commits.join_all().await {
            committed?;
        }
    }
    println!(
        "past: {COMMITS} commits in {:.0?}, one for {:.1} documents; the version that is read is {:.1} minutes old",
        started.elapsed(),
        2.0 * DOCUMENTS as f64 / COMMITS as f64,
        (clock.now().micros() - then.micros()) as f64 / 60e6,
    );
    for ((name, query, _), expected) in queries.iter().zip(&expected) {
        let (mut now, mut before) = (Vec::new(), Vec::new());
        let mut differ = 0;
        for _ in 0..TIMES {
            let start = Instant::now();
            let present = answer(&engine.view().await?, query).await?;
            now.push(start.elapsed());
            let start = Instant::now();
            let past = answer(&engine.view_at(then).await?, query).await?;
            before.push(start.elapsed());
            if !same(&past, expected) {
                bail!("{name}: the past answers what never was");
            }
            differ = present
                .iter()
                .filter(|document| !past.iter().any(|other| identical(document, other)))
                .count();
        }
        let (now, before) = (median(&mut now)?, median(&mut before)?);
        println!(
            "past by the engine, {name}: now {now:.1?}, half an hour ago {before:.1?}; {differ} of {LIMIT} documents differ"
        );
        at_most("the past to the present", ratio(before, now), 10.0);
    }
    engine.close().await?;
    embedded.close().await?;

    let server = Server::start(setting.binary, &folder).await?;
    let mut client = Client::new(server.connect().await?);
    for ((name, _, asked), expected) in queries.iter().zip(&expected) {
        let (mut now, mut before) = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            let start = Instant::now();
            served(&mut client, asked, None).await?;
            now.push(start.elapsed());
            let start = Instant::now();
            let past = served(&mut client, asked, Some(then)).await?;
            before.push(start.elapsed());
            let wanted: Vec<String> = expected
                .iter()
                .map(|document| format!("{DATABASE}/documents/{}", document.path))
                .collect();
            if past != wanted {
                bail!("{name}: the past answers through the server what never was");
            }
        }
        let (now, before) = (median(&mut now)?, median(&mut before)?);
        println!("past through gRPC, {name}: now {now:.1?}, half an hour ago {before:.1?}");
        at_most("the past to the present", ratio(before, now), 10.0);
    }
    Ok(())
}

fn ratio(above: Duration, below: Duration) -> f64 {
    above.as_secs_f64() / below.as_secs_f64()
}

/// A document of one of the collections, any, with what another one had at first.
fn later(number: usize) -> Result<Write> {
    let collection = if number.is_multiple_of(2) {
        ASKED
    } else {
        BESIDE
    };
    let which = (data::scattered(number, 21) % DOCUMENTS as u64) as usize;
    let operation = match data::scattered(number, 22) % 10 {
        // Some come and go.
        0 => Operation::Delete,
        _ => Operation::Set(data::fields(DOCUMENTS + number)),
    };
    Ok(Write {
        path: data::document_path(collection, which)?,
        operation,
        precondition: Precondition::None,
        transforms: Vec::new(),
    })
}

type Named = (&'static str, Query, pb::StructuredQuery);

fn queries() -> Result<Vec<Named>> {
    let from = vec![pb::structured_query::CollectionSelector {
        collection_id: ASKED.to_owned(),
        all_descendants: false,
    }];
    let limited = pb::StructuredQuery {
        from,
        limit: Some(i32::try_from(LIMIT)?),
        ..Default::default()
    };
    let mut by_name = data::parts(ASKED)?;
    by_name.limit = Some(LIMIT);
    let mut by_index = by_name.clone();
    by_index.filter = Some(Filter::Field {
        field: FieldPath::parse("kind")?,
        operator: FieldOperator::Equal,
        value: Value::Integer(3),
    });
    by_index.order = vec![Order {
        field: FieldPath::parse("rank")?,
        direction: Direction::Ascending,
    }];
    let field = |path: &str| pb::structured_query::FieldReference {
        field_path: path.to_owned(),
    };
    let kind = pb::structured_query::FieldFilter {
        field: Some(field("kind")),
        op: pb::structured_query::field_filter::Operator::Equal.into(),
        value: Some(pb::Value {
            value_type: Some(pb::value::ValueType::IntegerValue(3)),
        }),
    };
    let asked_by_index = pb::StructuredQuery {
        r#where: Some(pb::structured_query::Filter {
            filter_type: Some(pb::structured_query::filter::FilterType::FieldFilter(kind)),
        }),
        order_by: vec![pb::structured_query::Order {
            field: Some(field("rank")),
            direction: pb::structured_query::Direction::Ascending.into(),
        }],
        ..limited.clone()
    };
    Ok(vec![
        ("the first by name", data::query(by_name)?, limited),
        (
            "the first by an index",
            data::query(by_index)?,
            asked_by_index,
        ),
    ])
}

async fn answer(view: &View, query: &Query) -> Result<Vec<Arc<Document>>> {
    Ok(view.query(query).await?.0)
}

fn same(found: &[Arc<Document>], expected: &[Arc<Document>]) -> bool {
    found.len() == expected.len()
        && found
            .iter()
            .zip(expected)
            .all(|(found, expected)| identical(found, expected))
}

fn identical(one: &Document, other: &Document) -> bool {
    one.path == other.path
        && one.update_time == other.update_time
        && identical_fields(&one.fields, &other.fields)
}

/// The names of what is found.
async fn served(
    client: &mut Client,
    query: &pb::StructuredQuery,
    at: Option<Timestamp>,
) -> Result<Vec<String>> {
    let mut answers = client
        .run_query(pb::RunQueryRequest {
            parent: format!("{DATABASE}/documents"),
            query_type: Some(pb::run_query_request::QueryType::StructuredQuery(
                query.clone(),
            )),
            consistency_selector: at
                .map(encode_timestamp)
                .map(pb::run_query_request::ConsistencySelector::ReadTime),
            ..Default::default()
        })
        .await?
        .into_inner();
    let mut names = Vec::new();
    while let Some(answer) = answers.message().await? {
        names.extend(answer.document.map(|document| document.name));
    }
    Ok(names)
}

/// Point reads and small queries of the present by all clients, alone and while `watchfire backup` runs, in turns.
pub async fn backup(setting: &Setting<'_>, documents: usize) -> Result<()> {
    const ROUNDS: usize = 7;
    let server = setting.server("backed-up").await?;
    let clients = setting.clients(&server).await?;
    let mut first = clients.first().context("there are clients")?.clone();
    let name = |number: usize| -> Result<String> {
        let path = data::document_path(ASKED, number)?;
        Ok(format!("{DATABASE}/documents/{path}"))
    };
    for start in (0..documents).step_by(500) {
        let mut writes = Vec::new();
        for number in start..documents.min(start + 500) {
            writes.push(pb::Write {
                operation: Some(pb::write::Operation::Update(pb::Document {
                    name: name(number)?,
                    fields: watchfire_wire::encode_fields(&data::fields(number)),
                    ..Default::default()
                })),
                ..Default::default()
            });
        }
        let request = pb::CommitRequest {
            database: DATABASE.to_owned(),
            writes,
            ..Default::default()
        };
        first.commit(request).await?;
    }
    let names: Vec<String> = (0..documents).map(name).collect::<Result<_>>()?;
    let names: &'static [String] = names.leak();
    // Once around, so that both sides find the same in memory.
    reads(&clients, names, async {
        tokio::time::sleep(setting.length).await;
        Ok(())
    })
    .await?;
    let (mut alone, mut beside, mut ratios, mut took) = (vec![], vec![], vec![], vec![]);
    let mut bytes = 0;
    for round in 0..ROUNDS {
        let target = setting.folder.join(format!("backup{round}"));
        let (during, length) = reads(&clients, names, back_up(setting, &server, &target)).await?;
        bytes = size(&target)?;
        std::fs::remove_dir_all(&target)?;
        let rest = async {
            tokio::time::sleep(length).await;
            Ok(())
        };
        let (without, length_without) = reads(&clients, names, rest).await?;
        let (during, without) = (
            during as f64 / length.as_secs_f64(),
            without as f64 / length_without.as_secs_f64(),
        );
        took.push(length);
        beside.push(during);
        alone.push(without);
        ratios.push(during / without);
    }
    println!(
        "backup of {:.0} MB in {:.2?}: {:.0} reads/s beside it, {:.0}/s without, by {} clients",
        bytes as f64 / 1e6,
        median(&mut took)?,
        middle(&mut beside)?,
        middle(&mut alone)?,
        clients.len()
    );
    at_least(
        "reads beside a backup to reads alone",
        middle(&mut ratios)?,
        0.7,
    );
    Ok(())
}

async fn back_up(setting: &Setting<'_>, server: &Server, target: &Path) -> Result<()> {
    let target: PathBuf = std::path::absolute(target)?;
    let mut command = std::process::Command::new(setting.binary);
    command
        .arg("backup")
        .arg(target)
        .args(["--server", server.address()])
        .stdout(std::process::Stdio::null());
    let status = tokio::task::spawn_blocking(move || command.status()).await??;
    if !status.success() {
        bail!("the backup failed: {status}");
    }
    Ok(())
}

fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => size(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}

/// Point reads from all clients for as long as something else takes: how many, and how long.
async fn reads(
    clients: &[Client],
    names: &'static [String],
    meanwhile: impl Future<Output = Result<()>>,
) -> Result<(usize, Duration)> {
    let (over, done) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let start = Instant::now();
    let mut tasks = Vec::with_capacity(clients.len());
    for (mut client, salt) in clients.iter().cloned().zip(0..) {
        let (over, done) = (Arc::clone(&over), Arc::clone(&done));
        tasks.push(tokio::spawn(async move {
            for number in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let at = data::scattered(number, salt) as usize % names.len();
                let request = pb::GetDocumentRequest {
                    name: names.get(at).cloned().unwrap_or_default(),
                    ..Default::default()
                };
                client.get_document(request).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }));
    }
    meanwhile.await?;
    let took = start.elapsed();
    let count = done.load(Ordering::Relaxed);
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    Ok((count, took))
}
