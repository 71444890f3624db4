//! Subtitles: `WebVTT` (W3C, <https://www.w3.org/TR/webvtt1/>), with a cue for each message that the user or the
//! assistant spoke.
//!
//! If the turn's metrics contain when the audio began and ended (`audio_start_ms`, `audio_end_ms`, from the start of
//! the session's recording), these times are used. Otherwise a cue begins when the message was said and lasts until the
//! next one begins, but no longer than it takes to read.

use std::fmt::Write as _;

use serde_json::Value;
use talktrack::store::{MessageRow, SessionRow};
use talktrack::{Kind, Role, Timestamp};

use super::TranscriptWriter;

/// The reading time of a character, and the minimum duration of a cue.
const MS_PER_CHARACTER: u64 = 65;
const SHORTEST_MS: u64 = 1_000;

#[derive(Default)]
pub(super) struct VttTranscript {
    started_at: Option<Timestamp>,
    /// The last cue, whose end may depend on the start of the next one.
    waiting: Option<Cue>,
}

/// A cue. Times are in milliseconds from the start of the recording.
struct Cue {
    start_ms: u64,
    end: CueEnd,
    voice: &'static str,
    text: String,
}

enum CueEnd {
    /// The audio ended at this time.
    At(u64),
    /// Ends when the next cue begins, at this time at the latest.
    Before(u64),
}

impl TranscriptWriter for VttTranscript {
    fn write_start(&mut self, session: &SessionRow, out: &mut String) {
        self.started_at = session.started_at.known();
        let _ = write!(out, "WEBVTT\n\nNOTE session {}\n", session.session_id);
    }

    fn write_message(&mut self, row: &MessageRow, out: &mut String) {
        let is_speech = row.kind == Kind::Message && (row.role == Role::User || row.role == Role::Assistant);
        if !is_speech || row.content.trim().is_empty() {
            return;
        }
        let cue = self.make_cue(row);
        if let Some(before) = self.waiting.replace(cue) {
            let next = self.waiting.as_ref().map(|cue| cue.start_ms);
            before.write(next, out);
        }
    }

    fn write_end(&mut self, _: &SessionRow, out: &mut String) {
        if let Some(last) = self.waiting.take() {
            last.write(None, out);
        }
    }
}

impl VttTranscript {
    fn make_cue(&self, row: &MessageRow) -> Cue {
        let numbers: Option<Value> =
            row.metrics.as_ref().and_then(|json| serde_json::from_str(json.as_str()).ok());
        let number = |name: &str| numbers.as_ref().and_then(|numbers| parse_ms(&numbers[name]));
        let span = self.started_at.zip(row.created_at.known());
        let said = span.map_or(0.0, |(start, at)| at.seconds_since(start));
        // A cue must not begin before the previous one does.
        let earliest = self.waiting.as_ref().map_or(0, |cue| cue.start_ms);
        let start_ms = number("audio_start_ms").unwrap_or_else(|| round_ms(said * 1_000.0)).max(earliest);
        let reading = (MS_PER_CHARACTER * row.content.chars().count() as u64).max(SHORTEST_MS);
        let end = match number("audio_end_ms") {
            Some(end) if end > start_ms => CueEnd::At(end),
            _ => CueEnd::Before(start_ms + reading),
        };
        Cue {
            start_ms,
            end,
            voice: if row.role == Role::User { "user" } else { "assistant" },
            text: escape_cue(&row.content),
        }
    }
}

impl Cue {
    fn write(self, next_start_ms: Option<u64>, out: &mut String) {
        let end_ms = match self.end {
            CueEnd::At(end) => end,
            CueEnd::Before(latest) => next_start_ms.map_or(latest, |next| latest.min(next)),
        };
        let start = format_clock(self.start_ms);
        let end = format_clock(end_ms.max(self.start_ms + 1));
        // Writing to a string cannot fail.
        let _ = write!(out, "\n{start} --> {end}\n<v {}>{}\n", self.voice, self.text);
    }
}

/// Returns a measured number of milliseconds; `None` if it is not a number, not finite or negative.
fn parse_ms(value: &Value) -> Option<u64> {
    value.as_f64().filter(|ms| ms.is_finite() && *ms >= 0.0).map(round_ms)
}

/// Rounds to whole milliseconds, limited to the range from 0 to one year.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
fn round_ms(ms: f64) -> u64 {
    const YEAR_MS: f64 = 366.0 * 86_400_000.0;
    ms.clamp(0.0, YEAR_MS).round() as u64
}

fn format_clock(ms: u64) -> String {
    format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000)
}

/// Escapes the text of a cue. Removes markup, arrows and control characters, and empty lines, which would end the cue.
fn escape_cue(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let text = text.replace(|character: char| character.is_control() && character != '\n', " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}
