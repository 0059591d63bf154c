//! Bytes in order: the contract that every store keeps.

pub mod batch;
pub mod error;
pub mod memory;
pub mod range;
pub mod store;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod contract;
pub mod faulty;

pub use batch::{Batch, Operation};
pub use error::Error;
pub use range::Range;
pub use store::{Applied, Direction, Page, Snapshot, Store, Version};
