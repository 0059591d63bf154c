//! The published SDKs for Node, browsers and Python against the built server, and the same requests to the official
//! emulator.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::build::{cache, cargo, must, root, target};
use crate::prepare;

/// Ends the name of a suite for Node.
const NODE_SUITE: &str = ".test.mjs";
/// The suites for Python; `FILE` on the command line.
const PYTHON_SUITES: [&str; 2] = ["python/suite.py", "python/contention.py"];
/// What is run for how evenly clients fare that want the same; a part of the suites.
const CONTENTION: [&str; 2] = ["contention.test.mjs", "python/contention.py"];
/// Has these suites hold the slowest client against the median, which a test must not.
const FAIRNESS: (&str, &str) = ("CONTENTION_FAIRNESS", "1");

/// Builds the server, installs the SDKs as the lock files name them, runs the suites one after the other.
pub fn conformance(files: &[String]) -> Result<()> {
    suites(files, None)
}

/// The suites about contention alone, with the bound on how much longer the slowest client may take.
pub fn contention() -> Result<()> {
    suites(&CONTENTION.map(str::to_owned), Some(FAIRNESS))
}

fn suites(files: &[String], variable: Option<(&str, &str)>) -> Result<()> {
    prepare::compilers()?;
    let binary = built()?;
    let folder = root()?.join("conformance");
    let (python, node): (Vec<&String>, Vec<&String>) =
        files.iter().partition(|file| file.ends_with(".py"));
    let mut suites: Vec<PathBuf> = node.iter().map(PathBuf::from).collect();
    if files.is_empty() {
        suites.extend(
            std::fs::read_dir(&folder)?
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.to_string_lossy().ends_with(NODE_SUITE)),
        );
        suites.sort();
        if suites.is_empty() {
            bail!("no suites (*{NODE_SUITE}) in conformance/");
        }
    }
    // The suite for Python reads the same data, which comes with the packages for Node.
    let call = install()?;
    if !suites.is_empty() {
        let mut node = Command::new(call);
        node.current_dir(&folder)
            .env("WATCHFIRE_BIN", &binary)
            .envs(variable)
            .args(["--test", "--test-concurrency=1", "--test-reporter=spec"])
            .args(suites);
        must(node, "conformance suites")?;
    }
    let python = match files.is_empty() {
        true => PYTHON_SUITES.map(PathBuf::from).to_vec(),
        false => python.iter().map(PathBuf::from).collect(),
    };
    for suite in python {
        let mut command = Command::new(install_python(&folder)?);
        command
            .current_dir(&folder)
            .env("WATCHFIRE_BIN", &binary)
            .envs(variable)
            .args(["-W", "ignore"])
            .arg(&suite);
        must(command, &suite.display().to_string())?;
    }
    Ok(())
}

/// Prints the differences between the built server and the official emulator as a list.
pub fn differential(arguments: &[String]) -> Result<()> {
    program("differential.mjs", arguments)
}

/// Kills the built server under load a hundred times, and holds what is there against what clients were told.
pub fn kills(arguments: &[String]) -> Result<()> {
    program("kills.mjs", arguments)
}

fn program(file: &str, arguments: &[String]) -> Result<()> {
    prepare::compilers()?;
    let binary = built()?;
    let mut node = Command::new(install()?);
    node.current_dir(root()?.join("conformance"))
        .env("WATCHFIRE_BIN", binary)
        .arg(file)
        .args(arguments);
    must(node, file)
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

/// The Python SDK in an environment of its own in the cache folder, unless it holds already what `requirements.txt`
/// names. Returns the Python to call.
fn install_python(folder: &Path) -> Result<PathBuf> {
    let environment = cache()?.join("python");
    let python = environment.join("bin").join("python");
    let stamp = environment.join(".installed-requirements");
    let requirements = folder.join("python").join("requirements.txt");
    let wanted = std::fs::read(&requirements)?;
    if python.is_file() && std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let system = prepare::python()?;
    println!(
        "xtask: installing the published SDK for Python with pip into {}",
        environment.display()
    );
    let mut venv = Command::new(system);
    venv.args(["-m", "venv", "--clear"]).arg(&environment);
    must(venv, "python3 -m venv")?;
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ])
    .arg("--requirement")
    .arg(&requirements);
    must(pip, "pip install")?;
    std::fs::write(stamp, wanted)?;
    Ok(python)
}
