//! What queries touch, keep and how long they may take, as counts.

use super::*;

#[tokio::test]
async fn an_indexed_query_touches_only_its_range() {
    use OrderDirection::{Ascending, Descending};
    let world = numbered(3_000, false).await;
    let between = || {
        Filter::And(vec![
            compare("n", FieldOperator::GreaterThanOrEqual, Value::Integer(100)),
            compare("n", FieldOperator::LessThan, Value::Integer(110)),
        ])
    };
    let after = |n: i64| {
        Some(Cursor {
            values: vec![Value::Integer(n)],
            before: false,
        })
    };
    // Query, results, bound on entries and documents touched, index.
    let cases = [
        (
            plain(
                Some(compare("n", FieldOperator::Equal, Value::Integer(7))),
                &[],
                None,
            ),
            1,
            1,
            "(n ASC, __name__ ASC)",
        ),
        (
            plain(Some(between()), &[], None),
            10,
            10,
            "(n ASC, __name__ ASC)",
        ),
        (
            plain(None, &[("n", Descending)], Some(20)),
            20,
            20,
            "(n DESC, __name__ DESC)",
        ),
        (
            plain(None, &[("n", Ascending), ("even", Descending)], Some(20)),
            20,
            21,
            "(n ASC, __name__ ASC)",
        ),
        (
            plain(
                Some(compare("even", FieldOperator::Equal, Value::Boolean(true))),
                &[],
                Some(20),
            ),
            20,
            20,
            "(even ASC, __name__ ASC)",
        ),
        (
            plain(
                Some(compare("even", FieldOperator::Equal, Value::Boolean(true))),
                &[("__name__", Descending)],
                Some(20),
            ),
            20,
            20,
            "(even DESC, __name__ DESC)",
        ),
        (
            plain(
                Some(compare(
                    "t",
                    FieldOperator::ArrayContains,
                    Value::Integer(5),
                )),
                &[],
                None,
            ),
            1,
            1,
            "(t CONTAINS, __name__ ASC)",
        ),
        (
            plain(
                Some(compare(
                    "n",
                    FieldOperator::In,
                    Value::Array(vec![
                        Value::Integer(5),
                        Value::Double(5.0),
                        Value::Integer(2_000),
                    ]),
                )),
                &[],
                None,
            ),
            2,
            2,
            "(n ASC, __name__ ASC)",
        ),
        (plain(None, &[], Some(20)), 20, 20, "(__name__ ASC)"),
        (
            QueryParts {
                start: after(2_990),
                ..plain(None, &[("n", Ascending)], None)
            },
            9,
            9,
            "(n ASC, __name__ ASC)",
        ),
        (
            QueryParts {
                start: after(10),
                ..plain(None, &[("n", Descending)], None)
            },
            10,
            10,
            "(n DESC, __name__ DESC)",
        ),
        (
            QueryParts {
                offset: 5,
                ..plain(None, &[("n", Ascending)], Some(5))
            },
            5,
            10,
            "(n ASC, __name__ ASC)",
        ),
    ];
    for (parts, results, touched, index) in cases {
        let (documents, stats) = world.ask(&parts).await.unwrap();
        assert_eq!(documents.len(), results, "{parts:?}");
        let used: Vec<&str> = stats
            .indexes_used
            .iter()
            .map(|used| used.properties.as_str())
            .collect();
        assert_eq!(used, [index], "{parts:?}");
        assert!(
            stats.documents_scanned <= touched && stats.index_entries_scanned <= touched,
            "{parts:?} {stats:?}"
        );
    }
}

#[tokio::test]
async fn a_defined_index_serves_equality_order_and_limit() {
    for direction in [OrderDirection::Ascending, OrderDirection::Descending] {
        let fields = [("even", Mode::Ascending), ("n", Mode::Descending)];
        let catalog = catalog_of([index(1, "c", Scope::Collection, &fields)]);
        let world = numbered_with(catalog, 1_000, false).await;
        let even = compare("even", FieldOperator::Equal, Value::Boolean(true));
        let parts = plain(Some(even), &[("n", direction)], Some(20));
        let (documents, stats) = world.ask(&parts).await.unwrap();
        assert_eq!(documents.len(), 20);
        assert!(
            stats.index_entries_scanned <= 21 && stats.documents_scanned <= 21,
            "{stats:?}"
        );
        // What is passed over is not loaded.
        let parts = QueryParts {
            offset: 100,
            ..parts
        };
        let (documents, stats) = world.ask(&parts).await.unwrap();
        assert_eq!((documents.len(), stats.results_skipped), (20, 100));
        assert!(
            stats.index_entries_scanned <= 121 && stats.documents_scanned <= 21,
            "{stats:?}"
        );
    }
}

