//! The search for poison records by bisection. A batch that the store refuses because of its data is halved until the
//! bad row is alone. A row that fails twice alone is bad, unless the breaker finds that the store is the cause.
//!
//! Each bad row costs the store several writes. Once a user has a bad row, the rows of all other users are tried first.
//! If a batch has many bad rows, or if other users wait behind it, the search sets the remaining rows of the same users
//! aside untried.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use talktrack_core::ids::{SessionId, UserId};

use talktrack_core::clock::Seq;
use talktrack_core::record::{Body, Record};

use crate::store::StoreError;
use crate::writer::parking::RowKind;

/// After this many bad rows in one batch, the remaining rows of their users are set aside.
const MOST_BAD: usize = 20;

/// What is left to try of one batch, and the bad rows that were found in it. Rows are named by their index in the
/// batch.
pub(super) struct PoisonSearch {
    rows: usize,
    /// The parts to try. The next one is last.
    parts: Vec<Range<usize>>,
    failed_once: Option<usize>,
    bad: Vec<BadRow>,
    /// How many of the bad rows were refused themselves.
    refused: usize,
    /// The kinds of which the store has accepted a row of this batch.
    accepted: HashSet<RowKind>,
}

/// A row that the store refused, or that depends on one.
pub(super) struct BadRow {
    pub(super) row: usize,
    pub(super) error: StoreError,
    /// The kind of rows among which it was refused. For a row that depends on another, the kind of that other row.
    pub(super) kind: RowKind,
    /// The store had accepted a row of this kind before it refused this one. If it accepted one only later, the fault may
    /// have been the store's, and may have been repaired in between.
    pub(super) is_certain: bool,
}

impl PoisonSearch {
    /// Creates the search. The rows of suspect users, who are known to send bad rows, are tried after all others.
    pub(super) fn new(batch: &mut Vec<Record>, is_suspect: impl Fn(&Record) -> bool) -> Self {
        #[expect(clippy::single_range_in_vec_init, reason = "one part, from the first row to the last")]
        let parts = vec![0..batch.len()];
        let mut search = Self {
            rows: batch.len(),
            parts,
            failed_once: None,
            bad: Vec::new(),
            refused: 0,
            accepted: HashSet::new(),
        };
        search.move_suspects_last(batch, is_suspect);
        search
    }

    /// Returns the next part to try.
    pub(super) fn next(&mut self) -> Option<Range<usize>> {
        self.parts.pop()
    }

    /// Tries the part again, because the attempt said nothing about the rows.
    pub(super) fn retry_part(&mut self, part: Range<usize>) {
        self.parts.push(part);
    }

    /// Handles a part that the store refused because of its data. Returns the row if it was alone and is bad.
    pub(super) fn split_refused(
        &mut self,
        part: Range<usize>,
        error: StoreError,
        kind: impl Fn(usize) -> RowKind,
    ) -> Option<usize> {
        let first = part.start;
        let rows = part.len();
        if rows > 1 {
            let middle = first + rows / 2;
            self.parts.extend([middle..part.end, part.start..middle]);
        } else if self.failed_once.replace(first) != Some(first) {
            self.parts.push(part);
        } else {
            let kind = kind(first);
            let is_certain = self.accepted.contains(&kind);
            self.bad.push(BadRow { row: first, error, kind, is_certain });
            self.refused += 1;
            return Some(first);
        }
        None
    }

    /// Notes that the store has accepted a row of this kind. Returns true if it is the first.
    pub(super) fn note_accepted(&mut self, kind: RowKind) -> bool {
        self.accepted.insert(kind)
    }

    /// True if so many rows are bad that the remaining ones should be set aside: see [`Self::set_aside`].
    pub(super) fn has_many_bad(&self) -> bool {
        self.refused >= MOST_BAD
    }

    /// Moves the rows of these users behind those of all others. A session's rows stay together and in order.
    pub(super) fn move_suspects_last(
        &mut self,
        batch: &mut Vec<Record>,
        is_suspect: impl Fn(&Record) -> bool,
    ) {
        let Some(next) = self.parts.last().map(|part| part.start) else { return };
        let suspect = batch[next..].iter().filter(|record| is_suspect(record));
        let sessions: HashSet<SessionId> = suspect.map(Record::session_id).collect();
        let is_last = |record: &Record| sessions.contains(&record.session_id());
        if batch[next..].is_sorted_by_key(is_last) {
            return;
        }
        let (last, first): (Vec<_>, Vec<_>) = batch.split_off(next).into_iter().partition(is_last);
        batch.extend(first);
        let middle = batch.len();
        batch.extend(last);
        self.parts = vec![middle..batch.len(), next..middle];
    }

