//! One group is formed while another is on its way: what is told to whom, and when.

use tokio::task::JoinHandle;
use watchfire_model::Precondition;

use super::*;
use crate::changelog::reader::trimmed_to;
use crate::version::timestamp;

/// Lets everybody do what can be done without the store.
async fn settle_tasks() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

fn spawn(engine: &Engine, writes: Vec<Write>) -> JoinHandle<Result<Receipt, Error>> {
    let engine = engine.clone();
    tokio::spawn(async move { commit(&engine, writes).await })
}

fn create(at: &str, n: i64) -> Write {
    Write {
        precondition: Precondition::Exists(false),
        ..set(at, n)
    }
}

/// Two servers on one store, which the first of them reaches through what can fail.
struct Two {
    one: Engine,
    two: Engine,
    store: Arc<FaultyStore>,
    inner: Arc<MemoryStore>,
    clock: Arc<HandClock>,
}

async fn two_servers() -> Two {
    let inner = MemoryStore::new();
    let store = FaultyStore::new(Arc::<MemoryStore>::clone(&inner), Faults::default());
    let clock = HandClock::new();
    let one = Engine::open(
        database(),
        Arc::<FaultyStore>::clone(&store),
        Arc::<HandClock>::clone(&clock),
    );
    Two {
        one: one.await.unwrap(),
        two: open(&inner, &clock).await,
        store,
        inner,
        clock,
    }
}

#[tokio::test]
async fn commits_gather_on_the_state_that_the_group_on_its_way_leaves() {
    let (engine, store, _) = fresh_faulty().await;
    let began = *engine.tail().borrow();
    store.hold();
    let first = spawn(&engine, vec![set("c/a", 1)]);
    store.held(1).await;
    let others: Vec<_> = (0..10)
        .map(|_| spawn(&engine, vec![increment("c/a")]))
        .collect();
    let again = spawn(&engine, vec![create("c/a", 7)]);
    settle_tasks().await;
    assert!(!first.is_finished() && !again.is_finished());
    assert!(others.iter().all(|other| !other.is_finished()));
    assert!(
        read(&engine, "c/a").await.is_none(),
        "nothing is durable yet"
    );
    store.release().await;
    let mut last = first.await.unwrap().unwrap().version;
    for other in others {
        let version = other.await.unwrap().unwrap().version;
        assert!(version > last);
        last = version;
    }
    assert!(matches!(again.await.unwrap(), Err(Error::AlreadyExists(_))));
    assert_eq!(n(&engine, "c/a").await, Some(11));
    let (entries, complete_to) = since(&engine, began, usize::MAX).await;
    assert_eq!((entries.len(), complete_to), (11, last));
}

#[tokio::test]
async fn what_was_formed_on_a_group_that_failed_is_formed_again() {
    let (engine, store, _) = fresh_faulty().await;
    for (written, at) in [(0, "c/a"), (1, "c/b")] {
        store.hold();
        let first = spawn(&engine, vec![create(at, 1)]);
        store.held(1).await;
        let second = spawn(&engine, vec![create(at, 2)]);
        let third = spawn(&engine, vec![increment("c/n")]);
        settle_tasks().await;
        store.crash(written).await;
        store.restart();
        assert!(matches!(first.await.unwrap(), Err(Error::Unavailable(_))));
        third.await.unwrap().unwrap();
        match written {
            0 => drop(second.await.unwrap().unwrap()),
            _ => assert!(matches!(
                second.await.unwrap(),
                Err(Error::AlreadyExists(_))
            )),
        }
    }
    assert_eq!(n(&engine, "c/a").await, Some(2));
    assert_eq!(n(&engine, "c/b").await, Some(1));
    assert_eq!(n(&engine, "c/n").await, Some(2));
}

