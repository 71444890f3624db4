//! Tests of the test bed itself.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod postgres;
