//! Where a case's chance comes from; how much of it is run is the test bed's to say.
//!
//! What two processes do at the same time is still theirs: a seed replays the moments, not the race.

pub(crate) use talktrack_testbed::cut::{number_from, rounds};

/// The chance of this case.
pub(crate) fn random(case: &str) -> fastrand::Rng {
    let seed = talktrack_testbed::cut::seed();
    eprintln!("{case}: TALKTRACK_SEED={seed} draws the same again");
    fastrand::Rng::with_seed(seed)
}
