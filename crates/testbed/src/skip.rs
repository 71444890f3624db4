//! Tests that cannot run on this machine. A skipped test looks like one that passed, so each is recorded in
//! a visible place.
//!
//! `make test` names a file in `TALKTRACK_SKIPPED`, and prints it when the tests have ended. With
//! `TALKTRACK_REQUIRE_ALL=1` a test that misses something fails.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Records that a case is skipped because this machine lacks something. The caller then returns from its
/// test.
///
/// # Panics
/// If `TALKTRACK_REQUIRE_ALL` is 1.
pub fn missing(case: &str, why: &str) {
    let requires_all = std::env::var("TALKTRACK_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!requires_all, "{case} cannot be tested: {why} (TALKTRACK_REQUIRE_ALL=1 requires it)");
    record(&format!("SKIPPED: {case}: {why}"));
}

/// Records that a case only runs in `make test-faults`, because it takes too long for every run.
pub fn left_to_full_run(case: &str) {
    record(&format!("LEFT TO make test-faults: {case}"));
}

/// The test harness captures a test's own output, but not this.
fn record(line: &str) {
    let line = format!("{line}\n");
    match std::env::var_os("TALKTRACK_SKIPPED") {
        Some(file) => {
            let opened = OpenOptions::new().create(true).append(true).open(&file);
            opened
                .and_then(|mut file| file.write_all(line.as_bytes()))
                .expect("TALKTRACK_SKIPPED: a file to append to");
        }
        None => std::io::stderr().write_all(line.as_bytes()).expect("stderr takes a line"),
    }
}
