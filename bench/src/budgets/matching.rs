//! What it costs to find the targets that a change concerns, without a store and without a server.
//!
//! What is timed, on the processor, is what the dispatcher does with each change: to ask the matcher, and to test each
//! candidate. Changes come in any order and are many, so that what they touch is no longer near the processor.
//!
//! A million targets do not fit into the processor's caches and a thousand do, which alone makes them several times as
//! fast, whatever finds them. So a million in one matcher are held against a thousand matchers of a thousand, which lie
//! as far away: what is left is what finding costs. The ratio to one thousand near by is printed too, and the one to a
//! thousand that are alone but have a commit before each match, as in a server.

use std::collections::HashMap;
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use watchfire_engine::Engine;
use watchfire_model::{
    Change, Document, DocumentPath, FieldOperator, FieldPath, Fields, Filter, QueryParts,
    Timestamp, Value,
};
use watchfire_realtime::matcher::Matcher;
use watchfire_realtime::target::{Interest, SharedId};
use watchfire_storage::memory::MemoryStore;

use super::data::{commit, open_engine, parts, query, scattered, write};
use super::{at_least, at_most, middle};

const COLLECTION: &str = "messages";

/// Distinct targets of the large and of the small setting.
const MANY: usize = 1_000_000;
const FEW: usize = 1_000;
const MIXED: usize = 100_000;

/// Changes of one round.
const CHANGES: usize = 100_000;
const ROUNDS: usize = 7;

/// Matches with a commit before each.
const AFTER_COMMITS: usize = 4_000;

/// How many times as long a change may take with a thousand times as many targets.
const GROWTH_MAX: f64 = 2.0;
const MATCHED_PER_SECOND_MIN: f64 = 20_000.0;

/// Of so many mixed targets one has no condition that an index can answer.
const REST_EVERY: usize = 2_000;

/// Targets, and what finds them.
struct Setting {
    matcher: Matcher,
    targets: HashMap<SharedId, Interest>,
    /// What it took to file them.
    taken: Duration,
    bytes: usize,
}

impl Setting {
    fn new(numbers: Range<usize>, target: impl Fn(usize) -> Result<Interest>) -> Result<Self> {
        // In one piece, so that no room is left free which would hide what the matcher takes.
        let mut targets = HashMap::with_capacity(numbers.len());
        for number in numbers.clone() {
            targets.insert(SharedId(number as u64 + 1), target(number)?);
        }
        let before = resident_bytes()?;
        let start = on_processor()?;
        let mut matcher = Matcher::default();
        for number in numbers {
            let id = SharedId(number as u64 + 1);
            matcher.insert(targets.get(&id).context("made above")?, id);
        }
        Ok(Self {
            matcher,
            targets,
            taken: on_processor()? - start,
            bytes: resident_bytes()?.saturating_sub(before),
        })
    }

    fn print(&self, name: &str) {
        let count = self.targets.len() as f64;
        println!(
            "  {name}: {count} filed in {:.2} µs each, {:.0} bytes each",
            1e6 * self.taken.as_secs_f64() / count,
            self.bytes as f64 / count
        );
    }

    /// How many targets the change concerns, and how many are tested for it.
    fn matched(&self, change: &Change, found: &mut Vec<SharedId>) -> (usize, usize) {
        found.clear();
        self.matcher.candidates(black_box(change), found);
        let concerned = found
            .iter()
            .filter_map(|id| self.targets.get(id))
            .filter(|target| target.concerns(change))
            .count();
        (black_box(concerned), found.len())
    }
}

/// What the changes took and what they came to, each in the setting that is chosen by its number.
fn measured<'s>(
    changes: &[(usize, Change)],
    setting: impl Fn(usize) -> Option<&'s Setting>,
) -> Result<(Duration, usize, usize)> {
    let (mut concerned, mut tested) = (0, 0);
    let mut found = Vec::new();
    let start = on_processor()?;
    for (number, change) in changes {
        let setting = setting(*number).context("each change has a setting")?;
        let (of_these, of_those) = setting.matched(change, &mut found);
        concerned += of_these;
        tested += of_those;
    }
    Ok((on_processor()? - start, concerned, tested))
}

