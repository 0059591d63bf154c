//! Count, sum and average over a query's result, from index entries where they say enough.
//!
//! A count never needs an order: what offset and limit leave of it is a matter of subtraction. A plan that reads one
//! part of one index and nothing else is counted in the store, where no entry has to be looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use watchfire_model::aggregate::Aggregator;
use watchfire_model::limits::INDEXED_VALUE_BYTES_MAX;
use watchfire_model::order::{decode_number, encode_value};
use watchfire_model::{
    Aggregation, AggregationOperator, Document, FieldPath, Filter, Query, Value,
};
use watchfire_storage::Range;

use super::branch::Found;
use super::load::{BATCH_FIRST, BATCH_MAX, Judge, load};
use super::pace::Reading;
use super::run::{Delivery, ExecutionStats, QUERY_BYTES_MAX, Run};
use super::union::{Union, Wishes};
use crate::error::Error;
use crate::index::key;
use crate::planner::{Held, Plan, Source};

/// Keys that are counted in the store without a pause.
const COUNT_CHUNK: usize = 100_000;

/// Documents of a limited result whose values are remembered until it is clear that entries say enough.
const ORDERED_MAX: usize = 10_000;

/// Alias and result of each aggregation, and what it cost. Fails as the query does. `orders`: how many the plan was
/// made for.
pub async fn aggregate(
    reading: Reading,
    query: Arc<Query>,
    plan: Plan,
    orders: usize,
    aggregations: Vec<Aggregation>,
) -> Result<(Vec<(String, Value)>, ExecutionStats), Error> {
    let mut stats = ExecutionStats {
        results_returned: 1,
        indexes_used: plan.indexes_used.clone(),
        ..ExecutionStats::default()
    };
    let enough = enough(&aggregations);
    let mut aggregator = Aggregator::new(aggregations);
    let counts_alone = aggregator.fields().next().is_none();
    let skip = u64::from(query.offset());
    let room = query.limit().map_or(u64::MAX, u64::from);
    // More than that many documents change nothing.
    let wanted = skip.saturating_add(enough.unwrap_or(u64::MAX).min(room));
    if room == 0 || enough == Some(0) {
        return Ok((aggregator.finish(), stats));
    }
    let expected = usize::try_from(wanted).ok();
    let expected = expected.filter(|expected| *expected < usize::MAX);
    if counts_alone {
        let count = match countable(&plan, &query) {
            Some(ranges) => {
                let count = count_keys(&reading, &ranges, wanted).await?;
                stats.index_entries_scanned = count;
                count
            }
            None => {
                let mut adding =
                    Adding::new(&reading, &query, plan, orders, Vec::new(), expected, true);
                let count = match adding.union.count_keys(wanted).await? {
                    Some(count) => count,
                    None => adding.run(wanted, |_| {}).await?,
                };
                adding.cost(&mut stats);
                count
            }
        };
        aggregator.add_count(count.saturating_sub(skip).min(room));
        return Ok((aggregator.finish(), stats));
    }
    let fields: Vec<FieldPath> = aggregator.fields().cloned().collect();
    let limited = skip > 0 || query.limit().is_some();
    if limited {
        // Which documents count is a matter of their order.
        let mut adding = Adding::new(
            &reading,
            &query,
            plan.clone(),
            orders,
            fields,
            expected,
            false,
        );
        let values = adding.in_order(skip, room).await?;
        adding.cost(&mut stats);
        if let Some(values) = values {
            for values in &values {
                aggregator.add_known(|field| values.get(field));
            }
            return Ok((aggregator.finish(), stats));
        }
        let mut run = Run::new(reading, query, plan, Delivery::Whole, QUERY_BYTES_MAX);
        while let Some(documents) = run.next().await? {
            documents
                .iter()
                .for_each(|document| aggregator.add(document));
        }
        let spent = run.stats();
        stats.index_entries_scanned += spent.index_entries_scanned;
        stats.documents_scanned += spent.documents_scanned;
        stats.results_skipped = spent.results_skipped;
        return Ok((aggregator.finish(), stats));
    }
    let mut adding = Adding::new(&reading, &query, plan, orders, fields, None, true);
    adding
        .run(wanted, |matched| match matched {
            Matched::Document(document) => aggregator.add(document),
            Matched::Values(values) => aggregator.add_known(|field| values.get(field)),
        })
        .await?;
    adding.cost(&mut stats);
    Ok((aggregator.finish(), stats))
}

/// How many documents settle the result; `None` if all of them are needed.
fn enough(aggregations: &[Aggregation]) -> Option<u64> {
    aggregations
        .iter()
        .map(|aggregation| match aggregation.operator {
            AggregationOperator::Count { up_to } => up_to,
            AggregationOperator::Sum(_) | AggregationOperator::Average(_) => None,
        })
        .try_fold(0, |most, up_to| up_to.map(|up_to| most.max(up_to)))
}

