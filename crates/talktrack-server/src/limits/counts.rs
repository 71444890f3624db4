//! Counts how many of something each key holds at present.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use metrics::counter;
use parking_lot::Mutex;

use super::LIMITED;

/// Every value of the label `limit` of [`LIMITED`].
const LIMITS: [&str; 15] = [
    "address",
    "key",
    "user",
    "unauthenticated",
    "bytes_per_user",
    "read_bytes_per_user",
    "exports",
    "dead_letters",
    "connections_per_user",
    "http_connections",
    "http_connections_per_address",
    "connections_per_address",
    "bodies",
    "max_audio_bytes_per_user",
    "max_audio_bytes_total",
];

/// Registers the counter of each limit, so that it exists from the start with the value zero.
pub(super) fn register_limits() {
    for limit in LIMITS {
        counter!(LIMITED, "limit" => limit).increment(0);
    }
}

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
