//! Every request of a stream is answered once and in order, and a target that has ended stays so.
//!
//! A request to add a target is answered by its addition, or by its end with a cause. A request to remove one is answered
//! by its end, unless it had ended before. The server takes the requests of a stream in order: when one is answered, all
//! before it have been.

use std::collections::BTreeMap;

use watchfire_model::watch::WatchEvent;

use crate::history::{History, Stream, StreamEvent};
use crate::oracle::Violation;

/// What was told of a target so far.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Stage {
    Active,
    Ended,
}

/// Judges every stream.
pub fn judge(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (number, stream) in history.streams.iter().enumerate() {
        violations.extend(of_stream(number, stream));
    }
    violations
}

fn of_stream(number: usize, stream: &Stream) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut stages: BTreeMap<i32, Stage> = BTreeMap::new();
    let mut violate = |step: u64, id: i32, text: &str| {
        violations.push(Violation {
            law: "answered",
            text: format!("stream {number}, step {step}, target {id}\n{text}"),
        });
    };
    for (moment, event) in &stream.events {
        let StreamEvent::Watch(event) = event else {
            continue;
        };
        let (id, stage) = match event {
            WatchEvent::Added { target } => (*target, Stage::Active),
            WatchEvent::Removed { target, .. } => (*target, Stage::Ended),
            WatchEvent::Current { .. }
            | WatchEvent::Reset { .. }
            | WatchEvent::Snapshot { .. }
            | WatchEvent::Changed { .. }
            | WatchEvent::Deleted { .. }
            | WatchEvent::Left { .. }
            | WatchEvent::Filter { .. } => continue,
        };
        let before = stages.insert(id, stage);
        if before == Some(Stage::Ended) {
            let text = "expected nothing of a target that has ended, found another answer";
            violate(moment.step, id, text);
        }
        if before.is_some() {
            continue;
        }
        // The answer to a request to add it.
        let Some(asked) = stream
            .targets
            .iter()
            .find(|watched| watched.target_id == id)
        else {
            violate(
                moment.step,
                id,
                "expected only what was asked for, found an answer",
            );
            continue;
        };
        for earlier in &stream.targets {
            let stage = stages.get(&earlier.target_id).copied();
            if earlier.asked < asked.asked && stage.is_none() {
                let text =
                    format!("expected it to be answered before target {id} was, found no answer");
                violate(moment.step, earlier.target_id, &text);
            }
            let removed = earlier.removed.is_some_and(|removed| removed < asked.asked);
            if removed && stage == Some(Stage::Active) {
                let text =
                    format!("expected its end before target {id} was answered, found it active");
                violate(moment.step, earlier.target_id, &text);
            }
        }
    }
    violations
}
