//! Messages that were deleted while their session was kept. Each leaves a tombstone, which refuses later
//! records with the id of the message and stays as long as the session.

use std::collections::HashMap;

use rusqlite::{Connection, Transaction, params};
use talktrack_core::clock::{Clock as _, SystemClock};
use talktrack_core::ids::{MessageId, SessionId};

use crate::local::database::UuidText;

/// Tells which messages were deleted, for one batch. Most sessions have no such message; this is queried
/// once per session.
#[derive(Debug, Default)]
pub(crate) struct DeletedMessages(HashMap<SessionId, bool>);

impl DeletedMessages {
    /// True if this message of the session was deleted.
    pub(crate) fn contains(
        &mut self,
        connection: &Connection,
        session_id: SessionId,
        message_id: MessageId,
    ) -> rusqlite::Result<bool> {
        const ANY: &str =
            "SELECT EXISTS (SELECT 1 FROM conversation_message_deletions WHERE session_id = ?1)";
        const ONE: &str = "SELECT EXISTS (SELECT 1 FROM conversation_message_deletions WHERE session_id = ?1 AND message_id = ?2)";
        let session = UuidText::new(session_id);
        let has_any = match self.0.get(&session_id) {
            Some(has_any) => *has_any,
            None => {
                let has_any =
                    connection.prepare_cached(ANY)?.query_row([session.as_str()], |row| row.get(0))?;
                *self.0.entry(session_id).or_insert(has_any)
            }
        };
        let message = UuidText::new(message_id);
        let ids = [session.as_str(), message.as_str()];
        if has_any { connection.prepare_cached(ONE)?.query_row(ids, |row| row.get(0)) } else { Ok(false) }
    }
}

/// Writes a tombstone: later records with the id of this message are refused.
pub(crate) fn note_deleted_message(
    tx: &Transaction<'_>,
    session_id: &str,
    message_id: &str,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO conversation_message_deletions (message_id, session_id, deleted_at) VALUES (?1, ?2, ?3)";
    let now = SystemClock.now().to_string();
    tx.prepare_cached(sql)?.execute(params![message_id, session_id, now]).map(drop)
}

/// Removes the tombstones of the session's messages once the session is gone.
pub(crate) fn forget_deleted_messages(tx: &Transaction<'_>, session_id: SessionId) -> rusqlite::Result<()> {
    let sql = "DELETE FROM conversation_message_deletions WHERE session_id = ?1";
    tx.prepare_cached(sql)?.execute([UuidText::new(session_id).as_str()]).map(drop)
}
