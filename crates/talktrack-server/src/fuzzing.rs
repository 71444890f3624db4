//! Properties that must hold for any input. Each takes arbitrary bytes and panics if it does not hold. Fuzz targets
//! call them with inputs from libFuzzer, tests with random ones.

#![expect(clippy::expect_used, reason = "a property fails by panicking")]

mod wire;
mod jsonl;
#[cfg(test)]
mod absurd;

pub use jsonl::jsonl;
pub use wire::wire;
