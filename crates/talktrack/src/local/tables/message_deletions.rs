//! The table `conversation_message_deletions`: a tombstone for each message that was deleted while its session was
//! kept.

use rusqlite::{Connection, Transaction, params};
use talktrack_core::clock::Timestamp;
use talktrack_core::ids::{MessageId, SessionId};

use crate::local::database::UuidText;

/// The table with its columns in the order of a stored record. Salvaging writes whole records.
pub(crate) const RECORD: &str = "conversation_message_deletions (session_id, message_id, deleted_at)";

/// True if any message of the session has a tombstone.
pub(crate) fn has_any(connection: &Connection, session_id: SessionId) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM conversation_message_deletions WHERE session_id = ?1)";
    connection.prepare_cached(sql)?.query_row([UuidText::new(session_id).as_str()], |row| row.get(0))
}

/// True if this message of the session has a tombstone.
pub(crate) fn contains(
    connection: &Connection,
    session_id: SessionId,
    message_id: MessageId,
) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM conversation_message_deletions WHERE session_id = ?1 AND message_id = ?2)";
    let session = UuidText::new(session_id);
    let message = UuidText::new(message_id);
    connection.prepare_cached(sql)?.query_row([session.as_str(), message.as_str()], |row| row.get(0))
}

/// Writes a tombstone. An existing one keeps its time. The ids are in the spelling of the columns.
pub(crate) fn insert_tombstone(
    tx: &Transaction<'_>,
    session_id: &str,
    message_id: &str,
    deleted_at: Timestamp,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO conversation_message_deletions (message_id, session_id, deleted_at) VALUES (?1, ?2, ?3)";
    tx.prepare_cached(sql)?.execute(params![message_id, session_id, deleted_at.to_string()]).map(drop)
}

/// Removes the tombstone of a message, because the message is written again.
pub(crate) fn delete_tombstone(
    tx: &Transaction<'_>,
    session_id: SessionId,
    message_id: MessageId,
) -> rusqlite::Result<()> {
    let sql = "DELETE FROM conversation_message_deletions WHERE session_id = ?1 AND message_id = ?2";
    let session = UuidText::new(session_id);
    let message = UuidText::new(message_id);
    tx.prepare_cached(sql)?.execute([session.as_str(), message.as_str()]).map(drop)
}

/// Removes the tombstones of all messages of the session.
pub(crate) fn delete_of_session(tx: &Transaction<'_>, session_id: SessionId) -> rusqlite::Result<()> {
    let sql = "DELETE FROM conversation_message_deletions WHERE session_id = ?1";
    tx.prepare_cached(sql)?.execute([UuidText::new(session_id).as_str()]).map(drop)
}
