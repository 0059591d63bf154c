//! Acknowledged is durable, refused is absent, unknown is whole and once or not at all.
//!
//! Also that what is stored fits together: entries rise and follow from each other, and the documents are what the
//! entries made of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use watchfire_engine::{CommitEntry, Version};
use watchfire_model::{Document, DocumentPath};

use crate::history::{History, OperationKind, Outcome};
use crate::oracle::effect::effect;
use crate::oracle::moments::{Moments, version};
use crate::oracle::same::{same_changes, same_document};
use crate::oracle::timeline::{Timeline, time_of};
use crate::oracle::writers::{Fate, Writers, is_entry, writes_of};
use crate::oracle::{VIOLATIONS_PER_LAW_MAX, Violation, telling};

/// Judges what is stored.
pub fn judge(
    history: &History,
    timeline: &Timeline<'_>,
    writers: &Writers,
    moments: &Moments,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    check_entries(history, &mut violations);
    check_stored(history, timeline, &mut violations);
    for (operation, fate) in &writers.fates {
        if *fate == Fate::Lost {
            violations.push(lost(history, timeline, *operation));
        }
    }
    let entries = history.stored.entries.iter().zip(&writers.of_entry);
    let orphans = entries.filter(|(_, writer)| writer.is_none());
    for (entry, _) in orphans.take(VIOLATIONS_PER_LAW_MAX) {
        violations.push(unexplained(history, timeline, writers, moments, entry));
    }
    violations
}

/// Versions rise, and each change begins where the one before left its document.
fn check_entries(history: &History, violations: &mut Vec<Violation>) {
    let mut documents: BTreeMap<&DocumentPath, Option<&Arc<Document>>> = BTreeMap::new();
    let mut last = Version::default();
    for entry in &history.stored.entries {
        let mut wrong = |text: String| {
            violations.push(Violation {
                law: "changelog",
                text: format!("in the entry at {}: {text}", entry.version.0),
            });
        };
        if entry.version <= last {
            wrong(format!(
                "expected a version after {}, the one before it",
                last.0
            ));
        }
        last = entry.version;
        if entry.changes.is_empty() {
            wrong("expected a change, found none".to_owned());
        }
        let time = time_of(entry.version);
        for change in &entry.changes {
            let before = documents.get(&change.path).copied().flatten();
            let known = before.map(Arc::as_ref);
            if !same_document(known, change.before.as_deref()) {
                wrong(format!(
                    "expected to begin with {}, found {}",
                    telling::document(known),
                    telling::document(change.before.as_deref()),
                ));
            }
            if let Some(after) = &change.after {
                // Written over, or created anew in this commit.
                let created = known
                    .filter(|before| before.create_time == after.create_time)
                    .is_none();
                if after.update_time != time || (created && after.create_time != time) {
                    wrong(format!(
                        "expected the entry's time on {}, found it created at {}",
                        telling::document(Some(after)),
                        after.create_time.micros(),
                    ));
                }
            } else if known.is_none() {
                wrong(format!(
                    "expected {} to be there before it is deleted",
                    change.path
                ));
            }
            documents.insert(&change.path, change.after.as_ref());
        }
    }
    if history.stored.head < last {
        violations.push(Violation {
            law: "changelog",
            text: format!(
                "expected the head at {} or later, found it at {}",
                last.0, history.stored.head.0
            ),
        });
    }
}

/// What is stored in the end is what the entries made of it.
fn check_stored(history: &History, timeline: &Timeline<'_>, violations: &mut Vec<Violation>) {
    let stored = &history.stored;
    let end = Version(u64::MAX);
    for (path, chain) in timeline.chains() {
        let (expected, seen) = (chain.at(end), stored.documents.get(path));
        if !same_document(expected.map(Arc::as_ref), seen.map(Arc::as_ref)) {
            violations.push(Violation {
                law: "stored documents",
                text: format!(
                    "expected {} in the end, found {}",
                    telling::document(expected.map(Arc::as_ref)),
                    telling::document(seen.map(Arc::as_ref)),
                ),
            });
        }
    }
    for (path, document) in &stored.documents {
        if timeline.chain(path).is_none() {
            violations.push(Violation {
                law: "stored documents",
                text: format!(
                    "expected nothing at {path}, of which no entry tells, found {}",
                    telling::document(Some(document)),
                ),
            });
        }
    }
    let after_trim = || {
        stored
            .entries
            .iter()
            .filter(|entry| entry.version > stored.trimmed_to)
    };
    let kept = stored
        .kept
        .iter()
        .filter(|entry| entry.version > stored.trimmed_to);
    let agree = after_trim().count() == kept.clone().count()
        && after_trim()
            .zip(kept.clone())
            .all(|(a, b)| a.version == b.version && same_changes(&a.changes, &b.changes));
    if !agree {
        let versions = |entries: &mut dyn Iterator<Item = &Arc<CommitEntry>>| {
            let versions: Vec<String> = entries.map(|entry| entry.version.0.to_string()).collect();
            telling::short(versions.join(", "))
        };
        violations.push(Violation {
            law: "changelog",
            text: format!(
                "expected the entries after {} to be as they were written: {}\nfound {}",
                stored.trimmed_to.0,
                versions(&mut after_trim()),
                versions(&mut kept.clone()),
            ),
        });
    }
}

