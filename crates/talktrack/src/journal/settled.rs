//! Settles what the store has answered. The records of a delivery are noted as stored, in ranges, and their rows stay
//! in place (see [`window`]). Records that the store will never take move from the journal to the dead letters.

use rusqlite::Transaction;
use talktrack_core::books::Books;
use talktrack_core::clock::{Clock as _, Seq, SystemClock, Timestamp};
use talktrack_core::error::NotDurable;
use talktrack_core::record::{DeadReason, Record, Verdict};

use crate::journal::bookkeeping::Bookkeeping as _;
use crate::journal::purge;
use crate::journal::purged::PurgedRecords;
use crate::journal::window::{self, WindowChange};
use crate::local::tables::dead_letters::{self, NewLetter};
use crate::local::tables::journal::{self, RawRow, RemovedRow, RowCounts};
use crate::local::tables::resend_window::{self, DeliveredRange};
use crate::local::tables::{directory, lanes, open_sessions};
use crate::writer::{LaneReport, Settled};

/// Enters the writer's answers. Returns the change to the window and the records that left the journal.
pub(super) fn settle(
    tx: &Transaction<'_>,
    answers: &[LaneReport],
    now: Timestamp,
    books: &mut Books,
) -> rusqlite::Result<(WindowChange, PurgedRecords)> {
    let mut change = WindowChange::default();
    let mut purged = PurgedRecords::default();
    for answer in answers {
        match answer {
            LaneReport::Settled { lane, delivery, records } => {
                let mut delivery = DeliveryRecorder {
                    tx,
                    lane: *lane,
                    number: *delivery,
                    now,
                    run: Vec::new(),
                    books,
                    change: &mut change,
                };
                records.iter().try_for_each(|settled| delivery.record_answer(settled, &mut purged))?;
                delivery.finish()?;
            }
            LaneReport::Rewind { lane, after } => window::rewind_lane(tx, *lane, *after, books, &mut change)?,
            LaneReport::Deleted(deletions) => {
                purge::apply_store_deletions(tx, deletions, books, &mut purged)?
            }
            LaneReport::Foreign => directory::give_up_node(tx)?,
            LaneReport::Wake => {}
        }
    }
    Ok((change, purged))
}

/// One delivery that is being entered in the table of ranges.
struct DeliveryRecorder<'a, 't> {
    tx: &'a Transaction<'t>,
    lane: usize,
    number: i64,
    now: Timestamp,
    /// Consecutive stored records.
    run: Vec<Seq>,
    books: &'a mut Books,
    change: &'a mut WindowChange,
}

impl DeliveryRecorder<'_, '_> {
    fn record_answer(&mut self, settled: &Settled, purged: &mut PurgedRecords) -> rusqlite::Result<()> {
        let Settled { seq, deletes, verdict, removed: rows, .. } = settled;
        match verdict {
            Verdict::Dead(DeadReason::Deleted) | Verdict::Refused(NotDurable::Deleted) => {
                self.close_run()?;
                return purge::apply_store_deletion(self.tx, *seq, self.books, purged);
            }
            Verdict::Dead(DeadReason::DeletedMessage) => {
                self.close_run()?;
                return purge::drop_message(self.tx, *seq, self.books, purged);
            }
            Verdict::Dead(DeadReason::DeletedForUser) => {
                self.close_run()?;
                return purge::drop_record(self.tx, *seq, self.books, purged);
            }
            _ => {}
        }
        if let Verdict::Reopened(reopened) = verdict {
            open_sessions::insert(self.tx, reopened.session_id)?;
        }
        let is_kept = dead_reason(verdict).is_none();
        match deletes {
            false if is_kept => {
                // A record that was parked is delivered after later ones.
                if self.run.last().is_some_and(|last| last > seq) {
                    self.close_run()?;
                }
                self.run.push(*seq);
                return Ok(());
            }
            true if let Verdict::Deleted(removed) = verdict => {
                self.close_run()?;
                if removed.sessions > 0 {
                    purge::confirm_deletion(self.tx, *seq, self.books, purged)?;
                }
                self.note_row(*seq, true)?;
                return rows
                    .as_ref()
                    .map_or(Ok(()), |rows| window::note_removed(self.tx, *seq, rows, purged));
            }
            true if matches!(verdict, Verdict::Edited(_)) => {
                self.close_run()?;
                self.note_row(*seq, true)?;
                return rows
                    .as_ref()
                    .map_or(Ok(()), |rows| window::note_removed(self.tx, *seq, rows, purged));
            }
            // The store found nothing to delete, so the deletion is not delivered again.
            _ => {}
        }
        self.close_run()?;
        if resend_window::has_range(self.tx, self.lane, *seq, *seq)? {
            return Ok(());
        }
        remove_from_journal(self.tx, *seq, verdict, self.books)
    }

