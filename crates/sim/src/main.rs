//! The simulated world from the command line: one seed, a range of them, or as many as fit into some minutes.
//!
//! Ends with exit code 1 when any run is wrong. Whatever is wrong is printed with its seed first, and with the
//! smallest number of operations with which it still is.

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use watchfire_sim::oracle::{Violation, judge};
use watchfire_sim::world::{Bounds, run};

const USAGE: &str = "\
usage: watchfire-sim [--seed N] [--seeds A..B] [--minutes M] [--operations N] [--trace] [--keep-going] [--hashes]

  --seed N         one run, made twice and compared
  --seeds A..B     the runs from A on, without B
  --minutes M      as many runs as fit, from --seeds A.. or from a seed of today
  --operations N   so many operations in each run, in place of what its seed says
  --trace          everything that happens, as text
  --keep-going     do not stop at the first run that is wrong
  --hashes         print the trace of each run as one number
";

/// Machine time after which a run is not coming back: something in it goes round without waiting.
const RUN_TIME_MAX: Duration = Duration::from_secs(120);

struct Arguments {
    first: u64,
    end: Option<u64>,
    minutes: Option<f64>,
    bounds: Bounds,
    keep_going: bool,
    hashes: bool,
    twice: bool,
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| runs(&arguments)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            eprintln!("sim: {wrong} runs are wrong");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("sim: {error:#}\n\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments> {
    let mut read = Arguments {
        first: 0,
        end: Some(100),
        minutes: None,
        bounds: Bounds::default(),
        keep_going: false,
        hashes: false,
        twice: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut next = || {
            words
                .next()
                .with_context(|| format!("{word} needs a value"))
        };
        match word.as_str() {
            "--seed" => {
                read.first = number(&next()?)?;
                read.end = Some(read.first.saturating_add(1));
                read.twice = true;
            }
            "--seeds" => {
                let text = next()?;
                let (first, end) = text
                    .split_once("..")
                    .with_context(|| format!("--seeds needs A..B, found {text:?}"))?;
                read.first = number(first)?;
                read.end = match end {
                    "" => None,
                    end => Some(number(end)?),
                };
            }
            "--minutes" => {
                read.minutes = Some(next()?.parse().context("--minutes needs a number")?);
                if read.end == Some(100) {
                    let today = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
                    read.first = today.as_secs();
                    read.end = None;
                }
            }
            "--operations" => read.bounds.operations = Some(number(&next()?)?),
            "--trace" => read.bounds.trace = true,
            "--keep-going" => read.keep_going = true,
            "--hashes" => read.hashes = true,
            other => bail!("no option named {other:?}"),
        }
    }
    Ok(read)
}

fn number(text: &str) -> Result<u64> {
    text.parse()
        .with_context(|| format!("a number was expected, found {text:?}"))
}

/// Makes the runs; how many were wrong.
fn runs(arguments: &Arguments) -> Result<u64> {
    watch_over_runs();
    keep_panics();
    let began = Instant::now();
    let mut made = 0;
    let mut wrong = 0;
    let mut operations = 0;
    let mut seed = arguments.first;
    loop {
        let over = match arguments.minutes {
            Some(minutes) => began.elapsed().as_secs_f64() > minutes * 60.0,
            None => false,
        };
        if over || arguments.end.is_some_and(|end| seed >= end) {
            break;
        }
        let (violations, hash, count) = one(seed, arguments.bounds);
        made += 1;
        operations += count;
        if arguments.hashes || arguments.twice {
            println!("seed {seed}: trace {hash:016x}, {count} operations");
        }
        if arguments.twice && !arguments.bounds.trace {
            let (_, again, _) = one(seed, arguments.bounds);
            if again != hash {
                println!("seed {seed}: NOT EXACT: made again its trace is {again:016x}");
                wrong += 1;
            }
        }
        if !violations.is_empty() {
            wrong += 1;
            report(seed, arguments, &violations);
            if !arguments.keep_going {
                break;
            }
        }
        seed += 1;
    }
    println!(
        "sim: {made} runs from seed {}, {operations} operations, {wrong} wrong, in {:.1?}",
        arguments.first,
        began.elapsed()
    );
    Ok(wrong)
}

/// One run: what is wrong with it, its trace as a number, and how many operations it had.
fn one(seed: u64, bounds: Bounds) -> (Vec<Violation>, u64, usize) {
    *under_way() = Some((seed, Instant::now()));
    let record = run(seed, bounds);
    *under_way() = None;
    for line in &record.lines {
        println!("{line}");
    }
    let mut violations = record.violations;
    violations.extend(judge(&record.history));
    violations.extend(panics().drain(..).map(|text| Violation {
        law: "nothing panics",
        text,
    }));
    (violations, record.hash, record.history.operations.len())
}

fn report(seed: u64, arguments: &Arguments, violations: &[Violation]) {
    println!("seed {seed}: {} violations", violations.len());
    for Violation { law, text } in violations.iter().take(5) {
        println!("  {law}: {text}");
    }
    let (fewest, law) = shrink(seed, arguments.bounds, violations);
    println!("  again with: cargo xtask sim --seed {seed} --operations {fewest} ({law})");
}

/// The fewest operations with which the run breaks one of the same laws, as far as halving finds them.
fn shrink(seed: u64, bounds: Bounds, violations: &[Violation]) -> (u64, &'static str) {
    let laws: Vec<&str> = violations.iter().map(|violation| violation.law).collect();
    let law = violations.first().map_or("", |violation| violation.law);
    let (mut low, mut high) = (0, bounds.operations.unwrap_or(400));
    let mut found = (high, law);
    while low < high {
        let middle = low + (high - low) / 2;
        let bounds = Bounds {
            operations: Some(middle),
            trace: false,
        };
        let (violations, _, _) = one(seed, bounds);
        match violations
            .iter()
            .find(|violation| laws.contains(&violation.law))
        {
            Some(violation) => {
                high = middle;
                found = (middle, violation.law);
            }
            None => low = middle + 1,
        }
    }
    found
}

/// The run that is being made, and since when.
fn under_way() -> std::sync::MutexGuard<'static, Option<(u64, Instant)>> {
    static UNDER_WAY: Mutex<Option<(u64, Instant)>> = Mutex::new(None);
    UNDER_WAY
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What panicked since somebody asked.
fn panics() -> std::sync::MutexGuard<'static, Vec<String>> {
    static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    PANICS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A panic in a task of the server ends that task only; it is a violation all the same.
fn keep_panics() {
    std::panic::set_hook(Box::new(|panic| panics().push(panic.to_string())));
}

/// A run that goes round without waiting would say nothing for ever: this says its seed, and ends the process.
fn watch_over_runs() {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let stuck = under_way().filter(|(_, since)| since.elapsed() > RUN_TIME_MAX);
            if let Some((seed, _)) = stuck {
                println!("seed {seed}: goes round: no end after {RUN_TIME_MAX:?}");
                std::process::exit(1);
            }
        }
    });
}
