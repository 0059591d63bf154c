//! `cargo xtask web`: builds the page `/demo` into `web/dist`, which is committed, so that the server builds without npm.
//!
//! `--check` says whether that is what the sources give, and changes nothing.

use std::process::Command;

use anyhow::{Result, bail};

use crate::build::{must, root};
use crate::prepare;

/// Installs what the lock file names unless it is there, then builds or compares.
pub fn web(arguments: &[String]) -> Result<()> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        other => bail!("expected nothing or --check, found {other:?}"),
    };
    let folder = root()?.join("web");
    let node = prepare::node()?;
    prepare::packages(&folder)?;
    let mut build = Command::new(node);
    build.current_dir(&folder).arg("build.mjs");
    if check {
        build.arg("--check");
    }
    must(build, "the page's build")
}
