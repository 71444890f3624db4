//! What the tests run against: a PostgreSQL, a pgbouncer, an object store, and a network that can be broken.
//!
//! Everything is real and of its own: a [`Postgres`] is a cluster in a temporary directory on a free port of 127.0.0.1,
//! and ends with the process that started it, however that ends. Tests share [`Postgres::shared`] and take a
//! [`Database`] each; a test that stops the server starts its own with [`Postgres::start`].

#![expect(clippy::expect_used, reason = "a test bed fails by panicking")]

mod supabase;
mod pgbouncer;
mod moto;
mod postgres;
mod database;
mod proxy;
mod disk;
// What these are made of.
mod harm;
mod psql;
mod certificates;
mod scratch;
mod programs;
mod ports;
pub mod cut;
pub mod skip;

pub use database::Database;
pub use disk::SmallDisk;
pub use harm::{Frozen, Occupied};
pub use moto::Moto;
pub use pgbouncer::PgBouncer;
pub use postgres::{KEYED_PASSWORD, Postgres};
pub use proxy::Proxy;
pub use supabase::like_supabase;
