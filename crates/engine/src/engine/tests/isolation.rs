//! Random transactions, interleaved at random: whatever a committed transaction had read, it would have read the same
//! just before its commit. So with locks, without, and with both at once; who would wait stops at once.

use proptest::prelude::*;
use watchfire_model::query::{Direction as OrderDirection, Order};
use watchfire_model::{
    Aggregation, AggregationOperator, CollectionPath, Cursor, FieldOperator, Filter,
};

use super::*;

const CLIENTS: usize = 4;

/// Longer than anything takes that does not wait for locks.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(1);

#[derive(Clone, Debug)]
enum Read {
    Document(&'static str),
    Query(Box<Query>),
    Count(Box<Query>),
    List(&'static str, bool),
    Collections(&'static str),
}

#[derive(Clone, Debug)]
enum Step {
    Read(usize, Read),
    Commit(usize, Vec<Write>),
    Blind(Vec<Write>),
}

fn any_path() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["c/a", "c/b", "c/m/d/x", "c/a/d/y", "e/f"])
}

fn any_write() -> impl Strategy<Value = Write> {
    (any_path(), 0..5_i64).prop_map(|(at, kind)| match kind {
        0 => delete(at),
        1 => increment(at),
        n => set(at, n - 2),
    })
}

fn any_query() -> impl Strategy<Value = Query> {
    let selector = prop_oneof![
        4 => Just(Selector::Collection("c".to_owned())),
        2 => Just(Selector::Group("d".to_owned())),
        1 => Just(Selector::Everything),
    ];
    let operator = prop::sample::select(vec![
        FieldOperator::Equal,
        FieldOperator::GreaterThan,
        FieldOperator::LessThanOrEqual,
        FieldOperator::NotEqual,
    ]);
    (
        selector,
        proptest::option::of((operator, 0..3_i64)),
        any::<bool>(),
        proptest::option::of(1..3_u32),
        proptest::option::of((0..3_i64, any::<bool>())),
        0..2_u32,
    )
        .prop_map(|(selector, filter, ordered, limit, start, offset)| {
            let everything = matches!(selector, Selector::Everything);
            let field = || FieldPath::parse("n").unwrap();
            let filter = filter.filter(|_| !everything);
            let ordered = ordered && !everything;
            Query::new(QueryParts {
                database: database(),
                parent: Parent::Root,
                selector,
                filter: filter.map(|(operator, n)| Filter::Field {
                    field: field(),
                    operator,
                    value: Value::Integer(n),
                }),
                order: ordered
                    .then(|| Order {
                        field: field(),
                        direction: OrderDirection::Descending,
                    })
                    .into_iter()
                    .collect(),
                start: start.filter(|_| ordered).map(|(n, before)| Cursor {
                    values: vec![Value::Integer(n)],
                    before,
                }),
                end: None,
                offset,
                limit,
                projection: None,
            })
            .unwrap()
        })
}

fn any_read() -> impl Strategy<Value = Read> {
    prop_oneof![
        3 => any_path().prop_map(Read::Document),
        4 => any_query().prop_map(|query| Read::Query(Box::new(query))),
        1 => any_query().prop_map(|query| Read::Count(Box::new(query))),
        1 => (prop::sample::select(vec!["c", "c/a/d", "e"]), any::<bool>())
            .prop_map(|(collection, missing)| Read::List(collection, missing)),
        1 => prop::sample::select(vec!["", "c/a", "c/m"]).prop_map(Read::Collections),
    ]
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let writes = || proptest::collection::vec(any_write(), 1..3);
    let step = prop_oneof![
        4 => (0..CLIENTS, any_read()).prop_map(|(client, read)| Step::Read(client, read)),
        2 => (0..CLIENTS, writes()).prop_map(|(client, writes)| Step::Commit(client, writes)),
        1 => writes().prop_map(Step::Blind),
    ];
    proptest::collection::vec(step, 1..40)
}

/// A transaction with what it has read.
type Open = (TransactionId, Vec<(Read, String)>);

async fn answer(view: &View, read: &Read) -> Result<String, Error> {
    Ok(match read {
        Read::Document(at) => format!("{:?}", view.document(&path(at)).await?),
        Read::Query(query) => format!("{:?}", view.query(query).await?.0),
        Read::Count(query) => {
            let count = Aggregation {
                alias: "count".to_owned(),
                operator: AggregationOperator::Count { up_to: None },
            };
            format!("{:?}", view.aggregate(query, vec![count]).await?.0)
        }
        Read::List(collection, missing) => {
            let collection = CollectionPath::parse(collection).unwrap();
            let listed = view.list_documents(&collection, None, 10, *missing).await;
            format!("{:?}", listed?.documents)
        }
        Read::Collections(parent) => {
            let parent = match *parent {
                "" => Parent::Root,
                at => Parent::Document(path(at)),
            };
            format!("{:?}", view.collection_ids(&parent, None, 10).await?)
        }
    })
}

/// `None` if it waits for locks; it is stopped then.
async fn at_once<T>(doing: impl Future<Output = Result<T, Error>>) -> Option<Result<T, Error>> {
    tokio::time::timeout(PATIENCE, doing).await.ok()
}

/// Which clients lock; the others begin again with leases when they were aborted.
async fn check(steps: Vec<Step>, locking: [bool; CLIENTS]) {
    let (engine, _, clock) = fresh().await;
    let mut open: Vec<Option<Open>> = vec![None; CLIENTS];
    let mut lost: Vec<Option<TransactionId>> = vec![None; CLIENTS];
    for step in steps {
        clock.advance(1);
        match step {
            Step::Blind(writes) => {
                if let Some(committed) = at_once(commit(&engine, writes)).await {
                    committed.unwrap();
                }
            }
            Step::Read(client, read) => {
                if open[client].is_none() {
                    let options = TransactionOptions::ReadWrite {
                        retry: lost[client].take(),
                        mode: Some(match locking[client] {
                            true => ConcurrencyMode::Pessimistic,
                            false => ConcurrencyMode::Optimistic,
                        }),
                    };
                    open[client] = Some((engine.begin(options).await.unwrap(), Vec::new()));
                }
                let (id, reads) = open[client].as_mut().unwrap();
                let view = engine.transaction_view(id).await.unwrap();
                match at_once(answer(&view, &read)).await {
                    Some(Ok(seen)) => reads.push((read, seen)),
                    None => {}
                    Some(Err(Error::Contention)) => {
                        engine.rollback(id);
                        lost[client] = open[client].take().map(|(id, _)| id);
                    }
                    Some(Err(error)) => panic!("{error}"),
                }
            }
            Step::Commit(client, writes) => {
                let Some((id, reads)) = open[client].take() else {
                    continue;
                };
                let now = engine.view().await.unwrap();
                match at_once(commit_in(&engine, &id, writes)).await {
                    Some(Ok(_)) => {
                        for (read, seen) in reads {
                            assert_eq!(answer(&now, &read).await.unwrap(), seen, "{read:?}");
                        }
                    }
                    None => {}
                    Some(Err(Error::Aborted | Error::Contention)) => lost[client] = Some(id),
                    Some(Err(error)) => panic!("{error}"),
                }
            }
        }
    }
    for (id, _) in open.into_iter().flatten() {
        engine.rollback(&id);
    }
    assert_eq!(engine.transactions().locks().held(), 0);
    // Nobody is left in the way of anybody.
    let all = ["c/a", "c/b", "c/m/d/x", "c/a/d/y", "e/f"].map(increment);
    at_once(commit(&engine, all.to_vec()))
        .await
        .unwrap()
        .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn committed_transactions_read_what_was_true_when_they_committed(
        steps in any_steps(),
        locking in any::<[bool; CLIENTS]>(),
    ) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(check(steps, locking));
    }
}
