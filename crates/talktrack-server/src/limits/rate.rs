//! So many in a time, for each of many.

use std::hash::Hash;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

use crate::config::Rate;

/// One allowance for each key. It is used up at once or little by little, and comes back evenly.
pub(super) struct Rates<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock>,
    clock: DefaultClock,
}

impl<K: Hash + Eq + Clone> Rates<K> {
    pub(super) fn new(rate: Rate) -> Self {
        let quota = Quota::with_period(rate.interval()).unwrap_or_else(|| Quota::per_second(rate.count));
        Self { limiter: RateLimiter::keyed(quota.allow_burst(rate.count)), clock: DefaultClock::default() }
    }

    /// Takes one.
    ///
    /// # Errors
    /// The seconds until there is one, at least 1, where there is none.
    pub(super) fn take(&self, key: &K) -> Result<(), u32> {
        self.limiter.check_key(key).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1)
        })
    }

    /// Forgets those whose allowance is whole again.
    pub(super) fn forget(&self) {
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
        rates.forget();
        assert!(rates.take(&"a").is_err(), "not forgotten while it counts");
    }
}
