//! `cargo xtask ci`: what must pass before anything lands.

use std::time::Instant;

use anyhow::Result;

use crate::build::{cargo, must, root};
use crate::{conformance, prepare, sim, tidy, web};

/// What property tests draw their cases from here: the same commit is judged alike each time, and a case that is found
/// by chance is found by whoever runs `cargo test`, which draws anew.
const PROPERTY_SEED: &str = "2026";

/// Format, tidy, clippy, tests, simulated worlds, the page, then the published SDKs; stops at the first failure.
pub fn ci() -> Result<()> {
    let start = Instant::now();
    step("what the build needs", || {
        prepare::compilers()?;
        prepare::compiler_cache()
    })?;
    step("format", || {
        must(cargo(&["fmt", "--all", "--check"])?, "cargo fmt --check")
    })?;
    step("tidy", || tidy::tidy(&root()?))?;
    step("clippy", || {
        must(
            cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--locked",
                "--",
                "-D",
                "warnings",
            ])?,
            "cargo clippy",
        )
    })?;
    step("tests", || {
        let mut test = cargo(&["test", "--workspace", "--all-features", "--locked"])?;
        test.env("PROPTEST_RNG_SEED", PROPERTY_SEED)
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
        must(test, "cargo test")
    })?;
    step("simulated worlds", || {
        sim::sim(&["--seeds".to_owned(), sim::CI_SEEDS.to_owned()])
    })?;
    step("the page", || web::web(&["--check".to_owned()]))?;
    step("conformance", || conformance::conformance(&[]))?;
    println!("xtask: all passed in {:.0?}", start.elapsed());
    Ok(())
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("xtask: == {name}");
    let start = Instant::now();
    work()?;
    println!("xtask: == {name}: {:.0?}", start.elapsed());
    Ok(())
}
