//! The books of a file that was saved: they say what is there, and beside them how much more there should be.

use rusqlite::{Connection, OptionalExtension as _, Transaction};

use crate::books::Books;
use crate::changes;
use crate::clock::{Clock as _, Seq, SystemClock};
use crate::salvage::cells::Value;
use crate::salvage::report::{Lost, Saved};
use crate::store::sqlite;

/// The books as they were found.
struct Known {
    books: Books,
    last_seq: Seq,
}

/// What is in the new file.
struct Rows {
    messages: u64,
    sessions: u64,
    /// Messages in the journal.
    pending: u64,
    /// Records in it, whatever they are.
    waiting: u64,
    waiting_bytes: u64,
    /// Dead letters of messages.
    letters: u64,
    all_letters: u64,
    last_seq: Seq,
}

/// Writes the books anew, from the rows and from what the old ones say of the past.
pub(super) fn settle(tx: &Transaction<'_>, found: Option<&[Value]>, horizon: Seq) -> rusqlite::Result<Saved> {
    let (rows, known) = (count(tx, horizon)?, found.and_then(known));
    let missing = known.as_ref().map_or_else(Lost::default, |known| missing(&known.books, &rows));
    let last_seq = known.as_ref().map_or(0, |known| known.last_seq).max(rows.last_seq);
    sqlite::write_books(tx, &books(known.map(|known| known.books), &rows), last_seq)?;
    // Nobody knows how far the newest went that are gone: not beyond this moment.
    changes::begin_anew(tx, last_seq.max(SystemClock.now().as_micros()))?;
    let Rows { messages, sessions, waiting, all_letters, .. } = rows;
    Ok(Saved { messages, sessions, waiting, letters: all_letters, restored_sessions: 0, missing })
}

fn known(values: &[Value]) -> Option<Known> {
    let total = |index: usize| match values.get(index) {
        Some(Value::Integer(total)) => u64::try_from(*total).ok(),
        // A file of an older schema.
        _ => Some(0),
    };
    let books = Books {
        durable: total(1)?,
        stored: total(2)?,
        dead_lettered: total(3)?,
        inserted: total(4)?,
        journal_bytes: total(5)?,
        letters_taken_out: total(7)?,
        deleted: total(8)?,
    };
    let last_seq = i64::try_from(total(6)?).ok()?;
    are_possible(&books).then_some(Known { books, last_seq })
}

fn are_possible(books: &Books) -> bool {
    books.durable >= books.stored.saturating_add(books.dead_lettered)
        && books.dead_lettered >= books.letters_taken_out
        && books.inserted >= books.deleted
}

/// Whether the books of a file are there, and can be true.
pub(super) fn are_sound(connection: &Connection) -> rusqlite::Result<bool> {
    // A file of an older version has fewer columns.
    let sql = "SELECT durable, stored, dead_lettered, 0, inserted, journal_bytes, 0, last_seq FROM books WHERE one = 1";
    let books = connection.query_row(sql, [], |row| {
        let readable = row.get::<_, i64>(7).is_ok_and(|last_seq| last_seq >= 0);
        Ok(readable && sqlite::books_row(row).is_ok_and(|books| are_possible(&books)))
    });
    Ok(books.optional()?.unwrap_or(false))
}

/// A `seq` beyond the horizon has rotted: what comes next must not begin behind it.
fn count(tx: &Transaction<'_>, horizon: Seq) -> rusqlite::Result<Rows> {
    let count = |sql: &str| tx.query_row(sql, [], |row| row.get(0));
    Ok(Rows {
        messages: count("SELECT count(*) FROM conversation_messages")?,
        sessions: count("SELECT count(*) FROM conversation_sessions")?,
        pending: count("SELECT count(message_id) FROM pending")?,
        waiting: count("SELECT count(*) FROM pending")?,
        waiting_bytes: count("SELECT coalesce(sum(octet_length(body)), 0) FROM pending")?,
        letters: count("SELECT count(message_id) FROM dead_letters")?,
        all_letters: count("SELECT count(*) FROM dead_letters")?,
        last_seq: tx.query_row(
            "SELECT coalesce(max(seq), 0) FROM (SELECT seq FROM conversation_messages UNION ALL \
             SELECT seq FROM journal UNION ALL SELECT seq FROM dead_letters) WHERE seq <= ?1",
            [horizon],
            |row| row.get(0),
        )?,
    })
}

fn missing(books: &Books, rows: &Rows) -> Lost {
    Lost {
        books_read: true,
        messages: books.rows().saturating_sub(rows.messages),
        pending: books.pending().saturating_sub(rows.pending),
        letters: books.letters().saturating_sub(rows.letters),
        ..Lost::default()
    }
}

/// What is gone leaves the totals. What a remote store has stays in them: that is known from the old books alone.
fn books(known: Option<Books>, rows: &Rows) -> Books {
    let old = known.unwrap_or_default();
    let stored = (old.stored + rows.messages).saturating_sub(old.rows());
    let dead_lettered = old.letters_taken_out + rows.letters;
    Books {
        durable: stored + dead_lettered + rows.pending,
        stored,
        dead_lettered,
        letters_taken_out: old.letters_taken_out,
        inserted: rows.messages + old.deleted,
        deleted: old.deleted,
        journal_bytes: rows.waiting_bytes,
    }
}
