//! Formats ids, times and numbers for the pages.

use std::fmt;

use talktrack::{StoredTime, UserId};

/// The number of colours that help to tell users apart, in addition to their ids.
const HUES: u128 = 8;

/// A time: exact for programs, and readable for people. The script shows it in the reader's time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment(StoredTime);

impl Moment {
    pub(super) fn new(time: impl Into<StoredTime>) -> Self {
        Self(time.into())
    }

    /// Formats the time to the minute. A time outside the years 0000 to 9999 is returned unchanged.
    pub(super) fn to_short(&self) -> String {
        let text = self.0.to_string();
        if !matches!(self.0, StoredTime::Known(_)) {
            return if text.is_empty() { "no time".to_owned() } else { text };
        }
        format!("{} {} UTC", text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default())
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The longest part of a user's text that is shown in a line, in characters.
const SHOWN_CHARS: usize = 24;

/// Returns a short form of a user: the first 8 characters of a UUID, as the log shows it, or the beginning of a text; `unknown`
/// if there is no user.
pub(super) fn short_user(user: Option<&UserId>) -> String {
    let Some(user) = user else { return "unknown".to_owned() };
    let Some(text) = user.text() else { return user.to_string().chars().take(8).collect() };
    let cut = if text.chars().count() > SHOWN_CHARS { "…" } else { "" };
    text.chars().take(SHOWN_CHARS).chain(cut.chars()).collect()
}

/// Returns a user for the query of an address.
pub(super) fn encode_user(user: Option<&UserId>) -> String {
    let text = user.map(ToString::to_string).unwrap_or_default();
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Returns the colour of a user, which is always the same for the same id.
pub(super) fn user_hue(id: Option<&UserId>) -> u128 {
    // The last digits vary in every kind of UUID.
    (id.map_or(0, |id| id.as_uuid().as_u128()) & 0xffff_ffff) % HUES
}

/// Formats a duration: `8 s`, `4 min 12 s`, `1 h 3 min`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and cut off at centuries"
)]
pub(super) fn format_duration(seconds: f64) -> String {
    let seconds = seconds.clamp(0.0, 1e10).round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// Formats a position in a conversation: `0:07`, `12:30`, `1:02:03`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and cut off at centuries"
)]
pub(super) fn format_offset(seconds: f64) -> String {
    let seconds = seconds.clamp(0.0, 1e10) as u64;
    let hours = seconds / 3_600;
    let minutes = seconds / 60 % 60;
    let seconds = seconds % 60;
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// Formats a stored count as [`format_count`] does. Another program may have stored a negative number, which is shown
/// unchanged.
pub(super) fn format_stored_count(number: i64, one: &str, many: &str) -> String {
    u64::try_from(number)
        .map_or_else(|_| format!("{number} {many}"), |number| format_count(number, one, many))
}

/// Formats a count: `1 message`, `2 messages`.
pub(super) fn format_count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", group_digits(number), if number == 1 { one } else { many })
}

/// Formats a number with separators: `1,234,567`.
pub(super) fn group_digits(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a size: `12 B`, `3.4 KiB`.
#[expect(clippy::cast_precision_loss, reason = "one digit behind the point")]
pub(super) fn format_bytes(number: u64) -> String {
    let mut size = number as f64;
    for unit in ["B", "KiB", "MiB"] {
        if size < 1_024.0 {
            return if unit == "B" { format!("{number} B") } else { format!("{size:.1} {unit}") };
        }
        size /= 1_024.0;
    }
    format!("{size:.1} GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_numbers_are_as_people_write_them() {
        assert_eq!(
            [0.4, 59.6, 252.0, 3_780.0].map(format_duration),
            ["0 s", "1 min 0 s", "4 min 12 s", "1 h 3 min"]
        );
        assert_eq!([-1.0, 7.9, 750.0, 3_723.0].map(format_offset), ["0:00", "0:07", "12:30", "1:02:03"]);
        assert_eq!([0, 1_023, 3_500, 5 << 30].map(format_bytes), ["0 B", "1023 B", "3.4 KiB", "5.0 GiB"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(group_digits), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [1, 2].map(|number| format_count(number, "message", "messages")),
            ["1 message", "2 messages"]
        );
        let at: talktrack::Timestamp = "2026-11-23T14:05:59Z".parse().unwrap();
        assert_eq!(Moment::new(at).to_short(), "2026-11-23 14:05 UTC");
    }
}
