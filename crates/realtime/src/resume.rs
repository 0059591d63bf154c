//! Resume tokens, and what happened since one.
//!
//! # The token
//!
//! Format byte, kind byte, origin, version, and sometimes hashes of the targets for which it is good.
//! The *origin* is a check of the database and one of its epoch, which says in which of the database's
//! histories the version stands. A token of another database is refused; one of an earlier history (before
//! a backup was restored, or a server that kept its data in memory) is answered by a reset.
//! A *target* token comes with CURRENT and is good for one target: with another it is refused.
//! A *stream* token comes with a snapshot and is good for all targets of the stream: it is given only when
//! all of them are current. It names none, so that it is as short for a thousand as for two.
//! A stream with one target gets a *global* token, which names it: with another it is answered by a reset.
//! Up to 32 targets were named by such tokens before; those are still read.
//!
//! # Why a stream token need name nobody
//!
//! The published SDKs hand the token of a snapshot to their *active* targets: those whose request was answered by
//! `Added` and for which no further request is on its way, whether or not they are current. What they are told comes
//! in one order, so each of these was active here too when the snapshot was told, and stood at it.
//! A target whose request is on its way gets nothing (the web SDK counts the answers that it waits for), and one that
//! is added and not current yet keeps all from getting a token. So no honest client holds a stream token for a target
//! that had not been told everything up to it. One that sends it for a target of its choice deceives itself and
//! nobody else: it is told what has changed and may never have been told the rest.
//!
//! # The replay
//!
//! For targets whose members do not depend on each other, the entries after the token say everything:
//! a document that matches now and was touched is told, a document that matched at any time since and
//! does not now is told to have left.
//! "At any time", because a client may hold documents that are newer than its token; telling of a
//! document that it does not hold does no harm.
//!
//! # What is not done
//!
//! Limited queries and tokens that the changelog no longer reaches: see `catch_up`.

use std::collections::BTreeMap;
use std::sync::Arc;

use watchfire_engine::{Engine, EntriesSince, Error, Version};
use watchfire_model::{DatabaseName, Document, DocumentPath, Invalid};

use crate::result::Shown;
use crate::target::{Interest, Resume, stable_hash};

/// Targets that a global token may name.
const HASHES_PER_TOKEN_MAX: usize = 32;
/// Documents that one replay may touch; with more, results are compared.
pub const REPLAY_DOCUMENTS_MAX: usize = 20_000;
/// Entries read at once.
const ENTRIES_PER_PIECE: usize = 256;

/// Format 1 had no epoch.
const FORMAT: u8 = 2;
const KIND_TARGET: u8 = 1;
const KIND_GLOBAL: u8 = 2;
const KIND_STREAM: u8 = 3;

/// Documents by name; `None` for one that does not exist.
pub type Touched = BTreeMap<DocumentPath, Option<Arc<Document>>>;

/// A point from which a target goes on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// The caller holds the result at this version, or something newer.
    Version(Version),
    /// The same, of a history that may be another than this one.
    Time(Version),
    /// The caller holds something, unknown what.
    Unknown,
}

/// What tokens carry of where they come from: a check of the database in the upper half, of its epoch in the
/// lower.
pub fn origin(database: &DatabaseName, epoch: u64) -> u64 {
    let name = stable_hash(database.to_string().as_bytes());
    (name << 32) | ((epoch ^ (epoch >> 32)) & u64::from(u32::MAX))
}

/// The token of one target that is current at the version.
pub fn target_token(origin: u64, version: Version, target: u64) -> Vec<u8> {
    encode(KIND_TARGET, origin, version, &[target])
}

/// The token of a snapshot at which all targets of the stream, which are these, are current; empty (no token) when there
/// are none.
pub fn snapshot_token(
    origin: u64,
    version: Version,
    mut targets: impl Iterator<Item = u64>,
) -> Vec<u8> {
    match targets.next() {
        None => Vec::new(),
        Some(first) if targets.all(|target| target == first) => {
            encode(KIND_GLOBAL, origin, version, &[first])
        }
        Some(_) => encode(KIND_STREAM, origin, version, &[]),
    }
}

