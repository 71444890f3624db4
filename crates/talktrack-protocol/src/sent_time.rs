//! Times as callers send them. Many tools write times without an offset, or as numbers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};
use talktrack_core::Timestamp;
use talktrack_core::clock::InvalidTimestamp;

/// A time that a caller sent: an RFC 3339 time, a date and a time without an offset (then it is in UTC), or a number since
/// 1970. A number below 1e11 is in seconds, below 1e14 in milliseconds, below 1e17 in microseconds, otherwise in
/// nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentTime(Timestamp);

/// Why a value is not a time that talktrack accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSentTime {
    /// The value is neither a number nor the text of a time.
    #[error(
        "must be an RFC 3339 time such as 2026-11-23T08:00:00Z, or a number of seconds, ms, µs or ns since 1970"
    )]
    Syntax,
    /// The text is a time outside the years 0000 to 9999.
    #[error("must be from 0000-01-01T00:00:00Z to 9999-12-31T23:59:59.999999Z")]
    OutOfRange,
    /// The number is negative or too large.
    #[error("a number must be from 0 to 18446744073709551615")]
    NumberOutOfRange,
}

impl InvalidSentTime {
    /// Returns what is wrong with a JSON value that is no time.
    pub(crate) fn of(json: &str) -> Self {
        match serde_json::from_str::<String>(json) {
            Ok(text) => text.parse::<SentTime>().err().unwrap_or(Self::Syntax),
            Err(_) if json.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) => {
                Self::NumberOutOfRange
            }
            Err(_) => Self::Syntax,
        }
    }
}

impl From<SentTime> for Timestamp {
    fn from(sent: SentTime) -> Self {
        sent.0
    }
}

impl FromStr for SentTime {
    type Err = InvalidSentTime;

    fn from_str(text: &str) -> Result<Self, InvalidSentTime> {
        let with_offset = text.parse::<Timestamp>();
        let time = match with_offset {
            Err(InvalidTimestamp::Syntax) => format!("{text}Z").parse(),
            known => known,
        };
        time.map(Self).map_err(|error| match error {
            InvalidTimestamp::OutOfRange => InvalidSentTime::OutOfRange,
            _ => InvalidSentTime::Syntax,
        })
    }
}

/// The microseconds in one unit of a number, or the units in one microsecond.
enum Scale {
    Micros(u32),
    PerMicro(u32),
}

impl Scale {
    /// Returns the unit of a number since 1970, given its order of magnitude.
    fn of(number: f64) -> Self {
        match number {
            seconds if seconds < 1e11 => Self::Micros(1_000_000),
            millis if millis < 1e14 => Self::Micros(1_000),
            micros if micros < 1e17 => Self::Micros(1),
            _ => Self::PerMicro(1_000),
        }
    }
}

impl SentTime {
    fn from_whole(number: u64) -> Result<Self, InvalidSentTime> {
        #[expect(clippy::cast_precision_loss, reason = "only the order of magnitude counts")]
        let micros = match Scale::of(number as f64) {
            Scale::Micros(each) => number.saturating_mul(each.into()),
            Scale::PerMicro(units) => number / u64::from(units),
        };
        let micros = i64::try_from(micros).map_err(|_| InvalidSentTime::NumberOutOfRange)?;
        Timestamp::from_micros(micros).map(Self).ok_or(InvalidSentTime::NumberOutOfRange)
    }

    fn from_float(number: f64) -> Result<Self, InvalidSentTime> {
        /// The first number beyond a `u64`.
        const BEYOND: f64 = 18_446_744_073_709_551_616.0;
        if !(0.0..BEYOND).contains(&number) {
            return Err(InvalidSentTime::NumberOutOfRange);
        }
        let micros = match Scale::of(number) {
            Scale::Micros(each) => number * f64::from(each),
            Scale::PerMicro(units) => number / f64::from(units),
        };
        #[expect(clippy::cast_possible_truncation, reason = "at most 1e17, or a u64 divided by 1,000")]
        Timestamp::from_micros(micros.round() as i64).map(Self).ok_or(InvalidSentTime::NumberOutOfRange)
    }
}

impl<'de> Deserialize<'de> for SentTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = SentTime;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", InvalidSentTime::Syntax)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SentTime, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<SentTime, E> {
                SentTime::from_whole(number).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<SentTime, E> {
                let number =
                    u64::try_from(number).map_err(|_| E::custom(InvalidSentTime::NumberOutOfRange))?;
                self.visit_u64(number)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<SentTime, E> {
                SentTime::from_float(number).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> String {
        match serde_json::from_str::<SentTime>(json) {
            Ok(sent) => Timestamp::from(sent).to_string(),
            Err(_) => InvalidSentTime::of(json).to_string(),
        }
    }

    #[test]
    fn a_time_is_understood_with_an_offset_without_one_and_as_a_number_of_any_unit() {
        for (json, shown) in [
            (r#""2026-11-23T09:00:00+01:00""#, "2026-11-23T08:00:00.000000Z"),
            (r#""2026-11-23T08:00:00""#, "2026-11-23T08:00:00.000000Z"),
            (r#""2026-11-23 08:00:00.123456789""#, "2026-11-23T08:00:00.123456Z"),
            ("0", "1970-01-01T00:00:00.000000Z"),
            ("1795420800", "2026-11-23T08:00:00.000000Z"),
            ("1795420800.25", "2026-11-23T08:00:00.250000Z"),
            ("1795420800250", "2026-11-23T08:00:00.250000Z"),
            ("1795420800250.5", "2026-11-23T08:00:00.250500Z"),
            ("1795420800250001", "2026-11-23T08:00:00.250001Z"),
            ("1795420800250001999", "2026-11-23T08:00:00.250001Z"),
            ("99999999999", "5138-11-16T09:46:39.000000Z"),
            ("100000000000", "1973-03-03T09:46:40.000000Z"),
            ("18446744073709551615", "2554-07-21T23:34:33.709551Z"),
        ] {
            assert_eq!(read(json), shown, "{json}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_is_expected() {
        let syntax = InvalidSentTime::Syntax.to_string();
        for json in [
            r#""yesterday""#,
            r#""2026-11-23""#,
            r#""""#,
            r#""1795420800""#,
            "true",
            "[]",
            "{}",
            "\"\\ud800\"",
        ] {
            assert_eq!(read(json), syntax, "{json}");
        }
        let number = InvalidSentTime::NumberOutOfRange.to_string();
        for json in ["-1", "-0.5", "18446744073709551616", "1e300"] {
            assert_eq!(read(json), number, "{json}");
        }
        assert_eq!(read(r#""9999-12-31T23:59:59-00:01""#), InvalidSentTime::OutOfRange.to_string());
    }
}
