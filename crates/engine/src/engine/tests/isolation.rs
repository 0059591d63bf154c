//! Random transactions, interleaved at random: whatever a committed transaction had read, it would have read the same
//! just before its commit.

use proptest::prelude::*;
use watchfire_model::query::{Direction as OrderDirection, Order};
use watchfire_model::{
    Aggregation, AggregationOperator, CollectionPath, Cursor, FieldOperator, Filter,
};

use super::*;

const CLIENTS: usize = 3;

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

async fn answer(view: &View, read: &Read) -> String {
    match read {
        Read::Document(at) => format!("{:?}", view.document(&path(at)).await.unwrap()),
        Read::Query(query) => format!("{:?}", view.query(query).await.unwrap().0),
        Read::Count(query) => {
            let count = Aggregation {
                alias: "count".to_owned(),
                operator: AggregationOperator::Count { up_to: None },
            };
            format!("{:?}", view.aggregate(query, vec![count]).await.unwrap().0)
        }
        Read::List(collection, missing) => {
            let collection = CollectionPath::parse(collection).unwrap();
            let listed = view.list_documents(&collection, None, 10, *missing).await;
            format!("{:?}", listed.unwrap().documents)
        }
        Read::Collections(parent) => {
            let parent = match *parent {
                "" => Parent::Root,
                at => Parent::Document(path(at)),
            };
            format!(
                "{:?}",
                view.collection_ids(&parent, None, 10).await.unwrap()
            )
        }
    }
}

async fn check(steps: Vec<Step>) {
    let (engine, _, clock) = fresh().await;
    let mut open: Vec<Option<Open>> = vec![None; CLIENTS];
    for step in steps {
        clock.advance(1);
        match step {
            Step::Blind(writes) => drop(commit(&engine, writes).await.unwrap()),
            Step::Read(client, read) => {
                if open[client].is_none() {
                    open[client] = Some((begin(&engine).await, Vec::new()));
                }
                let (id, reads) = open[client].as_mut().unwrap();
                let view = engine.transaction_view(id).await.unwrap();
                let seen = answer(&view, &read).await;
                reads.push((read, seen));
            }
            Step::Commit(client, writes) => {
                let Some((id, reads)) = open[client].take() else {
                    continue;
                };
                let now = engine.view().await.unwrap();
                match commit_in(&engine, &id, writes).await {
                    Ok(_) => {
                        for (read, seen) in reads {
                            assert_eq!(answer(&now, &read).await, seen, "{read:?}");
                        }
                    }
                    Err(Error::Aborted) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn committed_transactions_read_what_was_true_when_they_committed(steps in any_steps()) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(check(steps));
    }
}
