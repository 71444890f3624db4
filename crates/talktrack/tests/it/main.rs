//! Tests of the library through its public API.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod conformance;
mod tracker;
mod users;
mod receipts;
mod refusals;
mod shutdown;
mod lock;
mod fork;
mod crash;
mod outbox;
#[cfg(feature = "postgres")]
mod resend;
mod poison;
mod breaker;
mod dead_letters;
mod deletion;
mod corruption;
mod changes;
mod damage;
mod model;
mod damaged_bytes;
mod search;
mod stats;
mod sessions;
mod text;
mod json;
#[cfg(feature = "postgres")]
mod outage;
#[cfg(feature = "postgres")]
mod refused_rows;
mod nodes;
#[cfg(feature = "postgres")]
mod odd_rows;
#[cfg(feature = "postgres")]
mod connection;
#[cfg(feature = "postgres")]
mod connection_strings;
#[cfg(feature = "postgres")]
mod refused_parameters;
#[cfg(feature = "postgres")]
mod schema;
#[cfg(feature = "postgres")]
mod rls;
mod node;
mod postgres;
mod properties;
mod support;
