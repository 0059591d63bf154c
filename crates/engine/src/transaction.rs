//! Transactions: begin, expiry, rollback.

use watchfire_model::Timestamp;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ConcurrencyMode {
    Optimistic,
    /// Accepted and run optimistically in this version.
    Pessimistic,
}

#[derive(Clone, Debug)]
pub enum TransactionOptions {
    ReadOnly { read_time: Option<Timestamp> },
    ReadWrite { retry: Option<TransactionId>, mode: ConcurrencyMode },
}

/// What the protocol carries as `transaction` bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId(pub Vec<u8>);
