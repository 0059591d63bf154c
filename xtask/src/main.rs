//! The project's own tool: `cargo xtask COMMAND` instead of shell scripts.
//!
//! Each command installs or names what it needs before it starts, and says so.

mod build;
mod ci;
mod conformance;
mod oracle;
mod prepare;
mod run;
mod sim;
mod tidy;
mod web;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  run [ARGS]      build in release and start the server; ARGS go to `watchfire serve`
  ci              everything that must pass: format, clippy, tidy, tests, simulated worlds, conformance
  tidy            the walls between crates and modules, and the house rules of style
  conformance [FILE...]
                  the published SDKs (Node, browsers, Python) against the built server: all
                  suites, or some of conformance/*.test.mjs and conformance/python/*.py, or `browser`
                  for those in headless Chromium
  compatibility [--last]
                  by hand: all suites, then docs/compatibility.md from what came of them; --last
                  writes it from what is kept of earlier runs
  web [--check]   builds the page /demo into web/dist, or says whether it is what the sources give
  differential    by hand: the same requests to a server and to the official emulator
  kills [--times N] [--clients N] [--seed N]
                  by hand: a hundred times kill -9 under the load of 64 clients of the published SDK
  contention      by hand: 64 clients want the same documents, and none may take much longer than others
  oracle [--cases N] [--seed S]
                  by hand: a hundred thousand generated queries (or N) compared with the plain definition
  sim [--seed N | --seeds A..B | --minutes M] [--release]
                  the server in a seeded world that kills it, judged by what its clients saw
  bench [ARGS]    by hand: start-up, commits and notifications, measured
";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next();
    let rest: Vec<String> = arguments.collect();
    match command.as_deref() {
        Some("run") => run::run(&rest),
        Some("ci") => ci::ci(),
        Some("tidy") => tidy::tidy(&build::root()?),
        Some("conformance") => conformance::conformance(&rest),
        Some("compatibility") => conformance::compatibility(&rest),
        Some("differential") => conformance::differential(&rest),
        Some("kills") => conformance::kills(&rest),
        Some("contention") => conformance::contention(),
        Some("oracle") => oracle::oracle(&rest),
        Some("sim") => sim::sim(&rest),
        Some("bench") => run::bench(&rest),
        Some("web") => web::web(&rest),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            Ok(())
        }
        Some(other) => bail!("no command named {other:?}\n\n{USAGE}"),
        None => bail!("a command is missing\n\n{USAGE}"),
    }
}
