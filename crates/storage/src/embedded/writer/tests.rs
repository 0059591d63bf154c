//! The writer against a sink that counts and fails.

use std::sync::Mutex;

use bytes::Bytes;

use super::*;

#[derive(Default)]
struct Counting {
    /// Operations of each group.
    groups: Mutex<Vec<usize>>,
    fails_at: Option<usize>,
    failed: Mutex<bool>,
}

impl Sink for Counting {
    type Held = ();

    fn hold(&self) -> Result<(), Error> {
        match *self.failed.lock().unwrap() {
            true => Err(Error::Poisoned("no space left".to_owned())),
            false => Ok(()),
        }
    }

    fn write(&self, (): &(), batch: WriteBatch) -> Result<(), Error> {
        let mut groups = self.groups.lock().unwrap();
        if self.fails_at == Some(groups.len()) {
            *self.failed.lock().unwrap() = true;
            return Err(Error::Poisoned("no space left".to_owned()));
        }
        groups.push(batch.len());
        Ok(())
    }
}

/// Puts all jobs into the queue first, so that the groups do not depend on time.
fn run_all(sink: &Counting, jobs: Vec<(&Arc<Head>, u64, u64)>) -> Vec<Result<Applied, Error>> {
    let (sender, queue) = mpsc::channel(QUEUE_BATCHES_MAX);
    let answers: Vec<_> = jobs
        .into_iter()
        .map(|(head, expected, version)| {
            let (answer, answered) = oneshot::channel();
            let operations = vec![Operation::Put {
                key: Bytes::from_static(b"k"),
                value: Bytes::from_static(b"v"),
            }];
            let batch = Batch {
                version: Version(version),
                operations,
            };
            let job = Job {
                head: Arc::clone(head),
                expected_head: Version(expected),
                batch,
                answer,
            };
            assert!(sender.try_send(job).is_ok());
            answered
        })
        .collect();
    drop(sender);
    run(sink, queue);
    answers
        .into_iter()
        .map(|answered| answered.blocking_recv().unwrap())
        .collect()
}

#[test]
fn a_group_is_one_write_of_all_databases() {
    let (one, two) = (
        Arc::new(Head::new(1, Version(0))),
        Arc::new(Head::new(2, Version(7))),
    );
    let sink = Counting::default();
    let answers = run_all(
        &sink,
        vec![
            (&one, 0, 1),
            (&two, 7, 8),
            (&one, 1, 2),
            (&one, 1, 3),
            (&two, 0, 9),
        ],
    );
    let answers: Vec<Applied> = answers.into_iter().map(Result::unwrap).collect();
    let moved = |version| Applied::HeadMoved(Version(version));
    assert_eq!(
        answers,
        [
            Applied::Applied,
            Applied::Applied,
            Applied::Applied,
            moved(2),
            moved(8)
        ]
    );
    assert_eq!(*sink.groups.lock().unwrap(), [6]);
    assert_eq!(
        (
            one.version.load(Ordering::Acquire),
            two.version.load(Ordering::Acquire)
        ),
        (2, 8)
    );
}

#[test]
fn a_group_is_bounded() {
    let one = Arc::new(Head::new(1, Version(0)));
    let sink = Counting::default();
    let count = GROUP_BATCHES_MAX as u64 + 10;
    let answers = run_all(
        &sink,
        (0..count)
            .map(|version| (&one, version, version + 1))
            .collect(),
    );
    assert!(
        answers
            .into_iter()
            .all(|answer| answer.unwrap() == Applied::Applied)
    );
    assert_eq!(*sink.groups.lock().unwrap(), [2 * GROUP_BATCHES_MAX, 20]);
}

#[test]
fn after_a_failed_write_nothing_is_written() {
    let one = Arc::new(Head::new(1, Version(0)));
    let sink = Counting {
        fails_at: Some(1),
        ..Counting::default()
    };
    let max = GROUP_BATCHES_MAX as u64;
    // Three groups: written, failed, and never tried.
    let answers = run_all(
        &sink,
        (0..max * 2 + 1)
            .map(|version| (&one, version, version + 1))
            .collect(),
    );
    for (version, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(applied) => assert!(version < GROUP_BATCHES_MAX && applied == Applied::Applied),
            Err(error) => {
                assert!(version >= GROUP_BATCHES_MAX);
                assert!(
                    matches!(error, Error::Poisoned(reason) if reason.contains("no space left"))
                );
            }
        }
    }
    assert_eq!(sink.groups.lock().unwrap().len(), 1);
    assert_eq!(one.version.load(Ordering::Acquire), max);
}
