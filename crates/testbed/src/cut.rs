//! How much of a test is run, and where its chance comes from.
//!
//! `make test` runs a short cut of what can be long. `TALKTRACK_FAULTS=full`, which `make test-faults` sets, runs all of it.
//! What is random is drawn from a seed: always the same for a short cut, a new one for the whole; `TALKTRACK_SEED` sets it.

/// Of the short cuts: a test that does another thing every day says nothing about a change.
const EVERYDAY_SEED: u64 = 20_261_123;

/// So many rounds: the few of `make test`, or all of them.
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

/// The seed to draw from. Whoever draws prints it, with the name of the case.
pub fn seed() -> u64 {
    let given = number_from("TALKTRACK_SEED");
    given.unwrap_or_else(|| if is_full() { fastrand::u64(..) } else { EVERYDAY_SEED })
}

/// A whole number from the environment.
pub fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}: must be a whole number, not {text:?}")))
}
