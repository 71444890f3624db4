//! Counts how many of something each key holds at present.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// The current count of each key that has any. Every [`CountedPermit`] refers to the same counts.
#[derive(Debug)]
pub(super) struct Counts<K>(Arc<Mutex<HashMap<K, usize>>>);

/// Counts one until it is dropped.
#[derive(Debug)]
pub(crate) struct CountedPermit<K: Hash + Eq> {
    key: K,
    counts: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Hash + Eq + Clone> Counts<K> {
    /// Counts one more for this key; `None` if it already has `most`.
    pub(super) fn acquire(&self, key: K, most: usize) -> Option<CountedPermit<K>> {
        let mut counts = self.0.lock();
        let count = counts.entry(key.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(CountedPermit { key, counts: Arc::clone(&self.0) })
    }
}

impl<K: Hash + Eq> Drop for CountedPermit<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        let Some(count) = counts.get_mut(&self.key) else { return };
        *count -= 1;
        if *count == 0 {
            counts.remove(&self.key);
        }
    }
}