/// How long a match takes right after a commit, in the middle and in nanoseconds: in the first setting and in the second.
async fn after_commits(
    engine: &Engine,
    settings: [(&Setting, &[(usize, Change)]); 2],
) -> Result<[f64; 2]> {
    let mut found = Vec::new();
    let mut taken = [Vec::new(), Vec::new()];
    for number in 0..AFTER_COMMITS {
        for ((setting, changes), taken) in settings.iter().zip(&mut taken) {
            let (_, change) = changes.get(number).context("there are more changes")?;
            commit(engine, vec![write(COLLECTION, number % 1_000)?]).await?;
            let start = Instant::now();
            setting.matched(change, &mut found);
            taken.push(1e9 * start.elapsed().as_secs_f64());
        }
    }
    let [mut first, mut second] = taken;
    Ok([middle(&mut first)?, middle(&mut second)?])
}

pub async fn growth() -> Result<()> {
    let engine = open_engine(MemoryStore::new()).await?;
    println!("one of many distinct targets is touched");
    type Kind = (&'static str, fn(usize) -> Result<Interest>);
    let kinds: [Kind; 3] = [
        ("a document", |number| {
            Ok(Interest::Documents(Arc::new([path(number)?].into())))
        }),
        ("a query by equality", |number| {
            filtered(leaf("room", FieldOperator::Equal, room(number))?)
        }),
        ("a query by range", |number| filtered(slot(number)?)),
    ];
    // All of them before anything is given back, which would hide what the next one takes.
    let mut settings = Vec::new();
    for (name, target) in kinds {
        let many = Setting::new(0..MANY, target)?;
        many.print(name);
        settings.push((name, target, many));
    }
    for (name, target, many) in settings {
        let few = (0..MANY / FEW)
            .map(|part| Setting::new(part * FEW..(part + 1) * FEW, target))
            .collect::<Result<Vec<_>>>()?;
        let changes = touching(MANY, 21)?;
        let near_by = touching(FEW, 22)?;
        let (mut ratios, mut ratios_near, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let of_many = measured(&changes, |_| Some(&many))?;
            let of_few = measured(&changes, |number| few.get(number / FEW))?;
            let of_near = measured(&near_by, |_| few.first())?;
            for (_, concerned, _) in [of_many, of_few, of_near] {
                ensure!(concerned >= CHANGES, "each change concerns its target");
            }
            ratios.push(of_many.0.as_secs_f64() / of_few.0.as_secs_f64());
            ratios_near.push(of_many.0.as_secs_f64() / of_near.0.as_secs_f64());
            taken.push(1e9 * of_many.0.as_secs_f64() / CHANGES as f64);
        }
        println!(
            "  {:.0} ns for a change, {:.2} times as long as with {FEW} near by",
            middle(&mut taken)?,
            middle(&mut ratios_near)?
        );
        if let Some(few) = few.first() {
            let settings = [(&many, &*changes), (few, &*near_by)];
            let [of_many, of_few] = after_commits(&engine, settings).await?;
            println!(
                "  right after a commit {of_many:.0} ns, {:.2} times as long as with {FEW} alone",
                of_many / of_few
            );
        }
        let name = format!("{name} of {MANY} beside one of {FEW}, times as long");
        at_most(&name, middle(&mut ratios)?, GROWTH_MAX);
    }
    engine.close().await?;
    Ok(())
}

pub fn rate() -> Result<()> {
    println!("changes among {MIXED} mixed queries of one collection");
    let setting = Setting::new(0..MIXED, mixed)?;
    let changes = touching(MIXED, 23)?;
    let mut rates = Vec::new();
    for round in 0..ROUNDS {
        let (taken, concerned, tested) = measured(&changes, |_| Some(&setting))?;
        rates.push(CHANGES as f64 / taken.as_secs_f64());
        if round == 0 {
            println!(
                "  a change concerns {:.1} targets, of {:.1} that are tested",
                concerned as f64 / CHANGES as f64,
                tested as f64 / CHANGES as f64
            );
        }
    }
    let rate = middle(&mut rates)?;
    at_least("matched changes per second", rate, MATCHED_PER_SECOND_MIN);
    Ok(())
}

/// Changes that each touch one of the first targets, with its number.
fn touching(targets: usize, salt: u64) -> Result<Vec<(usize, Change)>> {
    (0..CHANGES)
        .map(|change| {
            let number = (scattered(change, salt) % targets as u64) as usize;
            Ok((number, touch(number)?))
        })
        .collect()
}

/// What applications watch: one room, some rooms, a tag, a slot of time, both of two conditions, one of two, and a
/// little that no index answers.
fn mixed(number: usize) -> Result<Interest> {
    use FieldOperator::{ArrayContains, ArrayContainsAny, Equal, GreaterThan, In, NotEqual};
    let later = |step: usize| room(number + step);
    if number.is_multiple_of(REST_EVERY) {
        return filtered(leaf("room", NotEqual, room(number))?);
    }
    filtered(match number % 10 {
        0..=2 => leaf("room", Equal, room(number))?,
        3 => leaf("room", In, Value::Array((0..5).map(later).collect()))?,
        4 => leaf("tags", ArrayContains, tag(number))?,
        5 => {
            let tags = Value::Array(vec![tag(number), tag(number + 1)]);
            leaf("tags", ArrayContainsAny, tags)?
        }
        6 => slot(number)?,
        7 => Filter::And(vec![
            leaf("kind", Equal, Value::String("message".to_owned()))?,
            leaf("read", Equal, Value::Boolean(false))?,
            leaf("room", Equal, room(number))?,
        ]),
        8 => Filter::And(vec![
            leaf("room", Equal, room(number))?,
            leaf("sent", GreaterThan, Value::Integer(0))?,
        ]),
        _ => Filter::Or(vec![
            leaf("room", Equal, room(number))?,
            leaf("author.id", Equal, room(number))?,
        ]),
    })
}

/// A change that concerns the target with this number: a document that comes to it, from nowhere in particular.
fn touch(number: usize) -> Result<Change> {
    let state = |room: Value, at: i64| -> Result<Arc<Document>> {
        let text = |text: &str| Value::String(text.to_owned());
        let author = Fields::from([
            ("id".to_owned(), text("somebody")),
            ("name".to_owned(), text("Some Body")),
        ]);
        Ok(Arc::new(Document {
            path: path(number)?,
            create_time: Timestamp::EPOCH,
            update_time: Timestamp::EPOCH,
            fields: Fields::from([
                ("author".to_owned(), Value::Map(author)),
                (
                    "body".to_owned(),
                    text("a small document, as chats have them"),
                ),
                ("kind".to_owned(), text("message")),
                ("read".to_owned(), Value::Boolean(false)),
                ("room".to_owned(), room),
                ("sent".to_owned(), Value::Integer(at)),
                (
                    "tags".to_owned(),
                    Value::Array(vec![tag(number), tag(number + 7)]),
                ),
            ]),
        }))
    };
    Ok(Change {
        path: path(number)?,
        before: Some(state(Value::String("nowhere".to_owned()), -1)?),
        after: Some(state(room(number), 10 * number as i64 + 5)?),
    })
}

fn path(number: usize) -> Result<DocumentPath> {
    Ok(DocumentPath::parse(&format!("{COLLECTION}/{number:020}"))?)
}

fn room(number: usize) -> Value {
    Value::String(format!("room-{:016x}", scattered(number, 23)))
}

fn tag(number: usize) -> Value {
    Value::String(format!("tag-{:x}", scattered(number, 24) % 20_000))
}

/// A range of its own for each number.
fn slot(number: usize) -> Result<Filter> {
    let start = 10 * number as i64;
    Ok(Filter::And(vec![
        leaf(
            "sent",
            FieldOperator::GreaterThanOrEqual,
            Value::Integer(start),
        )?,
        leaf("sent", FieldOperator::LessThan, Value::Integer(start + 10))?,
    ]))
}

fn leaf(field: &str, operator: FieldOperator, value: Value) -> Result<Filter> {
    Ok(Filter::Field {
        field: FieldPath::parse(field)?,
        operator,
        value,
    })
}

fn filtered(filter: Filter) -> Result<Interest> {
    Ok(Interest::Query(Arc::new(query(QueryParts {
        filter: Some(filter),
        ..parts(COLLECTION)?
    })?)))
}

/// Memory of this process; zero where the system does not tell.
fn resident_bytes() -> Result<usize> {
    let Ok(status) = std::fs::read_to_string("/proc/self/statm") else {
        return Ok(0);
    };
    let pages: usize = status
        .split_whitespace()
        .nth(1)
        .context("statm has a second number")?
        .parse()?;
    Ok(pages * 4096)
}

/// How long this thread has run; others use the machine too.
fn on_processor() -> Result<Duration> {
    let status = std::fs::read_to_string("/proc/thread-self/schedstat")
        .context("the times of threads are only told by Linux")?;
    let nanos = status
        .split_whitespace()
        .next()
        .context("schedstat has a first number")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}