fn flags(path: String, flags: [bool; 3], n: i64) -> (DocumentPath, Option<Document>) {
    let path = DocumentPath::parse(&path).unwrap();
    let time = Timestamp::from_micros(1).unwrap();
    let mut fields: Fields = ["x", "y", "z"]
        .into_iter()
        .zip(flags)
        .map(|(name, flag)| (name.to_owned(), Value::Boolean(flag)))
        .collect();
    fields.insert("n".to_owned(), Value::Integer(n));
    let document = Document {
        path: path.clone(),
        create_time: time,
        update_time: time,
        fields,
    };
    (path, Some(document))
}

/// Between any two documents that have all three flags lie many that have one of them.
#[tokio::test]
async fn a_join_jumps_from_answer_to_answer() {
    const ANSWERS: i64 = 100;
    const ALONE: i64 = 40;
    let fields = |flag| [(flag, Mode::Ascending), ("n", Mode::Ascending)];
    let catalog = catalog_of(
        ["x", "y", "z"]
            .into_iter()
            .zip(1..)
            .map(|(flag, id)| index(id, "c", Scope::Collection, &fields(flag))),
    );
    let mut world = World::new(catalog);
    let mut changes = Vec::new();
    for answer in 0..ANSWERS {
        for flag in 0..3 {
            for alone in 0..ALONE {
                let n = answer * 1_000 + flag * ALONE + alone;
                changes.push(flags(
                    format!("c/{n:06}"),
                    [0, 1, 2].map(|at| at == flag),
                    n,
                ));
            }
        }
        let n = answer * 1_000 + 900;
        changes.push(flags(format!("c/{n:06}"), [true; 3], n));
    }
    world.write(changes).await;
    let all = || {
        let flag = |name| compare(name, FieldOperator::Equal, Value::Boolean(true));
        Some(Filter::And(["x", "y", "z"].map(flag).to_vec()))
    };
    let (up, down) = (OrderDirection::Ascending, OrderDirection::Descending);
    for orders in [
        vec![("n", up)],
        vec![("n", down)],
        vec![],
        vec![("__name__", down)],
    ] {
        let (documents, stats) = world.ask(&plain(all(), &orders, None)).await.unwrap();
        assert_eq!(documents.len() as i64, ANSWERS);
        assert!(
            stats.index_entries_scanned <= 20 * ANSWERS as u64
                && stats.documents_scanned == ANSWERS as u64,
            "{stats:?}"
        );
    }
    // The flags of the document alone decide how many there are.
    let count = [Aggregation {
        alias: "count".to_owned(),
        operator: AggregationOperator::Count { up_to: None },
    }];
    let query = Query::new(plain(all(), &[], None)).unwrap();
    let (counted, stats) = world.aggregate(&query, &count).await;
    assert!(matches!(counted[0].1, Value::Integer(ANSWERS)));
    assert_eq!(stats.documents_scanned, 0);
}

