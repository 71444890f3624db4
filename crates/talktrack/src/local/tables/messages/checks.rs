//! Finds damage among the messages, and repairs a file that was rebuilt from what could be read.

use rusqlite::{Connection, Row, ToSql, Transaction, params};
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::ids::{SessionId, UserId};

use crate::local::database::users::read_user;
use crate::local::database::{column, parse_id, parse_time, text};

/// Describes up to `limit` messages that belong to no session. Reads all messages.
pub(crate) fn describe_orphans(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT 'message ' || id || ' belongs to session ' || session_id || ', which does not exist' FROM conversation_messages m \
               WHERE NOT EXISTS (SELECT 1 FROM conversation_sessions s WHERE s.session_id = m.session_id) LIMIT ?1";
    connection.prepare(sql)?.query_map([limit], |row| text(row, 0))?.collect()
}

/// Describes up to `limit` messages with columns that should be JSON and are not. Reads all messages.
pub(crate) fn describe_invalid_json(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT 'message ' || id || ' has metadata, parts or metrics that are no longer JSON' FROM conversation_messages \
               WHERE NOT (coalesce(json_valid(metadata), 1) AND coalesce(json_valid(parts), 1) AND coalesce(json_valid(metrics), 1)) LIMIT ?1";
    connection.prepare(sql)?.query_map([limit], |row| text(row, 0))?.collect()
}

/// What is still known of a session whose row was lost.
pub(crate) struct KnownSession {
    pub(crate) session_id: SessionId,
    /// `None` if only system messages are left, or the id is not a UUID.
    pub(crate) user_id: Option<UserId>,
    pub(crate) started_at: Timestamp,
}

impl KnownSession {
    /// Reads a row of the columns session, UUID of the user, start, and text of the user.
    pub(crate) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            session_id: column(row, 0, parse_id)?,
            user_id: read_user(row, 1, 3)?,
            started_at: column(row, 2, parse_time)?,
        })
    }
}

/// Returns what the messages tell of sessions that have no row. Reads all messages.
pub(crate) fn read_orphaned_sessions(tx: &Transaction<'_>) -> rusqlite::Result<Vec<KnownSession>> {
    let sql = "SELECT session_id, max(user_id), min(created_at), NULL FROM conversation_messages m \
               WHERE NOT EXISTS (SELECT 1 FROM conversation_sessions s WHERE s.session_id = m.session_id) GROUP BY session_id";
    tx.prepare(sql)?.query_map([], KnownSession::from_row)?.collect()
}

/// Removes the messages that have a tombstone of their own.
pub(crate) fn delete_with_tombstone(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    let sql = "DELETE FROM conversation_messages WHERE EXISTS (SELECT 1 FROM conversation_message_deletions gone \
               WHERE gone.session_id = conversation_messages.session_id AND gone.message_id = conversation_messages.id)";
    tx.execute(sql, []).map(drop)
}

/// Removes the row if its revision is before this one. The values are as they were read from a damaged file.
pub(crate) fn delete_older(
    tx: &Transaction<'_>,
    id: &dyn ToSql,
    revision: &dyn ToSql,
) -> rusqlite::Result<()> {
    let sql = "DELETE FROM conversation_messages WHERE id = ?1 AND revision < ?2";
    tx.prepare_cached(sql)?.execute(params![id, revision]).map(drop)
}

/// Returns the highest `seq` that is not above `limit`, or 0 if there is none.
pub(crate) fn newest_seq_up_to(connection: &Connection, limit: Seq) -> rusqlite::Result<Seq> {
    let sql = "SELECT coalesce(max(seq), 0) FROM conversation_messages WHERE seq <= ?1";
    connection.query_row(sql, [limit], |row| row.get(0))
}
