//! The command as a process: what it does with signals and pipes.

#![cfg(unix)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_starter_that_has_heard_enough_may_close_the_pipe() {
    let mut server = Command::new(env!("CARGO_BIN_EXE_watchfire"))
        .args(["--memory", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut greeting = BufReader::new(server.stdout.take().unwrap());
    let mut line = String::new();
    greeting.read_line(&mut line).unwrap();
    assert!(
        line.starts_with("Watchfire listens on 127.0.0.1:"),
        "{line}"
    );
    drop(greeting);
    kill_process(Pid::from_child(&server), Signal::TERM).unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(0));
}
