//! The search for rows that the store will never take: a batch that it refuses for its data is cut in halves until the bad
//! row is alone. A row that fails twice alone is bad; where too many fail in the same way, not the rows are bad but the store.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::store::StoreError;

/// So many rows with the same error, one after another or in one batch, speak against the store.
const TOO_MANY: usize = 20;
/// So does half a batch, where it has at least so many rows. In a smaller one the store's schema decides alone.
const TELLING_BATCH: usize = 10;

/// What is left to try of one batch, and what was found bad in it. Rows are named by their places in the batch.
pub(super) struct Search {
    rows: usize,
    /// Parts to try, the next one last.
    parts: Vec<Range<usize>>,
    failed_once: Option<usize>,
    bad: Vec<(usize, StoreError)>,
    /// Rows that spoke against the store, with their errors. Until it takes one of them, another that fails alike says that
    /// it still has not been mended.
    suspects: BTreeMap<usize, StoreError>,
}

impl Search {
    pub(super) fn new(rows: usize) -> Self {
        #[expect(clippy::single_range_in_vec_init, reason = "one part, from the first row to the last")]
        let parts = vec![0..rows];
        Self { rows, parts, failed_once: None, bad: Vec::new(), suspects: BTreeMap::new() }
    }

    /// The next part to try.
    pub(super) fn next(&mut self) -> Option<Range<usize>> {
        self.parts.pop()
    }

    /// The store took the part.
    pub(super) fn taken(&mut self, part: &Range<usize>) {
        if self.suspects.range(part.clone()).next().is_some() {
            self.suspects.clear();
        }
    }

    /// The attempt told nothing about the rows.
    pub(super) fn again(&mut self, part: Range<usize>) {
        self.parts.push(part);
    }

    /// The store refused the part for its data.
    pub(super) fn refused(&mut self, part: Range<usize>, error: StoreError) {
        let (first, rows) = (part.start, part.len());
        if rows > 1 {
            let middle = first + rows / 2;
            self.parts.extend([middle..part.end, part.start..middle]);
        } else if self.failed_once.replace(first) != Some(first) {
            self.parts.push(part);
        } else {
            self.bad.push((first, error));
        }
    }

    /// Whether rows may still be added: the whole was tried and not taken, for reasons that are not the rows', or it is too
    /// small to tell.
    pub(super) fn may_grow(&self) -> bool {
        let untouched = self.parts.iter().any(|part| part.len() == self.rows);
        untouched || (self.rows < TELLING_BATCH && !self.parts.is_empty())
    }

    /// The error of the first bad row that is meant.
    pub(super) fn error_of(&self, meant: impl Fn(usize) -> bool) -> Option<StoreError> {
        self.bad.iter().find(|(row, _)| meant(*row)).map(|(_, error)| error.clone())
    }

    /// This row depends on one that failed with this error.
    pub(super) fn hold(&mut self, row: usize, error: StoreError) {
        self.bad.push((row, error));
    }

    /// The rows found bad, with the error of each.
    pub(super) fn into_bad(self) -> Vec<(usize, StoreError)> {
        self.bad
    }

    /// What the latest bad row failed with, and how many in this batch failed in the same way.
    pub(super) fn suspicion(&self) -> Option<(&StoreError, usize)> {
        let (_, latest) = self.bad.last()?;
        let bad = self.bad.iter().filter(|(_, error)| error == latest).count();
        let is_bad = |row: &usize| self.bad.iter().any(|(bad, _)| bad == row);
        let suspects = self.suspects.iter().filter(|(row, error)| *error == latest && !is_bad(row)).count();
        Some((latest, bad + suspects))
    }

    /// The bad rows are not bad after all: they will be tried again, in their order. Those that others depend on before
    /// anything else, the rest after all that has not been tried yet.
    pub(super) fn start_over(&mut self, others_depend_on: impl Fn(usize) -> bool) {
        self.failed_once = None;
        let again = self.bad.iter().rev().map(|(row, _)| *row);
        let (first, last): (Vec<_>, Vec<_>) = again.partition(|row| others_depend_on(*row));
        self.parts.splice(..0, last.into_iter().map(|row| row..row + 1));
        self.parts.extend(first.into_iter().map(|row| row..row + 1));
        self.suspects.extend(self.bad.drain(..));
    }
}

/// Opens when too many rows fail in the same way. Remembers what the batches before ended with.
#[derive(Default)]
pub(super) struct Breaker {
    /// The error of the latest bad row, and how many rows it has struck since the store last took one.
    streak: Option<(StoreError, usize)>,
}

impl Breaker {
    /// The store took a row.
    pub(super) fn close(&mut self) {
        self.streak = None;
    }

    /// Rows were laid aside.
    pub(super) fn count(&mut self, bad: &[(usize, StoreError)]) {
        for (_, error) in bad {
            let before = self.before(error);
            self.streak = Some((error.clone(), before + 1));
        }
    }

