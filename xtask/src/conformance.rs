//! The published SDKs against the built server, and the same requests to the official emulator.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::build::{cargo, must, root, target};
use crate::prepare;

/// Builds the server, installs the SDKs as the lock file names them, runs the suites one after the other.
pub fn conformance(files: &[String]) -> Result<()> {
    prepare::compilers()?;
    let binary = built()?;
    let mut node = Command::new(install()?);
    node.current_dir(root()?.join("conformance"))
        .env("WATCHFIRE_BIN", binary)
        .args(["--test", "--test-concurrency=1", "--test-reporter=spec"]);
    if files.is_empty() {
        let mut suites: Vec<PathBuf> = std::fs::read_dir(root()?.join("conformance"))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.to_string_lossy().ends_with(".test.mjs"))
            .collect();
        suites.sort();
        if suites.is_empty() {
            bail!("no suites (*.test.mjs) in conformance/");
        }
        node.args(suites);
    } else {
        node.args(files);
    }
    must(node, "conformance suites")
}

/// Prints the differences between the built server and the official emulator as a list.
pub fn differential(arguments: &[String]) -> Result<()> {
    let binary = built()?;
    let mut node = Command::new(install()?);
    node.current_dir(root()?.join("conformance"))
        .env("WATCHFIRE_BIN", binary)
        .arg("differential.mjs")
        .args(arguments);
    must(node, "differential")
}

fn built() -> Result<PathBuf> {
    must(
        cargo(&["build", "-p", "watchfire-server"])?,
        "cargo build -p watchfire-server",
    )?;
    Ok(target()?.join("debug").join("watchfire"))
}

/// `npm ci`, unless what is installed is already what the lock file names. Returns the Node to call.
fn install() -> Result<PathBuf> {
    let node = prepare::node()?;
    let folder = root()?.join("conformance");
    let stamp = folder.join("node_modules").join(".installed-lock");
    let lock = std::fs::read(folder.join("package-lock.json"))?;
    if std::fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(node);
    }
    println!("xtask: installing the published SDKs with npm ci in conformance/");
    let mut npm = Command::new("npm");
    npm.current_dir(&folder)
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
    must(npm, "npm ci")?;
    std::fs::write(stamp, lock)?;
    Ok(node)
}
