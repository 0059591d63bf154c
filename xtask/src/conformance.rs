//! The published SDKs for Node, browsers and Python against the built server, the table of what they can do with it, and
//! the same requests to the official emulator.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::build::{cache, cargo, must, root, target};
use crate::prepare;

/// Ends the name of a suite for Node, which may drive a browser.
const NODE_SUITE: &str = ".test.mjs";
/// Where the suites are that drive a browser; alone on the command line, all of them.
const BROWSER_SUITES: &str = "browser";
/// Runs a suite for Python and keeps its results.
const PYTHON_RUNNER: &str = "support/results.py";
/// Keeps the results of suites for Node; a path from their folder.
const NODE_RESULTS: &str = "./support/results.mjs";
/// Makes `docs/compatibility.md` of the results.
const TABLE: &str = "compatibility.mjs";
/// The suites for Python; `FILE` on the command line.
const PYTHON_SUITES: [&str; 2] = ["python/suite.py", "python/contention.py"];
/// What is run for how evenly clients fare that want the same; a part of the suites.
const CONTENTION: [&str; 2] = ["contention.test.mjs", "python/contention.py"];
/// Has these suites hold the slowest client against the median, which a test must not.
const FAIRNESS: (&str, &str) = ("CONTENTION_FAIRNESS", "1");

/// Builds the server, installs the SDKs as the lock files name them, runs the suites one after the other. When all of them
/// have run, `docs/compatibility.md` must say what came of them.
pub fn conformance(files: &[String]) -> Result<()> {
    suites(files, None)?;
    match files.is_empty() {
        true => table("--check"),
        false => Ok(()),
    }
}

/// The suites about contention alone, with the bound on how much longer the slowest client may take.
pub fn contention() -> Result<()> {
    suites(&CONTENTION.map(str::to_owned), Some(FAIRNESS))
}

/// Runs all suites and writes `docs/compatibility.md` from what came of them; `--last` writes it from what is kept of
/// earlier runs.
pub fn compatibility(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => suites(&[], None)?,
        [last] if last == "--last" => {}
        _ => bail!("compatibility takes nothing or --last"),
    }
    table("--write")
}

fn table(what: &str) -> Result<()> {
    let mut node = Command::new(install()?);
    node.current_dir(root()?.join("conformance"))
        .env("WATCHFIRE_RESULTS", results()?)
        .args([TABLE, what]);
    must(node, TABLE)
}

/// What became of each test when it ran last, a file for each suite.
fn results() -> Result<PathBuf> {
    Ok(target()?.join("conformance"))
}

fn suites(files: &[String], variable: Option<(&str, &str)>) -> Result<()> {
    prepare::compilers()?;
    let binary = built()?;
    let folder = root()?.join("conformance");
    let results = results()?;
    let (python, node): (Vec<&String>, Vec<&String>) =
        files.iter().partition(|file| file.ends_with(".py"));
    let mut suites = Vec::new();
    for file in node {
        match file.trim_end_matches('/') {
            BROWSER_SUITES => suites.extend(node_suites(&folder.join(BROWSER_SUITES))?),
            file => suites.push(PathBuf::from(file)),
        }
    }
    if files.is_empty() {
        suites = node_suites(&folder)?;
        suites.extend(node_suites(&folder.join(BROWSER_SUITES))?);
        // What is kept is of one run then, and of nothing that is gone.
        if results.exists() {
            std::fs::remove_dir_all(&results)?;
        }
    }
    // The suite for Python reads the same data, which comes with the packages for Node.
    let call = install()?;
    if !suites.is_empty() {
        let mut node = Command::new(call);
        if suites.iter().any(|suite| is_for_browsers(suite)) {
            prepare::chromium()?;
            node.env("NGINX_BIN", prepare::nginx()?);
        }
        node.current_dir(&folder)
            .env("WATCHFIRE_BIN", &binary)
            .env("WATCHFIRE_RESULTS", &results)
            .envs(variable)
            .args(["--test", "--test-concurrency=1"])
            .args(["--test-reporter=spec", "--test-reporter-destination=stdout"])
            .arg(format!("--test-reporter={NODE_RESULTS}"))
            .arg("--test-reporter-destination=stdout")
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
            .env("WATCHFIRE_RESULTS", &results)
            .envs(variable)
            .args(["-W", "ignore", PYTHON_RUNNER])
            .arg(&suite);
        must(command, &suite.display().to_string())?;
    }
    Ok(())
}

/// The suites for Node in one folder, by their names.
fn node_suites(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut suites: Vec<PathBuf> = std::fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with(NODE_SUITE))
        .collect();
    suites.sort();
    if suites.is_empty() {
        bail!("no suites (*{NODE_SUITE}) in {}", folder.display());
    }
    Ok(suites)
}

fn is_for_browsers(suite: &Path) -> bool {
    suite
        .parent()
        .is_some_and(|folder| folder.ends_with(BROWSER_SUITES))
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
    prepare::packages(&folder)?;
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
