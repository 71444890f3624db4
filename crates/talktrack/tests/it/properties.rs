//! Properties: what has to hold for whatever is drawn. How many draws, from which seed, and what is told of one that fails.
//!
//! `make test` draws a few, the same ones every time; `TALKTRACK_FAULTS=full` draws many new ones. The seed is printed, and
//! `TALKTRACK_SEED` draws the same again. A draw that failed is made as small as it gets; keep it as a plain test with a name that says what was wrong.

use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

pub(crate) use talktrack_testbed::cut::{rounds as draws, seed};

/// Attempts at making a draw that failed smaller.
const SHRINKING: u32 = 1_000;

/// Holds the property to so many draws.
pub(crate) fn hold<S: Strategy<Value: Debug>>(
    name: &str,
    draws: u32,
    strategy: &S,
    property: impl Fn(S::Value) -> Result<(), String>,
) {
    let seed = seed();
    eprintln!("{name}: TALKTRACK_SEED={seed} draws the same again");
    let config = Config {
        cases: draws,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: SHRINKING,
        ..Config::default()
    };
    match TestRunner::new(config).run(strategy, |drawn| property(drawn).map_err(TestCaseError::fail)) {
        Ok(()) => {}
        Err(TestError::Fail(why, smallest)) => {
            panic!("{name} (TALKTRACK_SEED={seed}):\n{why}\nthe smallest draw that fails: {smallest:?}")
        }
        Err(TestError::Abort(why)) => panic!("{name}: cannot be drawn: {why}"),
    }
}
