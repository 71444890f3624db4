//! Tests of the test bed itself.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod postgres;
mod supabase;
mod pgbouncer;
mod killed;
mod proxy;
