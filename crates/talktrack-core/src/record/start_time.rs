//! When a session started. Callers often start a session after the call, or give a start that is later than the first
//! message.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::json::JsonObject;
use crate::message::NOTES;

/// The start of a session moves down to its first message or its end. A start that a caller gave moves by at most this
/// much: an earlier event probably has a wrong time.
pub const MOST_MOVED: Duration = Duration::from_secs(24 * 60 * 60);

/// The note in a session's `extra.talktrack` that no caller gave its start: `"start": "accepted"`.
const START: &str = "start";
const ACCEPTED: &str = "accepted";
/// The note of the start that a caller gave, in microseconds since 1970, if the start has moved since.
const GIVEN: &str = "given_start";

/// When a session started, and how that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartTime {
    at: Timestamp,
    /// The start that a caller gave; `None` if no caller gave one.
    given: Option<Timestamp>,
}

impl StartTime {
    /// Creates the start of a new session. Without a start that a caller gave, it is the time of acceptance.
    pub fn new(at: Timestamp, is_given: bool) -> Self {
        Self { at, given: is_given.then_some(at) }
    }

    /// Creates the start of a stored session from its row.
    pub fn stored(at: Timestamp, extra: Option<&JsonObject>) -> Self {
        let notes = extra.and_then(|extra| extra.to_value().remove(NOTES)).unwrap_or_default();
        let given = notes[GIVEN].as_i64().and_then(Timestamp::from_micros);
        let is_accepted = notes[START] == ACCEPTED;
        Self { at, given: given.or((!is_accepted).then_some(at)) }
    }

    /// Returns the time.
    pub fn at(self) -> Timestamp {
        self.at
    }

    /// Returns the start after an event of the session at this time; `None` if the start stays.
    #[must_use]
    pub fn moved_down_to(self, event: Timestamp) -> Option<Self> {
        let earliest = self.given.map_or(i64::MIN, |given| given.minus(MOST_MOVED).as_micros());
        // A time before 1970 says nothing about when the session was.
        let is_plausible = event.as_micros() >= earliest.max(0);
        (event < self.at && is_plausible).then_some(Self { at: event, ..self })
    }

    /// Returns `extra` of the session's row with the notes about this start.
    pub fn noted_in(self, extra: Option<JsonObject>) -> Option<JsonObject> {
        let (key, value) = match self.given {
            None => (START, Value::from(ACCEPTED)),
            Some(given) if given != self.at => (GIVEN, given.as_micros().into()),
            Some(_) => return extra,
        };
        let mut fields = extra.map(|extra| extra.to_value()).unwrap_or_default();
        let mut notes = match fields.remove(NOTES) {
            Some(Value::Object(notes)) => notes,
            _ => Map::new(),
        };
        notes.insert(key.to_owned(), value);
        fields.insert(NOTES.to_owned(), notes.into());
        Some(JsonObject::from(&fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000).unwrap()
    }

    const DAY: i64 = 24 * 60 * 60;

    #[test]
    fn a_start_that_nobody_gave_moves_down_to_any_event() {
        let start = StartTime::new(at(100 * DAY), false);
        assert_eq!(start.moved_down_to(at(DAY)).map(StartTime::at), Some(at(DAY)));
        assert_eq!(start.moved_down_to(at(-1)), None, "before 1970");
        assert_eq!(start.moved_down_to(at(100 * DAY)), None);
        assert_eq!(start.moved_down_to(at(101 * DAY)), None);
    }

    #[test]
    fn a_given_start_moves_down_by_a_day_at_most_however_often_it_moves() {
        let start = StartTime::new(at(100 * DAY), true);
        let moved = start.moved_down_to(at(99 * DAY + 5)).unwrap();
        let stored = StartTime::stored(moved.at(), moved.noted_in(None).as_ref());
        assert_eq!(stored, moved);
        assert_eq!(stored.moved_down_to(at(99 * DAY)).map(StartTime::at), Some(at(99 * DAY)));
        assert_eq!(stored.moved_down_to(at(99 * DAY - 1)), None);
    }

    #[test]
    fn the_notes_tell_what_a_row_cannot() {
        let accepted = StartTime::new(at(5), false);
        let extra = JsonObject::parse(r#"{"own":1,"talktrack":{"by":"x"}}"#).unwrap();
        let noted = accepted.noted_in(Some(extra)).unwrap();
        assert_eq!(noted.as_str(), r#"{"own":1,"talktrack":{"by":"x","start":"accepted"}}"#);
        assert_eq!(StartTime::stored(at(5), Some(&noted)), accepted);
        assert_eq!(StartTime::new(at(5), true).noted_in(None), None);
        for odd in [r#"{"talktrack":7}"#, r#"{"talktrack":{"given_start":"x"}}"#, "{}"] {
            let extra = JsonObject::parse(odd).unwrap();
            assert_eq!(StartTime::stored(at(5), Some(&extra)), StartTime::new(at(5), true), "{odd}");
        }
    }
}
