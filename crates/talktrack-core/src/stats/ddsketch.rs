//! The distribution of numbers, to within one percent of each number: a DDSketch (Masson, Rim, Lee:
//! "DDSketch", VLDB 2019). Numbers of similar size share a bin, whose width grows with their size.
//! Two distributions can be added bin by bin, and the sum is as exact as either of them.
//!
//! This is an implementation of its own, because the crate `sketches-ddsketch` keeps every bin between the
//! smallest and the largest number, at least 1 KiB for each sketch, and some hundred thousand sketches are
//! stored here. It also does not expose its bins, and accepts infinities as numbers.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// The largest relative error of a percentile.
const ERROR: f64 = 0.01;
/// Smaller numbers count as zero.
const SMALLEST: f64 = 1e-6;
/// Larger numbers cannot be measures of a conversation (this is thirty years in milliseconds) and are
/// ignored.
const LARGEST: f64 = 1e12;

/// A set of numbers: their count, their sum, their extremes, and any percentile to within one percent of
/// its value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DdSketch {
    /// The number of values in each bin, in ascending order; empty bins are left out.
    bins: Vec<(i16, u64)>,
    exact: Option<Exact>,
}

/// The exact figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Exact {
    sum: f64,
    min: f64,
    max: f64,
}

impl DdSketch {
    /// Counts a number. Ignores NaN, infinities and numbers beyond ±1e12.
    pub fn add(&mut self, number: f64) {
        if !(-LARGEST..=LARGEST).contains(&number) {
            return;
        }
        let bin = bin_of(number);
        match self.bins.binary_search_by_key(&bin, |(bin, _)| *bin) {
            Ok(place) => self.bins[place].1 += 1,
            Err(place) => self.bins.insert(place, (bin, 1)),
        }
        self.merge_exact(Exact { sum: number, min: number, max: number });
    }

    /// Adds all numbers of another distribution.
    pub fn merge(&mut self, other: &Self) {
        let Some(exact) = other.exact else { return };
        if self.bins.is_empty() {
            self.bins.clone_from(&other.bins);
        } else {
            self.bins = merge_bins(&self.bins, &other.bins);
        }
        self.merge_exact(exact);
    }

    fn merge_exact(&mut self, more: Exact) {
        self.exact = Some(self.exact.map_or(more, |exact| Exact {
            sum: exact.sum + more.sum,
            min: exact.min.min(more.min),
            max: exact.max.max(more.max),
        }));
    }

    /// True if the distribution contains no numbers.
    pub fn is_empty(&self) -> bool {
        self.exact.is_none()
    }

    /// Returns how many numbers there are.
    pub fn len(&self) -> u64 {
        self.bins.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Returns the sum of all numbers, or 0 if there are none.
    pub fn sum(&self) -> f64 {
        self.exact.map_or(0.0, |exact| exact.sum)
    }

    /// Returns the smallest number.
    pub fn min(&self) -> Option<f64> {
        self.exact.map(|exact| exact.min)
    }

    /// Returns the largest number.
    pub fn max(&self) -> Option<f64> {
        self.exact.map(|exact| exact.max)
    }

    /// Returns how many numbers are at most `number`. Values within one percent of it may be counted on
    /// either side.
    pub fn count_up_to(&self, number: f64) -> u64 {
        let bin = bin_of(number.clamp(-LARGEST, LARGEST));
        self.bins.iter().take_while(|(other, _)| *other <= bin).map(|(_, count)| count).sum()
    }

    /// Returns the quantile for `part` (0 to 1): the number that this part of all numbers does not exceed,
    /// to within one percent of its value.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among more than 2^53 numbers need not be exact, and is not below zero"
    )]
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let Exact { min, max, .. } = self.exact?;
        // The nearest rank: with few numbers, the highest percentiles are the largest number.
        let rank = (part.clamp(0.0, 1.0) * self.len() as f64 * (1.0 - 1e-12)).ceil().max(1.0) as u64 - 1;
        let mut passed = 0_u64;
        let found = self.bins.iter().find(|(_, count)| {
            passed = passed.saturating_add(*count);
            passed > rank
        });
        Some(found.map_or(max, |(bin, _)| bin_midpoint(*bin)).clamp(min, max.max(min)))
    }
}

