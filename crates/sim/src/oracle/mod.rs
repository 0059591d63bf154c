//! Judges a history: what may not be, whatever the server is made of.
//!
//! It never looks at the server, only at what clients saw and at what was stored in the end.
//!
//! # The judges
//!
//! - `durable`: every commit that was acknowledged is there, what was refused is not, and what nobody knows of is
//!   there whole and once, or not at all. `writers` finds out whose commit each entry is.
//! - `serial`: every answer is the state at its version, nothing that a transaction read had changed when it
//!   committed, and versions rise in real time.
//! - `cycle`: the same without trusting any version: who read whose values, and which of them cannot be in any
//!   order.
//! - `answers`: every request of a stream is answered once, and in order.
//! - `listen`: what a stream told, folded, is the result of its query at every snapshot.
//!
//! They stand on `timeline`, which is every state that ever was, computed from the entries by brute force, on
//! `effect`, which says what the writes of one commit come to, on `same`, and on `moments`, which knows what was complete
//! before what began. `telling` finds the words.
//!
//! # What is not done
//!
//! Nothing is minimised but cycles. A history that breaks one law often breaks others in its wake; of each law
//! the first `VIOLATIONS_PER_LAW_MAX` are told.

use std::collections::BTreeMap;

use crate::history::History;

mod answers;
mod cycle;
mod durable;
mod effect;
mod listen;
mod moments;
mod same;
mod serial;
mod telling;
mod timeline;
mod writers;

#[cfg(test)]
mod tests;

/// Of each law so many violations are told; the rest are most likely the wake of the first.
pub const VIOLATIONS_PER_LAW_MAX: usize = 5;

/// Something that may not be.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which law is broken: a short name.
    pub law: &'static str,
    /// What was expected and what was found, in a few lines.
    pub text: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.law, self.text)
    }
}

/// Everything that is wrong with the history; empty when all is well.
#[must_use]
pub fn judge(history: &History) -> Vec<Violation> {
    let timeline = timeline::Timeline::new(history);
    let moments = moments::Moments::of_answers(history);
    let writers = writers::Writers::find(history, &timeline, &moments);
    let mut violations = durable::judge(history, &timeline, &writers, &moments);
    violations.extend(serial::judge(history, &timeline, &writers, &moments));
    violations.extend(cycle::judge(history, &timeline, &writers));
    violations.extend(answers::judge(history));
    violations.extend(listen::judge(history, &timeline, &moments));
    let mut told: BTreeMap<&'static str, usize> = BTreeMap::new();
    violations.retain(|violation| {
        let told = told.entry(violation.law).or_default();
        *told += 1;
        *told <= VIOLATIONS_PER_LAW_MAX
    });
    violations
}
