//! Turns a file that was the outbox of a remote store into the store itself.

use rusqlite::Connection;
use talktrack_core::books::Books;
use talktrack_core::clock::Seq;
use talktrack_core::record::{Body, DeadReason, DeletionCounts, Record, SessionDelete, Verdict};

use crate::event_log;
use crate::journal::bookkeeping::Bookkeeping as _;
use crate::journal::purge::{self, Scope};
use crate::journal::{settled, window};
use crate::local::tables::{books, journal};
use crate::store::sqlite;

/// The maximum number of records in one transaction.
const BATCH_RECORDS: usize = 1_000;

/// Moves the backlog of the former outbox into the file's own tables, in the order of acceptance. Returns the number of
/// records.
pub(super) fn adopt_outbox(connection: &mut Connection, books: &mut Books) -> rusqlite::Result<usize> {
    let mut brought = 0;
    let tx = connection.transaction()?;
    window::drop_window(&tx)?;
    tx.commit()?;
    loop {
        match adopt_batch(connection, books)? {
            0 => return Ok(brought),
            more => brought += more,
        }
    }
}

fn adopt_batch(connection: &mut Connection, books: &mut Books) -> rusqlite::Result<usize> {
    let tx = connection.transaction()?;
    let waiting = journal::read_oldest(&tx, BATCH_RECORDS)?;
    let records = waiting.iter().filter_map(|(_, record)| record.as_ref());
    let mut verdicts = sqlite::write_records(&tx, records)?.verdicts.into_iter();
    let mut judge = |record: &Option<Record>| record.as_ref().and_then(|_| verdicts.next());
    let settled: Vec<(Seq, Verdict)> = waiting
        .iter()
        .map(|(seq, record)| (*seq, judge(record).unwrap_or(Verdict::Dead(DeadReason::Corrupt))))
        .collect();
    let removed = find_deletions(&waiting, &settled);
    let inserted = settled
        .iter()
        .filter(|(_, verdict)| matches!(verdict, Verdict::Inserted | Verdict::Reopened(_)))
        .count();
    let mut after = Books { inserted: books.inserted + inserted as u64, ..*books };
    settled
        .iter()
        .try_for_each(|(seq, verdict)| settled::remove_from_journal(&tx, *seq, verdict, &mut after))?;
    for (delete, removed) in removed {
        after.deleted += removed.messages;
        purge::purge_dead_letters(&tx, &Scope::for_deletion(&delete, &removed), &mut after)?;
    }
    for (_, verdict) in &settled {
        if let Verdict::Edited(edited) = verdict {
            after.count_edit(edited);
        }
    }
    let (_, last_seq) = books::read(&tx)?;
    books::write(&tx, &after, last_seq)?;
    tx.commit()?;
    *books = after;
    for ((_, record), (_, verdict)) in waiting.iter().zip(&settled) {
        record.iter().for_each(|record| event_log::log_verdict(record, verdict));
    }
    Ok(settled.len())
}

/// Returns the deletions among these records, each with what it removed.
fn find_deletions(
    waiting: &[(Seq, Option<Record>)],
    settled: &[(Seq, Verdict)],
) -> Vec<(SessionDelete, DeletionCounts)> {
    let removed = |((_, record), (_, verdict)): (&(Seq, Option<Record>), &(Seq, Verdict))| match (
        &record.as_ref()?.body,
        verdict,
    ) {
        (Body::Delete(delete), Verdict::Deleted(removed)) => Some((delete.clone(), *removed)),
        _ => None,
    };
    waiting.iter().zip(settled).filter_map(removed).collect()
}
