//! The services that the tests run against: a PostgreSQL, a pgbouncer, an object store, and a network that
//! can be broken.
//!
//! All of them are real and private to the tests: a [`Postgres`] is a cluster in a temporary directory on a
//! free port of 127.0.0.1, and ends with the process that started it, even if that is killed. Tests share
//! [`Postgres::shared`] and take a [`Database`] each; a test that stops the server starts its own with
//! [`Postgres::start`].

#![expect(clippy::expect_used, reason = "a test bed fails by panicking")]

mod supabase;
mod pgbouncer;
mod moto;
mod postgres;
mod database;
mod client;
mod proxy;
mod disk;
// The parts that these are built from.
mod harm;
mod psql;
mod certificates;
mod scratch;
mod programs;
mod ports;
pub mod bench;
pub mod cut;
pub mod skip;

pub use client::open_client;
pub use database::Database;
pub use disk::SmallDisk;
pub use harm::{Frozen, Occupied};
pub use moto::Moto;
pub use pgbouncer::PgBouncer;
pub use postgres::{KEYED_PASSWORD, Postgres};
pub use proxy::Proxy;
pub use supabase::like_supabase;
