//! What whoever opens a database decides about it.

use std::time::Duration;

/// How long the past is kept when nothing else is said, and at least.
pub const HISTORY_MIN: Duration = Duration::from_secs(60 * 60);
/// How long the past can be kept at most.
pub const HISTORY_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What happens to a query for which there is no index.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum IndexMode {
    /// It is refused with the index that it needs, as the real service does.
    Enforce,
    /// It is served by the best plan there is, and reported once for each shape of query.
    #[default]
    Advise,
    /// It is served by the best plan there is, and the missing index is defined and built meanwhile.
    Create,
}

/// How a transaction deals with others.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum ConcurrencyMode {
    /// Reads lock nothing; they are checked at the commit.
    #[default]
    Optimistic,
    /// Reads lock what they ask for until the transaction ends.
    Pessimistic,
}

/// Settings of one open database.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What happens to a query for which there is no index.
    pub index_mode: IndexMode,
    /// How transactions deal with each other that do not say it themselves.
    pub concurrency: ConcurrencyMode,
    /// How far back reads can go, from `HISTORY_MIN` to `HISTORY_MAX`; what lies outside is taken for the nearer of the
    /// two.
    pub history: Duration,
    /// A random number, for what must differ from what every other database has: the epoch of one that begins. With 0 it
    /// follows from the clock alone.
    pub chance: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            index_mode: IndexMode::default(),
            concurrency: ConcurrencyMode::default(),
            history: HISTORY_MIN,
            chance: 0,
        }
    }
}
