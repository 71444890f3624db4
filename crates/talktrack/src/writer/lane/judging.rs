//! Judges the rows that the store refused: they become dead letters, or are parked until it is clear whether they are
//! bad.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::record::{Body, DeadReason, Record, Verdict};

use crate::writer::bisect::{BadRow, PoisonSearch};
use crate::writer::lane::Lane;
use crate::writer::parking::{ParkReason, RowKind};

/// How long the rows of a user with a bad row are tried after those of all others.
const SUSPECT: Duration = Duration::from_secs(60);

/// Users who recently had a bad row. Their next rows may be bad too, and must not hold up those of other users.
#[derive(Default)]
pub(in crate::writer) struct Suspects(HashMap<Option<UserId>, Instant>);

impl Suspects {
    fn insert(&mut self, user: Option<UserId>) {
        self.0.insert(user, Instant::now());
    }

    fn forget_old(&mut self) {
        self.0.retain(|_, since| since.elapsed() < SUSPECT);
    }

    pub(super) fn contains(&self, record: &Record) -> bool {
        !self.0.is_empty() && self.0.contains_key(&user_of(record))
    }
}

impl Lane {
    /// Starts the search of this batch.
    pub(super) fn start_search(&mut self, batch: &mut Vec<Record>) -> PoisonSearch {
        self.suspects.forget_old();
        PoisonSearch::new(batch, |record| self.suspects.contains(record))
    }

    /// Moves the rows of other users forward, because this row is bad. Returns the rows that are set aside if too many
    /// are bad or other users wait.
    pub(super) fn handle_bad_row(
        &mut self,
        bad: usize,
        batch: &mut Vec<Record>,
        search: &mut PoisonSearch,
    ) -> Vec<(Record, RowKind)> {
        self.suspects.insert(user_of(&batch[bad]));
        search.move_suspects_last(batch, |record| self.suspects.contains(record));
        if search.has_many_bad() || self.others_wait() {
            search.set_aside(batch, user_of)
        } else {
            Vec::new()
        }
    }

    /// Returns the sessions in this batch whose rows have waited long enough: a refusal is final for them.
    pub(super) fn last_attempts(&self, batch: &[Record]) -> HashSet<SessionId> {
        self.breaker.note_tried(batch.iter().filter_map(Record::owner));
        if self.parking.is_empty() {
            return HashSet::new();
        }
        let sessions = batch.iter().map(Record::session_id);
        sessions.filter(|session_id| self.parking.is_last_attempt(*session_id)).collect()
    }

    /// Judges rows that the store refused. They are bad if the store had accepted another row of their kind in the same
    /// batch, or if this was their last attempt. If it accepted one only after them, their next attempt is the last.
    /// Otherwise they wait. A deletion cannot wait, because nothing would hand it over again.
    pub(super) fn judge_refused(
        &self,
        batch: &[Record],
        bad: Vec<BadRow>,
        accepted: &HashSet<RowKind>,
        last: &HashSet<SessionId>,
    ) {
        let is_dead = |bad: &BadRow| {
            let record = &batch[bad.row];
            bad.is_certain || record.is_deletion() || last.contains(&record.session_id())
        };
        let (dead, open): (Vec<BadRow>, Vec<BadRow>) = bad.into_iter().partition(is_dead);
        let (again, open): (Vec<BadRow>, Vec<BadRow>) =
            open.into_iter().partition(|bad| accepted.contains(&bad.kind));
        for kind in [RowKind::Session, RowKind::Message] {
            self.park_rows(batch, kind, open.iter().filter(|bad| bad.kind == kind));
        }
        self.return_records(again.iter().map(|bad| (&batch[bad.row], bad.kind)), accepted);
        for BadRow { row, error, .. } in dead {
            if let Body::Start(start) = &batch[row].body {
                self.parking.note_bad_start(start.session_id, &error.message);
            }
            self.report_verdicts([(&batch[row], Verdict::Dead(DeadReason::Data(error.message)))].into_iter());
        }
    }

    /// Parks these rows of one kind, and tells the breaker whose they are.
    fn park_rows<'b>(&self, batch: &[Record], kind: RowKind, bad: impl Iterator<Item = &'b BadRow> + Clone) {
        if bad.clone().next().is_none() {
            return;
        }
        let waiting = bad.clone().map(|bad| &batch[bad.row]);
        waiting.clone().for_each(|record| _ = self.parking.park(record, ParkReason::Refused(kind)));
        self.breaker
            .note_refused(kind, bad.map(|bad| (user_of(&batch[bad.row]), bad.error.message.as_str())));
        self.report_verdicts(waiting.map(|record| (record, Verdict::Waits)));
    }

    /// Returns records to the journal, because they were set aside untried or get one more attempt.
    pub(super) fn return_records<'r>(
        &self,
        records: impl Iterator<Item = (&'r Record, RowKind)> + Clone,
        accepted: &HashSet<RowKind>,
    ) {
        if records.clone().next().is_none() {
            return;
        }
        for (record, kind) in records.clone() {
            self.parking.put_back(record, kind, accepted.contains(&kind));
        }
        self.report_verdicts(records.map(|(record, _)| (record, Verdict::Waits)));
    }
}

/// Returns the user that the record names. All records without a user count as one user.
fn user_of(record: &Record) -> Option<UserId> {
    record.owner().cloned()
}
