//! How long to wait after a temporary refusal. [`ErrorCode::is_retryable`](talktrack_core::ErrorCode::is_retryable) says which
//! refusals of a frame are temporary, [`ConnectError::is_temporary`](crate::socket::ConnectError::is_temporary) which of a
//! connection.

use std::time::Duration;

/// The pause after the first refusal. It doubles with each further refusal in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// The upper bound of the pause, however many refusals there were.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Returns the randomized pause after this many refusals in a row: from 2.5 ms up to 1 s.
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
