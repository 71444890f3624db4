//! Compares sessions with their messages, and repairs a file that was rebuilt from what could be read.

use rusqlite::{Connection, ToSql, Transaction, params};
use talktrack_core::ids::SessionId;

use crate::local::database::{UuidText, text};
use crate::local::tables::messages::checks::KnownSession;

/// A session whose count differs from its messages.
#[derive(Debug)]
pub(crate) struct WrongCount {
    pub(crate) session_id: String,
    pub(crate) counted: u64,
    pub(crate) found: u64,
}

/// Describes up to `limit` sessions whose counts differ from their messages. Reads all sessions.
pub(crate) fn describe_wrong_counts(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT 'session ' || session_id || ' counts ' || message_count || ' messages, but ' || n || ' are stored' FROM \
               (SELECT s.session_id, s.message_count, (SELECT count(*) FROM conversation_messages m WHERE m.session_id = s.session_id AND m.status = 'final') n \
               FROM conversation_sessions s) WHERE message_count <> n LIMIT ?1";
    connection.prepare(sql)?.query_map([limit], |row| text(row, 0))?.collect()
}

/// Describes up to `limit` sessions that are active and have an end, or are not and have none. Reads all sessions.
pub(crate) fn describe_wrong_ends(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT 'session ' || session_id || ' is ' || coalesce(status, 'null') || ' and has ended_at ' || coalesce(ended_at, 'null') \
               FROM conversation_sessions WHERE status IN ('active', 'ended', 'abandoned') AND (status = 'active') <> (ended_at IS NULL) LIMIT ?1";
    connection.prepare(sql)?.query_map([limit], |row| text(row, 0))?.collect()
}

/// Returns the sessions whose counts differ from their messages. Reads all sessions.
pub(crate) fn read_wrong_counts(tx: &Transaction<'_>) -> rusqlite::Result<Vec<WrongCount>> {
    let sql = "SELECT session_id, message_count, n FROM (SELECT s.session_id, s.message_count, \
               (SELECT count(*) FROM conversation_messages m WHERE m.session_id = s.session_id AND m.status = 'final') n \
               FROM conversation_sessions s) WHERE message_count <> n";
    let wrong = |row: &rusqlite::Row<'_>| {
        Ok(WrongCount { session_id: row.get(0)?, counted: row.get(1)?, found: row.get(2)? })
    };
    tx.prepare(sql)?.query_map([], wrong)?.collect()
}

/// Sets the counts of these sessions to what was found.
pub(crate) fn correct_counts(tx: &Transaction<'_>, wrong: &[WrongCount]) -> rusqlite::Result<()> {
    let mut correct =
        tx.prepare("UPDATE conversation_sessions SET message_count = ?2 WHERE session_id = ?1")?;
    wrong.iter().try_for_each(|session| correct.execute(params![session.session_id, session.found]).map(drop))
}

/// Moves the last event of the session forward to its last message.
pub(crate) fn advance_last_event(tx: &Transaction<'_>, session_id: SessionId) -> rusqlite::Result<()> {
    let sql = "UPDATE conversation_sessions SET last_event_at = max(last_event_at, coalesce((SELECT max(created_at) \
               FROM conversation_messages m WHERE m.session_id = ?1), '')) WHERE session_id = ?1";
    tx.prepare_cached(sql)?.execute([UuidText::new(session_id).as_str()]).map(drop)
}

/// Creates the temporary table `session_index`, for entries of the index `conversation_sessions_of_user` that were read
/// from a damaged file.
pub(crate) fn create_index_copy(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute_batch("CREATE TEMP TABLE session_index (user_id, started_at, session_id, user_external_id)")
}

/// Returns the sessions in `session_index` that have no row.
pub(crate) fn read_missing(tx: &Transaction<'_>) -> rusqlite::Result<Vec<KnownSession>> {
    let sql = "SELECT session_id, user_id, started_at, user_external_id FROM session_index i \
               WHERE NOT EXISTS (SELECT 1 FROM conversation_sessions s WHERE s.session_id = i.session_id)";
    tx.prepare(sql)?.query_map([], KnownSession::from_row)?.collect()
}

/// Removes the row if its last event is before this one. The values are as they were read from a damaged file.
pub(crate) fn delete_older(
    tx: &Transaction<'_>,
    session_id: &dyn ToSql,
    last_event_at: &dyn ToSql,
) -> rusqlite::Result<()> {
    let sql = "DELETE FROM conversation_sessions WHERE session_id = ?1 AND last_event_at < ?2";
    tx.prepare_cached(sql)?.execute(params![session_id, last_event_at]).map(drop)
}
