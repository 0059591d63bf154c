//! Whatever the indexes are, the answer is that of the plain definition of a query.
//!
//! Worlds of documents, indexes and queries are made from seeds, and every answer of the engine is compared with
//! `Query::evaluate` over all documents, in order. Each world prints its seed. `WATCHFIRE_SEED` sets the first
//! seed and `WATCHFIRE_CASES` how many queries are asked at least: with the seed that was printed and one case, the
//! same world is made again, alone.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may panic"
)]

mod choices;
mod data;
mod indexes;
mod moving;
mod queries;
mod still;
mod world;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The first seed when none is set: a run of the tests is the same every time.
const SEED: u64 = 1;

/// How many queries are asked of each kind of world when nothing is said.
const CASES: usize = 3_000;

/// Makes worlds until enough has been asked; each answers how many queries it asked. Uses all processors.
fn worlds(name: &str, world: impl Fn(u64) -> usize + Sync) {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect("a number"))
    };
    let first = number("WATCHFIRE_SEED").unwrap_or(SEED);
    let cases = number("WATCHFIRE_CASES").map_or(CASES, |cases| usize::try_from(cases).unwrap());
    println!("{name}: at least {cases} queries from seed {first}");
    let next = AtomicU64::new(first);
    let asked = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work = || {
            // At least one world in all, and no more than are needed.
            while asked.load(Ordering::Relaxed) < cases {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                println!("{name}: seed {seed}");
                asked.fetch_add(world(seed), Ordering::Relaxed);
            }
        };
        let threads = if cases == 1 { 1 } else { threads };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in running {
            if let Err(panic) = thread.join() {
                // Others may go on for long.
                asked.store(usize::MAX / 2, Ordering::Relaxed);
                std::panic::resume_unwind(panic);
            }
        }
    });
    println!("{name}: asked {}", asked.load(Ordering::Relaxed));
}

#[test]
fn answers_are_those_of_the_definition() {
    worlds("still", still::world);
}

#[test]
fn answers_stay_exact_while_documents_and_indexes_change() {
    worlds("moving", moving::world);
}
