//! The tests of the crate, with files that SQLite wrote and the tests damage.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arbitrary;
mod damaged;
mod encodings;
mod intact;
mod support;
mod wal;
