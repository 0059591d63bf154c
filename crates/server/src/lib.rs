//! The faces of Watchfire and the wiring behind them.
//!
//! # How a request goes
//!
//! `accept` takes connections, `tls` has what they are encrypted with, `front` turns the protocol's bytes into the words of the model and
//! back, `service` carries out each operation once for every front, `databases` finds the open
//! database by its name, `answers` bounds what queries take at once, `metrics` counts
//! what they read and what listeners are sent, `health` says whether the store is well, and `status` turns every failure into a code and a sentence, in one place.
//! `indexes` knows index definitions outside the protocol. `backup` copies all data and puts copies in their place.
//! `client` is the commands that ask a running server: about its indexes, for a backup, for the documents of a database.
//! `origin` says whose web pages may ask, and `auth` who asks.
//! `emulator` is a server for tests, whose databases may begin with the documents of `seed`.
//! `check` is the command that looks at the data of a stopped server, or has a running one look at its own.
//! `assemble` is the only module that constructs things; nothing is global.
//!
//! # What lives here and what does not
//!
//! Protocols, connections, configuration and the order in which things start and stop. No query
//! logic, no matching, no storage: those are asked for below. Generated protocol types are seen
//! only in `front`, which answers, and in `client`, which asks.
//!
//! # How it stops
//!
//! Streams end with UNAVAILABLE, which every SDK answers by connecting again; unary calls in flight
//! are finished; then hubs, engines and the store are closed. Every step has a bounded time.
//!
//! # What is not done
//!
//! There are no rules yet, and nobody's credentials are verified.

pub mod accept;
pub mod answers;
#[cfg(feature = "embedded")]
pub mod assemble;
pub mod auth;
pub mod backup;
#[cfg(feature = "embedded")]
pub mod check;
pub mod client;
pub mod config;
pub mod databases;
#[cfg(feature = "embedded")]
pub mod emulator;
pub mod error;
pub mod front;
pub mod health;
pub mod indexes;
pub mod metrics;
pub mod origin;
pub mod seed;
pub mod service;
pub mod status;
pub mod tls;