    /// The error that speaks against the store itself, where one does, and how many rows it has struck.
    pub(super) fn trips<'s>(&self, search: &'s Search) -> Option<(&'s StoreError, usize)> {
        let (error, here) = search.suspicion()?;
        let rows = self.before(error) + here;
        let half = search.rows >= TELLING_BATCH && here * 2 >= search.rows;
        (rows >= TOO_MANY || half).then_some((error, rows))
    }

    fn before(&self, error: &StoreError) -> usize {
        self.streak.as_ref().filter(|(streak, _)| streak == error).map_or(0, |(_, rows)| *rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Class;

    fn error(message: &str) -> StoreError {
        StoreError { class: Class::Data, message: message.into() }
    }

    /// Searches a batch in which these rows are bad. Says which were found, or after how many the breaker opened.
    fn search(rows: usize, bad: &[(usize, &str)], breaker: &mut Breaker) -> Result<Vec<usize>, usize> {
        let mut search = Search::new(rows);
        while let Some(part) = search.next() {
            match bad.iter().find(|(row, _)| part.contains(row)) {
                Some((_, why)) => search.refused(part, error(why)),
                None => breaker.close(),
            }
            if let Some((_, rows)) = breaker.trips(&search) {
                return Err(rows);
            }
        }
        let bad = search.into_bad();
        breaker.count(&bad);
        Ok(bad.into_iter().map(|(row, _)| row).collect())
    }

    #[test]
    fn exactly_the_bad_rows_are_found_in_their_order() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..200 {
            let rows = random.usize(1..600);
            let count = random.usize(0..5);
            let mut places = random.choose_multiple(0..rows, count);
            places.sort_unstable();
            let bad: Vec<_> = places.iter().map(|place| (*place, "bad")).collect();
            let expected = if rows >= 10 && places.len() * 2 >= rows { None } else { Some(places) };
            let found = search(rows, &bad, &mut Breaker::default());
            assert_eq!(found.ok(), expected, "{bad:?} of {rows}");
        }
    }

    #[test]
    fn twenty_rows_that_fail_in_the_same_way_speak_against_the_store() {
        let bad = |rows: usize, why: &'static str| (0..rows).map(|row| (row * 3, why)).collect::<Vec<_>>();
        let mut breaker = Breaker::default();
        assert_eq!(search(500, &bad(19, "too long"), &mut breaker), Ok((0..19).map(|row| row * 3).collect()));
        assert_eq!(search(500, &bad(20, "too long"), &mut breaker), Err(20));
        let two: Vec<_> = (0..38).map(|row| (row * 3, ["too long", "no such user"][row % 2])).collect();
        assert!(search(500, &two, &mut Breaker::default()).is_ok(), "two errors, 19 rows each");
    }

    #[test]
    fn no_row_is_bad_that_spoke_against_the_store_whenever_that_is_mended() {
        for mended_after in 0..80 {
            let (mut search, mut breaker) = (Search::new(100), Breaker::default());
            let mut attempts = None;
            while let Some(part) = search.next() {
                attempts = attempts.map(|attempts| attempts + 1);
                let mended = attempts.is_some_and(|attempts| attempts > mended_after);
                if !mended && part.clone().any(|row| row % 4 == 0) {
                    search.refused(part, error("too long"));
                } else {
                    breaker.close();
                    search.taken(&part);
                }
                if breaker.trips(&search).is_some() {
                    attempts = attempts.or(Some(0));
                    search.start_over(|row| row == 0);
                }
            }
            assert_eq!(search.into_bad(), [], "mended after {mended_after} attempts");
        }
    }

    #[test]
    fn half_a_batch_speaks_against_the_store_unless_it_is_too_small_to_tell() {
        let bad = |rows: usize| (0..rows).map(|row| (row, "null")).collect::<Vec<_>>();
        assert_eq!(search(12, &bad(6), &mut Breaker::default()), Err(6));
        assert!(search(12, &bad(5), &mut Breaker::default()).is_ok());
        assert!(search(9, &bad(9), &mut Breaker::default()).is_ok());
    }

    #[test]
    fn rows_that_come_alone_and_fail_alike_one_after_another_speak_against_the_store() {
        let mut breaker = Breaker::default();
        for _ in 0..19 {
            assert_eq!(search(1, &[(0, "null")], &mut breaker), Ok(vec![0]));
        }
        assert_eq!(search(1, &[(0, "null")], &mut breaker), Err(20));
        assert_eq!(search(1, &[(0, "other")], &mut breaker), Ok(vec![0]), "another error is another matter");
        assert_eq!(search(1, &[], &mut breaker), Ok(vec![]));
        assert_eq!(search(1, &[(0, "null")], &mut breaker), Ok(vec![0]), "the store took a row in between");
    }
}
