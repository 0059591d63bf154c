//! Protocols: decode a request, make one call of a service, encode the answer.

pub mod grpc;
pub mod grpc_message;
mod page_token;
