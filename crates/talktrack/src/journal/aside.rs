//! What the journal keeps beside the messages: the dead letters and the books.

use rusqlite::{Connection, Transaction, params};

use crate::books::Books;
use crate::clock::{Clock, Seq, SystemClock};
use crate::record::DeadReason;

/// Keeps the text of a record that the store will never take, with the reason.
pub(super) fn lay_aside(
    tx: &Transaction<'_>,
    seq: Seq,
    session_id: Option<&str>,
    message_id: Option<&str>,
    reason: &DeadReason,
    body: &str,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO dead_letters (seq, session_id, message_id, reason, detail, body, died_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let now = SystemClock.now().to_string();
    tx.prepare_cached(sql)?.execute(params![
        seq,
        session_id,
        message_id,
        reason.as_str(),
        reason.detail(),
        body,
        now
    ])?;
    Ok(())
}

/// The books, and the highest `seq` they know of.
pub(super) fn read_books(connection: &Connection) -> rusqlite::Result<(Books, Seq)> {
    connection.query_row(
        "SELECT durable, stored, dead_lettered, inserted, journal_bytes, last_seq FROM books",
        [],
        |row| {
            let books = Books {
                durable: row.get(0)?,
                stored: row.get(1)?,
                dead_lettered: row.get(2)?,
                inserted: row.get(3)?,
                journal_bytes: row.get(4)?,
            };
            Ok((books, row.get(5)?))
        },
    )
}

pub(super) fn write_books(tx: &Transaction<'_>, books: &Books, last_seq: Seq) -> rusqlite::Result<()> {
    let sql = "UPDATE books SET durable = ?1, stored = ?2, dead_lettered = ?3, inserted = ?4, journal_bytes = ?5, \
               last_seq = ?6";
    let Books { durable, stored, dead_lettered, inserted, journal_bytes } = *books;
    tx.prepare_cached(sql)?.execute(params![
        durable,
        stored,
        dead_lettered,
        inserted,
        journal_bytes,
        last_seq
    ])?;
    Ok(())
}
