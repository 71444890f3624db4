//! The table `deleted_claims`: sessions that users deleted without owning them, according to the store.

use rusqlite::{Connection, Transaction, params};
use talktrack_core::clock::Timestamp;
use talktrack_core::ids::{SessionId, UserId};

use crate::local::database::UuidText;
use crate::local::database::users::UserText;

/// The table with its columns in the order of a stored record. Salvaging writes whole records.
pub(crate) const RECORD: &str = "deleted_claims (session_id, user_id, deleted_at)";

/// True if this user deleted the session without owning it.
pub(crate) fn contains(
    connection: &Connection,
    session_id: SessionId,
    user_id: &UserId,
) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM deleted_claims WHERE session_id = ?1 AND user_id = ?2)";
    let session_id = UuidText::new(session_id);
    let user_id = UserText::new(user_id);
    connection.prepare_cached(sql)?.query_row([session_id.as_str(), user_id.as_str()], |row| row.get(0))
}

/// Writes a claim. It replaces an earlier one of the same user and session. The column `deleted_at` holds
/// microseconds.
pub(crate) fn insert_claim(
    tx: &Transaction<'_>,
    session_id: SessionId,
    user_id: &UserId,
    deleted_at: Timestamp,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO deleted_claims (session_id, user_id, deleted_at) VALUES (?1, ?2, ?3)";
    let session_id = UuidText::new(session_id);
    let user_id = UserText::new(user_id);
    let claim = params![session_id.as_str(), user_id.as_str(), deleted_at.as_micros()];
    tx.prepare_cached(sql)?.execute(claim).map(drop)
}

/// Removes the oldest claims of a user, except the newest `kept`. Claims of the same moment as the oldest kept one
/// stay.
pub(crate) fn delete_oldest(tx: &Transaction<'_>, user_id: &UserId, kept: u32) -> rusqlite::Result<()> {
    let sql = "DELETE FROM deleted_claims WHERE user_id = ?1 AND deleted_at < \
               (SELECT deleted_at FROM deleted_claims WHERE user_id = ?1 ORDER BY deleted_at DESC LIMIT 1 OFFSET ?2)";
    let user_id = UserText::new(user_id);
    tx.prepare_cached(sql)?.execute(params![user_id.as_str(), kept.saturating_sub(1)]).map(drop)
}
