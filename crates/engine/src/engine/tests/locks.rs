//! Transactions that lock, and retries of aborted ones: who waits, for how long, and who goes first.

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::lock::LOOK_INTERVAL;
use crate::lock::asked::Asked;
use crate::lock::table::{LOCK_WAIT_MAX, RETRY_LEASE};

const CONTENTION: &str = "Too much contention on these documents. Please try again.";

/// Lets everybody do what can be done without time passing.
async fn settle_tasks() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

fn options(mode: ConcurrencyMode, retry: Option<&TransactionId>) -> TransactionOptions {
    TransactionOptions::ReadWrite {
        retry: retry.cloned(),
        mode: Some(mode),
    }
}

async fn pessimistic(engine: &Engine) -> TransactionId {
    let options = options(ConcurrencyMode::Pessimistic, None);
    engine.begin(options).await.unwrap()
}

async fn n_in(engine: &Engine, id: &TransactionId, at: &str) -> Result<Option<i64>, Error> {
    let view = engine.transaction_view(id).await?;
    let document = view.document(&path(at)).await?;
    Ok(
        document.and_then(|document| match document.fields.get("n") {
            Some(Value::Integer(n)) => Some(*n),
            _ => None,
        }),
    )
}

fn spawn_read(
    engine: &Engine,
    id: &TransactionId,
    at: &'static str,
) -> JoinHandle<Result<Option<i64>, Error>> {
    let (engine, id) = (engine.clone(), id.clone());
    tokio::spawn(async move { n_in(&engine, &id, at).await })
}

fn spawn_commit(engine: &Engine, writes: Vec<Write>) -> JoinHandle<Result<Receipt, Error>> {
    let engine = engine.clone();
    tokio::spawn(async move { commit(&engine, writes).await })
}

/// A transaction that lost against another one, on `c/a`.
async fn aborted(engine: &Engine) -> TransactionId {
    let id = begin(engine).await;
    n_in(engine, &id, "c/a").await.unwrap();
    commit(engine, vec![increment("c/a")]).await.unwrap();
    let lost = commit_in(engine, &id, vec![increment("c/a")]).await;
    assert!(matches!(lost, Err(Error::Aborted)));
    id
}

fn is_contention<T>(result: Result<T, Error>) -> bool {
    result.is_err_and(|error| error.to_string() == CONTENTION)
}

/// Adds one to each of the documents by reading and writing it, as an SDK does; how many attempts it took.
async fn count(engine: Engine, mode: ConcurrencyMode, all: &[&str]) -> Option<usize> {
    let mut retry = None;
    for attempt in 1..=5 {
        let id = engine.begin(options(mode, retry.as_ref())).await.unwrap();
        let done = async {
            let mut writes = Vec::new();
            for at in all {
                let n = n_in(&engine, &id, at).await?.unwrap_or(0);
                writes.push(set(at, n + 1));
                // The client's own time.
                settle_tasks().await;
            }
            commit_in(&engine, &id, writes).await
        };
        match done.await {
            Ok(_) => return Some(attempt),
            Err(Error::Aborted | Error::Contention) => {}
            Err(error) => panic!("{error}"),
        }
        engine.rollback(&id);
        tokio::time::sleep(std::time::Duration::from_millis(100 * attempt as u64)).await;
        retry = Some(id);
    }
    None
}

async fn all_count(mode: ConcurrencyMode, attempts_max: usize) {
    let (engine, _, _) = fresh().await;
    let tasks: Vec<_> = (0..64)
        .map(|_| tokio::spawn(count(engine.clone(), mode, &["c/a"])))
        .collect();
    for task in tasks {
        let attempts = task.await.unwrap().expect("nobody gives up");
        assert!(attempts <= attempts_max, "{attempts} attempts");
    }
    assert_eq!(n(&engine, "c/a").await, Some(64));
    assert_eq!(engine.transactions().locks().held(), 0);
}

#[tokio::test(start_paused = true)]
async fn sixty_four_optimistic_clients_on_one_counter_need_two_attempts() {
    all_count(ConcurrencyMode::Optimistic, 2).await;
}

#[tokio::test(start_paused = true)]
async fn sixty_four_pessimistic_clients_on_one_counter_need_one_attempt() {
    all_count(ConcurrencyMode::Pessimistic, 1).await;
}

