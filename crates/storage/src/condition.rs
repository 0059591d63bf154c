//! How a store stands, in words for those who run it.
//!
//! Told, never asked: nobody decides by it what to read or write, since every call answers for itself.

/// What a store does just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It reads and writes.
    Up,
    /// It reads, and refuses writes for this reason until that is gone.
    Refusing(String),
    /// It is being opened again, and refuses everything until then, for this reason.
    Recovering(String),
    /// It could not be opened again, and refuses everything until somebody has repaired it.
    Failed(String),
}

impl State {
    /// One word for it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            State::Up => "up",
            State::Refusing(_) => "refusing",
            State::Recovering(_) => "recovering",
            State::Failed(_) => "failed",
        }
    }
}

/// How a store stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What it does.
    pub state: State,
    /// The first damage that a read has met since the process began, with the file's name. Other reads go on.
    pub damage: Option<String>,
    /// How many different damages reads have met, up to a bound of the engine.
    pub damages: usize,
    /// Bytes that may still be written to its disk; `None` where that is not known.
    pub free_bytes: Option<u64>,
}

impl Condition {
    /// Of a store that nothing is known to be wrong with.
    #[must_use]
    pub fn up() -> Self {
        Self {
            state: State::Up,
            damage: None,
            damages: 0,
            free_bytes: None,
        }
    }
}