/// The ranges whose keys are the documents of the result, one for one; `None` if entries have to be looked at.
fn countable(plan: &Plan, query: &Query) -> Option<Vec<Range>> {
    let [branch] = plan.branches.as_slice() else {
        return plan.branches.is_empty().then(Vec::new);
    };
    let plain = branch.covered
        && branch.tests.is_empty()
        && branch.children_of.is_none()
        && branch.allows_all_names();
    match &branch.source {
        _ if !plain => None,
        Source::Group { range, .. } => Some(vec![range.clone()]),
        Source::Entries(scans) => match scans.as_slice() {
            // Only around a bound that was cut can an entry that was cut mean something else.
            [scan] if !scan.cut && bounds_are_short(query) => Some(scan.ranges.clone()),
            _ => None,
        },
        Source::Documents(_) | Source::Stored(_) => None,
    }
}

/// Whether entries hold all values of filters and cursors whole.
fn bounds_are_short(query: &Query) -> bool {
    let short = |value: &Value| {
        let mut bytes = Vec::new();
        encode_value(value, &mut bytes);
        bytes.len() <= INDEXED_VALUE_BYTES_MAX
    };
    let filters = query.filter().into_iter().flat_map(Filter::leaves);
    filters.into_iter().all(|leaf| match leaf {
        Filter::Field { value, .. } => short(value),
        Filter::And(_) | Filter::Or(_) | Filter::Unary { .. } => true,
    }) && [query.start(), query.end()]
        .into_iter()
        .flatten()
        .all(|cursor| cursor.values.iter().all(short))
}

/// Counts up to `wanted` keys.
pub(super) async fn count_keys(
    reading: &Reading,
    ranges: &[Range],
    wanted: u64,
) -> Result<u64, Error> {
    let mut count = 0;
    for range in ranges {
        count += pass_keys(reading, &mut range.clone(), wanted - count).await?;
    }
    Ok(count)
}

/// Passes over up to `wanted` keys, so that the range begins behind them; how many there were.
pub(super) async fn pass_keys(
    reading: &Reading,
    range: &mut Range,
    wanted: u64,
) -> Result<u64, Error> {
    let mut passed = 0;
    while passed < wanted {
        let chunk = usize::try_from(wanted - passed)
            .unwrap_or(usize::MAX)
            .min(COUNT_CHUNK);
        let counted = reading.snapshot.count(range, chunk).await?;
        passed += counted.keys as u64;
        reading.pause().await?;
        match counted.next {
            Some(next) => range.start = next,
            None => break,
        }
    }
    Ok(passed)
}

/// A document of the result.
enum Matched<'a> {
    Document(&'a Document),
    /// All that is asked about it.
    Values(&'a BTreeMap<&'a FieldPath, Value>),
}

/// Where a field stands in the entries of a branch. `position`: as payloads name it.
enum At {
    /// In a column, whose payload is that of the first scan.
    Column {
        column: usize,
        inverted: bool,
        position: u8,
    },
    /// Nowhere, since a scan fixes it. `number`: as an entry would hold it.
    Fixed {
        scan: usize,
        number: Option<Value>,
        position: u8,
    },
}

impl At {
    /// What the entry says.
    fn value(&self, found: &Found) -> Value {
        let (number, scan, position) = match self {
            At::Column {
                column,
                inverted,
                position,
            } => {
                let bytes = found.columns.get(*column).map(AsRef::as_ref);
                let bytes: &[u8] = bytes.unwrap_or_default();
                let number = if *inverted {
                    decode_number(&key::inverted(bytes))
                } else {
                    decode_number(bytes)
                };
                (number, 0, position)
            }
            At::Fixed {
                scan,
                number,
                position,
            } => (number.clone(), *scan, position),
        };
        let is_double = found
            .payloads
            .get(scan)
            .is_some_and(|payload| payload.contains(position));
        match number {
            #[expect(clippy::cast_precision_loss, reason = "it was a double")]
            Some(Value::Integer(integer)) if is_double => Value::Double(integer as f64),
            Some(number) => number,
            // Whatever it is, it is there and no number.
            None => Value::Null,
        }
    }
}

/// A number as an entry's bytes tell it; `None` for other values.
fn entry_number(value: &Value) -> Option<Value> {
    match value {
        Value::Integer(_) | Value::Double(_) => {
            let mut bytes = Vec::new();
            encode_value(value, &mut bytes);
            decode_number(&bytes)
        }
        _ => None,
    }
}

