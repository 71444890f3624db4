//! Ranges of time, in whole buckets.

use std::time::Duration;

use crate::clock::Timestamp;

/// The most buckets of one answer.
pub const MAX_BUCKETS: usize = 2_000;

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
/// The length of a range without a given start.
const USUAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The length of a bucket. Buckets begin at full five minutes, hours or days in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    /// Five minutes.
    FiveMinutes,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Resolution {
    /// All resolutions, from the finest to the coarsest.
    pub const ALL: [Self; 3] = [Self::FiveMinutes, Self::Hour, Self::Day];

    /// Returns the length of a bucket.
    pub fn duration(self) -> Duration {
        Duration::from_micros(self.micros().unsigned_abs())
    }

    /// Returns the length of a bucket in microseconds.
    pub fn micros(self) -> i64 {
        match self {
            Self::FiveMinutes => 5 * 60 * 1_000_000,
            Self::Hour => HOUR,
            Self::Day => DAY,
        }
    }

    /// Returns the number of the bucket that contains a moment, counted from 1970.
    pub fn bucket_of(self, moment: Timestamp) -> i64 {
        moment.as_micros().div_euclid(self.micros())
    }

    /// Returns the number of the coarser bucket that contains this bucket.
    pub fn coarser_bucket(self, coarser: Self, number: i64) -> i64 {
        number.div_euclid(coarser.micros() / self.micros())
    }

    /// Returns the key under which a bucket is stored. Each resolution has a key range of its own, and
    /// no bucket has the key 0.
    pub fn storage_key(self, number: i64) -> i64 {
        let base = match self {
            Self::FiveMinutes => 1_i64,
            Self::Hour => 2,
            Self::Day => 3,
        };
        (base << 40) + number
    }

    /// Returns the resolution that suits a range of this length, in microseconds.
    fn for_length(length: i64) -> Self {
        match length {
            length if length <= 6 * HOUR => Self::FiveMinutes,
            length if length <= 7 * DAY => Self::Hour,
            _ => Self::Day,
        }
    }
}

/// A range of time, from the beginning of one bucket to the end of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    resolution: Resolution,
    since: Timestamp,
    until: Timestamp,
    first: i64,
    /// The number after that of the last bucket.
    end: i64,
}

/// A range that cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRange {
    /// The range ends before it begins, or is empty.
    #[error("since: must be before until")]
    Empty,
    /// The range's last bucket ends in the year 10000.
    #[error("until: must be before the last day of the year 9999")]
    Beyond,
    /// The range has too many buckets.
    #[error("step: more than {MAX_BUCKETS} steps are in this range; choose a longer step or a shorter range")]
    TooFine,
}

impl TimeRange {
    /// Creates the range from the bucket that contains `since` to the bucket that contains the moment before
    /// `until`. The default of `until` is now, the default of `since` 24 hours before `until`. The default
    /// resolution suits the length: five minutes up to six hours, an hour up to seven days, otherwise a day.
    ///
    /// # Errors
    /// If the range ends before it begins or is empty, has more than [`MAX_BUCKETS`] buckets, or ends
    /// after the year 9999.
    pub fn new(
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        resolution: Option<Resolution>,
        now: Timestamp,
    ) -> Result<Self, InvalidRange> {
        let until = until.unwrap_or(now);
        let since = since.unwrap_or_else(|| until.minus(USUAL));
        if since >= until {
            return Err(InvalidRange::Empty);
        }
        let resolution = resolution
            .unwrap_or_else(|| Resolution::for_length(until.as_micros().saturating_sub(since.as_micros())));
        let first = resolution.bucket_of(since);
        let end = (until.as_micros() - 1).div_euclid(resolution.micros()) + 1;
        let moment = |number: i64| Timestamp::from_micros(number.saturating_mul(resolution.micros()));
        let (Some(since), Some(until)) = (moment(first), moment(end)) else {
            return Err(InvalidRange::Beyond);
        };
        let range = Self { resolution, since, until, first, end };
        if range.len() > MAX_BUCKETS { Err(InvalidRange::TooFine) } else { Ok(range) }
    }

    /// Returns the length of each bucket.
    pub fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// Returns the beginning of the first bucket.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Returns the end of the last bucket.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// Returns the number of buckets.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        usize::try_from(self.end - self.first).unwrap_or(usize::MAX)
    }

    /// Returns the numbers of the buckets, from the first up to the one after the last.
    pub fn bucket_numbers(&self) -> std::ops::Range<i64> {
        self.first..self.end
    }

    /// Returns the numbers of the five-minute buckets in the range.
    pub fn five_minute_buckets(&self) -> std::ops::Range<i64> {
        let buckets = self.resolution.micros() / Resolution::FiveMinutes.micros();
        self.first * buckets..self.end * buckets
    }

    /// Returns the index of the bucket that contains a moment, if the moment is in the range.
    pub fn index_of(&self, moment: Timestamp) -> Option<usize> {
        let place = usize::try_from(self.resolution.bucket_of(moment) - self.first).ok()?;
        (place < self.len()).then_some(place)
    }

    /// Returns the beginning of each bucket.
    pub fn bucket_starts(&self) -> impl Iterator<Item = Timestamp> + '_ {
        let next = move |moment: &Timestamp| Some(moment.plus(self.resolution.duration()));
        std::iter::successors(Some(self.since), next).take(self.len())
    }
}
