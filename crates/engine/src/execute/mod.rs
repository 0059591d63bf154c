//! Runs a query against a snapshot: scan what the plan names, ask the query about each document, put the rest in
//! order. Nothing here trusts the plan, and nothing is kept between queries.

pub mod aggregate;
pub mod finish;
pub mod nearest;
pub mod run;
pub mod scan;
pub mod seek;

pub use self::aggregate::aggregate;
pub use self::run::{ExecutionStats, run};

#[cfg(test)]
mod tests;
