//! The search for rows that the store does not take: a batch that it refuses for its data is cut in halves until the bad row is
//! alone. A row that fails twice alone is bad, unless the breaker says that it is the store.
//!
//! Each bad row costs the store several writes. If a batch has many, the search sets the other rows of the same users aside,
//! untried, so that the rows of all other users need not wait for them.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use uuid::Uuid;

use crate::record::{Body, Record};
use crate::store::StoreError;
use crate::writer::parking::Kind;

/// So many bad rows are searched for in one batch before the rows of their users are set aside.
const MOST_BAD: usize = 20;

/// What is left to try of one batch, and what was found bad in it. Rows are named by their places in the batch.
pub(super) struct Search {
    rows: usize,
    /// Parts to try, the next one last.
    parts: Vec<Range<usize>>,
    failed_once: Option<usize>,
    bad: Vec<Bad>,
    /// How many of them were refused themselves.
    refused: usize,
}

/// A row that the store refused.
pub(super) struct Bad {
    pub(super) row: usize,
    pub(super) error: StoreError,
    /// The rows among which it was refused; of a row that depends on another, those of the other.
    pub(super) kind: Kind,
}

impl Search {
    pub(super) fn new(rows: usize) -> Self {
        #[expect(clippy::single_range_in_vec_init, reason = "one part, from the first row to the last")]
        let parts = vec![0..rows];
        Self { rows, parts, failed_once: None, bad: Vec::new(), refused: 0 }
    }

    /// The next part to try.
    pub(super) fn next(&mut self) -> Option<Range<usize>> {
        self.parts.pop()
    }

    /// The attempt told nothing about the rows.
    pub(super) fn again(&mut self, part: Range<usize>) {
        self.parts.push(part);
    }

    /// The store refused the part for its data. Says whether a bad row was found, and too many of them are known by now to go
    /// on like this: see [`Self::set_aside`].
    pub(super) fn refused(
        &mut self,
        part: Range<usize>,
        error: StoreError,
        kind: impl Fn(usize) -> Kind,
    ) -> bool {
        let (first, rows) = (part.start, part.len());
        if rows > 1 {
            let middle = first + rows / 2;
            self.parts.extend([middle..part.end, part.start..middle]);
        } else if self.failed_once.replace(first) != Some(first) {
            self.parts.push(part);
        } else {
            self.bad.push(Bad { row: first, error, kind: kind(first) });
            self.refused += 1;
            return self.refused >= MOST_BAD;
        }
        false
    }

    /// Takes out of the batch what is still to be tried of the users who have bad rows, if it is of the same kind; and what
    /// depends on it. The last of each user stays if it can be tried without the others: it tells whether the store takes
    /// anything of this user.
    pub(super) fn set_aside(
        &mut self,
        batch: &mut Vec<Record>,
        user_of: impl Fn(&Record) -> Uuid,
    ) -> Vec<(Record, Kind)> {
        let Some(next) = self.parts.last().map(|part| part.start) else { return Vec::new() };
        let failing: HashSet<(Uuid, Kind)> =
            self.bad.iter().map(|bad| (user_of(&batch[bad.row]), bad.kind)).collect();
        let key = |record: &Record| (user_of(record), Kind::of(record));
        let last: HashMap<(Uuid, Kind), i64> = batch[next..]
            .iter()
            .filter(|record| failing.contains(&key(record)))
            .map(|record| (key(record), record.seq))
            .collect();
        // Later records of a session wait behind the earlier ones; a message may overtake other messages.
        let mut sessions: HashMap<Uuid, Kind> = HashMap::new();
        let mut taken = Vec::new();
        for record in batch.split_off(next) {
            let key = key(&record);
            let waits_for = sessions.get(&record.session_id()).copied();
            // A deletion comes from the journal once: it must not go back there.
            if record.is_deletion() {
                batch.push(record);
                continue;
            }
            let stands_alone = match &record.body {
                Body::Start(_) => waits_for.is_none(),
                _ => record.message().is_some() && waits_for != Some(Kind::Session),
            };
            let stays = stands_alone && last.get(&key) == Some(&record.seq);
            match waits_for.or(failing.contains(&key).then_some(key.1)) {
                Some(kind) if !stays => {
                    sessions.entry(record.session_id()).or_insert(kind);
                    taken.push((record, kind));
                }
                _ => batch.push(record),
            }
        }
        self.rows = batch.len();
        self.parts.clear();
        if next < batch.len() {
            self.parts.push(next..batch.len());
        }
        taken
    }

    /// Whether rows may still be added: the whole was tried and not taken, for reasons that are not the rows'.
    pub(super) fn may_grow(&self) -> bool {
        self.parts.iter().any(|part| part.len() == self.rows) && self.failed_once.is_none()
    }

    /// The error of the first bad row that is meant.
    pub(super) fn error_of(&self, meant: impl Fn(usize) -> bool) -> Option<StoreError> {
        self.bad.iter().find(|bad| meant(bad.row)).map(|bad| bad.error.clone())
    }

    /// This row depends on a start that failed with this error.
    pub(super) fn hold(&mut self, row: usize, error: StoreError) {
        self.bad.push(Bad { row, error, kind: Kind::Session });
    }

    /// The rows that were refused.
    pub(super) fn into_bad(self) -> Vec<Bad> {
        self.bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Class;

    fn error(message: &str) -> StoreError {
        StoreError::new(Class::Data, message)
    }

    /// Searches a batch in which these rows are bad, and says which were found.
    fn search(rows: usize, bad: &[usize]) -> Vec<usize> {
        let mut search = Search::new(rows);
        while let Some(part) = search.next() {
            if bad.iter().any(|row| part.contains(row)) {
                let _ = search.refused(part, error("bad"), |_| Kind::Message);
            }
        }
        search.into_bad().into_iter().map(|bad| bad.row).collect()
    }

    #[test]
    fn exactly_the_bad_rows_are_found_in_their_order() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..200 {
            let rows = random.usize(1..600);
            let count = random.usize(0..5);
            let mut places = random.choose_multiple(0..rows, count);
            places.sort_unstable();
            assert_eq!(search(rows, &places), places, "of {rows}");
        }
    }
}
