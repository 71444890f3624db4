//! Out of the journal: what the store has answered for leaves the table in the order in which it came, many rows at a time.
//! Lanes answer in turns, and a row here and there out of each page would have every page written several times.

use std::collections::VecDeque;

use rusqlite::{Transaction, params};

use crate::books::Books;
use crate::clock::Seq;
use crate::database::text_or_null;
use crate::error::NotDurable;
use crate::journal::{aside, erasure};
use crate::record::{Body, DeadReason, Record, Verdict};
use crate::store::sqlite;

/// Rows of the journal that the writer has, in their order, each with its answer once there is one.
#[derive(Debug, Default)]
pub(super) struct Outstanding(VecDeque<(Seq, Option<Verdict>)>);

/// Rows that follow each other and all have their answers. Between them may lie some that the writer does not have yet.
pub(super) type Run = Vec<(Seq, Verdict)>;

impl Outstanding {
    /// The writer has this row. Rows come in their order, but those of a lane that was passed by: they come later.
    pub(super) fn add(&mut self, seq: Seq, verdict: Option<Verdict>) {
        if self.0.back().is_none_or(|(last, _)| *last < seq) {
            self.0.push_back((seq, verdict));
        } else if let Err(place) = self.0.binary_search_by_key(&seq, |(seq, _)| *seq) {
            self.0.insert(place, (seq, verdict));
        }
    }

    /// The store has answered for this row.
    pub(super) fn answer(&mut self, seq: Seq, verdict: Verdict) {
        if let Ok(place) = self.0.binary_search_by_key(&seq, |(seq, _)| *seq) {
            self.0[place].1 = Some(verdict);
        }
    }

    /// Lets go of rows that were taken out of the journal: their answers no longer count.
    pub(super) fn forget(&mut self, gone: &[Seq]) {
        if !gone.is_empty() {
            self.0.retain(|(seq, _)| gone.binary_search(seq).is_err());
        }
    }

    /// Takes the rows from the first one on that have answers, so many at most.
    pub(super) fn take_first(&mut self, most: usize) -> Vec<Run> {
        let open = self.0.iter().take(most).take_while(|(_, verdict)| verdict.is_some()).count();
        let run: Run = self.0.drain(..open).filter_map(|(seq, verdict)| Some((seq, verdict?))).collect();
        if run.is_empty() { Vec::new() } else { vec![run] }
    }

    /// Takes every row that has an answer: one that has none may not get it for a long time.
    pub(super) fn take_all(&mut self) -> Vec<Run> {
        let (mut runs, mut open, mut run) = (Vec::new(), VecDeque::new(), Run::new());
        for (seq, verdict) in self.0.drain(..) {
            match verdict {
                Some(verdict) => run.push((seq, verdict)),
                None => {
                    runs.push(std::mem::take(&mut run));
                    open.push_back((seq, None));
                }
            }
        }
        runs.push(run);
        self.0 = open;
        runs.retain(|run| !run.is_empty());
        runs
    }
}

/// Takes out of the journal what the store has answered for, and enters it in the books.
pub(super) fn settle(tx: &Transaction<'_>, runs: &[Run], books: &mut Books) -> rusqlite::Result<()> {
    for run in runs {
        let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) else { continue };
        let (mut dead, mut let_go) = (0, 0);
        for (seq, verdict) in run {
            if is_of_a_deleted_session(verdict) {
                let_go += u64::from(erasure::learn(tx, *seq, books)?);
            } else if let Some(reason) = dead_reason(verdict) {
                let is_refused = matches!(verdict, Verdict::Refused(_));
                dead += u64::from(lay_aside(tx, *seq, &reason, is_refused)?);
            }
        }
        let figures = figures(tx, *first, *last)?;
        let (messages, bytes) = if figures.rows == run.len() {
            remove(tx, *first, *last)?;
            (figures.messages, figures.bytes)
        } else {
            remove_one_by_one(tx, run)?
        };
        books.let_go(let_go, 0);
        books.leave_journal(messages.saturating_sub(dead + let_go), dead, bytes);
    }
    let empty = "SELECT NOT EXISTS (SELECT 1 FROM journal)";
    if !runs.is_empty() && tx.prepare_cached(empty)?.query_row([], |row| row.get(0))? {
        // Rows that rot may have another size than they had.
        books.journal_bytes = 0;
    }
    Ok(())
}

/// What lies in a stretch of the journal.
struct Figures {
    rows: usize,
    messages: u64,
    bytes: u64,
}

fn figures(tx: &Transaction<'_>, first: Seq, last: Seq) -> rusqlite::Result<Figures> {
    let count = "SELECT count(*), count(message_id), coalesce(sum(octet_length(body)), 0) FROM journal \
                 WHERE seq BETWEEN ?1 AND ?2";
    tx.prepare_cached(count)?.query_row(params![first, last], |row| {
        Ok(Figures { rows: row.get(0)?, messages: row.get(1)?, bytes: row.get(2)? })
    })
}

fn remove(tx: &Transaction<'_>, first: Seq, last: Seq) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM journal WHERE seq BETWEEN ?1 AND ?2")?
        .execute(params![first, last])
        .map(drop)
}