/// A running aggregation without order.
struct Adding {
    reading: Reading,
    union: Union,
    judge: Judge,
    fields: Vec<FieldPath>,
    /// For each branch where each field stands; `None` if it lacks one.
    places: Vec<Option<Vec<At>>>,
    loaded: u64,
}

impl Adding {
    fn new(
        reading: &Reading,
        query: &Arc<Query>,
        mut plan: Plan,
        orders: usize,
        fields: Vec<FieldPath>,
        expected: Option<usize>,
        any_order: bool,
    ) -> Self {
        let judge = Judge::new(Arc::clone(query), &mut plan);
        let places = plan
            .branches
            .iter()
            .map(|branch| {
                let at = |field: &FieldPath| match (branch.held(field)?, &branch.source) {
                    (Held::Column(column), Source::Entries(scans)) => {
                        let scan = scans.first()?;
                        Some(At::Column {
                            column,
                            inverted: scan.columns.get(column)?.inverted,
                            position: *scan.positions.get(column)?,
                        })
                    }
                    (Held::Fixed { scan, fixed }, _) => Some(At::Fixed {
                        scan,
                        number: entry_number(&fixed.value),
                        position: fixed.position,
                    }),
                    (Held::Column(_), _) => None,
                };
                fields.iter().map(at).collect()
            })
            .collect();
        let wishes = Wishes {
            expected,
            any_order,
            columns: !fields.is_empty(),
        };
        Self {
            union: Union::new(plan, orders, wishes, reading),
            reading: reading.clone(),
            judge,
            fields,
            places,
            loaded: 0,
        }
    }

    fn cost(&self, stats: &mut ExecutionStats) {
        stats.index_entries_scanned = self.union.entries();
        stats.documents_scanned = self.union.documents() + self.loaded;
    }

    /// Shows what matches, up to `wanted` documents; how many there were.
    async fn run(&mut self, wanted: u64, mut show: impl FnMut(Matched<'_>)) -> Result<u64, Error> {
        let mut count = 0;
        let mut unsure: Vec<Found> = Vec::new();
        let mut batch = (BATCH_FIRST as u64).min(wanted);
        while count < wanted {
            let found = self.union.next().await?;
            let ended = found.is_none();
            if let Some(found) = found {
                match self.places.get(found.branch) {
                    Some(Some(places)) if found.sure => {
                        if !places.is_empty() {
                            let values = self.values(&found, places);
                            show(Matched::Values(&values));
                        }
                        count += 1;
                    }
                    _ => unsure.push(found),
                }
            }
            let waiting = unsure.len() as u64;
            if waiting > 0 && (ended || waiting >= batch) {
                batch = (batch * 2).min(BATCH_MAX as u64);
                count += self.look(&mut unsure, wanted - count, &mut show).await?;
            }
            if ended && unsure.is_empty() {
                break;
            }
        }
        Ok(count)
    }

    /// What the entries say of the documents that offset and limit leave; `None` where that is not enough, or not in
    /// order, or too much to remember.
    async fn in_order(
        &mut self,
        skip: u64,
        room: u64,
    ) -> Result<Option<Vec<BTreeMap<FieldPath, Value>>>, Error> {
        let mut passed = 0;
        let mut taken = Vec::new();
        while (taken.len() as u64) < room
            && let Some(found) = self.union.next().await?
        {
            match self.places.get(found.branch) {
                Some(Some(places)) if found.sure && found.placed => {
                    if passed < skip {
                        passed += 1;
                    } else if taken.len() < ORDERED_MAX {
                        let values = self.values(&found, places);
                        taken.push(
                            values
                                .into_iter()
                                .map(|(field, value)| (field.clone(), value))
                                .collect(),
                        );
                    } else {
                        return Ok(None);
                    }
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(taken))
    }

    /// Loads what entries do not say, and shows what matches of it.
    async fn look(
        &mut self,
        unsure: &mut Vec<Found>,
        wanted: u64,
        show: &mut impl FnMut(Matched<'_>),
    ) -> Result<u64, Error> {
        let mut count = 0;
        while !unsure.is_empty() && count < wanted {
            let loaded = load(&self.reading, unsure, |_| false).await?;
            self.loaded += loaded.read;
            let looked_at = unsure.drain(..loaded.documents.len());
            for (found, document) in looked_at.zip(loaded.documents) {
                if let Some(document) = document
                    && count < wanted
                    && self.judge.accepts(&found, &document)
                {
                    show(Matched::Document(&document));
                    count += 1;
                }
            }
        }
        Ok(count)
    }

    fn values(&self, found: &Found, places: &[At]) -> BTreeMap<&FieldPath, Value> {
        let values = places.iter().map(|at| at.value(found));
        self.fields.iter().zip(values).collect()
    }
}
