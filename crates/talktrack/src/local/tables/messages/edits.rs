//! Removes and replaces single messages of a session.

use rusqlite::{Connection, Row, Transaction, params};
use talktrack_core::clock::Timestamp;
use talktrack_core::ids::{MessageId, SessionId};

use crate::local::database::stored_columns::has_id;
use crate::local::database::{UuidText, column, column_or_null, parse_id, parse_time};

/// A stored message that may be removed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredMessage {
    pub(crate) row: i64,
    pub(crate) id: MessageId,
    /// `None` if the stored time is not valid.
    pub(crate) created_at: Option<Timestamp>,
    /// True if the session counts the message.
    pub(crate) is_final: bool,
}

impl StoredMessage {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let created_at = column_or_null(row, 2, parse_time)?;
        let is_final = row.get(3).unwrap_or_default();
        Ok(Self { row: row.get(0)?, id: column(row, 1, parse_id)?, created_at, is_final })
    }
}

/// Selects the row, the id and the time of messages of session `?1`. With `?2`, only those that a user wrote with a token.
macro_rules! select_removable {
    ($rest:literal) => {
        concat!(
            "SELECT rowid, id, created_at, status = 'final' FROM conversation_messages WHERE session_id = ?1 AND ",
            has_id!("id"),
            " AND (NOT ?2 OR CASE WHEN json_valid(extra) THEN extra ->> '$.talktrack.by' = 'user' END)",
            $rest
        )
    };
}

/// Returns the messages of the session, in no particular order. With `by_user`, only those that a user wrote with a token.
pub(crate) fn read_all(
    connection: &Connection,
    session_id: SessionId,
    by_user: bool,
) -> rusqlite::Result<Vec<StoredMessage>> {
    let mut statement = connection.prepare_cached(select_removable!(""))?;
    let session = UuidText::new(session_id);
    statement.query_map(params![session.as_str(), by_user], StoredMessage::from_row)?.collect()
}

/// Returns the last messages of the session, the last one first.
pub(crate) fn read_last(
    connection: &Connection,
    session_id: SessionId,
    by_user: bool,
    count: usize,
) -> rusqlite::Result<Vec<StoredMessage>> {
    let sql = select_removable!(" ORDER BY created_at DESC, coalesce(seq, 0) DESC, id DESC LIMIT ?3");
    let mut statement = connection.prepare_cached(sql)?;
    let session = UuidText::new(session_id);
    statement.query_map(params![session.as_str(), by_user, count], StoredMessage::from_row)?.collect()
}

/// Returns those of these messages that the session has.
pub(crate) fn read_named(
    connection: &Connection,
    session_id: SessionId,
    by_user: bool,
    ids: &[MessageId],
) -> rusqlite::Result<Vec<StoredMessage>> {
    let mut statement = connection.prepare_cached(select_removable!(" AND id = ?3"))?;
    let session = UuidText::new(session_id);
    let mut found = Vec::new();
    for id in ids {
        let id = UuidText::new(*id);
        let rows =
            statement.query_map(params![session.as_str(), by_user, id.as_str()], StoredMessage::from_row)?;
        found.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?);
    }
    Ok(found)
}

/// Removes the message in this row.
pub(crate) fn delete_row(tx: &Transaction<'_>, row: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM conversation_messages WHERE rowid = ?1")?.execute([row]).map(drop)
}
