//! What is counted while the server runs, and its text for those who collect it.
//!
//! Counters begin at zero with the process. What one database counts itself is given to `render`.

pub mod listen;
pub mod webchannel;

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use watchfire_storage::Condition;

use self::listen::{Listened, Sent};
use self::webchannel::ChannelCounts;

/// The type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Counts of the whole process. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    queries: Counter,
    index_entries_scanned: Counter,
    documents_scanned: Counter,
    listen: Arc<Sent>,
    channel: Arc<ChannelCounts>,
}

impl Metrics {
    /// A query, search, aggregation or partition has begun.
    pub fn query_began(&self) {
        self.queries.inc();
    }

    /// A query has read this much more.
    pub fn query_scanned(&self, index_entries: u64, documents: u64) {
        self.index_entries_scanned.inc_by(index_entries);
        self.documents_scanned.inc_by(documents);
    }

    /// What is sent to listeners.
    pub fn listen(&self) -> &Arc<Sent> {
        &self.listen
    }

    /// The sessions of browsers.
    pub fn channel(&self) -> &Arc<ChannelCounts> {
        &self.channel
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "watchfire_queries",
            "Queries, searches, aggregations and partitions that were run",
            self.queries.clone(),
        );
        registry.register(
            "watchfire_query_index_entries_scanned",
            "Index entries that queries have read",
            self.index_entries_scanned.clone(),
        );
        registry.register(
            "watchfire_query_documents_scanned",
            "Documents that queries have read, matching or not",
            self.documents_scanned.clone(),
        );
        self.listen.register(registry);
        self.channel.register(registry);
    }
}

/// What one database wants.
#[derive(Debug)]
pub struct Wanted {
    /// Its full name.
    pub database: String,
    /// Queries that no index could serve.
    pub queries: u64,
    /// Different indexes that they wanted and that are not ready.
    pub shapes: u64,
}

/// Read anew for every text.
#[derive(Debug)]
struct PerDatabase {
    wanted: Vec<Wanted>,
}

impl Collector for PerDatabase {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let queries = ConstCounter::new(0_u64);
        let mut family = encoder.encode_descriptor(
            "watchfire_queries_without_index",
            "Queries that no index could serve",
            None,
            queries.metric_type(),
        )?;
        for wanted in &self.wanted {
            let labels = [("database", wanted.database.as_str())];
            let encoder = family.encode_family(&labels)?;
            ConstCounter::new(wanted.queries).encode(encoder)?;
        }
        let shapes = ConstGauge::new(0_u64);
        let mut family = encoder.encode_descriptor(
            "watchfire_missing_index_shapes",
            "Different indexes that queries wanted and that are not ready",
            None,
            shapes.metric_type(),
        )?;
        for wanted in &self.wanted {
            let labels = [("database", wanted.database.as_str())];
            let encoder = family.encode_family(&labels)?;
            ConstGauge::new(wanted.shapes).encode(encoder)?;
        }
        Ok(())
    }
}

/// What the store says of itself, just now.
#[derive(Debug)]
struct OfStore {
    condition: Condition,
}

/// Every state that a store may be in, so that each has its line.
const STATES: [&str; 4] = ["up", "refusing", "recovering", "failed"];

impl Collector for OfStore {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Condition {
            state,
            damage: _,
            damages,
            free_bytes,
        } = &self.condition;
        let gauge = ConstGauge::new(0_u64);
        let mut family = encoder.encode_descriptor(
            "watchfire_store_state",
            "1 for what the store does just now, 0 for the others",
            None,
            gauge.metric_type(),
        )?;
        for name in STATES {
            let labels = [("state", name)];
            let encoder = family.encode_family(&labels)?;
            ConstGauge::new(u64::from(name == state.name())).encode(encoder)?;
        }
        let family = encoder.encode_descriptor(
            "watchfire_store_damages",
            "Different damages that reads have met since the start",
            None,
            gauge.metric_type(),
        )?;
        ConstGauge::new(u64::try_from(*damages).unwrap_or(u64::MAX)).encode(family)?;
        if let Some(free_bytes) = free_bytes {
            let family = encoder.encode_descriptor(
                "watchfire_disk_free",
                "What may still be written to the disk of the data",
                Some(&Unit::Bytes),
                gauge.metric_type(),
            )?;
            ConstGauge::new(*free_bytes).encode(family)?;
        }
        Ok(())
    }
}

/// All counts as text, in the OpenMetrics format.
pub fn render(
    metrics: &Metrics,
    mut wanted: Vec<Wanted>,
    mut listened: Vec<Listened>,
    condition: Condition,
) -> String {
    wanted.sort_by(|a, b| a.database.cmp(&b.database));
    listened.sort_by(|a, b| a.database.cmp(&b.database));
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    registry.register_collector(Box::new(PerDatabase { wanted }));
    registry.register_collector(Box::new(listen::PerDatabase(listened)));
    registry.register_collector(Box::new(OfStore { condition }));
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("writing to a string does not fail");
    text
}
