//! Bytes in order: the contract that every store keeps.
//!
//! # Order
//!
//! A store is one database's map from byte strings to byte strings, ordered by unsigned bytes, shorter first where one key begins another.
//! It knows no documents, indexes or fields: whoever puts a key decides by its bytes where it stands.
//! The empty key is a key like any other.
//!
//! # The head
//!
//! Every batch carries a [`Version`], and the version of the newest batch is the store's head.
//! `apply(expected_head, batch)` writes only if the head is still `expected_head`; otherwise it writes nothing and answers where the head is now.
//! Versions only rise: a batch whose version is not above the head that it expects is a bug of the caller, and panics.
//! This compare-and-set of one number is all the concurrency control there is; what conflicts with what is decided above.
//!
//! # Snapshots
//!
//! A snapshot shows exactly the state after the batch whose version it carries, whole, for as long as it lives.
//! Taking one is cheap and does not wait for a flush.
//! A snapshot taken after `apply` answered `Applied` shows that batch.
//! Reads come in pages, bounded by a count and by [`PAGE_BYTES_MAX`], so that no read takes all memory.
//! A snapshot that lives long keeps old bytes from being reclaimed.
//!
//! # Durable
//!
//! `Applied` means that the batch survives the death of the process and of the machine, in so far as the store keeps anything at all (the memory store lives and dies with its process).
//! What a snapshot shows is durable too: nothing can be read that a crash could take back.
//! A batch whose caller got an error, or stopped waiting, may have been written or not, but only whole; after [`Error::Poisoned`] or a restart, read the head to learn which.
//! A failed flush poisons the store: the operating system may have thrown the unwritten pages away, and a second flush that succeeds would prove nothing.
//! A poisoned store answers every batch with `Poisoned` and the first reason, and goes on showing what it showed before.
//! It recovers by reading again what is on disk, at a restart or by itself; from then on the batch whose flush failed is there for good, whole, or never was, and `apply` compares with the head that was found.
//! A store that can tell says in its [`Condition`] how it stands.
//!
//! # What is not done
//!
//! No transactions, range locks, stamps, or merges; no notification of new heads; no conversion between engines.

pub mod batch;
pub mod condition;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod error;
#[cfg(any(test, feature = "contract"))]
pub mod faulty;
pub mod memory;
mod page;
pub mod range;
pub mod store;
pub mod version;

pub use batch::{Batch, Operation};
pub use condition::{Condition, State};
pub use error::Error;
pub use page::{PAGE_BYTES_MAX, Page};
pub use range::Range;
pub use store::{Applied, Counted, Direction, Snapshot, Store};
pub use version::Version;