/// Takes a resume value apart. `tail` is the newest version: nothing after it was ever told.
pub fn check(
    resume: &Resume,
    origin: u64,
    target: u64,
    tail: Version,
) -> Result<Option<Point>, Invalid> {
    match resume {
        Resume::None => Ok(None),
        Resume::Token(bytes) if bytes.is_empty() => Ok(None),
        Resume::Token(bytes) => decode(bytes, origin, target, tail)
            .map(Some)
            .ok_or_else(|| Invalid::new("bad resume token")),
        Resume::ReadTime(time) => match u64::try_from(time.micros()) {
            Err(_) => Ok(Some(Point::Unknown)),
            Ok(micros) if micros > tail.0 => Err(Invalid::new(
                "bad resume read_time: it must not be in the future",
            )),
            Ok(micros) => Ok(Some(Point::Time(Version(micros)))),
        },
    }
}

fn encode(kind: u8, origin: u64, version: Version, targets: &[u64]) -> Vec<u8> {
    let mut bytes = vec![FORMAT, kind];
    bytes.extend(origin.to_be_bytes());
    bytes.extend(version.0.to_be_bytes());
    for target in targets {
        bytes.extend(target.to_be_bytes());
    }
    bytes
}

fn decode(bytes: &[u8], origin: u64, target: u64, tail: Version) -> Option<Point> {
    let (&format, bytes) = bytes.split_first()?;
    let (&kind, bytes) = bytes.split_first()?;
    let (numbers, rest) = bytes.as_chunks::<8>();
    let mut numbers = numbers.iter().map(|chunk| u64::from_be_bytes(*chunk));
    let (from, version) = (numbers.next()?, Version(numbers.next()?));
    let targets: Vec<u64> = numbers.collect();
    if format != FORMAT || !rest.is_empty() || from >> 32 != origin >> 32 {
        return None;
    }
    let covered = targets.contains(&target);
    let point = if from == origin {
        Point::Version(version)
    } else {
        Point::Unknown
    };
    if matches!(point, Point::Version(version) if version > tail) {
        return None;
    }
    match kind {
        KIND_TARGET if covered && targets.len() == 1 => Some(point),
        KIND_GLOBAL if targets.is_empty() || targets.len() > HASHES_PER_TOKEN_MAX => None,
        KIND_GLOBAL if covered => Some(point),
        KIND_GLOBAL => Some(Point::Unknown),
        KIND_STREAM if targets.is_empty() => Some(point),
        _ => None,
    }
}

/// The documents that were in the target (limits not considered) at any time after `from`, up to and including `to`,
/// or came in or left then, as they are at `to`. `None` when the changelog does not reach back so far, or too many
/// documents were touched.
pub async fn touched(
    engine: &Engine,
    interest: &Interest,
    from: Version,
    to: Version,
) -> Result<Option<Touched>, Error> {
    let mut touched = Touched::new();
    let mut at = from;
    while at < to {
        let (entries, complete_to) = match engine.entries_since(at, ENTRIES_PER_PIECE).await? {
            EntriesSince::Entries {
                entries,
                complete_to,
            } => (entries, complete_to),
            EntriesSince::TooOld => return Ok(None),
        };
        for entry in entries.iter().filter(|entry| entry.version <= to) {
            for change in &entry.changes {
                // Once touched, always followed: the last state counts, whether it matches or not.
                if interest.concerns(change) || touched.contains_key(&change.path) {
                    touched.insert(change.path.clone(), change.after.clone());
                }
            }
        }
        if touched.len() > REPLAY_DOCUMENTS_MAX || complete_to <= at {
            return Ok(None);
        }
        at = complete_to;
        // Reading may run on this thread, and an hour of changes is long.
        tokio::task::yield_now().await;
    }
    Ok(Some(touched))
}