#[tokio::test]
async fn both_groups_are_formed_again_when_another_server_came_first() {
    let Two {
        one, two, store, ..
    } = two_servers().await;
    let began = *two.tail().borrow();
    let id = begin(&one).await;
    let view = one.transaction_view(&id).await.unwrap();
    assert!(view.document(&path("c/a")).await.unwrap().is_none());
    store.hold();
    let first = spawn(&one, vec![increment("c/a")]);
    store.held(1).await;
    let second = spawn(&one, vec![increment("c/a"), increment("c/b")]);
    let lost = {
        let one = one.clone();
        tokio::spawn(async move { commit_in(&one, &id, vec![set("c/a", 100)]).await })
    };
    settle_tasks().await;
    commit(&two, vec![increment("c/a")]).await.unwrap();
    store.release().await;
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert!(matches!(lost.await.unwrap(), Err(Error::Aborted)));
    assert_eq!(n(&one, "c/a").await, Some(3));
    assert_eq!(n(&two, "c/b").await, Some(1));
    assert_eq!(since(&one, began, usize::MAX).await.0.len(), 3);
}

#[tokio::test]
async fn the_tail_is_settled_by_the_groups_that_land() {
    let (engine, store, clock) = fresh_faulty().await;
    store.hold();
    let first = spawn(&engine, vec![increment("c/a")]);
    store.held(1).await;
    clock.advance(1_000_000);
    let wanted = present(clock.as_ref());
    let settled = {
        let engine = engine.clone();
        tokio::spawn(async move { engine.settled_version().await })
    };
    settle_tasks().await;
    let second = spawn(&engine, vec![increment("c/a")]);
    settle_tasks().await;
    assert!(!settled.is_finished());
    store.release().await;
    first.await.unwrap().unwrap();
    let receipt = second.await.unwrap().unwrap();
    assert_eq!(settled.await.unwrap(), receipt.version);
    assert!(receipt.version >= wanted);
}

