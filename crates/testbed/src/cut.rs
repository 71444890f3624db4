//! How much of a test runs, and the seed of its random choices.
//!
//! `make test` runs a short version of long tests. `TALKTRACK_FAULTS=full`, which `make test-faults` sets,
//! runs all of them completely. Random choices come from a seed: always the same one for the short version,
//! a new one for the full run; `TALKTRACK_SEED` overrides it.

/// The seed of the short version: a test that does something different every day tells nothing about a
/// change.
const EVERYDAY_SEED: u64 = 20_261_123;

/// Returns the number of rounds: `short` for `make test`, `full` for a full run.
pub fn rounds(short: u32, full: u32) -> u32 {
    if is_full() { full } else { short }
}

fn is_full() -> bool {
    match std::env::var("TALKTRACK_FAULTS") {
        Ok(cut) if cut == "full" => true,
        Ok(other) => panic!("TALKTRACK_FAULTS: must be full or not set, not {other:?}"),
        Err(_) => false,
    }
}

/// Returns the seed. The caller must print it, with the name of the case.
pub fn seed() -> u64 {
    let given = number_from("TALKTRACK_SEED");
    given.unwrap_or_else(|| if is_full() { fastrand::u64(..) } else { EVERYDAY_SEED })
}

/// Reads a whole number from the environment.
pub fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}: must be a whole number, not {text:?}")))
}