#[tokio::test]
async fn branches_are_merged_and_only_what_is_needed_is_read() {
    let fields = |flag| [(flag, Mode::Ascending), ("n", Mode::Ascending)];
    let catalog = catalog_of([
        index(1, "c", Scope::Collection, &fields("x")),
        index(2, "c", Scope::Collection, &fields("y")),
    ]);
    let mut world = World::new(catalog);
    let changes = (0..1_000).map(|n| flags(format!("c/{n:05}"), [true, n % 2 == 0, false], n));
    world.write(changes.collect()).await;
    let either = || {
        let flag = |name| compare(name, FieldOperator::Equal, Value::Boolean(true));
        Some(Filter::Or(vec![flag("x"), flag("y")]))
    };
    for direction in [OrderDirection::Ascending, OrderDirection::Descending] {
        let parts = plain(either(), &[("n", direction)], Some(10));
        let (documents, stats) = world.ask(&parts).await.unwrap();
        let expected: Vec<String> = match direction {
            OrderDirection::Ascending => (0..10).map(|n| format!("c/{n:05}")).collect(),
            OrderDirection::Descending => (990..1_000).rev().map(|n| format!("c/{n:05}")).collect(),
        };
        assert_eq!(
            names(documents.iter().map(|document| &**document)),
            expected
        );
        assert!(
            stats.documents_scanned == 10 && stats.index_entries_scanned <= 40,
            "{stats:?}"
        );
    }
    // Without an order of their own, names bring them together.
    let count = [Aggregation {
        alias: "count".to_owned(),
        operator: AggregationOperator::Count { up_to: None },
    }];
    let query = Query::new(plain(either(), &[], None)).unwrap();
    let (counted, stats) = world.aggregate(&query, &count).await;
    assert!(matches!(counted[0].1, Value::Integer(1_000)));
    assert_eq!(
        (stats.documents_scanned, stats.index_entries_scanned),
        (0, 1_500)
    );
}

#[tokio::test]
async fn counts_and_sums_are_read_from_entries() {
    let fields = [("even", Mode::Ascending), ("n", Mode::Descending)];
    let catalog = catalog_of([index(1, "c", Scope::Collection, &fields)]);
    let mut world = numbered_with(catalog, 1_000, false).await;
    // 3.0 has the bytes of 3.
    let (path, document) = world.documents.iter().nth(4).unwrap();
    let mut changed = document.clone();
    changed.fields.insert("n".to_owned(), Value::Double(4.0));
    let path = path.clone();
    world.write(vec![(path, Some(changed))]).await;
    let operator = |operator| Aggregation {
        alias: "x".to_owned(),
        operator,
    };
    let n = || FieldPath::parse("n").unwrap();
    let even = || Some(compare("even", FieldOperator::Equal, Value::Boolean(true)));
    let count = |up_to| operator(AggregationOperator::Count { up_to });
    for (parts, aggregation, expected, entries) in [
        (plain(None, &[], None), count(None), "Integer(1000)", 1_000),
        (plain(None, &[], None), count(Some(7)), "Integer(7)", 16),
        (plain(even(), &[], None), count(None), "Integer(500)", 500),
        (plain(even(), &[], None), count(Some(7)), "Integer(7)", 7),
        (plain(even(), &[], Some(9)), count(None), "Integer(9)", 9),
        (
            QueryParts {
                offset: 490,
                ..plain(even(), &[], Some(20))
            },
            count(None),
            "Integer(10)",
            500,
        ),
        (
            plain(even(), &[], None),
            operator(AggregationOperator::Sum(n())),
            "Double(249500.0)",
            500,
        ),
        (
            plain(even(), &[("n", OrderDirection::Descending)], Some(2)),
            operator(AggregationOperator::Sum(n())),
            "Integer(1994)",
            40,
        ),
        (
            plain(
                Some(compare("n", FieldOperator::LessThan, Value::Integer(4))),
                &[],
                None,
            ),
            operator(AggregationOperator::Sum(n())),
            "Integer(6)",
            4,
        ),
        (
            plain(
                Some(compare("n", FieldOperator::Equal, Value::Integer(4))),
                &[],
                None,
            ),
            operator(AggregationOperator::Average(n())),
            "Double(4.0)",
            1,
        ),
    ] {
        let query = Query::new(parts).unwrap();
        let (results, stats) = world.aggregate(&query, &[aggregation]).await;
        assert_eq!(format!("{:?}", results[0].1), expected, "{query:?}");
        assert_eq!(stats.documents_scanned, 0, "{query:?}");
        assert!(
            stats.index_entries_scanned <= entries,
            "{stats:?} {query:?}"
        );
    }
}

