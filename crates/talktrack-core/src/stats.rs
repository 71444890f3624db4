//! Statistics in buckets of time: sessions, messages and how long they took. Buckets can be added: an
//! hour is the sum of its five-minute buckets, a day the sum of its hours.

mod range;
mod count;
mod ddsketch;

pub use count::StatsCounter;
pub use ddsketch::DdSketch;
pub use range::{InvalidRange, MAX_BUCKETS, Resolution, TimeRange};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::ReadError;
use crate::message::{Role, TurnMetrics};
use crate::record::Status;

/// The keys of `metrics` that are counted.
pub const MEASURES: [&str; 9] = TurnMetrics::MEASURES;

/// The statistics of one bucket of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatsBucket {
    /// The sessions that began in it.
    pub sessions: SessionStats,
    /// The messages that were said in it.
    pub messages: MessageStats,
}

/// Sessions that began in a bucket of time, in their present state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionStats {
    /// Number of all sessions.
    pub begun: u64,
    /// Number of sessions that a client ended.
    pub ended: u64,
    /// Number of sessions that talktrack ended as abandoned.
    pub abandoned: u64,
    /// The durations of finished sessions, in seconds.
    pub duration_seconds: DdSketch,
}

/// Messages that were said in a bucket of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MessageStats {
    /// Number of messages by role: user, assistant, system, developer, tool.
    by_role: [u64; 5],
    /// Number of interrupted messages.
    pub interruptions: u64,
    metrics: [DdSketch; MEASURES.len()],
}

/// The statistics of a range of time, one entry per bucket.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// The range, in whole buckets.
    pub range: TimeRange,
    /// One entry for each bucket, in the order of time.
    pub buckets: Vec<StatsBucket>,
    /// What is not counted yet.
    pub lag: Lag,
}

/// The backlog of the rollup: changes that statistics do not include yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// Number of stored messages that are not counted yet, in any bucket.
    pub messages: u64,
    /// Number of unprocessed changes (sessions that began, ended or were deleted, messages that were
    /// revised), in any bucket. Their buckets are not known yet. At most 10,000 are reported.
    pub changes: u64,
    /// Number of the range's five-minute buckets that wait for a recomputation, because something in them was
    /// revised, ended or deleted.
    pub stale_buckets: u64,
}

impl Lag {
    /// Creates a lag from the numbers of messages, of changes and of buckets that are not counted yet.
    pub fn new(messages: u64, changes: u64, stale_buckets: u64) -> Self {
        Self { messages, changes, stale_buckets }
    }
}

/// Statistics that are not available.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatsError {
    /// The store keeps no rollup, or not yet. The text says what to do about it.
    #[error("{0}")]
    NotCounted(String),
    /// Too many rows would have to be counted.
    #[error("this range has too many rows to count; choose a shorter range")]
    TooMuch,
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl StatsBucket {
    /// Adds the counts of another bucket.
    pub fn merge(&mut self, other: &Self) {
        self.sessions.merge(&other.sessions);
        self.messages.merge(&other.messages);
    }

    /// True if the bucket contains no session and no message.
    pub fn is_empty(&self) -> bool {
        self.sessions.begun == 0 && self.messages.total() == 0
    }
}

impl SessionStats {
    /// Counts a session.
    pub fn add_session(&mut self, status: Status, duration_seconds: Option<f64>) {
        self.begun += 1;
        match status {
            Status::Active => return,
            Status::Ended => self.ended += 1,
            Status::Abandoned => self.abandoned += 1,
        }
        duration_seconds.into_iter().for_each(|seconds| self.duration_seconds.add(seconds));
    }

    /// Returns the number of sessions that are still active.
    pub fn active(&self) -> u64 {
        self.begun.saturating_sub(self.ended).saturating_sub(self.abandoned)
    }

    fn merge(&mut self, other: &Self) {
        self.begun += other.begun;
        self.ended += other.ended;
        self.abandoned += other.abandoned;
        self.duration_seconds.merge(&other.duration_seconds);
    }
}