    fn finish(mut self) -> rusqlite::Result<()> {
        self.close_run()?;
        lanes::note_delivery(self.tx, self.lane, self.number)
    }

    /// Notes a run as one range if exactly its rows exist between its first and its last, and none was noted before. If
    /// not, each row is noted by itself. An equal number of rows proves nothing: one may be missing and another added.
    fn close_run(&mut self) -> rusqlite::Result<()> {
        let run = std::mem::take(&mut self.run);
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        match window::count_run(self.tx, self.lane, &run)? {
            Some(found) => self.note_range(*first, *last, &found, false),
            None => run.iter().try_for_each(|seq| self.note_row(*seq, false)),
        }
    }

    fn note_row(&mut self, seq: Seq, deletes: bool) -> rusqlite::Result<()> {
        match window::count_run(self.tx, self.lane, &[seq])? {
            Some(found) => self.note_range(seq, seq, &found, deletes),
            // A deletion has removed the row since, or it was noted before.
            None => Ok(()),
        }
    }

    fn note_range(
        &mut self,
        first: Seq,
        last: Seq,
        found: &RowCounts,
        deletes: bool,
    ) -> rusqlite::Result<()> {
        let RowCounts { messages, bytes, .. } = *found;
        self.books.leave_journal(messages, 0, bytes);
        let lane = self.lane;
        let delivery = self.number;
        let stored_at = self.now;
        resend_window::insert(
            self.tx,
            &DeliveredRange { lane, first, last, delivery, stored_at, bytes, deletes },
        )?;
        self.change.added += if deletes { 0 } else { bytes };
        Ok(())
    }
}

/// Removes a record from the journal permanently. If it died, it becomes a dead letter.
pub(super) fn remove_from_journal(
    tx: &Transaction<'_>,
    seq: Seq,
    verdict: &Verdict,
    books: &mut Books,
) -> rusqlite::Result<()> {
    let mut dead = false;
    if let Some(reason) = dead_reason(verdict) {
        dead = move_to_dead_letters(tx, seq, &reason, matches!(verdict, Verdict::Refused(_)))?;
    }
    let Some(RemovedRow { is_message, bytes }) = journal::delete(tx, seq)? else { return Ok(()) };
    books.leave_journal(u64::from(is_message && !dead), u64::from(dead), bytes);
    if *verdict == Verdict::Dead(DeadReason::Corrupt) {
        // A damaged row may have another size than it had when it was written.
        books.journal_bytes = journal::sum_pending_bytes(tx)?;
    }
    Ok(())
}

fn dead_reason(verdict: &Verdict) -> Option<DeadReason> {
    match verdict {
        Verdict::Dead(DeadReason::DeletedMessage) | Verdict::Refused(NotDurable::Deleted) => None,
        Verdict::Dead(reason) => Some(reason.clone()),
        Verdict::Refused(NotDurable::UnknownSession) => Some(DeadReason::UnknownSession),
        Verdict::Refused(why) => Some(DeadReason::Data(why.to_string())),
        _ => None,
    }
}