#[tokio::test]
async fn a_count_goes_around_what_lies_below() {
    let mut world = World::new(Catalog::default());
    let changes = (0..50).flat_map(|n| {
        (0..20)
            .map(move |below| flags(format!("c/{n}/c/{below}"), [true; 3], below))
            .chain([flags(format!("c/{n}"), [true; 3], n)])
    });
    world.write(changes.collect()).await;
    let count = [Aggregation {
        alias: "count".to_owned(),
        operator: AggregationOperator::Count { up_to: None },
    }];
    let query = Query::new(plain(None, &[], None)).unwrap();
    let (results, stats) = world.aggregate(&query, &count).await;
    assert!(matches!(results[0].1, Value::Integer(50)));
    assert_eq!(stats.documents_scanned, 0);
    assert!(stats.index_entries_scanned < 300, "{stats:?}");
}

#[tokio::test]
async fn a_scan_jumps_over_descendants() {
    let world = numbered(200, true).await;
    for direction in [OrderDirection::Ascending, OrderDirection::Descending] {
        let (documents, stats) = world
            .ask(&plain(None, &[("__name__", direction)], None))
            .await
            .unwrap();
        assert_eq!(documents.len(), 200);
        assert!(stats.documents_scanned < 200 * 8, "{stats:?}");
    }
}

#[tokio::test]
async fn memory_is_bounded_and_a_limit_keeps_it_small() {
    let world = numbered(500, false).await;
    // No index serves this order.
    let parts = plain(
        Some(compare("even", FieldOperator::Equal, Value::Boolean(true))),
        &[("n", OrderDirection::Descending)],
        None,
    );
    let query = Query::new(parts.clone()).unwrap();
    let mut plan = world.plan(&query).await;
    assert!(plan.missing.is_some());
    plan.ordered = 0;
    plan.branches[0].sort.clear();
    for delivery in [Delivery::Whole, Delivery::Kept] {
        let run = world.start_plan(&query, plan.clone(), delivery, 50_000);
        let error = collect(run.await).await.unwrap_err();
        assert!(matches!(error, Error::ResourceExhausted(_)), "{error:?}");
    }
    let query = Query::new(QueryParts {
        limit: Some(3),
        ..parts
    })
    .unwrap();
    let run = world.start_plan(&query, plan, Delivery::Kept, 50_000);
    let (documents, _) = collect(run.await).await.unwrap();
    assert_eq!(
        names(documents.iter().map(|document| &**document)),
        ["c/00498", "c/00496", "c/00494"]
    );
}

#[tokio::test]
async fn what_comes_in_order_streams_whatever_its_size() {
    let world = numbered(5_000, false).await;
    let query = Query::new(plain(None, &[("n", OrderDirection::Ascending)], None)).unwrap();
    let bytes: usize = world.documents.values().map(Document::memory).sum();
    let mut run = world.start(&query, Delivery::Whole, bytes / 5).await;
    let mut found = 0;
    while let Some(documents) = run.next().await.unwrap() {
        assert!(documents.len() <= 256);
        found += documents.len();
    }
    assert_eq!(found, 5_000);
    assert!(run.next().await.unwrap().is_none());
    let run = world.start(&query, Delivery::Kept, bytes / 5).await;
    let error = collect(run).await.unwrap_err();
    assert!(matches!(error, Error::ResourceExhausted(_)), "{error:?}");
}

#[tokio::test]
async fn time_is_bounded() {
    let world = numbered(1_000, false).await;
    let query = Query::new(plain(None, &[("n", OrderDirection::Ascending)], None)).unwrap();
    let mut run = world.start(&query, Delivery::Whole, QUERY_BYTES_MAX).await;
    assert!(run.next().await.unwrap().is_some());
    world.clock.pass(pace::QUERY_TIME_MAX);
    assert!(run.next().await.unwrap().is_some());
    world.clock.pass(Duration::from_micros(1));
    let error = run.next().await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded(_)), "{error:?}");
    let reading = world.reading().await;
    world.clock.pass(pace::QUERY_TIME_MAX * 2);
    let range = Range::prefix(&group_start("c"));
    let error = partition(&reading, &range, group_start("c").len(), 3)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded(_)), "{error:?}");
}

