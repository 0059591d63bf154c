//! What a run is like: how many act, what goes wrong and how often. All of it follows from the seed.

use std::time::Duration;

use watchfire_engine::{ConcurrencyMode, IndexMode, Settings};

use crate::chance::Chance;
use crate::disk::Faults;
use crate::network::Quality;

/// The character of one run.
#[derive(Clone, Debug)]
pub struct Weather {
    /// How many clients there are, each with a listener.
    pub clients: u32,
    /// How much they do together, when nothing else is said.
    pub operations: u64,
    /// What goes wrong with the disk.
    pub faults: Faults,
    /// What goes wrong on the way.
    pub quality: Quality,
    /// How the database is opened.
    pub settings: Settings,
    /// How often what is done on purpose is of which kind, as weights.
    pub trouble: Trouble,
    /// How long nothing is done on purpose, at most.
    pub calm: Duration,
    /// Who listens besides the clients' listeners.
    pub crowd: Crowd,
}

/// Listeners who do nothing else.
#[derive(Copy, Clone, Debug, Default)]
pub struct Crowd {
    /// How many.
    pub spectators: u32,
    /// Sets of targets among which they choose: the fewer, the more of them watch the same.
    pub sets: u64,
    /// Targets that a set has besides a few.
    pub more_targets: u64,
    /// How often they stop reading, in thousandths of what comes.
    pub stops: u64,
    /// How often they leave streams behind, in thousandths of what comes.
    pub vanishes: u64,
    /// Whether there is a night, longer than the history is kept, in which half of them are away.
    pub night: bool,
}

impl Crowd {
    fn of(chance: &mut Chance) -> Self {
        let stops = if chance.happens(600) {
            chance.within(1, 20)
        } else {
            0
        };
        let vanishes = if chance.happens(400) {
            chance.within(1, 5)
        } else {
            0
        };
        let night = chance.happens(100);
        // What they are told is judged for each of them alone, so that crowds are dear.
        let (spectators, sets, more_targets) = match chance.below(100) {
            0 => (12, 12, 200),
            1..=3 => (24, 2, 0),
            4..=40 => (chance.within(3, 8), 1, 0),
            41..=60 => (chance.within(3, 6), 2, 4),
            _ => (u64::from(night) * 2, 1, 0),
        };
        Self {
            spectators: u32::try_from(spectators).unwrap_or(0),
            sets,
            more_targets,
            stops,
            vanishes,
            night,
        }
    }
}

/// Weights.
#[derive(Copy, Clone, Debug, Default)]
pub struct Trouble {
    /// The server dies.
    pub crashes: u64,
    /// The server is stopped, and started again.
    pub restarts: u64,
    /// The disk is full for a while.
    pub full_disks: u64,
    /// The system clock is set.
    pub clock_steps: u64,
    /// Nothing goes wrong for a while.
    pub peace: u64,
}

impl Weather {
    /// That of a seed.
    #[must_use]
    pub fn of(chance: &mut Chance) -> Self {
        // Every kind of trouble is absent from many runs, so that none hides behind another.
        let disk_fails = chance.happens(600);
        let often = |chance: &mut Chance, per_mille: u64, most: u64| -> u64 {
            if chance.happens(per_mille) {
                chance.within(1, most)
            } else {
                0
            }
        };
        let mut faults = Faults {
            slow_flushes: often(chance, 800, 400),
            stuck_flushes: often(chance, 300, 20),
            slow_reads: often(chance, 700, 200),
            ..Faults::default()
        };
        if disk_fails {
            faults.refused = often(chance, 600, 40);
            faults.lost_answers = often(chance, 600, 40);
            faults.failed_reads = often(chance, 500, 15);
        }
        let quality = Quality {
            cuts: often(chance, 700, 60),
            slow: often(chance, 700, 200),
        };
        let trouble = Trouble {
            crashes: often(chance, 700, 10),
            restarts: often(chance, 400, 6),
            full_disks: often(chance, 400, 6),
            clock_steps: often(chance, 500, 8),
            peace: 1,
        };
        let modes = [ConcurrencyMode::Optimistic, ConcurrencyMode::Pessimistic];
        let index_modes = [IndexMode::Advise, IndexMode::Advise, IndexMode::Create];
        let clients = u32::try_from(chance.within(2, 6)).unwrap_or(2);
        let operations = chance.within(60, 360);
        let settings = Settings {
            index_mode: *chance.pick(&index_modes),
            concurrency: *chance.pick(&modes),
            ..Settings::default()
        };
        let calm = Duration::from_millis(chance.within(300, 3_000));
        Self {
            clients,
            operations,
            faults,
            quality,
            settings,
            trouble,
            calm,
            crowd: Crowd::of(chance),
        }
    }
}
