//! One seeded world in which the real engine, its listeners and its service layer live: tests only.
//!
//! # What is real and what is not
//!
//! Real: everything from `server::databases` and the services down to the engine, its committer, its listeners and
//! its transactions. In their place: the disk (`disk`), the network (`network`), the clients (`client`), the clock and
//! the time (`time`). All of it runs on one thread, from one seed; what happens once happens again.
//!
//! # A run
//!
//! `weather` draws what a run is like. `world` lets clients work and listen, while `trouble` kills the server, stops
//! it, fills its disk and sets its clock. What clients saw is written down by `recorder` as a `history`, which
//! `oracle` judges: it knows nothing of how the server works, only what may not be seen.
//!
//! # How to use it
//!
//! `cargo xtask sim --seed 7` makes one run and prints what is wrong with it; `--seeds 0..1000` and `--minutes 30` make
//! many. What is found is written down in `docs/found.md` with its seed.

pub mod actors;
pub mod chance;
pub mod client;
pub mod data;
pub mod disk;
pub mod history;
pub mod network;
pub mod oracle;
pub mod recorder;
pub mod time;
pub mod trouble;
pub mod weather;
pub mod world;
