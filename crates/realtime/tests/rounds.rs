//! How what is said to many streams is given to them in rounds: nobody misses it or hears it twice, whoever comes and
//! goes meanwhile, and large cohorts leave others their turn.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use watchfire_engine::Version;
use watchfire_model::watch::WatchEvent;
use watchfire_model::{DatabaseName, Document};
use watchfire_realtime::cohort::{Cohorts, PAUSE_MAX, SLICE};
use watchfire_realtime::outbox::{Queue, Signal, Weight};
use watchfire_realtime::result::{Results, Standing};
use watchfire_realtime::session::{Session, Watch};
use watchfire_realtime::target::{SessionId, SharedId, StreamId};
use watchfire_realtime::{Outbox, Telling};

/// Results that are there and empty.
struct Empty;

impl Results for Empty {
    fn stands(&self, _target: SharedId) -> bool {
        true
    }
    fn documents(&self, _target: SharedId) -> Vec<Arc<Document>> {
        Vec::new()
    }
    fn count(&self, _target: SharedId) -> usize {
        0
    }
    fn standing(&self, _target: SharedId) -> Arc<Standing> {
        Arc::new(Standing::new(Vec::new()))
    }
}

/// A session at rest that watches one target.
fn session_at_rest(shared: u64) -> Session {
    let mut session = Session::new(1, Arc::new(DatabaseName::new("p", "d").unwrap()));
    assert_eq!(session.admit(1), Ok(Some(1)));
    let watch = Watch {
        shared: SharedId(shared),
        watch: shared,
        hash: shared,
        projected: false,
        once: false,
        replay_from: None,
        by_time: false,
        reset: false,
        expected_count: None,
        not_before: Version::default(),
    };
    session.watch(1, watch);
    session.take_answers();
    session.filled(1);
    session.flush(Version(1), &Empty);
    session
}

/// Streams that watch the same, as one cohort, under the numbers from `first`.
fn cohort(
    cohorts: &mut Cohorts,
    shared: u64,
    first: u64,
    members: u64,
) -> (SessionId, Vec<Outbox>) {
    let signal = Arc::new(Signal::default());
    let mut outboxes = Vec::new();
    for number in first..first + members {
        let stream = StreamId(number);
        let (queue, outbox) = Queue::new(stream, Arc::clone(&signal));
        let id = cohorts.open(stream, queue, session_at_rest(shared));
        assert_eq!(cohorts.rest(id).is_some(), number > first);
        outboxes.push(outbox);
    }
    (cohorts.of(StreamId(first)).unwrap(), outboxes)
}

/// A word that is told apart from others.
fn word(number: i32) -> Vec<WatchEvent> {
    vec![WatchEvent::Added { target: number }]
}

fn waiting(outbox: &mut Outbox) -> Vec<Arc<Telling>> {
    match outbox.poll_tellings(&Context::from_waker(Waker::noop()), usize::MAX) {
        Poll::Ready(Some(Ok(tellings))) => tellings,
        Poll::Pending => Vec::new(),
        Poll::Ready(other) => panic!("the stream ended: {other:?}"),
    }
}

/// Gives everything that has been said, in as many rounds as it takes.
async fn give_all(cohorts: &mut Cohorts) {
    while cohorts.is_giving() || cohorts.turn_due().is_some() {
        tokio::time::advance(PAUSE_MAX).await;
        assert!(cohorts.give().stragglers.is_empty());
    }
}

