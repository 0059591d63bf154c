//! One seeded world in which the real engine, its listeners and its service layer live: tests only.
//!
//! `history` is what happened in a run, as plain data. `oracle` judges it, and knows nothing of how it came
//! about.

pub mod history;
pub mod oracle;
