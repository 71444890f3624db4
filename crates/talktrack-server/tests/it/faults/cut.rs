//! How much of a case is run, and where its chance comes from.
//!
//! `make test` runs a short cut of each case. `TALKTRACK_FAULTS=full`, which `make test-faults` sets, runs all of it.
//! Whatever is random is drawn from a seed that is printed: always the same for a short cut, a new one for the whole;
//! `TALKTRACK_SEED` sets it, and the same case draws the same again. (What two processes do at the same time is still theirs: a seed replays the moments, not the race.)

/// Of the short cuts: a test that does another thing every day says nothing about a change.
const EVERYDAY_SEED: u64 = 20_261_123;

/// So many rounds: the few of `make test`, or all of them.
pub(crate) fn rounds(short: u32, full: u32) -> u32 {
    if is_full() { full } else { short }
}

fn is_full() -> bool {
    match std::env::var("TALKTRACK_FAULTS") {
        Ok(cut) if cut == "full" => true,
        Ok(other) => panic!("TALKTRACK_FAULTS: must be full or not set, not {other:?}"),
        Err(_) => false,
    }
}

/// The chance of this case.
pub(crate) fn random(case: &str) -> fastrand::Rng {
    let seed = number_from("TALKTRACK_SEED");
    let seed = seed.unwrap_or_else(|| if is_full() { fastrand::u64(..) } else { EVERYDAY_SEED });
    eprintln!("{case}: TALKTRACK_SEED={seed} draws the same again");
    fastrand::Rng::with_seed(seed)
}

/// A whole number from the environment.
pub(crate) fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}: must be a whole number, not {text:?}")))
}