    /// Removes from the batch the untried rows of users with bad rows of the same kind, and the rows that depend on
    /// them. The last row of each user stays if it can be tried without the others: it shows whether the store accepts
    /// any row of this user.
    pub(super) fn set_aside(
        &mut self,
        batch: &mut Vec<Record>,
        user_of: impl Fn(&Record) -> Option<UserId>,
    ) -> Vec<(Record, RowKind)> {
        let Some(next) = self.parts.last().map(|part| part.start) else { return Vec::new() };
        let failing: HashSet<(Option<UserId>, RowKind)> =
            self.bad.iter().map(|bad| (user_of(&batch[bad.row]), bad.kind)).collect();
        let key = |record: &Record| (user_of(record), RowKind::new(record));
        let last: HashMap<(Option<UserId>, RowKind), Seq> = batch[next..]
            .iter()
            .filter(|record| failing.contains(&key(record)))
            .map(|record| (key(record), record.seq))
            .collect();
        // Later records of a session wait behind the earlier ones. A message may overtake other messages.
        let mut sessions: HashMap<SessionId, RowKind> = HashMap::new();
        let mut taken = Vec::new();
        for record in batch.split_off(next) {
            let key = key(&record);
            let waits_for = sessions.get(&record.session_id()).copied();
            // The journal hands over a deletion only once, so it must not go back there.
            if record.is_deletion() {
                batch.push(record);
                continue;
            }
            let stands_alone = match &record.body {
                Body::Start(_) => waits_for.is_none(),
                _ => record.message().is_some() && waits_for != Some(RowKind::Session),
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

    /// True if rows may still be added: the whole batch was tried and not accepted, for reasons other than its rows.
    pub(super) fn may_grow(&self) -> bool {
        self.parts.iter().any(|part| part.len() == self.rows) && self.failed_once.is_none()
    }

    /// Marks this row as bad if it depends on a start for which `is_start` is true and which is bad. Returns true if so.
    pub(super) fn mark_dependent(&mut self, row: usize, is_start: impl Fn(usize) -> bool) -> bool {
        let Some(start) = self.bad.iter().find(|bad| is_start(bad.row)) else { return false };
        let error = start.error.clone();
        let is_certain = start.is_certain;
        self.bad.push(BadRow { row, error, kind: RowKind::Session, is_certain });
        true
    }

    /// Returns the bad rows, and the kinds of which the store has accepted a row.
    pub(super) fn into_parts(self) -> (Vec<BadRow>, HashSet<RowKind>) {
        (self.bad, self.accepted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ErrorClass;
    use talktrack_core::ids::MessageId;
    use talktrack_core::message::{Message, Role};
    use talktrack_core::record::StampedMessage;

    fn error(message: &str) -> StoreError {
        StoreError::new(ErrorClass::Data, message)
    }

    /// Creates a message of this user, as the row with this number.
    fn row(number: usize, user: u128) -> Record {
        let stamped = StampedMessage {
            id: MessageId::from_u128(number as u128),
            owner: Some(UserId::from_u128(user)),
            by_user: false,
            session_started_at: None,
            created_at: "2026-02-03T04:05:06Z".parse().unwrap(),
            takes_back: None,
            message: Message::new(SessionId::from_u128(0xa000 + user), Role::User, "there"),
        };
        Record::new(Seq::new(number.try_into().unwrap()), Body::Message(stamped))
    }

    /// Searches a batch of these users' rows, of which `bad` are bad. Returns the rows that were found, and the rows of
    /// each part that was tried.
    fn run_search(users: &[u128], bad: &[usize]) -> (Vec<usize>, Vec<Vec<usize>>) {
        let number = |record: &Record| usize::try_from(record.seq.get()).unwrap();
        let mut batch: Vec<Record> = users.iter().enumerate().map(|(at, user)| row(at, *user)).collect();
        let mut suspects = HashSet::new();
        let mut search = PoisonSearch::new(&mut batch, |_| false);
        let mut tried = Vec::new();
        while let Some(part) = search.next() {
            let rows: Vec<usize> = batch[part.clone()].iter().map(number).collect();
            if rows.iter().any(|row| bad.contains(row))
                && let Some(found) = search.split_refused(part, error("bad"), |_| RowKind::Message)
            {
                suspects.insert(batch[found].owner().cloned());
                search.move_suspects_last(&mut batch, |record| suspects.contains(&record.owner().cloned()));
            }
            tried.push(rows);
        }
        (search.into_parts().0.into_iter().map(|bad| number(&batch[bad.row])).collect(), tried)
    }

    #[test]
    fn exactly_the_bad_rows_are_found_in_their_order() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..200 {
            let rows = random.usize(1..600);
            let count = random.usize(0..5);
            let mut places = random.choose_multiple(0..rows, count);
            places.sort_unstable();
            assert_eq!(run_search(&vec![1; rows], &places).0, places, "of {rows}");
            let users: Vec<u128> = (0..rows).map(|_| random.u128(0..4)).collect();
            let mut found = run_search(&users, &places).0;
            found.sort_unstable();
            assert_eq!(found, places, "of {users:?}");
        }
    }

    /// Half of the rows are bad, all of one user. As soon as the first is found, all rows of the others are tried in
    /// one part.
    #[test]
    fn the_rows_of_others_are_tried_once_a_user_has_a_bad_one() {
        let users: Vec<u128> = (0..256).map(|number| number % 2).collect();
        let bad: Vec<usize> = (0..256).filter(|number| number % 2 == 1).collect();
        let (found, tried) = run_search(&users, &bad);
        assert_eq!(found, bad);
        let others: Vec<usize> = (2..256).filter(|number| number % 2 == 0).collect();
        let at = tried.iter().position(|rows| *rows == others).unwrap();
        assert!(at <= 12, "{at} attempts before it");
    }
}
