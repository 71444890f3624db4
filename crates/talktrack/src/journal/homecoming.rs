//! The way home: a file that was the outbox of a remote store becomes the store itself.

use rusqlite::{Connection, Transaction};
use uuid::Uuid;

use crate::books::Books;
use crate::clock::Seq;
use crate::journal::settled::{self, Run};
use crate::journal::{aside, erasure};
use crate::lines;
use crate::record::{DeadReason, Record, Removed, Verdict};
use crate::store::sqlite::{self, readable};

/// Records that one transaction brings home.
const HOMECOMING: usize = 1_000;

/// The file was the outbox of a remote store and is the store itself now: what waits in it goes into its own tables, in the
/// order of acceptance. Says how many records that were.
pub(super) fn bring_home(connection: &mut Connection, books: &mut Books) -> rusqlite::Result<usize> {
    let mut brought = 0;
    loop {
        match bring_some_home(connection, books)? {
            0 => return Ok(brought),
            more => brought += more,
        }
    }
}

fn bring_some_home(connection: &mut Connection, books: &mut Books) -> rusqlite::Result<usize> {
    let tx = connection.transaction()?;
    let waiting = oldest(&tx)?;
    let records = waiting.iter().filter_map(|(_, record)| record.as_ref());
    let mut verdicts = sqlite::apply(&tx, records)?.into_iter();
    let mut judge = |record: &Option<Record>| record.as_ref().and_then(|_| verdicts.next());
    let settled: Run = waiting
        .iter()
        .map(|(seq, record)| (*seq, judge(record).unwrap_or(Verdict::Dead(DeadReason::Corrupt))))
        .collect();
    let removed = deletions(&waiting, &settled);
    let inserted = settled.iter().filter(|(_, verdict)| *verdict == Verdict::Inserted).count();
    let mut after = Books { inserted: books.inserted + inserted as u64, ..*books };
    settled::settle(&tx, std::slice::from_ref(&settled), &mut after)?;
    for (session_id, removed) in removed {
        after.deleted += removed.messages;
        erasure::take_letters(&tx, session_id, &mut after)?;
    }
    let (_, last_seq) = aside::read_books(&tx)?;
    sqlite::write_books(&tx, &after, last_seq)?;
    tx.commit()?;
    *books = after;
    for ((_, record), (_, verdict)) in waiting.iter().zip(&settled) {
        record.iter().for_each(|record| lines::stored(record, verdict));
    }
    Ok(settled.len())
}

/// The sessions that go with these records, and what was there of them.
fn deletions(waiting: &[(Seq, Option<Record>)], settled: &Run) -> Vec<(Uuid, Removed)> {
    let removed = |((_, record), (_, verdict)): (&(Seq, Option<Record>), &(Seq, Verdict))| match verdict {
        Verdict::Deleted(removed) => Some((record.as_ref()?.session_id(), *removed)),
        _ => None,
    };
    waiting.iter().zip(settled).filter_map(removed).collect()
}

fn oldest(tx: &Transaction<'_>) -> rusqlite::Result<Vec<(Seq, Option<Record>)>> {
    let mut statement = tx.prepare("SELECT seq, body, checksum FROM journal ORDER BY seq LIMIT ?1")?;
    statement.query_map([HOMECOMING], readable)?.collect()
}