/// An acknowledged commit of which nothing is there.
fn lost(history: &History, timeline: &Timeline<'_>, operation: usize) -> Violation {
    let writes = writes_of(history, operation);
    let told = history.operations.get(operation).and_then(version);
    let there = match told {
        None => "found no entry that they come to".to_owned(),
        Some(version) => match timeline
            .entry_at(version)
            .and_then(|entry| history.stored.entries.get(entry))
        {
            None => format!("it was told version {}, where there is no entry", version.0),
            Some(entry) => {
                let expected = effect(
                    writes,
                    |path| timeline.document(path, Timeline::before(version)),
                    time_of(version),
                );
                let expected = match &expected {
                    Ok(effect) => entry_words(&effect.changes),
                    Err(refused) => format!("a refusal ({refused:?})"),
                };
                return Violation {
                    law: "commit effect",
                    text: format!(
                        "{}: {}\nexpected at version {}: {expected}\nfound {}",
                        telling::operation(history, operation),
                        telling::writes(writes),
                        version.0,
                        entry_words(&entry.changes),
                    ),
                };
            }
        },
    };
    Violation {
        law: "acknowledged is durable",
        text: format!(
            "{}: {}\nexpected its writes to be stored; {there}",
            telling::operation(history, operation),
            telling::writes(writes),
        ),
    }
}

/// An entry that nobody can have written.
fn unexplained(
    history: &History,
    timeline: &Timeline<'_>,
    writers: &Writers,
    moments: &Moments,
    entry: &CommitEntry,
) -> Violation {
    let mut law = "written by somebody";
    let mut why = "nobody wrote that".to_owned();
    for (number, operation) in history.operations.iter().enumerate() {
        let OperationKind::Commit {
            writes, outcome, ..
        } = &operation.kind
        else {
            continue;
        };
        let whole = is_entry(timeline, writes, entry);
        if !whole && !is_part(timeline, writes, entry) {
            continue;
        }
        let who = telling::operation(history, number);
        let fate = writers.fates.get(&number);
        (law, why) = match (whole, outcome) {
            (false, Outcome::Refused(_) | Outcome::Unknown(_)) if fate.is_none() => (
                "all or nothing",
                format!(
                    "it is a part of {who}, which writes {}",
                    telling::writes(writes)
                ),
            ),
            (false, _) => continue,
            (true, Outcome::Refused(refusal)) => (
                "refused is absent",
                format!("it is what {who} asked for, which was refused: {refusal:?}"),
            ),
            (true, Outcome::Acknowledged(_) | Outcome::Unknown(_)) => match fate {
                Some(Fate::Entry(other)) => {
                    let other = history.stored.entries.get(*other);
                    (
                        "exactly once",
                        format!(
                            "it is what {who} asked for, which is there already, at {}",
                            other.map_or(0, |other| other.version.0)
                        ),
                    )
                }
                Some(Fate::Nothing | Fate::Lost) | None => (
                    "real time",
                    format!(
                        "it is what {who} asked for, before which {} was complete",
                        moments.complete_before(operation.started.step).0.0
                    ),
                ),
            },
        };
        break;
    }
    Violation {
        law,
        text: format!(
            "expected a commit for the entry at {}: {}\n{why}",
            entry.version.0,
            entry_words(&entry.changes),
        ),
    }
}

/// Whether the entry is some of what the writes come to, but not all.
fn is_part(
    timeline: &Timeline<'_>,
    writes: &[watchfire_model::Write],
    entry: &CommitEntry,
) -> bool {
    let named =
        |change: &watchfire_model::Change| writes.iter().any(|write| write.path == change.path);
    if writes.len() <= entry.changes.len() || !entry.changes.iter().all(named) {
        return false;
    }
    let before = Timeline::before(entry.version);
    let come_to = effect(
        writes,
        |path| timeline.document(path, before),
        time_of(entry.version),
    );
    come_to.is_ok_and(|effect| {
        effect.changes.len() > entry.changes.len()
            && entry.changes.iter().all(|change| {
                effect.changes.iter().any(|other| {
                    other.path == change.path
                        && same_document(other.after.as_deref(), change.after.as_deref())
                })
            })
    })
}

fn entry_words(changes: &[watchfire_model::Change]) -> String {
    if changes.is_empty() {
        return "no change".to_owned();
    }
    let changes: Vec<String> = changes
        .iter()
        .map(|change| match &change.after {
            Some(after) => telling::document(Some(after)),
            None => format!("{} deleted", change.path),
        })
        .collect();
    telling::short(changes.join(", "))
}
