//! Histories made by hand, accepted and rejected; and random ones, which are accepted until they are spoilt.

use std::collections::BTreeSet;

use crate::history::History;
use crate::oracle::judge;

mod durable;
mod listen;
mod random;
mod scribe;
mod serial;

/// The history is right.
#[track_caller]
fn accept(history: &History) {
    let violations = judge(history);
    let texts: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(texts.is_empty(), "{}", texts.join("\n\n"));
}

/// The history breaks these laws, and perhaps others in their wake.
#[track_caller]
fn reject(history: &History, laws: &[&str]) {
    let violations = judge(history);
    let told: BTreeSet<&str> = violations.iter().map(|violation| violation.law).collect();
    let texts: Vec<String> = violations.iter().map(ToString::to_string).collect();
    for law in laws {
        assert!(told.contains(law), "{law} in\n{}", texts.join("\n\n"));
    }
    for violation in &violations {
        assert!(violation.text.lines().count() <= 20, "{violation}");
    }
}
