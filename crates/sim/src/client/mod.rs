//! Clients, which ask as the SDKs do and write down what they are told.
//!
//! A client does one thing after the other: it is one actor. Another actor of it listens. What it does next follows
//! from its own generator, so that a run with fewer operations begins like one with more.

mod listen;
mod read;
mod transact;
mod write;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use watchfire_engine::{ConcurrencyMode, Version};

use crate::actors::Timers;
use crate::chance::Chance;
use crate::history::{ClientId, Outcome};
use crate::network::{Failed, Network};
use crate::recorder::Recorder;

pub use listen::{Manner, listen, spectate};
pub use write::set;

/// What all clients of a run share.
pub struct Shared {
    pub timers: Timers,
    pub network: Network,
    pub recorder: Recorder,
    /// Operations that may still be begun.
    pub operations: Cell<u64>,
    /// Clients that still do something.
    pub working: Cell<usize>,
    /// Listeners that still listen.
    pub listening: Cell<usize>,
    /// Once it is there, listeners go on until they have a snapshot at this version or later, and then end.
    pub last_version: Cell<Option<Version>>,
    /// Whether those who sleep at night are away.
    pub night: Cell<bool>,
    /// Versions at which something was read or written, the newest last.
    pub versions: RefCell<Vec<Version>>,
}

/// Versions that are remembered for reads in the past.
const VERSIONS_MAX: usize = 64;

impl Shared {
    /// A version at which the database was seen.
    pub fn saw(&self, version: Version) {
        let mut versions = self.versions.borrow_mut();
        if versions.len() >= VERSIONS_MAX {
            versions.remove(0);
        }
        versions.push(version);
    }
}

/// One client.
pub struct Client {
    pub id: ClientId,
    pub shared: Rc<Shared>,
    pub chance: Chance,
    /// What its transactions ask for.
    pub mode: Option<ConcurrencyMode>,
}

impl Client {
    /// Does one thing after the other until nothing may be begun any more.
    pub async fn work(mut self) {
        while self.begins() {
            let pause = if self.chance.happens(30) {
                self.chance.within(200, 3_000)
            } else {
                self.chance.below(12)
            };
            self.shared.timers.sleep(Duration::from_millis(pause)).await;
            match self.chance.weighted(&[22, 30, 24, 3]) {
                0 => self.read().await,
                1 => self.transact().await,
                2 => self.write().await,
                _ => self.alter().await,
            }
        }
        self.shared.working.set(self.shared.working.get() - 1);
    }

    fn begins(&self) -> bool {
        let left = self.shared.operations.get();
        self.shared.operations.set(left.saturating_sub(1));
        left > 0
    }
}

/// The outcome as it is written down.
fn outcome<T: Clone>(result: &Result<T, Failed>) -> Outcome<T> {
    match result {
        Ok(answer) => Outcome::Acknowledged(answer.clone()),
        Err(Failed::Refused(refusal)) => Outcome::Refused(refusal.clone()),
        Err(Failed::Unknown(text)) => Outcome::Unknown(text.clone()),
    }
}
