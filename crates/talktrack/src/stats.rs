//! Statistics of a stretch of time: sessions, messages and how long they took. Tallies can be added: an
//! hour is the sum of its slices of five minutes, a day the sum of its hours.

mod range;
mod count;
mod distribution;

pub(crate) use count::Counter;
pub use distribution::Distribution;
pub use range::{Grain, InvalidRange, MAX_STRETCHES, Range};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::ReadError;
use crate::message::{Role, TurnMetrics};
use crate::record::Status;

/// The keys of `metrics` that are counted.
pub const MEASURES: [&str; 9] = TurnMetrics::MEASURES;

/// The statistics of a stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// The sessions that began in it.
    pub sessions: Sessions,
    /// The messages that were said in it.
    pub messages: Messages,
}

/// Sessions that began in a stretch of time, in their present state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// Number of all sessions.
    pub begun: u64,
    /// Number of sessions that a client ended.
    pub ended: u64,
    /// Number of sessions that talktrack ended as abandoned.
    pub abandoned: u64,
    /// The durations of finished sessions, in seconds.
    pub duration_seconds: Distribution,
}

/// Messages that were said in a stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Messages {
    /// Number of messages by role: user, assistant, system, developer, tool.
    by_role: [u64; 5],
    /// Number of interrupted messages.
    pub interruptions: u64,
    metrics: [Distribution; MEASURES.len()],
}

/// The statistics of a range of time, one tally per stretch.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// The range, in whole stretches.
    pub range: Range,
    /// One tally for each stretch, in the order of time.
    pub stretches: Vec<Tally>,
    /// What is not counted yet.
    pub behind: Behind,
}

/// The backlog of the rollup: changes that statistics do not include yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behind {
    /// Number of stored messages that are not counted yet, in any stretch.
    pub messages: u64,
    /// Number of unprocessed changes (sessions that began, ended or were deleted, messages that were
    /// revised), in any stretch. Their slices are not known yet. At most 10,000 are reported.
    pub changes: u64,
    /// Number of the range's slices of five minutes that wait for a recount, because something in them was
    /// revised, ended or deleted.
    pub slices: u64,
}

/// Statistics that are not available.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatsError {
    /// The store keeps no rollup, or not yet. The text says what to do about it.
    #[error("{0}")]
    NotCounted(String),
    /// Too many rows would have to be counted.
    #[error("too much happened in this range to be counted now; take a shorter one")]
    TooMuch,
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Tally {
    /// Adds the counts of another stretch.
    pub fn add(&mut self, other: &Self) {
        self.sessions.add(&other.sessions);
        self.messages.add(&other.messages);
    }

    /// True if the stretch contains no session and no message.
    pub fn is_empty(&self) -> bool {
        self.sessions.begun == 0 && self.messages.total() == 0
    }
}

impl Sessions {
    /// Counts a session.
    pub fn count(&mut self, status: Status, duration_seconds: Option<f64>) {
        self.begun += 1;
        match status {
            Status::Active => return,
            Status::Ended => self.ended += 1,
            Status::Abandoned => self.abandoned += 1,
        }
        duration_seconds.into_iter().for_each(|seconds| self.duration_seconds.count(seconds));
    }

    /// Returns the number of sessions that are still active.
    pub fn active(&self) -> u64 {
        self.begun.saturating_sub(self.ended).saturating_sub(self.abandoned)
    }

    fn add(&mut self, other: &Self) {
        self.begun += other.begun;
        self.ended += other.ended;
        self.abandoned += other.abandoned;
        self.duration_seconds.add(&other.duration_seconds);
    }
}

impl Messages {
    /// Counts a message. `metrics` is the text of the column.
    pub fn count(&mut self, role: Role, interrupted: bool, metrics: Option<&str>) {
        self.by_role[place_of(role)] += 1;
        self.interruptions += u64::from(interrupted);
        let Some(metrics) = metrics else { return };
        // Metrics that are not a JSON object, or no longer, are ignored.
        let Ok(metrics) = serde_json::from_str::<BTreeMap<String, serde_json::Value>>(metrics) else {
            return;
        };
        for (measure, distribution) in MEASURES.iter().zip(&mut self.metrics) {
            let number = metrics.get(*measure).and_then(serde_json::Value::as_f64);
            number.into_iter().for_each(|number| distribution.count(number));
        }
    }

    /// Returns the number of all messages.
    pub fn total(&self) -> u64 {
        self.by_role.iter().sum()
    }

    /// Returns the number of messages with this role.
    pub fn of(&self, role: Role) -> u64 {
        self.by_role[place_of(role)]
    }

    /// Returns the distribution of each measure, by its key in `metrics`. It is empty if no message has
    /// that key.
    pub fn metrics(&self) -> impl Iterator<Item = (&'static str, &Distribution)> {
        MEASURES.into_iter().zip(&self.metrics)
    }

    fn add(&mut self, other: &Self) {
        for (count, more) in self.by_role.iter_mut().zip(other.by_role) {
            *count += more;
        }
        self.interruptions += other.interruptions;
        for (distribution, more) in self.metrics.iter_mut().zip(&other.metrics) {
            distribution.add(more);
        }
    }
}

fn place_of(role: Role) -> usize {
    match role {
        Role::User => 0,
        Role::Assistant => 1,
        Role::System => 2,
        Role::Developer => 3,
        Role::Tool => 4,
    }
}

impl Stats {
    /// Builds statistics from the tallies of a range, by the numbers of their stretches. A stretch without
    /// a tally is empty.
    pub(crate) fn tallied(range: Range, found: Vec<(i64, Tally)>, behind: Behind) -> Self {
        let mut stretches = vec![Tally::default(); range.len()];
        for (number, tally) in found {
            let place = usize::try_from(number - range.numbers().start);
            if let Some(stretch) = place.ok().and_then(|place| stretches.get_mut(place)) {
                *stretch = tally;
            }
        }
        Self { range, stretches, behind }
    }

    /// Returns each stretch with the moment at which it begins.
    pub fn stretches(&self) -> impl Iterator<Item = (Timestamp, &Tally)> {
        self.range.stretches().zip(&self.stretches)
    }

    /// Returns the sum of all stretches.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.stretches.iter().for_each(|stretch| total.add(stretch));
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_survives_its_bytes_and_is_small() {
        let mut tally = Tally::default();
        for number in 0..1_000 {
            let metrics =
                format!(r#"{{"e2e_ms":{number}.5,"stt_ms":{},"audio_end_ms":1,"model":"x"}}"#, number % 90);
            tally.messages.count(Role::Assistant, number % 10 == 0, Some(&metrics));
        }
        tally.sessions.count(Status::Ended, Some(12.5));
        let bytes = tally.to_bytes();
        assert!(bytes.len() < 2_048, "{} bytes", bytes.len());
        assert_eq!(Tally::from_bytes(&bytes), Some(tally));
        assert_eq!(Tally::from_bytes(&bytes[..bytes.len() / 2]), None);
        assert_eq!(Tally::from_bytes(b""), None);
    }

    #[test]
    fn metrics_that_are_no_numbers_measure_nothing() {
        let mut messages = Messages::default();
        for metrics in ["", "[]", "{", r#"{"e2e_ms":"fast"}"#, r#"{"e2e_ms":null}"#, r#"{"e2e_ms":1e999}"#] {
            messages.count(Role::Tool, false, Some(metrics));
        }
        assert_eq!(messages.of(Role::Tool), 6);
        assert!(messages.metrics().all(|(_, distribution)| distribution.is_empty()));
    }
}
