//! Numbers that are written with punctuation, such as phone numbers: `+49 (170) 123-45.67` is one number.
//!
//! A number is compared by its last digits, because it may be written with or without the code of the country: two numbers
//! agree if all digits of one are the last digits of the other, and these are at least [`MIN_DIGITS`]. So a number is kept
//! with its last digit first, and agreeing numbers begin alike.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization as _;

/// The fewest digits of a number. Fewer are only words.
pub(super) const MIN_DIGITS: usize = 7;
/// The most digits of a number that are compared. A phone number has at most 15, an account number more.
const MAX_DIGITS: usize = 20;
/// The most groups of digits of a number.
const MAX_GROUPS: usize = 12;
/// The most characters between two groups of digits.
const MAX_GAP: usize = 4;

/// A group of digits in a text.
#[derive(Debug, Clone)]
pub(super) struct DigitGroup<'t> {
    /// The digits, in ASCII.
    pub(super) digits: &'t str,
    /// Its place in the text, in bytes.
    pub(super) place: Range<usize>,
}

/// Groups of digits with nothing but punctuation between them.
#[derive(Debug)]
pub(super) struct DigitRun<'t> {
    groups: Vec<DigitGroup<'t>>,
    /// The groups with which a number may begin.
    starts: Vec<usize>,
}

/// A number of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Number {
    /// The digits, last one first, without zeros at the beginning of the number.
    pub(super) reversed: String,
    pub(super) place: Range<usize>,
}

/// Finds the runs of these groups, which are in the order of the text.
pub(super) fn find_runs<'t>(text: &str, groups: impl Iterator<Item = DigitGroup<'t>>) -> Vec<DigitRun<'t>> {
    let mut runs: Vec<DigitRun<'t>> = Vec::new();
    let mut end = 0;
    for group in groups {
        let gap = &text[end..group.place.start];
        let is_in_parentheses = gap.ends_with('(') && text[group.place.end..].starts_with(')');
        end = group.place.end;
        match runs.last_mut().filter(|run| run.groups.len() < MAX_GROUPS && is_punctuation(gap)) {
            // The zero of `+44 (0)20` is not dialled together with the code of the country.
            Some(_) if group.digits == "0" && is_in_parentheses => {}
            Some(run) => {
                if gap.contains('+') || group.digits.starts_with('0') {
                    run.starts.push(run.groups.len());
                }
                run.groups.push(group);
            }
            None => runs.push(DigitRun { groups: vec![group], starts: vec![0] }),
        }
    }
    runs
}

/// True if this may stand between two groups of a number.
fn is_punctuation(gap: &str) -> bool {
    let is_allowed = |character: char| {
        matches!(
            character,
            ' ' | '-' | '.' | '/' | '(' | ')' | '[' | ']' | '+' | '\u{2010}'..='\u{2015}' | '\u{2212}'
        )
    };
    gap.chars().nth(MAX_GAP).is_none() && gap.nfkd().all(is_allowed)
}

impl DigitRun<'_> {
    /// Returns the place of the run in the text.
    pub(super) fn place(&self) -> Range<usize> {
        let start = self.groups.first().map_or(0, |group| group.place.start);
        start..self.groups.last().map_or(start, |group| group.place.end)
    }

    /// Returns the numbers that the run may be: from each possible start to each end of a group, because a number is often
    /// followed or preceded by another one.
    pub(super) fn numbers(&self) -> Vec<Number> {
        let mut numbers: Vec<Number> = Vec::new();
        for last in 0..self.groups.len() {
            for number in self.numbers_to(last) {
                if numbers.iter().all(|other| other.reversed != number.reversed) {
                    numbers.push(number);
                }
            }
        }
        numbers
    }

    /// Returns the numbers that the whole run may be.
    pub(super) fn whole_numbers(&self) -> Vec<Number> {
        self.numbers_to(self.groups.len() - 1)
    }

    /// Returns the numbers that end with this group.
    fn numbers_to(&self, last: usize) -> Vec<Number> {
        let starts = self.starts.iter().filter(|start| **start <= last);
        let number = |start: &usize| {
            let groups = &self.groups[*start..=last];
            let digits: String = groups.iter().map(|group| group.digits).collect();
            let digits = digits.trim_start_matches('0');
            let reversed: String = digits.chars().rev().take(MAX_DIGITS).collect();
            let place = groups[0].place.start..self.groups[last].place.end;
            (reversed.len() >= MIN_DIGITS).then_some(Number { reversed, place })
        };
        starts.filter_map(number).collect()
    }
}

/// True if two numbers agree.
pub(super) fn agree(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}
