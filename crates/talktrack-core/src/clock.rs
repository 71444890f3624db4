//! Time as talktrack writes it: microseconds since the Unix epoch, in UTC. The clock is a parameter, so that tests need
//! no sleep.

#[cfg(feature = "__rusqlite")]
mod sqlite;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The order of acceptance: microseconds since the epoch. If the clock stands still or steps back, the next value is
/// one higher than the last, so that the order is strictly increasing in a data directory.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(i64);

impl Seq {
    /// The place before the first record of a new data directory.
    pub const ZERO: Self = Self(0);
    /// A place before every record.
    pub const MIN: Self = Self(i64::MIN);
    /// A place after every record.
    pub const MAX: Self = Self(i64::MAX);

    /// Creates a place from its number.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Returns the place right after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Returns the place right before this one.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Returns when the record with this place was accepted. `None` if the number is no time, which happens only to
    /// damaged data and to places that no record has.
    pub fn accepted_at(self) -> Option<Timestamp> {
        Timestamp::from_micros(self.0)
    }
}

impl From<Timestamp> for Seq {
    fn from(accepted: Timestamp) -> Self {
        Self(accepted.0)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Seq {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A moment with a resolution of one microsecond. It displays as RFC 3339 in UTC with six decimals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Creates a moment from microseconds since 1970-01-01T00:00:00Z. Returns `None` outside the years 0000 to 9999,
    /// which RFC 3339 cannot express.
    pub fn from_micros(micros: i64) -> Option<Self> {
        (FIRST_MICROS..=LAST_MICROS).contains(&micros).then_some(Self(micros))
    }

    /// Returns the microseconds since 1970-01-01T00:00:00Z.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns the seconds from `earlier` to `self`. The result is negative if `earlier` is the later one.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a duration of 285 years still has its microseconds in an f64"
    )]
    pub fn seconds_since(self, earlier: Self) -> f64 {
        (self.0 - earlier.0) as f64 / 1e6
    }

    /// Returns this moment moved later by `by`. Saturates at the largest value.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Returns this moment moved earlier by `by`. Saturates at the smallest value.
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// `0000-01-01T00:00:00.000000Z` and `9999-12-31T23:59:59.999999Z`.
const FIRST_MICROS: i64 = -62_167_219_200_000_000;
const LAST_MICROS: i64 = 253_402_300_799_999_999;

/// The epoch as a civil date and time. [`jiff::Timestamp`] ends one day before the year 9999 does, a civil time does
/// not.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match EPOCH.checked_add(SignedDuration::from_micros(self.0)) {
            Ok(moment) => write!(f, "{moment:.6}Z"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a time that talktrack accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTimestamp {
    /// The text is not an RFC 3339 time with an offset, such as `2026-11-23T08:00:00Z`.
    #[error("not an RFC 3339 time such as 2026-11-23T08:00:00Z")]
    Syntax,
    /// The text is a time, but in UTC it is outside the years 0000 to 9999.
    #[error("must be from 0000-01-01T00:00:00Z to 9999-12-31T23:59:59.999999Z")]
    OutOfRange,
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    /// Parses an RFC 3339 time with an offset. Digits beyond the microseconds are cut off.
    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        // RFC 3339 has years of four digits without a sign.
        if !text.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(InvalidTimestamp::Syntax);
        }
        let text = without_submicros(text);
        if text.ends_with('Z')
            && let Ok(moment) = text.parse::<jiff::Timestamp>()
        {
            return Self::from_micros(moment.as_microsecond()).ok_or(InvalidTimestamp::OutOfRange);
        }
        let pieces = Pieces::parse(&*text).map_err(|_| InvalidTimestamp::Syntax)?;
        let (Some(time), Some(offset)) = (pieces.time(), pieces.to_numeric_offset()) else {
            return Err(InvalidTimestamp::Syntax);
        };
        // RFC 3339 has offsets of less than a day. The parser accepts somewhat more.
        if offset.seconds().abs() >= 24 * 60 * 60 {
            return Err(InvalidTimestamp::Syntax);
        }
        let since_epoch = pieces.date().to_datetime(time).duration_since(EPOCH);
        let micros = (since_epoch - SignedDuration::from_secs(offset.seconds().into())).as_micros();
        i64::try_from(micros).ok().and_then(Self::from_micros).ok_or(InvalidTimestamp::OutOfRange)
    }
}

/// Cuts off the digits beyond the microseconds. RFC 3339 allows any number of them.
fn without_submicros(text: &str) -> Cow<'_, str> {
    let Some(point) = text.find('.') else { return text.into() };
    let digits = text[point + 1..].bytes().take_while(u8::is_ascii_digit).count();
    if digits <= 6 {
        return text.into();
    }
    format!("{}{}", &text[..point + 7], &text[point + 1 + digits..]).into()
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// The source of the time.
pub trait Clock: Send + Sync + 'static {
    /// Returns the current calendar time. It may stand still, step back or jump ahead, and talktrack tolerates that.
    fn now(&self) -> Timestamp;

    /// Returns the time that has passed since some fixed moment. It never decreases, and changes of the calendar time
    /// do not affect it.
    fn elapsed(&self) -> Duration;
}

/// The operating system's clocks. Elapsed time does not include the time in which the machine sleeps, because no
/// message can arrive then.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// The origin of the elapsed time. Any moment before the first measurement is suitable.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        Timestamp(micros)
    }

    fn elapsed(&self) -> Duration {
        BEGINNING.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match text.parse::<Timestamp>() {
            Ok(moment) => moment.to_string(),
            Err(why) => why.to_string(),
        }
    }

    #[test]
    fn every_moment_of_the_years_of_rfc_3339_is_read_and_shown() {
        for (text, shown) in [
            ("2026-11-23T09:00:00+01:00", "2026-11-23T08:00:00.000000Z"),
            ("2026-11-23T08:00:00.1234567Z", "2026-11-23T08:00:00.123456Z"),
            ("2026-11-23T08:00:00.123456789012+00:00", "2026-11-23T08:00:00.123456Z"),
            ("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000000Z"),
            ("9999-12-30T22:00:00Z", "9999-12-30T22:00:00.000000Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999Z"),
            ("9999-12-31T22:59:59-01:00", "9999-12-31T23:59:59.000000Z"),
            ("2026-12-01T00:00:00.5+23:59", "2026-11-30T00:01:00.500000Z"),
            ("2026-12-01t00:00:00z", "2026-12-01T00:00:00.000000Z"),
        ] {
            assert_eq!(read(text), shown, "{text}");
        }
        for micros in [FIRST_MICROS, -1, 0, LAST_MICROS] {
            let moment = Timestamp::from_micros(micros).unwrap();
            assert_eq!(moment.to_string().parse(), Ok(moment));
        }
        assert_eq!([FIRST_MICROS - 1, LAST_MICROS + 1].map(Timestamp::from_micros), [None, None]);
    }

    #[test]
    fn a_time_outside_these_years_is_told_from_what_is_no_time() {
        for text in ["0000-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"] {
            assert_eq!(text.parse::<Timestamp>(), Err(InvalidTimestamp::OutOfRange), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2026-11-23",
            "2026-11-23T08:00:00",
            "9999-12-31T23:59:59",
            "2026-13-01T00:00:00Z",
            "+010000-01-01T00:00:00Z",
            "-009999-01-01T00:00:00Z",
            "2026-12-01T00:00:00+24:00",
            "2026-12-01T00:00:00-25:59",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(InvalidTimestamp::Syntax), "{text}");
        }
    }
}