/// Around rows that the writer does not have: a lane that waits is passed by. Says how many messages and bytes they had.
fn remove_one_by_one(tx: &Transaction<'_>, run: &Run) -> rusqlite::Result<(u64, u64)> {
    let mut removed = (0, 0);
    for (seq, _) in run {
        let one = figures(tx, *seq, *seq)?;
        remove(tx, *seq, *seq)?;
        removed = (removed.0 + one.messages, removed.1 + one.bytes);
    }
    Ok(removed)
}

fn is_of_a_deleted_session(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Dead(DeadReason::Deleted) | Verdict::Refused(NotDurable::Deleted))
}

fn dead_reason(verdict: &Verdict) -> Option<DeadReason> {
    match verdict {
        Verdict::Dead(reason) => Some(reason.clone()),
        Verdict::Refused(why) => Some(DeadReason::Data(why.to_string())),
        _ => None,
    }
}

/// Copies the row to the dead letters. Says whether it is a message.
fn lay_aside(
    tx: &Transaction<'_>,
    seq: Seq,
    reason: &DeadReason,
    is_refused: bool,
) -> rusqlite::Result<bool> {
    let mut read = tx.prepare_cached("SELECT message_id, body FROM journal WHERE seq = ?1")?;
    let (message_id, body): (Option<String>, Vec<u8>) =
        read.query_row([seq], |row| Ok((text_or_null(row, 0)?, row.get_ref(1)?.as_bytes()?.to_vec())))?;
    let record: Option<Record> = serde_json::from_slice(&body).ok();
    // A deletion that the store refuses has nothing in it that would have to be kept, and the session goes on.
    if is_refused && let Some(Record { body: Body::Delete(delete), .. }) = &record {
        if delete.is_for_good() {
            sqlite::take_back_deleted(tx, delete.session_id)?;
        }
        return Ok(false);
    }
    let session_id = record.as_ref().map(|record| record.session_id().to_string());
    let body = String::from_utf8_lossy(&body);
    aside::lay_aside(tx, seq, session_id.as_deref(), message_id.as_deref(), reason, &body)?;
    Ok(message_id.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outstanding(answered: &[Seq]) -> Outstanding {
        let mut outstanding = Outstanding::default();
        (1..=6).for_each(|seq| outstanding.add(seq, None));
        answered.iter().for_each(|seq| outstanding.answer(*seq, Verdict::Inserted));
        outstanding
    }

    fn seqs(runs: &[Run]) -> Vec<Vec<Seq>> {
        runs.iter().map(|run| run.iter().map(|(seq, _)| *seq).collect()).collect()
    }

    #[test]
    fn rows_wait_for_those_before_them() {
        let mut rows = outstanding(&[2, 3]);
        assert!(rows.take_first(9).is_empty());
        rows.answer(1, Verdict::Inserted);
        assert_eq!(seqs(&rows.take_first(2)), [[1, 2]]);
        assert_eq!(seqs(&rows.take_first(9)), [[3]]);
        assert!(rows.take_first(9).is_empty());
        [6, 5, 4].into_iter().for_each(|seq| rows.answer(seq, Verdict::Inserted));
        assert_eq!(seqs(&rows.take_first(9)), [[4, 5, 6]]);
    }

    #[test]
    fn rows_of_a_lane_that_was_passed_by_come_to_their_place_and_only_once() {
        let mut rows = Outstanding::default();
        [1, 4, 5, 2, 4, 3].into_iter().for_each(|seq| rows.add(seq, Some(Verdict::Inserted)));
        assert_eq!(seqs(&rows.take_first(9)), [[1, 2, 3, 4, 5]]);
    }

    #[test]
    fn all_that_have_answers_can_be_taken_in_runs_and_the_others_stay_in_order() {
        let mut rows = outstanding(&[1, 3, 4, 6]);
        assert_eq!(seqs(&rows.take_all()), [vec![1], vec![3, 4], vec![6]]);
        rows.answer(5, Verdict::Inserted);
        assert!(rows.take_first(9).is_empty());
        rows.answer(2, Verdict::Inserted);
        assert_eq!(seqs(&rows.take_first(9)), [[2, 5]]);
    }

    #[test]
    fn rows_that_the_writer_does_not_have_stay_between_those_that_are_settled() {
        let mut connection = rusqlite::Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE journal (seq integer PRIMARY KEY, message_id text, body text NOT NULL)",
            )
            .unwrap();
        for seq in 1..=6 {
            let row = params![seq, format!("message {seq}")];
            connection.execute("INSERT INTO journal VALUES (?1, ?2, 'body')", row).unwrap();
        }
        let mut books = Books { durable: 6, journal_bytes: 24, ..Books::default() };
        let run = [1, 2, 4, 6].map(|seq| (seq, Verdict::Inserted)).to_vec();
        let tx = connection.transaction().unwrap();
        settle(&tx, &[run], &mut books).unwrap();
        tx.commit().unwrap();
        let left = connection
            .prepare("SELECT seq FROM journal")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect::<Vec<Seq>>();
        assert_eq!((left, books.stored, books.journal_bytes), (vec![3, 5], 4, 8));
    }
}
