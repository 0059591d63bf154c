//! `cargo xtask ci`: what must pass before anything lands.

use std::time::Instant;

use anyhow::Result;

use crate::build::{cargo, must, root};
use crate::{conformance, prepare, sim, tidy};

/// Format, tidy, clippy, tests, simulated worlds, then the published SDKs; stops at the first failure.
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
        must(
            cargo(&["test", "--workspace", "--all-features", "--locked"])?,
            "cargo test",
        )
    })?;
    step("simulated worlds", || {
        sim::sim(&["--seeds".to_owned(), sim::CI_SEEDS.to_owned()])
    })?;
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
