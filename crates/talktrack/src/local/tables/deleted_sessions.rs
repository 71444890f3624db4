//! The table `deleted_sessions`: a tombstone for each session that was deleted for good.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use talktrack_core::clock::Timestamp;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::store::DeletedSession;

use crate::local::database::users::{UserText, parse_user};
use crate::local::database::{UuidText, column_or_null};

/// The table with its columns in the order of a stored record. Salvaging writes whole records.
pub(crate) const RECORD: &str = "deleted_sessions (session_id, deleted_at, user_id)";

/// True if the session has a tombstone.
pub(crate) fn contains(connection: &Connection, session_id: SessionId) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM deleted_sessions WHERE session_id = ?1)";
    connection.prepare_cached(sql)?.query_row([UuidText::new(session_id).as_str()], |row| row.get(0))
}

/// Returns those of these sessions that have a tombstone, in the order of `ids`.
pub(crate) fn read_by_ids(
    connection: &Connection,
    ids: &[SessionId],
) -> rusqlite::Result<Vec<DeletedSession>> {
    let mut one = connection.prepare_cached("SELECT user_id FROM deleted_sessions WHERE session_id = ?1")?;
    let mut found = Vec::new();
    for id in ids {
        let user = one.query_row([UuidText::new(*id).as_str()], |row| column_or_null(row, 0, parse_user));
        found.extend(user.optional()?.map(|user_id| DeletedSession { session_id: *id, user_id }));
    }
    Ok(found)
}

/// Writes a tombstone. An existing one keeps its time, and its user if it has one.
pub(crate) fn insert_tombstone(
    tx: &Transaction<'_>,
    session_id: SessionId,
    user: Option<&UserId>,
    deleted_at: Timestamp,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO deleted_sessions (session_id, deleted_at, user_id) VALUES (?1, ?2, ?3) \
               ON CONFLICT (session_id) DO UPDATE SET user_id = coalesce(user_id, excluded.user_id)";
    let session_id = UuidText::new(session_id);
    let user = user.map(UserText::new);
    let user = user.as_ref().map(UserText::as_str);
    tx.prepare_cached(sql)?.execute(params![session_id.as_str(), deleted_at.to_string(), user]).map(drop)
}

/// Removes the rows of another table that belong to sessions with a tombstone. That table must have a column
/// `session_id`.
pub(crate) fn delete_from_table(tx: &Transaction<'_>, table: &str) -> rusqlite::Result<()> {
    let sql = format!("DELETE FROM {table} WHERE session_id IN (SELECT session_id FROM deleted_sessions)");
    tx.execute(&sql, []).map(drop)
}
