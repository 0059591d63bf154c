//! Runs plans against a snapshot: finds what the plan names, looks at what entries say, loads documents, asks the
//! query about each, puts the rest in order. Nothing here trusts the plan, and nothing is kept between queries.
//!
//! From below: `pages` reads keys, `join` follows several scans, `branch` makes documents that may match of them,
//! `union` puts the branches together, `load` fetches the documents, `answer` orders them, and `run` drives all of it
//! for a query, `totals` for aggregations.

pub mod answer;
pub mod branch;
pub mod join;
pub mod load;
pub mod nearest;
pub mod pace;
pub mod pages;
pub mod partition;
pub mod run;
pub mod seek;
pub mod totals;
pub mod union;

pub use self::pace::Reading;
pub use self::partition::partition;
pub use self::run::{Delivery, ExecutionStats, QUERY_BYTES_MAX, Run, collect};
pub use self::totals::aggregate;

#[cfg(test)]
mod tests;
