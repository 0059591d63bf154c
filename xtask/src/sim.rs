//! `cargo xtask sim`: the simulated world, one seed or many.
//!
//! Debug builds, so that every assertion is in; long runs by hand are made with `--release`.

use anyhow::Result;

use crate::build::{cargo, must};

/// Runs of every `cargo xtask ci`: other seeds find other things, but these always hold.
pub const CI_SEEDS: &str = "0..150";

/// The arguments are those of the world itself (`--seed`, `--seeds`, `--minutes`, and what its usage says), and
/// `--release`.
pub fn sim(arguments: &[String]) -> Result<()> {
    let mut run = cargo(&["run", "--locked", "--package", "watchfire-sim"])?;
    let (release, rest): (Vec<&String>, Vec<&String>) = arguments
        .iter()
        .partition(|argument| *argument == "--release");
    if !release.is_empty() {
        // Assertions stay in: they are half of what a run can find.
        run.args([
            "--release",
            "--config",
            "profile.release.debug-assertions=true",
        ]);
    }
    run.arg("--").args(rest);
    must(run, "the simulated world")
}