impl MessageStats {
    /// Counts a message. `metrics` is the text of the column.
    pub fn add_message(&mut self, role: Role, interrupted: bool, metrics: Option<&str>) {
        self.by_role[index_of(role)] += 1;
        self.interruptions += u64::from(interrupted);
        let Some(metrics) = metrics else { return };
        // Metrics that are not a JSON object, or no longer, are ignored.
        let Ok(metrics) = serde_json::from_str::<BTreeMap<String, serde_json::Value>>(metrics) else {
            return;
        };
        for (measure, sketch) in MEASURES.iter().zip(&mut self.metrics) {
            let number = metrics.get(*measure).and_then(serde_json::Value::as_f64);
            number.into_iter().for_each(|number| sketch.add(number));
        }
    }

    /// Returns the number of all messages.
    pub fn total(&self) -> u64 {
        self.by_role.iter().sum()
    }

    /// Returns the number of messages with this role.
    pub fn count_of(&self, role: Role) -> u64 {
        self.by_role[index_of(role)]
    }

    /// Returns the distribution of each measure, by its key in `metrics`. It is empty if no message has
    /// that key.
    pub fn metrics(&self) -> impl Iterator<Item = (&'static str, &DdSketch)> {
        MEASURES.into_iter().zip(&self.metrics)
    }

    fn merge(&mut self, other: &Self) {
        for (count, more) in self.by_role.iter_mut().zip(other.by_role) {
            *count += more;
        }
        self.interruptions += other.interruptions;
        for (sketch, more) in self.metrics.iter_mut().zip(&other.metrics) {
            sketch.merge(more);
        }
    }
}

fn index_of(role: Role) -> usize {
    match role {
        Role::User => 0,
        Role::Assistant => 1,
        Role::System => 2,
        Role::Developer => 3,
        Role::Tool => 4,
    }
}

impl Stats {
    /// Builds statistics from the stored buckets of a range, by their numbers. A bucket that is not
    /// stored is empty.
    pub fn from_buckets(range: TimeRange, found: Vec<(i64, StatsBucket)>, lag: Lag) -> Self {
        let mut buckets = vec![StatsBucket::default(); range.len()];
        for (number, stats) in found {
            let place = usize::try_from(number - range.bucket_numbers().start);
            if let Some(bucket) = place.ok().and_then(|place| buckets.get_mut(place)) {
                *bucket = stats;
            }
        }
        Self { range, buckets, lag }
    }

    /// Returns each bucket with the moment at which it begins.
    pub fn buckets(&self) -> impl Iterator<Item = (Timestamp, &StatsBucket)> {
        self.range.bucket_starts().zip(&self.buckets)
    }

    /// Returns the sum of all buckets.
    pub fn total(&self) -> StatsBucket {
        let mut total = StatsBucket::default();
        self.buckets.iter().for_each(|bucket| total.merge(bucket));
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_survives_its_bytes_and_is_small() {
        let mut stats = StatsBucket::default();
        for number in 0..1_000 {
            let metrics =
                format!(r#"{{"e2e_ms":{number}.5,"stt_ms":{},"audio_end_ms":1,"model":"x"}}"#, number % 90);
            stats.messages.add_message(Role::Assistant, number % 10 == 0, Some(&metrics));
        }
        stats.sessions.add_session(Status::Ended, Some(12.5));
        let bytes = stats.to_bytes();
        assert!(bytes.len() < 2_048, "{} bytes", bytes.len());
        assert_eq!(StatsBucket::from_bytes(&bytes), Some(stats));
        assert_eq!(StatsBucket::from_bytes(&bytes[..bytes.len() / 2]), None);
        assert_eq!(StatsBucket::from_bytes(b""), None);
    }

    #[test]
    fn metrics_that_are_no_numbers_measure_nothing() {
        let mut messages = MessageStats::default();
        for metrics in ["", "[]", "{", r#"{"e2e_ms":"fast"}"#, r#"{"e2e_ms":null}"#, r#"{"e2e_ms":1e999}"#] {
            messages.add_message(Role::Tool, false, Some(metrics));
        }
        assert_eq!(messages.count_of(Role::Tool), 6);
        assert!(messages.metrics().all(|(_, sketch)| sketch.is_empty()));
    }
}
