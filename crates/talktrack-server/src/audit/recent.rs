//! Remembers recent entries, so that repetitions are not logged.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::{Duration, Instant};

/// The hashes of recent entries, with the time from which each may be logged again.
pub(super) struct Recent {
    most: usize,
    hasher: RandomState,
    until: HashMap<u64, Instant>,
    /// The number of new entries that could not be remembered.
    overflow: u64,
}

impl Recent {
    /// Makes a memory of at most `most` entries.
    pub(super) fn new(most: usize) -> Self {
        Self { most, hasher: RandomState::new(), until: HashMap::new(), overflow: 0 }
    }

    /// True if this is not known to have happened within `window`. If the memory is full, it counts as known: a flood
    /// of entries must not flood the disk.
    pub(super) fn is_new(&mut self, what: &impl Hash, window: Duration) -> bool {
        let hash = self.hasher.hash_one(what);
        let now = Instant::now();
        if self.until.get(&hash).is_some_and(|until| now < *until) {
            return false;
        }
        if self.until.len() >= self.most {
            self.until.retain(|_, until| now < *until);
        }
        if self.until.len() >= self.most {
            self.overflow += 1;
            return false;
        }
        self.until.insert(hash, now + window);
        true
    }

    /// Returns how many new entries could not be remembered since the last call, and resets the number.
    pub(super) fn take_overflow(&mut self) -> u64 {
        std::mem::take(&mut self.overflow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repetition_is_known_and_a_flood_is_counted() {
        let mut recent = Recent::new(2);
        let long = Duration::from_secs(60);
        let past = Duration::ZERO;
        assert!(recent.is_new(&"a", long) && !recent.is_new(&"a", long));
        assert!(recent.is_new(&"b", past) && recent.is_new(&"c", long), "what is over makes room");
        assert!(!recent.is_new(&"d", long) && !recent.is_new(&"e", long));
        assert_eq!((recent.take_overflow(), recent.take_overflow()), (2, 0));
    }
}
