//! Where things are, and how cargo is called: one target folder and one compiler cache for all builds.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The top of the checkout.
pub fn root() -> Result<PathBuf> {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest
        .parent()
        .context("xtask lies one folder below the top of the checkout")?
        .to_owned())
}

/// Build output that outlives a checkout: `WATCHFIRE_CACHE`, else `~/.cache/watchfire`.
pub fn cache() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("WATCHFIRE_CACHE") {
        return Ok(PathBuf::from(folder));
    }
    let home =
        std::env::var_os("HOME").context("HOME is not set; set WATCHFIRE_CACHE to a folder")?;
    Ok(PathBuf::from(home).join(".cache").join("watchfire"))
}

/// Where cargo puts what it builds: `CARGO_TARGET_DIR` if set, else inside `cache`.
pub fn target() -> Result<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => Ok(cache()?.join("target")),
    }
}

/// A cargo call in the checkout, with the shared target folder and the compiler cache if there is one.
pub fn cargo(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root()?);
    command.env("CARGO_TARGET_DIR", target()?);
    if on_path("ccache") {
        for (variable, value) in [("CC", "ccache cc"), ("CXX", "ccache c++")] {
            if std::env::var_os(variable).is_none() {
                command.env(variable, value);
            }
        }
    }
    Ok(command)
}

/// Whether a program of this name can be started.
pub fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}

/// Runs a command, and fails with its words when it fails.
pub fn must(mut command: Command, what: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{what}: could not be started"))?;
    if !status.success() {
        bail!("{what}: failed ({status})");
    }
    Ok(())
}
