//! Protocols: decode a request, make one call of a service, encode the answer.

pub mod admin;
pub mod backup;
pub mod check;
pub mod cors;
pub mod deadline;
pub mod demo;
pub mod emulator;
pub mod grpc;
pub mod grpc_message;
pub mod health;
pub mod http;
pub mod listen;
pub mod metrics;
mod page_token;
pub mod pages;
pub mod rest;
pub mod webchannel;