#[tokio::test]
async fn closing_waits_for_both_groups() {
    let (engine, store, _) = fresh_faulty().await;
    store.hold();
    let first = spawn(&engine, vec![increment("c/a")]);
    store.held(1).await;
    let second = spawn(&engine, vec![increment("c/a")]);
    settle_tasks().await;
    let closed = {
        let engine = engine.clone();
        tokio::spawn(async move { engine.close().await })
    };
    settle_tasks().await;
    assert!(!closed.is_finished());
    store.release().await;
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    closed.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_commit_without_writes_is_not_older_than_what_was_written_unnoticed() {
    let (engine, store, _) = fresh_faulty().await;
    store.hold();
    let lost = spawn(&engine, vec![set("c/a", 1)]);
    store.held(1).await;
    store.crash(1).await;
    store.restart();
    assert!(matches!(lost.await.unwrap(), Err(Error::Unavailable(_))));
    let read = engine.view().await.unwrap().version();
    let empty = commit(&engine, Vec::new()).await.unwrap();
    assert!(empty.version >= read);
}

#[tokio::test]
async fn what_came_and_went_within_a_commit_is_no_younger_than_the_commit() {
    let (engine, _, clock) = fresh_faulty().await;
    clock.advance(1_000_000);
    let receipt = commit(&engine, vec![set("c/a", 1), delete("c/a")])
        .await
        .unwrap();
    let update_times = receipt
        .outcomes
        .iter()
        .flat_map(|outcome| outcome.update_time);
    assert!(
        update_times
            .into_iter()
            .all(|time| time <= receipt.commit_time)
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_written_unnoticed_is_found_without_another_commit() {
    let (engine, store, _) = fresh_faulty().await;
    let mut tail = engine.tail();
    store.hold();
    let lost = spawn(&engine, vec![set("c/a", 1)]);
    store.held(1).await;
    store.crash(1).await;
    let pessimistic = TransactionOptions::ReadWrite {
        retry: None,
        mode: Some(ConcurrencyMode::Pessimistic),
    };
    assert!(matches!(lost.await.unwrap(), Err(Error::Unavailable(_))));
    // It is not read by whoever locks before it is known whether it was written.
    let reader = {
        let engine = engine.clone();
        let id = loop {
            match engine.begin(pessimistic.clone()).await {
                Ok(id) => break id,
                // The store is down.
                Err(_) => store.restart(),
            }
        };
        tokio::spawn(async move {
            let view = engine.transaction_view(&id).await?;
            view.document(&path("c/a")).await
        })
    };
    store.restart();
    let read = engine.view().await.unwrap().version();
    tail.wait_for(|version| *version >= read).await.unwrap();
    assert!(reader.await.unwrap().unwrap().is_some());
}

/// How far the changelog was trimmed tells listeners whether they have missed something.
#[tokio::test]
async fn trimming_does_not_take_back_that_another_server_has_trimmed_further() {
    let Two {
        one,
        two,
        store,
        inner,
        clock,
    } = two_servers().await;
    let half_an_hour = 30 * 60 * 1_000_000;
    commit(&two, vec![increment("c/a")]).await.unwrap();
    clock.advance(half_an_hour);
    let second = commit(&two, vec![increment("c/a")]).await.unwrap().version;
    clock.advance(half_an_hour + 1_000_000);
    store.hold();
    // The committer trims after serving.
    let repair = {
        let one = one.clone();
        tokio::spawn(async move { one.repair().await })
    };
    store.held(1).await;
    clock.advance(half_an_hour);
    two.repair().await.unwrap();
    let trimmed = async || {
        let snapshot = inner.snapshot().await.unwrap();
        trimmed_to(snapshot.as_ref()).await.unwrap()
    };
    assert_eq!(trimmed().await, Some(second));
    store.release().await;
    repair.await.unwrap().unwrap();
    assert_eq!(trimmed().await, Some(second));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_ahead_of_the_tail_is_remembered() {
    let (engine, store, clock) = fresh_faulty().await;
    assert_eq!(engine.seen_version(), *engine.tail().borrow());
    clock.advance(1_000_000);
    let known = commit(&engine, vec![set("c/a", 1)]).await.unwrap().version;
    assert_eq!(
        engine.seen_version(),
        known,
        "who was answered has seen it, without a read"
    );
    clock.advance(1_000_000);
    store.hold();
    let lost = spawn(&engine, vec![set("c/a", 2)]);
    store.held(1).await;
    store.crash(1).await;
    assert!(matches!(lost.await.unwrap(), Err(Error::Unavailable(_))));
    store.restart();
    assert_eq!(engine.seen_version(), known, "nobody has read it yet");
    let read = engine.view().await.unwrap().version();
    assert!(read > known);
    assert_eq!(engine.seen_version(), read);
    let past = engine.view_at(timestamp(known).unwrap()).await.unwrap();
    assert_eq!((past.version(), engine.seen_version()), (known, read));
    let settled = engine.settled_version().await;
    assert!(settled >= read);
    assert_eq!(engine.seen_version(), settled);
}

#[tokio::test]
async fn an_epoch_is_made_once_and_stays() {
    let (store, clock) = (MemoryStore::new(), HandClock::new());
    let open = async |store: &Arc<MemoryStore>, chance| {
        let settings = Settings {
            chance,
            ..Settings::default()
        };
        Engine::open_with(
            database(),
            Arc::<MemoryStore>::clone(store),
            Arc::<HandClock>::clone(&clock),
            settings,
        )
        .await
        .unwrap()
    };
    let epoch = open(&store, 1).await.epoch();
    assert_eq!(open(&store, 2).await.epoch(), epoch, "it is stored");
    assert_ne!(open(&MemoryStore::new(), 2).await.epoch(), epoch);
    assert_ne!(
        open(&MemoryStore::new(), 0).await.epoch(),
        open(&MemoryStore::new(), 1).await.epoch()
    );
    // As a database is that was written before there were epochs.
    let snapshot = store.snapshot().await.unwrap();
    let batch = Batch {
        version: Version(snapshot.version().0 + 1),
        operations: vec![Operation::Delete {
            key: catalogue_key(Catalogue::Epoch),
        }],
    };
    store.apply(snapshot.version(), batch).await.unwrap();
    clock.advance(1);
    let later = open(&store, 1).await.epoch();
    assert_ne!(later, epoch);
    assert_eq!(open(&store, 1).await.epoch(), later);
}
