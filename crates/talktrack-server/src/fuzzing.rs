//! What must hold for whatever comes in. Each property takes any bytes, and panics where it does not hold. The fuzz targets
//! call them with what libFuzzer finds, the tests with what is drawn.

#![expect(clippy::expect_used, reason = "a property fails by panicking")]

mod wire;
mod jsonl;
#[cfg(test)]
mod absurd;

pub use jsonl::jsonl;
pub use wire::wire;
