//! What a store promises about a failed flush and its recovery, as tests for stores that can be made to fail.
//!
//! A store's tests say `crate::trouble_contract!(open)`, where `open` is an async function that gives a guard, an empty store, and what makes it fail.

use std::sync::Arc;

use async_trait::async_trait;

use super::{apply, everything, get, keys, page, put, snapshot};
use crate::batch::Batch;
use crate::error::Error;
use crate::store::{Applied, Direction, Store};
use crate::version::Version;

/// Makes a store fail.
#[async_trait]
pub trait Trouble: Send + Sync {
    /// The next batch fails in its flush, and the store stays poisoned until `recover`. If `kept`, its bytes are
    /// found on the disk afterwards.
    fn fail_next_flush(&self, kept: bool);

    /// Lets the store recover, and returns when it has. Does nothing if it is well.
    async fn recover(&self);
}

/// Makes a test of every promise.
#[macro_export]
macro_rules! trouble_contract {
    ($open:ident) => {
        $crate::trouble_contract!($open;
            a_failed_batch_is_seen_after_recovery_or_never,
            the_first_reason_stays,
            what_was_acknowledged_survives_trouble,
        );
    };
    ($open:ident; $($name:ident,)*) => {
        mod trouble_contract {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let (_guard, store, trouble) = super::$open().await;
                    $crate::contract::trouble::$name(store, trouble).await;
                }
            )*
        }
    };
}

/// Fails with `Poisoned`, and why.
async fn refused(store: &Arc<dyn Store>, expected: u64, version: u64, key: &[u8]) -> String {
    let batch = Batch {
        version: Version(version),
        operations: vec![put(key, b"v"), put(&[key, b"'"].concat(), b"v")],
    };
    match store.apply(Version(expected), batch).await {
        Err(Error::Poisoned(reason)) => reason,
        other => panic!("not poisoned but {other:?}"),
    }
}

/// Heads and data agree at every time, and the batch whose flush failed is there whole or not at all.
pub async fn a_failed_batch_is_seen_after_recovery_or_never(
    store: Arc<dyn Store>,
    trouble: Arc<dyn Trouble>,
) {
    let mut head = 0;
    let mut expected: Vec<Vec<u8>> = Vec::new();
    // Several in a row, so that recovering is no single chance.
    for (round, kept) in [false, true, true, false].into_iter().enumerate() {
        let round = u8::try_from(round).expect("few rounds");
        let key = [round, b'a'];
        assert_eq!(
            apply(&store, head, head + 1, vec![put(&key, b"v")]).await,
            Applied::Applied
        );
        head += 1;
        expected.push(key.to_vec());
        let before = snapshot(&store).await;
        trouble.fail_next_flush(kept);
        let failed = [round, b'b'];
        refused(&store, head, head + 1, &failed).await;
        // Neither a new snapshot nor the old one shows it, and nothing else is written.
        for seen in [before, snapshot(&store).await] {
            assert_eq!(seen.version(), Version(head));
            assert_eq!(get(&seen, &failed).await, None);
            assert_eq!(
                keys(&page(&seen, &everything(), Direction::Forward, 99).await),
                expected
            );
        }
        refused(&store, head, head + 2, b"later").await;
        trouble.recover().await;
        let stale = head;
        if kept {
            head += 1;
            expected.push(failed.to_vec());
            expected.push([failed.as_slice(), b"'"].concat());
            assert_eq!(
                apply(&store, stale, head + 1, vec![put(b"stale", b"v")]).await,
                Applied::HeadMoved(Version(head))
            );
        }
        let seen = snapshot(&store).await;
        assert_eq!(seen.version(), Version(head));
        assert_eq!(
            keys(&page(&seen, &everything(), Direction::Forward, 99).await),
            expected
        );
    }
    assert_eq!(
        apply(&store, head, head + 1, Vec::new()).await,
        Applied::Applied
    );
}

/// Whoever asks is told why it began, and an expectation that is wrong is not looked at.
pub async fn the_first_reason_stays(store: Arc<dyn Store>, trouble: Arc<dyn Trouble>) {
    trouble.fail_next_flush(false);
    let first = refused(&store, 0, 1, b"a").await;
    assert_eq!(refused(&store, 0, 1, b"a").await, first);
    assert_eq!(refused(&store, 70, 71, b"a").await, first);
    trouble.recover().await;
    assert_eq!(apply(&store, 0, 1, Vec::new()).await, Applied::Applied);
}

/// Under many appliers: what was acknowledged is there, and what was refused is there whole or not at all.
pub async fn what_was_acknowledged_survives_trouble(
    store: Arc<dyn Store>,
    trouble: Arc<dyn Trouble>,
) {
    const APPLIERS: u8 = 4;
    const ACKNOWLEDGED: u8 = 30;
    let mut tasks = Vec::new();
    for applier in 0..APPLIERS {
        let (store, trouble) = (Arc::clone(&store), Arc::clone(&trouble));
        tasks.push(tokio::spawn(async move {
            let (mut head, mut acknowledged, mut attempt) = (0, Vec::new(), 0u16);
            let mut troubles = 0;
            while acknowledged.len() < usize::from(ACKNOWLEDGED) {
                if applier == 0 && acknowledged.len() / 6 > troubles {
                    troubles += 1;
                    trouble.fail_next_flush(troubles % 2 == 0);
                }
                attempt += 1;
                let key = [&[applier][..], &attempt.to_be_bytes()].concat();
                let batch = Batch {
                    version: Version(head + 1),
                    operations: vec![put(&key, b"1"), put(&[&key[..], b"'"].concat(), b"2")],
                };
                match store.apply(Version(head), batch).await {
                    Ok(Applied::Applied) => {
                        head += 1;
                        acknowledged.push(key);
                    }
                    Ok(Applied::HeadMoved(moved)) => head = moved.0,
                    Err(Error::Poisoned(_)) => trouble.recover().await,
                    Err(error) => panic!("{error}"),
                }
            }
            acknowledged
        }));
    }
    let mut acknowledged = Vec::new();
    for task in tasks {
        acknowledged.extend(task.await.expect("an applier"));
    }
    trouble.recover().await;
    let seen = snapshot(&store).await;
    let page = page(&seen, &everything(), Direction::Forward, usize::MAX).await;
    for key in &acknowledged {
        assert!(get(&seen, key).await.is_some(), "{key:?} was lost");
    }
    let present = page.entries.len() as u64;
    assert_eq!(
        present,
        seen.version().0 * 2,
        "each version is one batch of two keys"
    );
    assert!(page.entries.chunks(2).all(|pair| match pair {
        [(first, _), (second, _)] => second.as_ref() == [first.as_ref(), b"'"].concat(),
        _ => false,
    }));
}
