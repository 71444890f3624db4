//! Formats an event as a log line: text for people, JSON for programs.

use std::fmt::{self, Write as _};

use serde_json::Value;
use talktrack::clock::{Clock as _, SystemClock};
use talktrack::event_log;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::visible;

/// Whether text lines are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Coloured,
}

/// Formats a line such as `2026-11-23T08:00:00.123456Z  INFO message field=value`. The well-known lines that people
/// grep for contain only the message, without fields.
pub(super) fn text_line(event: &Event<'_>, look: Look) -> String {
    let level = *event.metadata().level();
    let now = SystemClock.now();
    let mut line = String::with_capacity(160);
    // Writing to a string cannot fail.
    let _ = match (look, level_colour(level)) {
        (Look::Coloured, Some(code)) => write!(line, "\x1b[2m{now}\x1b[0m \x1b[{code}m{level:>5}\x1b[0m "),
        (Look::Coloured, None) => write!(line, "\x1b[2m{now}\x1b[0m {level:>5} "),
        (Look::Plain, _) => write!(line, "{now} {level:>5} "),
    };
    let start = line.len();
    event.record(&mut TextMessage(&mut line));
    if event.metadata().target() != event_log::TARGET {
        event.record(&mut TextFields(&mut line));
    }
    // One event is one line, even if a library's error contains line breaks.
    let text = line.split_off(start);
    line.push_str(&visible::escape_line(&text.replace(['\n', '\r'], " ")));
    line.push('\n');
    line
}

/// Formats an object with `timestamp`, `level`, `target`, `message` and the event's fields.
pub(super) fn json_line(event: &Event<'_>) -> String {
    let metadata = event.metadata();
    let now = SystemClock.now();
    let mut line = String::with_capacity(320);
    let level = metadata.level();
    let target = Value::from(metadata.target());
    // Writing to a string cannot fail.
    let _ = write!(line, r#"{{"timestamp":"{now}","level":"{level}","target":{target}"#);
    event.record(&mut JsonFields(&mut line));
    line.push_str("}\n");
    line
}

fn level_colour(level: Level) -> Option<u8> {
    match level {
        Level::ERROR => Some(31),
        Level::WARN => Some(33),
        _ => None,
    }
}

struct TextMessage<'a>(&'a mut String);

impl Visit for TextMessage<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

struct TextFields<'a>(&'a mut String);

impl Visit for TextFields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() != "message" {
            let _ = write!(self.0, " {}={value:?}", field.name());
        }
    }
}

struct JsonFields<'a>(&'a mut String);

impl JsonFields<'_> {
    fn write_field(&mut self, field: &Field, value: &Value) {
        let _ = write!(self.0, r#","{}":{value}"#, field.name());
    }
}

impl Visit for JsonFields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.write_field(field, &value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write_field(field, &value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write_field(field, &value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write_field(field, &value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write_field(field, &value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write_field(field, &format!("{value:?}").into());
    }
}
