//! The random numbers of a case; the test bed decides how many rounds run.
//!
//! A seed reproduces the chosen moments, but not the race between two processes.

pub(crate) use talktrack_testbed::cut::{number_from, rounds};

/// Returns the random number generator of this case and prints its seed.
pub(crate) fn random(case: &str) -> fastrand::Rng {
    let seed = talktrack_testbed::cut::seed();
    eprintln!("{case}: TALKTRACK_SEED={seed} draws the same again");
    fastrand::Rng::with_seed(seed)
}
