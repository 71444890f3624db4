//! Tests of the test bed itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod postgres;
mod supabase;
mod pgbouncer;
mod killed;
mod proxy;
mod support;
