//! Queries with a limit, joins, and counting.

use std::time::Duration;

use anyhow::Result;
use watchfire_model::{
    Aggregation, AggregationOperator, Direction, FieldOperator, FieldPath, Filter, Order, Query,
    Value,
};

use super::data::{Database, LARGE, SMALL, parts, query};
use super::{at_least, at_most, median, timed};

/// How often a query is asked.
const TIMES: i64 = 300;

fn compared(field: &str, operator: FieldOperator, value: Value) -> Result<Filter> {
    Ok(Filter::Field {
        field: FieldPath::parse(field)?,
        operator,
        value,
    })
}

/// Equality, order and limit: the same work however many documents there are.
pub async fn limit(database: &Database) -> Result<()> {
    let asked = |collection: &str, kind: i64| -> Result<Query> {
        let mut parts = parts(collection)?;
        parts.filter = Some(compared(
            "kind",
            FieldOperator::Equal,
            Value::Integer(kind),
        )?);
        parts.order = vec![Order {
            field: FieldPath::parse("rank")?,
            direction: Direction::Ascending,
        }];
        parts.limit = Some(20);
        query(parts)
    };
    let mut taken = [Vec::new(), Vec::new()];
    // The first round warms what is cached.
    for round in 0..TIMES + 10 {
        for (collection, taken) in [SMALL, LARGE].into_iter().zip(&mut taken) {
            let query = asked(collection, round % 10)?;
            let view = database.engine.view().await?;
            let ((found, stats), time) = timed(async { Ok(view.query(&query).await?) }).await?;
            if round == 0 {
                println!(
                    "equality, order, limit 20 in {collection}: {} found, {} entries and {} documents touched, {:?}",
                    found.len(),
                    stats.index_entries_scanned,
                    stats.documents_scanned,
                    stats.indexes_used
                );
                at_most("entries", stats.index_entries_scanned as f64, 21.0);
                at_most("documents", stats.documents_scanned as f64, 21.0);
            }
            if round >= 10 {
                taken.push(time);
            }
        }
    }
    let [small, large] = &mut taken;
    let (small, large) = (median(small)?, median(large)?);
    println!("equality, order, limit 20: small {small:.1?}, large {large:.1?}");
    at_most(
        "large to small",
        large.as_secs_f64() / small.as_secs_f64(),
        1.5,
    );
    Ok(())
}

/// Three filters that match a tenth of the documents each.
pub async fn join(database: &Database) -> Result<()> {
    for (name, flags, budget) in [
        ("in runs", ["a", "b", "c"], Some(20.0)),
        ("anywhere", ["x", "y", "z"], None),
    ] {
        let mut parts = parts(LARGE)?;
        let filters = flags
            .iter()
            .map(|flag| compared(flag, FieldOperator::Equal, Value::Boolean(true)))
            .collect::<Result<Vec<_>>>()?;
        parts.filter = Some(Filter::And(filters));
        let query = query(parts)?;
        let view = database.engine.view().await?;
        let mut times = Vec::new();
        let mut last = None;
        for _ in 0..5 {
            let (answer, time) = timed(async { Ok(view.query(&query).await?) }).await?;
            times.push(time);
            last = Some(answer);
        }
        let Some((found, stats)) = last else { continue };
        println!(
            "join of three, {name}: {} found, {} entries and {} documents touched in {:.1?}, {:?}",
            found.len(),
            stats.index_entries_scanned,
            stats.documents_scanned,
            median(&mut times)?,
            stats.indexes_used
        );
        let each = stats.index_entries_scanned as f64 / found.len() as f64;
        match budget {
            Some(budget) => at_most("entries for each result", each, budget),
            None => {
                println!("  entries for each result {each:.2} (no budget: every entry may matter)")
            }
        }
    }
    Ok(())
}

/// Counting every document, with and without a filter.
pub async fn count(database: &Database, documents: usize) -> Result<()> {
    let all = query(parts(LARGE)?)?;
    let mut filtered = parts(LARGE)?;
    filtered.filter = Some(compared(
        "rank",
        FieldOperator::GreaterThanOrEqual,
        Value::Integer(0),
    )?);
    let filtered = query(filtered)?;
    let mut equal = parts(LARGE)?;
    equal.filter = Some(compared("a", FieldOperator::Equal, Value::Boolean(false))?);
    let equal = query(equal)?;
    let sum = AggregationOperator::Sum(FieldPath::parse("rank")?);
    let count = || AggregationOperator::Count { up_to: None };
    for (name, query, operator, budget) in [
        ("count of a range", &filtered, count(), true),
        ("count of an equality", &equal, count(), false),
        ("count of a collection", &all, count(), false),
        ("sum of a range", &filtered, sum, false),
    ] {
        let view = database.engine.view().await?;
        let mut times = Vec::new();
        let mut last = None;
        for _ in 0..3 {
            let aggregation = Aggregation {
                alias: "n".to_owned(),
                operator: operator.clone(),
            };
            let (answer, time) =
                timed(async { Ok(view.aggregate(query, vec![aggregation]).await?) }).await?;
            times.push(time);
            last = Some(answer);
        }
        let Some((values, stats)) = last else {
            continue;
        };
        let time = median(&mut times)?.max(Duration::from_nanos(1));
        let touched = (stats.index_entries_scanned.max(stats.documents_scanned)).max(1);
        println!(
            "{name}: {:?} in {time:.1?}, {} entries and {} documents touched",
            values.first().map(|(_, value)| value),
            stats.index_entries_scanned,
            stats.documents_scanned
        );
        let rate = touched as f64 / time.as_secs_f64() / 1e6;
        if budget && documents > 0 {
            at_least("million entries per second", rate, 2.0);
        } else {
            println!("  million entries per second {rate:.2}");
        }
    }
    Ok(())
}
