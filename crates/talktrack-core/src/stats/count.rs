//! Counts rows into buckets, and converts buckets to bytes.

use crate::clock::Timestamp;
use crate::message::Role;
use crate::record::Status;
use crate::stats::{Lag, Stats, StatsBucket, TimeRange};

/// The first byte of a stored bucket. It increases with each change of the format.
const FORMAT_VERSION: u8 = 1;

impl StatsBucket {
    /// Returns the stored form: a few hundred bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = postcard::to_extend(self, vec![FORMAT_VERSION]);
        // Serializing cannot fail: a bucket contains no text and no map, and the buffer grows.
        bytes.unwrap_or_default()
    }

    /// Reads a stored bucket. `None` if these bytes are not a bucket of this format.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first() {
            Some((&FORMAT_VERSION, bytes)) => postcard::from_bytes(bytes).ok(),
            _ => None,
        }
    }
}

/// Counts the rows of a range.
pub struct StatsCounter {
    range: TimeRange,
    buckets: Vec<StatsBucket>,
}

impl StatsCounter {
    /// Creates a counter for this range without counts.
    pub fn new(range: TimeRange) -> Self {
        Self { range, buckets: vec![StatsBucket::default(); range.len()] }
    }

    /// Counts a session in the bucket of its start.
    pub fn count_session(&mut self, started_at: Timestamp, status: Status, duration_seconds: Option<f64>) {
        if let Some(bucket) = self.bucket_at(started_at) {
            bucket.sessions.add_session(status, duration_seconds);
        }
    }

    /// Counts a message by its time. `metrics` is the JSON text of its turn metrics.
    pub fn count_message(
        &mut self,
        created_at: Timestamp,
        role: Role,
        interrupted: bool,
        metrics: Option<&str>,
    ) {
        if let Some(bucket) = self.bucket_at(created_at) {
            bucket.messages.add_message(role, interrupted, metrics);
        }
    }

    fn bucket_at(&mut self, moment: Timestamp) -> Option<&mut StatsBucket> {
        self.range.index_of(moment).and_then(|place| self.buckets.get_mut(place))
    }

    /// Returns the statistics. They come from the rows themselves, so nothing is left uncounted.
    pub fn into_stats(self) -> Stats {
        Stats { range: self.range, buckets: self.buckets, lag: Lag::default() }
    }
}
