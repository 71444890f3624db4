//! What a deletion takes out of the journal and the dead letters. It happens in the transaction in which the deletion becomes
//! durable, so that the text is gone whatever the store does.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;

use crate::books::Books;
use crate::clock::Seq;
use crate::database::{self, UuidText};
use crate::health::Vitals;
use crate::store::sqlite;

/// Takes out what waits of the session. Says how many messages that were; their places in the journal go to `gone`.
pub(super) fn take_waiting(
    tx: &Transaction<'_>,
    session_id: Uuid,
    books: &mut Books,
    gone: &mut Vec<Seq>,
) -> rusqlite::Result<u64> {
    let id = UuidText::new(session_id);
    let sql =
        "DELETE FROM journal WHERE session_id = ?1 RETURNING seq, message_id IS NOT NULL, octet_length(body)";
    let mut delete = tx.prepare_cached(sql)?;
    let rows = delete.query_map([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut messages = 0;
    for row in rows {
        let (seq, is_message, bytes): (Seq, bool, u64) = row?;
        books.let_go(u64::from(is_message), bytes);
        messages += u64::from(is_message);
        gone.push(seq);
    }
    // Nobody has to end it after a crash.
    tx.prepare_cached("DELETE FROM open_sessions WHERE session_id = ?1")?.execute([id.as_str()])?;
    Ok(messages)
}

/// Takes out the dead letters of the session, those whose bytes have rotted too much to name it included. Says how many there
/// were.
pub(super) fn take_letters(
    tx: &Transaction<'_>,
    session_id: Uuid,
    books: &mut Books,
) -> rusqlite::Result<u64> {
    let sql = "DELETE FROM dead_letters WHERE session_id = ?1 OR (session_id IS NULL AND instr(body, ?1)) \
               RETURNING message_id IS NOT NULL";
    let mut delete = tx.prepare_cached(sql)?;
    let letters = delete.query_map([UuidText::new(session_id).as_str()], |row| row.get(0))?;
    let letters = letters.collect::<rusqlite::Result<Vec<bool>>>()?;
    books.letters_taken_out += letters.iter().filter(|was_message| **was_message).count() as u64;
    Ok(letters.len() as u64)
}

/// The store knows that this record's session was deleted: this file knows it too from now on. Says whether it is a message.
pub(super) fn learn(tx: &Transaction<'_>, seq: Seq, books: &mut Books) -> rusqlite::Result<bool> {
    let sql = "SELECT session_id, message_id IS NOT NULL FROM journal WHERE seq = ?1";
    let (session_id, is_message): (Option<String>, bool) =
        tx.prepare_cached(sql)?.query_row(params![seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if let Some(session_id) = session_id.and_then(|text| Uuid::try_parse(&text).ok()) {
        sqlite::note_deleted(tx, session_id)?;
        take_letters(tx, session_id, books)?;
    }
    Ok(is_message)
}

/// Which sessions were deleted, asked once for each in a batch.
#[derive(Default)]
pub(super) struct Known(HashMap<Uuid, bool>);

impl Known {
    pub(super) fn is_deleted(&mut self, connection: &Connection, session_id: Uuid) -> rusqlite::Result<bool> {
        if let Some(known) = self.0.get(&session_id) {
            return Ok(*known);
        }
        let is_deleted = sqlite::is_deleted(connection, session_id)?;
        self.0.insert(session_id, is_deleted);
        Ok(is_deleted)
    }

    /// It is deleted now.
    pub(super) fn note(&mut self, session_id: Uuid) {
        self.0.insert(session_id, true);
    }
}

/// How long a log that could not be cleared is left alone.
const PAUSE: Duration = Duration::from_millis(200);

/// Clears the log of the file after a deletion: what was deleted leaves it too, and with it the disk. While somebody reads from
/// the log, or the disk has no room, it is tried again; the sweeper calls for it.
#[derive(Default)]
pub(super) struct Eraser {
    tried: Option<Instant>,
}

impl Eraser {
    /// Something was deleted. Waits a moment for those who read.
    pub(super) fn begin(&mut self, connection: &Connection, vitals: &Vitals) {
        self.tried = Some(Instant::now());
        vitals.set_unerased(!cleared(connection));
    }

    /// The same where a crash came between a deletion and this.
    pub(super) fn resume(&mut self, connection: &Connection, vitals: &Vitals) -> rusqlite::Result<()> {
        let any = "SELECT EXISTS (SELECT 1 FROM deleted_sessions)";
        if connection.query_row(any, [], |row| row.get(0))? {
            self.begin(connection, vitals);
        }
        Ok(())
    }

    /// Tries again where that is due. Waits for nobody.
    pub(super) fn go_on(&mut self, connection: &Connection, vitals: &Vitals) {
        let is_due = self.tried.is_none_or(|tried| tried.elapsed() >= PAUSE);
        if vitals.is_unerased() && is_due && connection.busy_timeout(Duration::ZERO).is_ok() {
            self.begin(connection, vitals);
            let _ = connection.busy_timeout(database::BUSY);
        }
    }
}

fn cleared(connection: &Connection) -> bool {
    database::clear_log(connection).is_ok_and(|done| done)
}
