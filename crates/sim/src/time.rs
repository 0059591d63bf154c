//! Simulated time, and the system clock that the server looks at.
//!
//! Time stands still while anybody has something to do, and jumps to the next timer when nobody has: that is done
//! by Tokio's paused clock, of which each life of the server has one of its own. What is told here is the time of
//! the whole run. The server's clock is that time and a deviation, which the world changes on purpose.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use watchfire_model::{Clock, Timestamp};

/// What the server's clock shows when a run begins, in microseconds since 1970.
const BEGIN_MICROS: i64 = 1_750_000_000_000_000;

/// The time of a run. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Time(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// When the runtime began, by its own clock; `None` between two runtimes.
    began: Option<Instant>,
    /// Simulated time at which it began.
    base_micros: u64,
    deviation_micros: i64,
}

impl Time {
    /// Called inside of a new runtime: time goes on by its clock.
    pub fn runtime_began(&self) {
        self.lock().began = Some(Instant::now());
    }

    /// Called inside of the runtime before it ends.
    pub fn runtime_ends(&self) {
        let now = self.now_micros();
        let mut state = self.lock();
        state.base_micros = now;
        state.began = None;
    }

    /// Simulated time since the run began.
    #[must_use]
    pub fn now_micros(&self) -> u64 {
        let state = self.lock();
        let passed = state.began.map_or(0, |began| {
            u64::try_from(Instant::now().duration_since(began).as_micros()).unwrap_or(u64::MAX)
        });
        state.base_micros + passed
    }

    /// Moves the server's clock against simulated time.
    pub fn step_clock(&self, micros: i64) {
        self.lock().deviation_micros += micros;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for Time {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.now_micros()).unwrap_or(i64::MAX);
        let micros = BEGIN_MICROS + passed + self.lock().deviation_micros;
        Timestamp::from_micros(micros).expect("a run is far shorter than a year")
    }
}
