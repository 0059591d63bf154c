//! How a transaction shall run, as the caller said it. Knows nothing of running one.

use watchfire_model::Timestamp;

use crate::pb;
use crate::pb::transaction_options::{ConcurrencyMode, Mode, ReadOnly, ReadWrite, read_only};
use crate::refusal::Refusal;
use crate::value::decode_timestamp;

/// What kind of transaction is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionMode {
    /// The caller left it open: read-write where a transaction is begun on its own, read-only
    /// where a read begins it.
    Unspecified,
    /// Reads one snapshot; at the given moment if there is one.
    ReadOnly { read_time: Option<Timestamp> },
    /// Reads and then commits.
    ReadWrite {
        /// The id of the failed attempt that this one repeats.
        retry: Option<Vec<u8>>,
        concurrency: Concurrency,
    },
}

/// When conflicts are found.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// The database's default.
    Unspecified,
    /// At commit.
    Optimistic,
    /// Reads lock.
    Pessimistic,
}

/// Reads the options of a transaction. Refused: an unknown concurrency mode, a moment out of range.
pub fn decode_transaction_options(
    options: pb::TransactionOptions,
) -> Result<TransactionMode, Refusal> {
    let pb::TransactionOptions { mode } = options;
    Ok(match mode {
        None => TransactionMode::Unspecified,
        Some(Mode::ReadOnly(ReadOnly {
            consistency_selector,
        })) => TransactionMode::ReadOnly {
            read_time: match consistency_selector {
                None => None,
                Some(read_only::ConsistencySelector::ReadTime(time)) => {
                    Some(decode_timestamp(time)?)
                }
            },
        },
        Some(Mode::ReadWrite(ReadWrite {
            retry_transaction,
            concurrency_mode,
        })) => TransactionMode::ReadWrite {
            retry: (!retry_transaction.is_empty()).then_some(retry_transaction),
            concurrency: match ConcurrencyMode::try_from(concurrency_mode) {
                Ok(ConcurrencyMode::Unspecified) => Concurrency::Unspecified,
                Ok(ConcurrencyMode::Optimistic) => Concurrency::Optimistic,
                Ok(ConcurrencyMode::Pessimistic) => Concurrency::Pessimistic,
                Err(_) => {
                    return Err(Refusal::invalid(format!(
                        "TransactionOptions.read_write.concurrency_mode {concurrency_mode} is unknown."
                    )));
                }
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(mode: Option<Mode>) -> Result<TransactionMode, Refusal> {
        decode_transaction_options(pb::TransactionOptions { mode })
    }

    #[test]
    fn every_mode_is_carried_over() {
        assert_eq!(decode(None).unwrap(), TransactionMode::Unspecified);
        let read_write = |retry: &[u8], concurrency_mode| {
            Some(Mode::ReadWrite(ReadWrite {
                retry_transaction: retry.to_vec(),
                concurrency_mode,
            }))
        };
        for (number, concurrency) in [
            (0, Concurrency::Unspecified),
            (1, Concurrency::Optimistic),
            (2, Concurrency::Pessimistic),
        ] {
            assert_eq!(
                decode(read_write(&[], number)).unwrap(),
                TransactionMode::ReadWrite {
                    retry: None,
                    concurrency
                }
            );
        }
        assert!(matches!(
            decode(read_write(&[7], 0)).unwrap(),
            TransactionMode::ReadWrite { retry: Some(id), .. } if id == [7]
        ));
        assert!(matches!(
            decode(read_write(&[], 3)),
            Err(Refusal::Invalid(_))
        ));
    }

    #[test]
    fn a_reading_transaction_may_have_a_moment() {
        let read_only = |time: Option<prost_types::Timestamp>| {
            Some(Mode::ReadOnly(ReadOnly {
                consistency_selector: time.map(read_only::ConsistencySelector::ReadTime),
            }))
        };
        assert_eq!(
            decode(read_only(None)).unwrap(),
            TransactionMode::ReadOnly { read_time: None }
        );
        let second = prost_types::Timestamp {
            seconds: 1,
            nanos: 0,
        };
        assert!(matches!(
            decode(read_only(Some(second))).unwrap(),
            TransactionMode::ReadOnly { read_time: Some(time) } if time.micros() == 1_000_000
        ));
        let far = prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        };
        assert!(decode(read_only(Some(far))).is_err());
    }
}
