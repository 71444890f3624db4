//! Ranges of time, in whole stretches.

use std::time::Duration;

use crate::clock::Timestamp;

/// Stretches of one answer.
pub const MAX_STRETCHES: usize = 2_000;

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
/// What is looked at where nobody says since when.
const USUAL: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a stretch is. Each begins where a clock in UTC says so.
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
    /// From the finest to the coarsest.
    pub(crate) const ALL: [Self; 3] = [Self::Slice, Self::Hour, Self::Day];

    /// Its length.
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

    /// The number of the stretch in which a moment is, counted from 1970.
    pub(crate) fn number_of(self, moment: Timestamp) -> i64 {
        moment.as_micros().div_euclid(self.micros())
    }

    /// Where this stretch is among those of a coarser grain.
    pub(crate) fn number_in(self, coarser: Self, number: i64) -> i64 {
        number.div_euclid(coarser.micros() / self.micros())
    }

    /// Where the tally of a stretch is kept: each grain has a room of its own. None is at 0.
    pub(crate) fn place_of(self, number: i64) -> i64 {
        let room = match self {
            Self::Slice => 1_i64,
            Self::Hour => 2,
            Self::Day => 3,
        };
        (room << 40) + number
    }

    /// The one that suits a range of this length.
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
    /// The number behind the last.
    end: i64,
}

/// Why a range cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRange {
    /// It ends before it begins.
    #[error("since: must be before until")]
    Empty,
    /// Its last stretch ends in the year 10000.
    #[error("until: must be before the last day of the year 9999")]
    Beyond,
    /// It has too many stretches.
    #[error(
        "step: more than {MAX_STRETCHES} of them are in this range; take a longer step or a shorter range"
    )]
    TooFine,
}

impl Range {
    /// The stretches from that in which `since` is to that in which the moment before `until` is. Without `until` up to now,
    /// without `since` the 24 hours before. Without a grain, one that suits the length: five minutes up to six hours, an hour
    /// up to seven days, else a day.
    ///
    /// # Errors
    /// Where it ends before it begins, or has more than [`MAX_STRETCHES`].
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

    /// How long each stretch is.
    pub fn grain(&self) -> Grain {
        self.grain
    }

    /// Where the first begins.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Where the last ends.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// How many stretches.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        usize::try_from(self.end - self.first).unwrap_or(usize::MAX)
    }

    /// The number of the first stretch, and the one behind the last.
    pub(crate) fn numbers(&self) -> std::ops::Range<i64> {
        self.first..self.end
    }

    /// The numbers of the slices in it.
    pub(crate) fn slices(&self) -> std::ops::Range<i64> {
        let slices = self.grain.micros() / Grain::Slice.micros();
        self.first * slices..self.end * slices
    }

    /// Which stretch a moment is in, where it is in the range.
    pub(crate) fn place_of(&self, moment: Timestamp) -> Option<usize> {
        let place = usize::try_from(self.grain.number_of(moment) - self.first).ok()?;
        (place < self.len()).then_some(place)
    }

    /// When each begins.
    pub(crate) fn stretches(&self) -> impl Iterator<Item = Timestamp> + '_ {
        let next = move |moment: &Timestamp| Some(moment.plus(self.grain.duration()));
        std::iter::successors(Some(self.since), next).take(self.len())
    }
}