/// Copies the row to the dead letters. Returns true if it is a message.
fn move_to_dead_letters(
    tx: &Transaction<'_>,
    seq: Seq,
    reason: &DeadReason,
    is_refused: bool,
) -> rusqlite::Result<bool> {
    let Some(RawRow { message_id, body }) = journal::find_raw(tx, seq)? else { return Ok(false) };
    let record: Option<Record> = serde_json::from_slice(&body).ok();
    // A refused deletion has no content to keep, and the session stays active.
    if is_refused && record.as_ref().is_some_and(Record::removes_rows) {
        return Ok(false);
    }
    let session_id = record.as_ref().map(|record| record.session_id().to_string());
    let body = String::from_utf8_lossy(&body);
    let letter = NewLetter {
        seq,
        session_id: session_id.as_deref(),
        message_id: message_id.as_deref(),
        reason,
        body: &body,
        died_at: SystemClock.now(),
    };
    dead_letters::insert(tx, &letter)?;
    Ok(message_id.is_some())
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::local::database;

    const LANE: usize = 2;

    /// Opens a journal with these rows, all of one lane and with bodies of ten bytes.
    fn journal(seqs: &[Seq]) -> (tempfile::TempDir, Connection, Books) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("talktrack.db");
        database::create_file(&file).unwrap();
        let connection = database::open_to_write(&file).unwrap();
        let insert = "INSERT INTO journal (seq, message_id, body, checksum, lane) VALUES (?1, ?1, '0123456789', 0, ?2)";
        for seq in seqs {
            connection.execute(insert, (seq, LANE)).unwrap();
        }
        let journal_bytes = 10 * seqs.len() as u64;
        (dir, connection, Books { journal_bytes, durable: seqs.len() as u64, ..Books::default() })
    }

    /// Enters what the store answered for these rows in one delivery.
    fn answered(
        connection: &mut Connection,
        books: &mut Books,
        number: i64,
        seqs: &[Seq],
        verdict: &Verdict,
    ) {
        let settled = |seq: &Seq| Settled {
            seq: *seq,
            deletes: false,
            is_message: true,
            verdict: verdict.clone(),
            removed: None,
        };
        let answer =
            LaneReport::Settled { lane: LANE, delivery: number, records: seqs.iter().map(settled).collect() };
        let tx = connection.transaction().unwrap();
        settle(&tx, &[answer], Timestamp::from_micros(1).unwrap(), books).unwrap();
        tx.commit().unwrap();
    }

    fn pending(connection: &Connection) -> Vec<Seq> {
        let mut rows = connection.prepare("SELECT seq FROM pending ORDER BY seq").unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap()
    }

    /// Records of a parked session may be handed over twice, because the journal reads them while the answer to the first
    /// delivery is still on its way.
    #[test]
    fn a_record_that_is_delivered_twice_counts_once_and_makes_nothing_pending_again() {
        let dead = Verdict::Dead(DeadReason::IdConflict);
        for again in [Verdict::AlreadyThere, dead] {
            let (_dir, mut connection, mut books) = journal(&[1, 2, 3, 4, 5, 6].map(Seq::new));
            answered(&mut connection, &mut books, 1, &[1, 2, 3, 4].map(Seq::new), &Verdict::Inserted);
            assert_eq!((books.stored, books.journal_bytes), (4, 20));
            answered(&mut connection, &mut books, 2, &[Seq::new(2)], &again);
            assert_eq!((books.stored, books.dead_lettered, books.journal_bytes), (4, 0, 20), "{again:?}");
            assert_eq!(pending(&connection), [5, 6].map(Seq::new), "{again:?}");
            answered(&mut connection, &mut books, 3, &[3, 4, 5].map(Seq::new), &Verdict::AlreadyThere);
            assert_eq!((books.stored, books.journal_bytes), (5, 10), "{again:?}");
            assert_eq!(pending(&connection), [6].map(Seq::new), "{again:?}");
        }
    }
}