fn words(outbox: &mut Outbox) -> Vec<i32> {
    waiting(outbox)
        .iter()
        .flat_map(|telling| telling.events())
        .map(|event| match event {
            WatchEvent::Added { target } => *target,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn who_is_left_alone_in_a_pause_is_told_at_once() {
    let mut cohorts = Cohorts::default();
    let (id, mut outboxes) = cohort(&mut cohorts, 1, 1, 100);
    let mut last = outboxes.pop().unwrap();
    cohorts.say(id, word(1), Weight::Told);
    cohorts.give();
    // The next round is not due yet.
    cohorts.say(id, word(2), Weight::Told);
    cohorts.give();
    assert_eq!(words(&mut last), [1]);
    cohorts.wait(id, tokio::time::Instant::now());
    for stream in 1..100 {
        assert!(words(&mut last).is_empty());
        cohorts.close(StreamId(stream));
    }
    assert_eq!(words(&mut last), [2]);
    cohorts.say(id, word(3), Weight::Answer);
    assert_eq!(words(&mut last), [3]);
    assert!(!cohorts.is_giving() && cohorts.turn_due().is_none());
    assert_eq!(cohorts.give().relieved, [id]);
    assert!(cohorts.close(StreamId(100)).is_some());
}

#[tokio::test(start_paused = true)]
async fn who_leaves_in_the_middle_of_a_round_misses_and_repeats_nothing() {
    let members = SLICE as u64 * 2 + 100;
    // Leaves before its turn, after it, and as the last one; what the others are told must not depend on it.
    for (leaver, parts) in [
        (5, true),
        (5, false),
        (members - 10, true),
        (members - 10, false),
        (members - 1, true),
        (SLICE as u64, false),
    ] {
        let mut cohorts = Cohorts::default();
        let (id, mut outboxes) = cohort(&mut cohorts, 1, 0, members);
        cohorts.say(id, word(1), Weight::Told);
        assert!(cohorts.give().stragglers.is_empty());
        cohorts.say(id, word(2), Weight::Told);
        if parts {
            let (own, copied) = cohorts.part(StreamId(leaver)).unwrap();
            assert!(own != id && copied.is_some());
        } else {
            assert!(cohorts.close(StreamId(leaver)).is_none());
        }
        cohorts.say(id, word(3), Weight::Told);
        // The rest of the round; what was said meanwhile goes out in the next, with what is said before that.
        for _ in 0..2 {
            assert!(cohorts.give().stragglers.is_empty());
        }
        assert!(!cohorts.is_giving());
        cohorts.say(id, word(4), Weight::Told);
        give_all(&mut cohorts).await;
        for (number, outbox) in outboxes.iter_mut().enumerate() {
            let expected: &[i32] = if number as u64 == leaver {
                &[1, 2]
            } else {
                &[1, 2, 3, 4]
            };
            assert_eq!(words(outbox), expected, "{number}, {leaver} leaves");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_the_place_of_one_that_left_between_rounds_hears_nothing_twice() {
    let members = 200;
    let mut cohorts = Cohorts::default();
    let (id, mut outboxes) = cohort(&mut cohorts, 1, 0, members);
    cohorts.say(id, word(1), Weight::Told);
    cohorts.give();
    // The next round is not due yet.
    cohorts.say(id, word(2), Weight::Told);
    assert!(cohorts.turn_due().is_some());
    assert!(cohorts.close(StreamId(3)).is_none());
    cohorts.say(id, word(3), Weight::Told);
    give_all(&mut cohorts).await;
    for (number, outbox) in outboxes.iter_mut().enumerate() {
        if number != 3 {
            assert_eq!(words(outbox), [1, 2, 3], "{number}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_joins_hears_only_what_is_said_from_then_on() {
    let mut cohorts = Cohorts::default();
    let (id, mut outboxes) = cohort(&mut cohorts, 1, 0, SLICE as u64 + 10);
    cohorts.say(id, word(1), Weight::Told);
    cohorts.give();
    // Its own session has told it the same.
    let (queue, mut outbox) = Queue::new(StreamId(9_999), Arc::default());
    let own = cohorts.open(StreamId(9_999), queue, session_at_rest(1));
    assert!(cohorts.rest(own).is_some());
    cohorts.say(id, word(2), Weight::Told);
    give_all(&mut cohorts).await;
    assert_eq!(words(&mut outbox), [2]);
    for outbox in &mut outboxes {
        assert_eq!(words(outbox), [1, 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_cohort_does_not_starve_small_ones() {
    let mut cohorts = Cohorts::default();
    let (large, _outboxes) = cohort(&mut cohorts, 1, 0, 20_000);
    let (pair, mut of_pair) = cohort(&mut cohorts, 2, 30_000, 2);
    let (single, mut of_single) = cohort(&mut cohorts, 3, 40_000, 1);
    cohorts.say(large, word(1), Weight::Told);
    cohorts.give();
    cohorts.say(large, word(2), Weight::Told);
    cohorts.say(pair, word(3), Weight::Told);
    cohorts.say(single, word(4), Weight::Told);
    // Alone, at once; two, after one slice of the large one.
    assert_eq!(words(of_single.first_mut().unwrap()), [4]);
    cohorts.give();
    cohorts.give();
    for outbox in &mut of_pair {
        assert_eq!(words(outbox), [3]);
    }
    assert!(cohorts.is_giving());
}