#[tokio::test(start_paused = true)]
async fn two_documents_in_opposite_orders_need_two_attempts() {
    for mode in [ConcurrencyMode::Optimistic, ConcurrencyMode::Pessimistic] {
        let (engine, _, _) = fresh().await;
        let orders: [&[&str]; 2] = [&["c/a", "c/b"], &["c/b", "c/a"]];
        let tasks: Vec<_> = (0..64)
            .map(|number| tokio::spawn(count(engine.clone(), mode, orders[number % 2])))
            .collect();
        for task in tasks {
            assert!(task.await.unwrap().expect("nobody gives up") <= 2);
        }
        assert_eq!(n(&engine, "c/a").await, Some(64));
        assert_eq!(n(&engine, "c/b").await, Some(64));
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_after_the_lock_sees_the_newest_state() {
    let (engine, store, _) = fresh_faulty().await;
    commit(&engine, vec![set("c/a", 1)]).await.unwrap();
    let id = pessimistic(&engine).await;
    commit(&engine, vec![set("c/a", 2)]).await.unwrap();
    assert_eq!(n_in(&engine, &id, "c/a").await.unwrap(), Some(2));
    commit(&engine, vec![set("c/b", 3)]).await.unwrap();
    assert_eq!(n_in(&engine, &id, "c/b").await.unwrap(), Some(3));
    commit_in(&engine, &id, vec![set("c/a", 5)]).await.unwrap();

    // Also what is being stored when the lock is granted.
    store.hold();
    let blind = spawn_commit(&engine, vec![set("c/a", 7)]);
    store.held(1).await;
    let id = pessimistic(&engine).await;
    let other = spawn_read(&engine, &id, "c/b");
    let read = spawn_read(&engine, &id, "c/a");
    settle_tasks().await;
    assert!(other.is_finished() && !read.is_finished());
    store.release().await;
    assert_eq!(read.await.unwrap().unwrap(), Some(7));
    blind.await.unwrap().unwrap();
    commit_in(&engine, &id, vec![set("c/a", 8)]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn many_documents_are_read_at_one_version() {
    let (engine, _, _) = fresh().await;
    let id = pessimistic(&engine).await;
    let view = engine.transaction_view(&id).await.unwrap();
    let paths = ["c/a", "c/b", "c/c"].map(path);
    let newest = commit(&engine, vec![set("c/a", 1)]).await.unwrap().version;
    let asked = || paths.iter().cloned().map(Asked::Document).collect();
    let view = view.locked(asked).await.unwrap();
    assert_eq!(view.version(), newest);
    commit(&engine, vec![set("c/x", 1)]).await.unwrap();
    let waits = spawn_commit(&engine, vec![set("c/b", 1)]);
    settle_tasks().await;
    assert!(!waits.is_finished());
    assert!(view.document(&path("c/a")).await.unwrap().is_some());
    assert!(view.document(&path("c/b")).await.unwrap().is_none());
    engine.rollback(&id);
    waits.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn opposite_orders_end_with_the_younger_one_beginning_again() {
    let (engine, _, _) = fresh().await;
    let (older, younger) = (pessimistic(&engine).await, pessimistic(&engine).await);
    n_in(&engine, &older, "c/a").await.unwrap();
    n_in(&engine, &younger, "c/b").await.unwrap();
    let waits = spawn_read(&engine, &older, "c/b");
    settle_tasks().await;
    assert!(!waits.is_finished());
    assert!(is_contention(n_in(&engine, &younger, "c/a").await));
    waits.await.unwrap().unwrap();
    // Whatever it does next, it hears the same.
    assert!(is_contention(n_in(&engine, &younger, "c/x").await));
    let writes = vec![set("c/b", 1)];
    assert!(is_contention(commit_in(&engine, &younger, writes).await));
    commit_in(&engine, &older, vec![set("c/a", 1), set("c/b", 1)])
        .await
        .unwrap();
    assert_eq!(engine.transactions().locks().held(), 0);
}

#[tokio::test(start_paused = true)]
async fn blind_writes_wait_for_locks_and_then_win() {
    let (engine, _, _) = fresh().await;
    let id = pessimistic(&engine).await;
    n_in(&engine, &id, "c/a").await.unwrap();
    let blind = spawn_commit(&engine, vec![set("c/a", 9)]);
    let first_attempt = begin(&engine).await;
    n_in(&engine, &first_attempt, "c/a").await.unwrap();
    let optimistic = {
        let engine = engine.clone();
        tokio::spawn(
            async move { commit_in(&engine, &first_attempt, vec![increment("c/a")]).await },
        )
    };
    settle_tasks().await;
    assert!(!blind.is_finished() && !optimistic.is_finished());
    commit(&engine, vec![set("c/b", 1)]).await.unwrap();
    let locked = commit_in(&engine, &id, vec![set("c/a", 1)]).await.unwrap();
    assert!(blind.await.unwrap().unwrap().version > locked.version);
    assert!(matches!(optimistic.await.unwrap(), Err(Error::Aborted)));
    assert_eq!(n(&engine, "c/a").await, Some(9));
}

#[tokio::test(start_paused = true)]
async fn an_older_commit_takes_locks_from_younger_transactions() {
    let (engine, _, _) = fresh().await;
    let (older, younger) = (pessimistic(&engine).await, pessimistic(&engine).await);
    n_in(&engine, &older, "c/a").await.unwrap();
    let view = engine.transaction_view(&younger).await.unwrap();
    assert!(view.query(&all_of("d")).await.unwrap().0.is_empty());
    // Writers that entered into no competition wait, however old they are.
    let blind = spawn_commit(&engine, vec![set("d/x", 1)]);
    settle_tasks().await;
    assert!(!blind.is_finished());
    commit_in(&engine, &older, vec![set("d/y", 1)])
        .await
        .unwrap();
    blind.await.unwrap().unwrap();
    assert!(is_contention(view.query(&all_of("d")).await));
    assert!(is_contention(
        commit_in(&engine, &younger, Vec::new()).await
    ));
}

#[tokio::test(start_paused = true)]
async fn waits_for_locks_are_bounded() {
    let (engine, _, _) = fresh().await;
    let (holder, waiter) = (pessimistic(&engine).await, pessimistic(&engine).await);
    n_in(&engine, &holder, "c/a").await.unwrap();
    let began = Instant::now();
    let blind = spawn_commit(&engine, vec![set("c/a", 9)]);
    assert!(is_contention(n_in(&engine, &waiter, "c/a").await));
    assert!(is_contention(blind.await.unwrap()));
    let took = began.elapsed();
    assert!(took >= LOCK_WAIT_MAX && took < LOCK_WAIT_MAX + LOOK_INTERVAL);
    assert_eq!(n(&engine, "c/a").await, None);
    commit_in(&engine, &holder, vec![set("c/a", 1)])
        .await
        .unwrap();
    // It has locked nothing, and nothing was taken from it.
    n_in(&engine, &waiter, "c/a").await.unwrap();
    commit_in(&engine, &waiter, vec![set("c/a", 2)])
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_retry_goes_before_everybody_younger() {
    let (engine, _, _) = fresh().await;
    let old = aborted(&engine).await;
    let holder = pessimistic(&engine).await;
    n_in(&engine, &holder, "c/a").await.unwrap();
    let younger = pessimistic(&engine).await;
    let younger = spawn_read(&engine, &younger, "c/a");
    settle_tasks().await;
    let retry = options(ConcurrencyMode::Optimistic, Some(&old));
    let retry = engine.begin(retry).await.unwrap();
    let goes = spawn_read(&engine, &retry, "c/a");
    settle_tasks().await;
    assert!(!goes.is_finished());
    engine.rollback(&holder);
    goes.await.unwrap().unwrap();
    settle_tasks().await;
    assert!(!younger.is_finished());
    commit_in(&engine, &retry, vec![increment("c/a")])
        .await
        .unwrap();
    younger.await.unwrap().unwrap();

    // A first attempt, and another attempt of one that was given up, lock nothing.
    let given_up = begin(&engine).await;
    engine.rollback(&given_up);
    for retry in [None, Some(&given_up)] {
        let id = options(ConcurrencyMode::Optimistic, retry);
        let id = engine.begin(id).await.unwrap();
        n_in(&engine, &id, "c/b").await.unwrap();
        commit(&engine, vec![increment("c/b")]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_locks_of_a_retry_are_a_short_lease() {
    let (engine, _, _) = fresh().await;
    for overtaken in [true, false] {
        let first = aborted(&engine).await;
        let before = n(&engine, "c/a").await;
        let retry = options(ConcurrencyMode::Optimistic, Some(&first));
        let retry = engine.begin(retry).await.unwrap();
        assert_eq!(n_in(&engine, &retry, "c/a").await.unwrap(), before);
        tokio::time::advance(2 * RETRY_LEASE).await;
        // Nobody has waited, so it has kept them.
        let id = pessimistic(&engine).await;
        let began = Instant::now();
        n_in(&engine, &id, "c/a").await.unwrap();
        assert!(began.elapsed() <= LOOK_INTERVAL);
        if overtaken {
            let writes = vec![increment("c/a"), increment("c/b")];
            commit_in(&engine, &id, writes).await.unwrap();
        } else {
            engine.rollback(&id);
        }
        // It goes on with what was true when it had its locks.
        assert_eq!(n_in(&engine, &retry, "c/a").await.unwrap(), before);
        let at_the_lease = if overtaken { None } else { Some(1) };
        assert_eq!(n_in(&engine, &retry, "c/b").await.unwrap(), at_the_lease);
        let committed = commit_in(&engine, &retry, vec![increment("c/a")]).await;
        assert_eq!(committed.is_err(), overtaken, "{committed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_stands_in_nobodys_way() {
    let (engine, _, clock) = fresh().await;
    let holder = pessimistic(&engine).await;
    n_in(&engine, &holder, "c/a").await.unwrap();
    clock.advance(30 * SECOND);
    let waiter = pessimistic(&engine).await;
    let waits = spawn_read(&engine, &waiter, "c/a");
    let blind = spawn_commit(&engine, vec![set("c/a", 3)]);
    settle_tasks().await;
    assert!(!waits.is_finished());
    clock.advance(31 * SECOND);
    let began = Instant::now();
    waits.await.unwrap().unwrap();
    assert!(began.elapsed() <= LOOK_INTERVAL);
    commit_in(&engine, &waiter, vec![set("c/a", 1)])
        .await
        .unwrap();
    blind.await.unwrap().unwrap();
    assert!(matches!(
        commit_in(&engine, &holder, vec![set("c/a", 2)]).await,
        Err(Error::TransactionExpired)
    ));
}

#[tokio::test(start_paused = true)]
async fn whoever_stops_waiting_leaves_nothing_behind() {
    let (engine, _, _) = fresh().await;
    let holder = pessimistic(&engine).await;
    n_in(&engine, &holder, "c/a").await.unwrap();
    let gone = pessimistic(&engine).await;
    let reads = spawn_read(&engine, &gone, "c/a");
    let writes = spawn_commit(&engine, vec![set("c/a", 9)]);
    settle_tasks().await;
    reads.abort();
    writes.abort();
    assert!(reads.await.is_err() && writes.await.is_err());
    let rolled_back = pessimistic(&engine).await;
    let reads = spawn_read(&engine, &rolled_back, "c/a");
    settle_tasks().await;
    engine.rollback(&rolled_back);
    assert!(matches!(
        reads.await.unwrap(),
        Err(Error::TransactionExpired)
    ));
    let last = pessimistic(&engine).await;
    let reads = spawn_read(&engine, &last, "c/a");
    settle_tasks().await;
    commit_in(&engine, &holder, vec![set("c/a", 1)])
        .await
        .unwrap();
    assert_eq!(reads.await.unwrap().unwrap(), Some(1));
    engine.rollback(&last);
    assert_eq!(engine.transactions().locks().held(), 0);
}

#[tokio::test(start_paused = true)]
async fn reads_without_locks_never_wait() {
    let (engine, _, _) = fresh().await;
    commit(&engine, vec![set("c/a", 1)]).await.unwrap();
    let holder = pessimistic(&engine).await;
    n_in(&engine, &holder, "c/a").await.unwrap();
    let began = Instant::now();
    let read_only = TransactionOptions::ReadOnly { read_time: None };
    let read_only = engine.begin(read_only).await.unwrap();
    let optimistic = begin(&engine).await;
    assert_eq!(n(&engine, "c/a").await, Some(1));
    for id in [&read_only, &optimistic] {
        assert_eq!(n_in(&engine, id, "c/a").await.unwrap(), Some(1));
        commit_in(&engine, id, Vec::new()).await.unwrap();
    }
    assert_eq!(began.elapsed(), std::time::Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn closing_ends_the_waits() {
    let (engine, _, _) = fresh().await;
    let holder = pessimistic(&engine).await;
    n_in(&engine, &holder, "c/a").await.unwrap();
    let blind = spawn_commit(&engine, vec![set("c/a", 9)]);
    let reader = pessimistic(&engine).await;
    let reads = spawn_read(&engine, &reader, "c/a");
    settle_tasks().await;
    engine.close().await.unwrap();
    assert!(matches!(blind.await.unwrap(), Err(Error::Unavailable(_))));
    assert!(matches!(reads.await.unwrap(), Err(Error::Unavailable(_))));
}

#[tokio::test(start_paused = true)]
async fn closing_ends_the_waits_also_when_whoever_closes_goes_away() {
    let (engine, _, _) = fresh().await;
    let holder = pessimistic(&engine).await;
    n_in(&engine, &holder, "c/a").await.unwrap();
    let blind = spawn_commit(&engine, vec![set("c/a", 9)]);
    settle_tasks().await;
    let began = Instant::now();
    // Once: the order to close is on its way, and nobody waits for what came of it.
    let closing = Box::pin(engine.close());
    let polled = tokio::time::timeout(std::time::Duration::ZERO, closing).await;
    assert!(
        polled.is_err(),
        "it was answered before anybody could go away"
    );
    assert!(matches!(blind.await.unwrap(), Err(Error::Unavailable(_))));
    assert_eq!(began.elapsed(), std::time::Duration::ZERO);
}

/// A commit that was let through has given its locks back. When its group has to be formed anew, others may hold them.
#[tokio::test(start_paused = true)]
async fn who_was_granted_locks_while_a_group_is_formed_anew_does_not_go_on_with_two_states() {
    let (engine, store, _) = fresh_faulty().await;
    commit(&engine, vec![set("c/a", 1), set("c/b", 1)])
        .await
        .unwrap();
    let older = pessimistic(&engine).await;
    n_in(&engine, &older, "c/a").await.unwrap();
    store.hold();
    let lost = spawn_commit(&engine, vec![set("c/x", 1)]);
    store.held(1).await;
    let let_through = {
        let (engine, older) = (engine.clone(), older.clone());
        let writes = vec![set("c/a", 2), set("c/b", 2)];
        tokio::spawn(async move { commit_in(&engine, &older, writes).await })
    };
    settle_tasks().await;
    let younger = pessimistic(&engine).await;
    let first = spawn_read(&engine, &younger, "c/a");
    settle_tasks().await;
    assert!(!first.is_finished(), "the newest state is on its way");
    // The group before it is lost, and both are formed anew.
    store.crash(0).await;
    store.restart();
    assert!(matches!(lost.await.unwrap(), Err(Error::Unavailable(_))));
    let_through.await.unwrap().unwrap();
    let first = first.await.unwrap();
    let second = n_in(&engine, &younger, "c/b").await;
    match (first, second) {
        (Ok(first), Ok(second)) => assert_eq!(first, second, "two states"),
        (first, second) => assert!(is_contention(first) || is_contention(second)),
    }
}

#[tokio::test(start_paused = true)]
async fn the_settings_say_what_a_transaction_is_that_does_not() {
    let settings = Settings {
        concurrency: ConcurrencyMode::Pessimistic,
        ..Settings::default()
    };
    let engine = Engine::open_with(database(), MemoryStore::new(), HandClock::new(), settings);
    let engine = engine.await.unwrap();
    for (mode, locks) in [
        (None, true),
        (Some(ConcurrencyMode::Optimistic), false),
        (Some(ConcurrencyMode::Pessimistic), true),
    ] {
        let options = TransactionOptions::ReadWrite { retry: None, mode };
        let id = engine.begin(options).await.unwrap();
        n_in(&engine, &id, "c/a").await.unwrap();
        assert_eq!(engine.transactions().locks().held() == 1, locks);
        engine.rollback(&id);
    }
}

/// What one committed transaction saw and did.
struct Committed {
    version: Version,
    sum: i64,
    count: i64,
    writes: Vec<Write>,
}

/// Sums up `c`, and moves into it and inside it, as an SDK does.
async fn sum(engine: Engine, mode: ConcurrencyMode, number: i64) -> Committed {
    let mut retry = None;
    for _ in 0..5 {
        let id = engine.begin(options(mode, retry.as_ref())).await.unwrap();
        let done = async {
            let view = engine.transaction_view(&id).await?;
            let (documents, _) = view.query(&all_of("c")).await?;
            let values = documents.iter().map(|document| match document.fields["n"] {
                Value::Integer(n) => n,
                _ => 0,
            });
            let (sum, count) = (values.sum::<i64>(), documents.len() as i64);
            settle_tasks().await;
            let at = format!("c/{}", number % 7);
            let writes = match number % 3 {
                0 => vec![set(&format!("c/new{number}"), sum + 1)],
                1 => vec![set(&at, sum % 10)],
                _ => vec![delete(&at), set(&format!("c/moved{number}"), count)],
            };
            let receipt = commit_in(&engine, &id, writes.clone()).await?;
            Ok(Committed {
                version: receipt.version,
                sum,
                count,
                writes,
            })
        };
        match done.await {
            Ok(committed) => return committed,
            Err(Error::Aborted | Error::Contention) => {}
            Err(error) => panic!("{error}"),
        }
        engine.rollback(&id);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        retry = Some(id);
    }
    panic!("it gave up");
}

async fn sums_are_serializable(mode: ConcurrencyMode) {
    let (engine, _, _) = fresh().await;
    let first = (0..7).map(|number| set(&format!("c/{number}"), number));
    let first: Vec<Write> = first.collect();
    commit(&engine, first.clone()).await.unwrap();
    let tasks: Vec<_> = (0..24)
        .map(|number| tokio::spawn(sum(engine.clone(), mode, number)))
        .collect();
    let blind = spawn_commit(&engine, vec![set("c/blind", 1000)]);
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await.unwrap());
    }
    all.push(Committed {
        version: blind.await.unwrap().unwrap().version,
        sum: -1,
        count: -1,
        writes: vec![set("c/blind", 1000)],
    });
    all.sort_by_key(|committed| committed.version);
    let mut state = std::collections::BTreeMap::new();
    let mut play = |writes: &[Write]| {
        for write in writes {
            match &write.operation {
                WriteOperation::Set(fields) => {
                    let Some(Value::Integer(n)) = fields.get("n") else {
                        panic!("only numbers are written");
                    };
                    state.insert(write.path.as_str().to_owned(), *n);
                }
                _ => drop(state.remove(write.path.as_str())),
            }
        }
        (state.values().sum::<i64>(), state.len() as i64)
    };
    let mut before = play(&first);
    for committed in all {
        if committed.sum >= 0 {
            assert_eq!((committed.sum, committed.count), before);
        }
        before = play(&committed.writes);
    }
}

#[tokio::test(start_paused = true)]
async fn optimistic_sums_see_no_phantoms() {
    sums_are_serializable(ConcurrencyMode::Optimistic).await;
}

#[tokio::test(start_paused = true)]
async fn pessimistic_sums_see_no_phantoms() {
    sums_are_serializable(ConcurrencyMode::Pessimistic).await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_somebody_retries_while_it_is_open_loses_no_more_than_its_locks() {
    let (engine, _, _) = fresh().await;
    commit(&engine, vec![set("c/a", 1)]).await.unwrap();
    let optimistic = begin(&engine).await;
    n_in(&engine, &optimistic, "c/a").await.unwrap();
    let other = options(ConcurrencyMode::Optimistic, Some(&optimistic));
    engine.begin(other).await.unwrap();
    commit_in(&engine, &optimistic, vec![set("c/a", 2)])
        .await
        .unwrap();

    let locking = pessimistic(&engine).await;
    n_in(&engine, &locking, "c/a").await.unwrap();
    let other = options(ConcurrencyMode::Pessimistic, Some(&locking));
    let other = engine.begin(other).await.unwrap();
    let before = Instant::now();
    assert_eq!(n_in(&engine, &other, "c/a").await.unwrap(), Some(2));
    assert_eq!(before.elapsed(), std::time::Duration::ZERO);
    let lost = commit_in(&engine, &locking, vec![set("c/a", 3)]).await;
    assert!(is_contention(lost));
    commit_in(&engine, &other, vec![set("c/a", 4)])
        .await
        .unwrap();
    assert_eq!(n(&engine, "c/a").await, Some(4));
}
