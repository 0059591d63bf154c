//! As of when a request reads: the selector that every reading method has, under a generated type of its own.

use watchfire_model::Timestamp;

use crate::pb;
use crate::refusal::Refusal;
use crate::transaction::{TransactionMode, decode_transaction_options};
use crate::value::decode_timestamp;

/// As of when a request reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadAt {
    /// The present.
    Latest,
    /// Inside the transaction with this id.
    Transaction(Vec<u8>),
    /// Inside a transaction that the read begins.
    Begin(TransactionMode),
    /// At this moment.
    Time(Timestamp),
}

/// A generated selector.
pub trait Selector {
    /// What was selected.
    fn decode(self) -> Result<ReadAt, Refusal>;
}

/// Reads the selector of a request; without one it reads the present. Refused: what
/// [`decode_transaction_options`] refuses, and a moment out of range.
pub fn decode_read_at(selector: Option<impl Selector>) -> Result<ReadAt, Refusal> {
    selector.map_or(Ok(ReadAt::Latest), Selector::decode)
}

/// Every variant of a generated selector is named, so that one more stops the build.
macro_rules! selectors {
    ($($request:ident: $($variant:ident),+;)+) => {
        $(impl Selector for pb::$request::ConsistencySelector {
            fn decode(self) -> Result<ReadAt, Refusal> {
                match self {
                    $(Self::$variant(value) => $variant(value),)+
                }
            }
        })+
    };
}

selectors! {
    get_document_request: Transaction, ReadTime;
    list_documents_request: Transaction, ReadTime;
    batch_get_documents_request: Transaction, NewTransaction, ReadTime;
    run_query_request: Transaction, NewTransaction, ReadTime;
    run_aggregation_query_request: Transaction, NewTransaction, ReadTime;
    partition_query_request: ReadTime;
    list_collection_ids_request: ReadTime;
}

#[expect(
    non_snake_case,
    reason = "named like the variants whose values it takes"
)]
fn Transaction(id: Vec<u8>) -> Result<ReadAt, Refusal> {
    Ok(ReadAt::Transaction(id))
}

#[expect(
    non_snake_case,
    reason = "named like the variants whose values it takes"
)]
fn NewTransaction(options: pb::TransactionOptions) -> Result<ReadAt, Refusal> {
    Ok(ReadAt::Begin(decode_transaction_options(options)?))
}

#[expect(
    non_snake_case,
    reason = "named like the variants whose values it takes"
)]
fn ReadTime(time: prost_types::Timestamp) -> Result<ReadAt, Refusal> {
    Ok(ReadAt::Time(decode_timestamp(time)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::run_query_request::ConsistencySelector;

    #[test]
    fn every_selector_is_carried_over() {
        let decode = |selector| decode_read_at(selector).unwrap();
        assert_eq!(decode(None::<ConsistencySelector>), ReadAt::Latest);
        assert_eq!(
            decode(Some(ConsistencySelector::Transaction(vec![7]))),
            ReadAt::Transaction(vec![7])
        );
        let options = pb::TransactionOptions { mode: None };
        assert_eq!(
            decode(Some(ConsistencySelector::NewTransaction(options))),
            ReadAt::Begin(TransactionMode::Unspecified)
        );
        let time = |seconds| {
            let time = prost_types::Timestamp { seconds, nanos: 0 };
            decode_read_at(Some(ConsistencySelector::ReadTime(time)))
        };
        assert_eq!(
            time(1).unwrap(),
            ReadAt::Time(Timestamp::from_micros(1_000_000).unwrap())
        );
        assert!(time(i64::MAX).is_err());
    }
}
