//! Rate limits by key.

use std::hash::Hash;
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{NotUntil, Quota, RateLimiter};

use crate::config::Rate;

/// A token bucket for each key. The bucket may be used up at once or gradually, and refills evenly.
pub(super) struct Rates<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock>,
    burst: NonZeroU32,
    clock: DefaultClock,
}

impl<K: Hash + Eq + Clone> Rates<K> {
    pub(super) fn new(rate: Rate) -> Self {
        Self::with_burst(rate, 1)
    }

    /// Makes limits whose bucket holds as much as refills in `periods` periods of the rate.
    pub(super) fn with_burst(rate: Rate, periods: u32) -> Self {
        let quota = Quota::with_period(rate.interval()).unwrap_or_else(|| Quota::per_second(rate.count));
        let burst = rate.count.saturating_mul(NonZeroU32::new(periods).unwrap_or(NonZeroU32::MIN));
        let limiter = RateLimiter::keyed(quota.allow_burst(burst));
        Self { limiter, burst, clock: DefaultClock::default() }
    }

    /// Takes `count` from the bucket of this key, at most the whole capacity of the bucket.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn take_many(&self, key: &K, count: usize) -> Result<(), u32> {
        let Some(count) = u32::try_from(count).ok().and_then(NonZeroU32::new) else { return Ok(()) };
        match self.limiter.check_key_n(key, count.min(self.burst)) {
            Ok(Ok(())) | Err(_) => Ok(()),
            Ok(Err(until)) => Err(self.wait_seconds(&until)),
        }
    }

    /// Takes one from the bucket of this key.
    ///
    /// # Errors
    /// If the bucket is empty, returns the seconds until it holds one, at least 1.
    pub(super) fn take(&self, key: &K) -> Result<(), u32> {
        self.limiter.check_key(key).map_err(|until| self.wait_seconds(&until))
    }

    fn wait_seconds(&self, until: &NotUntil<<DefaultClock as Clock>::Instant>) -> u32 {
        let wait = until.wait_time_from(self.clock.now());
        u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1)
    }

    /// Removes the buckets that are full again.
    pub(super) fn remove_idle(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_an_allowance_of_its_own_and_is_told_when_to_come_again() {
        let rates = Rates::new("3/m".parse().unwrap());
        assert!((0..3).all(|_| rates.take(&"a").is_ok()), "at once");
        let wait = rates.take(&"a").unwrap_err();
        assert!((19..=20).contains(&wait), "{wait}");
        assert_eq!(rates.take(&"b"), Ok(()));
        rates.remove_idle();
        assert!(rates.take(&"a").is_err(), "not forgotten while it counts");
    }
}
