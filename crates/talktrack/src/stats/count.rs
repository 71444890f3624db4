//! Counts rows into tallies, and converts tallies to bytes.

use crate::clock::Timestamp;
use crate::message::Role;
use crate::record::Status;
use crate::stats::{Behind, Range, Stats, Tally};

/// The first byte of a stored tally. It increases with each change of the format.
const FORM: u8 = 1;

impl Tally {
    /// Returns the stored form: a few hundred bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let bytes = postcard::to_extend(self, vec![FORM]);
        // Serializing cannot fail: a tally contains no text and no map, and the buffer grows.
        bytes.unwrap_or_default()
    }

    /// Reads a stored tally. `None` if these bytes are not a tally of this format.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first() {
            Some((&FORM, bytes)) => postcard::from_bytes(bytes).ok(),
            _ => None,
        }
    }
}

/// Counts the rows of a range.
pub(crate) struct Counter {
    range: Range,
    stretches: Vec<Tally>,
}

impl Counter {
    pub(crate) fn of(range: Range) -> Self {
        Self { range, stretches: vec![Tally::default(); range.len()] }
    }

    pub(crate) fn session(&mut self, started_at: Timestamp, status: Status, duration_seconds: Option<f64>) {
        if let Some(stretch) = self.at(started_at) {
            stretch.sessions.count(status, duration_seconds);
        }
    }

    pub(crate) fn message(
        &mut self,
        created_at: Timestamp,
        role: Role,
        interrupted: bool,
        metrics: Option<&str>,
    ) {
        if let Some(stretch) = self.at(created_at) {
            stretch.messages.count(role, interrupted, metrics);
        }
    }

    fn at(&mut self, moment: Timestamp) -> Option<&mut Tally> {
        self.range.place_of(moment).and_then(|place| self.stretches.get_mut(place))
    }

    /// Returns the statistics. They come from the rows themselves, so nothing is left uncounted.
    pub(crate) fn into_stats(self) -> Stats {
        Stats { range: self.range, stretches: self.stretches, behind: Behind::default() }
    }
}
