//! The table `open_sessions`: the sessions that are open on this node while the file is an outbox. After a crash, the
//! next start ends them.

use rusqlite::{Connection, Transaction};
use talktrack_core::ids::SessionId;

use crate::local::database::{UuidText, column_or_null, parse_id};

/// The table with its columns in the order of a stored record. Salvaging writes whole records.
pub(crate) const RECORD: &str = "open_sessions (session_id)";

/// Notes that the session is open on this node. Does nothing if that is noted already.
pub(crate) fn insert(tx: &Transaction<'_>, session_id: SessionId) -> rusqlite::Result<()> {
    let mut open = tx.prepare_cached("INSERT OR IGNORE INTO open_sessions (session_id) VALUES (?1)")?;
    open.execute([UuidText::new(session_id).as_str()]).map(drop)
}

/// Removes the session, because it has ended. Does nothing if it is not noted as open.
pub(crate) fn delete(tx: &Transaction<'_>, session_id: SessionId) -> rusqlite::Result<()> {
    let mut close = tx.prepare_cached("DELETE FROM open_sessions WHERE session_id = ?1")?;
    close.execute([UuidText::new(session_id).as_str()]).map(drop)
}

/// Removes the session if the journal has no record of it. `session_id` is the text of the journal's column, which may be
/// damaged or null, and then removes nothing.
pub(crate) fn delete_without_records(tx: &Transaction<'_>, session_id: Option<&str>) -> rusqlite::Result<()> {
    let close = "DELETE FROM open_sessions WHERE session_id = ?1 \
                 AND NOT EXISTS (SELECT 1 FROM journal WHERE session_id = ?1)";
    tx.prepare_cached(close)?.execute([session_id]).map(drop)
}

/// Returns the open sessions in the order of their ids.
pub(crate) fn read_all(connection: &Connection) -> rusqlite::Result<Vec<SessionId>> {
    let mut open = connection.prepare("SELECT session_id FROM open_sessions")?;
    let open = open.query_map([], |row| column_or_null(row, 0, parse_id))?;
    // An id that is damaged beyond reading names no session that could be ended.
    open.filter_map(Result::transpose).collect()
}
