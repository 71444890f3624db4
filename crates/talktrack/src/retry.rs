//! The wait before the next attempt: exponential backoff with full jitter.

use std::time::Duration;

/// The number of attempts before the waits grow. The first attempts follow quickly because a record is in flight.
const QUICK_ATTEMPTS: u32 = 3;

/// The waits between attempts at one operation.
#[derive(Debug)]
pub(crate) struct Backoff {
    random: fastrand::Rng,
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    /// Creates a backoff whose waits are at most `first` at the start and double up to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration, random: fastrand::Rng) -> Self {
        Self { random, first, longest, attempts: 0 }
    }

    /// Returns the wait before the next attempt: a random part of the current ceiling, so that many waiters spread out.
    pub(crate) fn next(&mut self) -> Duration {
        let doublings = self.attempts.saturating_sub(QUICK_ATTEMPTS - 1).min(20);
        self.attempts = self.attempts.saturating_add(1);
        let ceiling = self.first.saturating_mul(1 << doublings).min(self.longest);
        ceiling.mul_f64(self.random.f64())
    }

    /// Resets the backoff after a success: the next failure starts from the beginning.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_short_for_three_attempts_then_double_up_to_the_longest() {
        let first = Duration::from_millis(100);
        let longest = Duration::from_secs(30);
        let mut ceilings = [Duration::ZERO; 14];
        for seed in 0..2_000 {
            let mut backoff = Backoff::new(first, longest, fastrand::Rng::with_seed(seed));
            for ceiling in &mut ceilings {
                *ceiling = backoff.next().max(*ceiling);
            }
        }
        let expected =
            [100, 100, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000, 30_000];
        for (ceiling, expected) in ceilings.iter().zip(expected.map(Duration::from_millis)) {
            assert!(
                *ceiling <= expected && *ceiling > expected.mul_f64(0.97),
                "{ceiling:?} for {expected:?}"
            );
        }
    }

    #[test]
    fn success_starts_the_waits_anew() {
        let mut backoff =
            Backoff::new(Duration::from_millis(100), Duration::from_secs(30), fastrand::Rng::with_seed(7));
        for _ in 0..12 {
            let _ = backoff.next();
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }
}
