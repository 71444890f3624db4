//! Messages that were deleted while their session was kept. Each leaves a tombstone, which refuses later
//! records with the id of the message and stays as long as the session.

use std::collections::HashMap;

use rusqlite::{Connection, Transaction};
use talktrack_core::clock::{Clock as _, SystemClock};
use talktrack_core::ids::{MessageId, SessionId};

use crate::local::tables::message_deletions;

/// Tells which messages were deleted, for one batch. Most sessions have no such message; this is queried
/// once per session.
#[derive(Debug, Default)]
pub(crate) struct DeletedMessages(HashMap<SessionId, bool>);

impl DeletedMessages {
    /// Forgets what is known of a session, because an edit changed it.
    pub(crate) fn forget_session(&mut self, session_id: SessionId) {
        self.0.remove(&session_id);
    }

    /// True if this message of the session was deleted.
    pub(crate) fn contains(
        &mut self,
        connection: &Connection,
        session_id: SessionId,
        message_id: MessageId,
    ) -> rusqlite::Result<bool> {
        let has_any = match self.0.get(&session_id) {
            Some(has_any) => *has_any,
            None => {
                let has_any = message_deletions::has_any(connection, session_id)?;
                *self.0.entry(session_id).or_insert(has_any)
            }
        };
        if has_any { message_deletions::contains(connection, session_id, message_id) } else { Ok(false) }
    }
}

/// Writes a tombstone: later records with the id of this message are refused.
pub(crate) fn note_deleted_message(
    tx: &Transaction<'_>,
    session_id: &str,
    message_id: &str,
) -> rusqlite::Result<()> {
    message_deletions::insert_tombstone(tx, session_id, message_id, SystemClock.now())
}