/// Merges two lists of bins, in ascending order.
fn merge_bins(left: &[(i16, u64)], right: &[(i16, u64)]) -> Vec<(i16, u64)> {
    let mut left = left.iter().copied().peekable();
    let mut right = right.iter().copied().peekable();
    let mut bins = Vec::with_capacity(left.len().max(right.len()));
    while let (Some(one), Some(other)) = (left.peek(), right.peek()) {
        let bin = one.0;
        let more = other.1;
        match one.0.cmp(&other.0) {
            Ordering::Less => bins.extend(left.next()),
            Ordering::Greater => bins.extend(right.next()),
            Ordering::Equal => {
                bins.push((bin, one.1.saturating_add(more)));
                left.next();
                right.next();
            }
        }
    }
    bins.extend(left);
    bins.extend(right);
    bins
}

/// The difference between the logarithms of neighbouring bins.
fn bin_width() -> f64 {
    ((1.0 + ERROR) / (1.0 - ERROR)).ln()
}

/// Returns the bin of a number. Zero has bin 0; positive numbers have higher bins, negative numbers lower
/// ones.
#[expect(
    clippy::cast_possible_truncation,
    reason = "within the bounds above there are some 2,100 bins either way"
)]
fn bin_of(number: f64) -> i16 {
    let size = number.abs();
    if size < SMALLEST {
        return 0;
    }
    let bin = ((size / SMALLEST).ln() / bin_width()).ceil() as i16 + 1;
    if number < 0.0 { -bin } else { bin }
}

/// Returns the number in the middle of a bin: the relative distance to both ends is the same.
fn bin_midpoint(bin: i16) -> f64 {
    let sign = f64::from(bin.signum());
    let bin = f64::from(bin.saturating_abs());
    sign * SMALLEST * ((bin - 1.0) * bin_width()).exp() * (1.0 - ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch_of(numbers: &[f64]) -> DdSketch {
        let mut sketch = DdSketch::default();
        numbers.iter().for_each(|number| sketch.add(*number));
        sketch
    }

    #[test]
    fn every_percentile_is_within_one_percent() {
        let numbers: Vec<f64> = (0..10_000).map(|number| f64::from(number - 2_000).powi(3) / 1e4).collect();
        let sketch = sketch_of(&numbers);
        for percent in 0..=100_u32 {
            let part = f64::from(percent) / 100.0;
            let exact = numbers[usize::try_from((percent * 100).max(1) - 1).unwrap()];
            let found = sketch.quantile(part).unwrap();
            assert!((found - exact).abs() <= exact.abs() * ERROR + 1e-6, "p{percent}: {found}, not {exact}");
        }
    }

    #[test]
    fn two_add_up_to_what_one_would_be() {
        let numbers: Vec<f64> = (0..3_000).map(|number| f64::from(number) * 1.25).collect();
        let (left, right) = numbers.split_at(1_000);
        let mut sum = sketch_of(left);
        sum.merge(&sketch_of(right));
        sum.merge(&DdSketch::default());
        let mut other = DdSketch::default();
        other.merge(&sketch_of(right));
        other.merge(&sketch_of(left));
        assert_eq!((&sum, &other), (&sketch_of(&numbers), &sketch_of(&numbers)));
        assert_eq!((sum.len(), sum.min(), sum.max()), (3_000, Some(0.0), Some(3_748.75)));
    }

    #[test]
    fn as_many_are_up_to_a_number_as_there_are() {
        let sketch = sketch_of(&[-3.0, 0.0, 9.0, 10.0, 50.0, 50.0, 1e9]);
        let counts = [-4.0, -2.5, 0.0, 10.0, 49.0, 60.0, f64::MAX].map(|number| sketch.count_up_to(number));
        assert_eq!(counts, [0, 1, 2, 4, 4, 6, 7]);
    }

    #[test]
    fn what_is_no_measure_does_no_harm() {
        let odd = sketch_of(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e13]);
        assert_eq!((odd.len(), odd.sum(), odd.quantile(0.5)), (0, 0.0, None));
        let small = sketch_of(&[0.0, -0.0, 1e-300, -5.0, 1e12]);
        assert_eq!((small.len(), small.quantile(0.0), small.quantile(0.5)), (5, Some(-5.0), Some(0.0)));
    }
}
