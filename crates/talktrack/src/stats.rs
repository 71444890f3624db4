//! What happened in a stretch of time, in figures: sessions, messages, how long they took. A tally adds up: an hour is the sum of
//! its slices of five minutes, a day of its hours.

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

/// What happened in a stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// The sessions that began in it.
    pub sessions: Sessions,
    /// The messages that were said in it.
    pub messages: Messages,
}

/// Sessions that began in a stretch of time, as they are now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// All of them.
    pub begun: u64,
    /// Those that were ended.
    pub ended: u64,
    /// Those that nobody ended.
    pub abandoned: u64,
    /// How long those took that are over, in seconds.
    pub duration_seconds: Distribution,
}

/// Messages that were said in a stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Messages {
    /// By whom: user, assistant, system, developer, tool.
    by_role: [u64; 5],
    /// Those that were cut short.
    pub interruptions: u64,
    metrics: [Distribution; MEASURES.len()],
}

/// What happened in a range of time, stretch by stretch.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// The range, in whole stretches.
    pub range: Range,
    /// One for each stretch, in the order of time.
    pub stretches: Vec<Tally>,
    /// What is not counted yet.
    pub behind: Behind,
}

/// What statistics do not tell yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behind {
    /// Messages that are stored and not counted yet, in any stretch.
    pub messages: u64,
    /// Sessions that began, ended or were deleted and messages that were revised, in any stretch, of which the slices are not
    /// known yet; 10,000 where there are more.
    pub changes: u64,
    /// Slices of five minutes of the range that are being counted anew: something in them was revised, ended or deleted.
    pub slices: u64,
}

/// Why there are no statistics.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatsError {
    /// Nobody counts here. The text says what to do about it.
    #[error("{0}")]
    NotCounted(String),
    /// There is too much to be counted.
    #[error("too much happened in this range to be counted now; take a shorter one")]
    TooMuch,
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Tally {
    /// Adds all that another stretch has.
    pub fn add(&mut self, other: &Self) {
        self.sessions.add(&other.sessions);
        self.messages.add(&other.messages);
    }

    /// Whether nothing happened.
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

    /// Those that go on.
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
    /// Counts a message; its metrics as the column spells them.
    pub fn count(&mut self, role: Role, interrupted: bool, metrics: Option<&str>) {
        self.by_role[place_of(role)] += 1;
        self.interruptions += u64::from(interrupted);
        let Some(metrics) = metrics else { return };
        // What is no object, or no longer one, measures nothing.
        let Ok(metrics) = serde_json::from_str::<BTreeMap<String, serde_json::Value>>(metrics) else {
            return;
        };
        for (measure, distribution) in MEASURES.iter().zip(&mut self.metrics) {
            let number = metrics.get(*measure).and_then(serde_json::Value::as_f64);
            number.into_iter().for_each(|number| distribution.count(number));
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_role.iter().sum()
    }

    /// Those of this role.
    pub fn of(&self, role: Role) -> u64 {
        self.by_role[place_of(role)]
    }

    /// What was measured, by the key of `metrics`. Empty where no message said it.
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
    /// The tallies of a range, by the numbers of their stretches; where none is, nothing happened.
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

    /// Each stretch with the moment at which it begins.
    pub fn stretches(&self) -> impl Iterator<Item = (Timestamp, &Tally)> {
        self.range.stretches().zip(&self.stretches)
    }

    /// What happened in all of the range.
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
