//! When and how to try again after a refusal that is temporary.

use std::time::Duration;

/// The backoff after a temporary refusal. It doubles with each further refusal in a row, up to the longest pause.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// True if an error frame with this code is temporary, so that a retry may succeed.
pub fn is_want_of_room(code: &str) -> bool {
    matches!(code, "queue_full" | "journal_full" | "rate_limited")
}

/// Returns the randomised pause after this many refusals in a row: from 2.5 ms up to 1 s.
pub fn pause(refusals: u32) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << refusals.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_second() {
        assert!(pause(1) <= FIRST_PAUSE && pause(3) >= FIRST_PAUSE * 2 && pause(u32::MAX) <= LONGEST_PAUSE);
    }
}
