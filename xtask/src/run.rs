//! `cargo xtask run`: build in release and start the server. `cargo xtask bench`: the load generator against it.

use std::time::Instant;

use anyhow::Result;

use crate::build::{cargo, must, target};
use crate::prepare;

/// Builds the release binary (the first time takes long: the storage engine is C++) and starts it.
pub fn run(arguments: &[String]) -> Result<()> {
    let binary = release()?;
    let mut server = std::process::Command::new(binary);
    server.arg("serve").args(arguments);
    must(server, "watchfire serve")
}

/// Builds both release binaries and measures.
pub fn bench(arguments: &[String]) -> Result<()> {
    let binary = release()?;
    let mut build = cargo(&["build", "--release", "-p", "watchfire-bench"])?;
    build.env("WATCHFIRE_BIN", &binary);
    must(build, "cargo build --release -p watchfire-bench")?;
    let mut bench = std::process::Command::new(target()?.join("release").join("watchfire-bench"));
    bench.env("WATCHFIRE_BIN", binary).args(arguments);
    must(bench, "watchfire-bench")
}

fn release() -> Result<std::path::PathBuf> {
    prepare::compilers()?;
    let binary = target()?.join("release").join("watchfire");
    if !binary.is_file() {
        println!(
            "xtask: first build: the storage engine is C++ and takes 10 to 30 minutes on two cores; later builds take seconds"
        );
    }
    let start = Instant::now();
    must(
        cargo(&["build", "--release", "-p", "watchfire-server"])?,
        "cargo build --release -p watchfire-server",
    )?;
    println!(
        "xtask: built {} in {:.0?}",
        binary.display(),
        start.elapsed()
    );
    Ok(binary)
}
