//! `cargo xtask oracle`: many more worlds than the tests make, every answer compared with the plain definition.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::build::{cargo, must};

/// How many queries are asked of each kind of world when nothing is said.
const CASES: u64 = 100_000;

/// `--cases N` queries from `--seed S`; without a seed one is taken from the clock. What fails prints its own seed.
pub fn oracle(arguments: &[String]) -> Result<()> {
    let (mut cases, mut seed) = (CASES, None);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut number = || -> Result<u64> {
            let text = arguments
                .next()
                .with_context(|| format!("{argument} needs a number"))?;
            text.parse()
                .with_context(|| format!("{argument} needs a number, found {text:?}"))
        };
        match argument.as_str() {
            "--cases" => cases = number()?,
            "--seed" => seed = Some(number()?),
            other => bail!("no option named {other:?}; there are --cases N and --seed S"),
        }
    }
    let seed = match seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    println!("xtask: {cases} queries of each kind of world, from seed {seed}");
    let mut test = cargo(&[
        "test",
        "--release",
        "-p",
        "watchfire-engine",
        "--test",
        "oracle",
        "--",
        "--test-threads",
        "1",
    ])?;
    test.env("WATCHFIRE_CASES", cases.to_string())
        .env("WATCHFIRE_SEED", seed.to_string());
    must(test, "the comparison with the plain definition")
}
