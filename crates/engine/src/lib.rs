//! Documents on ordered bytes: the handle of one database.

pub mod engine;
pub mod error;
pub mod transaction;
pub mod view;

pub use engine::{CommitEntry, Engine, EntriesSince, Receipt, Staged, Start};
pub use error::Error;
pub use transaction::{ConcurrencyMode, TransactionId, TransactionOptions};
pub use view::{ExecutionStats, View};
pub use watchfire_storage::Version;
