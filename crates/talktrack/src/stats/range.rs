//! Ranges of time, in whole stretches.

use std::time::Duration;

use crate::clock::Timestamp;

/// The most stretches of one answer.
pub const MAX_STRETCHES: usize = 2_000;

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
/// The length of a range without a given start.
const USUAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The length of a stretch. Stretches begin at full five minutes, hours or days in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grain {
    /// Five minutes.
    Slice,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Grain {
    /// All grains, from the finest to the coarsest.
    pub(crate) const ALL: [Self; 3] = [Self::Slice, Self::Hour, Self::Day];

    /// Returns the length of a stretch.
    pub fn duration(self) -> Duration {
        Duration::from_micros(self.micros().unsigned_abs())
    }

    pub(crate) fn micros(self) -> i64 {
        match self {
            Self::Slice => 5 * 60 * 1_000_000,
            Self::Hour => HOUR,
            Self::Day => DAY,
        }
    }

    /// Returns the number of the stretch that contains a moment, counted from 1970.
    pub(crate) fn number_of(self, moment: Timestamp) -> i64 {
        moment.as_micros().div_euclid(self.micros())
    }

    /// Returns the number of the coarser stretch that contains this stretch.
    pub(crate) fn number_in(self, coarser: Self, number: i64) -> i64 {
        number.div_euclid(coarser.micros() / self.micros())
    }

    /// Returns the key under which a stretch's tally is stored. Each grain has a key range of its own, and
    /// no tally has the key 0.
    pub(crate) fn place_of(self, number: i64) -> i64 {
        let room = match self {
            Self::Slice => 1_i64,
            Self::Hour => 2,
            Self::Day => 3,
        };
        (room << 40) + number
    }

    /// Returns the grain that suits a range of this length, in microseconds.
    fn of(length: i64) -> Self {
        match length {
            length if length <= 6 * HOUR => Self::Slice,
            length if length <= 7 * DAY => Self::Hour,
            _ => Self::Day,
        }
    }
}

/// A range of time, from the beginning of one stretch to the end of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    grain: Grain,
    since: Timestamp,
    until: Timestamp,
    first: i64,
    /// The number after that of the last stretch.
    end: i64,
}

/// A range that cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRange {
    /// The range ends before it begins, or is empty.
    #[error("since: must be before until")]
    Empty,
    /// The range's last stretch ends in the year 10000.
    #[error("until: must be before the last day of the year 9999")]
    Beyond,
    /// The range has too many stretches.
    #[error(
        "step: more than {MAX_STRETCHES} of them are in this range; take a longer step or a shorter range"
    )]
    TooFine,
}

impl Range {
    /// Creates the range from the stretch that contains `since` to the stretch that contains the moment
    /// before `until`. The default of `until` is now, the default of `since` 24 hours before `until`. The
    /// default grain suits the length: five minutes up to six hours, an hour up to seven days, otherwise a
    /// day.
    ///
    /// # Errors
    /// If the range ends before it begins or is empty, has more than [`MAX_STRETCHES`] stretches, or ends
    /// after the year 9999.
    pub fn new(
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        grain: Option<Grain>,
        now: Timestamp,
    ) -> Result<Self, InvalidRange> {
        let until = until.unwrap_or(now);
        let since = since.unwrap_or_else(|| until.minus(USUAL));
        if since >= until {
            return Err(InvalidRange::Empty);
        }
        let grain = grain.unwrap_or_else(|| Grain::of(until.as_micros().saturating_sub(since.as_micros())));
        let first = grain.number_of(since);
        let end = (until.as_micros() - 1).div_euclid(grain.micros()) + 1;
        let moment = |number: i64| Timestamp::from_micros(number.saturating_mul(grain.micros()));
        let (Some(since), Some(until)) = (moment(first), moment(end)) else {
            return Err(InvalidRange::Beyond);
        };
        let range = Self { grain, since, until, first, end };
        if range.len() > MAX_STRETCHES { Err(InvalidRange::TooFine) } else { Ok(range) }
    }

    /// Returns the length of each stretch.
    pub fn grain(&self) -> Grain {
        self.grain
    }

    /// Returns the beginning of the first stretch.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Returns the end of the last stretch.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// Returns the number of stretches.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        usize::try_from(self.end - self.first).unwrap_or(usize::MAX)
    }

    /// Returns the numbers of the stretches, from the first up to the one after the last.
    pub(crate) fn numbers(&self) -> std::ops::Range<i64> {
        self.first..self.end
    }

    /// Returns the numbers of the five-minute slices in the range.
    pub(crate) fn slices(&self) -> std::ops::Range<i64> {
        let slices = self.grain.micros() / Grain::Slice.micros();
        self.first * slices..self.end * slices
    }

    /// Returns the index of the stretch that contains a moment, if the moment is in the range.
    pub(crate) fn place_of(&self, moment: Timestamp) -> Option<usize> {
        let place = usize::try_from(self.grain.number_of(moment) - self.first).ok()?;
        (place < self.len()).then_some(place)
    }

    /// Returns the beginning of each stretch.
    pub(crate) fn stretches(&self) -> impl Iterator<Item = Timestamp> + '_ {
        let next = move |moment: &Timestamp| Some(moment.plus(self.grain.duration()));
        std::iter::successors(Some(self.since), next).take(self.len())
    }
}
