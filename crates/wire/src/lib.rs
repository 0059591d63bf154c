//! # The protocol, and nothing else
//!
//! Firestore's gRPC protocol on one side, the words of `watchfire-model` on the other.
//!
//! **The contract** is `proto/`: names and field numbers are facts of the protocol, the comments
//! are ours. It includes fields that were never published but that shipped SDKs send. [`pb`] is
//! what the build makes of it; outside this crate only the server's fronts and a client's transport
//! should see a generated type.
//!
//! **Reading** is `decode_…`, one module for one subject: [`value`], [`document`], [`write`],
//! [`query`], [`listen`], [`transaction`], [`consistency`]. Each function takes a generated message by value and
//! takes it apart completely, field by field and without `..`, so that a field added to `proto/`
//! stops the build until somebody decides what it means here. There are three possible decisions:
//!
//! - it is carried over into the model;
//! - it contradicts the protocol: [`Refusal::Invalid`], with a text that names the field;
//! - it is legal and this server does not do it: [`Refusal::Unimplemented`], naming it. A caller
//!   who asks for something is never given something else in silence.
//!
//! Only what the protocol itself declares to be without effect is dropped: labels, request tags,
//! and the output-only times of a document that is written.
//!
//! **Writing** is `encode_…`, which cannot fail: whatever the model can hold, the protocol can say.
//!
//! **Depth.** Messages nest, and so the functions recurse; the bound is the decoder's limit of 100
//! nested messages, which is kept. [`codec`] sees to it that a message that is too deep, or broken in
//! any other way, is answered as the caller's mistake and not as ours.
//!
//! What is not here: defaults, policy, network, storage, and any rule about documents or queries
//! that holds without the protocol (those are the model's).

pub mod admin;
pub mod codec;
pub mod consistency;
pub mod document;
pub mod explain;
pub mod json;
pub mod listen;
pub mod pb;
pub mod query;
pub mod refusal;
pub mod status;
pub mod transaction;
pub mod value;
pub mod write;

pub use consistency::{ReadAt, decode_read_at};
pub use document::{decode_mask, encode_document};
pub use listen::{ListenCommand, Resume, TargetCommand, decode_listen_request, encode_watch_event};
pub use query::{
    decode_aggregation_query, decode_order_by_text, decode_partition_query, decode_query,
    decode_search,
};
pub use refusal::Refusal;
pub use status::{Code, encode_status};
pub use transaction::{Concurrency, TransactionMode, decode_transaction_options};
pub use value::{
    decode_fields, decode_timestamp, decode_value, encode_fields, encode_timestamp, encode_value,
};
pub use write::{decode_precondition, decode_write, encode_write_result};
