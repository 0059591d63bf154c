//! What is counted of listeners, and its text.
//!
//! Each database counts what its sessions do (`watchfire_realtime::Counters`); those that nobody has listened to have
//! no lines. What leaves for the transport is counted for the whole process, and so is how long that took since the
//! commit: labels of databases would multiply the buckets.
//!
//! # How the time is measured
//!
//! A commit's version is the time of the commit by the server's clock, so that the time until its bytes are handed to
//! the transport is one subtraction. Two things are asked. How long until the first listener has it: measured by whoever
//! encodes it, once for each telling. And how long until any of them: measured by one piece of `SENT_SAMPLE` that a
//! stream sends, with each stream beginning at another place, so that a look at the clock is not paid for each listener
//! and the last of many are among those that are measured. Several commits that are told in one go count as the oldest.
//! What a client or its network then take is not in it, nor is what waits in the connection.
//! First results, answers and heartbeats are not measured, for no commit is why they are sent. A limited query that had
//! to be read again counts from the version at which it was read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use watchfire_engine::Version;
use watchfire_model::Timestamp;
use watchfire_realtime::Counters;
use watchfire_realtime::counters::{Count, QUEUE_STEPS};

/// Of so many pieces that a stream sends the time of one is measured.
const SENT_SAMPLE: u64 = 16;

/// Steps of the times, in seconds.
const SENT_STEPS: [f64; 14] = [
    0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
];

/// What leaves for the transport, in the whole process.
#[derive(Debug)]
pub struct Sent {
    messages: Counter,
    bytes: Counter,
    first_seconds: Histogram,
    seconds: Histogram,
    /// Streams that have begun.
    begun: AtomicU64,
}

impl Default for Sent {
    fn default() -> Self {
        Self {
            messages: Counter::default(),
            bytes: Counter::default(),
            first_seconds: Histogram::new(SENT_STEPS),
            seconds: Histogram::new(SENT_STEPS),
            begun: AtomicU64::new(0),
        }
    }
}

impl Sent {
    /// Begins a stream, at another place among the pieces that are measured than the one before it.
    pub fn begin(self: &Arc<Self>) -> StreamSent {
        StreamSent {
            turn: self.begun.fetch_add(1, Ordering::Relaxed),
            sent: Arc::clone(self),
        }
    }

    /// Adds the lines of the process.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "watchfire_listen_messages_sent",
            "Messages that were handed to the transport for listen streams",
            self.messages.clone(),
        );
        registry.register_with_unit(
            "watchfire_listen_sent",
            "Bytes that were handed to the transport for listen streams",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register_with_unit(
            "watchfire_listen_commit_to_first_send",
            "Time from a commit until its first listener was sent it, of every telling",
            Unit::Seconds,
            self.first_seconds.clone(),
        );
        registry.register_with_unit(
            "watchfire_listen_commit_to_send",
            "Time from a commit until a listener was sent it, of one piece of 16 that leave",
            Unit::Seconds,
            self.seconds.clone(),
        );
    }
}

/// Counts for one stream.
#[derive(Debug)]
pub struct StreamSent {
    sent: Arc<Sent>,
    turn: u64,
}

impl StreamSent {
    /// A piece leaves.
    pub fn leaves(&mut self, messages: usize, bytes: usize) {
        self.sent.messages.inc_by(wide(messages));
        self.sent.bytes.inc_by(wide(bytes));
        self.turn = self.turn.wrapping_add(1);
    }

    /// Whether the time of the next piece is measured.
    pub fn measures(&self) -> bool {
        self.turn.is_multiple_of(SENT_SAMPLE)
    }

    /// Something that was committed then leaves now; for the first time, as one of the sample, or both.
    pub fn observe(&self, committed: Version, now: Timestamp, first: bool, sampled: bool) {
        let now = u64::try_from(now.micros()).unwrap_or_default();
        // A clock that was set back shows no time at all.
        let micros = now.saturating_sub(committed.0);
        #[expect(
            clippy::cast_precision_loss,
            reason = "exact for as long as two centuries"
        )]
        let seconds = micros as f64 / 1e6;
        if first {
            self.sent.first_seconds.observe(seconds);
        }
        if sampled {
            self.sent.seconds.observe(seconds);
        }
    }
}

/// What one database counts of its listeners.
#[derive(Debug)]
pub struct Listened {
    /// Its full name.
    pub database: String,
    pub counters: Arc<Counters>,
}

/// Read anew for every text.
#[derive(Debug)]
pub struct PerDatabase(pub Vec<Listened>);

/// A number of a database, its name and what it means.
type Line = (&'static str, &'static str, fn(&Counters) -> &Count);

const GAUGES: [Line; 5] = [
    (
        "watchfire_listen_streams",
        "Listen streams just now that have asked for something",
        |counters| &counters.streams,
    ),
    (
        "watchfire_listen_sessions",
        "Sessions just now; each is worked out once for all streams that share it",
        |counters| &counters.sessions,
    ),
    (
        "watchfire_listen_sessions_waiting",
        "Sessions just now that have something to say and wait until their streams have read",
        |counters| &counters.sessions_waiting,
    ),
    (
        "watchfire_listen_targets",
        "Targets just now, of all streams",
        |counters| &counters.targets,
    ),
    (
        "watchfire_listen_targets_distinct",
        "Different targets just now; each has its result in memory once",
        |counters| &counters.targets_distinct,
    ),
];

