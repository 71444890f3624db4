//! Property tests: the number of draws, the seed, and the report of a draw for which the property does not hold.
//!
//! `make test` draws a few, the same ones every time; `TALKTRACK_FAULTS=full` draws many new ones. The
//! seed is printed, and `TALKTRACK_SEED` repeats its draws. A failing draw is shrunk as far as possible;
//! keep it as a plain test whose name says what was wrong.

use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

pub(crate) use talktrack_testbed::cut::{rounds as draws, seed};

/// The maximum number of attempts to shrink a failing draw.
const SHRINKING: u32 = 1_000;

/// Checks the property with this many draws.
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