#[tokio::test]
async fn names_alone_are_shown_without_reading_fields() {
    let world = numbered(100, false).await;
    let even = compare("even", FieldOperator::Equal, Value::Boolean(true));
    let query = Query::new(QueryParts {
        projection: Some(FieldMask::new(vec![FieldPath::document_name()])),
        ..plain(Some(even), &[], None)
    })
    .unwrap();
    for (delivery, bare) in [(Delivery::Shown, true), (Delivery::Whole, false)] {
        let run = world.start(&query, delivery, QUERY_BYTES_MAX).await;
        let (documents, _) = collect(run).await.unwrap();
        assert_eq!(documents.len(), 50);
        for document in documents {
            let stored = &world.documents[&document.path];
            assert_eq!(document.fields.is_empty(), bare);
            assert_eq!(document.create_time, stored.create_time);
            assert_eq!(document.update_time, stored.update_time);
        }
    }
}

#[tokio::test]
async fn partitions_are_of_about_the_same_size() {
    let world = numbered(1_000, true).await;
    let start = group_start("s");
    let range = Range::prefix(&start);
    for (count, expected) in [(0, 0), (1, 1), (7, 7), (19_999, 19_999), (30_000, 19_999)] {
        let reading = world.reading().await;
        let cuts = partition(&reading, &range, start.len(), count)
            .await
            .unwrap();
        assert_eq!(cuts.len(), expected);
        assert!(cuts.is_sorted());
        let all: Vec<&DocumentPath> = world
            .documents
            .keys()
            .filter(|path| path.collection().id() == "s")
            .collect();
        let sizes: Vec<usize> = {
            let mut at: Vec<usize> = cuts
                .iter()
                .map(|cut| all.binary_search(&cut).unwrap())
                .collect();
            at.insert(0, 0);
            at.push(all.len());
            at.windows(2).map(|pair| pair[1] - pair[0]).collect()
        };
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        assert!(most - least <= 1, "{least} {most}");
    }
}

#[tokio::test]
async fn a_poor_plan_costs_time_not_correctness() {
    let world = numbered(50, true).await;
    let query = Query::new(plain(
        Some(compare("n", FieldOperator::LessThan, Value::Integer(3))),
        &[],
        None,
    ))
    .unwrap();
    let branch = Branch {
        source: Source::Stored(Range::prefix(&[Keyspace::Document.byte()])),
        direction: Direction::Backward,
        sort: Vec::new(),
        tests: Vec::new(),
        names: Range::prefix(b""),
        children_of: None,
        filter: None,
        covered: false,
    };
    // The second brings the same documents again.
    let plan = Plan {
        branches: vec![branch.clone(), branch],
        ordered: 0,
        missing: None,
        indexes_used: Vec::new(),
    };
    let run = world.start_plan(&query, plan, Delivery::Kept, QUERY_BYTES_MAX);
    let (documents, _) = collect(run.await).await.unwrap();
    assert_eq!(
        names(documents.iter().map(|document| &**document)),
        ["c/00000", "c/00001", "c/00002"]
    );
}

#[tokio::test]
async fn aggregations_see_the_result_and_stop_when_they_can() {
    let world = numbered(300, false).await;
    let n = || FieldPath::parse("n").unwrap();
    let all = || {
        vec![
            Aggregation {
                alias: "count".to_owned(),
                operator: AggregationOperator::Count { up_to: None },
            },
            Aggregation {
                alias: "some".to_owned(),
                operator: AggregationOperator::Count { up_to: Some(5) },
            },
            Aggregation {
                alias: "sum".to_owned(),
                operator: AggregationOperator::Sum(n()),
            },
            Aggregation {
                alias: "average".to_owned(),
                operator: AggregationOperator::Average(n()),
            },
        ]
    };
    let below = |n: i64| Some(compare("n", FieldOperator::LessThan, Value::Integer(n)));
    for (parts, expected) in [
        (
            plain(below(11), &[], None),
            ["Integer(11)", "Integer(5)", "Integer(55)", "Double(5.0)"],
        ),
        (
            plain(None, &[("n", OrderDirection::Descending)], Some(2)),
            ["Integer(2)", "Integer(2)", "Integer(597)", "Double(298.5)"],
        ),
        (
            plain(below(-1), &[], None),
            ["Integer(0)", "Integer(0)", "Integer(0)", "Null"],
        ),
    ] {
        let (results, _) = world.aggregate(&Query::new(parts).unwrap(), &all()).await;
        let texts: Vec<String> = results
            .iter()
            .map(|(_, value)| format!("{value:?}"))
            .collect();
        assert_eq!(texts, expected);
    }
}