/// What is told of documents that were touched, in a target whose members do not depend on each other.
pub fn told(interest: &Interest, touched: Touched, to: Version) -> Shown {
    let mut shown = Shown {
        as_of: to,
        ..Shown::default()
    };
    for (path, after) in touched {
        match after {
            Some(document) if interest.matches(&path, Some(&document)) => {
                shown.upserted.push(interest.show(&document));
            }
            after => shown
                .removed
                .push((path, after.map(|document| interest.show(&document)))),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: Version = Version(100);
    const HERE: u64 = 7 << 32 | 1;
    const ELSEWHERE: u64 = 8 << 32 | 1;
    const BEFORE: u64 = 7 << 32 | 2;

    fn check_token(bytes: Vec<u8>) -> Result<Option<Point>, String> {
        check(&Resume::Token(bytes), HERE, 3, TAIL).map_err(|invalid| invalid.to_string())
    }

    fn told_to(origin: u64, version: Version, targets: &[u64]) -> Vec<u8> {
        snapshot_token(origin, version, targets.iter().copied())
    }

    #[test]
    fn tokens_are_good_for_their_target_database_and_past() {
        let bad = Err("bad resume token".to_owned());
        assert_eq!(
            check_token(target_token(HERE, TAIL, 3)),
            Ok(Some(Point::Version(TAIL)))
        );
        assert_eq!(check_token(target_token(HERE, TAIL, 4)), bad);
        assert_eq!(check_token(target_token(ELSEWHERE, TAIL, 3)), bad);
        assert_eq!(check_token(target_token(HERE, Version(101), 3)), bad);
        assert_eq!(
            check_token(told_to(HERE, TAIL, &[3, 3])),
            Ok(Some(Point::Version(TAIL)))
        );
        assert_eq!(
            check_token(told_to(HERE, TAIL, &[1])),
            Ok(Some(Point::Unknown))
        );
        assert_eq!(check_token(told_to(ELSEWHERE, TAIL, &[3])), bad);
        assert_eq!(check_token(b"rubbish".to_vec()), bad);
        let mut old = target_token(HERE, TAIL, 3);
        old[0] = 1;
        assert_eq!(check_token(old), bad);
        assert_eq!(check_token(Vec::new()), Ok(None));
    }

    #[test]
    fn a_token_of_an_earlier_history_says_nothing_but_that_something_is_held() {
        let unknown = Ok(Some(Point::Unknown));
        // That history may have gone further than this one.
        for version in [TAIL, Version(5_000)] {
            assert_eq!(check_token(target_token(BEFORE, version, 3)), unknown);
            assert_eq!(check_token(told_to(BEFORE, version, &[3])), unknown);
            assert_eq!(check_token(told_to(BEFORE, version, &[1, 2])), unknown);
        }
        assert!(check_token(target_token(BEFORE, TAIL, 4)).is_err());
    }

    #[test]
    fn the_origin_tells_databases_and_epochs_apart() {
        let database = |text| DatabaseName::new("p", text).unwrap();
        let origins = [("a", 1), ("a", 2), ("a", 1 << 40), ("b", 1)]
            .map(|(name, epoch)| origin(&database(name), epoch));
        assert!(
            origins[..3]
                .iter()
                .all(|other| other >> 32 == origins[0] >> 32)
        );
        assert_ne!(origins[3] >> 32, origins[0] >> 32);
        assert!(origins[0] != origins[1] && origins[0] != origins[2] && origins[1] != origins[2]);
    }

    #[test]
    fn a_cut_token_is_refused() {
        for token in [target_token(HERE, TAIL, 3), told_to(HERE, TAIL, &[1, 3])] {
            for len in 1..token.len() {
                assert!(check_token(token[..len].to_vec()).is_err(), "{len}");
            }
        }
    }

    #[test]
    fn the_token_of_a_stream_is_good_for_all_of_its_targets_and_short() {
        let bad = Err("bad resume token".to_owned());
        let targets: Vec<u64> = (0..1_000).collect();
        let token = told_to(HERE, TAIL, &targets);
        assert_eq!(token.len(), told_to(HERE, TAIL, &[1, 3]).len());
        assert_eq!(check_token(token), Ok(Some(Point::Version(TAIL))));
        assert_eq!(check_token(told_to(ELSEWHERE, TAIL, &targets)), bad);
        assert_eq!(check_token(told_to(HERE, Version(101), &targets)), bad);
        let mut longer = told_to(HERE, TAIL, &targets);
        longer.extend([0; 8]);
        assert_eq!(check_token(longer), bad);
        assert!(told_to(HERE, TAIL, &[]).is_empty());
    }

    #[test]
    fn tokens_that_name_several_targets_are_still_read() {
        let named = |targets: &[u64]| check_token(encode(KIND_GLOBAL, HERE, TAIL, targets));
        assert_eq!(named(&[1, 3]), Ok(Some(Point::Version(TAIL))));
        assert_eq!(named(&[1, 2]), Ok(Some(Point::Unknown)));
        assert!(named(&[3; HASHES_PER_TOKEN_MAX + 1]).is_err());
        assert!(named(&[]).is_err());
    }
}
