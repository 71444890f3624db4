//! Sessions that were deleted: their rows are gone, and a mark of them stays, which refuses whatever comes later.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use uuid::Uuid;

use crate::changes;
use crate::clock::{Clock as _, Seq, SystemClock, Timestamp};
use crate::database::{UuidText, column_or_null, parse_time};
use crate::error::ReadError;
use crate::record::{Record, Removed};
use crate::store::sqlite::SqliteReader;
use crate::store::sqlite::rows::{SESSION_COLUMNS, session_row};
use crate::store::{SessionCursor, SessionRow};

/// Whether the session was deleted for good.
pub(crate) fn is_deleted(connection: &Connection, session_id: Uuid) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM deleted_sessions WHERE session_id = ?1)";
    connection.prepare_cached(sql)?.query_row([UuidText::new(session_id).as_str()], |row| row.get(0))
}

/// From now on whatever comes of the session is refused.
pub(crate) fn note(tx: &Transaction<'_>, session_id: Uuid) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO deleted_sessions (session_id, deleted_at) VALUES (?1, ?2)";
    let now = SystemClock.now().to_string();
    tx.prepare_cached(sql)?.execute(params![UuidText::new(session_id).as_str(), now]).map(drop)
}

/// It was not deleted after all.
pub(crate) fn take_back(tx: &Transaction<'_>, session_id: Uuid) -> rusqlite::Result<()> {
    let sql = "DELETE FROM deleted_sessions WHERE session_id = ?1";
    tx.prepare_cached(sql)?.execute([UuidText::new(session_id).as_str()]).map(drop)
}

/// Removes the session's rows, and notes when that was which goes with them, at the place of the deletion.
pub(super) fn remove(tx: &Transaction<'_>, place: Seq, session_id: Uuid) -> rusqlite::Result<Removed> {
    let id = UuidText::new(session_id);
    if let Some(span) = span(tx, &id)? {
        changes::note_span(tx, place, span)?;
    }
    let gone = |sql: &str| tx.prepare_cached(sql)?.execute([id.as_str()]).map(|rows| rows as u64);
    let messages = gone("DELETE FROM conversation_messages WHERE session_id = ?1")?;
    let sessions = gone("DELETE FROM conversation_sessions WHERE session_id = ?1")?;
    Ok(Removed { sessions, messages, ..Removed::default() })
}

/// The first and the last moment of a session: of its start, and of what was said in it.
fn span(tx: &Transaction<'_>, id: &UuidText) -> rusqlite::Result<Option<(Timestamp, Timestamp)>> {
    const MOMENTS: [&str; 3] = [
        "SELECT started_at FROM conversation_sessions WHERE session_id = ?1",
        "SELECT min(created_at) FROM conversation_messages WHERE session_id = ?1",
        "SELECT max(created_at) FROM conversation_messages WHERE session_id = ?1",
    ];
    let mut span: Option<(Timestamp, Timestamp)> = None;
    for sql in MOMENTS {
        let moment =
            tx.prepare_cached(sql)?.query_row([id.as_str()], |row| column_or_null(row, 0, parse_time));
        if let Some(moment) = moment.optional()?.flatten() {
            span = Some(span.map_or((moment, moment), |(first, last)| (first.min(moment), last.max(moment))));
        }
    }
    Ok(span)
}

/// Sessions of which nothing was heard since this moment, oldest first.
pub(super) fn silent(
    connection: &Connection,
    since: Timestamp,
    after: Option<SessionCursor>,
    limit: usize,
) -> rusqlite::Result<Vec<SessionRow>> {
    let sql = format!(
        "SELECT {SESSION_COLUMNS} FROM conversation_sessions WHERE started_at < ?1 \
         AND coalesce(last_event_at, started_at) < ?1 AND (started_at, session_id) > (?2, ?3) \
         ORDER BY started_at, session_id LIMIT ?4"
    );
    let place = |cursor: SessionCursor| (cursor.started_at.to_string(), cursor.session_id.to_string());
    let (began, id) = after.map(place).unwrap_or_default();
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map(params![since.to_string(), began, id, limit], session_row)?.collect()
}

/// What a deletion asks of the file, beside the rows that are stored.
impl SqliteReader {
    /// Whether the session was deleted for good.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub async fn is_deleted(&self, session_id: Uuid) -> Result<bool, ReadError> {
        self.ask(move |connection| is_deleted(connection, session_id)).await
    }

    /// Whether something of the session waits for a remote store, or lies in the dead letters.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub async fn keeps_something_of(&self, session_id: Uuid) -> Result<bool, ReadError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM journal WHERE session_id = ?1) \
                   OR EXISTS (SELECT 1 FROM dead_letters WHERE session_id = ?1)";
        let id = UuidText::new(session_id);
        self.ask(move |connection| connection.query_row(sql, [id.as_str()], |row| row.get(0))).await
    }

    /// The sessions of this user of which something waits for a remote store. Reads all that waits.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub async fn waiting_sessions_of(&self, user_id: Uuid) -> Result<BTreeSet<Uuid>, ReadError> {
        let sql = "SELECT seq, body FROM journal WHERE session_id IS NOT NULL AND instr(body, ?1)";
        let found = self.records_of(user_id, sql).await?;
        Ok(found.into_iter().map(|(_, record)| record.session_id()).collect())
    }

    /// The dead letters of this user.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub async fn dead_letters_of(&self, user_id: Uuid) -> Result<Vec<Seq>, ReadError> {
        let found =
            self.records_of(user_id, "SELECT seq, body FROM dead_letters WHERE instr(body, ?1)").await?;
        Ok(found.into_iter().map(|(seq, _)| seq).collect())
    }

    /// Dead letters that were laid aside before this moment, oldest first, so many at most.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub async fn dead_letters_before(&self, moment: Timestamp, limit: usize) -> Result<Vec<Seq>, ReadError> {
        let sql = "SELECT seq FROM dead_letters WHERE died_at < ?1 ORDER BY seq LIMIT ?2";
        let moment = moment.to_string();
        self.ask(move |connection| {
            connection.prepare_cached(sql)?.query_map(params![moment, limit], |row| row.get(0))?.collect()
        })
        .await
    }

    async fn records_of(&self, user_id: Uuid, sql: &'static str) -> Result<Vec<(Seq, Record)>, ReadError> {
        self.ask(move |connection| {
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([UuidText::new(user_id).as_str()], |row| {
                Ok((row.get(0)?, serde_json::from_slice::<Record>(row.get_ref(1)?.as_bytes()?).ok()))
            })?;
            // Text may name the user as well: what counts is whose the record is.
            let is_theirs = |(seq, record): (Seq, Option<Record>)| {
                record.filter(|record| record.owner() == Some(user_id)).map(|record| (seq, record))
            };
            rows.filter_map(|row| row.map(is_theirs).transpose()).collect()
        })
        .await
    }
}
