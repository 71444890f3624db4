//! Helpers that several tests share.

use std::thread;
use std::time::{Duration, Instant};

/// The time that a test waits for an event that must happen. Only a failing test waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the condition holds, for at most [`PATIENCE`].
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