const COUNTERS: [Line; 12] = [
    (
        "watchfire_listen_streams_opened",
        "Listen streams that have ever asked for something",
        |counters| &counters.streams_opened,
    ),
    (
        "watchfire_listen_changes_read",
        "Changes of documents that were read from the changelog",
        |counters| &counters.changes_read,
    ),
    (
        "watchfire_listen_changes_matched",
        "Pairs of a change and a distinct target that it concerned",
        |counters| &counters.changes_matched,
    ),
    (
        "watchfire_listen_replays",
        "Targets that were caught up from an earlier version",
        |counters| &counters.replays,
    ),
    (
        "watchfire_listen_snapshots_told",
        "Snapshots that sessions have told",
        |counters| &counters.snapshots_told,
    ),
    (
        "watchfire_listen_snapshots_delivered",
        "Snapshots that were handed to streams",
        |counters| &counters.snapshots_delivered,
    ),
    (
        "watchfire_listen_events_delivered",
        "Events that were handed to streams",
        |counters| &counters.events_delivered,
    ),
    (
        "watchfire_listen_resets_delivered",
        "Resets of targets that were handed to streams, which then get the whole result",
        |counters| &counters.resets_delivered,
    ),
    (
        "watchfire_listen_waits",
        "Times that a session had something to say and had to wait until its streams have read",
        |counters| &counters.waits,
    ),
    (
        "watchfire_listen_stragglers",
        "Streams that were told apart from others because they did not keep up",
        |counters| &counters.stragglers,
    ),
    (
        "watchfire_listen_slow_readers",
        "Streams that were ended because they asked and did not read",
        |counters| &counters.slow_readers,
    ),
    (
        "watchfire_listen_heartbeats",
        "Heartbeats of sessions",
        |counters| &counters.heartbeats,
    ),
];

/// A reason, and where it is counted.
type Reading = (&'static str, fn(&Counters) -> &Count);

/// Why results are read from the store.
const READINGS: [Reading; 3] = [
    ("first", |counters| &counters.results_first),
    ("broken", |counters| &counters.results_broken),
    ("lost", |counters| &counters.results_lost),
];

impl Collector for PerDatabase {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        for (name, help, count) in GAUGES {
            let kind = MetricType::Gauge;
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for listened in &self.0 {
                let labels = [("database", listened.database.as_str())];
                let value = ConstGauge::new(count(&listened.counters).get());
                value.encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, count) in COUNTERS {
            let kind = MetricType::Counter;
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for listened in &self.0 {
                let labels = [("database", listened.database.as_str())];
                let value = ConstCounter::new(count(&listened.counters).get());
                value.encode(family.encode_family(&labels)?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "watchfire_listen_results_read",
            "Results of targets that were read from the store, and why",
            None,
            MetricType::Counter,
        )?;
        for listened in &self.0 {
            for (why, count) in READINGS {
                let labels = [("database", listened.database.as_str()), ("why", why)];
                let value = ConstCounter::new(count(&listened.counters).get());
                value.encode(family.encode_family(&labels)?)?;
            }
        }
        let events = Unit::Other("events".to_owned());
        let mut family = encoder.encode_descriptor(
            "watchfire_listen_queue",
            "Events that wait for a stream when it is handed more, of one stream of each slice",
            Some(&events),
            MetricType::Histogram,
        )?;
        for listened in &self.0 {
            let labels = [("database", listened.database.as_str())];
            let lengths = &listened.counters.queue_lengths;
            let steps = lengths.steps();
            let bounds = QUEUE_STEPS.map(|step| u32::try_from(step).map_or(f64::MAX, f64::from));
            let bounds = bounds.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(steps).collect();
            #[expect(
                clippy::cast_precision_loss,
                reason = "a sum of so many events need not be exact"
            )]
            let sum = lengths.sum() as f64;
            let count = steps.iter().sum();
            family
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_piece_of_sixteen_is_measured_and_the_first_always() {
        let sent = Arc::new(Sent::default());
        let now = Timestamp::from_micros(3_000_000).unwrap();
        for _ in 0..32 {
            let mut stream = sent.begin();
            for piece in 0..SENT_SAMPLE {
                let sampled = stream.measures();
                stream.observe(Version(1_000_000), now, piece == 0, sampled);
                stream.leaves(2, 10);
            }
        }
        // The clock was set back.
        sent.begin().observe(Version(4_000_000), now, true, false);
        let mut registry = Registry::default();
        sent.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "watchfire_listen_messages_sent_total 1024",
            "watchfire_listen_sent_bytes_total 5120",
            "watchfire_listen_commit_to_first_send_seconds_count 33",
            "watchfire_listen_commit_to_first_send_seconds_sum 64.0",
            "watchfire_listen_commit_to_first_send_seconds_bucket{le=\"0.0005\"} 1",
            "watchfire_listen_commit_to_send_seconds_count 32",
            "watchfire_listen_commit_to_send_seconds_bucket{le=\"1.0\"} 0",
            "watchfire_listen_commit_to_send_seconds_bucket{le=\"2.0\"} 32",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
    }
}
