//! What is counted of the sessions of browsers, in the whole process.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The counts.
#[derive(Debug, Default)]
pub struct ChannelCounts {
    sessions: Gauge,
    sessions_lost: Counter,
    arrays_sent: Counter,
    arrays_resent: Counter,
}

impl ChannelCounts {
    /// There are so many sessions now.
    pub fn sessions(&self, count: usize) {
        self.sessions.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A session was given up because its client stayed away.
    pub fn session_lost(&self) {
        self.sessions_lost.inc();
    }

    /// Arrays were sent for the first time.
    pub fn arrays_sent(&self, count: u64) {
        self.arrays_sent.inc_by(count);
    }

    /// Arrays are sent again, because they were not acknowledged on a new request.
    pub fn arrays_resent(&self, count: usize) {
        self.arrays_resent
            .inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Adds the lines.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "watchfire_webchannel_sessions",
            "Sessions of browsers just now",
            self.sessions.clone(),
        );
        registry.register(
            "watchfire_webchannel_sessions_lost",
            "Sessions of browsers that were given up because their clients stayed away",
            self.sessions_lost.clone(),
        );
        registry.register(
            "watchfire_webchannel_arrays_sent",
            "Messages and signs of life that were sent to browsers, each counted once",
            self.arrays_sent.clone(),
        );
        registry.register(
            "watchfire_webchannel_arrays_resent",
            "Those that were to be sent again because they were not acknowledged",
            self.arrays_resent.clone(),
        );
    }
}
